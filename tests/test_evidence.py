"""What the claims about resonance come down to, against scenes and courses made by hand."""

import numpy as np
import pytest
import torch
import xarray as xr

import xaikit as xk
from xaikit.resonance import Recursion, dynamic_modes, resonate
from xaikit.resonance.evidence import (
    alpha_sensitivity,
    arrival,
    band_detail,
    frequency_and_rate,
    has_boundaries,
    has_peak,
    own_share,
    relation_region,
    relational_focus,
    resonance_statistics,
    spatial_frequency,
    statistics_of,
    undamped,
)
from xaikit.resonance.recursion import read, steps
from xaikit.resonance.stability import regimes

T = 20
TIME = np.arange(T + 1)
NAN = np.nan
WORDS = ["a", "red", "ring", "below", "square", "there"]


@pytest.fixture(scope="module")
def clip():
    return xk.load_clip("tiny-clip")


@pytest.fixture(scope="module")
def drawn():
    return xk.draw_scenes(3, seed=2, objects=(2, 3))


def as_trajectory(values):
    dims = ("sample", "time", "token", "row", "col")
    values = np.asarray(values, np.float32)
    return xr.DataArray(values, {"sample": np.arange(len(values)), "time": np.arange(values.shape[1])}, dims)


def squares(*centres, radius=8.0, relation="below", token_object=(-1, 0, 0, -1, 1, -1)):
    """A scene of 64 x 64 pixels with square objects of 2 x 2 patches about the centres (y, x), NaN for none."""
    mask = np.zeros((1, len(centres), 64, 64), bool)
    for each, (y, x) in zip(mask[0], centres, strict=True):
        if np.isfinite(y):
            each[int(y) - 8 : int(y) + 8, int(x) - 8 : int(x) + 8] = True
    at, place = ("sample", "object"), np.array(centres, float)
    return xr.Dataset(
        {
            "object_mask": ((*at, "y", "x"), mask),
            "object_y": (at, place[None, :, 0]),
            "object_x": (at, place[None, :, 1]),
            "object_radius": (at, np.where(np.isfinite(place[None, :, 0]), radius, NAN)),
            "token_object": (("sample", "token"), np.array([token_object])),
            "token_text": (("sample", "token"), np.array([WORDS])),
            "relation": ("sample", np.array([relation])),
        },
        {"sample": [0]},
    )


NONE = (NAN, NAN)
# Objects on patches (0, 0) to (1, 1) and (4, 0) to (5, 1).
ONE, OTHER = (8, 8), (40, 8)


def spoken(values, words=WORDS):
    """A trajectory with these words for its tokens."""
    return as_trajectory(values).assign_coords(token_text=(("sample", "token"), np.array([words])))


def heat(*places, words=WORDS):
    """A trajectory of one sample, heat 1 for token t at patch (row, col) for each (t, row, col), at all times."""
    values = np.zeros((1, T + 1, len(words), 8, 8))
    for token, row, col in places:
        values[0, :, token, row, col] += 1
    return spoken(values, words)


@pytest.mark.parametrize(
    "places, expected",
    [
        ([(1, 0, 0), (2, 1, 1), (4, 4, 1)], 1),
        ([(1, 4, 0), (2, 5, 1), (4, 1, 1)], 0),
        ([(t, row, col) for t in (1, 2, 4) for row in (0, 4) for col in (0, 1)], 0.5),
        ([(1, 0, 0), (2, 0, 0), (4, 0, 0)], 2 / 3),  # two words on their own, one on the other's
        ([(1, 0, 0), (2, 0, 0), (2, 4, 0), (2, 4, 1), (2, 5, 1), (4, 4, 0)], (1 + 0.25 + 1) / 3),
        ([(1, 0, 0), (2, 0, 0), (4, 4, 0), *[(1, 7, 7)] * 9], 1),  # the background's heat doesn't count
        ([(1, 0, 0), (2, 0, 0), (4, 4, 0), *[(0, 4, 0)] * 9, *[(5, 0, 0)] * 9], 1),  # words that name nothing
    ],
)
def test_own_share_of_heat_put_by_hand(places, expected):
    found = own_share(heat(*places), squares(ONE, OTHER))
    assert found.dims == ("sample", "time") and found.shape == (1, T + 1)
    np.testing.assert_allclose(found, expected)


