"""Scenes are deterministic, and what they say of themselves is true of their pixels."""

import numpy as np
import pytest
from training import statements

import xaikit as xk
from xaikit.samples import captions
from xaikit.samples.assembly import Drawing, compose
from xaikit.samples.scenes import PAIRS, SUITES
from xaikit.samples.worlds.layout import COLOURS, MARK_SIZE, RELATIONS, RGB
from xaikit.samples.worlds.shapes import PLURALS, SHAPES, SIZES


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(200, seed=7, objects=(1, 12))


def test_the_same_seed_gives_the_same_pixels(scenes):
    assert xk.draw_scenes(200, seed=7, objects=(1, 12)).identical(scenes)
    assert not (xk.draw_scenes(200, seed=8, objects=(1, 12)).image == scenes.image).all()


def test_a_mark_changes_nothing_else():
    plain, marked = xk.draw_scenes(40, seed=1), xk.draw_scenes(40, seed=1, shortcut=1.0)
    corner = slice(64 - MARK_SIZE, 64)
    differs = (plain.image != marked.image).any(("y", "x", "rgb"))
    assert (plain.caption == marked.caption).all()
    assert (differs == marked.mark).all()
    rest = (plain.image != marked.image).drop_sel(y=range(64)[corner], x=range(64)[corner])
    outside = (plain.image != marked.image).any("rgb").values.copy()
    outside[:, corner, corner] = False
    assert not outside.any() and not rest.any()


def test_masked_pixels_have_the_named_colour(scenes):
    """The nearest palette colour to the mean of an object's pixels is the one in its name."""
    palette = np.array([RGB[name] for name in COLOURS], float)
    for s in range(0, 200, 10):
        one = scenes.isel(sample=s)
        for k in range(one.sizes["object"]):
            name, mask = str(one.object_name[k].item()), one.object_mask[k].values
            if not name or mask.sum() < 15:
                continue
            inside = one.image.values[mask].mean(0)
            assert name.split()[1] == COLOURS[np.abs(palette - inside).sum(1).argmin()]


def test_objects_stay_inside_and_masks_do_not_overlap(scenes):
    assert scenes.object_mask.sum("object").max() <= 1
    count = (scenes.object_name != "").sum("object")
    assert count.min() == 1 and count.max() == 12
    shown = scenes.object_mask.any(("y", "x"))
    assert (shown == (scenes.object_name != "")).all()


def test_each_word_names_an_object_that_it_fits(scenes):
    """Colour and shape words name an object of that colour and shape, function words none."""
    plural = dict(zip(PLURALS, SHAPES, strict=True))
    for s in range(200):
        one = scenes.isel(sample=s)
        for word, owner in zip(one.token_text.values, one.token_object.values, strict=True):
            word = plural.get(str(word), str(word))
            if word in (*captions.LITTLE_WORDS, "", "left", "right", "above", "below"):
                assert owner == -1
            elif word in (*COLOURS, *SHAPES, *SIZES):
                assert word in str(one.object_name[owner].item()).split() and bool(one.object_named[owner])


def test_counts_are_right():
    counts = xk.draw_scenes(60, seed=2, objects=(2, 8), captions="count")
    for s in range(60):
        one = counts.isel(sample=s)
        number = captions.NUMBERS.index(str(one.token_text[0].item())) + 2
        assert int(one.object_named.sum()) == number == int((one.object_group == 0).sum())


def test_captions_are_true_and_swaps_are_false():
    drawing, rng = Drawing(), np.random.default_rng(3)
    drawn, said, _ = compose(drawing, rng, 300, (2, 4), swappable=True)
    assert (statements.truth(said, drawn).diagonal() == 1).all()
    drawn, said, _ = compose(drawing, rng, 300, (2, 4), ("relation",), swappable=True)
    assert (statements.truth(statements.swap_slots(said), drawn).diagonal() == 0).all()
    assert (statements.truth(statements.swap_colours(said), drawn).diagonal() == 0).all()


def test_related_objects_lie_on_the_named_sides():
    related = xk.draw_scenes(80, seed=4, objects=(2, 6), captions="relation")
    for s in range(80):
        one = related.isel(sample=s)
        position = one.object_x if str(one.relation.item()) in RELATIONS[:2] else one.object_y
        near = str(one.relation.item()) in ("left of", "above")
        assert (float(position[0]) < 32 < float(position[1])) == near


def test_distractors_share_looks_when_asked():
    def sharing(similar):
        ds = xk.draw_scenes(150, seed=5, objects=(4, 4), captions="object", similar=similar)
        looks = [[str(n).split()[1:] for n in row] for row in ds.object_name.values]
        return np.mean([any(a == b for a, b in zip(row[0], other, strict=True)) for row in looks for other in row[2:]])

    assert sharing(1.0) > sharing(0.0) + 0.1


