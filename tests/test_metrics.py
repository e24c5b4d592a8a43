"""Metrics against closed forms, invariances, and the library that has the same metric."""

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from xaikit.measures import intervals, localisation, maps, words


@pytest.fixture
def covered():
    mask = np.zeros((2, 64, 64), bool)
    mask[0, 8:24, 16:32] = True  # exactly 2 x 2 patches
    mask[1, 40:44, 40:44] = True  # a quarter of one patch
    return localisation.coverage(mask, (8, 8))


def test_coverage_counts_pixels(covered):
    assert covered[0, 1:3, 2:4].tolist() == [[1, 1], [1, 1]] and covered[0].sum() == 4
    assert covered[1, 5, 5] == 0.25 and covered[1].sum() == 0.25


def test_coverage_on_grids_that_do_not_divide():
    mask = np.zeros((30, 30), bool)
    mask[16:24, :10] = True
    assert localisation.coverage(mask, (3, 3)).sum() * 100 == pytest.approx(mask.sum())
    seen = localisation.coverage(mask, (3, 3), (24 / 30, 24 / 30))  # patches of 8 pixels cover 24 of 30
    np.testing.assert_allclose(seen[2], [1, 0.25, 0], atol=1e-12)
    assert seen[:2].sum() == 0


def test_the_mask_itself_is_a_perfect_map(covered):
    for metric in (localisation.pointing_game, localisation.iou_best, localisation.iou_otsu):
        np.testing.assert_allclose(metric(covered, covered)[0], 1)
    np.testing.assert_allclose(localisation.energy(covered, covered), [1, 0.25])


def test_a_flat_map_gets_its_chance(covered):
    flat = np.ones((2, 8, 8))
    np.testing.assert_allclose(localisation.energy(flat, covered), [4 / 64, 0.25 / 64])
    np.testing.assert_allclose(localisation.pointing_game(flat, covered), [4 / 64, 1 / 64])
    np.testing.assert_allclose(localisation.iou_best(flat, covered), [4 / 64, 0.25 / 64])


def test_a_map_elsewhere_gets_nothing_and_an_empty_one_is_no_error(covered):
    away = np.where(covered > 0, 0.0, 1.0)
    for metric in (localisation.pointing_game, localisation.energy, localisation.iou_otsu):
        assert (metric(away, covered) == 0).all()
    assert (localisation.energy(0 * away, covered) == 0).all()


def test_only_the_order_of_values_matters_for_pointing_and_best_iou(covered):
    heat = np.random.default_rng(0).random((2, 8, 8))
    for metric in (localisation.pointing_game, localisation.iou_best):
        np.testing.assert_allclose(metric(heat, covered), metric(np.exp(3 * heat), covered))


def test_otsu_agrees_with_scikit_image():
    rng = np.random.default_rng(1)
    drawn = np.concatenate([rng.normal(0, 1, (20, 4, 8)), rng.normal(4, 1, (20, 4, 8))], axis=1)
    ours = maps.otsu_threshold(drawn)
    for heat, threshold in zip(drawn, ours, strict=True):
        theirs = threshold_otsu(heat, nbins=4096)
        assert ((heat > threshold) == (heat > theirs)).mean() > 0.98


def test_ranks_follow_heat_and_break_ties_alike():
    heat = np.array([[[0.1, 0.9], [0.5, 0.5]]])
    place = maps.ranks(np.repeat(heat, 3, 0))
    assert place[0, 1] == 0 and place[0, 0] == 3 and sorted(place[0, 2:]) == [1, 2]
    assert (place == place[0]).all()


def test_content_share():
    text = np.array([["a", "red", "ring", ","], ["the", "cross", "", ""]])
    heat = np.array([[[1.0, 2, 1, 0]], [[3.0, 1, 9, 9]]])
    np.testing.assert_allclose(words.content_share(heat, text)[:, 0], [0.75, 0.25])
    assert np.isnan(words.content_share(-heat, text)).all()  # of no heat no share lies anywhere


@pytest.mark.parametrize("n", [3, 5, 40])
def test_intervals_cover_the_mean_of_known_samples(n):
    """Over 400 draws of n normal samples the 95 % interval holds the true mean in 92 to 98 %, of few samples, too."""
    drawn = np.random.default_rng(2).normal(1.0, 2.0, (400, n))
    found = np.array([intervals.mean_interval(np.append(each, np.nan)) for each in drawn])
    np.testing.assert_allclose(found[:, 0], drawn.mean(1))
    assert 0.92 <= ((found[:, 1] <= 1.0) & (found[:, 2] >= 1.0)).mean() <= 0.98


def test_average_precision_is_that_of_scikit_learn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    heat = rng.integers(0, 6, (20, 8, 8)) / 6  # many ties
    truth = rng.random((20, 8, 8)) * (rng.random((20, 8, 8)) < 0.2)
    ours = localisation.average_precision(heat, truth)
    right = (truth >= localisation.TOUCHED).reshape(20, -1)
    theirs = [average_precision_score(t, h.ravel()) for t, h in zip(right, heat, strict=True)]
    np.testing.assert_allclose(ours, theirs)
    assert np.isnan(localisation.average_precision(heat[0], np.zeros((8, 8))))
    np.testing.assert_allclose(localisation.average_precision(np.ones((20, 8, 8)), truth), right.mean(1))


def test_smallest_share_asks_for_every_named_object():
    covered = np.zeros((1, 3, 4, 4))
    covered[0, 0, 0, :2], covered[0, 1, 3], covered[0, 2, 2, 0] = 1, 1, 1
    named = np.array([[True, True, False]])
    both = covered[0, :2].sum(0)
    one, flat, uneven = covered[0, 0], np.ones((4, 4)), 3 * covered[0, 0] + covered[0, 1]
    heat = np.stack([both, one, flat, uneven, 0 * both, -both])[None]
    # 3 * 2 and 1 * 4 of 10, whose fair shares are 1/3 and 2/3
    np.testing.assert_allclose(localisation.smallest_share(heat, covered, named)[0], [1, 0, 6 / 16, 0.4 * 3 / 2, 0, 0])
    assert np.isnan(localisation.smallest_share(heat, covered, np.array([[True, False, False]]))).all()


def test_coverage_of_many_masks_is_that_of_each():
    masks = np.random.default_rng(0).random((70, 5, 24, 24)) < 0.3
    together = localisation.coverage(masks, (3, 3))
    assert together.shape == (70, 5, 3, 3)
    np.testing.assert_array_equal(together[69, 4], localisation.coverage(masks[69, 4], (3, 3)))


def test_patch_auroc_is_that_of_scikit_learn_and_free_of_area():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    heat, truth = rng.integers(0, 6, (2, 20, 8, 8))[0] / 6, rng.random((20, 8, 8)) < 0.2
    theirs = [roc_auc_score(t.ravel(), h.ravel()) for h, t in zip(heat, truth, strict=True)]
    np.testing.assert_allclose(localisation.auroc(heat, truth.astype(float)), theirs)
    noise = rng.random((400, 8, 8))
    for share in (0.02, 0.5):
        few = (np.arange(64).reshape(8, 8) < 64 * share).astype(float)
        assert localisation.auroc(noise, few).mean() == pytest.approx(0.5, abs=0.05)
    assert all(np.isnan(localisation.auroc(noise[0], np.full((8, 8), value))) for value in (0.0, 1.0))
