"""KernelSHAP: Shapley values of patches or words, by weighted least squares (Lundberg and Lee 2017)."""

import math

import numpy as np
import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import check_fill, filled, scores_of_images, scores_of_texts
from ..clip.towers import tower
from ..files.checks import check_whole
from .registry import method


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
