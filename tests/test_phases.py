"""Phases of trajectories: planted ones come back, what has none has one."""

import numpy as np
import pytest
import xarray as xr

from xaikit.measures.maps import spatial_entropy
from xaikit.resonance.change_points import phases

DIMS = ("sample", "time", "token", "row", "col")


def trajectory(values):
    return xr.DataArray(np.asarray(values, np.float32), dims=DIMS)


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


def test_wrong_input_is_named():
    values = trajectory(np.ones((1, 21, 1, 2, 2)))
    with pytest.raises(ValueError, match="largest=0"):
        phases(values, largest=0)
    with pytest.raises(ValueError, match="penalty=-1"):
        phases(values, penalty=-1)
    with pytest.raises(ValueError, match="3 iterations"):
        phases(values[:, :4])
