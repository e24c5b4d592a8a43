"""Both worlds are drawn at any size and in any style, the same scene at each, with masks of what is seen of every object."""

import re

import numpy as np
import pytest
from drawings import WORLDS, agreement, bare, fits, in_both_worlds, seeds, there, tried, worlds
from hypothesis import given, strategies as st
from refusals import refused
from training.bundled import MODELS
from training.llava import LLAVAS

import xaikit as xk
from xaikit.samples.captions import NUMBERS, name_parts
from xaikit.samples.scenes import PAIRS, SUITES
from xaikit.samples.worlds.layout import COLOURS, RELATIONS
from xaikit.samples.worlds.things import HELD_OUT, STYLES


@in_both_worlds
def test_the_same_seed_gives_the_same_pixels(world):
    first, again, other = (xk.draw_scenes(12, seed=seed, objects=(1, 12), world=world) for seed in (3, 3, 4))
    assert first.identical(again) and (first.image != other.image).any(("y", "x", "rgb")).all()
    assert first.sizes["x"] == first.sizes["y"] == WORLDS[world]


@tried(12)
@given(world=worlds, seed=seeds, size=st.integers(32, 512))
def test_a_scene_is_the_same_at_any_size(world, seed, size):
    usual, sized = (xk.draw_scenes(2, seed, objects=(1, 4), world=world, size=side) for side in (None, size))
    assert sized.image.shape == (2, size, size, 3) and sized.object_mask.shape[2:] == (size, size)
    for name in ("caption", "object_name", "object_named", "token_object", "relation", "background", "style"):
        assert (usual[name] == sized[name]).all(), name
    for name in ("object_x", "object_y", "object_radius"):
        np.testing.assert_allclose(usual[name] / WORLDS[world], sized[name] / size)
    shown = sized.object_mask.any(("y", "x"))
    assert (shown == (sized.object_name != "")).all(), "nothing gets lost"


# Masks hold the pixels of which an object covers more than half, so what keeps them apart is their pixels: the thinner
# an object is, the more. (world, size, larger size, objects, least median and least worst IoU)
@pytest.mark.parametrize(
    ("world", "size", "larger", "objects", "median", "worst"),
    [
        ("shapes", 64, 224, 4, 0.95, 0.7),
        ("shapes", 160, 480, 4, 0.99, 0.95),
        ("things", 96, 224, 4, 0.95, 0.85),
        ("things", 160, 480, 4, 0.98, 0.95),
        ("things", 96, 224, 12, 0.93, 0.6),
    ],
)
def test_masks_agree_between_sizes(world, size, larger, objects, median, worst):
    small, large = (xk.draw_scenes(8, 3, objects=(objects, objects), world=world, size=side) for side in (size, larger))
    shares = np.array(
        [small.object_mask.values[at].mean() / large.object_mask.values[at].mean() for at in there(small)]
    )
    found = np.array([agreement(small.object_mask.values[at], large.object_mask.values[at]) for at in there(small)])
    assert np.median(found) > median and found.min() > worst
    assert abs(np.median(shares) - 1) < 0.02, "neither is the fuller one"


@in_both_worlds
def test_masks_are_the_visible_pixels(world):
    """A pixel belongs to the object whose removal changes it, and to the topmost one."""
    scenes = xk.draw_scenes(16, 5, objects=(6, 6), world=world)
    assert (scenes.object_mask.sum("object") <= 1).all()
    for slot in range(6):
        rest = xk.without(scenes, slot)
        changed = (scenes.image != rest.image).any("rgb").values
        mask = scenes.object_mask.values[:, slot]
        assert changed[mask].mean() > 0.97, "it is seen where its mask is"
        beyond = changed & ~mask  # what it covers by half or less is at the mask's edge
        padded = np.pad(mask, ((0, 0), (2, 2), (2, 2)))
        side = mask.shape[1]
        near = np.any([padded[:, i : i + side, j : j + side] for i in range(5) for j in range(5)], axis=0)
        assert (beyond & ~near).sum() <= 0.02 * mask.sum() and beyond.sum() < mask.sum()


