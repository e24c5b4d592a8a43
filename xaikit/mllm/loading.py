"""Loading a multimodal language model as people have it: by name, from a folder, quantised, adapted, or already loaded."""

import difflib
import importlib.util
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoProcessor, GenerationConfig, PreTrainedConfig
from transformers.utils import logging

from ..clip.loading import BUNDLED as CLIPS, checked_device
from ..files.checks import EXTRAS, check_choices, check_whole, needs
from ..files.hub import fetch, hub_off
from ..files.paths import bundled, data_folder
from .families import family_of
from .model import Mllm

BUNDLED = bundled("processor_config.json")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DTYPES |= {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}
QUANTISATIONS = {"4bit": "load_in_4bit", "8bit": "load_in_8bit"}
_EXAMPLES = (
    "llava-hf/llava-1.5-7b-hf",
    "Qwen/Qwen3-VL-2B-Instruct",
    "google/gemma-3-4b-it",
    "OpenGVLab/InternVL3-1B-hf",
)
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


def load_mllm(
    name: str | Path | tuple[nn.Module, Any] = "tiny-llava",
    device: str = "cpu",
    dtype: str | torch.dtype = "auto",
    device_map: str | dict[str, Any] | None = None,
    quantization: str | Any | None = None,
    adapter: str | Path | None = None,
    revision: str | None = None,
    max_pixels: int | None = None,
    attention: str | None = None,
    chat: Mapping[str, Any] | None = None,
    seed: int = 0,
    random_weights: bool = False,
) -> Mllm:
    """Load a multimodal language model of transformers, frozen and in evaluation mode.

    Parameters
    ----------
    name : a bundled model ("tiny-llava"), a folder as ``save_pretrained`` writes it, or a hub name "owner/name";
        the network is used only for the last. Or (model, processor) that are loaded already: the model is frozen, and its
        generation settings become those of greedy decoding.
    device, dtype : where and how to compute; dtype is "auto" (the checkpoint's own), "float32", "float16" or "bfloat16".
    device_map : as accelerate takes it, such as "auto", instead of one device.
    quantization : "4bit", "8bit", or a quantisation config of transformers.
    adapter : a folder or hub name of a PEFT adapter, put onto the model.
    revision : of a hub name, a branch, tag or commit.
    max_pixels : the most pixels of an image that the model gets, at any scale; None for the processor's own limits.
    attention : transformers' implementation of it, None for "sdpa".
    chat : options of the model's chat template, such as {"enable_thinking": False}.
    seed, random_weights : with random weights only the configuration and the processor are read, and the
        weights are drawn with this seed, for trying things out.

    Weights come from safetensors files only. Decoding is greedy, whatever the checkpoint asks for. Raises
    ValueError for a wrong name or option or a class of models that can't be explained, FileNotFoundError for missing files,
    ModuleNotFoundError for what quantisation, device maps and adapters need and isn't installed.

    Examples
    --------
    >>> import xaikit as xk
    >>> xk.load_mllm("tiny-llava", dtype="bfloat16").dtype
    torch.bfloat16
    """
    check_whole(1, **{} if max_pixels is None else {"max_pixels": max_pixels})
    if not isinstance(dtype, torch.dtype):
        check_choices(dtype=(dtype, ("auto", *DTYPES)))
    target = checked_device(device)
    wanted = {"device": device, "dtype": dtype, "device_map": device_map, "quantization": quantization}
    wanted |= {"adapter": adapter, "revision": revision, "attention": attention}
    asked = _asked(**wanted, seed=seed, random_weights=random_weights)
    if not isinstance(name, str | Path):
        model, processor = _given(name, asked)
        return _ready(
            str(model.config.name_or_path or type(model).__name__), model, processor, max_pixels=max_pixels, chat=chat
        )
    _check_extras(device_map, quantization, adapter)
    lora = None if adapter is None else fetch_adapter(adapter)
    folder = fetch_mllm(str(name), random_weights, revision)
    found = _class_name(str(name), folder)
    options = {"attn_implementation": attention or "sdpa", "dtype": DTYPES.get(dtype, dtype)}
    placed = {"device_map": device_map or ({"": str(target)} if quantization is not None else None)}
    if quantization is not None:
        placed["quantization_config"] = _quantised(quantization)
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with hub_off():
            processor = AutoProcessor.from_pretrained(folder)
            if random_weights:
                model = _random(folder, found, options, seed)
            else:
                model = _trained(name, folder, found, options | {k: v for k, v in placed.items() if v is not None})
            if lora is not None:
                model = _adapted(model, lora)
    except OSError as error:
        raise FileNotFoundError(f"{name} isn't whole on this machine: {_line(error)}") from error
    except (SafetensorError, RuntimeError, KeyError, ImportError) as error:
        raise ValueError(f"{name} can't be loaded: {_line(error)}") from error
    finally:
        if bar:
            logging.enable_progress_bar()
    if device_map is None and quantization is None:
        model = model.to(target)
    return _ready(str(name), model, processor, max_pixels=max_pixels, chat=chat)


