"""Protocols of pairs: whether an image is nearer to its own caption than to a foil, before its hottest patches are masked and
after; and the scores of Winoground and of foil images that follow."""

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
from ...samples.parts import LEFT_OUT
from ...samples.source import Source
from ..faithfulness import deletion_and_insertion
from ..retrieval import WAYS, Columns


def _cosines(
    clip: Clip,
    chosen: list[Chosen],
    pixels: Tensor,
    tokens: Tensor,
    texts: Tensor,
    share: float,
    fill: str,
    batch_size: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines (n, k) of images with k texts each, those of what is left (n, explainers, 2, k), and which maps are finite.

    texts (n, k, width): unit embeddings. Left is what remains without the hottest patches of the map of the image's own
    prompt (``tokens``), and with only these; at least one patch is hot, and one is not. NaN for a map that isn't finite.
    """  # fmt: skip
    whole = (encoded(clip.encode_image, pixels, batch_size)[:, None] * texts).sum(-1).cpu().numpy()
    heat, finite = maps_of(chosen, clip, pixels, tokens, "image", batch_size)
    grid = tower(clip, "image").grid
    units = grid[0] * grid[1]
    count = min(max(1, round(share * units)), units - 1)
    place = torch.from_numpy(ranks(heat, seed)).to(clip.device)
    keep, versions = deletion_and_insertion(place, torch.tensor([[count]], device=clip.device))
    left = scores_of_images(
        clip, pixels, texts[:, 0], lambda sample, version: keep(sample, version).unflatten(1, grid),
        filled(clip, pixels, fill, seed), versions, batch_size,
        score=lambda embedding, sample: (embedding[:, None] * texts[sample]).sum(-1),
    )  # fmt: skip
    left = left.unflatten(1, (heat.shape[1], 2)).numpy()
    return whole, np.where(finite[..., None, None], left, np.nan), finite


def check_paired(share: float, fill: str) -> None:
    """Raise ValueError for a share of the patches that isn't between 0 and 1, and for an unknown fill."""
    check_number(0, 1, "share of the patches", open_low=True, open_high=True, share=share)
    check_fill(fill, "image")


def _paired(
    good: xr.Dataset, chosen: list[Chosen], whole: np.ndarray, left: np.ndarray, finite: np.ndarray, **more
) -> xr.Dataset:
    """The cosines (..., 2) with what is true and with the foil as results."""
    return results(
        good, chosen, {"way": list(WAYS)}, **more, finite=finite.astype(float),
        similarity=whole[:, 0], foil_similarity=whole[:, 1],
        similarity_left=left[..., 0], foil_similarity_left=left[..., 1],
    )  # fmt: skip


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
        texts = encoded(clip.embed_text, tokens, batch_size)[:, None]
        both = [
            _cosines(clip, chosen, clip.pixels(images), tokens, texts, share, fill, batch_size, seed)
            for images in (good.image, good.foil_image)
        ]
        whole, left, finite = (np.stack(each, -1) for each in zip(*both, strict=True))
        usable = finite.all(-1)
        left = np.where(usable[..., None, None], left[..., 0, :], np.nan)
        return _paired(good, chosen, whole[:, 0], left, usable)

    return Plan("image", measure, {"share": share, "fill": fill, "seed": seed})


@protocol(needed={"pair": "the number of the pair that a sample belongs to"})
def winoground(
    clip: Clip, source: Source, batch_size: int, seed: int, *, share: float = 0.25, fill: str = "mean"
) -> Plan:
    """Cosines of both images of a pair with both captions, in parts under ``folder``; ``measured`` makes scores of them.

    They are taken of the whole images, and of images without the hottest share of their patches, or with only these, by
    the map of each image's own caption.

    source : samples with ``pair``, two in a row being a pair, such as Winoground. One whose partner is bad or missing is
        left out, as its error says.
    share, fill : how much of each image is hot, and what stands in for removed patches.

    Returns ``similarity`` (sample) with the own caption, ``foil_similarity`` with the partner's, and both of what is left
    (sample, explainer, way). Source: Thrush et al., Winoground, 2022; the masking is ours.
    """
    check_paired(share, fill)

    def measure(good: xr.Dataset, chosen: list[Chosen]) -> xr.Dataset:
        pair = good.pair.values
        same = (pair[:, None] == pair) & ~np.eye(len(pair), dtype=bool)
        whole = np.flatnonzero(same.sum(1) == 1)
        reason = np.where(same.sum(1) == 1, "", f"{LEFT_OUT} its partner is bad, or isn't among the samples")
        left_out = xr.Dataset({"reason": ("sample", reason)}, {"sample": good.sample.values})
        if not len(whole):
            return left_out
        good, partner = good.isel(sample=whole), same[np.ix_(whole, whole)].argmax(1)
        pixels, tokens = clip.pixels(good.image), clip.tokens(good.caption).to(clip.device)
        spoken = encoded(clip.embed_text, tokens, batch_size)
        texts = torch.stack([spoken, spoken[partner]], 1)
        whole_and_left = _cosines(clip, chosen, pixels, tokens, texts, share, fill, batch_size, seed)
        return _paired(good, chosen, *whole_and_left, pair=pair[whole]).reindex(sample=left_out.sample).merge(left_out)

    return Plan("image", measure, {"share": share, "fill": fill, "seed": seed})


AFTER = (("deletion", "without hottest"), ("insertion", "hottest only"))


def winoground_scores(own: np.ndarray, foil: np.ndarray) -> dict[str, np.ndarray]:
    """Text, image and group score (pairs, ...), 1 or 0, of cosines (pairs, 2, ...).

    own : of each of the two images with its own caption, foil : of each with the other's. Text: each image is nearer to
    its own caption than to the other. Image: each caption is nearer to its own image. Group: both. Equal is not nearer.
    """
    text = (own > foil).all(1)
    image = (own > foil[:, ::-1]).all(1)
    return {"text": text.astype(float), "image": image.astype(float), "group": (text & image).astype(float)}


def pair_columns(ds: xr.Dataset, progress: bool = False) -> Columns:
    """Scores of the pairs both of whose samples are good, at the first of the two, before masking and after."""
    good = np.flatnonzero(np.isfinite(ds.similarity.values)) if "pair" in ds else []
    if not len(good):
        raise ValueError("no pair of good samples is complete: two samples in a row with the same pair are needed")
    both = good[np.argsort(ds.pair.values[good], kind="stable")].reshape(-1, 2)
    found = {}
    for suffix, own, foil in _states(ds):
        known = np.isfinite(own[both]).all(1)
        for name, score in winoground_scores(own[both], foil[both]).items():
            column = found[f"{name}{suffix}"] = np.full(own.shape, np.nan)
            column[both[:, 0]] = np.where(known, score, np.nan)
    return found, {}


def foil_columns(ds: xr.Dataset, progress: bool = False) -> Columns:
    """Whether the caption is nearer to its image than to the foil image, before masking and after."""
    states = _states(ds)
    found = {f"accuracy{suffix}": np.where(np.isfinite(own), own > foil, np.nan) for suffix, own, foil in states}
    return found, {}


def _states(ds: xr.Dataset) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """How the columns of a state end, and both cosines in it, (sample, explainer)."""
    shape = (ds.sizes["sample"], ds.sizes["explainer"])
    before = [np.broadcast_to(ds[name].values[:, None], shape) for name in ("similarity", "foil_similarity")]
    left = ds[["similarity_left", "foil_similarity_left"]].load()
    after = [(f" {said}", *(left[name].sel(way=way).values for name in left)) for way, said in AFTER]
    return [("", *before), *after]