@pytest.mark.parametrize(
    ("world", "size", "smallest", "objects"),
    [("shapes", 224, 64, 3), ("shapes", 64, 14, 4), ("shapes", 128, 18, 12), ("things", 224, 64, 3), ("things", 64, 16, 4),
     ("things", 128, 20, 12)],
)  # fmt: skip
def test_the_least_width_is_kept(world, size, smallest, objects):
    how = dict(seed=1, objects=(1, objects), world=world, size=size)
    usual, scenes = xk.draw_scenes(20, **how), xk.draw_scenes(20, smallest=smallest, **how)
    width, least = 2 * scenes.object_radius, smallest / xk.samples.find_world(world).extent
    assert (width.values[~np.isnan(width)] >= least - 1e-9).all() and (width.min() < least + 1)
    assert (2 * usual.object_radius).min() < least
    larger = 2 * usual.object_radius > least
    masks, alone = scenes.object_mask.values, (scenes.object_name != "").sum("object").values == 1
    sides = np.maximum(masks.any(2).sum(-1), masks.any(3).sum(-1))[alone, 0]
    assert (sides >= smallest - 2).all(), "of what is seen, to whole pixels"
    np.testing.assert_allclose(width.where(larger), (2 * usual.object_radius).where(larger))
    reach = scenes.object_radius.values
    for x in (scenes.object_x.values, scenes.object_y.values):
        inside = (x - reach >= 0) & (x + reach <= scenes.sizes["x"])
        assert inside[~np.isnan(reach)].all()
    assert not {"small", "large"} & set(scenes.token_text.values.ravel()), "sizes are no longer told apart"


@in_both_worlds
def test_what_is_widened_is_described_without_sizes(world):
    told = xk.draw_descriptions(20, 2, objects=(2, 4), world=world, size=224, smallest=50)
    assert not {"small", "large"} & set(told.token_text.values.ravel())
    assert told.object_named.values[told.object_name.values != ""].all()


@pytest.mark.parametrize("style", STYLES)
def test_a_style_is_kept(style):
    scenes = xk.draw_scenes(6, 1, world="things", styles=style)
    assert (scenes["style"] == style).all()
    assert scenes.identical(xk.draw_scenes(6, 1, world="things", styles=[style]))
    assert (scenes.caption == xk.draw_scenes(6, 1, world="things").caption).all(), "and changes nothing else"


def test_all_styles_come_up_and_differ_in_the_objects_alone():
    assert set(xk.draw_scenes(60, world="things", size=32)["style"].values) == set(STYLES)
    two = xk.draw_scenes(60, world="things", size=32, styles=["flat", "noto"])
    assert set(two["style"].values) == {"flat", "noto"}
    one, other = (xk.draw_scenes(8, 2, world="things", styles=style) for style in ("flat", "noto"))
    covered = one.object_mask.any("object") | other.object_mask.any("object")
    differs = (one.image != other.image).any("rgb")
    assert differs.values[covered.values].mean() > 0.8 and differs.values[~covered.values].mean() < 0.05


def test_the_bundled_models_never_saw_the_held_out_style():
    stages = [stage for model in MODELS.values() if model.architecture.world == "things" for stage in model.stages]
    stages += [recipe for recipe in LLAVAS.values() if recipe.architecture.world == "things"]
    assert stages and all(set(stage.styles) == {*STYLES} - {HELD_OUT} for stage in stages)


