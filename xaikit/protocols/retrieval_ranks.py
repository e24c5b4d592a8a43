"""Recall@1 among all samples at each step of deletion and insertion, a bounded number of embeddings at a time."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from ..metrics.faithfulness import area_under_curve
from ..metrics.recall import found_first
from ..store import provenance

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
            areas[f"{way} {search}"][places, explainer] = area_under_curve(shares, found)
            curves[f"{way} {search}"][explainer] = found.mean(0)
    return areas, curves


def _versions(version: xr.DataArray, rows: np.ndarray) -> Iterator[torch.Tensor]:
    """The embeddings (rows, width) of each step of (sample, step, width), several steps read together."""
    size = max(1, AT_ONCE // (version.sizes["sample"] * version.sizes["width"]))
    for start in range(0, version.sizes["step"], size):
        part = version[:, start : start + size].values
        yield from (torch.from_numpy(part[rows, step]) for step in range(part.shape[1]))
