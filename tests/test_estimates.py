"""Tests, intervals and detectable effects of estimates, against scipy and against draws with a known truth."""

import numpy as np
import pytest
import xarray as xr
from refusals import refused
from scipy import stats

import xaikit as xk
from xaikit.measures import intervals
from xaikit.measures.estimates import auroc_of, difference_of, discoveries, mean_of, mean_over_draws, share_of, wilson

RNG = np.random.default_rng(3)
VALUES, OTHER = RNG.normal(0.3, 1, 25), RNG.normal(0, 2, 14)


def test_a_mean_is_tested_by_students_t():
    found = mean_of(np.append(VALUES, np.nan))
    assert found.above(0.1) == pytest.approx(stats.ttest_1samp(VALUES, 0.1, alternative="greater").pvalue, abs=1e-4)
    assert found.below(0.1) == pytest.approx(stats.ttest_1samp(VALUES, 0.1, alternative="less").pvalue, abs=1e-4)
    np.testing.assert_allclose(found.interval(0.9), stats.ttest_1samp(VALUES, 0).confidence_interval(0.9))
    assert found.within(1) == max(found.above(-1), found.below(1)) and found.within(0) == 1


def test_groups_that_need_not_vary_alike_are_tested_by_welchs():
    found = difference_of(VALUES, OTHER)
    expected = stats.ttest_ind(VALUES, OTHER, equal_var=False, alternative="greater")
    assert found.above(0) == pytest.approx(expected.pvalue, abs=1e-4) and found.n == 14
    assert difference_of(VALUES, OTHER[:1]).above(0) == 1


@pytest.mark.parametrize("ones, n", [(0, 32), (32, 32), (20, 32)])
def test_a_share_is_tested_as_its_interval_says(ones, n):
    found = share_of(np.repeat([1.0, 0.0], [ones, n - ones]))
    expected = stats.binomtest(ones, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(found.interval(), (expected.low, expected.high), atol=1e-12)
    low, high = found.interval()
    assert ones == 0 or found.above(low) == pytest.approx(0.025, abs=1e-4)
    assert ones == n or found.below(high) == pytest.approx(0.025, abs=1e-4)
    assert np.isnan(wilson(1.0, 0)).all()  # nothing is known of none


def test_what_is_all_the_same_is_decided_and_what_is_unknown_isnt():
    same = mean_of(np.zeros(12))
    assert same.above(0) == same.below(0) == 1 and same.within(0.01) == 0 and same.detectable() == 0
    for few in (np.array([]), np.array([1.0])):
        assert mean_of(few).above(0) == mean_of(few).below(0) == 1


def test_an_effect_as_large_as_the_detectable_one_is_found_in_four_of_five():
    noise = np.random.default_rng(0).normal(0, 1, (600, 30))
    for level in (0.05, 0.001):
        effect = np.mean([mean_of(each).detectable(level) for each in noise])
        found = np.mean([2 * mean_of(each + effect).above(0) <= level for each in noise])
        assert found == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("draws", [2, 3, 12])
@pytest.mark.parametrize("of_samples, of_draws", [(1.0, 0.0), (0.2, 1.0), (0.5, 0.5)])
def test_the_interval_of_samples_that_share_draws_covers_the_truth_over_both(of_samples, of_draws, draws):
    """With the samples' error alone it covers a truth of 0 in 45 of 100 cases where twelve draws matter as much."""
    generator, covered, sure = np.random.default_rng(0), [], []
    for _ in range(500):
        values = of_samples * generator.normal(size=(30, 1)) + of_draws * generator.normal(size=draws)
        found = mean_over_draws(values + generator.normal(size=(30, draws)))
        low, high = found.interval()
        covered.append(low <= 0 <= high)
        sure.append(min(found.above(0), found.below(0)) < 0.0005)
    assert np.mean(covered) > 0.92 and np.mean(sure) < 0.01
    assert draws < 5 or np.mean(covered) < 0.99  # of few draws it may be wider than need be


def test_that_all_draws_say_the_same_is_no_certainty():
    few, many = (mean_over_draws(np.ones((40, draws)), 1.0, (-1, 1)).interval()[0] for draws in (3, 20))
    assert few < 0 < 0.7 < many < 0.9


def test_of_a_single_draw_that_samples_share_nothing_is_known():
    found = mean_over_draws(VALUES[:, None] + 9)
    assert np.isnan(found.error) and found.above(0) == 1 and found.value == pytest.approx(VALUES.mean() + 9)
    assert mean_over_draws(np.ones((1, 5))).above(0) == 1 and mean_over_draws(np.full((3, 2), np.nan)).n == 0
    alike = mean_over_draws(np.tile(VALUES[:, None], (1, 6)))
    assert alike.interval() == pytest.approx(mean_of(VALUES).interval())


def test_an_auroc_less_its_controls():
    first, second = RNG.normal(1, 1, 40), RNG.normal(0, 1, 40)
    found = auroc_of(first, second)
    assert found.value == pytest.approx((first[:, None] > second).mean()) and found.above(0.5) < 1e-3
    assert auroc_of(first, second, first, second).value == 0
    assert auroc_of(first + 99, second).error > 0  # also where nothing is amiss


def test_discoveries_are_those_of_benjamini_and_hochberg():
    values = np.array([0.01, 0.02, 0.03, 0.9])
    np.testing.assert_allclose(discoveries(values), [0.04, 0.04, 0.04, 0.9])
    np.testing.assert_allclose(discoveries(np.append(values, np.nan)), [0.04, 0.04, 0.04, 0.9, np.nan])
    assert discoveries(np.full((2, 2), np.nan)).shape == (2, 2)


def test_no_interval_passes_what_a_metric_can_be(clip, tmp_path):
    """Three right and one nearly: Student's t alone would go on beyond 1."""
    values = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.7, 0.0]])
    scores = xr.Dataset({"auroc": (("sample", "explainer"), values)}, {"explainer": ["good", "bad"]})
    assert intervals.summary(scores).high[0] > 1 and intervals.paired_difference(scores.auroc, "good", "bad")[2] > 1
    scores.auroc.attrs["limits"] = [0.0, 1.0]
    scores.to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "scores.nc", engine="h5netcdf") as stored:
        assert intervals.summary(stored).high[0] == 1 == intervals.paired_difference(stored.auroc, "good", "bad")[2]
        assert intervals.paired_difference(stored.auroc, "bad", "good")[1] == -1
        good, bad = (stored.auroc.sel(explainer=name) for name in ("good", "bad"))
        assert intervals.score_interval(good)[2] == 1
        # A difference of scores has other limits than they have, though xarray keeps their attributes.
        assert intervals.mean_interval(bad - good)[0] < -0.9 and intervals.mean_interval(good - good)[1] <= 0
        assert intervals.mean_interval(bad - good)[1] < -1
    scenes = xk.draw_scenes(2, seed=0)
    heat = xk.explain(["edge", "centre"], clip, scenes.image, scenes.caption)
    assert xk.evaluate(heat, clip, scenes, metrics="energy").energy.attrs["limits"] == [0, 1]


@pytest.mark.parametrize(
    "ask", [intervals.leaders, lambda scores: intervals.above_controls(scores.to_dataset(), ["spread"], ["edge"])]
)
def test_nothing_is_ranked_where_neither_end_is_better(ask):
    scores = xr.DataArray(np.eye(3)[:, :2], {"explainer": ["srm", "edge"]}, ("sample", "explainer"), "spread")
    message = "spread: neither end is better, so nothing can be ranked by it"
    refused(message, ask, scores.assign_attrs(score_direction="neither"))
