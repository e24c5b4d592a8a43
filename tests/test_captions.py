"""What captions and descriptions say is true of their scenes and good English, and words name the objects that they fit."""

from functools import cache, partial

import numpy as np
import pytest
from drawings import in_both_worlds
from notebook_functions import functions_of
from training.statements import descriptions, question

import xaikit as xk
from xaikit.samples.assembly import READING_MARGIN, Drawing, _in_reading_order, describable
from xaikit.samples.captions import IS, NUMBERS, describe, name_objects, name_parts, noun_phrase, noun_phrases, words
from xaikit.samples.scenes import draw_descriptions
from xaikit.samples.worlds.layout import COLOURS, Layout
from xaikit.samples.worlds.shapes import SHAPES, SIZES

DRAWING = Drawing()


def phrases(scene):
    """The object names of a caption in order, each with the object that its words are said to name."""
    words, owners = scene.token_text.values, scene.token_object.values
    starts = np.flatnonzero(np.isin(words, SIZES))
    return [(" ".join(words[start : start + 3]), set(owners[start : start + 3].tolist())) for start in starts]


@pytest.mark.parametrize(
    ("own", "name", "fits"),
    [("small red ring", "red ring", True), ("red car", "car", True), ("car", "car", True), ("pineapple", "apple", False),
     ("hot dog", "dog", False), ("greenhouse", "house", False), ("red ring", "blue ring", False)],
)  # fmt: skip
def test_a_name_is_a_whole_name_but_for_size_and_colour(own, name, fits):
    assert functions_of("grad_eclip").is_named(own, name) is fits


def test_every_object_is_told_once_in_reading_order(described):
    for count, scenes in described.items():
        for index in range(scenes.sizes["sample"]):
            scene = scenes.isel(sample=index)
            assert scene.object_named.all() and scene.caption_kind == "description"
            told = phrases(scene)
            assert [name for name, _ in told] == scene.object_name.values.tolist(), "its attributes are the object's"
            assert [owner for _, owner in told] == [{place} for place in range(count)]
            others = ~np.isin(scene.token_text, [*SIZES, *COLOURS, *SHAPES])
            assert (scene.token_object.values[others] == -1).all()
            across, down = np.diff(scene.object_x), np.diff(scene.object_y)
            if count == 2:
                relation = str(scene.relation.values)
                gap, lesser = (across, abs(down)) if relation == "left of" else (down, abs(across))
                assert relation in ("left of", "above") and gap > 0 and gap >= lesser + READING_MARGIN
                assert str(scene.caption.values) == f"a {told[0][0]} is {relation} a {told[1][0]}"
            else:
                assert (across >= READING_MARGIN).all() and scene.relation == ""
                names = [f"a {name}" for name, _ in told]
                listed = names[0] if count == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"
                assert str(scene.caption.values) == listed


def test_masks_are_where_the_words_say(described):
    """Left and right, up and down, in the pixels themselves."""
    scenes = described[2]
    mask = scenes.object_mask.values
    size = mask.sum((2, 3))
    x, y = (mask * np.arange(64)).sum((2, 3)) / size, (mask * np.arange(64)[:, None]).sum((2, 3)) / size
    left = scenes.relation.values == "left of"
    assert (np.diff(x)[left] > 0).all() and (np.diff(y)[~left] > 0).all() and 10 < left.sum() < 50
    assert (scenes.image.values[mask[:, 0]].std(0) > 0).all()


def test_both_relations_all_words_and_all_counts_come_up(described):
    mixed = draw_descriptions(80, seed=0, objects=(1, 4), size=32)
    counts = (mixed.object_name != "").sum("object").values
    assert np.bincount(counts, minlength=5)[1:].min() > 8
    said = set(mixed.token_text.values.ravel())
    assert said >= {*SIZES, *COLOURS, *SHAPES, "and", ",", "is", "left", "above", ""}
    assert (mixed.token_object.values[mixed.token_text.values == ""] == -1).all()


