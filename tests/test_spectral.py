"""Spectra, dynamic modes and phases of trajectories that are made of known oscillations, or of planted phases."""

import numpy as np
import pytest
import scipy.signal
import torch
import xarray as xr
from refusals import refused

from xaikit.measures.maps import spatial_entropy
from xaikit.resonance.modes import dynamic_modes, phases
from xaikit.resonance.spectra import fourier, resonance_energy, spectrum

DIMS = ("sample", "time", "token", "row", "col")
FREQUENCY = np.array([0.08, 0.21, 0.37])
GROWTH = np.array([-0.02, -0.05, -0.1])
AMPLITUDE = np.array([3.0, 2.0, 1.0])
PHASE = np.array([0.5, -1.0, 2.0])


def trajectory(values):
    return xr.DataArray(np.asarray(values, np.float32), dims=DIMS)


def cosine(n, k, amplitude=1.5, phase=0.7):
    return amplitude * torch.cos(2 * torch.pi * k * torch.arange(n, dtype=torch.float64) / n + phase)


def modes_of(iterations, travelling, constant, tokens=2, seed=0):
    """A trajectory of three damped modes with random maps, complex ones where ``travelling``, and these maps."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(tokens, 3, 8, 8)) + 1j * travelling * rng.normal(size=(tokens, 3, 8, 8))
    maps /= np.linalg.norm(maps.reshape(tokens, 3, 64), axis=-1)[..., None, None]
    time = np.arange(iterations + 1)
    rates = GROWTH + 2j * np.pi * FREQUENCY
    course = AMPLITUDE[:, None] * np.exp(rates[:, None] * time + 1j * PHASE[:, None])
    values = np.einsum("mkrc,kt->tmrc", maps, course).real
    return trajectory((values + constant * rng.normal(size=(tokens, 8, 8)))[None]), maps


@pytest.mark.parametrize("window", ["boxcar", "hann"])
@pytest.mark.parametrize("n, k", [(21, 3), (21, 8), (40, 2), (40, 17)])
def test_a_cosine_on_a_frequency_comes_back_exactly(n, k, window):
    found = fourier(cosine(n, k), 0, "none", window)
    assert found.shape == (n // 2 + 1,)
    torch.testing.assert_close(found[k].abs(), torch.tensor(1.5, dtype=torch.float64))
    torch.testing.assert_close(found[k].angle(), torch.tensor(0.7, dtype=torch.float64))
    away = 0 if window == "boxcar" else 1
    others = [i for i in range(n // 2 + 1) if abs(i - k) > away]
    assert found[others].abs().max() < 1e-12


@pytest.mark.parametrize("n", [16, 17])
@pytest.mark.parametrize("detrend", ["none", "constant", "linear"])
@pytest.mark.parametrize("window", ["boxcar", "hann"])
def test_the_transform_agrees_with_scipy(n, detrend, window):
    """Amplitudes are twice the coefficients, but for the mean and the fastest alternation, which count once."""
    values = np.random.default_rng(0).normal(size=(3, n, 2))
    weight = scipy.signal.get_window(window, n)
    levelled = values if detrend == "none" else scipy.signal.detrend(values, axis=1, type=detrend)
    expected = np.fft.rfft(levelled * weight[:, None], axis=1) * 2 / weight.sum()
    expected[:, [0] if n % 2 else [0, -1]] /= 2
    np.testing.assert_allclose(fourier(torch.from_numpy(values), 1, detrend, window), expected, atol=1e-12)


def test_a_trend_has_no_energy_and_an_oscillation_has_that_of_its_amplitude():
    line = 5 - 0.3 * torch.arange(21, dtype=torch.float64)
    assert resonance_energy(line, 0).item() < 1e-24
    assert resonance_energy(line, 0, detrend="constant").item() > 0.1
    wave = cosine(21, 5)
    assert resonance_energy(wave, 0, "none", "boxcar").item() == pytest.approx(1.5**2)
    both = torch.stack([wave, wave + line, 2 * wave, line], 1)
    energy = resonance_energy(both, 0)
    torch.testing.assert_close(energy[:2] / energy[0], torch.ones(2, dtype=torch.float64))
    assert (energy[2] / energy[0]).item() == pytest.approx(4)
    noise = torch.randn(200, 21, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    twice = 2 * scipy.signal.detrend(noise.numpy(), axis=1).var(1)
    np.testing.assert_allclose(resonance_energy(noise, 1, window="boxcar"), twice)


def test_gradients_flow_also_through_what_is_flat():
    values = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: resonance_energy(v, 1), values)
    flat = torch.zeros(12, requires_grad=True)
    resonance_energy(flat, 0).backward()
    assert torch.isfinite(flat.grad).all()


def test_the_spectrum_of_each_patch_and_token():
    n, time = 20, np.arange(20)
    values = np.ones((2, n, 3, 4, 5))
    values[0, :, 0] += 0.25 * np.cos(2 * np.pi * 0.2 * time + 1)[:, None, None]
    values[0, :, 1] += 0.5 * np.cos(2 * np.pi * 0.35 * time - 2)[:, None, None] * np.arange(5)
    values[:, :, 2] = 0
    source = trajectory(values).assign_coords(token_text=(("sample", "token"), [["a", "b", ""]] * 2))
    found = spectrum(source, "constant", "boxcar")
    assert found.amplitude.dims == ("sample", "token", "frequency", "row", "col")
    np.testing.assert_allclose(found.frequency, np.arange(1, 11) / 20)
    np.testing.assert_allclose(found.amplitude[0, 0].sel(frequency=0.2), 0.25, rtol=1e-5)
    np.testing.assert_allclose(found.phase[0, 0].sel(frequency=0.2), 1, rtol=1e-5)
    np.testing.assert_allclose(
        found.amplitude[0, 1].sel(frequency=0.35), np.broadcast_to(0.5 * np.arange(5), (4, 5)), rtol=1e-5
    )
    assert (found.dominant_frequency[0, 0] == 0.2).all() and (found.dominant_frequency[0, 1, :, 1:] == 0.35).all()
    flat = found.isel(sample=1)
    assert flat.dominant_frequency.isnull().all() and flat.phase.isnull().all() and (flat.amplitude == 0).all()
    assert found.dominant_frequency[0, 1, :, 0].isnull().all() and found.token_text.equals(source.token_text)
    assert spectrum(trajectory(values + time[:, None, None, None] * 0.1)).dominant_frequency[1, :2].isnull().all()


@pytest.mark.parametrize("iterations", [20, 40])
@pytest.mark.parametrize("travelling", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_planted_modes_come_back(iterations, travelling, constant):
    source, maps = modes_of(iterations, travelling, constant)
    found = dynamic_modes(source).isel(sample=0)
    assert (found.amplitude.isel(mode=-1) < 1e-4).all() != constant
    for token in range(2):
        one = found.isel(token=token)
        if constant:
            at = int(np.abs(one.eigenvalue.values - 1).argmin())
            assert abs(one.eigenvalue.values[at] - 1) < 1e-4 and one.frequency.values[at] == 0
        for k in range(3):
            at = int(np.nanargmin(np.abs(one.frequency.values - FREQUENCY[k])))
            mode = one.isel(mode=at)
            assert mode.frequency.item() == pytest.approx(FREQUENCY[k], rel=0.01)
            assert mode.growth.item() == pytest.approx(GROWTH[k], rel=0.02)
            assert mode.amplitude.item() == pytest.approx(AMPLITUDE[k], rel=0.01)
            # A map's own phase and that of its course can't be told apart, so both are compared at once.
            overlap = np.vdot(maps[token, k], mode.pattern.values * np.exp(1j * mode.phase.item()))
            assert abs(overlap) > 0.99 and np.angle(overlap) == pytest.approx(PHASE[k], abs=0.02)
            assert np.linalg.norm(mode.pattern) == pytest.approx(1, rel=1e-5)
            real = mode.pattern.values.real.ravel()
            assert real[np.abs(real).argmax()] > 0
            assert travelling or np.abs(mode.pattern.values.imag).max() < 1e-3
        part = one.isel(mode=slice(None, 3 + constant))
        assert (np.diff(part.energy) <= 0).all()
        time = np.arange(iterations + 1)
        course = part.amplitude.values[:, None] * np.exp(
            part.growth.values[:, None] * time
            + 1j * (2 * np.pi * part.frequency.values[:, None] * time + part.phase.values[:, None])
        )
        made = np.einsum("krc,kt->trc", part.pattern.values, course).real
        np.testing.assert_allclose(made, source[0, :, token], atol=1e-3)
        error = one.reconstruction_error
        assert (error.diff("rank") <= 1e-12).all() and error.sel(rank=3 + constant) < 1e-4 < 0.01 < error.sel(rank=2)


def test_an_error_is_that_of_the_modes_returned():
    rng = np.random.default_rng(0)
    source = modes_of(20, True, True, tokens=1)[0]
    source = source + 0.05 * rng.normal(size=source.shape)
    for rank in (1, 2, 5):
        one = dynamic_modes(source, rank=rank, ranks=[rank, 10]).isel(sample=0, token=0)
        powers = one.eigenvalue.values[:, None] ** np.arange(21)
        weights = one.amplitude.values[:, None] * np.exp(1j * one.phase.values[:, None]) * powers
        made = np.einsum("krc,kt->trc", one.pattern.values, weights).real
        left = np.linalg.norm(made - source[0, :, 0].values) / np.linalg.norm(source[0, :, 0].values)
        assert one.reconstruction_error.sel(rank=rank).item() == pytest.approx(left, rel=1e-4)


def test_a_standing_wave_needs_delays():
    time = np.arange(21)
    values = np.cos(2 * np.pi * 0.2 * time)[None, :, None, None, None] * np.ones((1, 1, 1, 3, 3))
    assert dynamic_modes(trajectory(values)).frequency[0, 0, 0].item() == pytest.approx(0.2, rel=1e-3)
    plain = dynamic_modes(trajectory(values), delays=1)
    assert plain.eigenvalue[0, 0, 0].item().imag == 0 and plain.reconstruction_error[0, 0, -1] > 0.5


def test_real_eigenvalues_are_decay_and_alternation():
    time, rng = np.arange(21), np.random.default_rng(0)
    maps = rng.normal(size=(2, 4, 4))
    values = maps[0] * 0.9 ** time[:, None, None] + maps[1] * 0.5 * (-0.8) ** time[:, None, None]
    one = dynamic_modes(trajectory(values[None, :, None])).isel(sample=0, token=0)
    np.testing.assert_allclose(one.eigenvalue[:2], [0.9, -0.8], rtol=1e-4)
    assert one.frequency[:2].values.tolist() == [0, 0.5] and (one.pattern[:2].values.imag == 0).all()
    assert set(np.round(np.abs(one.phase[:2].values), 5)) <= {0, round(np.pi, 5)}


def test_maps_that_are_flat_or_padded_have_no_oscillating_mode():
    values = np.zeros((1, 21, 4, 4, 4))
    values[:, :, 0] = 0.3
    values[:, 0, 2] = 1  # gone after one iteration
    values[:, -1, 3] = 1
    found = dynamic_modes(trajectory(values)).isel(sample=0)
    assert found.eigenvalue[0, 0].item() == pytest.approx(1) and found.amplitude[0, 0].item() == pytest.approx(1.2)
    assert found.frequency[0, 0] == 0 and (found.amplitude[0, 1:] == 0).all() and found.frequency[0, 1:].isnull().all()
    assert found.reconstruction_error[0].max() < 1e-6 and found.reconstruction_error[1].isnull().all()
    for token in (1, 2, 3):
        one = found.isel(token=token)
        assert (one.amplitude == 0).all() and (one.energy == 0).all() and (one.pattern == 0).all()
        assert np.isnan(one.eigenvalue.values).all() and one.growth.isnull().all() and one.phase.isnull().all()
    assert (found.reconstruction_error[2:] == 1).all()


def test_what_is_found_can_be_stored(tmp_path):
    source = modes_of(20, True, False)[0]
    for found in (dynamic_modes(source), spectrum(source)):
        assert all({"long_name", "units"} <= set(variable.attrs) for variable in found.data_vars.values())
        found.to_netcdf(tmp_path / "found.nc", engine="h5netcdf")
        xr.testing.assert_identical(xr.load_dataset(tmp_path / "found.nc", engine="h5netcdf"), found)


def test_wrong_input_is_named():
    short = trajectory(np.ones((1, 8, 1, 2, 2)))
    for method in (spectrum, dynamic_modes):
        refused("7 iterations: at least 8", method, short)
        refused("dimensions", method, short[0])
        refused("finite", method, trajectory(np.full((1, 21, 1, 2, 2), np.nan)))
    long = trajectory(np.ones((1, 21, 1, 2, 2)))
    refused("detrend='quadratic'", spectrum, long, detrend="quadratic")
    refused("window='kaiser'", spectrum, long, window="kaiser")
    refused("delays=11: a whole number from 1 to 10", dynamic_modes, long, delays=11)
    refused("rank=0", dynamic_modes, long, rank=0)
    refused("ranks=0", dynamic_modes, long, ranks=range(3))
    refused("largest=0", phases, long, largest=0)
    refused("penalty=-1", phases, long, penalty=-1)
    refused("3 iterations", phases, long[:, :4])


@pytest.mark.parametrize("iterations, starts", [(20, [7]), (20, [5, 15]), (40, [12]), (40, [8, 25])])
def test_planted_phases_come_back(iterations, starts):
    rng = np.random.default_rng(0)
    row, col = np.mgrid[:8, :8]
    phase = np.searchsorted(starts, np.arange(iterations + 1), side="right")
    # Entropy sees what is positive, here faint: half the map, then one patch, then four. Steps are made by the rest.
    heat = 0.01 * np.stack([row < 4, (row == 2) & (col == 3), (row == 2) & (col < 4)])[phase]
    step = np.array([3.0, 2.0, 0.0])[phase] * rng.uniform(0.9, 1.1, size=(2, iterations + 1))
    below = -100 - np.cumsum(step, 1)
    values = np.where(row < 4, heat, below[:, :, None, None])[:, :, None] * np.array([1.0, 2.0])[:, None, None]
    found = phases(trajectory(values))
    assert found.boundary.dims == ("sample", "phase") and found.boundary.shape == (2, 4)
    for found_at in found.boundary.values:
        assert found_at.tolist() == [0, *starts, *[-1] * (3 - len(starts))]
    assert (found.phases == len(starts) + 1).all()


def test_what_stays_or_is_empty_has_one_phase():
    values = np.zeros((3, 21, 2, 4, 4))
    values[0] = 0.1  # constant
    values[1] = 1 + np.float32(1e-7) * np.random.default_rng(0).normal(size=(21, 2, 4, 4))  # but for rounding
    found = phases(trajectory(values))
    assert found.phases.values.tolist() == [1, 1, 1]
    assert (found.boundary[:, 0] == 0).all() and (found.boundary[:, 1:] == -1).all()
    np.testing.assert_allclose(found.entropy[0], np.log(16), rtol=1e-6)
    assert found.entropy[2].isnull().all()


def test_one_that_has_converged_begins_a_phase_there():
    rng = np.random.default_rng(1)
    values = 1 + rng.normal(size=(1, 41, 2, 8, 8)) * 0.3
    values[:, 20:] = values[:, 20:21]
    found = phases(trajectory(values))
    assert found.boundary[0, :2].values.tolist() == [0, 21] and (found.step_size[0, 21:] == 0).all()


@pytest.mark.parametrize("iterations", [20, 40])
def test_noise_mostly_has_one_phase(iterations):
    values = 1 + np.random.default_rng(0).normal(size=(100, iterations + 1, 4, 8, 8))
    assert (phases(trajectory(values)).phases == 1).mean() > 0.85


def test_a_standing_oscillation_has_one_phase():
    rng = np.random.default_rng(2)
    course = np.cos(2 * np.pi * 0.21 * np.arange(31))[:, None, None, None]
    values = 2 + rng.normal(size=(5, 1, 3, 6, 6)) * 0.2 * course
    assert (phases(trajectory(values)).phases == 1).all()


def test_step_size_and_entropy_are_those_of_their_definitions():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 10, 3, 4, 5)).astype(np.float32)
    values[:, :, 2] = 0  # padded
    values[0, 4, 0] = -1  # nothing positive: nowhere
    found = phases(trajectory(values))
    assert found.step_size[:, 0].isnull().all()
    np.testing.assert_allclose(found.step_size[1, 6], np.linalg.norm(values[1, 6] - values[1, 5]), rtol=1e-6)
    heat = np.maximum(values[1, 6, :2].reshape(2, 20).astype(float), 0)
    share = heat / heat.sum(1, keepdims=True)
    expected = [-sum(p * np.log(p) for p in row if p > 0) for row in share]
    np.testing.assert_allclose(found.entropy[1, 6], np.mean(expected), rtol=1e-6)
    np.testing.assert_allclose(spatial_entropy(values[:1, :, :1])[0, 4], np.log(20), rtol=1e-6)


def test_the_penalty_and_the_largest_number_bound_the_phases():
    values = trajectory(1 + np.random.default_rng(4).normal(size=(6, 31, 2, 8, 8)))
    assert (phases(values, penalty=1e-6).phases == 4).all()
    assert (phases(values, penalty=1e-6, largest=2).phases == 2).all()
    assert (phases(values, penalty=1e6).phases == 1).all()
    moved = values * 3.0  # units don't matter
    np.testing.assert_array_equal(phases(values, penalty=2.0).boundary, phases(moved, penalty=2.0).boundary)
