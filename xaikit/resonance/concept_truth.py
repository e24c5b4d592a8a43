"""The planted hierarchy of a scene on patches, how far concepts agree with it, and a control that must be beaten."""

import numpy as np
import xarray as xr
from sklearn.metrics import adjusted_mutual_info_score

from ..files.checks import check_whole
from ..measures.localisation import coverage
from .concepts import clusters, concept_labels

LEVELS = ("scene", "object", "part")
COVERED = 0.25  # share of a patch from which on objects take it from the background


def planted_hierarchy(
    scenes: xr.Dataset, grid: tuple[int, int], covered: tuple[float, float] = (1.0, 1.0)
) -> xr.DataArray:
    """What each patch shows, at three levels: int labels (sample, level, row, col), 0 for the background.

    scene: an object (1) or the background. object: which object, k + 1. part: its upper (2 k + 1) or lower half
    (2 k + 2), split at the mean row of its visible pixels. A patch belongs to objects where these cover at least a
    quarter of it together, then to the one that covers the most, then to its half that covers the most, so levels nest.
    A quarter: with a third, one object in forty of scenes on 8 x 8 patches would own no patch, with a quarter one
    in a thousand. Halves: colour and size are the same all over an object, so as patches they are no level below it,
    and objects two or three patches wide are all outline.

    scenes : with ``object_mask``. covered : the part of the image's height and width that the patches cover.

    Examples
    --------
    >>> xk.resonance.planted_hierarchy(scenes, (8, 8)).shape
    (4, 3, 8, 8)
    """
    check_whole(1, rows=grid[0], cols=grid[1])
    mask = scenes.object_mask.values
    height = np.arange(mask.shape[2])
    middle = (mask.sum(3) * height).sum(-1) / np.maximum(mask.sum((2, 3)), 1)
    upper = mask & (height < middle[..., None])[..., None]
    whole, half = (coverage(pixels, grid, covered) for pixels in (mask, upper))
    there = whole.sum(1) >= COVERED - 1e-9
    owner = whole.argmax(1)
    above = np.take_along_axis(half, owner[:, None], 1)[:, 0]
    lower = 2 * above < np.take_along_axis(whole, owner[:, None], 1)[:, 0]
    levels = np.stack([np.ones_like(owner), owner + 1, 2 * owner + 1 + lower], 1) * there[:, None]
    coords = {"sample": scenes.sample.values, "level": list(LEVELS)}
    return xr.DataArray(levels, coords, ("sample", "level", "row", "col"), "planted")


def agreement(concepts: xr.Dataset | xr.DataArray, planted: xr.DataArray) -> xr.DataArray:
    """Adjusted mutual information (sample, band, level) of concepts with the planted hierarchy.

    concepts : what ``concept_hierarchy`` gives, or int labels (sample, band, row, col). planted : int labels (sample,
    level, row, col) that have the concepts' samples. 1: the same partition of the patches; 0: no more alike than
    chance, as for a single concept. Taking a band for each level by its score favours what has several different
    bands, so compare at a band chosen beforehand, or give the control the same choice.
    Source: Vinh, Epps and Bailey, 2010, by scikit-learn. Raises ValueError where samples or patches differ.

    Examples
    --------
    >>> planted = xk.resonance.planted_hierarchy(scenes, (8, 8))
    >>> xk.resonance.agreement(planted.rename(level="band"), planted).sel(level="object").values[0].round(2)
    array([0.85, 1.  , 0.93])
    """
    labels = concept_labels(concepts) if isinstance(concepts, xr.Dataset) else concepts
    missing = sorted(set(labels.sample.values.tolist()) - set(planted.sample.values.tolist()))
    if missing:
        raise ValueError(f"the planted hierarchy lacks the samples {missing} of the concepts")
    if labels.shape[2:] != planted.shape[2:]:
        raise ValueError(
            f"the concepts are on {labels.shape[2:]} patches, the planted hierarchy on {planted.shape[2:]}"
        )
    truth = planted.sel(sample=labels.sample.values)
    scores = [
        [[adjusted_mutual_info_score(level.ravel(), band.ravel()) for level in of] for band in one]
        for one, of in zip(labels.values, truth.values, strict=True)
    ]
    about = {"long_name": "adjusted mutual information", "units": "1", "score_direction": "higher is better"}
    coords = {"sample": labels.sample.values, "level": planted.level.values}
    return xr.DataArray(np.clip(scores, -1, 1), coords, ("sample", "band", "level"), "agreement", about)


def cluster_patches(
    features: xr.DataArray, grid: tuple[int, int], bands: int = 3, largest: int = 5, seed: int = 0
) -> xr.DataArray:
    """The control without any recursion: clusters of the patches' own features (sample, patch, width).

    Chosen as ``concept_hierarchy`` does, k-means with as many clusters as have the largest silhouette. Features have
    no frequency, so each of the ``bands`` gets the same labels: int (sample, band, row, col), patches in reading order.

    Examples
    --------
    >>> features = xk.resonance.patch_features(clip, scenes.image, scenes.caption)
    >>> xk.resonance.cluster_patches(features, (8, 8)).shape
    (4, 3, 8, 8)
    """
    check_whole(1, bands=bands, rows=grid[0], cols=grid[1])
    check_whole(2, largest=largest)
    check_whole(0, seed=seed)
    if features.ndim != 3 or features.shape[1] != grid[0] * grid[1]:
        raise ValueError(
            f"the features have shape {features.shape}: (sample, patch, width) with {grid[0] * grid[1]} patches is needed"
        )
    labels = np.stack([clusters(one, largest, seed)[0] for one in features.values]).reshape(-1, 1, *grid)
    coords = {"sample": features[features.dims[0]].values}
    return xr.DataArray(np.repeat(labels, bands, 1), coords, ("sample", "band", "row", "col"), "concept")