def test_scenes_that_are_easily_drawn_do_not_come_first():
    layout, _ = describable(DRAWING, np.random.default_rng(0), 600, (1, 4), 0.5)
    assert abs(np.corrcoef(np.arange(600), layout.exists.sum(1))[0, 1]) < 0.1


@pytest.mark.parametrize(
    "draw",
    [
        partial(draw_descriptions, 60, 1, objects=(3, 3), size=32),
        partial(xk.draw_scenes, 150, 5, objects=(4, 4), captions="object", size=32),
    ],
)
def test_likeness_of_objects_is_asked_for(draw):
    def shared(similar):
        """The share of scenes in which two of three objects have their colour or their shape in common."""
        names = draw(similar=similar).object_name.values[:, :3]
        words = [sum((name.split()[1:] for name in scene), []) for scene in names]
        return np.mean([len(set(scene)) < len(scene) for scene in words])

    assert shared(1.0) == 1 and 0.2 < shared(0.0) < 0.9


def test_a_seed_fixes_the_scenes():
    first, again, other = (draw_descriptions(4, seed=seed, objects=(2, 3)) for seed in (3, 3, 4))
    assert first.equals(again) and not (first.caption == other.caption).all()
    alone = draw_descriptions(1, seed=5)
    assert alone.sizes["sample"] == 1 and alone.sizes["object"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": (1, 5)}, "at most 4 are described"), ({"objects": (3, 2)}, "objects="), ({"objects": (0, 2)}, "objects="),
        ({"n": 0}, "n=0"), ({"similar": 1.5}, "similar=1.5"), ({"seed": -1}, "seed=-1"), ({"seed": 0.5}, "seed=0.5"),
    ],
)  # fmt: skip
def test_impossible_choices_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        draw_descriptions(**{"n": 2, **change})


def shuffled(layout, order):
    return Layout(**{name: np.take_along_axis(value, order, 1) for name, value in vars(layout).items()})


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_order_in_which_objects_were_drawn_does_not_matter(count):
    rng = np.random.default_rng(count)
    layout, relation = describable(DRAWING, rng, 40, (count, count), 0.5)
    order = rng.permuted(np.tile(np.arange(count), (40, 1)), axis=1)
    assert (np.diff(order) < 0).any()
    again = _in_reading_order(shuffled(layout, order))
    assert all((value == vars(again)[name]).all() for name, value in vars(layout).items())
    assert descriptions(again, relation, DRAWING.made) == descriptions(layout, relation, DRAWING.made)
    for texts, owners in zip(*words(describe(layout, relation), DRAWING.made, IS), strict=True):
        assert len(texts) == len(owners)


def test_questions_and_answers_are_true():
    layout, relation = describable(DRAWING, np.random.default_rng(0), 60, (2, 2), 0.5)
    seen = set()
    for about in (0, 1):
        questions, answers = question(layout, relation, np.full(60, about), DRAWING.made)
        for row, (asked, told) in enumerate(zip(questions, answers, strict=True)):
            names = [
                f"{SIZES[layout.size[row, i]]} {COLOURS[layout.colour[row, i]]} {SHAPES[layout.noun[row, i]]}"
                for i in (0, 1)
            ]
            assert asked.endswith(f" the {names[about]}") and told == f"a {names[1 - about]}"
            relation_word = asked.removeprefix("what is ").removesuffix(f" the {names[about]}")
            x, y = layout.x[row] - layout.x[row, about], layout.y[row] - layout.y[row, about]
            other = 1 - about
            wide = abs(x[other]) > abs(y[other])
            true = ("left of" if x[other] < 0 else "right of") if wide else ("above" if y[other] < 0 else "below")
            assert relation_word == true
            seen.add(true)
    assert seen == {"left of", "right of", "above", "below"}


