"""Descriptions and questions are true of their scenes, free texts are read rightly, the captioner's training is sound, and the
bundled one describes scenes that it has never seen."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from small_mllms import tiny_llava
from training.llava import (
    IGNORED,
    REQUESTS,
    CaptioningRecipe,
    draw_conversations,
    llava_processor,
    llava_tokenizer,
    logits_of,
    new_llava,
    retrain_llava,
    start_from_clip,
    train_llava,
    vision_weights,
)
from training.statements import descriptions, question

import xaikit as xk
from xaikit.files.paths import data_folder
from xaikit.mllm.conversations import generate
from xaikit.mllm.model import load_mllm
from xaikit.samples.assembly import READING_MARGIN, _in_reading_order, describable
from xaikit.samples.captions import IS, describe, name_objects, words
from xaikit.samples.scenes import draw_descriptions
from xaikit.samples.worlds.shapes import COLOURS, SHAPES, SIZES, Layout

SHORT = CaptioningRecipe(steps=3, batch_size=4, report_every=2, threads=1)
BUNDLED = data_folder() / "tiny-llava"


@pytest.fixture(scope="module")
def many():
    """Scenes of two, three and four objects."""
    return {count: draw_descriptions(60, seed=count, objects=(count, count)) for count in (1, 2, 3, 4)}


@pytest.fixture(scope="module")
def clip():
    return xk.load_clip("tiny-clip").model


def phrases(scene):
    """The object names of a caption in order, each with the object that its words are said to name."""
    words, owners = scene.token_text.values, scene.token_object.values
    starts = np.flatnonzero(np.isin(words, SIZES))
    return [(" ".join(words[start : start + 3]), set(owners[start : start + 3].tolist())) for start in starts]


def test_every_object_is_told_once_in_reading_order(many):
    for count, scenes in many.items():
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


def test_masks_are_where_the_words_say(many):
    """Left and right, up and down, in the pixels themselves."""
    scenes = many[2]
    mask = scenes.object_mask.values
    size = mask.sum((2, 3))
    x, y = (mask * np.arange(64)).sum((2, 3)) / size, (mask * np.arange(64)[:, None]).sum((2, 3)) / size
    left = scenes.relation.values == "left of"
    assert (np.diff(x)[left] > 0).all() and (np.diff(y)[~left] > 0).all() and 10 < left.sum() < 50
    assert (scenes.image.values[mask[:, 0]].std(0) > 0).all()


def test_both_relations_all_words_and_all_counts_come_up(many):
    mixed = draw_descriptions(80, seed=0, objects=(1, 4))
    counts = (mixed.object_name != "").sum("object").values
    assert np.bincount(counts, minlength=5)[1:].min() > 8
    said = set(mixed.token_text.values.ravel())
    assert said >= {*SIZES, *COLOURS, *SHAPES, "and", ",", "is", "left", "above", ""}
    assert (mixed.token_object.values[mixed.token_text.values == ""] == -1).all()


def test_scenes_that_are_easily_drawn_do_not_come_first():
    layout, _ = describable(np.random.default_rng(0), 600, (1, 4), 0.5)
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
    layout, relation = describable(rng, 40, (count, count), 0.5)
    order = rng.permuted(np.tile(np.arange(count), (40, 1)), axis=1)
    assert (np.diff(order) < 0).any()
    again = _in_reading_order(shuffled(layout, order))
    assert all((value == vars(again)[name]).all() for name, value in vars(layout).items())
    assert descriptions(again, relation) == descriptions(layout, relation)
    for texts, owners in zip(*words(describe(layout, relation), IS), strict=True):
        assert len(texts) == len(owners)


def test_questions_and_answers_are_true():
    layout, relation = describable(np.random.default_rng(0), 60, (2, 2), 0.5)
    seen = set()
    for about in (0, 1):
        questions, answers = question(layout, relation, np.full(60, about))
        for row, (asked, told) in enumerate(zip(questions, answers, strict=True)):
            names = [
                f"{SIZES[layout.size[row, i]]} {COLOURS[layout.colour[row, i]]} {SHAPES[layout.shape[row, i]]}"
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


def test_naming_finds_what_descriptions_say(many):
    for scenes in many.values():
        found = name_objects(scenes.token_text.values, scenes)
        said = scenes.token_object.values
        real = scenes.token_text.values != ""
        assert (found.token_object.values[real] == said[real]).all() and (found.token_object.values[~real] == -2).all()
        assert ((found.token_kind.values == "object") == (said >= 0)).all()


@pytest.mark.parametrize("words", [np.array(["a", "ring"]), np.array([["a"], ["a"]])])
def test_naming_needs_a_text_for_each_scene(words):
    with pytest.raises(ValueError, match=r"\(samples, tokens\) of the 1 scenes is needed"):
        name_objects(words, made("small red circle"))


def test_all_text_and_its_end_is_learnt():
    tokenizer = llava_tokenizer()
    asked = set()
    for factor, side in ((1.0, 8), (1.5, 12), (2.0, 16)):
        recipe = replace(SHORT, batch_size=40, questions=0.5)
        batch = draw_conversations(np.random.default_rng(1), recipe, tokenizer, factor)
        assert len(batch.ids) == round(40 / factor**2) and batch.pixels.shape[1:] == (3, 8 * side, 8 * side)
        for ids, labels, told in zip(batch.ids.tolist(), batch.labels.tolist(), batch.is_answer.tolist(), strict=True):
            header = ids.index(tokenizer.convert_tokens_to_ids("<assistant>"))
            end = ids.index(tokenizer.eos_token_id)
            text = 2 + side**2
            assert labels == [IGNORED] * text + ids[text : end + 1] + [IGNORED] * (len(ids) - end - 1)
            assert told == [header < place <= end for place in range(len(ids))]
            assert set(ids[end + 1 :]) <= {tokenizer.pad_token_id} and ids[0] == tokenizer.bos_token_id
            assert ids.count(tokenizer.convert_tokens_to_ids("<image>")) == side**2
            assert tokenizer.unk_token_id not in ids
            prompt = tokenizer.decode(ids[2 + side**2 : header])
            asked.add(prompt.split()[2] if prompt.startswith("what is ") else prompt)
            assert prompt in REQUESTS or prompt.startswith("what is ")
    assert asked & set(REQUESTS) and asked & {"left", "right", "above", "below"}


def test_the_vision_tower_takes_over_the_clips(clip):
    model = new_llava().eval()
    start_from_clip(model, clip)
    tower = model.model.vision_tower
    tower = getattr(tower, "vision_model", tower)
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    clip.visual.output_tokens, usual = True, clip.visual.output_tokens
    with torch.no_grad():
        cells = clip.visual(pixels)[1]
        states = tower(pixels, output_hidden_states=True).hidden_states[-1]
    clip.visual.output_tokens = usual
    # open_clip normalises its patches at the end, LLaVA takes them before that
    normalised = tower.post_layernorm(states[:, 1:])
    assert cells.shape == (3, 64, tower.config.hidden_size) and cells.std() > 0.1
    torch.testing.assert_close(normalised, cells, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, clip):
    folder = tmp_path_factory.mktemp("captioner")
    retrain_llava(folder, progress=False, recipe=SHORT)
    return folder


LOAD = """
import sys, torch, transformers
found = []
for folder in sys.argv[2:]:
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    image = torch.arange(64 * 64 * 3).view(64, 64, 3).remainder(251).to(torch.uint8).numpy()
    turn = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "what is this"}]}]
    inputs = processor.apply_chat_template(
        turn, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        written = model.generate(**inputs, max_new_tokens=12)
        found.append((type(model).__name__, dict(inputs), model(**inputs).logits, written))
torch.save(found, sys.argv[1])
assert not any(name.startswith("xaikit") for name in sys.modules)
"""


def test_models_load_with_nothing_of_ours(trained, tmp_path):
    folders = (trained, BUNDLED)
    done = subprocess.run([sys.executable, "-c", LOAD, tmp_path / "out", *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    image = (np.arange(64 * 64 * 3).reshape(64, 64, 3) % 251).astype(np.uint8)
    for folder, (name, inputs, logits, written) in zip(folders, torch.load(tmp_path / "out"), strict=True):
        assert name == "LlavaForConditionalGeneration" and logits.isfinite().all()
        mllm = load_mllm(str(folder))
        view = mllm.family.view(image, "what is this")
        assert torch.equal(view.ids, inputs["input_ids"][0])
        assert torch.equal(view.vision["pixel_values"][0], inputs["pixel_values"][0])
        with torch.no_grad():
            torch.testing.assert_close(mllm.model(**inputs).logits, logits)
        end = [mllm.tokenizer.eos_token_id]
        answer = generate(mllm, [view], 12)[0]
        assert (answer + end)[:12] == written[0, len(view.ids) :].tolist()


def test_what_was_saved_is_what_was_trained(trained, clip):
    model = transformers.AutoModelForImageTextToText.from_pretrained(trained).eval()
    log = (trained / "training_log.csv").read_text().splitlines()
    assert log[0] == "step,loss,token_accuracy,answers_exact" and [row.split(",")[0] for row in log[1:]] == ["2", "3"]
    assert json.loads((trained / "recipe.json").read_text())["batch_size"] == 4
    assert model.generation_config.do_sample is False
    tower = {name.rpartition("vision_tower.")[2].removeprefix("vision_model."): weight
             for name, weight in model.named_parameters() if "vision_tower" in name}  # fmt: skip
    start = vision_weights(clip)
    moved = {name: (weight - start[name]).abs().max() for name, weight in tower.items()}
    assert max(moved.values()) < 0.02, "it starts from the CLIP"
    assert sum(value > 0 for value in moved.values()) > 0.9 * len(moved), "and is trained with the rest"
    # the recipe gives the same model again
    again, _ = train_llava(SHORT, clip, progress=False)
    batch = draw_conversations(np.random.default_rng(0), SHORT, llava_tokenizer())
    with torch.no_grad():
        ours, theirs = (logits_of(each, batch, 0) for each in (again, model))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_few_steps_lower_the_loss(clip):
    _, log = train_llava(replace(SHORT, steps=12, report_every=4, rescaled=0.0, batch_size=8), clip, progress=False)
    assert log.loss.iloc[-1] < 0.85 * log.loss.iloc[0] and log.token_accuracy.iloc[-1] > log.token_accuracy.iloc[0]


def test_the_bundled_folder_is_small_and_whole():
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 8e6
    assert {path.name for path in BUNDLED.iterdir()} >= {"model.safetensors", "recipe.json", "training_log.csv"}
    settings = json.loads((BUNDLED / "config.json").read_text())
    assert settings["architectures"] == ["LlavaForConditionalGeneration"]
    tokenizer = transformers.AutoProcessor.from_pretrained(BUNDLED).tokenizer
    assert tokenizer.get_vocab() == llava_tokenizer().get_vocab()


@pytest.mark.parametrize("which", ["ours", "bundled"])
def test_texts_survive_the_processor(which, many):
    processor = llava_processor() if which == "ours" else transformers.AutoProcessor.from_pretrained(BUNDLED)
    tokenizer = processor.tokenizer
    for scenes in many.values():
        for caption in scenes.caption.values[:10]:
            ids = tokenizer(str(caption), add_special_tokens=False).input_ids
            assert tokenizer.decode(ids) == caption and tokenizer.unk_token_id not in ids
    listed = "a small red ring, a large blue cross and a small pink circle"
    assert tokenizer.decode(tokenizer(listed, add_special_tokens=False).input_ids) == listed
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "describe the picture"}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True)
    assert text == "<s><user><image> describe the picture<assistant>"
    assert not processor.apply_chat_template(turn).endswith("<assistant>")
    found = processor(images=np.zeros((64, 64, 3), np.uint8), text=text, return_tensors="pt", add_special_tokens=False)
    words = tokenizer.convert_ids_to_tokens(found.input_ids[0])
    assert words == ["<s>", "<user>", *["<image>"] * 64, "describe", "the", "picture", "<assistant>"]
    assert tokenizer("a purple unicorn", add_special_tokens=False).input_ids[-1] == tokenizer.unk_token_id
    for request in REQUESTS:
        assert tokenizer.unk_token_id not in tokenizer(request).input_ids


def exact(scenes, prompt, scale=1.0):
    """Share of scenes whose answer, written by the model itself, is the caption to the last word."""
    mllm = tiny_llava()
    views = [mllm.family.view(image, prompt, scale) for image in scenes.image.values]
    answers = [mllm.tokenizer.decode(ids) for ids in generate(mllm, views, batch_size=64)]
    return sum(a == b for a, b in zip(answers, scenes.caption.values, strict=True)) / len(answers)


@pytest.mark.parametrize(("objects", "n", "least"), [(1, 48, 0.99), (2, 192, 0.99), (3, 96, 0.9), (4, 96, 0.9)])
def test_it_describes_fresh_scenes_exactly(objects, n, least):
    scenes = draw_descriptions(n, seed=2_000_000, objects=(objects, objects))
    assert exact(scenes, "describe the picture") >= least


@pytest.mark.parametrize("scale", [0.75, 1.5, 2.0])
def test_it_reads_other_input_scales(scale):
    assert exact(draw_descriptions(64, seed=2_000_001), "what do you see in the image", scale) >= 0.9
