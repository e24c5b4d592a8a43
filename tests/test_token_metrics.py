"""Metrics of token maps against hand-made maps with known thresholds, OpenCV, and planted truth."""

import numpy as np
import pytest
from oracles.released_token_iou import histogram_otsu, released_label, released_token_iou, resized
from refusals import refused

from xaikit.measures import localisation
from xaikit.measures.localisation import region_coverage
from xaikit.measures.maps import fragments, spread
from xaikit.measures.planted_tokens import answer_means, context_auroc, planted_word_scores, word_classes
from xaikit.measures.token_iou import f1_difference, f1_iou, token_iou, token_iou_summary
from xaikit.measures.words import base_forms, category_labels, group_words, name_tokens, word_kind
from xaikit.samples.scenes import draw_descriptions

TAGS = dict.fromkeys("a the and".split(), "DT") | dict.fromkeys("cat dog mat dogs grass".split(), "NN")
CATEGORIES = {"cat": 17, "dog": 18, "hot dog": 58}


def f1_interval(*entries, seed=0):
    return tuple(token_iou_summary(*entries, seed).loc["f1_iou"])


def planted_metrics(token_heat, token_object, token_kind, object_mask, region=(0, 0, 1, 1), token_class=None, **named):
    return answer_means(
        planted_word_scores(token_heat, token_object, token_kind, object_mask, region, **named), token_class
    )


def tagger(word):
    return TAGS.get(word.lower(), "JJ")


# ---- words


def test_words_begin_at_spaces_marks_punctuation_and_chinese():
    tokens = ["The", " cat", "s", ",", " sit", "ting", "▁on", "it", "狗", "x", ".", "</s>"]
    words = group_words(tokens)
    assert [word.text for word in words] == ["The", "cats", ",", "sitting", "onit", "狗x", ".</s>"]
    assert [(word.first, word.last) for word in words] == [(0, 0), (1, 2), (3, 3), (4, 5), (6, 7), (8, 9), (10, 11)]
    assert [t for word in words for t in tokens[word.tokens]] == tokens


def test_kinds_of_words():
    assert [word_kind(word) for word in ("The", "and", "there", "whose", "it’s", "on", "to", "two", "is", "red")] == (
        ["function"] * 4 + ["other"] * 6
    )
    assert [word_kind(word, {"a": "DT", "b": "NNS", "c": "IN", "d": "PRP$"}.get) for word in "abcd"] == (
        ["function", "noun", "other", "function"]
    )


def test_plurals_have_the_singular_among_their_forms():
    pairs = (
        "dogs dog,buses bus,knives knife,glasses glass,boxes box,ponies pony,women woman,sheep sheep,T-Shirts tshirt"
    )
    for plural, singular in (pair.split() for pair in pairs.split(",")):
        assert singular in base_forms(plural)
    assert base_forms("Dogs", lambda word: word[:-1]) == {"dog"}


def test_the_dog_is_a_hot_dog_in_the_released_labels_only():
    assert released_label("dogs", CATEGORIES) == 58 and released_label("cat", CATEGORIES) == 17
    assert released_label("man", CATEGORIES) == -1
    assert category_labels("a hot dog and two Dogs".split(), CATEGORIES) == [0, 58, 58, 0, 0, 18]
    reordered = {"hot dog": 58, "dog": 18}
    assert released_label("dog", reordered) == 18 and category_labels(["hot", "dog"], reordered) == [58, 58]


# ---- the released evaluation's numerics


@pytest.mark.parametrize(
    "shape, size",
    [((24, 24), (480, 640)), ((17, 23), (333, 500)), ((9, 7), (5, 3)), ((8, 8), (4, 4)), ((2, 1), (9, 9))],
)
def test_resizing_is_opencv_to_the_last_bit(shape, size):
    cv2 = pytest.importorskip("cv2")
    maps = np.random.default_rng(0).integers(0, 256, (5, *shape)).astype(np.uint8)
    np.testing.assert_array_equal(resized(maps, size), [cv2.resize(heat, size[::-1]) for heat in maps])


