"""What the claims about resonance come down to, against scenes and courses made by hand."""

import numpy as np
import pytest
import torch
import xarray as xr

import xaikit as xk
from xaikit.clip.towers import tower
from xaikit.evaluation.evidence import (
    alpha_sensitivity,
    arrival,
    band_detail,
    frequency_and_rate,
    has_boundaries,
    has_peak,
    map_quality,
    named_objects,
    own_share,
    passes,
    relation_regions,
    relational_focus,
    resonance_statistics,
    spatial_frequency,
    statistics_of,
    undamped,
)
from xaikit.resonance import coupling as couplings
from xaikit.resonance.end_points import regimes
from xaikit.resonance.modes import dynamic_modes
from xaikit.resonance.recursion import Recursion, read, resonate, steps

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


def squares(*centres, radius=8.0, relation="below", token_object=(-1, 0, 0, -1, 1, -1), group=None):
    """A scene of 64 x 64 pixels with square objects of 2 x 2 patches about the centres (y, x), NaN for none.
    group: the first object that is alike, of each."""
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
            "object_group": (at, np.array([range(len(centres)) if group is None else group])),
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


def test_objects_alike_are_all_a_words_own():
    """ "two red rings": the caption means the first and the third."""
    scene = squares(ONE, OTHER, (40, 40), group=[0, 1, 0])
    places = [(t, row, col) for t in (1, 2, 4) for row, col in ((0, 0), (4, 0), (4, 4))]
    np.testing.assert_allclose(own_share(heat(*places), scene), (2 / 3 + 2 / 3 + 1 / 3) / 3)
    np.testing.assert_allclose(own_share(heat((1, 4, 4)), scene), 1)
    np.testing.assert_allclose(own_share(heat((4, 4, 4)), scene), 0)
    # Which of those alike is said to be named doesn't matter.
    third = scene.assign(token_object=scene.token_object.where(scene.token_object != 0, 2))
    np.testing.assert_allclose(own_share(heat(*places), third), own_share(heat(*places), scene))
    # Places without an object are a group of their own, which no heat reaches.
    padded = squares(ONE, OTHER, NONE, NONE, group=[0, 1, -1, -1])
    np.testing.assert_allclose(own_share(heat(*places), padded), own_share(heat(*places), squares(ONE, OTHER)))


def test_drawn_objects_alike_are_one_anothers_own():
    scenes = xk.draw_scenes(60, seed=4, objects=(3, 5))
    group, there = scenes.object_group.values, scenes.object_name.values != ""
    twins = (group != np.arange(group.shape[1])) & there
    assert twins.any()
    kinds = np.array([[" ".join(str(name).split()[-2:]) for name in row] for row in scenes.object_name.values])
    kinds[~there] = "none"
    tokens = scenes.sizes["token"]
    values = np.ones((60, 2, tokens, 8, 8), np.float32)
    found = own_share(as_trajectory(values).assign_coords(token_text=scenes.token_text), scenes).values[:, 0]
    # Even heat: of the area of all objects, that of all of the named kind, by the pixels.
    area = scenes.object_mask.sum(("y", "x")).values
    for sample in range(60):
        named = scenes.token_object.values[sample]
        own = [area[sample, kinds[sample] == kinds[sample, each]].sum() for each in named[named >= 0]]
        np.testing.assert_allclose(found[sample], np.mean(own) / area[sample].sum(), rtol=1e-5)


def test_named_objects_of_the_words_that_the_scene_has():
    scene = squares(ONE, OTHER)
    assert named_objects(heat(), scene).tolist() == [[-1, 0, 0, -1, 1, -1]]
    cut = heat(words=["a", "red", "ri", "ng", "square", "there", "", ""])
    assert named_objects(cut, scene).tolist() == [[-1, 0, -1, -1, 1, -1, -1, -1]]
    assert named_objects(heat(words=WORDS[:2]), scene).tolist() == [[-1, 0]]


