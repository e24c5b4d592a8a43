"""Cosines of images without the hottest share of their patches, and with only that: what paired protocols compare."""

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ...clip.model import Clip
from ...clip.perturbation import check_fill, encoded, filled, scores_of_images
from ...clip.towers import tower
from ...explainers.registry import Chosen
from ...explainers.sources import Plan, maps_of, protocol, results
from ...files.checks import check_number
from ...measures.maps import ranks
from ...samples.source import Source
from ..faithfulness import deletion_and_insertion
from .ranking import WAYS


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


def check_paired(share: float, fill: str) -> None:
    """Raise ValueError for a share of the patches that isn't between 0 and 1, and for an unknown fill."""
    check_number(0, 1, "share of the patches", open_low=True, open_high=True, share=share)
    check_fill(fill, "image")


@protocol(needed={"foil_image": "an image of which the caption is false"})
def foil_images(
    clip: Clip, source: Source, batch_size: int, seed: int, *, share: float = 0.25, fill: str = "mean"
) -> Plan:
    """Cosines of a caption with its image and with its foil image, in parts under ``folder``; ``measured`` compares them.

    They are taken of the whole images, and of both without the hottest share of their patches, or with only these, each
    by its own map of the caption.

    source : samples with ``foil_image``, such as SVO-Probes. The results are those of ``winoground``, with the foil image
    where that has the partner's caption. Source: Hendricks and Nematzadeh, Probing Image-Language Transformers for Verb
    Understanding, 2021; the masking is ours.
    """
    check_paired(share, fill)

    def measure(good: xr.Dataset, chosen: list[Chosen]) -> xr.Dataset:
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

    return Plan("image", measure, {"share": share, "fill": fill, "seed": seed})


@protocol(needed={"pair": "the number of the pair that a sample belongs to"})
def winoground(
    clip: Clip, source: Source, batch_size: int, seed: int, *, share: float = 0.25, fill: str = "mean"
) -> Plan:
    """Cosines of both images of a pair with both captions, in parts under ``folder``; ``measured`` makes scores of them.

    They are taken of the whole images, and of images without the hottest share of their patches, or with only these, by
    the map of each image's own caption.

    source : samples with ``pair``, two in a row being a pair, such as Winoground. One whose partner is bad or missing is
        left out.
    share, fill : how much of each image is hot, and what stands in for removed patches.

    Returns ``similarity`` (sample) with the own caption, ``foil_similarity`` with the partner's, and both of what is left
    (sample, explainer, way). Source: Thrush et al., Winoground, 2022; the masking is ours.
    """
    check_paired(share, fill)

    def measure(good: xr.Dataset, chosen: list[Chosen]) -> xr.Dataset:
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

    return Plan("image", measure, {"share": share, "fill": fill, "seed": seed})