def test_own_share_follows_time_and_leaves_negative_heat_out():
    values = heat((1, 0, 0), (2, 0, 0), (4, 4, 0)).values.copy()
    values[0, 5:] = values[0, 5:, :, ::-1]  # upside down: rows 7 and 3, no object's
    values[0, 5:, [1, 2, 4], 4, 0] += 1
    values[0, :, :, 1, 1] -= 9
    found = own_share(spoken(values), squares(ONE, OTHER)).values[0]
    np.testing.assert_allclose(found[:5], 1)
    np.testing.assert_allclose(found[5:], 1 / 3)


def test_own_share_needs_two_objects_and_a_word_that_names_one():
    whole = heat(*[(t, row, 0) for t in range(6) for row in range(8)])
    assert np.isnan(own_share(whole, squares(ONE, NONE))).all()
    assert np.isnan(own_share(whole, squares(ONE, OTHER, token_object=(-1,) * 6))).all()
    assert np.isnan(own_share(heat((1, 7, 7)), squares(ONE, OTHER))).all()
    np.testing.assert_allclose(own_share(whole, squares(ONE, OTHER)), 0.5)


def test_a_word_without_a_map_has_no_say():
    """As all but the last have under ``words="last"``."""
    np.testing.assert_allclose(own_share(heat((4, 4, 0)), squares(ONE, OTHER)), 1)
    np.testing.assert_allclose(own_share(heat((4, 4, 0), (4, 0, 0)), squares(ONE, OTHER)), 0.5)


def test_words_that_a_model_cuts_otherwise_name_nothing():
    scene = squares(ONE, OTHER)
    places = [(1, 0, 0), (2, 0, 0), (4, 4, 0)]
    wrong = [(3, 4, 0), (4, 0, 0), (5, 0, 0), (6, 0, 0)]
    cut = ["a", "red", "ri", "ng", "below", "square", "there"]  # "red" alone is where the scene has it
    np.testing.assert_allclose(own_share(heat(places[0], (2, 4, 0), *wrong, words=cut), scene), 1)
    longer = [*WORDS, "", ""]
    np.testing.assert_allclose(own_share(heat(*places, (6, 0, 0), words=longer), scene), 1)
    shorter = WORDS[:3]
    np.testing.assert_allclose(own_share(heat(*places[:2], words=shorter), scene), 1)
    np.testing.assert_allclose(own_share(heat((1, 0, 0), (2, 4, 0), words=shorter), scene), 0.5)


def test_a_third_object_takes_its_share():
    scene = squares(ONE, OTHER, (40, 40))
    places = [(t, row, col) for t in (1, 2, 4) for row, col in ((0, 0), (4, 0), (4, 4))]
    np.testing.assert_allclose(own_share(heat(*places), scene), 1 / 3)


def test_the_region_of_a_relation_is_both_objects_and_what_lies_between():
    found = relation_region(squares((8, 8), (56, 8)), (8, 8))[0]
    expected = np.zeros((8, 8), bool)
    expected[:, :2] = True  # centres 4 pixels off the line, the next 12
    np.testing.assert_array_equal(found, expected)
    # Across: centres at distance |row - col| * 8 / sqrt 2 of the line, of which a radius of 8 lets 0 and 1 in.
    found = relation_region(squares((12, 12), (52, 52)), (8, 8))[0]
    row, col = np.indices((8, 8))
    between = (np.abs(row - col) <= 1) & (1 <= np.minimum(row, col)) & (np.maximum(row, col) <= 6)
    # The objects' squares, pixels 4 to 20 and 44 to 60, touch the patches of rows and columns 0 to 2 and 5 to 7.
    squared = (np.maximum(row, col) <= 2) | (np.minimum(row, col) >= 5)
    np.testing.assert_array_equal(found, between | squared)
    assert not found[0, 7] and not found[2, 4] and found[3, 4] and found[3, 3]


