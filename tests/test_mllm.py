"""Multimodal language models: what they are given, where things are in it, and the states that come out."""

import copy
import dataclasses
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from refusals import refused
from small_families import asked, ordinary
from small_mllms import CLASSES, alone, picture, saved_mllm, small_mllm

from xaikit.mllm.attending import mean_over_heads
from xaikit.mllm.conversations import answer_ids, generate
from xaikit.mllm.loading import load_mllm
from xaikit.mllm.passes import teacher_forced

PROMPTS = ["describe the scene .", "what is left of the small red circle ?", "now"]
ANSWERS = [["a", "red", "circle"], ["a", "small", "blue", "square", "left", "of", "a", "triangle"], ["green"]]


@pytest.fixture(params=[*CLASSES, "qwen2_5_vl"])
def mllm(request):
    return small_mllm(request.param)


# Of mixed sizes, which give mixed grids where the class takes any size, two of them of as many cells.
PICTURES = [picture(*size, seed) for seed, size in enumerate([(80, 120), (120, 80), (90, 90)])]


def batch(mllm, scale=1.0):
    scale = max(scale, 1.0)
    views = [mllm.family.view(image, prompt, scale) for image, prompt in zip(PICTURES, PROMPTS, strict=True)]
    return views, [answer_ids(mllm, " ".join(words)) for words in ANSWERS]


def painted(image, view, row, col):
    """The image with the middle of a cell, as region and grid place it, turned to its opposite."""
    array = np.array(image)
    top, left, bottom, right = view.region
    rows, cols = view.grid
    height, width = (bottom - top) / rows, (right - left) / cols

    def pixels(start, extent, size):
        return slice(round((start + 0.15 * extent) * size), max(1, round((start + 0.85 * extent) * size)))

    vertical = pixels(top + row * height, height, array.shape[0])
    horizontal = pixels(left + col * width, width, array.shape[1])
    array[vertical, horizontal] = np.where(array[vertical, horizontal] > 127, 0, 255)
    return array


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0, 3.0])
def test_ids_hold_each_cell_once_and_the_prompt(mllm, scale):
    views = [mllm.family.view(picture(), prompt, scale) for prompt in PROMPTS]
    for view, prompt in zip(views, PROMPTS, strict=True):
        rows, cols = view.grid
        assert view.image_positions.unique().numel() == view.image_positions.numel() == rows * cols
        assert (view.ids[view.image_positions] == mllm.family.image_token_id).all()
        assert (view.ids == mllm.family.image_token_id).sum() == rows * cols == len(mllm.family.encode([view])[0])
        assert mllm.tokenizer.decode(view.ids[view.prompt_positions]) == prompt
        assert view.prompt_positions.min() > view.image_positions.max()
    grids = {mllm.family.view(picture(), "now", scale).grid for scale in (1.0, 1.5, 2.0, 3.0)}
    assert len(grids) == 4 and views[0].grid in grids


def test_crops_of_internvl_are_its_processors_tiles():
    mllm, image = small_mllm("internvl"), picture(100, 100)
    view = mllm.family.view(image, "now", 2, "crops")
    own = ordinary(mllm, asked("now"), [image], crop_to_patches=True, min_patches=4, max_patches=4)
    assert torch.equal(view.ids, own["input_ids"][0]) and view.grid == (4, 4)
    assert torch.equal(view.vision["pixel_values"], own["pixel_values"])
    assert view.image_positions.max() < (view.ids == mllm.family.image_token_id).nonzero().max(), (
        "the thumbnail is no cell"
    )


def test_crops_of_llava_are_encoded_natively_and_put_together(llava):
    view = llava.family.view(picture(), "now", 3, "crops")
    cells = llava.family.encode([view])[0].unflatten(0, (12, 12))
    whole = llava.family.view(picture(), "now", 3).vision["pixel_values"][0, 0]
    for row, col in [(0, 0), (0, 2), (2, 1)]:
        tile = whole[None, :, 56 * row : 56 * row + 56, 56 * col : 56 * col + 56]
        alone = llava.model.model.get_image_features(tile, return_dict=True).pooler_output[0]
        block = cells[4 * row : 4 * row + 4, 4 * col : 4 * col + 4].flatten(0, 1)
        torch.testing.assert_close(block, alone, atol=1e-5, rtol=1e-5)


def test_interpolation_is_the_towers_own(llava):
    own = llava.model.model.get_image_features
    for scale, options in [(1, {}), (1, {"interpolate_pos_encoding": True}), (1.5, {"interpolate_pos_encoding": True})]:
        view = llava.family.view(picture(), "now", scale)
        expected = own(view.vision["pixel_values"][0], return_dict=True, **options).pooler_output[0]
        torch.testing.assert_close(llava.family.encode([view])[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", ["crop", "larger crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(80, 120), (150, 70), (56, 56)])
