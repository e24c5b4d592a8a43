"""The last map of the resonance recursion, without its spectrum: the control that Semantic Resonance Maps must beat."""

import torch
from torch import Tensor

from ..clip import Clip
from ..resonance.recursion import Recursion, read, steps
from ..towers import tower
from .registry import method


@method(
    sides=("image",),
    source="control for Semantic Resonance Maps: eq. 1 and 2 alone",
    needs="shared space",
)
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
