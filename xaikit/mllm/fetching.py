"""The files of a multimodal language model and of its adapter: found on this machine or fetched, and whole, before any is
loaded."""

import importlib.util
import inspect
import json
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig

from ..files.checks import EXTRAS, check_choices, needs, one_line
from ..files.hub import fetch
from ..files.models import OF_THE_HUB, mllm_folder

QUANTISATIONS = {"4bit": "load_in_4bit", "8bit": "load_in_8bit"}
# Classes whose code stands in their own repositories, which is never run, and where transformers' port of them is.
_PORTS = {
    "InternVLChatModel": "OpenGVLab/InternVL3-1B-hf",
    "LlavaLlamaForCausalLM": "llava-hf/llava-1.5-7b-hf",
    "LlavaMistralForCausalLM": "llava-hf/llava-v1.6-mistral-7b-hf",
    "LlavaQwenForCausalLM": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "MultiModalityCausalLM": "deepseek-community/deepseek-vl-1.3b-chat",
    "Ovis": "thisisiron/Ovis2-1B-hf",
}
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_SHARDS = ("model*.safetensors",)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_PROCESSORS = ("processor_config.json", "preprocessor_config.json")
_BESIDE = ("*config.json", "*tokens*.json", "chat_template*", "tokenizer*", "vocab*", "merges.txt", "*.model")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def fetch_mllm(name: str, random_weights: bool = False, revision: str | None = None) -> Path:
    """The folder of a model, whole, fetched where the hub has it and its cache hasn't; nothing is loaded. Raises what
    ``load_mllm`` does for a wrong name, a class that can't be explained and missing files, before weights are fetched."""
    folder = local = mllm_folder(name)
    if local is None:
        folder = fetch(name, name, ["config.json"], revision=revision).parent
    elif revision is not None:
        raise ValueError(
            f"revision={revision!r}: only models of the hub have one, and {name} is a folder; leave it out"
        )
    class_name(name, folder)
    if local is None:
        commit = folder.name  # all of it from one, though the hub may have a newer one by now
        for files in (_PROCESSORS, _TOKENIZERS):
            fetch(name, name, files, _BESIDE, commit)
        if not random_weights:
            fetch(name, name, _WEIGHTS[::-1], _SHARDS, commit)
            for shard in _shards(folder):  # what cut another's download may lack some
                fetch(name, name, [shard], revision=commit)
    _check_folder(folder, random_weights)
    return folder


def fetch_adapter(adapter: str | Path) -> Path:
    """The folder of a PEFT adapter, fetched where the hub has it and its cache hasn't."""
    folder = Path(adapter)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not folder.is_dir():
            found = fetch(f"the adapter {adapter}", str(adapter), [name])
        elif not (found := folder / name).is_file():
            raise FileNotFoundError(f"the adapter {adapter} lacks {name}; its weights are never taken from a pickle")
    return found.parent


def check_extras(device_map: Any, quantization: Any, adapter: Any) -> None:
    """Raise ModuleNotFoundError for what isn't installed, ValueError for a quantisation that there isn't."""
    if isinstance(quantization, str):
        check_choices(quantization=(quantization, tuple(QUANTISATIONS)))
    needed = {"bitsandbytes": quantization, "accelerate": device_map or quantization, "peft": adapter}
    for module, wanted in needed.items():
        if wanted is not None and importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(needs(module, EXTRAS[module]), name=module)


def class_name(name: str, folder: Path) -> str:
    """The class of a model, from its configuration, and that it can be explained and loaded."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            base = json.loads((folder / "adapter_config.json").read_text()).get("base_model_name_or_path")
            raise ValueError(f"{folder} holds an adapter: load its model, {base}, with adapter={str(folder)!r}")
        raise FileNotFoundError(f"{folder} lacks config.json: a model's folder holds it, its weights and its processor")
    try:
        settings = PreTrainedConfig.get_config_dict(folder)[0]
    except OSError as error:
        raise ValueError(f"{name} can't be loaded: its config.json is damaged ({one_line(error)[:300]})") from error
    found = next(iter(settings.get("architectures") or []), None) or f"model of type {settings.get('model_type')!r}"
    check_class(name, found, getattr(transformers, found, None))
    stored = settings.get("quantization_config") or {}  # older ones name no method
    if "bitsandbytes" in str(stored.get("quant_method")) or any(map(stored.get, QUANTISATIONS.values())):
        check_extras(None, "4bit", None)
    return found


def check_class(name: str, found: str, build: Any) -> None:
    """Raise ValueError for a class that can't be explained."""
    if found in _PORTS:
        raise ValueError(
            f"{name} is a {found}, whose code stands in its own repository and isn't run: use its port to transformers, such"
            f" as {_PORTS[found]} (port names mostly end in -hf)"
        )
    if found == "MllamaForConditionalGeneration":
        raise ValueError(
            f"{name} is a {found}, which reads images by cross-attention: no token of its input stands for a place, so use a"
            f" model that takes images as tokens, such as {OF_THE_HUB[1]}"
        )
    if build is None or "mm_encoder_outputs" not in inspect.signature(build.forward).parameters:
        raise ValueError(
            f"{name} is a {found}: what can be explained are transformers' classes that take images as tokens, such as"
            f" {', '.join(OF_THE_HUB)}; of code in a repository use the -hf port"
        )


def _check_folder(folder: Path, random_weights: bool) -> None:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    held = f" and holds only pickles ({', '.join(pickles[:3])}), which are never loaded" if pickles else ""
    for names, lack in (
        (() if random_weights else _WEIGHTS, f"{' or '.join(_WEIGHTS)}{held}"),
        (_PROCESSORS, f"{' or '.join(_PROCESSORS)}: the processor belongs to the model's folder"),
        (_TOKENIZERS, "tokenizer.json: the tokenizer belongs to the model's folder"),
        *([] if random_weights else [((shard,), f"{shard}, which {_WEIGHTS[1]} names") for shard in _shards(folder)]),
    ):
        if names and not any((folder / name).is_file() for name in names):
            raise FileNotFoundError(f"{folder} lacks {lack}")


def _shards(folder: Path) -> list[str]:
    """The files that hold the weights, where an index says so."""
    if (folder / _WEIGHTS[0]).is_file() or not (folder / _WEIGHTS[1]).is_file():
        return []
    try:
        return sorted({*json.loads((folder / _WEIGHTS[1]).read_text())["weight_map"].values()})
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{folder / _WEIGHTS[1]} is damaged: it names no files of weights ({one_line(error)[:300]})"
        ) from error
