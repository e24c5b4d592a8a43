"""Scenes drawn again without, with another, or with a moved object: nothing else changes, and their truth follows."""

import numpy as np
import pytest
import xarray as xr
from drawings import fits, in_both_worlds, seeds, tried, worlds
from hypothesis import given, strategies as st
from refusals import refused

import xaikit as xk


def reach(scenes, slot):
    """Pixels (sample, y, x) that an object may cover: a turned square's corners are the farthest."""
    x, y, radius = (scenes[name].values[:, slot, None, None] for name in ("object_x", "object_y", "object_radius"))
    place = np.arange(scenes.sizes["x"]) + 0.5
    return np.hypot(place - x, place[:, None] - y) <= 1.5 * radius + 2


@tried(6)
@given(world=worlds, seed=seeds, slot=st.integers(0, 2), size=st.sampled_from([64, 96, 160]), data=st.data())
def test_nothing_else_changes(world, seed, slot, size, data):
    scenes = xk.draw_scenes(3, seed, objects=(3, 6), world=world, size=size)
    room = scenes.object_radius.values[:, slot].max() + 0.01
    x, y = (data.draw(st.floats(room, size - room)) for _ in "xy")
    by = data.draw(st.sampled_from(["ring", "blue cross"] if world == "shapes" else ["hot dog", "red car"]))
    for changed in (xk.without(scenes, slot), xk.replaced(scenes, slot, by), xk.moved(scenes, slot, x, y)):
        differs = (scenes.image != changed.image).any("rgb").values
        where = reach(scenes, slot)
        there_now = changed.object_name.values[:, slot] != ""
        where |= np.where(there_now[:, None, None], reach(changed, slot), False)
        assert not (differs & ~where).any(), "pixels outside the object's reach are the same"
        others = np.arange(scenes.sizes["object"]) != slot
        before, after = scenes.object_mask.values[:, others], changed.object_mask.values[:, others]
        hid, hides = scenes.object_mask.values[:, [slot]], changed.object_mask.values[:, [slot]]
        assert not (after & ~before & ~hid).any(), "others come to light only where it hid them"
        assert not (before & ~after & ~hides).any(), "and are hidden only where it now is"
        assert (scenes.object_name == changed.object_name).values[:, others].all()
        for name in ("object_x", "object_y", "object_radius"):
            np.testing.assert_allclose(scenes[name].values[:, others], changed[name].values[:, others])
        for name in ("caption", "token_text", "relation", "background", "style", "scene_seed"):
            assert (scenes[name] == changed[name]).all()
    same = xk.moved(scenes, slot, scenes.object_x.values[:, slot], scenes.object_y.values[:, slot])
    assert (same.image == scenes.image).all() and same.caption_true.all()
    assert (same.object_named == scenes.object_named).all() and (same.token_object == scenes.token_object).all()


@in_both_worlds
def test_an_object_taken_away_is_gone(world):
    scenes = xk.draw_scenes(12, 1, objects=(2, 5), world=world)
    rest = xk.without(scenes, 1)
    assert not rest.object_mask[:, 1].any() and (rest.object_name[:, 1] == "").all()
    assert (rest.object_group[:, 1] == -1).all() and rest.object_x[:, 1].isnull().all()
    assert (xk.without(rest, 0).object_name.values[:, :2] == "").all(), "and another after it"


@in_both_worlds
def test_what_replaces_an_object_keeps_its_place_and_size(world):
    scenes = xk.draw_scenes(6, 2, objects=(2, 2), world=world)
    names = ["ring", "blue cross"] if world == "shapes" else ["umbrella", "red car"]
    new = xk.replaced(scenes, 0, names * 3)
    for name in ("object_x", "object_y", "object_radius"):
        np.testing.assert_allclose(new[name], scenes[name])
    for own, before, after in zip(
        names * 3, scenes.object_name.values[:, 0], new.object_name.values[:, 0], strict=True
    ):
        assert fits(own, after) and after.split()[0] == (before.split()[0] if world == "shapes" else own.split()[0])
        if own == "ring":
            assert after.split()[1] == before.split()[1], "a shape keeps its colour"
    assert (new.image != scenes.image).any(("y", "x", "rgb")).all()


