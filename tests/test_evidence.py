"""What the notebooks about resonance make of its claims, against scenes and courses made by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from notebook_functions import functions_of
from refusals import refused
from training import guided

import xaikit as xk
from xaikit.clip.towers import tower
from xaikit.evaluation import claims
from xaikit.files.store import read as read_store
from xaikit.resonance import coupling as couplings
from xaikit.resonance.end_points import regimes
from xaikit.resonance.modes import dynamic_modes
from xaikit.resonance.recursion import Recursion, read, resonate, steps

notebook = SimpleNamespace(**vars(functions_of("srm_spectral")) | vars(functions_of("srm_evidence")))
T = 20
TIME = np.arange(T + 1)
NAN = np.nan
WORDS = ["a", "red", "ring", "below", "square", "there"]


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
    return as_trajectory(values).assign_coords(token_text=(("sample", "token"), np.atleast_2d(words)))


def heat(*places, words=WORDS):
    """A trajectory of one sample, heat 1 for token t at patch (row, col) for each (t, row, col), at all times."""
    values = np.zeros((1, T + 1, len(words), 8, 8))
    for token, row, col in places:
        values[0, :, token, row, col] += 1
    return spoken(values, words)


TWO, THREE = squares(ONE, OTHER), squares(ONE, OTHER, (40, 40))
ALIKE = squares(ONE, OTHER, (40, 40), group=[0, 1, 0])  # "two red rings": the caption means the first and the third
EVERY = [(t, row, 0) for t in range(6) for row in range(8)]
EACH = [(t, row, col) for t in (1, 2, 4) for row, col in ((0, 0), (4, 0), (4, 4))]


@pytest.mark.parametrize(
    "places, expected, scene",
    [
        ([(1, 0, 0), (2, 1, 1), (4, 4, 1)], 1, TWO),
        ([(1, 4, 0), (2, 5, 1), (4, 1, 1)], 0, TWO),
        ([(t, row, col) for t in (1, 2, 4) for row in (0, 4) for col in (0, 1)], 0.5, TWO),
        ([(1, 0, 0), (2, 0, 0), (4, 0, 0)], 2 / 3, TWO),  # two words on their own, one on the other's
        ([(1, 0, 0), (2, 0, 0), (2, 4, 0), (2, 4, 1), (2, 5, 1), (4, 4, 0)], (1 + 0.25 + 1) / 3, TWO),
        ([(1, 0, 0), (2, 0, 0), (4, 4, 0), *[(1, 7, 7)] * 9], 1, TWO),  # the background's heat doesn't count
        ([(1, 0, 0), (2, 0, 0), (4, 4, 0), *[(0, 4, 0)] * 9, *[(5, 0, 0)] * 9], 1, TWO),  # words that name nothing
        (EVERY, NAN, squares(ONE, NONE)),  # two objects are needed, and a word that names one
        (EVERY, NAN, squares(ONE, OTHER, token_object=(-1,) * 6)),
        ([(1, 7, 7)], NAN, TWO),
        (EVERY, 0.5, TWO),
        ([(4, 4, 0)], 1, TWO),  # words without a map have no say, as all but the last under words="last"
        ([(4, 4, 0), (4, 0, 0)], 0.5, TWO),
        (EACH, 1 / 3, THREE),  # a third object takes its share
        (EACH, (2 / 3 + 2 / 3 + 1 / 3) / 3, ALIKE),
        ([(1, 4, 4)], 1, ALIKE),
        ([(4, 4, 4)], 0, ALIKE),
        # Which of those alike is said to be named doesn't matter.
        (
            EACH,
            (2 / 3 + 2 / 3 + 1 / 3) / 3,
            ALIKE.assign(token_object=ALIKE.token_object.where(ALIKE.token_object != 0, 2)),
        ),
        # Places without an object are a group of their own, which no heat reaches.
        (EACH, 0.5, squares(ONE, OTHER, NONE, NONE, group=[0, 1, -1, -1])),
    ],
)
def test_own_share_of_heat_put_by_hand(places, expected, scene):
    found = notebook.own_share(heat(*places), scene)
    assert found.dims == ("sample", "time") and found.shape == (1, T + 1)
    np.testing.assert_allclose(found, np.full_like(found, expected))


def test_own_share_follows_time_and_leaves_negative_heat_out():
    values = heat((1, 0, 0), (2, 0, 0), (4, 4, 0)).values.copy()
    values[0, 5:] = values[0, 5:, :, ::-1]  # upside down: rows 7 and 3, no object's
    values[0, 5:, [1, 2, 4], 4, 0] += 1
    values[0, :, :, 1, 1] -= 9
    found = notebook.own_share(spoken(values), squares(ONE, OTHER)).values[0]
    np.testing.assert_allclose(found[:5], 1)
    np.testing.assert_allclose(found[5:], 1 / 3)


RIGHT = [(1, 0, 0), (2, 0, 0), (4, 4, 0)]
CUT = ["a", "red", "ri", "ng", "below", "square", "there"]  # "red" alone is where the scene has it


@pytest.mark.parametrize(
    "places, words, expected",
    [
        ([RIGHT[0], (2, 4, 0), (3, 4, 0), (4, 0, 0), (5, 0, 0), (6, 0, 0)], CUT, 1),
        ([*RIGHT, (6, 0, 0)], [*WORDS, "", ""], 1),
        (RIGHT[:2], WORDS[:3], 1),
        ([(1, 0, 0), (2, 4, 0)], WORDS[:3], 0.5),
    ],
)
def test_words_that_a_model_cuts_otherwise_name_nothing(places, words, expected):
    np.testing.assert_allclose(notebook.own_share(heat(*places, words=words), TWO), expected)


def test_drawn_objects_alike_are_one_anothers_own():
    scenes = xk.draw_scenes(60, seed=4, objects=(3, 5))
    group, there = scenes.object_group.values, scenes.object_name.values != ""
    twins = (group != np.arange(group.shape[1])) & there
    assert twins.any()
    kinds = np.array([[" ".join(str(name).split()[-2:]) for name in row] for row in scenes.object_name.values])
    kinds[~there] = "none"
    tokens = scenes.sizes["token"]
    values = np.ones((60, 2, tokens, 8, 8), np.float32)
    found = notebook.own_share(as_trajectory(values).assign_coords(token_text=scenes.token_text), scenes).values[:, 0]
    # Even heat: of the area of all objects, that of all of the named kind, by the pixels.
    area = scenes.object_mask.sum(("y", "x")).values
    for sample in range(60):
        named = scenes.token_object.values[sample]
        own = [area[sample, kinds[sample] == kinds[sample, each]].sum() for each in named[named >= 0]]
        np.testing.assert_allclose(found[sample], np.mean(own) / area[sample].sum(), rtol=1e-5)


@pytest.mark.parametrize(
    "words, expected",
    [
        (WORDS, [-1, 0, 0, -1, 1, -1]),
        (["a", "red", "ri", "ng", "square", "there", "", ""], [-1, 0, -1, -1, 1, -1, -1, -1]),
        (WORDS[:2], [-1, 0]),
    ],
)
def test_named_objects_of_the_words_that_the_scene_has(words, expected):
    assert notebook.named_objects(heat(words=words), TWO).tolist() == [expected]


def regions(*arguments, **options):
    """The (part, row, col) of one scene."""
    found = notebook.relation_regions(squares(*arguments, **options), (8, 8))
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
        return notebook.relation_regions(made, (8, 8)).sel(part=part)[0, :, 4].values.tolist()

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
    np.testing.assert_array_equal(notebook.relation_regions(squares(ONE, OTHER), (4, 16))[:, 0], expected)


def test_scenes_of_one_object_have_no_region():
    one = squares(ONE, relation="", token_object=(-1, 0, 0, -1, -1, -1))
    assert one.sizes["object"] == 1 and not notebook.relation_regions(one, (8, 8)).any()
    assert np.isnan(notebook.relational_focus(heat((1, 0, 0)), one)).all()
    single = xk.draw_suite("single", 2, seed=0)
    assert not notebook.relation_regions(single, (8, 8)).any()
    even = spoken(np.ones((2, T + 1, single.sizes["token"], 8, 8)), single.token_text.values)
    assert np.isnan(notebook.own_share(even, single)).all()


def test_a_drawn_relation_is_between_the_first_two_objects():
    scenes = xk.draw_scenes(40, seed=3, objects=(1, 4))
    related = scenes.relation.values != ""
    assert related.any() and not related.all()
    named = scenes.object_named.values
    assert named[related, :2].all() and not named[related, 2:].any()
    found = notebook.relation_regions(scenes, (8, 8))
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
    found = notebook.relational_focus(as_trajectory(moving(first, then, at)), squares(ONE, OTHER))
    assert found.dims == ("part", "sample")
    np.testing.assert_allclose(found.sel(part=["objects", "between"])[:, 0], expected, atol=1e-12)


def test_relational_focus_is_of_all_words_heat_and_needs_a_relation_and_a_patch_between():
    values = moving(AWAY, BETWEEN)
    values[0, 5:, 0, *AWAY] = 7  # one of three words has as much elsewhere
    np.testing.assert_allclose(notebook.relational_focus(as_trajectory(values), TWO)[:, 0], [0, 0.75])
    assert np.isnan(notebook.relational_focus(as_trajectory(values), squares(ONE, OTHER, relation=""))).all()
    found = notebook.relational_focus(as_trajectory(moving(AWAY, (1, 0))), squares((8, 8), (24, 8)))
    np.testing.assert_allclose(found.sel(part=["objects", "between"])[:, 0], [1, NAN])


def cosine(down, across, rows=8, cols=8):
    row, col = np.indices((rows, cols))
    return np.cos(2 * np.pi * (down * row / rows + across * col / cols) + 0.3)


def maps_of(*courses, words=4):
    """One sample: a course over time of the map of each word; behind them words without a map."""
    values = np.zeros((1, T + 1, words, 8, 8))
    for word, course in enumerate(courses):
        values[0, :, word] = course
    return values


def test_spatial_frequency_of_pure_cosines():
    pure = [(1, 0), (0, 3), (2, 1), (3, 3), (-2, 3)]
    found = notebook.spatial_frequency(np.stack([5 + 2 * cosine(*each) for each in pure]))
    np.testing.assert_allclose(found, np.hypot(*np.array(pure).T) / 8)
    np.testing.assert_allclose(notebook.spatial_frequency(cosine(2, 5, 8, 20)), np.hypot(2 / 8, 5 / 20))
    mixed = cosine(1, 0) + 2 * cosine(0, 3)
    np.testing.assert_allclose(notebook.spatial_frequency(mixed), (1 / 8 + 4 * 3 / 8) / 5)  # weighted by power


def test_a_chequerboard_has_the_highest_spatial_frequency_and_a_flat_pattern_none():
    """Flat is a pattern by its own power alone, however faint it is beside the others: amplitudes of a fast decay are."""
    chequers = (-1.0) ** np.indices((8, 8)).sum(0)
    noise = np.random.default_rng(0).normal(size=(100, 8, 8))
    found = notebook.spatial_frequency(np.stack([chequers, *noise, np.full((8, 8), 3.7), np.zeros((8, 8))]))
    np.testing.assert_allclose(found[0], np.hypot(0.5, 0.5))
    assert (found[1:-2] < found[0]).all() and np.isnan(found[-2:]).all()
    patterns = np.stack([1e6 * cosine(1, 0), 1e-6 * cosine(0, 3), 1e-6 * (5 + cosine(2, 0)), np.full((8, 8), 1e6 / 3)])
    for size in (1, 1e-9):
        found = notebook.spatial_frequency(size * patterns)
        np.testing.assert_allclose(found, [1 / 8, 3 / 8, 2 / 8, NAN], rtol=1e-6)


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
    smooth = (low + middle + high) * SMOOTH
    values = [maps_of(rising, 0.1 * rising), maps_of(falling), maps_of(smooth), maps_of()]  # the last scene is flat
    found = notebook.band_detail(as_trajectory(np.concatenate(values)))
    assert found.dims == ("sample", "band") and found.shape == (4, 3)
    # The window spreads each wave over its two neighbours (1 to 3, 4 to 7, 8 to 10 of 21): none leaves its band.
    expected = np.array([1, 2, np.hypot(3, 3)]) / 8
    np.testing.assert_allclose(found, [expected, expected[::-1], [1 / 8] * 3, [NAN] * 3], rtol=1e-3)


def test_energy_and_slow_share_of_cosines():
    half = wave(5, 2.0) * (np.arange(8) < 4)
    values = [maps_of(wave(5, 2.0)), maps_of(wave(5, 2.0), wave(5, 6.0)), maps_of(wave(1)), maps_of(half)]
    found = notebook.resonance_statistics(as_trajectory(np.concatenate(values)))
    # The window leaves a cosine of amplitude A the amplitudes A / 2, A, A / 2 at three frequencies: 1.5 A squared.
    np.testing.assert_allclose(found.energy[[0, 1, 3]], [1.5 * 4, 1.5 * (4 + 36) / 2, 1.5 * 4 / 2], rtol=1e-5)
    # At the lowest frequency, the first of these is the mean, which is no oscillation.
    np.testing.assert_allclose(found.slow_share[:3], [0, 0, 0.8], atol=1e-6)


def test_arrival_of_geometric_decays():
    rates = np.array([0.5, 0.8, 0.95])
    # Step t has size r^(t - 1) (1 - r), all together 1 - r^20.
    sizes = rates[:, None] ** (TIME[1:] - 1) * (1 - rates[:, None])
    expected = (sizes > 0.01 * (1 - rates[:, None] ** T)).sum(1)
    assert expected.tolist() == [6, 14, 20]
    decays = [3 + rate ** TIME[:, None, None] for rate in rates]
    late = 1 + (TIME >= 3) + (TIME >= 17)  # arrival is after the last step that counts
    course = maps_of(*decays, late[:, None, None], 2.0, words=7)
    np.testing.assert_array_equal(notebook.arrival(course), [[*expected, 17, 0, 0, 0]])
    # Two padded words don't count, one that never moves does.
    np.testing.assert_allclose(notebook.resonance_statistics(as_trajectory(course)).arrival, (6 + 14 + 20 + 17 + 0) / 5)


def test_entropy_of_the_last_map():
    values = np.random.default_rng(0).uniform(size=(1, T + 1, 4, 8, 8))
    values[0, :, 3] = 0
    values[0, -1] = 0
    values[0, -1, 0], values[0, -1, 1, 2, 2], values[0, -1, 2, 0, :2] = 0.3, 5.0, 1.0
    found = notebook.resonance_statistics(as_trajectory(values))
    assert sorted(found.data_vars) == ["arrival", "energy", "entropy", "slow_share"]
    np.testing.assert_allclose(found.entropy, [(np.log(64) + 0 + np.log(2)) / 3], rtol=1e-6)


def test_a_padded_word_changes_no_statistic():
    values = np.random.default_rng(1).uniform(size=(2, T + 1, 3, 8, 8)).cumsum(1)
    padded = np.concatenate([values, np.zeros((2, T + 1, 4, 8, 8))], 2)
    plain, found = (notebook.resonance_statistics(as_trajectory(each)) for each in (values, padded))
    xr.testing.assert_allclose(found, plain, rtol=1e-6)


def fading(cycles, moduli, sizes=None):
    """One sample: a damped cosine for each word, about a constant that it approaches."""
    cycles, moduli = np.array(cycles)[:, None], np.array(moduli)[:, None]
    swing = moduli**TIME * np.cos(2 * np.pi * cycles * TIME + 0.5)
    course = 2 + swing * (1 if sizes is None else np.array(sizes)[:, None])
    return course.T[None, :, :, None, None] * np.ones((1, 1, 1, 8, 8))


def rate_of(values):
    trajectory = as_trajectory(values)
    return notebook.frequency_and_rate(dynamic_modes(trajectory, rank=3, ranks=[3]), trajectory)


CYCLES, FADES = np.array([0.1, 0.16, 0.22, 0.3, 0.4]), np.array([0.86, 0.76, 0.65, 0.5, 0.3])
MANY, THREE_OF = fading(CYCLES, FADES), fading(CYCLES[:3], FADES[:3])
SWAPPED, NO_MAP = [1, 0, 2, 3, 4], np.zeros((1, T + 1, 3, 8, 8))
STRAIGHT = 0.9 - 0.1 * np.arange(5)  # moduli of plain decays
DECAY = 3 * 0.5 ** TIME[:, None, None] * np.random.default_rng(2).normal(size=(8, 8))


@pytest.mark.parametrize(
    "values, expected, atol",
    [
        (MANY, 1, 0),  # faster swings fade faster
        (fading(CYCLES, FADES[::-1]), -1, 0),
        (np.concatenate([MANY, NO_MAP], 2), 1, 0),
        (np.concatenate([fading(CYCLES, FADES[::-1]), NO_MAP], 2), -1, 0),
        (fading(CYCLES[SWAPPED], FADES[SWAPPED], [1, 1, 9, 1, 0.1]), 1, 0),  # neither order nor size matters
        (fading(CYCLES[SWAPPED], FADES), 0.9, 0),  # one exchange of neighbours leaves 1 - 6 * 2 / (5 * 24)
        # Each word also decays plainly, by more than it swings: its Fourier spectrum is largest at the lowest frequency.
        (2 + 4 * (MANY - 2) + DECAY[None, :, None], 1, 0.11),
        (maps_of(*(2 + rate ** TIME[:, None, None] for rate in STRAIGHT), words=5), NAN, 0),  # nothing swings
        (maps_of(*(2 + (-rate) ** TIME[:, None, None] for rate in STRAIGHT), words=5), NAN, 0),  # to and fro: no pair
        (fading(CYCLES[:4], FADES[:4]), 1, 0),  # four swinging words that differ are needed
        (THREE_OF, NAN, 0),
        (np.concatenate([THREE_OF, 3.0 + NO_MAP[:, :, :2]], 2), NAN, 0),
        (np.repeat(fading(CYCLES[:1], FADES[:1]), 5, 2), NAN, 0),
    ],
)
def test_the_frequency_and_rate_of_words_that_swing_and_fade(values, expected, atol):
    np.testing.assert_allclose(rate_of(values), [expected], atol=atol)


def test_rates_are_one_over_arrivals():
    for fades, sign in ((FADES, -1), (FADES[::-1], 1)):
        assert (np.diff(notebook.arrival(fading(CYCLES, fades))[0]) * sign > 0).all()


def planted_pair(modulus, cycles=0.2, decay=0.0):
    """A map that a single pair of this modulus makes, on top of a constant and, where asked, a larger plain decay."""
    rng = np.random.default_rng(5)
    turned, back, rest, plain = rng.normal(size=(4, 1, 8, 8))
    angle = 2 * np.pi * cycles * TIME[:, None, None]
    swing = modulus ** TIME[:, None, None] * (np.cos(angle) * turned + np.sin(angle) * back)
    return swing + 5 * rest + (30 * decay ** TIME[:, None, None] * plain if decay else 0)


@pytest.mark.parametrize(
    "courses, rank, expected, atol",
    [
        ([planted_pair(0.9)], 3, -0.1, 1e-4),
        ([planted_pair(1.0)], 3, 0, 1e-4),
        ([planted_pair(0.9), planted_pair(1.0, 0.31)], 3, -0.05, 1e-4),
        ([2 + 0.7 ** TIME[:, None, None]] * 2, 3, NAN, 0),  # nothing swings
        ([planted_pair(0.9, decay=0.6)], 3, -0.1, 1e-3),  # the pair counts and not a plain decay of more energy
        ([2 + (-0.9) ** TIME[:, None, None]], 2, NAN, 0),  # real and negative: no pair
    ],
)
def test_a_planted_pair_keeps_its_modulus(courses, rank, expected, atol):
    modes = dynamic_modes(as_trajectory(maps_of(*courses)), rank=rank, ranks=[rank])
    np.testing.assert_allclose(notebook.undamped(modes), [expected], atol=atol)
    assert atol != 1e-3 or modes.frequency.values[0, 0, 0] == 0  # the most energy doesn't swing


def test_of_several_pairs_that_of_most_energy_counts():
    at = ("sample", "token", "mode")
    modes = xr.Dataset(
        {
            "frequency": (at, [[[0.0, 0.2, 0.3], [0.1, 0.5, NAN]]]),
            "energy": (at, [[[9.0, 1.0, 2.0], [1.0, 7.0, 0.0]]]),
            "eigenvalue": (at, [[[1.0, 0.5j, 0.8j], [0.6j, -1.0, NAN]]]),
        }
    )
    np.testing.assert_allclose(notebook.undamped(modes), [(-0.2 - 0.4) / 2])


def test_a_peak_is_as_high_as_it_stands_above_its_higher_neighbour():
    made = [
        [0.2, 0.1, 0.4, 0.2, 0.1],  # twice its higher neighbour
        [0.9, 0.5, 0.4, 0.35, 0.3],  # a decay
        [0.1, 0.2, 0.4, 0.5, 1.0],  # a rise, whose end has one neighbour
        [0.2, 0.4, 0.4, 0.2, 0.1],  # no higher than its neighbour
        [0.9, 0.1, 0.2, 0.1, 0.8],  # two peaks, of which the higher counts
        [0.0] * 5,  # no energy at all
    ]
    np.testing.assert_allclose(notebook.peak_height(np.array(made)), np.log([2, 1, 2, 1, 8, 1]), atol=1e-6)


def test_a_scene_is_set_beside_the_draws_of_each_null():
    peak, none = [0.2, 0.1, 0.4, 0.2, 0.1], [0.5, 0.2, 0.1, 0.1, 0.1]
    weights, captions = [none, none, peak, none], [np.multiply(peak, [1, 1, 2, 1, 1])] * 4  # of each four draws
    null = np.stack([weights, captions])[:, :, None].repeat(2, 2)
    made = xr.Dataset({"energy_share": (("sample", "frequency"), [peak, none])}, {"null": ["weights", "captions"]})
    made["null_scene_share"] = ("null", "draw", "sample", "frequency"), null
    found = notebook.beside_nulls(made)
    weights, captions = found.values()
    assert weights.tolist() == [[1, 1, 0, 1], [0, 0, -1, 0]] and captions.tolist() == [[-1] * 4] * 2


def test_spectra_that_are_one_more_draw_of_their_nulls_show_nothing_and_peaks_of_their_own_are_found():
    """The claim can be decided on as many scenes as the notebook takes: noise is no effect, and clear peaks are."""
    drawn = np.random.default_rng(0).dirichlet(np.ones(10), size=(2, 11, 40))
    dims, row = ("null", "draw", "sample", "frequency"), claims.ledger().query("claim == 'srm-spectrum'")

    def judged(own):
        nulls = {"null_scene_share": (dims, drawn[:, :10]), "energy_share": (dims[2:], own)}
        values = {"encoder": notebook.beside_nulls(xr.Dataset(nulls, {"null": ["weights", "captions"]}))}
        return claims.measure(row, {}, values={"srm-spectrum": values}, family=1).iloc[0]

    noise, peaked = judged(drawn[0, 10]), judged(np.tile([1e-6] * 4 + [0.9] + [1e-6] * 5, (40, 1)))
    assert abs(noise.measured) < 0.3 and noise.p_holds > 0.05 and noise.detectable < 0.5
    assert peaked.p_holds < 1e-3 and peaked.measured > 0.8


def test_a_pair_of_multipliers_counts_once_and_rounding_not_at_all():
    found = np.array([0.5 + 0.3j, 0.5 - 0.3j, -0.2, 0.9 + 1e-4j, 0.9 - 1e-4j, complex(NAN, NAN)])
    assert notebook.complex_pairs(found) == 1 and notebook.complex_pairs(found[2:]) == 0


def test_of_captions_on_other_images_neither_is_true():
    pairs = xk.draw_pairs("attribute", 6, seed=0)
    moved = notebook.on_other_images(pairs)
    true = {(image.tobytes(), text) for image, text in zip(pairs.image.values, pairs.caption.values, strict=True)}
    for texts in ("caption", "foil"):
        given = zip(moved.image.values, moved[texts].values, strict=True)
        assert not true & {(image.tobytes(), text) for image, text in given}
    assert moved.caption.equals(pairs.caption) and moved.foil.equals(pairs.foil)


def test_a_pair_is_one_value():
    pairs = xk.draw_pairs("attribute", 3, seed=0)
    each = xr.Dataset({"energy": ("sample", np.arange(6.0))}, {"sample": pairs.sample})
    found = notebook.by_pair(each, pairs)
    assert found.energy.dims == ("sample",) and found.energy.values.tolist() == [0.5, 2.5, 4.5]


@pytest.mark.parametrize(
    "starts, at, expected",
    [
        ([0, 5, 15], (5, 15), [1, 1]),
        ([0, 6, 14], (5, 15), [1, 0]),
        ([0, 4, 9, 16], (5, 15), [1, 0]),
        ([0, 5], (5, 15), [0, 0]),
        ([0, 15], (5, 15), [0, 0]),
        ([0, 7, 15], (5, 15), [0, 0]),
        ([0, 10], (5, 15), [0, 0]),
        ([0], (5, 15), [0, 0]),
        ([0], (0,), [0, 0]),  # neither the first phase nor a missing one is a boundary
        ([0, 1], (0,), [1, 0]),
    ],
)
def test_boundaries_at_all_places(starts, at, expected):
    for missing in (0, 1, 5 - len(starts)):
        phases = xr.Dataset({"boundary": (("sample", "phase"), [starts + [-1] * missing])})
        assert [notebook.has_boundaries(phases, at, within)[0] for within in (1, 0)] == expected
    assert at != (5, 15) or notebook.has_boundaries(phases).tolist() == expected[:1]


def test_statistics_of_are_those_of_the_trajectory(clip, drawn):
    options = {"coupling": "none", "alpha": 1.3}
    drawn = drawn.assign(foil=drawn.caption[::-1].drop_vars("sample"))
    for texts in ("caption", "foil"):
        found = notebook.statistics_of(clip, drawn, texts, **options)
        course = resonate(clip, drawn.image, drawn[texts], **options).trajectory
        expected = notebook.resonance_statistics(course)
        assert list(found.data_vars) == ["energy", "slow_share", "arrival", "entropy"]
        assert found.sizes == {"sample": 3} and np.isfinite(found.to_dataarray()).all()
        xr.testing.assert_allclose(found, expected)
    assert abs(found - notebook.statistics_of(clip, drawn, **options)).to_dataarray().max() > 0


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
        found = notebook.passes(clip, course, "encoder", block)
        assert found.shape == (3,) and len(set(found)) > 1  # captions of several lengths
        np.testing.assert_allclose(found.sum(), 3 + sum(runs) / total)
    words = (drawn.token_text.values != "").sum(1)
    np.testing.assert_allclose(found, 1 + words * 2 / total)
    for coupling in ("none", "attention"):
        assert notebook.passes(clip, course, coupling).tolist() == [1, 1, 1]


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
    found = notebook.map_quality(as_trajectory(both), scenes)
    assert found.columns.tolist() == ["resonance energy", "last map"] and found.index.name == "sample"
    energy, last = found["resonance energy"].values, found["last map"].values
    np.testing.assert_allclose([energy[0], last[1]], 1)
    assert energy[1] <= 4 / 8 and last[0] == 4 / 64  # behind the other four patches; no heat at all


def test_map_quality_is_that_of_the_methods(clip, drawn):
    course = resonate(clip, drawn.image, drawn.caption).trajectory
    found = notebook.map_quality(course, drawn)
    for method, column in (("srm", "resonance energy"), ("srm_fixed_point", "last map")):
        heat = xk.explain(method, clip, drawn.image, drawn.caption)
        scores = xk.evaluate(heat, clip, drawn, metrics=["average_precision"])
        np.testing.assert_allclose(found[column], scores.average_precision.values.ravel(), rtol=1e-4)


def test_alpha_sensitivity_is_a_correlation(clip, drawn):
    alphas = [0.3, 0.6, 1.2]
    found = notebook.alpha_sensitivity(clip, drawn.image, drawn.caption, alphas)
    assert found.dims == ("sample", "alpha", "other") and found.shape == (3, 3, 3)
    assert found.alpha.values.tolist() == found.other.values.tolist() == alphas
    np.testing.assert_allclose(np.diagonal(found, axis1=1, axis2=2), 1)
    np.testing.assert_allclose(found, found.values.transpose(0, 2, 1))
    assert (np.abs(found) <= 1 + 1e-9).all() and (found.values[:, 0, 2] < 0.999).all()
    first, last = (xk.explain("srm", clip, drawn.image, drawn.caption, alpha=alpha).values for alpha in (0.3, 1.2))
    for sample in range(3):
        ranks = [np.argsort(np.argsort(maps[sample].ravel())) for maps in (first, last)]
        np.testing.assert_allclose(found.values[sample, 0, 2], np.corrcoef(ranks)[0, 1], atol=1e-6)
    again = notebook.alpha_sensitivity(clip, drawn.image, drawn.caption, alphas, batch_size=2)
    np.testing.assert_allclose(again, found, atol=1e-3)  # rounding may swap neighbours in rank
    other = notebook.alpha_sensitivity(clip, drawn.image, drawn.caption, alphas[:2], coupling="none")
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
    refused("alpha=2.5: a number above 0 and below 2", regimes, clip, drawn.image, drawn.caption, [0.5, 2.5], [0.5])


@pytest.mark.parametrize("arm, expected", [("resonance energy", [1, 0, 0.8]), ("fixed point", [0, 1, 0.5])])
def test_the_share_of_heat_that_guides_a_training(arm, expected):
    """Of what oscillates, or of the last map above its least value; with a gradient."""
    inside = torch.tensor([[1.0, 0, 0, 0]] * 3)
    swing = np.sin(2 * np.pi * TIME * 5 / (T + 1))
    course = np.zeros((3, T + 1, 1, 4), np.float32)
    course[0, :, 0, 0] += swing  # inside, but it ends outside
    course[0, -1, 0] = [0, 1, 0, 0]
    course[1, :, 0, 1] += swing
    course[1, -1, 0] = [3, 2, 2, 2]
    course[2, :, 0, :2] += swing[:, None] * [2, 1]  # energy is a square
    course[2, -1, 0] = [1, 1, 0, 0]
    tensor = torch.from_numpy(course).requires_grad_()
    heat = guided.heat_of(arm, tensor)
    atol = 0.1 if arm == "resonance energy" else 1e-6  # the last map, set by hand, has a spectrum too
    np.testing.assert_allclose(((heat * inside).sum(1) / heat.sum(1)).detach(), expected, atol=atol)
    one = torch.tensor([[1.0, 1.0], [1.0, 3.0]])
    halves = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert guided.outside(one, halves).item() == pytest.approx(-np.log([0.5, 0.75]).mean(), rel=1e-5)
    guided.outside(heat, inside).backward()
    assert torch.isfinite(tensor.grad).all() and tensor.grad.abs().sum() > 0


def test_guided_training_is_measured_and_stored(tmp_path):
    few = replace(guided.STEPS, steps=2, batch_size=8, report_every=1)
    found = guided.guided(tmp_path / "guided.nc", seeds=2, n=8, recipe=few)
    again = read_store(tmp_path / "guided.nc", "guided_training")
    xr.testing.assert_equal(found, again)
    assert found.sizes["arm"] == 3 and found.contrastive.shape == (3, 2, 2) and np.isfinite(found.contrastive).all()
    first = found.contrastive.isel(report=0)
    assert np.ptp(first.values, axis=0).max() < 1e-5, "the same scenes and the same start for all arms"
    assert found.regulariser.isnull().all(("seed", "report")).values.tolist() == [True, False, False]
