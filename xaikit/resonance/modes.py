"""How a resonance trajectory moves: its damped modes (SRM eq. 3 with damping), and the phases of its course (section 3.2).

The modes' frequencies, damping and spatial patterns are found together, where the Fourier transform (``spectra``) has fixed
frequencies and none. Like it, this describes any transient, also one that no oscillation made. The paper names three
phases: initial coupling (iterations 0 to 5), relational focusing (5 to 15) and lock-in (15 to 20). Here neither their
number nor their places are assumed.
"""

import warnings
from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
import xarray as xr
from ruptures import KernelCPD
from ruptures.costs import CostL2

from ..files.checks import check_number, check_whole
from ..files.store import annotate_from
from ..measures.maps import spatial_entropy
from .spectra import FLAT, check_trajectory, coordinates_without

SHORTEST = 2  # iterations of a phase


def dynamic_modes(
    trajectory: xr.DataArray, rank: int = 4, delays: int | None = None, ranks: Iterable[int] = range(1, 11)
) -> xr.Dataset:
    """The damped modes of each token's maps, by dynamic mode decomposition: equation 3 with damping.

    R(t) = sum over k of amplitude_k * exp(growth_k t) * Re(exp(i (2 pi frequency_k t + phase_k)) pattern_k), t = 0..T

    A mode is one term of equation 3: a pair of conjugate eigenvalues counts once (the one with frequency > 0 is given),
    and so does a real eigenvalue (frequency 0, or 0.5 where it is negative).

    trajectory : (sample, time, token, row, col). rank : modes to return. delays : maps that are stacked to one state,
    from 1 to half the points in time; None for 8, or as many as that allows.
    ranks : numbers of modes, K, whose reconstruction error is measured.

    Returns over (sample, token, mode), from most to least energy: ``eigenvalue`` (complex, per iteration), ``amplitude``
    (norm of the mode's map at t = 0), ``frequency`` (cycles per iteration, 0 to 0.5), ``phase`` (radian), ``growth`` (log
    of the eigenvalue's size, per iteration) and ``energy`` (squares of the mode's part, summed over time and patches).
    ``pattern`` (sample, token, mode, row, col) is complex, of norm 1, turned to be as real as can be with its largest real
    entry positive: a standing wave's is real, a travelling one's isn't. ``reconstruction_error`` (sample, token, rank):
    Frobenius norm of what K modes leave, relative to the trajectory's; never larger for a larger K. Where a trajectory has
    fewer modes, amplitude, energy and pattern are 0 and the rest NaN; a padded token has none, and its error is NaN.

    These are the modes of a linear recursion: a course that bends otherwise, or is a straight line, gets complex
    eigenvalues and large, cancelling amplitudes too, though nothing cycles. What cycles, the Jacobian says.
    Eigenvalues come from PyDMD at each order that the data allow; the maps follow by least squares over all iterations.
    Of all orders, that counts whose ``rank`` (or K) modes of most energy leave least. Raises ValueError for a wrong
    number. Source: Schmid 2010; with delays: Arbabi and Mezic 2017.

    Examples
    --------
    >>> course = xk.resonance.resonate(clip, scenes.image[:1], scenes.caption[:1]).trajectory
    >>> xk.resonance.dynamic_modes(course, rank=2).pattern.dims
    ('sample', 'token', 'mode', 'row', 'col')
    """
    check_trajectory(trajectory)
    ranks, n = list(ranks), trajectory.sizes["time"]
    check_whole(1, rank=rank)
    for each in ranks:
        check_whole(1, ranks=each)
    delays = min(8, n // 2) if delays is None else delays
    check_whole(1, n // 2, delays=delays)
    maps = trajectory.transpose("sample", "token", "row", "col", "time").values.astype(np.float64)
    samples, tokens, rows, cols, _ = maps.shape
    # n maps span at most n dimensions: in an orthonormal basis of these all fits stay the same and get cheaper.
    basis, size, course = np.linalg.svd(maps.reshape(samples * tokens, rows * cols, n), full_matrices=False)
    fits = [_fitted(states, rank, delays, ranks) for states in size[..., None] * course]
    eigenvalue, coordinates, energy, error = (np.stack(parts) for parts in zip(*fits, strict=True))
    patterns = np.einsum("bpq,bqk->bkp", basis, coordinates)
    amplitude = np.linalg.norm(patterns, axis=-1)
    there = amplitude > 0
    patterns, phase = _turned(patterns / np.where(there, amplitude, 1)[..., None])
    per_mode = {
        "eigenvalue": eigenvalue,
        "amplitude": amplitude,
        "frequency": np.angle(eigenvalue) / (2 * np.pi),
        "phase": np.where(there, phase, np.nan),
        "growth": np.log(np.abs(eigenvalue)),
        "energy": energy,
    }
    at = ("sample", "token", "mode")
    out = coordinates_without(trajectory, "time").assign_coords(mode=np.arange(rank), rank=ranks)
    out = out.assign({name: (at, values.reshape(samples, tokens, rank)) for name, values in per_mode.items()})
    patterns = patterns.reshape(samples, tokens, rank, rows, cols)
    out["pattern"] = (*at, "row", "col"), patterns.astype(np.complex64)
    out["reconstruction_error"] = ("sample", "token", "rank"), error.reshape(samples, tokens, len(ranks))
    return annotate_from(trajectory, out, "modes", rank=rank, delays=delays)


def _fitted(states: np.ndarray, rank: int, delays: int, ranks: list[int]) -> tuple[np.ndarray, ...]:
    """Modes of one trajectory (space, time): eigenvalues (rank), complex maps (space, rank), energies (rank), and the
    error of each number in ``ranks``."""
    total = (states**2).sum()
    eigenvalue, energy = np.full(rank, np.nan, complex), np.zeros(rank)
    patterns = np.zeros((len(states), rank), complex)
    if total == 0:
        return eigenvalue, patterns, energy, np.full(len(ranks), np.nan)
    # What 1, 2, ... modes leave at the best order so far, and the modes of the order that is best for ``rank``.
    most = max([rank, *ranks])
    left, best = np.full(most, total), np.empty(0, complex)
    for found in _eigenvalues(states, delays):
        found = found[np.argsort(-_least_squares(states, found)[1])]
        leaves = _left(states, found, most)
        if leaves[rank - 1] < left[rank - 1]:
            best = found[:rank]
        left = np.minimum(left, leaves)
    if best.size:
        maps, energies = _least_squares(states, best)
        order, kept = np.argsort(-energies), slice(best.size)
        eigenvalue[kept], patterns[:, kept], energy[kept] = best[order], maps[:, order], energies[order]
    return eigenvalue, patterns, energy, np.sqrt(left[np.array(ranks, int) - 1] / total)


def _eigenvalues(states: np.ndarray, delays: int) -> Iterator[np.ndarray]:
    """Those of the map from one state to the next, one of each conjugate pair, for each order."""
    # A standing wave A cos(w t + phi) U has one real map, so plain snapshots of it span one dimension and have one, real
    # eigenvalue: only states that hold several maps in a row span the two that a conjugate pair needs.
    columns = states.shape[1] - delays + 1
    stacked = np.concatenate([states[:, lag : lag + columns] for lag in range(delays)])
    sizes = np.linalg.svd(stacked[:, :-1], compute_uv=False)
    dmd = _dmd()
    for order in range(1, int((sizes > FLAT * sizes[0]).sum()) + 1):
        with warnings.catch_warnings():
            # It looks at all directions, but only those that aren't rounding are used here.
            warnings.filterwarnings("ignore", "Input data condition number", UserWarning)
            found = dmd(svd_rank=order).fit(stacked).eigs
        found = found[(found.imag >= 0) & (np.abs(found) > FLAT)]  # one at 0 is gone after one iteration, and no mode
        if found.size:
            yield found


@cache
def _dmd() -> type:
    """PyDMD's class, imported only when it is needed: that takes seconds, and warns of its docstrings' backslashes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "invalid escape sequence")
        from pydmd import DMD
    return DMD


def _courses(eigenvalue: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers of each eigenvalue, complex (modes, n), and the exponent of the first: 0, or 1 - n for those that grow,
    so that none is larger than 1."""
    first = np.where(np.abs(eigenvalue) > 1, 1 - n, 0)
    return eigenvalue[:, None] ** (first[:, None] + np.arange(n)), first


def _least_squares(states: np.ndarray, eigenvalue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Complex maps (space, modes) at time 0 whose real courses together fit the states best, and their energies."""
    powers, first = _courses(eigenvalue, states.shape[1])
    parts = np.concatenate([powers.real, -powers.imag])
    weights = np.linalg.lstsq(parts.T, states.T, rcond=1e-12)[0].reshape(2, len(eigenvalue), -1)
    maps = weights[0] + 1j * weights[1]
    energy = ((maps[:, :, None] * powers[:, None]).real ** 2).sum((1, 2))
    return (maps / (eigenvalue**first)[:, None]).T, energy


def _left(states: np.ndarray, eigenvalue: np.ndarray, most: int) -> np.ndarray:
    """Sum of squares that the first 1, 2, ..., ``most`` modes leave."""
    powers, _ = _courses(eigenvalue, states.shape[1])
    pair = eigenvalue.imag > 0
    owner = np.sort(np.concatenate([np.arange(len(pair)), np.flatnonzero(pair)]))
    second = np.append(False, owner[1:] == owner[:-1])
    parts = np.where(second[:, None], powers[owner].imag, powers[owner].real)
    taken = ((states @ np.linalg.qr(parts.T)[0]) ** 2).sum(0)
    taken = np.append(taken, np.zeros(2 * most))  # past its last mode an order takes no more
    ends = np.searchsorted(owner, np.arange(most), side="right")
    return np.maximum((states**2).sum() - np.cumsum(np.append(0, taken))[ends], 0)


def _turned(patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Complex patterns (..., space), each turned to be as real as it can be with its largest real entry positive, and
    the angle that was taken off."""
    angle = np.angle((patterns**2).sum(-1)) / 2
    turned = patterns * np.exp(-1j * angle)[..., None]
    largest = np.take_along_axis(turned.real, np.abs(turned.real).argmax(-1)[..., None], -1)[..., 0]
    sign = np.where(largest < 0, -1, 1)
    return turned * sign[..., None], np.angle(np.exp(1j * angle) * sign)


def phases(trajectory: xr.DataArray, largest: int = 4, penalty: float | None = None) -> xr.Dataset:
    """Divide each sample's trajectory into phases, between which step size and spatial entropy change their level.

    trajectory : (sample, time, token, row, col). largest : the most phases to look for. penalty : what a further phase
    must take off the sum of squares of both curves, each standardised over time (2 times the iterations for one phase);
    None for 4 log(iterations), with which white noise of 20 iterations has one phase in 94 of 100 cases (in 79 with the
    3 log(iterations) of the Bayesian information criterion).

    Returns over (sample, time) ``step_size``, the norm over tokens and patches of R(t) - R(t - 1), NaN at the first time,
    and ``entropy`` in nat of the maps, clipped at 0 and divided by their sum, mean over the sample's tokens: log(patches)
    for a map spread evenly, and also for one without positive values, which points nowhere; NaN for a sample whose maps
    are all 0. ``boundary`` (sample, phase): index in time at which a phase begins, 0 for the first, -1 where there is
    none. ``phases`` (sample): how many there are.

    Of all divisions into phases of at least 2 iterations, the one with the smallest penalised sum of squares about the
    phases' levels counts. A boundary says where the course changes most, not that it jumps: a smooth approach to a fixed
    point is divided too. Source: SRM section 3.2; change points by ``ruptures`` (Truong et al. 2020).

    Examples
    --------
    >>> course = xk.resonance.resonate(clip, scenes.image, scenes.caption).trajectory
    >>> xk.resonance.phases(course).boundary.dims
    ('sample', 'phase')
    """
    check_trajectory(trajectory, iterations=4)
    check_whole(1, largest=largest)
    if penalty is not None:
        check_number(0, open_low=True, penalty=penalty)
    maps = trajectory.values.astype(np.float64)
    samples, points = maps.shape[:2]
    steps = np.sqrt((np.diff(maps, axis=1) ** 2).sum((2, 3, 4)))
    entropy = spatial_entropy(maps)
    scale = np.sqrt((maps**2).sum((2, 3, 4)).max(1))
    curves = np.stack([_standard(steps, FLAT * scale), _standard(np.nan_to_num(entropy[:, 1:]), FLAT)], -1)
    price = 4 * np.log(points - 1) if penalty is None else penalty
    boundary = np.full((samples, largest), -1)
    for row, curve in zip(boundary, curves, strict=True):
        starts = _starts(curve, largest, price)
        row[: len(starts)] = starts
    found = {
        "step_size": (("sample", "time"), np.insert(steps, 0, np.nan, axis=1)),
        "entropy": (("sample", "time"), entropy),
        "boundary": (("sample", "phase"), boundary, {"penalty": float(price)}),
        "phases": ("sample", (boundary >= 0).sum(1)),
    }
    out = coordinates_without(trajectory, "token", "row", "col").assign_coords(phase=np.arange(largest)).assign(found)
    return annotate_from(trajectory, out, "phases", largest=largest, penalty=float(price))


def _standard(curve: np.ndarray, rounding: np.ndarray | float) -> np.ndarray:
    """Mean 0 and standard deviation 1 along the last axis; 0 where the deviation is no more than ``rounding``."""
    centred = curve - curve.mean(-1, keepdims=True)
    spread = centred.std(-1)
    varies = (spread > rounding)[..., None]
    return np.where(varies, centred / np.where(varies, spread[..., None], 1), 0)


def _starts(curve: np.ndarray, largest: int, price: float) -> list[int]:
    """Times at which the phases begin of which a curve (iterations, 2), whose first row is time 1, is made up."""
    cost, search = CostL2().fit(curve), KernelCPD(kernel="linear", min_size=SHORTEST).fit(curve)
    divisions = [[len(curve)]]
    divisions += [search.predict(n_bkps=count) for count in range(1, min(largest, len(curve) // SHORTEST))]
    best = min(divisions, key=lambda ends: cost.sum_of_costs(ends) + price * len(ends))
    return [0, *(end + 1 for end in best[:-1])]
