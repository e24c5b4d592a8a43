"""Whether a map depends on what the model has learnt, its weights randomised block by block, and not on a seed.

Source: Adebayo et al., Sanity Checks for Saliency Maps, 2018 (cascading randomisation).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from ..clip.model import Clip, copied
from ..clip.towers import tower
from ..explainers.explanation import explain
from ..explainers.registry import check_tower, find
from ..files.checks import Choices, check_whole, labelled
from ..files.schema import HIGHER, LOWER
from ..files.store import annotate
from ..measures.maps import listed, map_ssim, unit_ranks
from .metrics import CORRELATION, score_variable

# What comes before the first block, in open_clip's and timm's towers, and what belongs to no tower.
_BEFORE = ("conv1", "class_embedding", "positional_embedding", "ln_pre", "token_embedding", "cls_emb", "trunk.patch_embed",
           "trunk.cls_token", "trunk.reg_token", "trunk.pos_embed", "trunk.norm_pre", "trunk.rope")  # fmt: skip
_OUTSIDE = ("visual.", "logit_scale", "logit_bias", "text_decoder.")


def sanity_cascade(
    method: Choices,
    clip: Clip,
    scenes: xr.Dataset,
    of: str = "image",
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
    depths: int | None = None,
    **options,
) -> xr.Dataset:
    """How like the original each map stays while the weights of its tower are randomised, cumulatively from the top.

    method, options : one or several, as in ``explain``. scenes : with ``image`` and ``caption``. seed : of the random weights, drawn from
    a normal distribution with the mean and standard deviation of each tensor that they replace, so that activations
    keep their scale. The model itself stays as it is; a copy is changed. depths : at how many depths maps are compared, evenly
    spread, "output" and the first block among them; None for all.

    Returns a dataset of the ``evaluation`` schema (sample, explainer, depth): ``rank_correlation``, Spearman's, and for
    maps of the image ``ssim``, the structural similarity of both maps stretched to reach from 0 to 1. depth: "output"
    (all that follows the blocks), then the blocks from the last to the first. A map that explains the model loses its
    likeness; one that stays near 1 doesn't depend on what was learnt. Raises as ``explain``, and ValueError for fewer than two
    depths, before any work.

    Examples
    --------
    >>> import xaikit as xk
    >>> clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)
    >>> sanity_cascade("grad_eclip", clip, scenes).depth.values.tolist()
    ['output', 'block 3', 'block 2', 'block 1', 'block 0']
    """
    if depths is not None:
        check_whole(2, depths=depths)
    given = labelled(method, "method")
    maps_of = {
        one.label: _ranked_maps(one.name, clip, scenes, of, batch_size, {**options, **one.options}) for one in given
    }
    originals = {label: maps(clip) for label, maps in maps_of.items()}
    broken, total = copied(clip), 1 + len(tower(clip, of).blocks)
    compared = {*np.linspace(0, total - 1, min(depths or total, total)).round().astype(int).tolist()}
    names, ranked, alike = [], [], []
    parts = tqdm(randomised(broken, of, seed), total=total, disable=not progress, desc="sanity")
    for place, name in enumerate(parts):
        if place not in compared:
            continue
        found = {label: maps(broken) for label, maps in maps_of.items()}
        names.append(name)
        ranked.append(np.stack([(originals[label][1] * order).sum(-1) for label, (_, order) in found.items()], 1))
        if of == "image":
            alike.append(np.stack([map_ssim(originals[label][0], heat) for label, (heat, _) in found.items()], 1))
    out = xr.Dataset(coords={"sample": scenes.sample.values, "explainer": [*maps_of], "depth": names})
    for name, values, meaning in (
        ("rank_correlation", ranked, "Spearman correlation with the original map"),
        ("ssim", alike, "structural similarity to the original map"),
    ):
        if values:
            by_depth = np.stack(values, -1)
            out[name] = score_variable(["sample", "explainer", "depth"], by_depth, meaning, LOWER, limits=CORRELATION)
    told = {
        one.label: {"method": one.name, **{k: repr(v) for k, v in {**options, **one.options}.items()}} for one in given
    }
    return annotate(out, "evaluation", clip, parameters={"methods": told, "of": of, "seed": seed})


def _ranked_maps(
    method: str, clip: Clip, scenes: xr.Dataset, of: str, batch_size: int, options: dict
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """A function that gives the maps of any model, with a seed or without, and their ranks, whose products are correlations."""
    check_tower(find(method, of, options), clip, of)
    images, texts = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    lengths = clip.content(texts).sum(1).numpy() if of == "text" else None

    def ranked_maps(model: Clip, **seed: int) -> tuple[np.ndarray, np.ndarray]:
        heat = explain(method, model, images, texts, of, batch_size, **seed, **options).values
        return heat, unit_ranks(listed(heat, lengths))

    return ranked_maps


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
        for weight in (each for each in weights if each.numel() > 1):
            spread, mean = torch.std_mean(weight.float())
            weight.copy_(mean + spread * torch.randn(weight.shape, generator=draw).to(weight.device))
        yield name


def seed_stability(
    method: str,
    clip: Clip,
    scenes: xr.Dataset,
    of: str = "image",
    seeds: Sequence[int] = (0, 1, 2, 3),
    batch_size: int = 64,
    progress: bool = False,
    **options,
) -> xr.Dataset:
    """Mean Spearman correlation over all pairs of seeds of the maps of one sample.

    method, options : as in ``explain``. scenes : with ``image`` and ``caption``. Returns a dataset of the ``evaluation``
    schema with ``seed_stability`` (sample, explainer), at most 1; a method that doesn't depend on its seed has 1; NaN
    where a map is flat. Raises as ``explain``, and ValueError for a method without the option ``seed``, or fewer than two
    different seeds.

    Examples
    --------
    >>> import xaikit as xk
    >>> clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)
    >>> seed_stability("rise", clip, scenes, seeds=(0, 1)).seed_stability.dims
    ('sample', 'explainer')
    """
    ranked_maps = _ranked_maps(method, clip, scenes, of, batch_size, options)
    if "seed" not in find(method, of, options).options:
        raise ValueError(f"{method} has no seed to vary")
    if "seed" in options:
        raise ValueError("give seeds, not seed")
    seeds = [int(seed) for seed in seeds] if isinstance(seeds, Iterable) else [seeds]
    if len(set(seeds)) < 2 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={tuple(seeds)}: at least two different ones are needed")
    bar = tqdm(seeds, disable=not progress, desc=f"seeds of {method}")
    ranks = np.stack([ranked_maps(clip, seed=seed)[1] for seed in bar])
    # The squared length of a sum of vectors is the sum of all products: each with itself, and each pair twice.
    pairs = ((ranks.sum(0) ** 2).sum(-1) - (ranks**2).sum((0, 2))) / (len(seeds) * (len(seeds) - 1))
    out = xr.Dataset(coords={"sample": scenes.sample.values, "explainer": [method]})
    meaning = "mean Spearman correlation of maps of two seeds"
    out["seed_stability"] = score_variable(["sample", "explainer"], pairs[:, None], meaning, HIGHER, limits=CORRELATION)
    parameters = {
        "method": method,
        "of": of,
        "seeds": seeds,
        "options": {name: repr(options[name]) for name in options},
    }
    return annotate(out, "evaluation", clip, parameters=parameters)
