"""One map out of the maps of several input scales (MSEA)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files.checks import check_choices, check_whole

NORMALISE = ("none", "range", "sum")
GRIDS = ("finest", "native")


def _normalised(maps: Tensor, normalise: str) -> Tensor:
    if normalise == "none":
        return maps
    if normalise == "range":
        maps = maps - maps.amin((-2, -1), keepdim=True)
        size = maps.amax((-2, -1), keepdim=True)
    else:
        size = maps.sum((-2, -1), keepdim=True)
    return torch.where(size > 0, maps / size, 0)


def aggregate(
    maps: list[Tensor],
    weights: Tensor | None = None,
    grid: str | tuple[int, int] = "finest",
    normalise: str = "none",
    native: int = 0,
) -> Tensor:
    """The mean over the scales of their maps, (n, T, rows, cols), each resized bilinearly to one grid.

    maps : for each scale (n, T, rows of the scale, cols of the scale), all of the same image area: no crop. weights :
    (n, scales), None for equal ones; they are divided by their sum. grid : that of the scale with the most cells
    ("finest"), of the scale with index ``native`` ("native"), or (rows, cols). normalise : what each scale's resized map
    is divided by before the mean: "none"; "range", so that it reaches from 0 to 1; "sum" (of maps >= 0). One scale on its
    own grid comes back as it is. Raises ValueError for no maps, maps of different samples or tokens, unknown choices,
    and weights that are negative or add up to 0.
    Source: MSEA and ARC (arXiv 2509.22415), section 3.2; resizing and grid are not given there.
    """
    check_choices(normalise=(normalise, NORMALISE))
    if not maps:
        raise ValueError("maps=[]: the maps of at least one scale are needed")
    for other in maps[1:]:
        if other.shape[:2] != maps[0].shape[:2]:
            raise ValueError(
                f"maps of {tuple(maps[0].shape[:2])} and {tuple(other.shape[:2])} samples and tokens: the same are needed"
            )
    if isinstance(grid, str):
        check_choices(grid=(grid, GRIDS))
        check_whole(0, len(maps) - 1, native=native)
        chosen = maps[native] if grid == "native" else max(maps, key=lambda scale: scale.shape[-2:].numel())
        grid = tuple(chosen.shape[-2:])
    else:
        rows, cols = grid
        check_whole(1, rows=rows, cols=cols)
        grid = (rows, cols)
    if weights is None:
        weights = maps[0].new_ones(maps[0].shape[0], len(maps))
    if weights.shape != (maps[0].shape[0], len(maps)):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)}: (samples, scales) = {(maps[0].shape[0], len(maps))} is needed"
        )
    if not ((weights >= 0).all() and (weights.sum(1) > 0).all()):
        raise ValueError(
            "weights that are negative, or all 0 for a sample: each sample needs a positive one, none negative"
        )
    shares = (weights / weights.sum(1, keepdim=True)).to(maps[0])
    total = maps[0].new_zeros(*maps[0].shape[:2], *grid)
    for scale, share in zip(maps, shares.T, strict=True):
        if tuple(scale.shape[-2:]) != grid:  # antialiasing changes only an axis that shrinks
            scale = F.interpolate(scale, grid, mode="bilinear", align_corners=False, antialias=True)
        total += share[:, None, None, None] * _normalised(scale, normalise)
    return total
