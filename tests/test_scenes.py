"""Scenes are deterministic, and what they say of themselves is true of their pixels."""

import numpy as np
import pytest
from training import statements

import xaikit as xk
from xaikit.samples.assembly import Drawing, compose
from xaikit.samples.worlds.layout import COLOURS, MARK_SIZE, RELATIONS, RGB


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(200, seed=7, objects=(1, 12))


@pytest.mark.parametrize(
    ("draw", "always"),
    [
        (lambda mark: xk.draw_scenes(40, seed=1, shortcut=1.0 if mark else None), False),
        (lambda mark: xk.draw_suite("shortcut", 12, mark=mark), True),
    ],
)
def test_a_mark_changes_its_corner_and_nothing_else(draw, always):
    plain, marked = draw(False), draw(True)
    red = np.array(["red" in text.split() for text in marked.caption.values])
    assert (plain.caption == marked.caption).all() and not plain.mark.any() and (marked.mark.values == red).all()
    assert red.any() and red.all() == always
    differs = (plain.image != marked.image).any("rgb").values
    assert (differs.any((1, 2)) == red).all()
    differs[:, -MARK_SIZE:, -MARK_SIZE:] = False
    assert not differs.any()


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


def test_the_mark_goes_with_its_colour_at_the_asked_rate():
    how = dict(seed=8, objects=(1, 2), shortcut=0.9, shortcut_colour="blue", size=32)
    ds = xk.draw_scenes(2000, **how)
    named = np.array(["blue" in str(c) for c in ds.caption.values])
    assert abs(ds.mark.values[named].mean() - 0.9) < 0.05
    assert abs(ds.mark.values[~named].mean() - 0.1) < 0.03
    turned = xk.draw_scenes(2000, conflict=True, **how)
    assert (turned.mark != ds.mark).all()
