"""Semantic Resonance Maps: where, and for which words, the map of a recursion oscillates."""

import functools
import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.towers import tower
from ..files.checks import check_whole
from ..resonance.recursion import Recursion, read, steps, trajectory
from ..resonance.spectra import ITERATIONS, resonance_energy
from .registry import method


def with_recursion(explain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method out of a function (clip, pixels, tokens, of, recursion): its options are those of ``Recursion``."""

    @functools.wraps(explain)
    def explained(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, **options) -> Tensor:
        return explain(clip, pixels, tokens, of, Recursion(**options))

    *given, _ = inspect.signature(explained, follow_wrapped=False).parameters.values()
    own = [each.replace(kind=each.KEYWORD_ONLY) for each in inspect.signature(Recursion).parameters.values()]
    explained.__signature__ = inspect.Signature([*given, *own], return_annotation=Tensor)
    return explained


@method(sides=("image", "text"), source="Semantic Resonance Maps, ICCV submission, eq. 1 to 3", needs="shared space")
@with_recursion
def srm(clip: Clip, pixels: Tensor, tokens: Tensor, of: str, recursion: Recursion) -> Tensor:
    """E(i) = sum over words l and frequencies w > 0 of A_il(w) squared: the energy of what oscillates in the trajectory of
    patch i under the prompt's words, the trend's share taken off (linear detrending, Hann window). The paper doesn't say
    how a map follows from its modes. Of the text: each word's share of all energy.

    The options are those of ``resonance.Recursion``. Raises ValueError for a bad one, and for fewer than 8 iterations.
    """
    check_whole(ITERATIONS, iterations=recursion.iterations)
    with torch.no_grad():
        energy = resonance_energy(trajectory(clip, read(clip, pixels, tokens, recursion), recursion), dim=1)
    if of == "image":
        return energy.sum(1).unflatten(1, tower(clip, "image").grid)
    words = energy.sum(2)
    return words / words.sum(1, keepdim=True).clamp(min=1e-30)


@method(sides=("image",), source="control for Semantic Resonance Maps: eq. 1 and 2 alone", needs="shared space")
@with_recursion
def srm_fixed_point(clip: Clip, pixels: Tensor, tokens: Tensor, of: str, recursion: Recursion) -> Tensor:
    """E(i) = mean over the prompt's words l of R_il after the last iteration. The options are those of ``srm``."""
    with torch.no_grad():
        found = read(clip, pixels, tokens, recursion)
        for gate in steps(clip, found, recursion):
            last = gate
    return (last.sum(1) / found.there.sum(1, keepdim=True)).unflatten(1, tower(clip, "image").grid)