def test_thresholds_are_opencv_to_the_last_bit():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    kinds = [
        rng.integers(0, 256, (9, 30, 40)), rng.choice([0, 40, 200], (9, 30, 40)), 255 * rng.beta(0.5, 3, (9, 30, 40)),
        np.broadcast_to(rng.integers(0, 256, (9, 1, 1)), (9, 30, 40)), 200 * (rng.random((9, 30, 40)) > 0.9),
    ]  # fmt: skip
    maps = np.concatenate(kinds).astype(np.uint8)
    cut = [cv2.threshold(heat, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0] for heat in maps]
    np.testing.assert_array_equal(histogram_otsu(maps), cut)


# ---- Obj-IoU, Func-IoU


def blocks(*rows_hot, value=200, low=0, dtype=np.uint8):
    """4 x 4 maps whose listed rows are hot."""
    maps = np.full((len(rows_hot), 4, 4), low, dtype)
    for heat, rows in zip(maps, rows_hot, strict=True):
        heat[list(rows)] = value
    return maps


@pytest.fixture
def mask():
    """A cat in the upper half, a dog in the last row; on the maps' own grid, so that nothing is resized."""
    mask = np.zeros((4, 4), np.uint8)
    mask[:2], mask[3] = 17, 18
    return mask


def test_known_maps_both_ways(mask):
    tokens = ["The", " cat", " sits", " with", " the", " mat"]
    maps = blocks([], [0], [0], [0], [1], [2])
    maps[4, 1] = 100
    maps[5, 2] = 40  # Otsu's threshold is 0 on a histogram, the middle, 20, on values
    maps[1, 1:] = 100  # 100 and 100
    released = released_token_iou(maps, tokens, mask, CATEGORIES, tagger=tagger)
    assert released.object_iou == [0.5] and released.precision == [1] and released.recall == [0.5]
    assert released.function_iou == [1, 0.75]  # below the mean of 100 and 0
    corrected = token_iou(maps.astype(float), tokens, mask, CATEGORIES, tagger=tagger)
    assert corrected.object_iou == [0.5] and corrected.precision == [1] and corrected.recall == [0.5]
    assert corrected.function_iou == [1, 0.75]  # not above the mean of 150 and 20
    untagged = token_iou(maps.astype(float), tokens, mask, CATEGORIES)
    assert untagged.function_iou == [1, 1]  # the mat enters with a tagger only
    alone = released_token_iou(maps, ["the"] + tokens[2:5] + [" a", " x"], mask, CATEGORIES)
    assert alone == ([], [], [], [])  # no noun, no threshold


def test_a_word_has_its_best_token_and_a_constant_map_is_all_hot_in_the_released_code_only(mask):
    maps = blocks([2], [0], [0, 1])
    tokens = ["a", " cat", "s"]
    for measure, given in ((released_token_iou, maps), (token_iou, maps.astype(float))):
        assert measure(given, tokens, mask, CATEGORIES).object_iou == [1]
    flat = np.full((1, 4, 4), 7, np.uint8)
    assert released_token_iou(flat, ["cat"], mask, CATEGORIES).object_iou == [0.5]
    assert token_iou(flat, ["cat"], mask, CATEGORIES) == ([0], [], [0], [0])
    raised = blocks([0, 1], low=100)
    assert token_iou(raised, ["cat"], mask, CATEGORIES).object_iou == [1]  # 100 + 200 is no uint8
    dark = released_token_iou(0 * flat, ["cat"], mask, CATEGORIES)
    assert dark.object_iou == [0] and np.isnan(dark.precision)
    assert token_iou(np.zeros((2, 4, 4)), ["the", " cat"], mask, CATEGORIES) == ([0], [1], [0], [0])


def test_the_highest_threshold_of_a_word_is_its_own(mask):
    maps = np.concatenate([blocks([0], value=200), blocks([0], value=100), blocks([1], value=80)])
    assert token_iou(maps, ["cat", "s", " the"], mask, CATEGORIES).function_iou == [1]  # 80 is above 50, not above 100


