"""Where the recursion ends, and how it gets there: settled or not, and the eigenvalues of the Jacobian of eq. 2 there.

A transient of any kind has a spectrum. Whether a map oscillates is decided by how it ends, and by the multipliers at its end
point: a complex pair turns the map round it by its angle at each iteration, a negative multiplier alternates, and a modulus
below 1 damps that.
"""

import dataclasses
import itertools
from collections import deque

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from torch.func import jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..clip.model import Clip
from ..clip.pairs import join
from ..clip.towers import tower
from ..files.checks import check_whole
from ..files.store import annotate
from .coupling import Features, attention, encoder, uncoupled_slope
from .recursion import SOURCE, Recursion, read, ready, recursion_of, steps

SETTLED = 1e-4  # largest step, relative to the map's largest value, from which on a map counts as settled
RETURNED = 1e-2  # likewise, for a map that is back where it was
LONGEST_CYCLE = 12
COMPLEX = 1e-2  # imaginary part from which on a pair counts: float32 splits real eigenvalues that lie close by less
BLANK = {torch.int64: -1, torch.float32: torch.nan, torch.complex128: torch.nan}  # of a word without a map
MATRICES_AT_ONCE = 64  # Jacobians whose eigenvalues are computed at once
COPIES_AT_ONCE = 64  # of a tower's activations, one for each patch of each Jacobian: bounds the memory


def fixed_points(
    clip: Clip, images, texts, most: int = 200, batch_size: int = 64, progress: bool = False, **options
) -> xr.Dataset:
    """Follow the recursion until it settles, and linearise it there.

    images, texts, batch_size, progress : as in ``explain``. most : iterations after which to give up, at least
    those of the recursion. options : of ``Recursion``; for coupling "encoder" a word's Jacobian takes as many backward
    passes as there are patches, so that ``words="last"`` saves much.

    Returns over (coupling, sample, token), NaN or -1 for words without a map:
    ``jacobian_eigenvalue`` (..., eigenvalue), the multipliers of eq. 2 at the end point, largest modulus first, in
    float64; ``settling`` the iteration from which on each step stays below ``SETTLED`` (-1: never); ``cycle`` after how
    many iterations a map that doesn't settle comes back (1: it settles; -1: none up to ``LONGEST_CYCLE``);
    ``last_step`` the last step's size, relative to the map's; ``damping``, ``period`` and ``turn`` of the multiplier
    that swings longest (see ``leading_swing``; NaN where none does, or the map doesn't settle); ``end`` (..., row, col) the last map.

    Raises as ``resonate``.

    Examples
    --------
    >>> found = xk.resonance.fixed_points(clip, scenes.image, scenes.caption)
    >>> found.jacobian_eigenvalue.dims
    ('coupling', 'sample', 'token', 'eigenvalue')
    """
    recursion = recursion_of(options)
    check_whole(recursion.iterations, most=most)
    recursion = dataclasses.replace(recursion, iterations=most)
    pairs = ready(clip, images, texts, batch_size)
    parts: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for pixels, tokens in pairs.batches(batch_size, f"fixed points, {recursion.coupling}" if progress else ""):
            found = read(clip, pixels, tokens, recursion)
            end, summary = _settle(steps(clip, found, recursion), _tolerance(clip, recursion))
            summary["jacobian_eigenvalue"] = multipliers(clip, found, recursion, end)
            summary["end"] = end.unflatten(-1, tower(clip, "image").grid)
            for name, values in summary.items():
                there = found.there.reshape(*found.there.shape, *[1] * (values.ndim - 2))
                parts.setdefault(name, []).append(torch.where(there, values, BLANK[values.dtype]).cpu())
    values = {name: pairs.spread(join(batches, 1, BLANK[batches[0].dtype])) for name, batches in parts.items()}
    # Elsewhere than at an end point the multipliers don't say how the map goes on.
    swing = np.where(values["cycle"] == 1, leading_swing(values["jacobian_eigenvalue"]), np.nan)
    values |= dict(zip(("damping", "period", "turn"), swing, strict=True))
    at = ("coupling", "sample", "token")
    dims = {"jacobian_eigenvalue": (*at, "eigenvalue"), "end": (*at, "row", "col")}
    out = xr.Dataset({name: (dims.get(name, at), each[None]) for name, each in values.items()})
    out = out.assign_coords({dim: np.arange(size) for dim, size in out.sizes.items()})
    out = out.assign_coords(sample=pairs.labels, coupling=[recursion.coupling])
    out = out.assign_coords(pairs.words(out.sizes["token"]))
    return annotate(out, "stability", made_by=clip, source=SOURCE, parameters=dataclasses.asdict(recursion))


