"""How much of each cell of a grid a mask takes up, where the grid covers a part of the image only."""

import numpy as np

MASKS_AT_ONCE = 256  # bounds the memory
WHOLE = (0.0, 0.0, 1.0, 1.0)


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
    region = check_region(region, n)
    down = cell_shares(height, grid[0], region[:, 0], region[:, 2])
    across = cell_shares(width, grid[1], region[:, 1], region[:, 3]).swapaxes(-2, -1)
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