def named(scene, text):
    """``name_objects`` of one text with padding, as two lists without the padding."""
    words = text.split()
    found = name_objects(np.array([[f" {word}" for word in words] + ["", ""]]), scene)
    assert found.token_object.values[0, len(words) :].tolist() == [-2, -2]
    assert found.token_kind.values[0, len(words) :].tolist() == ["", ""]
    kinds = {"object": "o", "relation": "r", "function": "f", "": "-"}
    return found.token_object.values[0, : len(words)].tolist(), "".join(
        kinds[kind] for kind in found.token_kind.values[0, : len(words)]
    )


def made(*names, world="shapes"):
    """A scene of these objects, as far as naming needs it."""
    drawn = xk.draw_scenes(1, objects=(len(names),) * 2, captions="object", world=world)
    return drawn.assign(object_name=(("sample", "object"), [list(names)]))


def test_words_name_the_objects_that_they_fit():
    scene = made("small red circle", "large blue square", "small red ring")
    assert named(scene, "a small red circle is left of a large blue square") == (
        [-1, 0, 0, 0, -1, -1, -1, -1, 1, 1, 1], "fooofrffooo")  # fmt: skip
    assert named(scene, "a red ring and the circle") == ([-1, 2, 2, -1, -1, 0], "foofff"[:3] + "ffo")
    assert named(scene, "a green circle") == ([-1, -1, -1], "f--"), "no such colour"
    assert named(scene, "a blue circle") == ([-1, -1, -1], "f--"), "each word fits, but of two objects"
    assert named(scene, "a large red circle") == ([-1, 0, 0, 0], "fooo"), "a wrong size is forgiven"
    assert named(scene, "a Small RED Circle") == ([-1, 0, 0, 0], "fooo")
    assert named(scene, "small red") == ([-1, -1], "--"), "no shape ends it"
    assert named(scene, "red and circle") == ([-1, -1, 0], "-fo"), "an interrupted phrase starts anew"
    assert named(scene, "circle circle ring") == ([0, 0, 2], "ooo")
    assert named(scene, "above the unicorn") == ([-1, -1, -1], "rf-")


def test_repeated_phrases_name_one_after_the_other():
    twins = made("small red circle", "large red circle", "large blue ring")
    assert named(twins, "a red circle and a red circle")[0] == [-1, 0, 0, -1, -1, 1, 1]
    assert named(twins, "a large red circle and a red circle")[0] == [-1, 1, 1, 1, -1, -1, 0, 0]
    assert named(twins, "a large red circle , a large red circle")[0] == [-1, 1, 1, 1, -1, -1, 1, 1, 1]


def test_naming_finds_what_descriptions_say(described):
    for scenes in described.values():
        found = name_objects(scenes.token_text.values, scenes)
        said = scenes.token_object.values
        real = scenes.token_text.values != ""
        assert (found.token_object.values[real] == said[real]).all() and (found.token_object.values[~real] == -2).all()
        assert ((found.token_kind.values == "object") == (said >= 0)).all()


@pytest.mark.parametrize("words", [np.array(["a", "ring"]), np.array([["a"], ["a"]])])
def test_naming_needs_a_text_for_each_scene(words):
    with pytest.raises(ValueError, match=r"\(samples, tokens\) of the 1 scenes is needed"):
        name_objects(words, made("small red circle"))


@cache
def told(world):
    """Many captions of a world, of every kind: what 800 scenes say, as lists of words."""
    scenes = xk.draw_scenes(800, 1, objects=(2, 4), world=world, size=32)
    return scenes, [[word for word in text if word] for text in scenes.token_text.values.tolist()]


