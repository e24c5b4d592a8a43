"""RISE: how high the score is, on average, when a patch or word is left in (Petsiuk et al. 2018)."""

import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import check_fill, filled, scores_of_images, scores_of_texts
from ..clip.towers import Tower, tower
from ..files.checks import check_number, check_whole
from .registry import method


@method(sides=("image", "text"), source="Petsiuk et al., RISE, BMVC 2018", needs="tokens", stochastic=True)
def rise(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    masks: int = 256,
    grid: int = 8,
    p: float = 0.5,
    fill: str | None = None,
    centred: bool = True,
    seed: int = 0,
) -> Tensor:
    """sum over masks m of cosine(input under m) * m / (masks * p): the mean cosine given that a pixel is seen, and
    how far that is above the mean cosine.

    Image: masks of ``grid`` x ``grid`` cells, each open with probability p, enlarged bilinearly and shifted by up to a
    cell; the value of a patch is the mean over its pixels. Text: every word is kept with probability p. All samples
    share the masks, drawn with ``seed``. fill: what hidden parts show, see ``filled`` (image; None for "zero" of the
    normalised space, as released) or "padding" (None too) and "removed" (text).

    centred takes each sample's mean cosine off first: in expectation the same map but for a constant, with far less
    noise. centred=False is the paper's formula to the letter, which needs some thousand masks to tell patches apart.
    """
    fill = check_fill(fill, of)
    check_whole(1, masks=masks, grid=grid)
    check_number(0, 1, "probability", open_low=True, open_high=True, p=p)
    if of == "text":
        length = clip.content(tokens).sum(1).cpu()
        # A word's draws depend on its position alone.
        draw = torch.rand(tokens.shape[1], masks, generator=torch.Generator().manual_seed(int(seed)))
        keep = (draw < p).T[:, : int(length.max())]
        scores = scores_of_texts(clip, pixels, tokens, keep[None].to(pixels.device), fill)
        return combined(scores, keep.float(), p, centred) * (torch.arange(keep.shape[1]) < length[:, None])
    described = tower(clip, of)
    cells, shift = draw_cells(masks, grid, described.pixels, p, seed)
    ways = [x.to(pixels.device) for x in mask_ways(cells, shift, pixels.shape[2:])]

    def keep(sample: Tensor, version: Tensor) -> Tensor:
        first, last = int(version[0]), int(version[-1])  # versions come in order: each mask of the batch is made once
        return enlarged(*(way[first : last + 1] for way in ways))[version - first]

    substitute = None if fill == "zero" else filled(clip, pixels, fill, int(seed))
    scores = scores_of_images(clip, pixels, tokens, keep, substitute, masks)
    return combined(scores, patch_means(cells, shift, pixels.shape[2:], described), p, centred)


def combined(scores: Tensor, masks: Tensor, p: float, centred: bool = False) -> Tensor:
    """The map (n, ...) from the scores (n, m) of the masks (m, ...)."""
    if centred:
        scores = scores - scores.mean(1, keepdim=True)
    return torch.tensordot(scores.to(masks), masks, 1) / (len(masks) * p)


def draw_cells(masks: int, grid: int, size: tuple[int, int], p: float, seed: int) -> tuple[Tensor, Tensor]:
    """Open cells (masks, grid, grid) and shifts in pixels (masks, 2), down and right, each below a cell's size."""
    draw = torch.Generator().manual_seed(int(seed))
    cells = (torch.rand(masks, grid, grid, generator=draw) < p).float()
    steps = torch.tensor([-(-length // grid) for length in size])
    return cells, (torch.rand(masks, 2, generator=draw) * steps).long()


def mask_ways(cells: Tensor, shift: Tensor, size: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """The cells, and the matrices (masks, H, grid) and (masks, W, grid) that enlarge them to an image each."""
    return cells, *(_ways(cells.shape[1], offset, length) for offset, length in zip(shift.T, size, strict=True))


def _ways(grid: int, offset: Tensor, length: int) -> Tensor:
    """Bilinear weights of the cells for the pixels of one axis, behind an offset (masks,); mirrored at the ends,
    as in the released code."""
    enlarged_length = (grid + 1) * -(-length // grid)
    pixel = offset[:, None] + torch.arange(length)
    place = ((pixel + 0.5) * grid / enlarged_length - 0.5).abs()
    place = (grid - 1) - ((grid - 1) - place).abs()
    return (1 - (place[:, :, None] - torch.arange(grid)).abs()).clamp(min=0)


def enlarged(cells: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """The masks (m, H, W)."""
    return down @ cells @ right.mT


def patch_means(cells: Tensor, shift: Tensor, size: torch.Size, described: Tower) -> Tensor:
    """The mean of each mask over each patch (m, rows, cols), without making the masks: averaging is linear too."""
    cells, *ways = mask_ways(cells, shift, size)
    means = [
        way[:, :covered].unflatten(1, (count, -1)).mean(2)
        for way, covered, count in zip(ways, described.pixels, described.grid, strict=True)
    ]
    return enlarged(cells, *means)