def test_region_and_grid_of_llava_lead_back_to_the_image(llava, settings, size):
    processor = copy.deepcopy(llava.processor)
    side = {"height": 56, "width": 56}
    resized = side if settings == "squash" else {"shortest_edge": 70 if settings == "larger crop" else 56}
    made = {"size": resized, "crop_size": side, "do_center_crop": settings != "squash"}
    if settings == "pad":
        processor.image_processor = transformers.LlavaImageProcessor(do_pad=True, **made)
    else:
        processor.image_processor = transformers.CLIPImageProcessor(**made)
    family = type(llava.family)(llava.model, processor, "llava")
    image = picture(*size)
    for scale in (1, 1.5, 2):
        view = family.view(image, "now", scale)
        assert view.region == pytest.approx(family.view(image, "now").region, abs=0.01)
        rows, cols = view.grid
        for row, col in [(rows // 2, cols // 2 - 1), (rows // 2 - 1, cols // 2)]:
            changed = family.view(painted(image, view, row, col), "now", scale).vision["pixel_values"]
            change = (changed - view.vision["pixel_values"])[0, 0].abs().sum(0)
            shares = change.unflatten(0, (rows, -1)).unflatten(2, (cols, -1)).sum((1, 3)) / change.sum()
            assert shares.argmax() == row * cols + col and shares.max() > 0.75
    height, width = size
    if settings == "crop" and height < width:
        assert view.region == pytest.approx((0, 0.5 - height / width / 2, 1, 0.5 + height / width / 2), abs=0.02)
    if settings == "squash":
        assert view.region == (0, 0, 1, 1)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_batch_gives_what_singles_give(mllm, scale):
    views, answers = batch(mllm, scale)
    states = teacher_forced(mllm, views, answers)
    assert (len({view.grid for view in views}) > 1) == ("Qwen" in type(mllm.model).__name__)
    for index, (view, answer) in enumerate(zip(views, answers, strict=True)):
        alone = teacher_forced(mllm, [view], [answer])
        length, tokens, cells = int(alone.lengths[0]), alone.real.shape[1], alone.cells.shape[1]
        assert states.lengths[index] == length and alone.real.all() and alone.cells.all()
        torch.testing.assert_close(states.hidden[index, :length], alone.hidden[0], atol=1e-5, rtol=1e-5)
        assert states.real[index].sum() == tokens and states.cells[index].sum() == cells
        assert torch.equal(states.image[index, :cells], view.image_positions)
        for name in ("context", "emitting", "previous", "ids", "is_answer"):
            assert torch.equal(getattr(states, name)[index, :tokens], getattr(alone, name)[0]), name
            assert not getattr(states, name)[index, tokens:].any(), name


def test_index_tensors_say_which_state_is_whose(mllm):
    view, answer = mllm.family.view(picture(), PROMPTS[0]), answer_ids(mllm, "a red circle")
    states = teacher_forced(mllm, [view], [answer])
    start = len(view.ids)
    assert mllm.decode(states.ids[0]) == [" describe", " the", " scene", ".", " a", " red", " circle"]
    assert states.is_answer[0].tolist() == [False] * 4 + [True] * 3
    assert states.context[0].tolist() == [*view.prompt_positions.tolist(), start, start + 1, start + 2]
    assert states.emitting[0].tolist() == [*view.prompt_positions.tolist(), start - 1, start, start + 1]
    assert torch.equal(states.previous, states.context - 1)


def test_generation_in_batches_is_deterministic_and_equals_singles(mllm):
    views, _ = batch(mllm)
    together = generate(mllm, views, 8)
    assert together == generate(mllm, views, 8) == generate(mllm, views, 8, batch_size=2)
    assert together == [generate(mllm, [view], 8)[0] for view in views]
    assert len({tuple(answer) for answer in together}) > 1


def test_generation_is_greedy_whatever_the_checkpoint_says_and_stops_at_its_end(llava, tmp_path):
    other = tmp_path / "sampling"
    shutil.copytree(saved_mllm("llava"), other)
    view = llava.family.view(picture(), PROMPTS[1])
    answer = generate(llava, [view], 10)[0]
    end = answer[4]
    settings = {
        "do_sample": True,
        "temperature": 5.0,
        "repetition_penalty": 9.0,
        "num_beams": 3,
        "eos_token_id": [2, end],
    }
    (other / "generation_config.json").write_text(json.dumps(settings))
    assert generate(load_mllm(str(other)), [view], 10)[0] == answer[: answer.index(end)]


def test_features_can_be_shared_and_carry_gradients(mllm):
    views, answers = batch(mllm)
    features = [feature.requires_grad_() for feature in mllm.family.encode(views)]
    states = teacher_forced(mllm, views, answers, features)
    torch.testing.assert_close(states.hidden, teacher_forced(mllm, views, answers).hidden)
    gradients = torch.autograd.grad(states.at(states.emitting)[states.is_answer].sum(), features)
    assert all(g.shape == feature.shape and g.any() for g, feature in zip(gradients, features, strict=True))
    assert not any(weight.requires_grad for weight in mllm.model.parameters()) and not mllm.model.training
    first = teacher_forced(mllm, views, answers, features).hidden[0, len(views[0].ids) - 1]
    own = torch.autograd.grad(first.sum(), features)
    assert own[0].any() and not own[1].any(), "a sample reads its own image"


def test_attention_is_watched_as_the_model_computes_it_and_leaves_it_as_it_was(mllm):
    views, answers = batch(mllm)
    usual = mllm.model.config.get_text_config()._attn_implementation
    watched, wanted = [], torch.tensor([[5, 11], [7, 2], [3, 3]])

    def keep(rows, length):
        watched.append((rows(wanted), mean_over_heads(rows, length, 3, mllm.device)))

    states = teacher_forced(mllm, views, answers, watch=keep)
    assert usual == mllm.model.config.get_text_config()._attn_implementation == "sdpa"
    plain = teacher_forced(mllm, views, answers)
    assert len(watched) == 2
    for index, (view, answer) in enumerate(zip(views, answers, strict=True)):
        length = int(states.lengths[index])
        torch.testing.assert_close(states.hidden[index, :length], plain.hidden[index, :length], atol=1e-4, rtol=1e-4)
        mllm.decoder.set_attn_implementation("eager")
        try:
            expected = alone(mllm, view, answer, output_attentions=True).attentions
        finally:
            mllm.decoder.set_attn_implementation(usual)
        for (rows, means), layer in zip(watched, expected, strict=True):
            torch.testing.assert_close(rows[index, ..., :length], layer[0][:, wanted[index]], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(means[index, :length, :length], layer[0].mean(0), atol=1e-5, rtol=1e-4)
            assert not means[index, :length, length:].any()


def test_qwen_scales_pass_the_processors_limits():
    mllm = small_mllm("qwen2_vl")
    grids = [mllm.family.view(picture(300, 500), "now", scale).grid for scale in (0.75, 1, 1.5, 2)]
    assert grids == [(2, 4), (3, 5), (4, 8), (6, 10)]  # 4 x 4 cells are its limit by itself


def test_decoded_tokens_say_where_words_start(llava):
    def decode(inner, *ids):
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=inner)
        return dataclasses.replace(llava, processor=SimpleNamespace(tokenizer=fast)).decode(ids)

    for pieces, decoder, words in (
        (["A", "Ġdog", "gy", "."], tokenizers.decoders.ByteLevel(), ["A", " dog", "gy", "."]),
        (["▁A", "▁dog", "gy", "."], tokenizers.decoders.Metaspace(), [" A", " dog", "gy", "."]),
    ):
        inner = tokenizers.Tokenizer(tokenizers.models.BPE({piece: place for place, piece in enumerate(pieces)}, []))
        inner.decoder = decoder
        assert decode(inner, 0, 1, 2, 3) == words
    assert llava.decode(answer_ids(llava, "a red circle.")) == [" a", " red", " circle", "."]


def test_the_bundled_model_describes(bundled, llava):
    answer = generate(bundled, [bundled.family.view(picture(), "describe the scene")])[0]
    assert answer and all(bundled.decode(answer)) and bundled.weights_digest != llava.weights_digest


def test_random_weights_follow_the_seed_and_need_no_weights_file(llava, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(saved_mllm("llava"), bare, ignore=shutil.ignore_patterns("*.safetensors"))
    digests = [load_mllm(str(bare), random_weights=True, seed=seed).weights_digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert load_mllm(str(saved_mllm("llava"))).weights_digest == llava.weights_digest
    with pytest.raises(FileNotFoundError, match=r"bare lacks model\.safetensors"):
        load_mllm(str(bare))


def test_precision_is_of_weights_and_states(llava):
    half = load_mllm(str(saved_mllm("llava")), dtype="bf16")
    view = half.family.view(picture(), "now")
    states = teacher_forced(half, [view], [answer_ids(half, "a")])
    assert states.hidden.dtype == half.dtype == torch.bfloat16
    whole = teacher_forced(llava, [view], [answer_ids(llava, "a")]).hidden
    assert torch.nn.functional.cosine_similarity(states.hidden.float(), whole, dim=-1).min() > 0.98


def test_importing_the_package_needs_no_torch():
    code = "import sys, xaikit.mllm; sys.exit('torch' in sys.modules or 'load_mllm' not in dir(xaikit.mllm))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"name": "tiny-lava"}, ValueError, "unknown model 'tiny-lava': .* tiny-llava"),
        ({"name": "/nowhere/at/all"}, FileNotFoundError, "no folder /nowhere/at/all"),
        ({"dtype": "int8"}, ValueError, "dtype='int8': choose from auto, fp32, fp16, bf16"),
        ({"device": "abacus"}, ValueError, "device='abacus': torch knows no such device"),
    ],
)
def test_wrong_ways_to_load(change, error, message):
    with pytest.raises(error, match=message):
        load_mllm(**{"name": "tiny-llava", **change})


def changed(path, **settings):
    """A model's folder with other settings in its configuration."""
    known = json.loads((path / "config.json").read_text())
    known["text_config"] |= settings.pop("text_config", {})
    (path / "config.json").write_text(json.dumps(known | settings))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda path: (path / "config.json").unlink(), FileNotFoundError, r"lacks config\.json"),
        (lambda path: changed(path, architectures=["GPT2LMHeadModel"]), ValueError, "is a GPT2LMHeadModel: .*llava-hf/.*, Qwen/.*-hf port"),
        (lambda path: (path / "model.safetensors").rename(path / "torch.bin"), FileNotFoundError, r"only pickles \(torch\.bin\)"),
        (lambda path: (path / "processor_config.json").unlink(), FileNotFoundError, r"lacks processor_config\.json"),
        (lambda path: (path / "tokenizer.json").unlink(), FileNotFoundError, r"lacks tokenizer\.json"),
        (lambda path: (path / "chat_template.jinja").unlink(), ValueError, "no chat template"),
        (lambda path: changed(path, text_config={"num_hidden_layers": 3}), ValueError, "lacks 9 of the weights of Llava"),
        (lambda path: (path / "model.safetensors").write_bytes(b"torn"), ValueError, "can't be loaded"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_loaded(tmp_path, change, error, message):
    copied = shutil.copytree(saved_mllm("llava"), tmp_path / "copied")
    change(copied)
    with pytest.raises(error, match=message):
        load_mllm(str(copied))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "  "}, "the prompt .* is empty"),
        ({"prompt": "describe the skene"}, "the word 'skene' is outside the model's vocabulary; .*scene"),
        ({"prompt": "describe the dog"}, "the word 'dog' is outside .*; tiny-llava-things knows it$"),
        ({"scale": 0}, "scale=0: a number above 0"),
        ({"scale": float("nan")}, "scale=nan: a number above 0"),
        ({"scale": True}, "scale=True: a number above 0"),
        ({"scale": 0.1}, "scale=0.1: the image becomes 1 x 1 tokens"),
        ({"scale": 20}, "scale=20: prompt and image have .* takes 256"),
        ({"enlargement": "zoom"}, "enlargement='zoom': choose from interpolate, crops"),
        ({"image": np.zeros((4, 4))}, r"image 0 has shape \(4, 4\)"),
    ],
)
def test_views_that_cannot_be(mllm, arguments, message):
    refused(message, mllm.family.view, **{"image": picture(), "prompt": "now", **arguments})