@torch.no_grad()
def regimes(
    clip: Clip, images, texts, alphas: list[float], temperatures: list[float], batch_size: int = 64, **options
) -> pd.DataFrame:
    """What becomes of the maps under each alpha and temperature: a row each, with the shares of words that settle, that
    come back in a cycle, and that put more than half of their heat on a single patch.

    options : of ``Recursion``; ``iterations`` is after how many to look. Raises as ``resonate``.

    Examples
    --------
    >>> table = xk.resonance.regimes(clip, scenes.image, scenes.caption, alphas=[0.5], temperatures=[0.1, 0.7])
    >>> table.columns.tolist(), len(table)
    (['alpha', 'temperature', 'settled', 'cycling', 'single_patch'], 2)
    """
    if not alphas or not temperatures:
        raise ValueError(f"alphas={alphas!r}, temperatures={temperatures!r}: at least one of each is needed")
    settings = [{"alpha": alpha, "temperature": each} for alpha, each in itertools.product(alphas, temperatures)]
    recursions = [recursion_of(options | setting) for setting in settings]
    pairs = ready(clip, images, texts, batch_size)
    parts = []
    for pixels, tokens in pairs.batches(batch_size):
        found = read(clip, pixels, tokens, recursion_of(options))  # the features are those of every setting
        for setting, recursion in zip(settings, recursions, strict=True):
            gate, summary = _settle(steps(clip, found, recursion), _tolerance(clip, recursion))
            cycle = summary["cycle"][found.there]
            single = (gate.abs().amax(-1) > 0.5 * gate.abs().sum(-1))[found.there]
            ends = {"settled": cycle == 1, "cycling": cycle > 1, "single_patch": single}
            parts.append(pd.DataFrame(setting | {name: values.cpu().numpy() for name, values in ends.items()}))
    return pd.concat(parts).groupby(["alpha", "temperature"], as_index=False).mean()


def _tolerance(clip: Clip, recursion: Recursion) -> float:
    """The step below which a map counts as settled: towers in half precision can't tell smaller ones from rounding."""
    return max(SETTLED, 4 * torch.finfo(clip.dtype).eps) if recursion.coupling == "encoder" else SETTLED


def _settle(maps, tolerance: float = SETTLED) -> tuple[Tensor, dict[str, Tensor]]:
    """The last of the maps (n, tokens, patches), and how the maps got there (n, tokens)."""
    gate = next(maps)
    recent: deque[Tensor] = deque([gate], maxlen=LONGEST_CYCLE + 1)
    settling = torch.zeros(gate.shape[:2], dtype=torch.int64, device=gate.device)
    for time, gate in enumerate(maps, 1):
        size = gate.abs().amax(-1).clamp(min=1e-12)
        step = (gate - recent[-1]).abs().amax(-1) / size
        settling = torch.where(step <= tolerance, settling, time)
        recent.append(gate)
    settled = settling < time
    away = torch.stack([(gate - recent[-1 - lag]).abs().amax(-1) / size for lag in range(1, len(recent))])
    back = away < RETURNED
    cycle = torch.where(back.any(0), back.int().argmax(0) + 1, -1)
    cycle = torch.where(settled, 1, torch.where(cycle == 1, -1, cycle))
    return gate, {"settling": torch.where(settled, settling, -1), "cycle": cycle, "last_step": step}