@pytest.mark.parametrize(
    ("noun", "colour", "number", "said"),
    [
        ("dog", "", 1, "a dog"),
        ("umbrella", "", 1, "an umbrella"),
        ("umbrella", "blue", 1, "a blue umbrella"),
        ("car", "orange", 1, "an orange car"),
        ("ice cream", "", 1, "an ice cream"),
        ("traffic light", "", 1, "a traffic light"),
        ("grapes", "", 1, "grapes"),
        ("grapes", "red", 1, "red grapes"),
        ("bread", "", 1, "bread"),
        ("mouse", "", 2, "two mice"),
        ("sheep", "", 3, "three sheep"),
        ("hot dog", "", 2, "two hot dogs"),
        ("knife", "", 6, "six knives"),
        ("bus", "pink", 4, "four pink buses"),
    ],
)
def test_noun_phrases_are_english(noun, colour, number, said):
    world = xk.samples.find_world("things")
    index = COLOURS.index(colour) if colour else -1
    first, named = noun_phrase(world, world.nouns.index(noun), index, number=number)
    assert " ".join([*first, *named]) == said


def test_captions_of_things_are_english():
    world = xk.samples.find_world("things")
    _, texts = told("things")
    alone = {noun for noun, plural in zip(world.nouns, world.plurals, strict=True) if not plural}
    seen = set()
    for text in texts:
        for phrase in noun_phrases(text, world):
            named = text[phrase.place]
            before = text[phrase.place.start - 1] if phrase.place.start else ""
            seen.add(phrase.noun)
            if phrase.number > 1:
                assert phrase.noun not in alone and " ".join(named).endswith(
                    world.plurals[world.nouns.index(phrase.noun)]
                )
            elif phrase.noun in alone:
                assert before not in ("a", "an")
            else:
                assert before == ("an" if named[0][0] in "aeiou" else "a")
    assert seen == {*world.nouns}, "every noun comes up"


@in_both_worlds
def test_each_word_names_an_object_of_that_name(world):
    made = xk.samples.find_world(world)
    scenes, texts = told(world)
    plural = {p: s for p, s in zip(made.plurals, made.nouns, strict=True) if p}
    places = {"left", "right", "above", "below", "of", "and", ",", "a", "an"}
    for row, text in enumerate(texts):
        owners = scenes.token_object.values[row, : len(text)]
        assert [word in places for word in text] == (owners < 0).tolist()
        for owner in {*owners.tolist()} - {-1}:
            said = [word for word, own in zip(text, owners, strict=True) if own == owner and word not in NUMBERS]
            size, colour, noun = name_parts(" ".join(said))
            own_size, *own = name_parts(str(scenes.object_name.values[row, owner]))
            assert [colour, plural.get(noun, noun)] == own and size in ("", own_size)
            assert scenes.object_named.values[row, owner]


@pytest.mark.parametrize(
    ("text", "owners"),
    [
        ("a hot dog and a dog", [-1, 0, 0, -1, -1, 1]),
        ("a dog", [-1, 1]),
        ("two hot dogs", [-1, 0, 0]),
        ("hot", [-1]),
        ("a hot cat", [-1, -1, -1]),
        ("a red traffic light", [-1, 2, 2, 2]),
        ("a traffic light", [-1, 2, 2]),
        ("a blue traffic light", [-1, -1, -1, -1]),
        ("traffic above a light bulb", [-1, -1, -1, 3, 3]),
        ("the light", [-1, -1]),
        ("mice and a mouse", [4, -1, -1, 4]),
        ("a bear", [-1, -1]),
    ],
)
def test_a_name_of_two_words_is_one_name(text, owners):
    scene = made("hot dog", "dog", "red traffic light", "light bulb", "mouse", "teddy bear", world="things")
    found = name_objects(np.array([text.split()]), scene)
    assert found.token_object.values[0].tolist() == owners
    assert ((found.token_kind.values[0] == "object") == (np.array(owners) >= 0)).all()


def test_every_word_is_in_the_vocabulary():
    for world in ("shapes", "things"):
        words = xk.samples.vocabulary(world)
        assert len({*words}) == len(words) and all(word == word.lower() and " " not in word for word in words)
        described = draw_descriptions(40, 1, objects=(1, 4), world=world, template="a photo of {}")
        assert {*described.token_text.values.ravel()} - {""} <= {*words}
        assert {word for text in told(world)[1] for word in text} <= {*words}
    assert not {"dog", "umbrella"} & {*xk.samples.vocabulary("shapes")}
