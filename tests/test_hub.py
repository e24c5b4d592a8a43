"""Models of the hub, asked from a hub on this machine: what was named, or one sentence, and never anything else."""

import json
import shutil
import socket
import time

import open_clip
import pytest
import torch
from huggingface_hub import constants
from loopback_hub import Hub
from open_clip import pretrained as tags
from safetensors.torch import load_file, save_file
from small_models import CONFIGS, small_clip

import xaikit as xk
from xaikit.clip.setups import fetch_tokenizer
from xaikit.files import data_folder
from xaikit.files.hub import HubError
from xaikit.mllm.fetching import fetch_mllm
from xaikit.running import command_line, execution

OPENAI, SIGLIP, HALF = "timm/vit_base_patch32_clip_224.openai", "timm/ViT-B-16-SigLIP", "owner/half"
PUBLISHED = {  # a small model of the kind, and the repository of its tag
    "small-vit": OPENAI,
    "small-custom-blocks": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "small-siglip": SIGLIP,
    "small-eva02": "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
    "small-coca": "laion/CoCa-ViT-B-32-laion2B-s13B-b90k",
}
WEIGHTS, PICKLE = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A hub with the layouts of published repositories."""
    root = tmp_path_factory.mktemp("repositories")
    for name, repository in PUBLISHED.items():
        folder = root / repository
        folder.mkdir(parents=True)
        save_file(
            {key: value.contiguous() for key, value in small_clip(name).model.state_dict().items()}, folder / WEIGHTS
        )
        config = json.loads(json.dumps(CONFIGS[name]))
        if name == "small-siglip":
            config["text_cfg"]["hf_tokenizer_name"] = SIGLIP
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(data_folder() / "tiny-clip" / file, folder)
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        (folder / PICKLE).write_bytes(b"a pickle")
        (folder / "README.md").write_text("# published")
    pickled = root / "apple/DFN2B-CLIP-ViT-B-16"
    pickled.mkdir(parents=True)
    shutil.copy(root / OPENAI / "open_clip_config.json", pickled)
    (pickled / PICKLE).write_bytes(b"a pickle")
    shutil.copytree(pickled, root / HALF)
    with Hub(root) as hub:
        yield hub
        hub.shutdown()


@pytest.fixture
def hub(served, tmp_path, monkeypatch):
    """That hub, without faults, with an empty cache and tags of the small models."""
    served.fault, served.seen = ("", None), []
    point_at(monkeypatch, served.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_DOWNLOAD_TIMEOUT", raising=False)
    for name, repository in PUBLISHED.items():
        small_clip(name)
        monkeypatch.setitem(tags._PRETRAINED, name, {"published": tags._pcfg(hf_hub=f"{repository}/")})
    return served


def point_at(monkeypatch, address):
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


def same_weights(one, other):
    """To the last bit: open_clip leaves a projection of CoCa's decoder as the memory was, which may be NaN."""
    theirs = other.model.state_dict()
    return all(
        value.numpy().tobytes() == theirs[name].numpy().tobytes() for name, value in one.model.state_dict().items()
    )


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("by_tag", [True, False])
def test_a_model_of_each_published_layout_is_the_one_that_was_named(hub, name, by_tag):
    torch.manual_seed(1)
    named = (name, "published") if by_tag else (f"hf-hub:{PUBLISHED[name]}",)
    loaded = xk.load_clip(*named)
    assert same_weights(small_clip(name), loaded)
    assert not any(PICKLE in line for line in hub.seen)
    asked = len(hub.seen)
    assert same_weights(loaded, xk.load_clip(*named)) and len(hub.seen) == asked, "the cache is enough"
    if named[0] == f"hf-hub:{SIGLIP}":
        assert loaded.token_strings("a small red ring") == [["a", "small", "red", "ring"]] and len(hub.seen) == asked


