"""Whether a map is one patch of heat or many, and how far it spreads."""

import numpy as np
from scipy.ndimage import label

from .localisation import otsu_threshold

_NEIGHBOURS = np.zeros((3, 3, 3), int)  # up, down, left and right, never another map
_NEIGHBOURS[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


def fragments(heat: np.ndarray) -> np.ndarray:
    """Number (...) of connected parts of the cells above Otsu's threshold, of maps (..., rows, cols).

    Cells touch along edges, not at corners. A flat map, which has nothing above its threshold, has 0.
    """
    hot = (heat > otsu_threshold(heat)[..., None, None]).reshape(-1, *heat.shape[-2:])
    parts, _ = label(hot, _NEIGHBOURS)
    numbers, first = np.unique(parts, return_index=True)
    owner = first[numbers > 0] // max(hot[:1].size, 1)
    return np.bincount(owner, minlength=len(hot)).reshape(heat.shape[:-2])


def spread(heat: np.ndarray) -> np.ndarray:
    """Entropy (...) in nat of the positive heat as a distribution over the cells of maps (..., rows, cols).

    0 for a single hot cell, log(rows * cols) for a flat map and for one without heat.
    """
    flat = np.maximum(heat, 0).reshape(*heat.shape[:-2], -1)
    total = flat.sum(-1, keepdims=True)
    share = np.where(total > 0, flat / np.where(total > 0, total, 1), 1 / flat.shape[-1])
    return -(share * np.log(np.where(share > 0, share, 1))).sum(-1)