def multipliers(clip: Clip, found: Features, recursion: Recursion, gate: Tensor) -> Tensor:
    """Eigenvalues (n, tokens, patches) of the Jacobian of R(t+1) by R(t) at gates (n, tokens, patches), largest modulus
    first, complex128; 0 for words that aren't there.

    Each is 1 - alpha + alpha * mu with mu an eigenvalue of the coupling's own Jacobian. Under "none" that is diagonal, and mu
    the slopes of its entries; under "attention" it is a positive semidefinite matrix times a diagonal one, patches /
    temperature * (diag(p) - p p^T) diag(cosine), whose eigenvalues are real.
    """
    sample, word = found.there.nonzero(as_tuple=True)
    out = torch.zeros(gate.shape, dtype=torch.complex128, device=gate.device)
    for some in torch.arange(len(sample), device=gate.device).split(MATRICES_AT_ONCE):
        at = sample[some], word[some]
        if recursion.coupling == "none":
            own = uncoupled_slope(gate[at], found.patches[at[0]], found.words[at]).to(out.dtype)
        else:
            own = torch.linalg.eigvals(jacobians(clip, found, recursion, gate, at).double())
        own = 1 - recursion.alpha + recursion.alpha * own
        out[at] = own.gather(-1, own.abs().sort(dim=-1, descending=True, stable=True).indices)
    return out


def jacobians(clip: Clip, found: Features, recursion: Recursion, gate: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
    """The Jacobian of Phi by its gate under "attention" or "encoder", (words, patches, patches), by torch.func.

    at : sample and place (words,) of the words.
    """
    own = gate[at]
    if recursion.coupling == "attention":
        one = jacrev(lambda r, cosine: attention(r, cosine, recursion.temperature))
        return vmap(one, chunk_size=MATRICES_AT_ONCE)(own, found.cosine[at])
    blocks = tower(clip, "image").blocks[recursion.block :]

    def rerun(r: Tensor, entering: Tensor, word: Tensor) -> Tensor:
        return encoder(r[None], entering[None], word[None], clip, blocks, recursion.temperature)[0]

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it has no derivative
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            one = jacrev(rerun, chunk_size=COPIES_AT_ONCE)
            pairs = max(1, COPIES_AT_ONCE // own.shape[1])
            return vmap(one, chunk_size=pairs)(own, found.entering[at[0]], found.words[at])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def leading_swing(eigenvalue: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of eigenvalues (..., k) the one that swings longest, a complex pair or a negative number, which alternates: its
    modulus, its period in iterations, and the angle in radian by which it turns while it fades to 1/e (infinite where it
    doesn't fade); NaN where all are real and positive."""
    size = np.maximum(np.abs(eigenvalue), 1e-300)
    angle = np.abs(np.angle(eigenvalue))
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = np.where(size < 1, angle / np.maximum(-np.log(size), 0), np.inf)
    alternates = (eigenvalue.real < 0) & (np.abs(eigenvalue.imag) <= COMPLEX)
    turn = np.where(np.isfinite(size) & (alternates | (np.abs(eigenvalue.imag) > COMPLEX)), turn, -1)
    first = turn.argmax(-1)[..., None]
    size, angle, turn = (np.take_along_axis(each, first, -1)[..., 0] for each in (size, angle, turn))
    there = turn > 0
    return tuple(np.where(there, each, np.nan) for each in (size, 2 * np.pi / np.where(there, angle, 1), turn))


def outcomes(stability: xr.Dataset) -> xr.Dataset:
    """How each map of ``fixed_points`` ends, as booleans over (coupling, sample, token): ``straight``, it settles without
    a swing; ``alternates`` and ``rotates``, it settles, and what swings longest, a negative multiplier or a complex pair, turns
    by a radian or more while a deviation fades to 1/e; ``cycles``, it comes back after up to ``LONGEST_CYCLE`` iterations;
    ``restless``, it does neither. Exactly one holds for a word that has a map, none for others.

    Examples
    --------
    >>> found = xk.resonance.fixed_points(clip, scenes.image, scenes.caption)
    >>> list(xk.resonance.outcomes(found))
    ['straight', 'alternates', 'rotates', 'cycles', 'restless']
    """
    there, settled = stability.last_step.notnull(), stability.cycle == 1
    swings, halves = settled & (stability.turn >= 1), stability.period < 2 + 1e-3
    return xr.Dataset(
        {
            "straight": settled & ~swings & there,
            "alternates": swings & halves,
            "rotates": swings & ~halves,
            "cycles": stability.cycle > 1,
            "restless": there & (stability.cycle == -1),
        }
    )