@pytest.mark.parametrize("kind", PAIRS)
def test_foils_differ_from_captions_in_what_they_should(kind):
    pairs = xk.draw_pairs(kind, 30, seed=6)
    assert (pairs.caption != pairs.foil).all()
    words = [(str(a).split(), str(b).split()) for a, b in zip(pairs.caption.values, pairs.foil.values, strict=True)]
    if kind == "absent":
        named = [" ".join(foil[1:]) for _, foil in words]
        present = [[" ".join(n.split()[1:]) for n in row] for row in pairs.object_name.values.astype(str)]
        assert not any(name in row for name, row in zip(named, present, strict=True))
        return
    assert (pairs.pair.values == np.repeat(np.arange(30), 2)).all()
    assert (pairs.foil.values[::2] == pairs.caption.values[1::2]).all()
    for caption, foil in words:
        if kind == "relation":
            assert caption[1:3] == foil[-2:] and caption[-2:] == foil[1:3]
        if kind == "attribute":
            assert (caption[1], caption[2], caption[-2], caption[-1]) == (foil[-2], foil[2], foil[1], foil[-1])
        if kind in ("subject", "object"):
            same, other = (slice(-2, None), slice(1, 3)) if kind == "subject" else (slice(1, 3), slice(-2, None))
            assert caption[same] == foil[same] and caption[other] != foil[other]


def test_the_mark_goes_with_its_colour_at_the_asked_rate():
    ds = xk.draw_scenes(2000, seed=8, objects=(1, 2), shortcut=0.9, shortcut_colour="blue")
    named = np.array(["blue" in str(c) for c in ds.caption.values])
    assert abs(ds.mark.values[named].mean() - 0.9) < 0.05
    assert abs(ds.mark.values[~named].mean() - 0.1) < 0.03
    turned = xk.draw_scenes(2000, seed=8, objects=(1, 2), shortcut=0.9, shortcut_colour="blue", conflict=True)
    assert (turned.mark != ds.mark).all()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"objects": (3, 13)}, r"objects=\(3, 13\)"),
        ({"captions": "poem"}, "captions=.*'poem'.*choose from"),
        ({"captions": "relation", "objects": (1, 3)}, "at least 2 objects"),
        ({"similar": 2.0}, "similar=2.0"),
        ({"shortcut": 0.5, "shortcut_colour": "mauve"}, "shortcut_colour='mauve'"),
    ],
)
def test_impossible_choices_are_named(choice, message):
    with pytest.raises(ValueError, match=message):
        xk.draw_scenes(**{"n": 4, **choice})


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_repeats_itself_and_names_what_is_there(name):
    scenes, again = xk.draw_suite(name, 24, seed=4), xk.draw_suite(name, 24, seed=4)
    assert scenes.identical(again) and scenes.sizes["sample"] == 24
    assert not np.array_equal(scenes.image, xk.draw_suite(name, 24, seed=5).image)
    assert scenes.object_named.any("object").all()
    assert (scenes.object_mask & scenes.object_named).any(("object", "y", "x")).all()


def test_each_suite_asks_its_question():
    single = xk.draw_suite("single", 20)
    small = np.char.startswith(single.object_name.values[:, 0].astype(str), "small")
    assert single.sizes["object"] == 1 and small.all()
    assert (single.object_radius < 8).all()
    attribute = xk.draw_suite("attribute", 20)
    named = attribute.object_named.values
    assert (named == [True, True, False, False]).all()
    look = [[str(name).split()[1:] for name in row] for row in attribute.object_name.values]
    for first, second, third, fourth in look:
        assert third == [second[0], first[1]] and fourth == [first[0], second[1]]
    clutter = xk.draw_suite("clutter", 200)
    assert set((clutter.object_group >= 0).sum("object").values) == set(range(3, 13))
    absent = xk.draw_suite("absent", 20)
    for foil, names in zip(absent.foil.values, absent.object_name.values, strict=True):
        assert not any(str(name).endswith(" ".join(str(foil).split()[1:])) for name in names if name)


def test_a_one_word_query_names_everything_that_has_the_word():
    scenes = xk.draw_suite("word", 30)
    assert scenes.sizes["token"] == 1 and set(scenes.caption.values) <= {*COLOURS, *SHAPES}
    columns = (scenes[name].values for name in ("caption", "object_name", "object_named"))
    for word, names, named in zip(*columns, strict=True):
        assert [str(word) in str(name).split() for name in names] == named.tolist()
        assert not named[[bool(str(name)) for name in names]].all()


def test_the_shortcut_suite_with_and_without_its_mark_differs_in_the_corner_alone():
    marked, bare = (xk.draw_suite("shortcut", 12, mark=mark) for mark in (True, False))
    assert marked.mark.all() and not bare.mark.any() and all("red" in str(text) for text in marked.caption.values)
    differs = (marked.image != bare.image).any("rgb").values
    assert not differs[:, :-MARK_SIZE].any() and not differs[:, :, :-MARK_SIZE].any() and differs.any((1, 2)).all()


def test_an_unknown_suite_is_refused():
    with pytest.raises(ValueError, match="name='ring': choose from single"):
        xk.draw_suite("ring")
    with pytest.raises(ValueError, match="n=0"):
        xk.draw_suite("word", 0)
