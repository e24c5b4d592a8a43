"""Table 3: embeddings of captions, or images, as their hottest words or patches go and come, to be ranked all together."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from ...clip.model import Clip
from ...clip.perturbation import check_fill, encoded
from ...clip.towers import tower
from ...explainers.registry import SIDES, Chosen
from ...explainers.sources import Plan, maps_of, protocol
from ...files.checks import check_choices, check_whole
from ...files.store import provenance
from ...samples.source import Source
from ..faithfulness import check_steps
from ..retrieval import found_first, perturbed_embeddings

WAYS = ("deletion", "insertion")


@protocol(stage="embeddings")
def retrieval(
    clip: Clip,
    source: Source,
    batch_size: int,
    seed: int,
    *,
    side: str = "text",
    steps: int = 8,
    fill: str | None = None,
) -> Plan:
    """What retrieval under deletion and insertion needs, as in table 3 of Grad-ECLIP and of MMEL, in parts under ``folder``.

    Parts hold embeddings, since what is nearest is known only among all samples; ``measured`` ranks them.

    source : images with captions, with ``image_id`` where several show the same image, such as COCO.
    side : "text" perturbs the captions, as the papers do; "image" the images, each by the map of its first caption, the
        only one that then counts.
    steps : equal steps of the share of words, or patches. fill : what becomes of them, None for "removed" words and the
        "mean" colour.

    Returns ``version`` (sample, explainer, way, step, width), the perturbed side from whole to bare and back, and
    ``other`` (sample, width), the intact one, with ``caption`` and ``image_id``.
    """
    check_choices(side=(side, SIDES))
    fill = check_fill(fill or {"text": "removed", "image": "mean"}[side], side)
    check_whole(1, steps=steps)
    if side == "image":
        check_steps(steps, int(np.prod(tower(clip, "image").grid)))

    def measure(good: xr.Dataset, chosen: list[Chosen]) -> xr.Dataset:
        if side == "image" and "image_id" in good:
            good = good.isel(sample=np.sort(np.unique(good.image_id.values, return_index=True)[1]))
        pixels, tokens = clip.pixels(good.image), clip.tokens(good.caption).to(clip.device)
        heat, finite = maps_of(chosen, clip, pixels, tokens, side, batch_size)
        version = perturbed_embeddings(clip, heat, pixels, tokens, side, steps, fill, batch_size, seed)
        encode, inputs = (clip.encode_image, pixels) if side == "text" else (clip.encode_text, tokens)
        known = {name: ("sample", good[name].values) for name in ("caption", "image_id") if name in good}
        return xr.Dataset(
            {
                **known,
                "finite": (("sample", "explainer"), finite.astype(float)),
                "version": (("sample", "explainer", "way", "step", "width"), version.numpy()),
                "other": (("sample", "width"), encoded(encode, inputs, batch_size).cpu().numpy()),
            },
            {
                "sample": good.sample.values,
                "explainer": [one.label for one in chosen],
                "way": list(WAYS),
                "step": np.linspace(0, 1, steps + 1),
            },
        )

    return Plan(side, measure, {"side": side, "steps": steps, "fill": fill, "seed": seed})


AT_ONCE = 64_000_000  # numbers read at once, 256 MB: more than one step of it only where samples are few


def retrieval_columns(ds: xr.Dataset, progress: bool = False) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The area of each sample and method (sample, explainer), and the recall (explainer, step), of both ways and searches.

    Samples whose map isn't finite are left out of that method's searches. IR: a caption finds its image among the
    different ones. TR: an image finds any of its captions.
    """
    side, shape = provenance(ds)["made_with"]["options"]["side"], (ds.sizes["sample"], ds.sizes["explainer"])
    columns = [f"{way} {search}" for way in ds.way.values for search in ("IR", "TR")]
    areas = {name: np.full(shape, np.nan) for name in columns}
    curves = {name: np.full((shape[1], ds.sizes["step"]), np.nan) for name in columns}
    usable, shares = ds.finite.values == 1, ds.step.values
    other, caption = ds.other.values, ds.caption.values.astype(str)
    image_id = ds.image_id.values if "image_id" in ds else np.arange(shape[0])
    each = list(itertools.product(range(shape[1]), enumerate(ds.way.values)))
    for explainer, (row, way) in tqdm(each, disable=not progress, desc="retrieval"):
        rows = np.flatnonzero(usable[:, explainer])
        if not len(rows):
            continue
        if side == "image":
            rows = np.sort(rows[np.unique(image_id[rows], return_index=True)[1]])
        _, first, image = np.unique(image_id[rows], return_index=True, return_inverse=True)
        hits = []
        intact = torch.from_numpy(other[rows])
        for version in _versions(ds.version[:, explainer, row], rows):
            texts, images = (version, intact) if side == "text" else (intact, version)
            hits.append(found_first(texts, images[first], caption[rows], image))
        for search, found, places in zip(("IR", "TR"), zip(*hits, strict=True), (rows, rows[first]), strict=True):
            found = np.stack(found, -1)
            areas[f"{way} {search}"][places, explainer] = np.trapezoid(found, shares)
            curves[f"{way} {search}"][explainer] = found.mean(0)
    return areas, curves


def _versions(version: xr.DataArray, rows: np.ndarray) -> Iterator[torch.Tensor]:
    """The embeddings (rows, width) of each step of (sample, step, width), several steps read together."""
    size = max(1, AT_ONCE // (version.sizes["sample"] * version.sizes["width"]))
    for start in range(0, version.sizes["step"], size):
        part = version[:, start : start + size].values
        yield from (torch.from_numpy(part[rows, step]) for step in range(part.shape[1]))
