"""What oscillates in a resonance trajectory: its Fourier spectrum (SRM eq. 3), and spectra where there is nothing to find.

Equation 3 writes a trajectory as R(t) = sum over k of A_k cos(w_k t + phi_k) U_k. The Fourier transform fits it with
fixed frequencies and no damping, entry by entry; ``modes`` finds frequencies, damping and spatial patterns together.
Every transient has a spectrum, so that a peak means something only above the band of spectra that the same recursion gives
with shuffled weights, and with the captions of other images.
"""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from ..clip.model import Clip, copied
from ..files.checks import check_choices, check_names, check_whole
from ..files.store import annotate, annotate_from
from .recursion import SOURCE, Recursion, read, ready, recursion_of, trajectory as trajectory_of

NULLS = ("weights", "captions")
BAND = (0.025, 0.975)
DIMS = ("sample", "time", "token", "row", "col")
DETREND = ("none", "constant", "linear")
WINDOW = ("boxcar", "hann")
DRAWS = 20
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
    about = {"detrend": detrend, "window": window}
    found = {
        "amplitude": (each, amplitude.astype(np.float32), about),
        "phase": (each, phase.astype(np.float32), about),
        "dominant_frequency": (at, dominant, about),
    }
    out = coordinates_without(trajectory, "time").assign_coords(frequency=frequency).assign(found)
    return annotate_from(trajectory, out, "spectrum", **about)


def coordinates_without(trajectory: xr.DataArray, *dims: str) -> xr.Dataset:
    """The trajectory's coordinates that don't run along these dimensions."""
    return trajectory.coords.to_dataset().drop_dims(dims, errors="ignore")


