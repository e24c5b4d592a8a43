"""Semantic Resonance Maps: where, and for which words, the map of a recursion oscillates."""

import functools
import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.towers import tower
from ..files.checks import check_whole
from ..resonance.recursion import Recursion, read, steps, trajectory
from ..resonance.spectra import ITERATIONS, resonance_energy
from .registry import method


def with_recursion(explain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method out of a function (clip, pixels, tokens, of, recursion, *, options of its own): its options are those of
    ``Recursion`` and its own."""
    given = inspect.signature(explain).parameters.values()
    own = [each for each in given if each.kind is inspect.Parameter.KEYWORD_ONLY]

    @functools.wraps(explain)
    def explained(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, **options) -> Tensor:
        choices = {each.name: options.pop(each.name) for each in own if each.name in options}
        return explain(clip, pixels, tokens, of, Recursion(**options), **choices)

    *first, _ = inspect.signature(explained, follow_wrapped=False).parameters.values()
    shared = [each.replace(kind=each.KEYWORD_ONLY) for each in inspect.signature(Recursion).parameters.values()]
    explained.__signature__ = inspect.Signature([*first, *shared, *own], return_annotation=Tensor)
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
def srm_fixed_point(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    of: str,
    recursion: Recursion,
    *,
    floored: bool = False,
    squared: bool = False,
) -> Tensor:
    """E(i) = mean over the prompt's words l of R_il after the last iteration.

    floored: less its smallest value, without which the map stands on a constant, and has a small share of its heat
    anywhere. squared: the mean of R_il squared, floored first if both, as spectral energy is a sum of squares. The other
    options are those of ``srm``.
    """
    with torch.no_grad():
        *_, last = _steps(clip, pixels, tokens, recursion)
        last = last - last.amin(2, keepdim=True) if floored and squared else last
        heat = (last.square() if squared else last).sum(1) / (last != 0).any(2).sum(1, keepdim=True).clamp(min=1)
        heat = heat - heat.amin(1, keepdim=True) if floored else heat
    return heat.unflatten(1, tower(clip, "image").grid)


@method(sides=("image",), source="control for Semantic Resonance Maps: how far eq. 2 moves", needs="shared space")
@with_recursion
def srm_displacement(
    clip: Clip, pixels: Tensor, tokens: Tensor, of: str, recursion: Recursion, *, summed: bool = False
) -> Tensor:
    """E(i) = sum over the prompt's words l of (R_il(T) - R_il(0)) squared: how far the recursion moved, with no spectrum.

    summed: the sum over t of (R_il(T) - R_il(t)) squared instead, all of the way to the end. The other options are those
    of ``srm``.
    """
    with torch.no_grad():
        course = torch.stack([*_steps(clip, pixels, tokens, recursion)])
        moved = (course[-1] - course[:-1]).square().sum(0) if summed else (course[-1] - course[0]).square()
    return moved.sum(1).unflatten(1, tower(clip, "image").grid)


def _steps(clip: Clip, pixels: Tensor, tokens: Tensor, recursion: Recursion) -> Iterator[Tensor]:
    """R(0) to R(T), each (n, words, patches)."""
    return steps(clip, read(clip, pixels, tokens, recursion), recursion)