def regions(*arguments, **options):
    """The (part, row, col) of one scene."""
    found = relation_regions(squares(*arguments, **options), (8, 8))
    assert found.dims == ("part", "sample", "row", "col") and found.part.values.tolist() == ["objects", "between"]
    return found.isel(sample=0)


def test_the_regions_of_a_relation_are_its_objects_and_what_lies_between():
    found = regions((8, 8), (56, 8))
    expected = np.zeros((2, 8, 8), bool)
    expected[0, [0, 1, 6, 7], :2] = True
    expected[1, 2:6, :2] = True  # centres 4 pixels off the line, the next 12
    np.testing.assert_array_equal(found, expected)
    # Across: centres at distance |row - col| * 8 / sqrt 2 of the line, of which a radius of 8 lets 0 and 1 in.
    found = regions((12, 12), (52, 52))
    row, col = np.indices((8, 8))
    near = (np.abs(row - col) <= 1) & (1 <= np.minimum(row, col)) & (np.maximum(row, col) <= 6)
    # The objects' squares, pixels 4 to 20 and 44 to 60, touch the patches of rows and columns 0 to 2 and 5 to 7.
    squared = (np.maximum(row, col) <= 2) | (np.minimum(row, col) >= 5)
    np.testing.assert_array_equal(found.sel(part="objects"), squared)
    np.testing.assert_array_equal(found.sel(part="between"), near & ~squared)
    assert found.sel(part="between").sum() == 8  # (3, 3), (4, 4), and those beside the line that touch no square
    assert not found.all("part").any()


def test_between_is_as_wide_as_the_smaller_object_and_ends_with_them():
    scene = squares((32, 8), (32, 56))

    def column(made, part="between"):
        return relation_regions(made, (8, 8)).sel(part=part)[0, :, 4].values.tolist()

    assert column(scene) == [False] * 3 + [True] * 2 + [False] * 3
    assert column(scene.assign(object_radius=scene.object_radius * 2)) == [False] * 2 + [True] * 4 + [False] * 2
    for radii in ([16.0, 8.0], [8.0, 16.0]):
        assert column(scene.assign(object_radius=(("sample", "object"), [radii]))) == column(scene)
    assert not any(column(scene, "objects"))
    narrow = regions((32, 16), (32, 48)).sel(part="between")
    assert np.flatnonzero(narrow.any("row")).tolist() == [3, 4]
    turned = regions((32, 48), (32, 16)).sel(part="between")
    np.testing.assert_array_equal(turned, narrow)  # either way round


def test_no_region_without_a_relation_and_third_objects_dont_matter():
    assert not regions(ONE, OTHER, relation="").any()
    two = regions(ONE, OTHER)
    np.testing.assert_array_equal(regions(ONE, OTHER, (40, 40)), two)
    # Patches of 16 x 4 pixels: the objects are rows 0 and 2, columns 0 to 3, with row 1 between.
    expected = np.zeros((2, 4, 16), bool)
    expected[0, [0, 2], :4] = expected[1, 1, :4] = True
    np.testing.assert_array_equal(relation_regions(squares(ONE, OTHER), (4, 16))[:, 0], expected)


def test_scenes_of_one_object_have_no_region():
    one = squares(ONE, relation="", token_object=(-1, 0, 0, -1, -1, -1))
    assert one.sizes["object"] == 1 and not relation_regions(one, (8, 8)).any()
    assert np.isnan(relational_focus(heat((1, 0, 0)), one)).all()
    drawn = xk.draw_suite("single", 2, seed=0)
    assert not relation_regions(drawn, (8, 8)).any()
    blank = np.zeros((2, T + 1, drawn.sizes["token"], 8, 8))
    assert np.isnan(own_share(as_trajectory(blank + 1).assign_coords(token_text=drawn.token_text), drawn)).all()


def test_a_drawn_relation_is_between_the_first_two_objects():
    scenes = xk.draw_scenes(40, seed=3, objects=(1, 4))
    related = scenes.relation.values != ""
    assert related.any() and not related.all()
    named = scenes.object_named.values
    assert named[related, :2].all() and not named[related, 2:].any()
    found = relation_regions(scenes, (8, 8))
    np.testing.assert_array_equal(found.sel(part="objects").any(("row", "col")), related)
    np.testing.assert_array_equal(found.sample, scenes.sample)