def test_the_dog_is_scored_in_the_corrected_form_only(mask):
    maps, tokens = blocks([], [3]), ["a", " dog"]
    assert released_token_iou(maps, tokens, mask, CATEGORIES).object_iou == []
    assert token_iou(maps, tokens, mask, CATEGORIES).object_iou == [1]


def test_merging_and_its_fault(mask):
    cats = [["cat", " cat"], blocks([0], [0, 1])]
    for measure in (released_token_iou, token_iou):
        assert measure(cats[1], cats[0], mask, CATEGORIES).object_iou == [1]
    # "horse horse" is not in the image, and fuses the entries of cat and dog
    tokens, categories = ["cat", " and", " dog", " and", " horse", " horse"], {"cat": 17, "dog": 18, "horse": 19}
    maps = blocks([0], [], [3], [], [0], [0])
    assert released_token_iou(maps, tokens, mask, categories).object_iou == [1]
    assert token_iou(maps, tokens, mask, categories).object_iou == [0.5, 1]


def test_only_nouns_name_a_category_where_words_are_tagged(mask):
    maps, tokens, categories = blocks([0], [0, 1]), ["orange", " cat"], {"orange": 18, "cat": 17}
    assert token_iou(maps, tokens, mask, categories, tagger=tagger).object_iou == [1]
    assert token_iou(maps, tokens, mask, categories).object_iou == [0, 1]


def test_the_released_code_enlarges_object_maps_and_drops_samples():
    mask = np.zeros((64, 64), np.uint8)
    mask[:31] = 1
    maps = blocks([0, 1], [2, 3])
    measured = released_token_iou(maps, ["cat", " the"], mask, {"cat": 1})
    assert measured.object_iou == [31 / 32]
    assert measured.function_iou == [0.5]  # the threshold cuts the ramp in its middle
    assert released_token_iou(maps, ["cat", " the", "."], mask, {"cat": 1}) == ([], [], [], [])
    nothing = released_token_iou(maps, ["cat", " the"], None, {"cat": 1})
    assert nothing == ([], [0], [], [])  # without a mask file nothing is enlarged: the threshold is 0, nothing below


def test_labels_instead_of_categories_and_a_region():
    mask = np.zeros((8, 8), int)
    mask[4:, 4:] = 5
    maps = np.zeros((2, 2, 2))
    maps[0, 0, 0] = 3
    labels = np.array([5, 0])
    crop = token_iou(maps, [" blob", " a"], mask, labels=labels, region=(0.5, 0.5, 1, 1))
    assert crop.object_iou == [0.25]  # the crop is all blob, the map marks a quarter
    assert token_iou(maps, [" blob", " a"], mask, labels=labels).object_iou == [0]
    assert token_iou(maps, [" blob", " a"], mask, labels=labels, region=(0, 0, 0.5, 0.5)).object_iou == []
    assert crop.function_iou == [1]


def test_scaling_maps_changes_nothing(mask):
    maps = np.random.default_rng(0).random((3, 4, 4))
    tokens = ["the", " cat", " dog"]
    np.testing.assert_allclose(*(sum(token_iou(k * maps, tokens, mask, CATEGORIES), []) for k in (1, 1e-3)))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"maps": -np.ones((2, 4, 4))}, "from 0 on"),
        ({"maps": np.full((2, 4, 4), np.nan)}, "from 0 on"),
        ({"maps": np.ones((2, 1, 1))}, "two cells"),
        ({"tokens": ["a"]}, "1 tokens but 2 maps"),
        ({"mask": None}, "mask"),
        ({"labels": np.zeros(2, int)}, "one of both"),
        ({"categories": None}, "one of both"),
        ({"categories": None, "labels": np.zeros(3, int)}, r"labels of shape \(3,\)"),
        ({"region": (0.5, 0, 0.5, 1)}, "top < bottom"),
    ],
)
def test_bad_input_of_token_iou_is_named(mask, change, message):
    given = {"maps": np.ones((2, 4, 4)), "tokens": ["a", " cat"], "mask": mask, "categories": CATEGORIES} | change
    refused(message, token_iou, **given)


# ---- the data set's means and intervals