@in_both_worlds
@pytest.mark.parametrize(
    ("template", "before", "after"), [("a photo of {}", "a photo of ", ""), ("{} , again .", "", ", again.")]
)
def test_a_template_stands_around_the_caption(world, template, before, after):
    draws = (
        lambda **how: xk.draw_scenes(12, 3, world=world, size=32, **how),
        lambda **how: xk.draw_descriptions(6, 3, world=world, size=32, **how),
        lambda **how: xk.draw_suite("word", 12, 3, world=world, size=32, **how),
    )
    for draw in draws:
        plain, said = draw(), draw(template=template)
        assert said.caption.values.tolist() == [f"{before}{text}{after}" for text in plain.caption.values]
        assert (plain.image == said.image).all() and (plain.object_named == said.object_named).all()
        around = len(before.split())
        for row, text in enumerate(said.token_text.values):
            length, own = (text != "").sum(), (plain.token_text.values[row] != "").sum()
            owners = said.token_object.values[row]
            assert owners[around : around + own].tolist() == plain.token_object.values[row, :own].tolist()
            assert (np.delete(owners, slice(around, around + own)) == -1).all() and length == own + len(
                template.replace("{}", "").split()
            )
    pair = xk.draw_pairs("relation", 3, world=world, template=template)
    assert all(foil.startswith(before) and foil.endswith(after) for foil in pair.foil.values)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"size": 31}, "size=31: a whole number from 32 to 512 is needed"),
        ({"size": 513}, "size=513: a whole number from 32 to 512"),
        ({"size": 96.0}, "size=96.0: a whole number"),
        ({"world": "thing"}, "world='thing': choose from shapes, things"),
        ({"styles": "notto"}, "styles='notto': choose from twemoji, fluent, flat, noto"),
        ({"styles": ["flat", "flat"]}, "different names"),
        ({"world": "shapes", "styles": "noto"}, "styles='noto': choose from plain"),
        ({"smallest": -1}, "smallest=-1: a width in pixels from 0 to 96 is needed"),
        ({"template": "a small photo of {}"}, "'small' would say something of the scene"),
        ({"template": "a photo of {} beside a camera"}, "'camera' would say something of the scene"),
        ({"wold": "things"}, "unknown option 'wold' of drawing: it takes world, size"),
        ({"smallest": 40, "objects": (1, 4)}, "smallest=40: 4 objects so wide don't fit into 96 pixels, at most 2 do"),
        ({"template": "a photo of"}, "template='a photo of': a text with one {} for the caption"),
        ({"template": "{} and {}"}, "one {} for the caption"),
        ({"template": None}, "template=None: a text"),
        ({"n": 0}, "n=0"),
        ({"objects": (3, 13)}, "objects=(3, 13)"),
        ({"captions": "poem"}, "captions='poem': choose from"),
        ({"captions": "relation", "objects": (1, 3)}, "at least 2 objects"),
        ({"similar": 2.0}, "similar=2.0"),
        ({"shortcut": 0.5, "shortcut_colour": "mauve"}, "shortcut_colour='mauve'"),
    ],
)
def test_impossible_drawings_are_named(choice, message):
    refused(re.escape(message), xk.draw_scenes, **{"n": 2, "world": "things", **choice})
    if {*choice} <= {"size", "world", "wold", "styles", "smallest", "template"}:
        refused(re.escape(message), xk.draw_suite, "single", 2, **{"world": "things", **choice})


def test_an_unknown_suite_is_refused():
    refused("name='ring': choose from single", xk.draw_suite, "ring")
    refused("n=0", xk.draw_suite, "word", 0)


def phrases(text):
    """The relation, and the noun phrases on both sides, without articles."""
    relation = next((name for name in RELATIONS if f" {name} " in text), "")
    return relation, [bare(phrase) for phrase in (text.split(f" {relation} ") if relation else [text])]


@in_both_worlds
@pytest.mark.parametrize("kind", PAIRS)
def test_a_foil_is_false_in_one_respect(world, kind):
    pairs = xk.draw_pairs(kind, 60, seed=6, world=world, similar=1.0, size=32)
    columns = (pairs[name].values for name in ("caption", "foil", "object_name"))
    if kind != "absent":
        assert (pairs.pair.values == np.repeat(np.arange(60), 2)).all()
        assert (pairs.foil.values[::2] == pairs.caption.values[1::2]).all()
    for caption, foil, names in zip(*columns, strict=True):
        (relation, said), (other, wrong) = phrases(caption), phrases(foil)
        assert relation == other and caption != foil
        true, false = ([any(fits(phrase, name) for name in names) for phrase in each] for each in (said, wrong))
        if kind == "count":
            (number, *noun), (more, *same) = said[0].split(), wrong[0].split()
            assert noun == same and abs(NUMBERS.index(number) - NUMBERS.index(more)) == 1
            continue
        assert all(true)
        if kind == "relation":
            assert said == wrong[::-1] and all(false)
        elif kind == "attribute":
            (one, *first), (two, *second) = (phrase.split() for phrase in said)
            assert {one, two} < {*COLOURS} and one != two
            assert [phrase.split() for phrase in wrong] == [[two, *first], [one, *second]] and not any(false)
        elif kind == "absent":
            assert false == [False]
        else:
            changed = int(kind == "object")
            assert not false[changed] and said[1 - changed] == wrong[1 - changed]