def test_the_region_is_as_wide_as_the_smaller_object_and_ends_with_them():
    scene = squares((32, 16), (32, 48))
    wide = relation_region(scene.assign(object_radius=scene.object_radius * 2), (8, 8))[0]
    uneven = scene.assign(object_radius=(("sample", "object"), [[16.0, 8.0]]))
    assert wide[:, 4].tolist() == [False, False, True, True, True, True, False, False]
    assert relation_region(uneven, (8, 8))[0, :, 4].tolist() == [False] * 3 + [True] * 2 + [False] * 3
    narrow = relation_region(scene, (8, 8))[0]
    assert not narrow[:, 0].any() and not narrow[:, 7].any()
    np.testing.assert_array_equal(relation_region(squares((32, 48), (32, 16)), (8, 8))[0], narrow)  # either way round


def test_no_region_without_a_relation_and_third_objects_dont_matter():
    assert not relation_region(squares(ONE, OTHER, relation=""), (8, 8)).any()
    two = relation_region(squares(ONE, OTHER), (8, 8))
    np.testing.assert_array_equal(relation_region(squares(ONE, OTHER, (40, 40)), (8, 8)), two)
    # Patches of 16 x 4 pixels: the objects are rows 0 and 2, columns 0 to 3, with row 1 between.
    expected = np.zeros((4, 16), bool)
    expected[:3, :4] = True
    np.testing.assert_array_equal(relation_region(squares(ONE, OTHER), (4, 16))[0], expected)


def test_a_drawn_relation_is_between_the_first_two_objects():
    scenes = xk.draw_scenes(40, seed=3, objects=(1, 4))
    related = scenes.relation.values != ""
    assert related.any() and not related.all()
    named = scenes.object_named.values
    assert named[related, :2].all() and not named[related, 2:].any()
    region = relation_region(scenes, (8, 8))
    np.testing.assert_array_equal(region.any((1, 2)), related)


def test_relational_focus_of_heat_that_moves_onto_the_region():
    values = np.zeros((1, T + 1, 6, 8, 8))
    values[0, :5, :3, 0, 7] = 2
    values[0, 5:, :3, 3, 0] = 7  # between the objects
    scene = squares(ONE, OTHER)
    # All of it at iterations 5 to 15, one of the six 0 to 5.
    np.testing.assert_allclose(relational_focus(as_trajectory(values), scene), [1 - 1 / 6])
    np.testing.assert_allclose(relational_focus(as_trajectory(values[:, :, :, :, ::-1]), scene), [1 / 6 - 1])
    next_time = values.copy()
    next_time[0, 5] = values[0, 4]
    np.testing.assert_allclose(relational_focus(as_trajectory(next_time), scene), [10 / 11])
    late = np.roll(values, 11, axis=1)  # onto the region at 16: too late for either span
    late[0, :11, :3] = values[0, :1, :3]
    np.testing.assert_allclose(relational_focus(as_trajectory(late), scene), [0])
    values[0, 5:, 0, 0, 7] = 7  # one of three words stays away and another has heat on both: shares of all heat
    np.testing.assert_allclose(relational_focus(as_trajectory(values), scene), [0.75 * (1 - 1 / 6)])
    assert np.isnan(relational_focus(as_trajectory(values), squares(ONE, OTHER, relation=""))).all()


def cosine(down, across, rows=8, cols=8):
    row, col = np.indices((rows, cols))
    return np.cos(2 * np.pi * (down * row / rows + across * col / cols) + 0.3)


def test_spatial_frequency_of_pure_cosines():
    pure = [(1, 0), (0, 3), (2, 1), (3, 3), (-2, 3)]
    found = spatial_frequency(np.stack([5 + 2 * cosine(*each) for each in pure]))
    np.testing.assert_allclose(found, np.hypot(*np.array(pure).T) / 8)
    np.testing.assert_allclose(spatial_frequency(cosine(2, 5, 8, 20)), np.hypot(2 / 8, 5 / 20))
    mixed = cosine(1, 0) + 2 * cosine(0, 3)
    np.testing.assert_allclose(spatial_frequency(mixed), (1 / 8 + 4 * 3 / 8) / 5)  # weighted by power


def test_a_chequerboard_has_the_highest_spatial_frequency_and_a_flat_pattern_none():
    chequers = (-1.0) ** np.indices((8, 8)).sum(0)
    noise = np.random.default_rng(0).normal(size=(100, 8, 8))
    found = spatial_frequency(np.concatenate([chequers[None], noise, np.full((1, 8, 8), 3.7), np.zeros((1, 8, 8))]))
    np.testing.assert_allclose(found[0], np.hypot(0.5, 0.5))
    assert (found[1:-2] < found[0]).all() and np.isnan(found[-2:]).all()