@in_both_worlds
@pytest.mark.parametrize("kind", ["object", "list", "relation", "count"])
def test_captions_are_true_as_long_as_what_they_name_is_there(world, kind):
    scenes = xk.draw_scenes(30, 3, objects=(4, 4), captions=kind, world=world, size=32)
    named = scenes.object_named.values
    for slot in range(4):
        rest = xk.without(scenes, slot)
        assert (rest.caption_true == ~named[:, slot]).all(), "of a count one fewer is false, too"
        still = named & (np.arange(4) != slot)
        assert (rest.object_named.values == still).all()
        owners = rest.token_object.values
        unnamed = ~named[:, slot]
        assert (owners[unnamed] == scenes.token_object.values[unnamed]).all()
        assert not (owners == slot).any() or kind == "count"
        row, token = np.nonzero(owners >= 0)
        assert (rest.object_name.values[row, owners[row, token]] != "").all(), "no word names what isn't there"


@in_both_worlds
def test_a_caption_stays_true_of_another_that_is_alike(world):
    scenes = xk.draw_scenes(8, 4, objects=(3, 3), captions="object", world=world)
    names = scenes.object_name.values
    sizes, looks = zip(*(name.split(" ", 1) if world == "shapes" else ("", name) for name in names[:, 0]), strict=True)
    alone, twins = xk.without(scenes, 0), xk.replaced(scenes, 2, looks)
    assert not alone.caption_true.any() and twins.caption_true.all() and twins.object_named[:, 0].all()
    left = xk.without(twins, 0)
    for row, said in enumerate(scenes.token_text.values):
        another = sizes[row] not in said or not sizes[row] or names[row, 2].startswith(sizes[row])
        assert left.caption_true[row] == another
        assert left.object_named.values[row].tolist() == [False, False, another]
        assert (left.token_object[row] == 2).any() and set(left.token_object.values[row]) <= {-1, 2}


@in_both_worlds
def test_a_relation_is_false_once_its_object_stands_on_the_other_side(world):
    scenes = xk.draw_scenes(24, 5, objects=(2, 3), captions="relation", world=world)
    x, y = scenes.object_x.values.copy(), scenes.object_y.values.copy()
    across = np.isin(scenes.relation.values, ["left of", "right of"])
    side = scenes.sizes["x"]
    there = xk.moved(scenes, 0, np.where(across, side - x[:, 0], x[:, 0]), np.where(across, y[:, 0], side - y[:, 0]))
    crossed = np.where(
        across, np.sign(there.object_x[:, 0] - x[:, 1]) != np.sign(x[:, 0] - x[:, 1]),
        np.sign(there.object_y[:, 0] - y[:, 1]) != np.sign(y[:, 0] - y[:, 1]),
    )  # fmt: skip
    assert (there.caption_true.values == ~crossed).all() and crossed.mean() > 0.4
    aside = xk.moved(scenes, 0, np.where(across, x[:, 0], side - x[:, 0]), np.where(across, side - y[:, 0], y[:, 0]))
    assert aside.caption_true.all(), "along the other axis it holds as before"
    assert (aside.object_named == scenes.object_named).all()


@in_both_worlds
def test_a_word_alone_keeps_naming_all_that_has_it(world):
    scenes = xk.draw_suite("word", 30, 1, world=world, size=32)
    assert {len(text.split()) for text in scenes.caption.values} <= {1, 2}
    same = xk.moved(scenes, 0, scenes.object_x.values[:, 0], scenes.object_y.values[:, 0])
    assert (same.object_named == scenes.object_named).all() and same.caption_true.all()
    assert (same.token_object == scenes.token_object).all()
    gone = xk.without(scenes, 0)
    still = scenes.object_named.values.copy()
    still[:, 0] = False
    assert (gone.object_named.values == still).all() and (gone.caption_true.values == still.any(1)).all()
    first = np.where(still.any(1), still.argmax(1), -1)
    assert (gone.token_object.values[:, 0] == first).all()


