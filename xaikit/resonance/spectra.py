"""What oscillates in a resonance trajectory: its Fourier spectrum (SRM eq. 3).

Equation 3 writes a trajectory as R(t) = sum over k of A_k cos(w_k t + phi_k) U_k. The Fourier transform fits it with
fixed frequencies and no damping, entry by entry; ``modes`` finds frequencies, damping and spatial patterns together.
Both describe any transient, also one that no oscillation made: only a comparison with a null says whether a peak means
something.
"""

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ..files.checks import check_choices
from ..files.store import annotate_from

DIMS = ("sample", "time", "token", "row", "col")
DETREND = ("none", "constant", "linear")
WINDOW = ("boxcar", "hann")
ITERATIONS = 8  # fewer don't tell two frequencies apart
FLAT = 1e-6  # of the largest value: what rounding of float32 leaves of a constant


def check_trajectory(trajectory: xr.DataArray, iterations: int = ITERATIONS) -> None:
    """Raise ValueError unless this is a finite trajectory (sample, time, token, row, col) of that many iterations."""
    if not isinstance(trajectory, xr.DataArray):
        raise ValueError(
            f"the trajectory is a {type(trajectory).__name__}: give a DataArray, such as resonate(...).trajectory"
        )
    if trajectory.dims != DIMS:
        raise ValueError(f"the trajectory has dimensions {trajectory.dims}, but {DIMS} are needed")
    found = trajectory.sizes["time"] - 1
    if found < iterations:
        many = f"{max(found, 0)} iteration{'' if found == 1 else 's'}"
        raise ValueError(f"the trajectory has {many}: at least {iterations} are needed")
    if not np.isfinite(trajectory.values).all():
        raise ValueError("the trajectory has values that aren't finite: only one that stays finite can be analysed")


def fourier(trajectory: Tensor, dim: int, detrend: str = "linear", window: str = "hann") -> Tensor:
    """One-sided Fourier coefficients along ``dim``, scaled so that ``abs()`` is the amplitude of a cosine, and ``angle()``
    its phase at the first point; differentiable.

    trajectory : of real numbers, n points along ``dim``, which becomes frequencies k / n, k = 0..n // 2, in cycles per
    point. detrend : what is taken off first, by least squares: "none", the mean ("constant") or a line ("linear").
    window : "boxcar" (none) or "hann" (periodic, divided by its mean, so that amplitudes keep their size; it spreads a
    peak over its two neighbours). A cosine of frequency k / n comes back exactly with detrend="none" and
    window="boxcar"; beside the lowest and highest frequency the window mixes it with its mirror image.
    Source: SRM eq. 3 and algorithm 1, line 3.
    """
    check_choices(detrend=(detrend, DETREND), window=(window, WINDOW))
    points = trajectory.movedim(dim, -1)
    n = points.shape[-1]
    time = torch.arange(n, dtype=points.dtype, device=points.device)
    trend = [torch.ones_like(time), time - time.mean()][: DETREND.index(detrend)]  # orthogonal to one another
    for basis in trend:
        unit = basis / basis.norm()
        points = points - (points @ unit)[..., None] * unit
    if window == "hann":
        weight = 0.5 - 0.5 * torch.cos(2 * torch.pi * time / n)
        points = points * (weight / weight.mean())
    share = torch.full((n // 2 + 1,), 2 / n, dtype=points.dtype, device=points.device)
    share[0] = 1 / n  # these two have no mirror image at a negative frequency
    if n % 2 == 0:
        share[-1] = 1 / n
    return (torch.fft.rfft(points) * share).movedim(-1, dim)


def resonance_energy(trajectory: Tensor, dim: int, detrend: str = "linear", window: str = "hann") -> Tensor:
    """Energy of what oscillates in each entry: the squared amplitudes of all frequencies > 0, summed; ``dim`` goes.

    Differentiable everywhere. The trend's share is taken off before (``detrend``), so that a map that only grows or
    stays has none. With window="boxcar" it is twice the variance about the trend; "hann" (half as much again for
    noise) weighs the middle of the trajectory more. Source: SRM eq. 3, the A_k squared.
    """
    return power(fourier(trajectory, dim, detrend, window).movedim(dim, -1)[..., 1:]).sum(-1)


def power(coefficients: Tensor) -> Tensor:
    """Squared amplitudes; unlike abs() they have a gradient at 0."""
    return coefficients.real**2 + coefficients.imag**2


def spectrum(trajectory: xr.DataArray, detrend: str = "linear", window: str = "hann") -> xr.Dataset:
    """The Fourier spectrum of each patch and token.

    trajectory : (sample, time, token, row, col), n points in time. detrend, window : as in ``fourier``.

    Returns ``amplitude`` (units of the map) and ``phase`` (radian, at the first point) over (sample, token, frequency,
    row, col), and ``dominant_frequency`` (sample, token, row, col), that of the largest amplitude. frequency: k / n
    in cycles per iteration, 0 < f <= 0.5; f = 0 is left out, since the mean is part of the trend and no oscillation.
    Entries that are flat once detrended, such as those of padded tokens, have amplitude 0 and phase and dominant
    frequency NaN. Raises ValueError for fewer than 8 iterations.

    Examples
    --------
    >>> course = xk.resonance.resonate(clip, scenes.image, scenes.caption).trajectory
    >>> xk.resonance.spectrum(course).frequency.values.round(2)[:3]
    array([0.05, 0.1 , 0.14])
    """
    check_trajectory(trajectory)
    values = torch.from_numpy(trajectory.values.astype(np.float64))
    found = fourier(values, 1, detrend, window).moveaxis(1, 2)[:, :, 1:].numpy()
    n = trajectory.sizes["time"]
    frequency = np.arange(1, n // 2 + 1) / n
    amplitude = np.abs(found)
    flat = amplitude.max(2) <= FLAT * np.abs(trajectory.values).max(1)
    amplitude = np.where(flat[:, :, None], 0, amplitude)
    phase = np.where(flat[:, :, None], np.nan, np.angle(found))
    dominant = np.where(flat, np.nan, frequency[amplitude.argmax(2)])
    each, at = ("sample", "token", "frequency", "row", "col"), ("sample", "token", "row", "col")
    out = xr.Dataset(coords=other_coordinates(trajectory) | {"frequency": frequency})
    about = {"detrend": detrend, "window": window}
    out["amplitude"] = each, amplitude.astype(np.float32), about
    out["phase"] = each, phase.astype(np.float32), about
    out["dominant_frequency"] = at, dominant, about
    return annotate_from(trajectory, out, "spectrum", **about)


def other_coordinates(trajectory: xr.DataArray) -> dict:
    """The trajectory's coordinates that don't run along time."""
    return {name: values for name, values in trajectory.coords.items() if "time" not in values.dims}