def moving(first, then, at=5):
    """Heat of three words on one patch until an iteration, then more of it on another."""
    values = np.zeros((1, T + 1, 6, 8, 8))
    values[0, :at, :3, *first] = 2
    values[0, at:, :3, *then] = 7
    return values


AWAY, BETWEEN, ON = (0, 7), (3, 0), (4, 1)


@pytest.mark.parametrize(
    "first, then, at, expected",
    [
        (AWAY, BETWEEN, 5, [0, 1]),
        (AWAY, ON, 5, [1, 0]),
        (ON, BETWEEN, 5, [-1, 1]),
        (BETWEEN, AWAY, 5, [0, -1]),
        (AWAY, BETWEEN, 6, [0, 10 / 11]),  # of the iterations 5 to 15
        (AWAY, BETWEEN, 4, [0, 1 - 1 / 5]),  # of 0 to 4
        (AWAY, BETWEEN, 15, [0, 1 / 11]),
        (AWAY, BETWEEN, 16, [0, 0]),  # too late for either span
        (AWAY, BETWEEN, 0, [0, 0]),
    ],
)
def test_relational_focus_of_heat_that_moves(first, then, at, expected):
    found = relational_focus(as_trajectory(moving(first, then, at)), squares(ONE, OTHER))
    assert found.dims == ("part", "sample")
    np.testing.assert_allclose(found.sel(part=["objects", "between"])[:, 0], expected, atol=1e-12)


def test_relational_focus_is_of_all_words_heat():
    values = moving(AWAY, BETWEEN)
    values[0, 5:, 0, *AWAY] = 7  # one of three words has as much elsewhere
    np.testing.assert_allclose(relational_focus(as_trajectory(values), squares(ONE, OTHER))[:, 0], [0, 0.75])
    assert np.isnan(relational_focus(as_trajectory(values), squares(ONE, OTHER, relation=""))).all()


def test_relational_focus_needs_a_patch_between():
    touching = squares((8, 8), (24, 8))
    found = relational_focus(as_trajectory(moving(AWAY, (1, 0))), touching)
    np.testing.assert_allclose(found.sel(part="objects"), [1])
    assert np.isnan(found.sel(part="between")).all()


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


def test_a_pattern_is_flat_by_its_own_power_alone():
    """However faint it is beside the others: amplitudes of a fast decay are."""
    patterns = np.stack([1e6 * cosine(1, 0), 1e-6 * cosine(0, 3), 1e-6 * (5 + cosine(2, 0)), np.full((8, 8), 1e6 / 3)])
    found = spatial_frequency(patterns)
    np.testing.assert_allclose(found, [1 / 8, 3 / 8, 2 / 8, NAN], rtol=1e-6)
    np.testing.assert_allclose(spatial_frequency(1e-9 * patterns), found)


SMOOTH, FINE = 1 + 0.5 * cosine(1, 0), 1 + 0.5 * cosine(3, 3)


def wave(cycles, size=1.0):
    """A cosine of so many cycles that is even about the middle of time, so that no trend is in it."""
    return size * np.cos(2 * np.pi * cycles * (TIME - T / 2) / (T + 1))[:, None, None]


def test_detail_of_planted_bands():
    """Patterns of positive weights, so that amplitudes are the patterns themselves."""
    low, middle, high = wave(2), wave(5) + wave(6), wave(9)
    middling = 1 + 0.5 * cosine(0, 2)
    rising = low * SMOOTH + middle * middling + high * FINE
    falling = low * FINE + middle * middling + high * SMOOTH
    values = np.zeros((2, T + 1, 3, 8, 8))
    values[0, :, 0], values[0, :, 1] = rising, 0.1 * rising
    values[1, :, 0] = falling
    found = band_detail(as_trajectory(values))
    assert found.dims == ("sample", "band") and found.shape == (2, 3)
    # The window spreads each wave over its two neighbours (1 to 3, 4 to 7, 8 to 10 of 21): none leaves its band.
    expected = np.array([1, 2, np.hypot(3, 3)]) / 8
    np.testing.assert_allclose(found, [expected, expected[::-1]], rtol=1e-3)