def null_spectra_of(
    clip: Clip,
    images,
    texts,
    settings: Mapping[str, Mapping],
    nulls: tuple[str, ...] = NULLS,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> dict[str, xr.Dataset]:
    """The spectrum of each pair's trajectory beside that of nulls, by several settings.

    images, texts, batch_size, progress : as in ``explain``. settings : by label the options of ``Recursion``, of at least 8
    iterations, and ``draws``, how many of each null (20 unless it is given). Their nulls are the same models, each shuffled
    once: of a large model that takes as long as dozens of images. nulls : "weights" (every weight tensor of both towers
    shuffled within itself) and "captions" (each image with another one's, so that at least two are needed).

    Each dataset has over (sample, frequency) ``mean_amplitude``, the root mean square over words and patches of the detrended
    trajectory's amplitudes, and ``energy_share``, each frequency's share of their squares; over (null, draw, frequency) the
    means over samples of both, ``null_amplitude`` and ``null_share``, and over (null, draw, sample, frequency) the latter
    of each sample, ``null_scene_share``. Raises as ``resonate``, for a wrong null, and without settings.

    Examples
    --------
    >>> found = xk.resonance.null_spectra_of(clip, scenes.image, scenes.caption, {"attention": {"draws": 2}})
    >>> found["attention"].null_share.dims
    ('null', 'draw', 'frequency')
    """
    if not settings:
        raise ValueError('settings={}: give at least one, a label to options, such as {"attention": {}}')
    draws, recursions = {}, {}
    for label, options in settings.items():
        options = dict(options)
        draws[label] = options.pop("draws", DRAWS)
        check_whole(1, draws=draws[label])
        recursions[label] = recursion_of(options, ITERATIONS)
    check_whole(0, seed=seed)
    check_names(NULLS, nulls=nulls)
    pairs = ready(clip, images, texts, batch_size)
    if "captions" in nulls and len(pairs.good) < 2:
        raise ValueError("one pair only: shuffled captions need at least 2")
    own = {label: _amplitudes(clip, pairs, recursion, batch_size) for label, recursion in recursions.items()}
    drawn = {label: np.zeros((len(nulls), many, 2, *own[label][0].shape)) for label, many in draws.items()}
    orders = {label: np.random.default_rng(seed) for label in settings}
    for draw in tqdm(range(max(draws.values())), disable=not progress, desc="nulls"):
        broken = shuffled_weights(clip, seed + draw) if "weights" in nulls else clip
        for label in (label for label, many in draws.items() if draw < many):
            for index, null in enumerate(nulls):
                model = broken if null == "weights" else clip
                exchange = None if null == "weights" else _another(len(pairs.good), orders[label])
                drawn[label][index, draw] = _amplitudes(model, pairs, recursions[label], batch_size, exchange)
    return {
        label: _described(clip, pairs, recursions[label], own[label], drawn[label], nulls, seed) for label in settings
    }


def _described(clip: Clip, pairs, recursion: Recursion, own, drawn: np.ndarray, nulls: tuple[str, ...], seed: int):
    """The dataset of one setting of ``null_spectra_of``."""
    frequency = torch.fft.rfftfreq(recursion.iterations + 1)[1:].double().numpy()
    out = xr.Dataset(coords={"frequency": frequency, "sample": pairs.labels[pairs.good], "null": list(nulls)})
    for index, names in enumerate((("mean_amplitude", "null_amplitude"), ("energy_share", "null_share"))):
        out[names[0]] = ("sample", "frequency"), own[index]
        out[names[1]] = ("null", "draw", "frequency"), drawn[:, :, index].mean(2)
    out["null_scene_share"] = ("null", "draw", "sample", "frequency"), drawn[:, :, 1]
    parameters = {**dataclasses.asdict(recursion), "draws": drawn.shape[1], "null_seed": int(seed)}
    return annotate(out, "null_spectra", made_by=clip, source=SOURCE, parameters=parameters)


def peaks(spectra: xr.Dataset) -> pd.DataFrame:
    """A row a frequency: the mean share of the energy, the band of each null (the middle 95 % of its draws), whether the
    share lies above every band, whether it stands out from its neighbours, and whether it is a peak, which is both.

    The lowest frequency has no neighbour below and can't stand out: what a slow transient leaves ends there.

    Examples
    --------
    >>> found = xk.resonance.null_spectra_of(clip, scenes.image, scenes.caption, {"attention": {"draws": 2}})
    >>> xk.resonance.peaks(found["attention"]).columns[-1]
    'peak'
    """
    share = spectra.energy_share.mean("sample").values
    table = pd.DataFrame({"frequency": spectra.frequency.values, "energy_share": share})
    above = np.ones(len(share), bool)
    for null in spectra.null.values:
        low, high = np.quantile(spectra.null_share.sel(null=null).values, BAND, axis=0)
        table[f"{null}_low"], table[f"{null}_high"] = low, high
        above &= share > high
    return table.assign(above_band=above, stands_out=stands_out(share), peak=above & stands_out(share))


def stands_out(share: np.ndarray) -> np.ndarray:
    """Whether each share (..., frequency) is above its neighbours'. The lowest frequency has none below and can't be."""
    before = np.insert(share[..., :-1], 0, np.inf, axis=-1)
    after = np.append(share[..., 1:], np.full_like(share[..., :1], -np.inf), -1)
    return (share > before) & (share > after)


@torch.no_grad()
def shuffled_weights(clip: Clip, seed: int) -> Clip:
    """A copy with the values of every weight tensor in random order: the same distribution, nothing learnt.

    Examples
    --------
    >>> xk.resonance.shuffled_weights(clip, seed=0).weights_digest == clip.weights_digest
    False
    """
    broken = copied(clip)
    draw = torch.Generator().manual_seed(int(seed))
    for weight in broken.model.parameters():
        order = torch.randperm(weight.numel(), generator=draw).to(weight.device)
        weight.copy_(weight.flatten()[order].view_as(weight))
    return broken


def _another(n: int, rng: np.random.Generator) -> np.ndarray:
    """A partner for each of n, never itself: the next one on a random circle."""
    circle = rng.permutation(n)
    partner = np.empty(n, int)
    partner[circle] = np.roll(circle, 1)
    return partner


def _amplitudes(clip: Clip, pairs, recursion: Recursion, batch_size: int, exchange: np.ndarray | None = None):
    """Root mean square amplitude and share of the energy by frequency, two arrays (good pairs, frequencies)."""
    energies = []
    tokens = iter(pairs.tokens if exchange is None else pairs.tokens[exchange])
    for pixels, own in pairs.batches(batch_size):
        spoken = torch.stack([*itertools.islice(tokens, len(own))])  # of a large tower fewer than asked for
        with torch.no_grad():
            found = read(clip, pixels, spoken, recursion)
            amplitude = fourier(trajectory_of(clip, found, recursion), dim=1)[:, 1:].abs()
        count = found.there.sum(1)[:, None] * amplitude.shape[-1]
        energies.append((amplitude.square().sum((2, 3)) / count).double().cpu())
    energy = torch.cat(energies).numpy()
    total = energy.sum(1, keepdims=True)
    return np.sqrt(energy), np.divide(energy, total, out=np.zeros_like(energy), where=total > 0)