SMOOTH, FINE = 1 + 0.5 * cosine(1, 0), 1 + 0.5 * cosine(3, 3)


def wave(cycles, size=1.0):
    """A cosine of so many cycles that is even about the middle of time, so that no trend is in it."""
    return size * np.cos(2 * np.pi * cycles * (TIME - T / 2) / (T + 1))[:, None, None]


def test_detail_of_planted_bands():
    """Patterns of positive weights, so that amplitudes are the patterns themselves."""
    low, middle, high = wave(2), wave(5), wave(9)
    middling = 1 + 0.5 * cosine(0, 2)
    rising = low * SMOOTH + middle * middling + high * FINE
    falling = low * FINE + middle * middling + high * SMOOTH
    values = np.zeros((2, T + 1, 3, 8, 8))
    values[0, :, 0], values[0, :, 1] = rising, 0.1 * rising
    values[1, :, 0] = falling
    found = band_detail(as_trajectory(values))
    assert found.dims == ("sample", "band") and found.shape == (2, 3)
    # The window spreads each wave over its two neighbours (1 to 3, 4 to 6, 8 to 10 of 21): none leaves its band.
    expected = np.array([1, 2, np.hypot(3, 3)]) / 8
    np.testing.assert_allclose(found, [expected, expected[::-1]], rtol=1e-3)


def test_words_without_a_map_and_flat_scenes_leave_no_detail():
    values = np.zeros((2, T + 1, 2, 8, 8))
    values[0, :, 0] = sum(wave(k) for k in (2, 5, 9)) * SMOOTH
    found = band_detail(as_trajectory(values))
    np.testing.assert_allclose(found[0], 1 / 8, rtol=1e-3)
    assert np.isnan(found[1]).all()


def test_energy_and_slow_share_of_cosines():
    values = np.zeros((3, T + 1, 4, 8, 8))
    values[0, :, 0] = wave(5, 2.0)
    values[1, :, :2] = wave(5, 2.0)[:, None]
    values[1, :, 1] *= 3
    values[2, :, 0] = wave(1)
    found = resonance_statistics(as_trajectory(values))
    # The window leaves a cosine of amplitude A the amplitudes A / 2, A, A / 2 at three frequencies: 1.5 A squared.
    np.testing.assert_allclose(found.energy[:2], [1.5 * 4, 1.5 * (4 + 36) / 2], rtol=1e-5)
    # At the lowest frequency, the first of these is the mean, which is no oscillation.
    np.testing.assert_allclose(found.slow_share, [0, 0, 0.8], atol=1e-6)
    half = values.copy()
    half[0, :, 0, :4] = 0
    np.testing.assert_allclose(resonance_statistics(as_trajectory(half)).energy[0], 1.5 * 4 / 2, rtol=1e-5)


def test_arrival_of_geometric_decays():
    rates = np.array([0.5, 0.8, 0.95])
    values = 3 + rates[:, None, None] ** TIME[:, None, None, None]
    course = values * np.ones((1, T + 1, 3, 8, 8))
    # Step t has size r^(t - 1) (1 - r), all together 1 - r^20.
    sizes = rates[:, None] ** (TIME[1:] - 1) * (1 - rates[:, None])
    expected = (sizes > 0.01 * (1 - rates[:, None] ** T)).sum(1)
    assert expected.tolist() == [6, 14, 20]
    np.testing.assert_array_equal(arrival(course), [expected])
    course = np.concatenate([course, np.zeros((1, T + 1, 2, 8, 8)), np.full((1, T + 1, 1, 8, 8), 2.0)], 2)
    np.testing.assert_array_equal(arrival(course), [[6, 14, 20, 0, 0, 0]])
    # Two padded words don't count, one that never moves does.
    np.testing.assert_allclose(resonance_statistics(as_trajectory(course)).arrival, [(6 + 14 + 20 + 0) / 4])


def test_arrival_is_after_the_last_step_that_counts():
    values = np.ones((1, T + 1, 1, 8, 8))
    values[0, 3:] += 1
    values[0, 17:] += 1
    np.testing.assert_array_equal(arrival(values), [[17]])


