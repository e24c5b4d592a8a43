"""The captioner's training is sound, and the bundled one describes scenes that it has never seen."""

import copy
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from small_mllms import tiny_llava
from training.bundled import SEEN_STYLES
from training.llava import (
    GROUND,
    IGNORED,
    LLAVAS,
    REQUESTS,
    Captioning,
    draw_conversations,
    lens_loss,
    llava_processor,
    llava_tokenizer,
    logits_of,
    new_llava,
    retrain_llava,
    start_from_clip,
    vision_weights,
)

import xaikit as xk
from xaikit.files.paths import data_folder
from xaikit.mllm.conversations import generate
from xaikit.mllm.loading import load_mllm
from xaikit.samples.scenes import draw_descriptions

CHANGES = {"steps": 3, "batch_size": 4, "report_every": 2, "threads": 1}
SHORT = replace(LLAVAS["tiny-llava"], **CHANGES)
BUNDLED = data_folder() / "tiny-llava"


@pytest.fixture(scope="module")
def clip():
    return xk.load_clip("tiny-clip").model


@pytest.mark.parametrize(
    ("name", "sizes"), [("tiny-llava", ((1.0, 8), (1.5, 12), (2.0, 16))), ("tiny-llava-things", ((1.0, 12), (1.5, 18)))]
)
def test_all_text_and_its_end_is_learnt(name, sizes):
    tokenizer = llava_tokenizer(LLAVAS[name].architecture.world)
    asked = set()
    for factor, side in sizes:
        recipe = replace(LLAVAS[name], batch_size=40, questions=0.5)
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
    model = new_llava(SHORT.architecture).eval()
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


@pytest.mark.parametrize("name", LLAVAS)
def test_the_lens_is_asked_for_the_noun_under_each_image_token(name):
    recipe = replace(LLAVAS[name], batch_size=6, shares=(1.0, 0.0, 0.0, 0.0))
    tokenizer = llava_tokenizer(recipe.architecture.world)
    batch = draw_conversations(np.random.default_rng(2), recipe, tokenizer)
    assert batch.under.shape == (6, recipe.architecture.grid**2)
    ground, image = tokenizer.convert_tokens_to_ids([GROUND, "<image>"])
    for under, labels in zip(batch.under.tolist(), batch.labels.tolist(), strict=True):
        (noun,) = {*under} - {ground, IGNORED}  # of the one object, which its description ends with
        assert noun in labels and ground in under
    right = torch.nn.functional.one_hot(batch.under.clamp(min=0), len(tokenizer)).float() * 50
    logits = torch.zeros(*batch.ids.shape, len(tokenizer))
    logits[batch.ids == image] = right.flatten(0, 1)
    assert lens_loss(logits, batch, tokenizer) < 1e-3 < 1 < lens_loss(-logits, batch, tokenizer)


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown bundled model 'huge-llava': choose from tiny-llava"):
        retrain_llava("huge-llava", tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, clip):
    folder = tmp_path_factory.mktemp("captioner")
    retrain_llava("tiny-llava", folder, progress=False, **CHANGES)
    return folder


@pytest.fixture(scope="module")
def undisturbed(clip):
    """Trained by the same recipe without a break: model and log."""
    return Captioning(SHORT, clip, progress=False).run()


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
        assert torch.equal(view.vision["pixel_values"].flatten(0, -4), inputs["pixel_values"])
        with torch.no_grad():
            torch.testing.assert_close(mllm.model(**inputs).logits, logits)
        end = [mllm.tokenizer.eos_token_id]
        answer = generate(mllm, [view], 12)[0]
        assert (answer + end)[:12] == written[0, len(view.ids) :].tolist()


