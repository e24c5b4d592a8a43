"""Models as people have them: loaded already, in their own precision, quantised, adapted, from repositories with code of their
own; and images larger than a limit."""

import copy
import importlib.util
import json
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from refusals import refused
from small_families import small_family
from small_mllms import picture, saved_mllm, small_mllm
from torch import nn

import xaikit as xk
from xaikit.clip.model import digest_of
from xaikit.mllm.loading import load_mllm


def settings(folder, tmp_path, **changes):
    """A copy of a model's folder with other settings."""
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    known = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(known | changes))
    return copied


def test_a_loaded_model_and_its_processor_are_taken_as_they_are():
    folder = saved_mllm("llava")
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).train()
    mllm = load_mllm((model, transformers.AutoProcessor.from_pretrained(folder)))
    assert mllm.model is model and not model.training and mllm.name
    ours, theirs = (
        xk.explain_tokens(each, picture(), "now", "tam", "a red circle") for each in (mllm, small_mllm("llava"))
    )
    np.testing.assert_array_equal(ours.token_heat, theirs.token_heat)
    assert mllm.weights_digest == small_mllm("llava").weights_digest


def test_a_wrapper_of_an_adapter_is_looked_into():
    class Wrapper(nn.Module):  # as PEFT's
        def __init__(self, model):
            super().__init__()
            self.inner, self.config = model, model.config

        def get_base_model(self):
            return self.inner

    mllm = small_mllm("llava")
    wrapper = Wrapper(mllm.model)
    assert load_mllm((wrapper, mllm.processor)).model is mllm.model
    wrapper.peft_config = {"default": SimpleNamespace(is_prompt_learning=True)}
    refused("adds learnt tokens before the prompt", load_mllm, (wrapper, mllm.processor))


@pytest.fixture
def peft(monkeypatch):
    """A stand-in for PEFT, which isn't needed here: it wraps a model, and keeps what it was given in ``seen``."""
    made = ModuleType("peft")
    made.__spec__, made.seen, made.learns_prompts = ModuleSpec("peft", None), [], False

    def from_pretrained(model, folder, **options):
        made.seen.append((folder, options))
        config = SimpleNamespace(is_prompt_learning=made.learns_prompts)
        return SimpleNamespace(peft_config={"default": config}, get_base_model=lambda: model)

    made.PeftModel = SimpleNamespace(from_pretrained=from_pretrained)
    monkeypatch.setitem(sys.modules, "peft", made)
    return made


def test_an_adapters_folder_is_whole_and_of_the_layers(tmp_path, peft):
    for name in ("adapter_config.json", "adapter_model.bin"):
        with pytest.raises(FileNotFoundError, match="lacks adapter_.*; its weights are never taken from a pickle"):
            load_mllm("tiny-llava", adapter=tmp_path)
        (tmp_path / name).write_text("{}")
    assert not peft.seen
    (tmp_path / "adapter_model.safetensors").write_text("")
    assert load_mllm("tiny-llava", adapter=tmp_path).name == "tiny-llava"
    assert peft.seen == [(str(tmp_path), {"use_safetensors": True})]
    peft.learns_prompts = True
    refused("adds learnt tokens before the prompt", load_mllm, "tiny-llava", adapter=tmp_path)


def test_stores_tell_set_ups_apart():
    mllm = small_mllm("llava")
    pair = mllm.model, mllm.processor
    ways = [{}, {"max_pixels": 9000}, {"max_pixels": 8000}, {"chat": {"thinking": False}}, {"chat": {"thinking": True}}]
    loaded = [load_mllm(pair, **way) for way in ways]
    assert [each.setup for each in loaded] == ways and len({each.weights_digest for each in loaded}) == len(ways)
    found = xk.explain_tokens(loaded[1], picture(), "now", "lens", "a red circle")
    assert xk.files.provenance(found)["setup"] == {"max_pixels": 9000}
    assert loaded[0].weights_digest == digest_of(mllm.model), "as older stores have it"


def test_offloaded_weights_are_refused():
    mllm = small_mllm("llava")
    model = copy.deepcopy(mllm.model)
    model.get_decoder().layers[1].to("meta")
    refused(r"\d+ of its weights are offloaded, the first of them .*layers\.1\.", load_mllm, (model, mllm.processor))


def test_a_shard_that_is_missing_is_named(tmp_path):
    copied = Path(shutil.copytree(saved_mllm("llava"), tmp_path / "copied"))
    (copied / "model.safetensors").rename(copied / "model-00001-of-00002.safetensors")
    index = copied / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {str(k): f"model-0000{k}-of-00002.safetensors" for k in (1, 2)}}))
    with pytest.raises(FileNotFoundError, match="lacks model-00002-of-00002.safetensors, which .*index.json names"):
        load_mllm(copied)
    index.write_text("{")
    refused("index.json is damaged", load_mllm, copied)


@pytest.mark.parametrize("stated", ["float32", "bfloat16"])
def test_the_checkpoint_says_its_own_precision(tmp_path, stated):
    folder = settings(saved_mllm("llava"), tmp_path, dtype=stated)
    assert load_mllm(str(folder)).dtype == getattr(torch, stated)
    assert load_mllm(folder, dtype="float32").dtype == load_mllm(folder, dtype=torch.float32).dtype == torch.float32
    assert load_mllm(folder, random_weights=True).dtype == getattr(torch, stated)


def test_attention_is_chosen():
    assert load_mllm(saved_mllm("llava"), attention="eager").decoder.config._attn_implementation == "eager"
    refused("telepathy.* is not supported", load_mllm, saved_mllm("llava"), attention="telepathy")