FAILURES = {
    "missing repository": ("hf-hub:owner/nothing", "", None, "has no owner/nothing, or it is private: check the name, or log in"),
    "no such name": ("hf-hub:not a name", "", None, "hf-hub:not a name can't be had: "),
    "only a pickle": ("hf-hub:" + HALF, "", None, f"holds its weights only as pickles .{PICKLE}., which are never loaded"),
    "gated": ("hf-hub:" + OPENAI, "resolve", "gated", "is gated: accept its terms at http.*/timm/vit.* please log in"),
    "refused": ("hf-hub:" + OPENAI, "resolve", 401, "refuses .*401.: log in"),
    "listed but missing": ("hf-hub:" + OPENAI, f"resolve.*{WEIGHTS}", 404, "answered 404 for timm/vit"),
    "weights answer 500": ("hf-hub:" + OPENAI, f"resolve.*{WEIGHTS}", 500, "answered 500 for timm/vit"),
    "their download answers 503": ("hf-hub:" + OPENAI, "GET /cdn/", 503, "answered 503 for timm/vit"),
    "all answer 503": ("hf-hub:" + OPENAI, "", 503, "answered 503 for timm/vit"),
    "portal": ("hf-hub:" + OPENAI, "", "portal", "is no model hub: a portal"),
    "portal for files": ("hf-hub:" + OPENAI, "resolve", "portal", "is no model hub: a portal"),
    "silent": ("hf-hub:" + OPENAI, "", "silent", "didn't answer in time"),
    "silent for files": ("hf-hub:" + OPENAI, f"resolve.*{WEIGHTS}", "silent", "didn't answer in time"),
    "silent downloads": ("hf-hub:" + OPENAI, "GET /cdn/", "silent", "didn't answer in time"),
    "tokenizer answers 500": ("hf-hub:" + SIGLIP, "tokenizer.json", 500, "the tokenizer of hf-hub:timm/ViT-B-16-SigLIP can't"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
def test_what_the_hub_doesnt_give_is_one_sentence_soon(hub, case, monkeypatch):
    name, *hub.fault, sentence = FAILURES[case]
    monkeypatch.setattr("xaikit.files.hub.ANSWER", 0.5)
    monkeypatch.setattr("xaikit.files.hub.STALL", 0.1)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
    began = time.monotonic()
    with pytest.raises(HubError, match=sentence) as error:
        xk.load_clip(name)
    assert time.monotonic() - began < 25 and "\n" not in str(error.value)
    assert not any(PICKLE in line for line in hub.seen)


def test_a_hub_that_cant_be_reached_is_one_sentence(hub, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    for address, sentence in (
        (f"http://127.0.0.1:{free}", "refuses connections"),
        ("http://hub.invalid", "can't be looked up: check the connection and DNS"),
    ):
        point_at(monkeypatch, address)
        with pytest.raises(HubError, match=f"small-vit .published. can't be had: .*{address} {sentence}"):
            xk.load_clip("small-vit", "published")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=f"{OPENAI} isn't in the cache .* switched off .HF_HUB_OFFLINE."):
        xk.load_clip("small-vit", "published")


def test_a_download_that_is_cut_goes_on_from_where_it_was(hub, monkeypatch):
    monkeypatch.setattr("xaikit.files.hub.PIECE", 10_000)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
    hub.fault = "GET /cdn/", "cut"
    assert same_weights(small_clip("small-vit"), xk.load_clip("small-vit", "published"))
    ranges = [line for line in hub.seen if "GET /cdn/" in line]
    assert ["bytes=40000-" in line for line in ranges[:2]] == [False, True] and len(ranges) > 2


def test_a_text_tower_with_random_weights_stays_random(hub):
    (hub.root / "roberta-base").mkdir()
    (hub.root / "roberta-base/config.json").write_text("{}")
    assert open_clip.get_model_config("roberta-ViT-B-32")["text_cfg"]["hf_model_name"] == "roberta-base"
    hub.fault = "config.json", 500
    with pytest.raises(
        HubError, match="the text tower of roberta-ViT-B-32 can't be had: .*answered 500 for roberta-base"
    ):
        xk.load_clip("roberta-ViT-B-32")


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"model": "ViT-B-32", "pretrained": "openia"}, "'openia' is neither a file nor a tag of ViT-B-32"),
        (
            {"model": "ViT-B-16-quickgelu", "pretrained": "dfn2b"},
            "(dfn2b) can't be had: apple/DFN2B-CLIP-ViT-B-16 holds its weights only as pickles",
        ),
        ({"model": "hf-hub:owner/nothing"}, "has no owner/nothing"),
        ({"other": "hf-hub:owner/nothing"}, "has no owner/nothing"),
        ({"model": "local-dir:nowhere"}, "nowhere lacks open_clip_config.json"),
        ({"multimodal_model": "owner/nothing"}, "has no owner/nothing"),
    ],
)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_models_are_looked_up_before_any_kernel_starts(
    hub, notebooks_here, write_notebook, tmp_path, monkeypatch, capsys, parameters, sentence, command
):
    cell = "run = 'default'  # the run\npretrained = None  # weights\n" + "".join(
        f"{name} = 'tiny-clip'  # a model\n" for name in parameters if name != "pretrained"
    )
    write_notebook(notebooks_here / "00_toy.ipynb", cell, "1")
    monkeypatch.setattr("xaikit.running.workbook.execute", lambda *about: pytest.fail("a kernel was started"))
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
    assert command_line.main([command, "--out", str(tmp_path / "out"), *given]) == 2
    assert sentence in capsys.readouterr().err