def test_words_without_a_map_and_flat_scenes_leave_no_detail():
    values = np.zeros((2, T + 1, 2, 8, 8))
    values[0, :, 0] = sum(wave(k) for k in (2, 5, 6, 9)) * SMOOTH
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


def fading(cycles, moduli, sizes=None):
    """One sample: a damped cosine for each word, about a constant that it approaches."""
    cycles, moduli = np.array(cycles)[:, None], np.array(moduli)[:, None]
    swing = moduli**TIME * np.cos(2 * np.pi * cycles * TIME + 0.5)
    course = 2 + swing * (1 if sizes is None else np.array(sizes)[:, None])
    return course.T[None, :, :, None, None] * np.ones((1, 1, 1, 8, 8))


def rate_of(values):
    trajectory = as_trajectory(values)
    return frequency_and_rate(dynamic_modes(trajectory, rank=3, ranks=[3]), trajectory)


CYCLES, FADES = (0.1, 0.16, 0.22, 0.3, 0.4), (0.86, 0.76, 0.65, 0.5, 0.3)


def test_words_whose_faster_swings_fade_faster_correlate_and_slower_the_other_way():
    both = np.concatenate([fading(CYCLES, FADES), fading(CYCLES, FADES[::-1])])
    arrived = arrival(both)
    assert (np.diff(arrived[0]) < 0).all() and (np.diff(arrived[1]) > 0).all()  # rates are one over these
    np.testing.assert_allclose(rate_of(both), [1, -1])
    padded = np.concatenate([both, np.zeros_like(both[:, :, :3])], 2)
    np.testing.assert_allclose(rate_of(padded), [1, -1])
    # Neither order nor size matters; one exchange of neighbours leaves 1 - 6 * 2 / (5 * 24).
    shuffled = fading(np.array(CYCLES)[[1, 0, 2, 3, 4]], np.array(FADES)[[1, 0, 2, 3, 4]], [1, 1, 9, 1, 0.1])
    np.testing.assert_allclose(rate_of(shuffled), [1])
    np.testing.assert_allclose(rate_of(fading(np.array(CYCLES)[[1, 0, 2, 3, 4]], FADES)), [0.9])


def test_the_rate_of_words_is_of_the_swing_and_not_of_the_lowest_frequency():
    """Each word also decays plainly, by more than it swings: its Fourier spectrum is largest at the lowest frequency."""
    decay = 3 * 0.5 ** TIME[:, None, None] * np.random.default_rng(2).normal(size=(8, 8))
    values = 2 + 4 * (fading(CYCLES, FADES) - 2) + decay[None, :, None]
    np.testing.assert_allclose(rate_of(values), [1], atol=0.11)


def test_words_that_only_decay_have_no_rate_of_swinging():
    moduli = np.array([0.9, 0.8, 0.7, 0.6, 0.5])[:, None]
    for course in (2 + moduli**TIME, 2 + (-moduli) ** TIME):  # straight, and to and fro, which isn't of a pair
        values = course.T[None, :, :, None, None] * np.ones((1, 1, 1, 8, 8))
        assert np.isnan(rate_of(values)).all()


def test_frequency_and_rate_need_four_swinging_words_that_differ():
    four = [np.array(each)[:4] for each in (CYCLES, FADES)]
    still = np.concatenate([fading(CYCLES[:3], FADES[:3]), np.full((1, T + 1, 2, 8, 8), 3.0)], 2)
    alike = np.repeat(fading(CYCLES[:1], FADES[:1]), 5, 2)
    found = [rate_of(each)[0] for each in (fading(*four), fading(CYCLES[:3], FADES[:3]), still, alike)]
    np.testing.assert_allclose(found, [1, NAN, NAN, NAN])


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
        assert list(found.data_vars) == ["energy", "slow_share", "arrival", "entropy"]
        assert found.sizes == {"sample": 3} and np.isfinite(found.to_dataarray()).all()
        xr.testing.assert_allclose(found, expected)
    assert abs(found - statistics_of(clip, drawn, **options)).to_dataarray().max() > 0


