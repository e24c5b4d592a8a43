"""What patches and words are worth, from the scores of random parts of the input: RISE, how high the score is on average when one
is left in (Petsiuk et al. 2018), and KernelSHAP, Shapley values by weighted least squares (Lundberg and Lee 2017)."""

import math

import numpy as np
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


@method(
    sides=("image", "text"),
    source="Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017",
    needs="tokens",
    stochastic=True,
    complete=True,
)
def kernel_shap(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    samples: int | None = None,
    paired: bool = True,
    fill: str | None = None,
    seed: int = 0,
) -> Tensor:
    """Shapley values of the game whose players are the patches or the prompt's own tokens and whose worth is the
    cosine: the values that best explain, under the Shapley kernel, the cosines of random coalitions, and add up
    exactly to the cosine of the whole input minus that of the bare fill.

    samples: coalitions, None for four a player. Where all coalitions are no more than that (for None: or than 256, as
    for prompts of up to 8 words) all are taken with their weights, and the values are exact. paired: each coalition
    comes with its complement, which takes much of the noise away (Covert and Lee 2021). All samples share the
    coalitions, drawn with ``seed``. fill: what stands for absent players, see ``filled`` (image; None for "zero" of
    the normalised space) or "padding" (None too) and "removed" (text).
    """
    fill = check_fill(fill, of)
    if samples is not None:
        check_whole(2, samples=samples)
    if of == "image":
        grid = tower(clip, of).grid
        keep, weights = coalitions(math.prod(grid), samples, paired, seed)
        substitute = None if fill == "zero" else filled(clip, pixels, fill, int(seed))
        scores = scores_of_images(clip, pixels, tokens, keep[None].unflatten(2, grid).to(pixels.device), substitute)
        return shapley_values(scores, keep, weights).unflatten(1, grid)
    lengths = clip.content(tokens).sum(1).cpu()
    values = torch.zeros(len(tokens), int(lengths.max()))
    for length in lengths.unique().tolist():  # prompts as long play the same game, whatever else is in the batch
        rows = (lengths == length).nonzero()[:, 0]
        keep, weights = coalitions(length, samples, paired, seed)
        scores = scores_of_texts(clip, pixels[rows], tokens[rows], keep[None].to(pixels.device), fill)
        values[rows, :length] = shapley_values(scores, keep, weights)
    return values


def coalitions(players: int, samples: int | None, paired: bool, seed: int) -> tuple[Tensor, Tensor]:
    """Coalitions (2 + m, players), nobody and everybody first, and weights (m,) of the others.

    Drawn by size with probability proportional to (players - 1) / (size * (players - size)), the Shapley kernel
    times the number of coalitions of that size, they all weigh the same.
    """
    sizes = np.arange(1, players)
    kernel = (players - 1) / (sizes * (players - sizes))
    ends = torch.tensor([[False], [True]]).expand(2, players)
    if players < 24 and 2**players <= (max(256, 4 * players) if samples is None else samples):
        members = (torch.arange(1, 2**players - 1)[:, None] >> torch.arange(players)) & 1
        number = np.array([math.comb(players, size) for size in sizes])
        weights = torch.from_numpy(kernel / number)[members.sum(1) - 1] if players > 1 else torch.ones(0)
        return torch.cat([ends, members.bool()]), weights.double()
    samples = 4 * players if samples is None else samples
    draw = np.random.default_rng(seed)
    drawn = -(-samples // 2) if paired else samples
    size = draw.choice(sizes, drawn, p=kernel / kernel.sum())
    members = torch.from_numpy(draw.random((drawn, players)).argsort(1).argsort(1) < size[:, None])
    if paired:
        members = torch.stack([members, ~members], 1).flatten(0, 1)[:samples]
    return torch.cat([ends, members]), torch.ones(len(members), dtype=torch.float64)


def shapley_values(scores: Tensor, keep: Tensor, weights: Tensor) -> Tensor:
    """Values (n, players) from scores (n, 2 + m) of ``coalitions``, by constrained least squares in float64.

    An equal share of the whole plus a part that adds up to zero, which alone is left to fit: a coalition sees of it
    only what differs from the coalition's own mean.
    """
    scores, members = scores.double(), keep[2:].double()
    nobody, everybody = scores[:, :1], scores[:, 1:2]
    share = (everybody - nobody) / keep.shape[1]
    rest = scores[:, 2:] - nobody - share * members.sum(1)
    seen = members - members.mean(1, keepdim=True)
    weighted = seen.T * weights
    inverse = torch.linalg.pinv(weighted @ seen, hermitian=True, rtol=1e-9)  # equal shares are a null direction
    values = rest @ (inverse @ weighted).T
    return (share + values).float()