def test_weights_and_tokenizer_are_fetched_for_the_kernels(hub, monkeypatch):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS["small-siglip"]["text_cfg"], "hf_tokenizer_name", SIGLIP)
    execution.prepare([{"model": "small-siglip", "pretrained": "published"}, {"model": "tiny-clip", "n": 3}])
    point_at(monkeypatch, "http://hub.invalid")
    loaded = xk.load_clip("small-siglip", "published")
    assert loaded.token_strings("a ring") == [["a", "ring"]] and same_weights(small_clip("small-siglip"), loaded)
    fetch_tokenizer("small-siglip")


def test_a_multimodal_model_of_the_hub(hub):
    target = hub.root / "owner/tiny"
    shutil.copytree(data_folder() / "tiny-llava", target)
    loaded = xk.load_mllm("owner/tiny")
    assert loaded.weights_digest == xk.load_mllm("tiny-llava").weights_digest
    (target / "model.safetensors").rename(target / "pytorch_model.bin")
    hub.seen.clear()
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(
        HubError, match="owner/tiny can't be had: owner/tiny holds its weights only as pickles .pytorch_model.bin."
    ):
        xk.load_mllm("owner/tiny")
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"architectures": ["GPT2LMHeadModel"]}))
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(ValueError, match="owner/tiny is a GPT2LMHeadModel"):
        xk.load_mllm("owner/tiny")
    assert not any("pytorch_model" in line for line in hub.seen)


def sharded(target):
    """The bundled model as a repository of two shards."""
    shutil.copytree(data_folder() / "tiny-llava", target)
    held, names = load_file(target / "model.safetensors"), {}
    for part in (0, 1):
        shard = f"model-{part}.safetensors"
        weights = {key: value for place, (key, value) in enumerate(held.items()) if place % 2 == part}
        save_file(weights, target / shard, {"format": "pt"})
        names |= dict.fromkeys(weights, shard)
    (target / "model.safetensors").unlink()
    (target / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


@pytest.mark.parametrize("lost", ["model-1.safetensors", "tokenizer.json"])
def test_what_the_cache_lacks_of_a_multimodal_model_is_fetched(hub, lost):
    target = hub.root / "owner/shards"
    if not target.exists():
        sharded(target)
    fetched = fetch_mllm("owner/shards")
    (fetched / lost).unlink()
    hub.seen.clear()
    assert fetch_mllm("owner/shards") == fetched and (fetched / lost).is_file()
    assert xk.load_mllm("owner/shards").weights_digest == xk.load_mllm("tiny-llava").weights_digest
    assert not any("GET /cdn/" in line and lost not in line for line in hub.seen), "the rest is there"


def test_an_adapter_of_the_hub_is_fetched(hub, monkeypatch):
    target = hub.root / "owner/lora"
    target.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (target / name).write_text("{}")
    monkeypatch.setattr("xaikit.mllm.loading.check_extras", lambda *wanted: None)
    taken = []
    monkeypatch.setattr("xaikit.mllm.loading._adapted", lambda model, folder: taken.append(folder) or model)
    xk.load_mllm("tiny-llava", adapter="owner/lora")
    assert sorted(path.name for path in taken[0].iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    (target / "adapter_model.safetensors").rename(target / "adapter_model.bin")
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(HubError, match="the adapter owner/lora can't be had: .* only as pickles .adapter_model.bin."):
        xk.load_mllm("tiny-llava", adapter="owner/lora")