def numbers(texts):
    return np.array([NUMBERS.index(text.split()[0]) + 2 for text in texts.values])


@in_both_worlds
def test_counts_are_those_of_the_scene(world):
    pairs = xk.draw_pairs("count", 40, seed=1, world=world, size=32)
    scenes = xk.draw_scenes(60, seed=2, objects=(2, 8), captions="count", world=world, size=32)
    for counted in (pairs, scenes):
        number = numbers(counted.caption)
        assert (counted.object_named.sum("object") == number).all()
        assert ((counted.object_group == 0).sum("object") == number).all()
    number, wrong = numbers(pairs.caption), numbers(pairs.foil)
    assert (abs(number - wrong) == 1).all()
    assert (number < wrong).any() and (number[::2] < number[1::2]).any() and (number[::2] > number[1::2]).any()
    changed = (pairs.image.values[::2] != pairs.image.values[1::2]).any((1, 2, 3))
    assert changed.all() and (pairs.background.values[::2] == pairs.background.values[1::2]).all()
    refused("at least 3 objects", xk.draw_pairs, "count", 2, objects=(2, 4), world=world)


@in_both_worlds
@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_asks_its_question(world, suite):
    scenes = xk.draw_suite(suite, 24, seed=4, world=world)
    assert (scenes.world == world).all() and scenes.identical(xk.draw_suite(suite, 24, seed=4, world=world))
    assert not np.array_equal(scenes.image, xk.draw_suite(suite, 24, seed=5, world=world).image)
    assert (scenes.object_mask & scenes.object_named).any(("object", "y", "x")).all()
    number = (scenes.object_name != "").sum("object").values
    named = scenes.object_named.values
    for row, (caption, names) in enumerate(zip(scenes.caption.values, scenes.object_name.values, strict=True)):
        relation, said = phrases(caption)
        parts = [name_parts(name)[1:] for name in names if name]
        if suite == "single":
            assert number[row] == 1 and (world == "things" or names[0].startswith("small"))
            assert 2 * scenes.object_radius[row, 0] <= 0.34 * scenes.sizes["x"]
        elif suite == "relation":
            assert relation and number[row] >= 3 and named[row].tolist()[:3] == [True, True, False]
        elif suite == "attribute":
            assert named[row].tolist() == [True, True, False, False]
            (one, first), (two, second), *others = parts
            assert others == [(two, first), (one, second)] and "" not in (one, two) and (one, first) != (two, second)
        elif suite == "clutter":
            assert 3 <= number[row] <= 12 and named[row].sum() in (1, 2)
        elif suite == "shortcut":
            assert parts[0][0] == "red" and "red" in caption.split() and scenes.mark[row]
        elif suite == "absent":
            assert not any(fits(phrase, name) for phrase in phrases(scenes.foil.values[row])[1] for name in names)
        else:
            asked = [caption in part for part in parts]
            assert asked == named[row].tolist()[: len(parts)] and any(asked) and not all(asked)
    assert named.any(1).all() and len(set(number)) >= (1 if suite in ("single", "attribute") else 2)


@in_both_worlds
def test_distractors_that_shall_be_alike_are_still_drawn_by_chance(world):
    scenes = xk.draw_scenes(200, objects=(4, 4), captions="object", similar=1.0, world=world, size=32)
    names, counts = np.unique(scenes.object_name.values[:, 2:].astype(str), return_counts=True)
    assert counts.max() < 0.1 * counts.sum() and len(names) > 40