def test_passes_are_the_blocks_run_again(clip, drawn, monkeypatch):
    """Counted: a word and iteration takes a run of the last blocks."""
    total = len(tower(clip, "image").blocks)
    runs = []
    original = couplings.encoder
    monkeypatch.setattr(
        couplings, "encoder", lambda gate, *rest: runs.append(len(gate) * len(rest[3])) or original(gate, *rest)
    )
    for block in (-2, 0, -1):
        runs.clear()
        course = resonate(clip, drawn.image, drawn.caption, coupling="encoder", iterations=2, block=block).trajectory
        found = passes(clip, course, "encoder", block)
        assert found.shape == (3,) and len(set(found)) > 1  # captions of several lengths
        np.testing.assert_allclose(found.sum(), 3 + sum(runs) / total)
    words = (drawn.token_text.values != "").sum(1)
    np.testing.assert_allclose(found, 1 + words * 2 / total)
    for coupling in ("none", "attention"):
        assert passes(clip, course, coupling).tolist() == [1, 1, 1]


def test_map_quality_of_heat_put_by_hand():
    """Energy on the named object and a last map off it, and the other way round."""
    scene = squares(ONE, OTHER).assign(object_named=(("sample", "object"), [[True, False]]))
    on, off = np.zeros((2, 8, 8))
    on[:2, :2], off[4:6, :2] = 1, 1
    swing = np.cos(2 * np.pi * 5 * TIME / (T + 1))[:, None, None]
    swing = swing - swing[-1]  # nothing of it in the last map
    both = np.concatenate(
        [spoken((swing * a + b)[None, :, None] * np.ones((1, 1, 6, 1, 1))) for a, b in ((on, off), (off, on))]
    )
    scenes = xr.concat([scene, scene.assign_coords(sample=[1])], "sample")
    found = map_quality(as_trajectory(both), scenes)
    assert found.columns.tolist() == ["resonance energy", "last map"] and found.index.name == "sample"
    energy, last = found["resonance energy"].values, found["last map"].values
    np.testing.assert_allclose([energy[0], last[1]], 1)
    assert energy[1] <= 4 / 8 and last[0] == 4 / 64  # behind the other four patches; no heat at all


def test_map_quality_is_that_of_the_methods(clip, drawn):
    course = resonate(clip, drawn.image, drawn.caption).trajectory
    found = map_quality(course, drawn)
    for method, column in (("srm", "resonance energy"), ("srm_fixed_point", "last map")):
        scores = xk.evaluate(
            xk.explain(method, clip, drawn.image, drawn.caption), clip, drawn, metrics=["average_precision"]
        )
        np.testing.assert_allclose(found[column], scores.average_precision.values.ravel(), rtol=1e-4)


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
    alphas, temperatures, points = [0.5, 1.8], [0.5, 0.8, 2.0], 60
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
    assert found.settled.iloc[2] == 1 and found.cycling.iloc[3] > 0 and 0 < found.single_patch.iloc[0] < 1


def test_regimes_weigh_each_word_alike_in_any_batches(clip, drawn):
    whole = regimes(clip, drawn.image, drawn.caption, [0.5, 1.8], [0.5])
    parts = regimes(clip, drawn.image, drawn.caption, [0.5, 1.8], [0.5], batch_size=2)
    np.testing.assert_allclose(parts, whole)
    assert (np.diff(clip.content(clip.tokens(drawn.caption)).sum(1)) != 0).any()
    with pytest.raises(ValueError, match="alpha=2.5: a number above 0 and below 2"):
        regimes(clip, drawn.image, drawn.caption, [0.5, 2.5], [0.5])