def _ready(name: str, model: nn.Module, processor: Any, **options: Any) -> Mllm:
    """A loaded model, frozen, decoding greedily; the options are those of ``Sight``."""
    _check_class(name, type(model).__name__, type(model))
    if not hasattr(model.base_model, "get_image_features"):
        raise ValueError(
            f"{name} is a {type(model).__name__}, which hands out no image features: it can't be explained"
        )
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None or not hasattr(processor, "image_processor"):
        raise ValueError(f"the processor of {name} is a {type(processor).__name__}: one of images and text is needed")
    if processor.chat_template is None and "PaliGemma" not in type(processor).__name__:
        raise ValueError(f"{name} has no chat template: it says where image and prompt go, and is needed")
    most = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > most:
        raise ValueError(
            f"the processor of {name} knows {len(tokenizer)} tokens, the model {most}: they don't belong together"
        )
    if offloaded := [weight for weight, values in model.named_parameters() if values.is_meta]:
        raise ValueError(
            f"{name}: {len(offloaded)} of its weights are offloaded, the first of them {offloaded[0]}, and all are read: give a"
            " device_map that keeps them on devices, a smaller dtype or a quantization"
        )
    stated = (model.generation_config, model.config.get_text_config(), tokenizer)
    ends = next((each.eos_token_id for each in stated if each.eos_token_id is not None), None)
    # Sampling, penalties and the like of the checkpoint would change what is explained.
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=tokenizer.pad_token_id or 0)
    model.requires_grad_(False).eval()
    family = family_of(model, processor, name, **options)
    family.check_processor()
    return Mllm(name, model, processor, family, model.device, model.dtype)


def _given(pair: Any, options: list[str]) -> tuple[nn.Module, Any]:
    """A model and its processor that are loaded already."""
    if not (
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], nn.Module) and hasattr(pair[0], "config")
    ):
        raise ValueError(
            f"name is a {type(pair).__name__}: give a name, a folder, or (model, processor) of transformers"
        )
    if options:
        raise ValueError(f"{', '.join(options)}: of no use for a model that is loaded already; leave it out")
    model, processor = pair
    return (_unwrapped(model) if hasattr(model, "get_base_model") else model), processor


def _asked(**options: Any) -> list[str]:
    """The options of ``load_mllm`` that aren't at their defaults. Raises ValueError for two of which one would be ignored."""
    defaults = inspect.signature(load_mllm).parameters
    asked = [option for option, value in options.items() if value != defaults[option].default]
    for one, other, why in (
        ("random_weights", "quantization", "weights drawn at random aren't quantised"),
        ("random_weights", "device_map", "weights drawn at random are put onto one device"),
        ("device", "device_map", "both say where the weights go"),
    ):
        if one in asked and other in asked:
            raise ValueError(f"{one}={options[one]!r} and {other}={options[other]!r}: {why}; leave out one of the two")
    return asked


def fetch_mllm(name: str, random_weights: bool = False, revision: str | None = None) -> Path:
    """The folder of a model, whole, fetched where the hub has it and its cache hasn't; nothing is loaded. Raises what
    ``load_mllm`` does for a wrong name, a class that can't be explained and missing files, before weights are fetched."""
    folder = local = _folder(name)
    if local is None:
        folder = fetch(name, name, ["config.json"], revision=revision).parent
    elif revision is not None:
        raise ValueError(
            f"revision={revision!r}: only models of the hub have one, and {name} is a folder; leave it out"
        )
    _class_name(name, folder)
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


