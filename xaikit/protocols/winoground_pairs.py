"""Winoground: whether a model still tells two images and two captions of the same words apart without what is hot."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr

from ..clip import Clip
from ..datasets.source import Source
from ..perturbing import check_fill, encoded
from .chosen import Methods, chosen_methods, maps_of
from .hottest import check_share, cosines_left
from .retrieval_embeddings import WAYS
from .running import check_run, results, run

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
