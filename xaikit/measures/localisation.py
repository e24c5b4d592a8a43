"""How well heat lies on the objects that the caption names (planted truth).

Heat is (..., rows, cols) on the patch grid and is never upsampled: ``coverage`` is, for each patch, the
share of its pixels that belong to named objects, so that every sum over patches equals the sum over pixels.
"""

import numpy as np

from .maps import otsu_threshold, right_above_wrong

TOUCHED = 0.05  # share of a patch's pixels from which on an object counts as lying in it
MASKS_AT_ONCE = 256  # bounds the memory
WHOLE = (0.0, 0.0, 1.0, 1.0)


def coverage(mask: np.ndarray, grid: tuple[int, int], covered: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Share of each patch's pixels inside a mask: (..., y, x) bool to (..., rows, cols).

    covered: the part of the image's height and width that the patches cover, from the upper left corner.
    """
    each = mask.reshape(-1, 1, *mask.shape[-2:])
    return region_coverage(each, grid, (0, 0, *covered)).reshape(*mask.shape[:-2], *grid)


def region_coverage(mask: np.ndarray, grid: tuple[int, int], region: np.ndarray | tuple = WHOLE) -> np.ndarray:
    """Share of each cell's area inside a mask: (n, objects, y, x) bool to (n, objects, rows, cols).

    region: (n, 4) or (4,), the top, left, bottom and right of what the grid covers, as shares of the image's height and
    width; 0, 0, 1, 1 for all of it, beyond these where the image is padded. Nothing is resampled: pixels that straddle
    cells count by their area in each.

    Raises ValueError for masks of another shape, and a region that is empty or lies outside the image.
    """
    if mask.ndim != 4 or mask.dtype != bool:
        raise ValueError(f"masks of shape {mask.shape} and type {mask.dtype}: bool (n, objects, y, x) are needed")
    n, objects, height, width = mask.shape
    one, region = np.ndim(region) == 1, check_region(region, n)
    region = region[:1] if one else region
    down = cell_shares(height, grid[0], region[:, 0], region[:, 2])
    across = cell_shares(width, grid[1], region[:, 1], region[:, 3]).swapaxes(-2, -1)
    down, across = (np.broadcast_to(way, (n, *way.shape[1:])) for way in (down, across))
    covered = np.empty((n, objects, *grid))
    step = max(1, MASKS_AT_ONCE // max(objects, 1))
    for start in range(0, n, step):
        part = slice(start, start + step)
        covered[part] = down[part, None] @ mask[part].astype(float) @ across[part, None]
    return covered


def check_region(region: np.ndarray | tuple, n: int) -> np.ndarray:
    """The regions of n samples as (n, 4); ValueError for another shape and for what is no part of the image."""
    given = np.asarray(region, float)
    if given.shape not in ((4,), (n, 4)):
        raise ValueError(f"region of shape {given.shape}: (4,) or ({n}, 4), top, left, bottom and right, is needed")
    regions = np.broadcast_to(given, (n, 4))
    inside = np.clip(regions, 0, 1)
    fine = np.isfinite(regions).all(1) & (inside[:, :2] < inside[:, 2:]).all(1)
    if not fine.all():
        bad = tuple(regions[~fine][0].tolist())
        raise ValueError(f"region {bad}: top < bottom and left < right are needed, at least partly between 0 and 1")
    return regions


def cell_shares(size: int, cells: int, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Share of each cell that each pixel makes up along one axis, (n, cells, size)."""
    step = (size * (end - start) / cells)[:, None, None]
    low = size * start[:, None, None] + np.arange(cells)[:, None] * step
    pixel = np.arange(size)
    return np.clip(np.minimum(low + step, pixel + 1) - np.maximum(low, pixel), 0, None) / step


def _flat(heat: np.ndarray, covered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    heat, covered = np.broadcast_arrays(heat, covered)
    return heat.reshape(*heat.shape[:-2], -1), covered.reshape(*covered.shape[:-2], -1)


def pointing_game(heat: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """1 where the hottest patch lies on a named object, else 0; higher is better.

    A patch lies on one when the object takes up at least ``TOUCHED`` of it: models look at outlines as much as
    at insides, and the patch is the margin that the original metric grants in pixels. Among tied peaks the mean
    counts, so a flat map gets its chance of hitting.
    Source: Zhang et al., Top-Down Neural Attention by Excitation Backprop, 2016.
    """
    heat, covered = _flat(heat, covered)
    on_object = covered >= TOUCHED
    peak = heat == heat.max(-1, keepdims=True)
    return (peak & on_object).sum(-1) / peak.sum(-1)


def energy(heat: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Share of the positive heat that lies inside the named objects; 0 for a map without any; higher is better.

    Source: Wang et al., Score-CAM, 2020 (energy-based pointing game).
    """
    heat, covered = _flat(heat, covered)
    heat = np.maximum(heat, 0)
    total = heat.sum(-1)
    return (heat * covered).sum(-1) / np.where(total == 0, 1, total)


def _ranked(heat: np.ndarray, covered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heat from hot to cold, what is covered in this order, and whether a place is the last of its value."""
    heat, covered = _flat(heat, covered)
    order = np.argsort(-heat, axis=-1, kind="stable")
    heat, covered = np.take_along_axis(heat, order, -1), np.take_along_axis(covered, order, -1)
    return heat, covered, np.diff(heat, append=-np.inf) < 0


def iou_best(heat: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Intersection over union with the named objects at the map's best threshold; higher is better."""
    heat, covered, last = _ranked(heat, covered)
    inside = covered.cumsum(-1)
    union = np.arange(1, heat.shape[-1] + 1) + inside[..., -1:] - inside
    return np.where(last, inside / union, 0).max(-1)


def iou_otsu(heat: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Intersection over union of the patches above Otsu's threshold with the named objects; higher is better."""
    hot = heat > otsu_threshold(heat)[..., None, None]
    hot, covered = _flat(hot, covered)
    inside = (hot * covered).sum(-1)
    union = hot.sum(-1) + covered.sum(-1) - inside
    return inside / np.where(union == 0, 1, union)


def of_possible(score: np.ndarray, chance: np.ndarray | float, ceiling: np.ndarray | float) -> np.ndarray:
    """Where a score lies between what a map that knows nothing gets (0) and the most that a patch grid allows (1); below 0
    for less than chance, NaN where the two are the same.

    Examples
    --------
    >>> float(of_possible(np.array(0.5), 0.2, 0.8).round(2))
    0.5
    """
    room = np.asarray(ceiling - chance, float)
    return np.where(room > 0, (score - chance) / np.where(room > 0, room, 1), np.nan)


def energy_of_possible(heat: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """``energy`` above that of a flat map, the named objects' area, of what the best patch grid can give above it: all heat
    in the patch that they cover most."""
    area, most = covered.mean((-2, -1)), covered.max((-2, -1))
    return of_possible(energy(heat, covered), area, most)


def iou_of_possible(heat: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """``iou_best`` of what the objects' own coverage, laid on the patches, reaches: a patch is in or out as a whole."""
    return of_possible(iou_best(heat, covered), 0.0, iou_best(covered, covered))


def average_precision(heat: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Area under precision against recall when the map ranks the patches, of which those count as right of which named
    objects take up at least ``TOUCHED``; higher is better. NaN where there is no such patch.

    The sum over thresholds of precision times the gain of recall, without interpolation, and with all patches of one
    value taken together. A flat map gets the share of right patches, random maps somewhat more where these are few.
    """
    heat, covered, last = _ranked(heat, covered)
    right, places = covered >= TOUCHED, np.arange(heat.shape[-1])
    precision = right.cumsum(-1) / (places + 1)
    place = np.where(last, places, len(places))
    place = np.minimum.accumulate(place[..., ::-1], axis=-1)[..., ::-1]  # where the patches of each one's value end
    found = (np.take_along_axis(precision, place, -1) * right).sum(-1)
    count = right.sum(-1)
    return np.where(count > 0, found / np.maximum(count, 1), np.nan)


def auroc(heat: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """How often, over all pairs of one patch of a named object (at least ``TOUCHED`` of it) and one that isn't, the former
    is the hotter; ties count half; higher is better. 0.5 is chance however large the objects are, unlike ``energy`` and
    ``average_precision``. NaN where there is no such pair."""
    heat, covered = _flat(heat, covered)
    return right_above_wrong(heat, covered >= TOUCHED)


def smallest_share(heat: np.ndarray, covered: np.ndarray, named: np.ndarray) -> np.ndarray:
    """How well the least heated of the named objects is covered, (n, explainers); higher is better. NaN where fewer than
    two are named and visible.

    An object's share of all positive heat, divided by its share of the named objects' area; the smallest over the named
    objects. 0: one of them gets no heat. 1, the most there can be: all heat lies on them, by their areas (on a
    coarse grid less, since a patch on an edge lies on an object only in part). A flat map gets the named objects'
    share of the image. It tests the claim that a map shows "primary and contextual objects".

    heat (n, explainers, rows, cols); covered (n, objects, rows, cols) of each object alone; named (n, objects).
    """
    heat = np.maximum(heat, 0)
    total = heat.sum((-2, -1))
    on = np.einsum("nerc,norc->neo", heat, covered) / np.where(total == 0, 1, total)[..., None]
    area = np.where(named, covered.sum((-2, -1)), 0)
    visible = area > 0
    fair = area / np.maximum(area.sum(-1, keepdims=True), 1e-12)
    relative = np.where(visible[:, None], on / np.where(visible, fair, 1)[:, None], np.inf).min(-1)
    return np.where(visible.sum(-1)[:, None] >= 2, relative, np.nan)