def test_f1_of_means_and_its_interval():
    objects, functions = [[0.1, 0.3], [], [0.8]], [[0.8], [0.6, np.nan], []]
    table = token_iou_summary(objects, functions)
    assert table["mean"].tolist() == pytest.approx([0.4, 0.7, 2 * 0.4 * 0.7 / 1.1])
    assert (table.low <= table["mean"]).all() and (table["mean"] <= table.high).all()
    assert table.loc["obj_iou", ["low", "high"]].tolist() == pytest.approx([0.2, 0.8])
    padded = np.array([[0.1, 0.3], [np.nan, np.nan], [0.8, np.nan]])
    assert f1_interval(padded, functions) == pytest.approx(tuple(table.loc["f1_iou"]))
    many = np.random.default_rng(0).random((2, 50, 3))
    assert f1_interval(*many, seed=1) == f1_interval(*many, seed=1) != f1_interval(*many, seed=2)
    assert f1_iou(0.0, 0.0) == 0 and f1_iou(0.2123, 0.5193) == pytest.approx(0.3014, abs=1e-4)


def test_intervals_cover_at_their_rate():
    rng = np.random.default_rng(0)
    draws = rng.beta(2, 3, (60, 40, 3)), rng.beta(4, 2, (60, 40, 2))
    ends = np.array([f1_interval(*given) for given in zip(*draws, strict=True)])
    true = f1_iou(2 / 5, 4 / 6)
    assert 0.85 < ((ends[:, 1] < true) & (true < ends[:, 2])).mean() <= 1
    assert (ends[:, 2] - ends[:, 1]).mean() < 0.1


def test_paired_difference_is_surer_than_two_intervals():
    rng = np.random.default_rng(0)
    objects, functions = rng.random((100, 3)), rng.random((100, 2))
    better = objects + 0.02
    value, low, high = f1_difference((better, functions), (objects, functions))
    assert 0 < low < value < high < 0.03
    assert value == pytest.approx(f1_interval(better, functions)[0] - f1_interval(objects, functions)[0])
    assert f1_difference((objects, functions), (objects, functions)) == (0, 0, 0)
    assert np.isnan(f1_difference((objects, functions), (objects, functions * np.nan))).all()
    refused("99", f1_difference, (objects, functions), (objects[:99], functions))


# ---- planted truth


@pytest.fixture
def planted():
    """ "a red circle , and blue square above" on an 8 x 8 grid of 64 x 64 pixels; circle 2 x 2 cells, square 1 x 4."""
    mask = np.zeros((1, 3, 64, 64), bool)
    mask[0, 0, 8:24, 8:24], mask[0, 1, 40:48, 16:48], mask[0, 2, 56:, 56:] = True, True, True
    return {
        "token_object": np.array([[-1, 0, 0, -1, -1, 1, 1, -1, -2]]),
        "token_kind": np.array([["function", "object", "object", "", "function", "object", "object", "relation", ""]]),
        "object_mask": mask,
    }


def place(planted, *owners):
    """A map for each object word that lies on the given object, (1, 1, tokens, 8, 8)."""
    covered = region_coverage(planted["object_mask"], (8, 8))[0]
    heat = np.zeros((1, 1, 9, 8, 8))
    for token, owner in zip((1, 2, 5, 6), owners, strict=True):
        heat[0, 0, token] = covered[owner]
    return heat


def test_perfect_maps(planted):
    out = planted_metrics(place(planted, 0, 0, 1, 1), **planted)
    got = {name: values.item() for name, values in out.data_vars.items()}
    for name in ("own_iou", "own_share", "peak_on_own", "fragments", "object_fragments", "function_iou"):
        assert got[name] == 1, name
    for name in ("leakage", "leakage_earlier", "leakage_later", "function_heat", "function_share"):
        assert got[name] == 0, name
    assert got["spread"] == pytest.approx(np.log(4)) == got["object_spread"]
    assert all({"long_name", "units", "score_direction"} <= set(values.attrs) for values in out.data_vars.values())