def test_options_reach_the_chat_template():
    mllm = small_mllm("llava")
    processor = copy.deepcopy(mllm.processor)
    processor.chat_template += "{% if enable_thinking is defined and not enable_thinking %} please{% endif %}"
    plain, told = (load_mllm((mllm.model, processor), chat=chat) for chat in (None, {"enable_thinking": False}))
    first, second = (each.family.view(picture(), "now") for each in (plain, told))
    assert mllm.decode(second.ids)[-1] == " please" and torch.equal(second.ids[:-1], first.ids)
    assert torch.equal(second.prompt_positions, first.prompt_positions)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"quantization": "4bit"}, "bitsandbytes"),
        ({"quantization": "8bit"}, "bitsandbytes"),
        ({"device_map": "auto"}, "accelerate"),
        ({"adapter": "some/lora"}, "peft"),
    ],
)
def test_what_is_missing_is_named_before_any_work(monkeypatch, options, missing):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(ModuleNotFoundError, match=rf"no module {missing} here: .* pip install 'xaikit\[large\]'"):
        load_mllm("tiny-llava", **options)


@pytest.mark.parametrize("stored", [{"quant_method": "bitsandbytes"}, {"load_in_8bit": True}])
def test_a_quantised_folder_names_what_it_needs(tmp_path, monkeypatch, stored):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    folder = settings(saved_mllm("llava"), tmp_path, quantization_config=stored)
    with pytest.raises(ModuleNotFoundError, match="no module bitsandbytes here"):
        load_mllm(folder)


@pytest.mark.parametrize(
    ("kind", "port"),
    [
        ("InternVLChatModel", "OpenGVLab/InternVL3-1B-hf"),
        ("LlavaLlamaForCausalLM", "llava-hf/llava-1.5-7b-hf"),
        ("LlavaQwenForCausalLM", "llava-onevision"),
        ("SomethingForCausalLM", "of code in a repository use the -hf port"),
        ("MllamaForConditionalGeneration", "by cross-attention: no token of its input stands for a place"),
    ],
)
def test_classes_that_are_not_explained_name_what_is(tmp_path, kind, port):
    folder = settings(saved_mllm("llava"), tmp_path, architectures=[kind])
    refused(f"copied is a {kind}.*{port}", load_mllm, str(folder))


def test_an_adapters_folder_says_how_it_is_loaded(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    refused("holds an adapter: load its model, some/base, with adapter=", load_mllm, tmp_path)


def test_wrong_pairs_and_options():
    llava = small_mllm("llava")
    refused("name is a list: give a name, a folder, or", load_mllm, [llava.model])
    loaded = (llava.model, llava.processor)
    refused("adapter, revision: of no use", load_mllm, loaded, adapter="a", revision="b")
    for useless in (
        {"dtype": "float32"},
        {"attention": "eager"},
        {"random_weights": True},
        {"seed": 1},
        {"device": "meta"},
    ):
        refused(f"{[*useless][0]}: of no use for a model that is loaded already", load_mllm, loaded, **useless)
    refused("revision='b': only models of the hub have one", load_mllm, revision="b")
    for one, other in (
        ({"random_weights": True}, {"quantization": "4bit"}),
        ({"random_weights": True}, {"device_map": "auto"}),
        ({"device": "meta"}, {"device_map": "auto"}),
    ):
        refused("leave out one of the two", load_mllm, **one, **other)
    refused("quantization='3bit': choose from 4bit, 8bit", load_mllm, quantization="3bit")
    refused("max_pixels=0: a whole number", load_mllm, max_pixels=0)
    refused("the processor of .* is a .*Tokenizer.*: one of images and text", load_mllm, (llava.model, llava.tokenizer))


# Of classes whose tokenizers happen to know the model's token, and each of which raises in another way.
OTHERS = [
    ("llava", "qwen3_vl"), ("qwen3_vl", "llava"), ("llava", "llava_next"), ("internvl", "llava"), ("llava_next", "llava"),
    ("gemma4", "gemma3"), ("pixtral", "video_llama_3"), ("idefics3", "llava"), ("glm4v", "video_llama_3"),
    ("mistral3", "llava_onevision"), ("qwen3_vl", "video_llama_3"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of transformers' processors
@pytest.mark.parametrize(("model", "processor"), OTHERS)
def test_a_processor_of_another_model_is_told_in_a_sentence(model, processor):
    model, processor = small_family(model).model, small_family(processor).processor
    refused("belong together|model and processor don't fit", fits, model, processor)


def fits(model, processor):
    mllm = load_mllm((copy.copy(model), processor))
    mllm.family.view(picture(), "now")


def test_images_keep_to_the_limit_at_every_scale():
    for name, limit in (("qwen3_vl", 7200), ("pixtral", 56 * 84), ("internvl", 5 * 56 * 56)):
        mllm = small_family(name)
        free = mllm.family.view(picture(300, 400), "now")
        held = load_mllm((mllm.model, mllm.processor), max_pixels=limit)
        view = held.family.view(picture(300, 400), "now")
        assert len(view.tokens) < len(free.tokens)
        assert view.region == (0, 0, 1, 1)
        refused(rf"scale=2: .* makes \d+ pixels of this image, more than max_pixels={limit}: use a smaller scale",
                held.family.view, picture(300, 400), "now", 2)  # fmt: skip
    small = load_mllm((mllm.model, mllm.processor), max_pixels=300)
    refused("scale=1.0: .* more than max_pixels=300", small.family.view, picture(), "now")