def _random(folder: Path, found: str, options: dict, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(folder)
    if options["dtype"] == "auto":
        options = options | {"dtype": config.dtype or torch.float32}
    return getattr(transformers, found)._from_config(config, **options)


def _trained(name: str | Path, folder: Path, found: str, options: dict) -> nn.Module:
    build = getattr(transformers, found)
    model, report = build.from_pretrained(folder, output_loading_info=True, use_safetensors=True, **options)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(f"{name} lacks {len(missing)} of the weights of {found}, the first of them {missing[0]}")
    return model


def _adapted(model: nn.Module, adapter: str | Path) -> nn.Module:
    from peft import PeftModel

    return _unwrapped(PeftModel.from_pretrained(model, str(adapter), use_safetensors=True))


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model inside PEFT's wrapper, its adapters in its layers. Raises ValueError for one outside of them."""
    for adapter in getattr(model, "peft_config", {}).values():
        if adapter.is_prompt_learning:
            raise ValueError(
                f"a {type(adapter).__name__} adds learnt tokens before the prompt, which no explanation would see: use an"
                " adapter of the layers, such as LoRA"
            )
    return model.get_base_model()


def _quantised(quantization: str | Any) -> Any:
    if not isinstance(quantization, str):
        return quantization
    return transformers.BitsAndBytesConfig(**{QUANTISATIONS[quantization]: True})


def _check_extras(device_map: Any, quantization: Any, adapter: Any) -> None:
    """Raise ModuleNotFoundError for what isn't installed, ValueError for a quantisation that there isn't."""
    if isinstance(quantization, str):
        check_choices(quantization=(quantization, tuple(QUANTISATIONS)))
    needed = {"bitsandbytes": quantization, "accelerate": device_map or quantization, "peft": adapter}
    for module, wanted in needed.items():
        if wanted is not None and importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(needs(module, EXTRAS[module]), name=module)


def _folder(name: str) -> Path | None:
    """Where the model is on this machine, None for one of the hub."""
    if name in BUNDLED:
        return data_folder() / name
    if Path(name).is_dir():
        return Path(name)
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
        return None
    if name in CLIPS:
        raise ValueError(f"{name} is a CLIP: load it with load_clip")
    if "/" in name or "\\" in name:
        raise FileNotFoundError(f"there is no folder {name}; a hub name has the form owner/name")
    known = [*BUNDLED, *_EXAMPLES]
    near = difflib.get_close_matches(name.lower(), [each.lower() for each in known], n=3, cutoff=0.3)
    near = [each for each in known if each.lower() in near] or known
    raise ValueError(f"unknown model {name!r}: the nearest known names are {', '.join(near)}; a folder works too")


def _class_name(name: str, folder: Path) -> str:
    """The class of a model, from its configuration, and that it can be explained and loaded."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            base = json.loads((folder / "adapter_config.json").read_text()).get("base_model_name_or_path")
            raise ValueError(f"{folder} holds an adapter: load its model, {base}, with adapter={str(folder)!r}")
        raise FileNotFoundError(f"{folder} lacks config.json: a model's folder holds it, its weights and its processor")
    try:
        settings = PreTrainedConfig.get_config_dict(folder)[0]
    except OSError as error:
        raise ValueError(f"{name} can't be loaded: its config.json is damaged ({_line(error)})") from error
    found = next(iter(settings.get("architectures") or []), None) or f"model of type {settings.get('model_type')!r}"
    _check_class(name, found, getattr(transformers, found, None))
    if "bitsandbytes" in str((settings.get("quantization_config") or {}).get("quant_method")):
        _check_extras(None, "4bit", None)
    return found


def _check_class(name: str, found: str, build: Any) -> None:
    """Raise ValueError for a class that can't be explained."""
    if found in _PORTS:
        raise ValueError(
            f"{name} is a {found}, whose code stands in its own repository and isn't run: use its port to transformers, such"
            f" as {_PORTS[found]} (port names mostly end in -hf)"
        )
    if found == "MllamaForConditionalGeneration":
        raise ValueError(
            f"{name} is a {found}, which reads images by cross-attention: no token of its input stands for a place, so use a"
            f" model that takes images as tokens, such as {_EXAMPLES[1]}"
        )
    if build is None or "mm_encoder_outputs" not in inspect.signature(build.forward).parameters:
        raise ValueError(
            f"{name} is a {found}: what can be explained are transformers' classes that take images as tokens, such as"
            f" {', '.join(_EXAMPLES)}; of code in a repository use the -hf port"
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
        raise ValueError(f"{folder / _WEIGHTS[1]} is damaged: it names no files of weights ({_line(error)})") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
