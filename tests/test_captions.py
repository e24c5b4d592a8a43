"""What captions and descriptions say is true of their scenes and good English, and words name the objects that they fit."""

import numpy as np
import pytest
from training.statements import descriptions, question

from xaikit.samples.assembly import READING_MARGIN, Drawing, _in_reading_order, describable
from xaikit.samples.captions import IS, describe, name_objects, words
from xaikit.samples.scenes import draw_descriptions
from xaikit.samples.worlds.layout import COLOURS, Layout
from xaikit.samples.worlds.shapes import SHAPES, SIZES

DRAWING = Drawing()


def phrases(scene):
    """The object names of a caption in order, each with the object that its words are said to name."""
    words, owners = scene.token_text.values, scene.token_object.values
    starts = np.flatnonzero(np.isin(words, SIZES))
    return [(" ".join(words[start : start + 3]), set(owners[start : start + 3].tolist())) for start in starts]


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
    mixed = draw_descriptions(80, seed=0, objects=(1, 4))
    counts = (mixed.object_name != "").sum("object").values
    assert np.bincount(counts, minlength=5)[1:].min() > 8
    said = set(mixed.token_text.values.ravel())
    assert said >= {*SIZES, *COLOURS, *SHAPES, "and", ",", "is", "left", "above", ""}
    assert (mixed.token_object.values[mixed.token_text.values == ""] == -1).all()


def test_scenes_that_are_easily_drawn_do_not_come_first():
    layout, _ = describable(DRAWING, np.random.default_rng(0), 600, (1, 4), 0.5)
    assert abs(np.corrcoef(np.arange(600), layout.exists.sum(1))[0, 1]) < 0.1


def test_a_seed_fixes_the_scenes():
    first, again, other = (draw_descriptions(4, seed=seed, objects=(2, 3)) for seed in (3, 3, 4))
    assert first.equals(again) and not (first.caption == other.caption).all()
    alone = draw_descriptions(1, seed=5)
    assert alone.sizes["sample"] == 1 and alone.sizes["object"] == 2


def test_likeness_of_objects_is_asked_for():
    def shared(similar):
        """The share of scenes in which two of three objects have their colour or their shape in common."""
        names = np.char.split(
            draw_descriptions(60, seed=1, objects=(3, 3), similar=similar).object_name.values.astype(str)
        )
        words = [sum((name[1:] for name in scene), []) for scene in names]
        return np.mean([len(set(scene)) < len(scene) for scene in words])

    assert shared(1.0) == 1 and 0.2 < shared(0.0) < 0.9


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


def made(*names):
    """A scene of these objects, as far as naming needs it."""
    return draw_descriptions(1, objects=(len(names),) * 2).assign(object_name=(("sample", "object"), [list(names)]))


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