def test_answers_that_cannot_be(mllm):
    view, larger = (mllm.family.view(picture(), "now", scale) for scale in (1, 2))
    refused("one of the model's own tokens", answer_ids, mllm, "a </s>")
    room = mllm.family.context_length - len(view.ids)
    word = answer_ids(mllm, "a")
    assert teacher_forced(mllm, [view], [word * room]).hidden.shape[1] == mllm.family.context_length
    long = f"an answer of {room + 1} tokens after {len(view.ids)} .* longer than the 256"
    for views, answers, message in (
        ([view], [word * (room + 1)], long),
        ([view], [[mllm.family.image_token_id]], "holds the image token"),
        ([view], [word, word], "1 views and 2 answers"),
        ([view, larger], [word, word], r"views of scales \[1.0, 2.0\]"),
    ):
        refused(message, teacher_forced, mllm, views, answers)
    refused("max_new_tokens=0", generate, mllm, [view], 0)


def test_an_answer_that_fills_the_context_is_refused(llava, tmp_path):
    short = shutil.copytree(saved_mllm("llava"), tmp_path / "short")
    view = llava.family.view(picture(), PROMPTS[1])
    answer = generate(llava, [view], 40)[0]
    for room, fits in [(len(answer) + 1, True), (5, False)]:
        changed(short, text_config={"max_position_embeddings": len(view.ids) + room})
        mllm = load_mllm(str(short))
        assert generate(mllm, [view], 3)[0] == answer[:3]
        if fits:
            assert len(answer) == 40 or generate(mllm, [view], 40)[0] == answer
        else:
            refused("hasn't ended after 5 tokens", generate, mllm, [view], 40)