def test_entropy_of_the_last_map():
    values = np.random.default_rng(0).uniform(size=(1, T + 1, 4, 8, 8))
    values[0, :, 3] = 0
    values[0, -1] = 0
    values[0, -1, 0], values[0, -1, 1, 2, 2], values[0, -1, 2, 0, :2] = 0.3, 5.0, 1.0
    found = resonance_statistics(as_trajectory(values))
    assert sorted(found.data_vars) == ["arrival", "energy", "entropy", "slow_share"]
    np.testing.assert_allclose(found.entropy, [(np.log(64) + 0 + np.log(2)) / 3], rtol=1e-6)


def test_a_padded_word_changes_no_statistic():
    values = np.random.default_rng(1).uniform(size=(2, T + 1, 3, 8, 8)).cumsum(1)
    padded = np.concatenate([values, np.zeros((2, T + 1, 4, 8, 8))], 2)
    for name, found in resonance_statistics(as_trajectory(padded)).items():
        np.testing.assert_allclose(found, resonance_statistics(as_trajectory(values))[name], rtol=1e-6, err_msg=name)


def words_that_swing(cycles, ends):
    """One sample, a word for each frequency, which swings until its end and then stands still."""
    swings = np.cos(2 * np.pi * np.array(cycles)[:, None] * TIME / (T + 1) + 0.5)
    course = 2 + np.where(TIME < np.array(ends)[:, None], swings, 0)
    return course.T[None, :, :, None, None] * np.ones((1, 1, 1, 8, 8))


def test_frequency_and_rate_have_their_sign():
    cycles, ends = (2, 4, 6, 8, 10), (20, 18, 16, 14, 12)
    both = np.concatenate([words_that_swing(cycles, ends), words_that_swing(cycles, ends[::-1])])
    np.testing.assert_array_equal(arrival(both), [ends, ends[::-1]])
    np.testing.assert_allclose(frequency_and_rate(as_trajectory(both)), [1, -1])
    padded = np.concatenate([both, np.zeros_like(both[:, :, :3])], 2)
    np.testing.assert_allclose(frequency_and_rate(as_trajectory(padded)), [1, -1])
    swapped = both[:1, :, [1, 0, 2, 3, 4]] * [
        [[[1.0]], [[1.0]], [[1.0]], [[1.0]], [[9.0]]]
    ]  # order and size don't matter
    np.testing.assert_allclose(frequency_and_rate(as_trajectory(swapped)), [1])
    one_off = words_that_swing((4, 2, 6, 8, 10), ends)
    np.testing.assert_allclose(frequency_and_rate(as_trajectory(one_off)), [0.9])  # 1 - 6 * 2 / (5 * 24)


def test_frequency_and_rate_need_four_words_that_differ():
    three = words_that_swing((2, 5, 8), (20, 16, 12))
    alike = words_that_swing((2, 4, 6, 8), (13, 13, 13, 13))
    four = words_that_swing((2, 4, 6, 8), (20, 18, 16, 14))
    found = [frequency_and_rate(as_trajectory(each))[0] for each in (three, alike, four)]
    np.testing.assert_allclose(found, [NAN, NAN, 1])


def planted_pair(modulus, cycles=0.2, decay=0.0):
    """A map that a single pair of this modulus makes, on top of a constant and, where asked, a larger plain decay."""
    rng = np.random.default_rng(5)
    turned, back, rest, plain = rng.normal(size=(4, 1, 8, 8))
    angle = 2 * np.pi * cycles * TIME[:, None, None]
    swing = modulus ** TIME[:, None, None] * (np.cos(angle) * turned + np.sin(angle) * back)
    return swing + 5 * rest + (30 * decay ** TIME[:, None, None] * plain if decay else 0)


def test_a_planted_pair_keeps_its_modulus():
    values = np.zeros((4, T + 1, 3, 8, 8))
    values[0, :, 0], values[1, :, 0] = planted_pair(0.9), planted_pair(1.0)
    values[2, :, 0], values[2, :, 1] = planted_pair(0.9), planted_pair(1.0, 0.31)
    values[3, :, :2] = 2 + 0.7 ** TIME[:, None, None, None]  # nothing swings
    found = undamped(dynamic_modes(as_trajectory(values), rank=3, ranks=[3]))
    np.testing.assert_allclose(found, [-0.1, 0, -0.05, NAN], atol=1e-4)


