"""Scenes are deterministic, and what they say of themselves is true of their pixels."""

import numpy as np
import pytest
from training import statements

import xaikit as xk
from xaikit.samples import captions
from xaikit.samples.assembly import Drawing, compose
from xaikit.samples.worlds.layout import COLOURS, MARK_SIZE, RELATIONS, RGB
from xaikit.samples.worlds.shapes import PLURALS, SHAPES, SIZES


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(200, seed=7, objects=(1, 12))


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
    clutter = (xk.draw_suite("clutter", 200, size=32).object_name != "").sum("object")
    assert set(clutter.values) == set(range(3, 13))


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
        ds = xk.draw_scenes(150, seed=5, objects=(4, 4), captions="object", similar=similar, size=32)
        looks = [[str(n).split()[1:] for n in row] for row in ds.object_name.values]
        return np.mean([any(a == b for a, b in zip(row[0], other, strict=True)) for row in looks for other in row[2:]])

    assert sharing(1.0) > sharing(0.0) + 0.1


def test_the_mark_goes_with_its_colour_at_the_asked_rate():
    how = dict(seed=8, objects=(1, 2), shortcut=0.9, shortcut_colour="blue", size=32)
    ds = xk.draw_scenes(2000, **how)
    named = np.array(["blue" in str(c) for c in ds.caption.values])
    assert abs(ds.mark.values[named].mean() - 0.9) < 0.05
    assert abs(ds.mark.values[~named].mean() - 0.1) < 0.03
    turned = xk.draw_scenes(2000, conflict=True, **how)
    assert (turned.mark != ds.mark).all()


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
