"""Text, image and group score of Winoground, and the choice between two images, before and after masking."""

import numpy as np
import xarray as xr

Columns = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
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