def test_the_pair_counts_and_not_a_plain_decay_of_more_energy():
    values = np.zeros((1, T + 1, 1, 8, 8))
    values[0, :, 0] = planted_pair(0.9, decay=0.6)
    modes = dynamic_modes(as_trajectory(values), rank=3, ranks=[3])
    assert modes.frequency.values[0, 0, 0] == 0  # the most energy doesn't swing
    np.testing.assert_allclose(undamped(modes), [-0.1], atol=1e-3)
    alternating = np.zeros((1, T + 1, 1, 8, 8))
    alternating[0, :, 0] = 2 + (-0.9) ** TIME[:, None, None]  # real and negative: no pair
    assert np.isnan(undamped(dynamic_modes(as_trajectory(alternating), rank=2, ranks=[2]))).all()


def test_of_several_pairs_that_of_most_energy_counts():
    at = ("sample", "token", "mode")
    modes = xr.Dataset(
        {
            "frequency": (at, [[[0.0, 0.2, 0.3], [0.1, 0.5, NAN]]]),
            "energy": (at, [[[9.0, 1.0, 2.0], [1.0, 7.0, 0.0]]]),
            "eigenvalue": (at, [[[1.0, 0.5j, 0.8j], [0.6j, -1.0, NAN]]]),
        }
    )
    np.testing.assert_allclose(undamped(modes), [(-0.2 - 0.4) / 2])


def spectra(*shares, draws=200):
    """Hand-made: the shares of each sample; the weights' null within 0.1 to 0.2, that of captions within 0.1 to 0.3."""
    shares = np.array(shares)
    flat = np.linspace(0, 1, draws)[:, None] * np.ones(shares.shape[1])
    null = np.stack([0.1 + 0.1 * flat, 0.1 + 0.2 * flat])
    return xr.Dataset(
        {"energy_share": (("sample", "frequency"), shares), "null_share": (("null", "draw", "frequency"), null)},
        {"null": ["weights", "captions"]},
    )


def test_a_peak_is_above_both_nulls_and_its_neighbours():
    made = spectra(
        [0.2, 0.2, 0.5, 0.2, 0.2],  # a peak
        [0.2, 0.2, 0.25, 0.2, 0.2],  # above one null
        [0.9, 0.5, 0.4, 0.35, 0.3],  # a decay
        [0.1, 0.2, 0.4, 0.5, 0.6],  # a rise, whose end stands out from its one neighbour
        [0.2, 0.4, 0.4, 0.2, 0.2],  # no higher than its neighbour
        [0.2, 0.2, 0.293, 0.2, 0.2],  # the 97.5 % quantile of the captions' null is 0.295
        [0.2, 0.2, 0.297, 0.2, 0.2],
    )
    assert has_peak(made).tolist() == [1, 0, 0, 1, 0, 0, 1]
    assert has_peak(made.isel(null=[0])).tolist() == [1, 1, 0, 1, 0, 1, 1]


@pytest.mark.parametrize(
    "starts, expected",
    [
        ([0, 5, 15], [1, 1]),
        ([0, 6, 14], [1, 0]),
        ([0, 4, 9, 16], [1, 0]),
        ([0, 5], [0, 0]),
        ([0, 15], [0, 0]),
        ([0, 7, 15], [0, 0]),
        ([0, 10], [0, 0]),
        ([0], [0, 0]),
    ],
)
def test_boundaries_at_both_places(starts, expected):
    boundary = np.array([starts + [-1] * (5 - len(starts))])
    phases = xr.Dataset({"boundary": (("sample", "phase"), boundary)})
    assert [has_boundaries(phases, within=within)[0] for within in (1, 0)] == expected


def test_neither_the_first_phase_nor_a_missing_one_is_a_boundary():
    phases = xr.Dataset({"boundary": (("sample", "phase"), np.array([[0, -1, -1], [0, 1, -1]]))})
    assert has_boundaries(phases, at=(0,), within=1).tolist() == [0, 1]
    assert has_boundaries(phases.isel(phase=[0]), at=(0,)).tolist() == [0, 0]


