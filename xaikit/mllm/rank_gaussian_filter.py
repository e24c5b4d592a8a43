"""The rank-Gaussian filter of TAM: each cell becomes a mean of its sorted neighbourhood, centred on the median."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_whole


def rank_gaussian_filter(maps: Tensor, size: int = 3) -> Tensor:
    """Maps (..., rows, cols) of real numbers, filtered by windows of ``size`` x ``size`` cells; same shape and unit.

    A window's values, sorted, are weighted by exp(-(rank - middle)^2 / (2 sigma^2)), sigma = standard deviation / mean:
    the median where the window is even, almost the mean where it varies much. Windows of mean <= 0 give 0, constant
    ones their value (the released code gives NaN). The border is mirrored, its cells not repeated; an axis with too few
    cells to mirror repeats its last one. Raises ValueError for a ``size`` that is no odd number from 1.
    Source: Li et al., Token Activation Map, ICCV 2025; its released code.
    """
    check_whole(1, size=size)
    if size % 2 == 0:
        raise ValueError(f"size={size}: an odd number of cells is needed, so that a window has a middle")
    reach = size // 2
    padded = maps.flatten(0, -3)[None] if maps.ndim > 2 else maps[None, None]
    for pad in ((reach, reach, 0, 0), (0, 0, reach, reach)):
        cells = padded.shape[-1 if pad[0] else -2]
        padded = F.pad(padded, pad, mode="reflect" if cells > reach else "replicate")
    windows = padded.unfold(-2, size, 1).unfold(-2, size, 1).flatten(-2).movedim(-1, 0).contiguous()
    _sort_planes(windows)
    tiny = torch.finfo(maps.dtype).tiny
    mean = windows.mean(0)
    variance = ((windows - mean) / mean.clamp(min=tiny)).square().mean(0)
    rank = torch.arange(size**2, dtype=maps.dtype, device=maps.device) - size**2 // 2
    # A variance of 0 becomes tiny: the median's weight is exp(0), the others' exp(-inf).
    weights = (-(rank**2)[:, None, None, None, None] / (2 * variance.clamp(min=tiny))).softmax(0)
    return torch.where(mean > 0, (weights * windows).sum(0), 0).view(maps.shape)


def _sort_planes(planes: Tensor) -> None:
    """Sort along the first dimension, in place, by odd-even transposition: for few long planes faster than ``sort``."""
    for step in range(len(planes)):
        lower, upper = planes[step % 2 : -1 : 2], planes[step % 2 + 1 :: 2]
        smaller = torch.minimum(lower, upper)
        torch.maximum(lower, upper, out=upper)
        lower.copy_(smaller)