@in_both_worlds
def test_the_corner_mark_stays_on_top(world):
    marked = xk.draw_suite("shortcut", 6, world=world)
    rest = xk.without(marked, 0)
    side = marked.sizes["x"] * 6 // 64
    assert rest.mark.all() and (rest.image == marked.image).values[:, -side:, -side:].all()


@in_both_worlds
def test_any_part_of_scenes_and_several_together_can_be_drawn_again(world):
    few, many = (xk.draw_scenes(5, n, objects=(n, n), world=world) for n in (2, 4))
    whole = xk.without(few, 1)
    picked = [3, 0]
    assert xk.without(few.isel(sample=picked), 1).equals(whole.isel(sample=picked))
    for join in (xk.samples.source.joined, lambda parts: xr.concat(parts, "sample", join="outer")):
        both = join([few, many])
        slots = [1] * 5 + [3] * 5
        rest = xk.without(both, slots)
        assert (rest.image.values[:5] == whole.image.values).all()
        assert (rest.image.values[5:] == xk.without(many, 3).image.values).all()
        assert (rest.caption_true.values[:5] == whole.caption_true.values).all()
        assert rest.object_mask.dtype == bool and not rest.object_mask[:5, 1:].any()
        refused(r"object=3: scene 0 has no such object, it has 0 \(.*\), 1 \(", xk.without, both, 3)
    pairs = xk.draw_pairs("relation", 3, world=world)
    rest = xk.without(pairs.assign(similarity=("sample", np.ones(6, np.float32))), 0)
    assert not rest.caption_true.any() and not {"foil", "pair", "similarity"} & {*rest}, "what was of the old picture"


def test_scenes_that_were_stored_are_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XAIKIT_RUNS", str(tmp_path))
    scenes = xk.draw_scenes(4, 3, objects=(2, 3), world="things")
    xk.save_store(scenes, "again", "inputs")
    stored = xk.open_store("again", "inputs")
    assert (xk.without(stored, 0).image == xk.without(scenes, 0).image).all()


def test_scenes_of_two_worlds_are_refused():
    both = xr.concat([xk.draw_scenes(1, world=world, size=64, objects=(2, 2)) for world in ("shapes", "things")], "sample",
                     join="outer")  # fmt: skip
    refused("one planted world are needed, these are of shapes, things", xk.without, both, 0)


@pytest.fixture(scope="module")
def things():
    return xk.draw_scenes(3, 1, objects=(2, 2), world="things")


@pytest.mark.parametrize(
    ("call", "given", "message"),
    [
        (xk.without, (7,), r"object=7: scene 0 has no such object, it has 0 \("),
        (xk.without, (-1,), "object=-1: scene 0 has no such object"),
        (xk.without, ([0, 1],), r"object=\[0, 1\]: a number, or one for each of the 3 scenes, is needed"),
        (xk.without, ([0, 1, 2],), "object=2: scene 2 has no such object"),
        (xk.without, (0.0,), "object=0.0: a number"),
        (xk.replaced, (0, "dgo"), "by='dgo': choose from dog, .* the nearest of 143"),
        (xk.replaced, (0, "mauve car"), "colour='mauve': choose from red"),
        (xk.replaced, (0, "red dog"), "by='red dog': a dog takes no other colour than its own"),
        (xk.replaced, (0, "small car"), "by='small car': the size stays as it is"),
        (xk.replaced, (0, ["car", "dog"]), r"by=\['car', 'dog'\]: a name, or one for each of the 3 scenes"),
        (xk.replaced, (0, 5), "by=5: a name"),
        (xk.moved, (0, 1, 48), "x=1.0: a place of an object .* pixels wide from"),
        (xk.moved, (0, 48, np.nan), "y=nan: a place"),
        (xk.moved, (0, [48, 48], 48), r"x=\[48, 48\]: pixels, or as many for each of the 3 scenes"),
        (xk.moved, (0, 48, "low"), "y='low': pixels"),
    ],
)
def test_impossible_interventions_are_named(things, call, given, message):
    refused(message, call, things, *given)


def test_only_planted_scenes_are_drawn_again(things):
    refused("these lack scene_seed, style: draw them", xk.without, things.drop_vars(["scene_seed", "style"]), 0)
    refused("without the dimension 'sample'", xk.without, things.isel(sample=0), 0)