def test_statistics_of_are_those_of_the_trajectory(clip, drawn):
    options = {"coupling": "none", "alpha": 1.3}
    drawn = drawn.assign(foil=drawn.caption[::-1].drop_vars("sample"))
    for texts in ("caption", "foil"):
        found = statistics_of(clip, drawn, texts, **options)
        course = resonate(clip, drawn.image, drawn[texts], **options).trajectory
        expected = resonance_statistics(course)
        assert found.shape == (3, 4) and np.isfinite(found).all()
        np.testing.assert_allclose(found.T, [expected[name] for name in expected.data_vars])
    assert np.abs(found - statistics_of(clip, drawn, **options)).max() > 0


def test_alpha_sensitivity_is_a_correlation(clip, drawn):
    alphas = [0.3, 0.6, 1.2]
    found = alpha_sensitivity(clip, drawn.image, drawn.caption, alphas)
    assert found.dims == ("sample", "alpha", "other") and found.shape == (3, 3, 3)
    assert found.alpha.values.tolist() == found.other.values.tolist() == alphas
    np.testing.assert_allclose(np.diagonal(found, axis1=1, axis2=2), 1)
    np.testing.assert_allclose(found, found.values.transpose(0, 2, 1))
    assert (np.abs(found) <= 1 + 1e-9).all() and (found.values[:, 0, 2] < 0.999).all()
    first, last = (xk.explain("srm", clip, drawn.image, drawn.caption, alpha=alpha).values for alpha in (0.3, 1.2))
    for sample in range(3):
        ranks = [np.argsort(np.argsort(maps[sample].ravel())) for maps in (first, last)]
        np.testing.assert_allclose(found.values[sample, 0, 2], np.corrcoef(ranks)[0, 1], atol=1e-6)
    again = alpha_sensitivity(clip, drawn.image, drawn.caption, alphas, batch_size=2)
    np.testing.assert_allclose(again, found, atol=1e-3)  # rounding may swap neighbours in rank
    other = alpha_sensitivity(clip, drawn.image, drawn.caption, alphas[:2], coupling="none")
    assert np.abs(other - found[:, :2, :2].values).max() > 1e-3


def test_regimes_are_what_a_word_by_word_account_says(clip, drawn):
    alphas, temperatures, points = [0.5, 1.8], [0.5, 2.0], 60
    found = regimes(clip, drawn.image, drawn.caption, alphas, temperatures, iterations=points)
    assert found.columns.tolist() == ["alpha", "temperature", "settled", "cycling", "single_patch"]
    assert found[["alpha", "temperature"]].values.tolist() == [[a, t] for a in alphas for t in temperatures]
    pixels, tokens = clip.pixels(drawn.image), clip.tokens(drawn.caption)
    for row in found.itertuples():
        recursion = Recursion("attention", row.alpha, points, row.temperature)
        with torch.no_grad():
            features = read(clip, pixels, tokens, recursion)
            course = torch.stack(list(steps(clip, features, recursion)), -1)[features.there].numpy()
        last = course[..., -1]
        size = np.abs(last).max(-1)
        away = np.abs(course[..., :-1] - last[..., None]).max(1) / size[:, None]
        settled = np.abs(course[..., -1] - course[..., -2]).max(1) / size <= 1e-4
        returned = (away[:, ::-1][:, 1:12] < 1e-2).any(1) & (away[:, -1] >= 1e-2)
        single = size > 0.5 * np.abs(last).sum(-1)
        expected = [settled.mean(), (returned & ~settled).mean(), single.mean()]
        np.testing.assert_allclose([row.settled, row.cycling, row.single_patch], expected)
    assert found.settled.iloc[1] == 1 and found.cycling.iloc[2] > 0 and 0 < found.single_patch.iloc[0] < 1


def test_regimes_weigh_each_word_alike_in_any_batches(clip, drawn):
    whole = regimes(clip, drawn.image, drawn.caption, [0.5, 1.8], [0.5])
    parts = regimes(clip, drawn.image, drawn.caption, [0.5, 1.8], [0.5], batch_size=2)
    np.testing.assert_allclose(parts, whole)
    assert (np.diff(clip.content(clip.tokens(drawn.caption)).sum(1)) != 0).any()
    with pytest.raises(ValueError, match="alpha=2.5: a number above 0 and below 2"):
        regimes(clip, drawn.image, drawn.caption, [0.5, 2.5], [0.5])
