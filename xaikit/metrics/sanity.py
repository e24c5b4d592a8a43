"""Whether a map depends on what the model has learnt: weights randomised block by block, from the top down.

Source: Adebayo et al., Sanity Checks for Saliency Maps, 2018 (cascading randomisation).
"""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import xarray as xr
from scipy.stats import rankdata
from skimage.metrics import structural_similarity
from torch import nn
from tqdm import tqdm

from ..clip import Clip
from ..explainers.registry import check_tower, find
from ..explaining import explain
from ..store import annotate
from ..towers import tower

# What comes before the first block, in open_clip's and timm's towers, and what belongs to no tower.
_BEFORE = ("conv1", "class_embedding", "positional_embedding", "ln_pre", "token_embedding", "cls_emb", "trunk.patch_embed",
           "trunk.cls_token", "trunk.reg_token", "trunk.pos_embed", "trunk.norm_pre", "trunk.rope")  # fmt: skip
_OUTSIDE = ("visual.", "logit_scale", "logit_bias", "text_decoder.")


def sanity_cascade(
    method: str,
    clip: Clip,
    scenes: xr.Dataset,
    of: str = "image",
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
    **options,
) -> xr.Dataset:
    """How like the original each map stays while the weights of its tower are randomised, cumulatively from the top.

    method, options : as in ``explain``. scenes : with ``image`` and ``caption``. seed : of the random weights, drawn from
    a normal distribution with the mean and standard deviation of each tensor that they replace, so that activations
    keep their scale. The model itself stays as it is; a copy is changed.

    Returns a dataset of the ``evaluation`` schema (sample, explainer, depth): ``rank_correlation``, Spearman's, and for
    maps of the image ``ssim``, the structural similarity of both maps stretched to reach from 0 to 1. depth: "output"
    (all that follows the blocks), then the blocks from the last to the first. A map that explains the model loses its
    likeness; one that stays near 1 doesn't depend on what was learnt. Raises as ``explain``, before any work.
    """
    check_tower(find(method, of, options), clip, of)
    images, texts = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    choices = {"of": of, "batch_size": batch_size, **options}
    original = explain(method, clip, images, texts, **choices)
    there = clip.content(texts).sum(1).numpy() if of == "text" else None
    broken = copied(clip)
    depths, ranked, alike = [], [], []
    for depth in tqdm(randomised(broken, of, seed), disable=not progress, desc=f"sanity of {method}"):
        heat = explain(method, broken, images, texts, **choices).values
        depths.append(depth)
        ranked.append(rank_correlation(*(listed(values, there) for values in (original.values, heat))))
        if of == "image":
            alike.append(map_ssim(original.values, heat))
    out = xr.Dataset(coords={"sample": scenes.sample.values, "explainer": [method], "depth": depths})
    at, about = ("sample", "explainer", "depth"), {"units": "1", "score_direction": "lower is better"}
    out["rank_correlation"] = (
        at,
        np.stack(ranked, -1)[:, None],
        {"long_name": "Spearman correlation with the original map", **about},
    )
    if of == "image":
        out["ssim"] = (
            at,
            np.stack(alike, -1)[:, None],
            {"long_name": "structural similarity to the original map", **about},
        )
    parameters = {"method": method, "of": of, "seed": seed, "options": {k: repr(v) for k, v in options.items()}}
    return annotate(out, "evaluation", model=clip.name, weights_digest=clip.weights_digest, parameters=parameters)


def copied(clip: Clip) -> Clip:
    """The same with its own copy of the model."""
    return replace(clip, model=copy.deepcopy(clip.model))


@torch.no_grad()
def randomised(clip: Clip, of: str, seed: int) -> Iterator[str]:
    """Randomise the tower in place, one part after another from the top, and name each part when it is done."""
    root = clip.model.visual if of == "image" else getattr(clip.model, "text", clip.model)
    blocks = tower(clip, of).blocks
    inside = {id(weight) for block in blocks for weight in block.parameters()}
    outside = () if of == "image" else _OUTSIDE
    output = [
        weight
        for name, weight in root.named_parameters()
        if id(weight) not in inside and not name.startswith((*_BEFORE, *outside))
    ]
    draw = torch.Generator().manual_seed(seed)
    parts = [(f"block {index}", list(blocks[index].parameters())) for index in reversed(range(len(blocks)))]
    for name, weights in [("output", output), *parts]:
        for weight in weights:
            _redraw(weight, draw)
        yield name


def _redraw(weight: nn.Parameter, draw: torch.Generator) -> None:
    if weight.numel() > 1:
        spread, mean = torch.std_mean(weight.float())
        weight.copy_(mean + spread * torch.randn(weight.shape, generator=draw).to(weight.device))


def listed(values: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Values (n, places), NaN after a prompt's end."""
    values = values.reshape(len(values), -1).astype(float)
    return values if lengths is None else np.where(np.arange(values.shape[1]) < lengths[:, None], values, np.nan)


def unit_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, centred and of length 1, so that a product of two is their Spearman correlation.
    NaN values are left out; a flat row is all NaN, since it has no order."""
    ranks = rankdata(values, axis=-1, nan_policy="omit")
    there = np.isfinite(ranks)
    mean = np.where(there, ranks, 0).sum(-1, keepdims=True) / np.maximum(there.sum(-1, keepdims=True), 1)
    centred = np.where(there, ranks - mean, 0)
    length = np.sqrt((centred**2).sum(-1, keepdims=True))
    return np.where(length == 0, np.nan, centred / np.where(length == 0, 1, length))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman correlation (...) of values (..., places), over the places that both have; NaN where one is flat."""
    return (unit_ranks(first) * unit_ranks(second)).sum(-1)


def map_ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity (n,) of maps (n, rows, cols), each stretched to reach from 0 to 1, in windows of 7 x 7
    patches, or less where the grid is smaller. Source: Wang et al. 2004, by scikit-image."""
    window = min(7, *(size - 1 + size % 2 for size in first.shape[1:]))
    if window < 3:
        return np.full(len(first), np.nan)
    pair = []
    for values in (first, second):
        low, high = (bound((1, 2), keepdims=True) for bound in (values.min, values.max))
        pair.append((values - low).astype(float) / np.where(high > low, high - low, 1))
    _, everywhere = structural_similarity(*pair, win_size=window, data_range=1.0, channel_axis=0, full=True)
    margin = (window - 1) // 2
    rows, cols = first.shape[1:]
    return everywhere[:, margin : rows - margin, margin : cols - margin].mean((1, 2))