def test_heat_on_the_earlier_the_later_and_the_unnamed_object(planted):
    out = planted_word_scores(place(planted, 1, 2, 0, 0), **planted).sel(explainer="0").isel(sample=0)
    np.testing.assert_array_equal(out.leakage[[1, 2, 5, 6]], 1)
    np.testing.assert_array_equal(out.leakage_later[[1, 2]], [1, 0])
    np.testing.assert_array_equal(out.leakage_earlier[[5, 6]], 1)
    assert np.isnan(out.leakage_earlier[[1, 2]]).all() and np.isnan(out.leakage_later[[5, 6]]).all()
    np.testing.assert_array_equal(out.own_iou[[1, 2, 5, 6]], 0)
    np.testing.assert_array_equal(out.peak_on_own[[1, 2, 5, 6]], 0)
    assert np.isnan(out.own_iou[[0, 3, 4, 7, 8]]).all() and np.isnan(out.function_iou[[1, 3, 7, 8]]).all()
    half = (place(planted, 0, 0, 1, 1) + place(planted, 1, 1, 0, 0) * 3) / 4
    shares = planted_metrics(half, **planted)
    assert shares.own_share.item() == pytest.approx(0.25) and shares.leakage.item() == pytest.approx(0.75)
    assert shares.leakage_earlier.item() == pytest.approx(0.75)


def test_function_words_are_judged_by_the_object_words_of_their_answer(planted):
    heat = place(planted, 0, 0, 1, 1) * 2.0  # thresholds 1, totals 8
    heat[0, 0, 0, 0, :4] = 1.5  # 4 of 64 cells above, total 6
    heat[0, 0, 4, :4] = 0.75  # none above, total 24
    heat[0, 0, 7] = 99  # relation words are neither
    out = planted_metrics(heat, **planted)
    assert out.function_heat.item() == pytest.approx(15 / 8)
    assert out.function_share.item() == pytest.approx(15 / 23)
    assert out.function_iou.item() == pytest.approx((60 / 64 + 1) / 2)


def test_no_heat_has_values_and_no_words_have_none(planted):
    out = planted_metrics(np.zeros((1, 1, 9, 8, 8)), **planted)
    assert all(np.isnan(out[name].item()) for name in ("leakage", "leakage_earlier", "fragments"))
    expected = {"own_iou": 0, "own_share": 0, "blank": 1, "function_iou": 1}
    expected |= {"function_heat": 1, "function_share": 0.5, "spread": np.log(64), "peak_on_own": 4 / 64}
    assert {name: out[name].item() for name in expected} == pytest.approx(expected)
    only = np.zeros((1, 1, 9, 8, 8))
    only[0, 0, 0] = 1
    assert planted_metrics(only, **planted).function_share.item() == 1
    assert np.isinf(planted_metrics(only, **planted).function_heat.item())
    wordless = planted | {"token_kind": np.full((1, 9), "relation")}
    assert all(np.isnan(values.item()) for values in planted_metrics(only, **wordless).data_vars.values())


def test_classes_of_words(planted):
    text = np.array([["▁a", " Red", " circle", ",", " and", "▁small", " squares", " above", ""]])
    classes = word_classes(text)
    assert classes.tolist() == [["", "colour", "shape", "", "", "size", "shape", "", ""]]
    out = planted_metrics(place(planted, 0, 1, 0, 1), **planted, token_class=classes)
    assert [out[f"own_iou_{name}"].item() for name in ("colour", "size", "shape")] == [1, 0, 0.5]
    assert out.own_iou.item() == 0.5 and "function_iou_size" not in out


def test_a_region_counts_only_what_it_covers(planted):
    region = np.array([[0, 0, 0.5, 0.5]])  # the circle alone: 4 x 4 of the 8 x 8 grid's cells
    assert region_coverage(planted["object_mask"], (4, 4), region)[0].sum((1, 2)).tolist() == [4, 0, 0]
    assert region_coverage(planted["object_mask"], (8, 8), region)[0, 0].sum() == 16
    heat = np.zeros((1, 1, 9, 4, 4))
    heat[0, 0, [1, 2, 5, 6], 1:3, 1:3] = 1
    out = planted_word_scores(heat, **planted, region=region).isel(sample=0, explainer=0)
    assert out.own_iou[[1, 2]].values.tolist() == [1, 1]
    assert np.isnan(out.own_iou[[5, 6]]).all() and np.isnan(out.leakage[[1, 2]]).all()
    uneven = region_coverage(planted["object_mask"][:, :1], (3, 5), (0.1, 0.05, 0.33, 0.9))
    area = (0.33 - 0.1) * (0.9 - 0.05) * 64 * 64 / 15
    visible = (0.33 * 64 - 8) * 16
    assert uneven.sum() * area == pytest.approx(visible)
    padded = region_coverage(planted["object_mask"][:, :1], (8, 4), (-0.5, 0, 1.5, 1))  # padded above and below
    assert padded[0, 0, [0, 1, 6, 7]].sum() == 0 and padded[0, 0, 2:6].sum() == 1


