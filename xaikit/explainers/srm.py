"""Semantic Resonance Maps: where, and for which words, the map of a recursion oscillates."""

import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.towers import tower
from ..files.checks import check_whole
from ..resonance.recursion import Recursion, read, steps, trajectory
from ..resonance.spectra import ITERATIONS, resonance_energy
from .registry import method


@method(sides=("image", "text"), source="Semantic Resonance Maps, ICCV submission, eq. 1 to 3", needs="shared space")
def srm(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    coupling: str = "attention",
    alpha: float = 0.5,
    iterations: int = 20,
    temperature: float | None = None,
    start: str = "uniform",
    words: str = "all",
    block: int = -2,
    seed: int = 0,
) -> Tensor:
    """E(i) = sum over words l and frequencies w > 0 of A_il(w) squared: the energy of what oscillates in the trajectory of
    patch i under the prompt's words, the trend's share taken off (linear detrending, Hann window). The paper doesn't say
    how a map follows from its modes. Of the text: each word's share of all energy.

    The options are those of ``resonance.Recursion``. Raises ValueError for a bad one, and for fewer than 8 iterations.
    """
    recursion = Recursion(coupling, alpha, iterations, temperature, start, words, block, seed)
    check_whole(ITERATIONS, iterations=iterations)
    with torch.no_grad():
        energy = resonance_energy(trajectory(clip, read(clip, pixels, tokens, recursion), recursion), dim=1)
    if of == "image":
        return energy.sum(1).unflatten(1, tower(clip, "image").grid)
    words = energy.sum(2)
    return words / words.sum(1, keepdim=True).clamp(min=1e-30)


@method(sides=("image",), source="control for Semantic Resonance Maps: eq. 1 and 2 alone", needs="shared space")
def srm_fixed_point(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    coupling: str = "attention",
    alpha: float = 0.5,
    iterations: int = 20,
    temperature: float | None = None,
    start: str = "uniform",
    words: str = "all",
    block: int = -2,
    seed: int = 0,
) -> Tensor:
    """E(i) = mean over the prompt's words l of R_il after the last iteration. The options are those of ``srm``."""
    recursion = Recursion(coupling, alpha, iterations, temperature, start, words, block, seed)
    with torch.no_grad():
        found = read(clip, pixels, tokens, recursion)
        for gate in steps(clip, found, recursion):
            last = gate
    return (last.sum(1) / found.there.sum(1, keepdim=True)).unflatten(1, tower(clip, "image").grid)
