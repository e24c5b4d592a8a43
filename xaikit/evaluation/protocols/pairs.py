"""Cosines of images without the hottest share of their patches, and with only that: what paired protocols compare."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ...clip.model import Clip
from ...clip.perturbation import check_fill, encoded, filled, scores_of_images
from ...clip.towers import tower
from ...explainers.sources import Methods, check_run, chosen_methods, maps_of, results, run
from ...measures.ranks import ranks
from ...samples.source import Source
from ..faithfulness import deletion_and_insertion
from .ranking import WAYS


def check_share(share: float) -> None:
    """Raise ValueError for a share of the patches that isn't between 0 and 1."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ValueError(f"share={share!r}: a share of the patches between 0 and 1 is needed, such as 0.25")


@torch.no_grad()
def cosines_left(
    clip: Clip, heat: np.ndarray, pixels: Tensor, texts: Tensor, share: float, fill: str, batch_size: int, seed: int
) -> np.ndarray:
    """Cosines (n, explainers, 2, k) with k texts each, without the hottest patches and with only these.

    heat (n, explainers, rows, cols), pixels (n, 3, H, W), texts (n, k, width) unit embeddings. At least one patch is
    hot, and one is not.
    """
    grid = tower(clip, "image").grid
    units = grid[0] * grid[1]
    count = min(max(1, round(share * units)), units - 1)
    place = torch.from_numpy(ranks(heat, seed)).to(clip.device)
    keep, versions = deletion_and_insertion(place, torch.tensor([[count]], device=clip.device))
    found = scores_of_images(
        clip, pixels, texts[:, 0], lambda sample, version: keep(sample, version).unflatten(1, grid),
        filled(clip, pixels, fill, seed), versions, batch_size,
        score=lambda embedding, sample: (embedding[:, None] * texts[sample]).sum(-1),
    )  # fmt: skip
    return found.unflatten(1, (heat.shape[1], 2)).numpy()


NEEDED = {"foil_image": "an image of which the caption is false"}


def foil_images(
    clip: Clip,
    source: Source,
    methods: Methods,
    folder: str | Path,
    share: float = 0.25,
    fill: str = "mean",
    shard: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Cosines of a caption with its image and with its foil image, in parts under ``folder``; ``measured`` compares them.

    They are taken of the whole images, and of both without the hottest share of their patches, or with only these, each
    by its own map of the caption.

    source : samples with ``foil_image``, such as SVO-Probes. The other parameters, and the results, are those of
    ``winoground``, with the foil image where that has the partner's caption. Source: Hendricks and Nematzadeh, Probing
    Image-Language Transformers for Verb Understanding, 2021; the masking is ours.
    """
    check_run(clip, source, batch_size, seed, NEEDED)
    check_share(share)
    check_fill(fill, "image")
    chosen = chosen_methods(clip, methods, "image", seed)

    def measure(good: xr.Dataset) -> xr.Dataset:
        tokens = clip.tokens(good.caption).to(clip.device)
        texts = encoded(clip.encode_text, tokens, batch_size)[:, None]
        before, after, usable = [], [], True
        for images in (good.image, good.foil_image):
            pixels = clip.pixels(images)
            before.append((encoded(clip.encode_image, pixels, batch_size) * texts[:, 0]).sum(-1).cpu().numpy())
            heat, finite = maps_of(chosen, clip, pixels, tokens, "image", batch_size)
            after.append(cosines_left(clip, heat, pixels, texts, share, fill, batch_size, seed)[..., 0])
            usable = finite & usable
        own, foil = np.where(usable[..., None], after, np.nan)
        return results(
            good, chosen, {"way": list(WAYS)}, finite=usable.astype(float), similarity=before[0], foil_similarity=before[1],
            similarity_left=own, foil_similarity_left=foil,
        )  # fmt: skip

    options = {"share": share, "fill": fill, "seed": seed}
    return run("foil images", clip, source, chosen, folder, measure, options, batch_size, shard, progress)


NEEDED_OF_PAIRS = {"pair": "the number of the pair that a sample belongs to"}


def winoground(
    clip: Clip,
    source: Source,
    methods: Methods,
    folder: str | Path,
    share: float = 0.25,
    fill: str = "mean",
    shard: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Cosines of both images of a pair with both captions, in parts under ``folder``; ``measured`` makes scores of them.

    They are taken of the whole images, and of images without the hottest share of their patches, or with only these, by
    the map of each image's own caption.

    Parameters
    ----------
    source : samples with ``pair``, two in a row being a pair, such as Winoground. One whose partner is bad or missing is
        left out.
    methods : names, or a dict from labels to options; see ``Methods``.
    share, fill : how much of each image is hot, and what stands in for removed patches.
    shard, batch_size : see ``confidence``. seed : of methods that take one, of ties, and of the fill "random".

    Returns ``similarity`` (sample) with the own caption, ``foil_similarity`` with the partner's, and both of what is left
    (sample, explainer, way), read where they are looked at. Raises ValueError, before any work, for impossible choices.
    Source: Thrush et al., Winoground, 2022; the masking is ours.
    """
    check_run(clip, source, batch_size, seed, NEEDED_OF_PAIRS)
    check_share(share)
    check_fill(fill, "image")
    chosen = chosen_methods(clip, methods, "image", seed)

    def measure(good: xr.Dataset) -> xr.Dataset:
        pair = good.pair.values
        same = (pair[:, None] == pair) & ~np.eye(len(pair), dtype=bool)
        whole = np.flatnonzero(same.sum(1) == 1)
        if not len(whole):
            return good[["sample"]].drop_attrs()
        good, partner = good.isel(sample=whole), same[np.ix_(whole, whole)].argmax(1)
        pixels, tokens = clip.pixels(good.image), clip.tokens(good.caption).to(clip.device)
        spoken = encoded(clip.encode_text, tokens, batch_size)
        texts = torch.stack([spoken, spoken[partner]], 1)
        before = (encoded(clip.encode_image, pixels, batch_size)[:, None] * texts).sum(-1).cpu().numpy()
        heat, finite = maps_of(chosen, clip, pixels, tokens, "image", batch_size)
        after = cosines_left(clip, heat, pixels, texts, share, fill, batch_size, seed)
        after = np.where(finite[..., None, None], after, np.nan)
        return results(
            good, chosen, {"way": list(WAYS)}, pair=pair[whole], finite=finite.astype(float), similarity=before[:, 0],
            foil_similarity=before[:, 1], similarity_left=after[..., 0], foil_similarity_left=after[..., 1],
        )  # fmt: skip

    options = {"share": share, "fill": fill, "seed": seed}
    return run("winoground", clip, source, chosen, folder, measure, options, batch_size, shard, progress)