def test_the_whole_region_is_localisations_coverage():
    masks = np.random.default_rng(0).random((5, 3, 30, 20)) > 0.5
    np.testing.assert_allclose(region_coverage(masks, (4, 7)), localisation.coverage(masks, (4, 7)))
    part = region_coverage(masks, (4, 7), (0, 0, 0.8, 0.7))
    np.testing.assert_allclose(part, localisation.coverage(masks, (4, 7), (0.8, 0.7)))


@pytest.fixture
def many():
    rng = np.random.default_rng(0)
    kinds = np.array(["object", "relation", "function", ""])
    kind = kinds[rng.integers(0, 4, (5, 7))]
    owner = np.where(kind == "object", rng.integers(0, 3, (5, 7)), -1)
    corner = rng.uniform(0, 0.3, (5, 2))
    return {
        "token_heat": rng.gamma(0.5, 1, (5, 2, 7, 4, 6)), "token_object": owner, "token_kind": kind,
        "object_mask": rng.random((5, 3, 20, 20)) > 0.7, "region": np.concatenate([corner, corner + 0.6], 1),
    }  # fmt: skip


def test_a_batch_equals_singles_whatever_the_chunks(many, monkeypatch):
    together = planted_metrics(**many, explainers=["first", "second"])
    monkeypatch.setattr("xaikit.measures.planted_tokens.CELLS_AT_ONCE", 1)
    chunked = planted_metrics(**many)
    singles = [planted_metrics(**{key: value[i : i + 1] for key, value in many.items()}) for i in range(5)]
    for name, values in together.data_vars.items():
        np.testing.assert_array_equal(values, [single[name].values[0] for single in singles])
        np.testing.assert_array_equal(values, chunked[name])
    words = planted_word_scores(**many)
    of = [(words.own_iou[:, i].values, words.function_iou[:, i].values) for i in range(2)]
    entries = [f1_interval(*one)[0] for one in of]
    np.testing.assert_allclose(entries, [f1_iou(*map(np.nanmean, one)) for one in of])
    assert together.explainer.values.tolist() == ["first", "second"]


def test_heat_may_be_scaled_and_answers_padded(many):
    measured = planted_metrics(**many)
    padded = {
        "token_heat": np.pad(8 * many["token_heat"], [(0, 0)] * 2 + [(0, 3)] + [(0, 0)] * 2),
        "token_object": np.pad(many["token_object"], [(0, 0), (0, 3)], constant_values=-2),
        "token_kind": np.pad(many["token_kind"], [(0, 0), (0, 3)], constant_values=""),
    }
    changed = planted_metrics(**many | padded)
    for name, values in measured.data_vars.items():
        np.testing.assert_allclose(changed[name], values, err_msg=name)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"token_heat": np.ones((1, 9, 8, 8))}, r"\(n, explainers, tokens, rows, cols\)"),
        ({"token_heat": np.ones((1, 1, 9, 1, 1))}, "none empty"),
        ({"token_heat": -np.ones((1, 1, 9, 8, 8))}, "from 0 on"),
        ({"token_object": np.zeros((1, 8), int)}, r"token_object of shape \(1, 8\)"),
        ({"token_object": np.full((1, 9), 3)}, "has 3 objects"),
        ({"token_object": np.full((1, 9), -1)}, "token 1 of sample 0"),
        ({"token_kind": np.full((1, 9), "noun")}, "'noun'"),
        ({"object_mask": np.ones((1, 3, 4, 4))}, "bool"),
        ({"region": (0, 1.2, 1, 2)}, "between 0 and 1"),
        ({"region": (0, 0.5, 1, 0.5)}, "left < right"),
        ({"region": np.zeros((2, 4))}, r"region of shape \(2, 4\)"),
        ({"explainers": ["a", "b"]}, "2 names"),
        ({"token_class": np.full((1, 3), "size")}, "token_class"),
    ],
)
def test_bad_planted_input_is_named(planted, change, message):
    refused(message, planted_metrics, **{"token_heat": np.ones((1, 1, 9, 8, 8)), **planted, **change})