def test_what_was_saved_is_what_was_trained(trained, undisturbed, clip):
    model = transformers.AutoModelForImageTextToText.from_pretrained(trained).eval()
    log = (trained / "training_log.csv").read_text().splitlines()
    assert log[0] == "step,loss,token_accuracy,answers_exact" and [row.split(",")[0] for row in log[1:]] == ["2", "3"]
    assert json.loads((trained / "recipe.json").read_text())["batch_size"] == 4
    assert model.generation_config.do_sample is False
    tower = {name.rpartition("vision_tower.")[2].removeprefix("vision_model."): weight
             for name, weight in model.named_parameters() if "vision_tower" in name}  # fmt: skip
    start = {name: weight.half().float() for name, weight in vision_weights(clip).items()}  # as it is stored
    moved = {name: (weight - start[name]).abs().max() for name, weight in tower.items()}
    assert max(moved.values()) < 0.02, "it starts from the CLIP"
    assert sum(value > 0 for value in moved.values()) > 0.9 * len(moved), "and is trained with the rest"
    # the recipe gives the same model again
    again = copy.deepcopy(undisturbed[0]).half().float()
    batch = draw_conversations(np.random.default_rng(0), SHORT, llava_tokenizer())
    with torch.no_grad():
        ours, theirs = (logits_of(each, batch, 0) for each in (again, model))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_few_steps_lower_the_loss(clip):
    recipe = replace(SHORT, steps=12, report_every=4, rescaled=0.0, batch_size=8)
    _, log = Captioning(recipe, clip, progress=False).run()
    assert log.loss.iloc[-1] < 0.85 * log.loss.iloc[0] and log.token_accuracy.iloc[-1] > log.token_accuracy.iloc[0]


def test_an_interrupted_training_ends_as_an_undisturbed_one(clip, undisturbed, tmp_path):
    whole, log = undisturbed
    broken = Captioning(SHORT, clip, False)
    for _ in range(2):
        broken.one_step()
    broken.keep(tmp_path)
    model, resumed = Captioning(SHORT, clip, False).run(tmp_path)
    assert resumed.equals(log) and len(list(tmp_path.glob("checkpoint-*"))) == 1
    ours, theirs = model.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(ValueError, match="is of another model or recipe"):
        Captioning(replace(SHORT, seed=9), clip, False).run(tmp_path)


def test_the_bundled_folder_is_small_and_whole():
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 8e6
    assert {path.name for path in BUNDLED.iterdir()} >= {"model.safetensors", "recipe.json", "training_log.csv"}
    settings = json.loads((BUNDLED / "config.json").read_text())
    assert settings["architectures"] == ["LlavaForConditionalGeneration"]
    tokenizer = transformers.AutoProcessor.from_pretrained(BUNDLED).tokenizer
    assert tokenizer.get_vocab() == llava_tokenizer().get_vocab()


@pytest.mark.parametrize("which", ["ours", "bundled"])
def test_texts_survive_the_processor(which, described):
    processor = (
        llava_processor(SHORT.architecture) if which == "ours" else transformers.AutoProcessor.from_pretrained(BUNDLED)
    )
    tokenizer = processor.tokenizer
    for scenes in described.values():
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


def exact(scenes, prompt, scale=1.0, mllm=None):
    """Share of scenes whose answer, written by the model itself, is the caption to the last word."""
    mllm = mllm or tiny_llava()
    views = [mllm.family.view(image, prompt, scale) for image in scenes.image.values]
    answers = [mllm.tokenizer.decode(ids) for ids in generate(mllm, views, batch_size=64)]
    return sum(a == b for a, b in zip(answers, scenes.caption.values, strict=True)) / len(answers)


@pytest.mark.parametrize(("objects", "n", "least"), [(1, 24, 0.99), (2, 96, 0.99), (3, 48, 0.9), (4, 48, 0.9)])
def test_it_describes_fresh_scenes_exactly(objects, n, least):
    scenes = draw_descriptions(n, seed=2_000_000, objects=(objects, objects))
    assert exact(scenes, "describe the picture") >= least


@pytest.mark.parametrize(("scale", "least"), [(1.0, 0.85), (1.5, 0.7)])
def test_the_model_of_things_describes_them_as_it_saw_them_drawn(scale, least):
    scenes = draw_descriptions(32, seed=5, world="things", styles=SEEN_STYLES)
    mllm = load_mllm("tiny-llava-things")
    assert mllm.dtype == torch.float32 and exact(scenes, "describe the picture", scale, mllm) >= least


@pytest.mark.parametrize("scale", [0.75, 1.5, 2.0])
def test_it_reads_other_input_scales(scale):
    assert exact(draw_descriptions(32, seed=2_000_001), "what do you see in the image", scale) >= 0.9