# ---- fragments, spread, context


def test_fragments_and_spread():
    maps = np.zeros((2, 3, 5, 5))
    maps[0, 0, 1, 1] = maps[0, 0, 2, 2] = 1  # touch at a corner
    maps[0, 1, 0] = maps[0, 1, 4, 3:] = 2
    maps[0, 2] = 3
    maps[1, 0, 4], maps[1, 1, 0] = 1, 1  # touch across maps
    assert fragments(maps).tolist() == [[2, 2, 0], [1, 1, 0]]
    np.testing.assert_allclose(spread(maps), np.log([[2, 7, 25], [5, 5, 25]]))
    np.testing.assert_allclose(spread(3 * maps), spread(maps))


def test_context_auroc_tells_tokens_of_one_object():
    owner = np.array([[0, 0, -1, 1, -1], [0, 0, 0, -1, -2], [0, 1, 0, 1, -2]])
    same = (owner[:, :, None] == owner[:, None]).astype(float)
    np.testing.assert_array_equal(context_auroc(same, owner), [1, np.nan, 1])
    np.testing.assert_array_equal(context_auroc(-same, owner), [0, np.nan, 0])
    np.testing.assert_array_equal(context_auroc(0 * same, owner), [0.5, np.nan, 0.5])
    rng = np.random.default_rng(0)
    overlap = rng.random(same.shape)
    pairs = [(i, j) for i in range(5) for j in range(i) if owner[0, i] >= 0 and owner[0, j] >= 0]
    high = [overlap[0, i, j] for i, j in pairs if owner[0, i] == owner[0, j]]
    low = [overlap[0, i, j] for i, j in pairs if owner[0, i] != owner[0, j]]
    expected = np.mean([a > b for a in high for b in low])
    assert context_auroc(overlap, owner)[0] == pytest.approx(expected)
    overlap[:, 0, 1:] = overlap[:, :, 4] = np.nan  # never before, or padding
    overlap[0] = rng.random((5, 5))
    assert np.isfinite(context_auroc(overlap, owner)[[0, 2]]).all()
    refused("finite", context_auroc, np.full(same.shape, np.nan), owner)
    refused("overlap of shape", context_auroc, same[:, :2], owner)


def test_agreement_can_be_asked_of_words_of_different_classes_only():
    owner, classes = np.array([[0, 0, 1, 1]]), np.array([["colour", "shape", "colour", "shape"]])
    overlap = np.zeros((1, 4, 4))
    overlap[0, 2, 0] = overlap[0, 3, 1] = 1.0  # words of one class, of different objects, agree most
    overlap[0, 1, 0] = overlap[0, 3, 2] = 0.5  # words of one object
    assert context_auroc(overlap, owner).tolist() == [0.5]
    assert context_auroc(overlap, owner, classes).tolist() == [1.0]


def test_all_tokens_of_a_word_name_what_it_names():
    scenes = draw_descriptions(1, seed=0, objects=(1, 1))
    size, colour, shape = (str(word) for word in scenes.object_name.values[0, 0].split())
    tokens = [" a", f" {size}", f" {colour[:2]}", colour[2:], f" {shape[:3]}", shape[3:], ".", "", ""]
    named = name_tokens(np.array([tokens]), scenes)
    assert named.token_object.values[0].tolist() == [-1, 0, 0, 0, 0, 0, -1, -2, -2]
    assert named.token_kind.values[0].tolist() == ["function", *["object"] * 5, "function", "", ""]
