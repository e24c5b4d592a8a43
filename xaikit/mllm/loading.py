"""Loading a multimodal language model as people have it: by name, from a folder, quantised, adapted, or already loaded."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoProcessor, GenerationConfig
from transformers.utils import logging

from ..clip.loading import checked_device
from ..files.checks import check_choices, check_whole, one_line
from ..files.hub import hub_off
from .families import family_of
from .fetching import QUANTISATIONS, check_class, check_extras, class_name, fetch_adapter, fetch_mllm
from .model import Mllm

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DTYPES |= {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}


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
    name : a bundled model ("tiny-llava" or "tiny-llava-things"), a folder as ``save_pretrained`` writes it, or a hub name "owner/name";
        the network is used only for the last. Or (model, processor) that are loaded already: the model is frozen, and its
        generation settings become those of greedy decoding.
    device, dtype : where and how to compute; dtype is "auto" (the checkpoint's own), "float32", "float16" or "bfloat16".
    device_map : as accelerate takes it, such as "auto", instead of one device; it must offload no weight.
    quantization : "4bit", "8bit", or a quantisation config of transformers.
    adapter : a folder or hub name of a PEFT adapter of the layers, such as LoRA, put onto the model.
    revision : of a hub name, a branch, tag or commit.
    max_pixels : the most pixels of an image that the model gets, at any scale; None for the processor's own limits.
    attention : transformers' implementation of it, None for "sdpa".
    chat : options of the model's chat template, such as {"enable_thinking": False}.
    seed, random_weights : with random weights only the configuration and the processor are read, and the
        weights are drawn with this seed, for trying things out.

    Weights come from safetensors files only. Decoding is greedy, whatever the checkpoint asks for. Raises ValueError for a
    wrong name, an option that is wrong or of no use, or a class of models that can't be explained, FileNotFoundError for
    missing files, ModuleNotFoundError for what quantisation, device maps and adapters need and isn't installed.

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
    check_extras(device_map, quantization, adapter)
    lora = None if adapter is None else fetch_adapter(adapter)
    folder = fetch_mllm(str(name), random_weights, revision)
    found = class_name(str(name), folder)
    options = {"attn_implementation": attention or "sdpa", "dtype": DTYPES.get(dtype, dtype)}
    placed = {"device_map": device_map or ({"": str(target)} if quantization is not None else None)}
    if quantization is not None:
        named = isinstance(quantization, str)
        placed["quantization_config"] = (
            transformers.BitsAndBytesConfig(**{QUANTISATIONS[quantization]: True}) if named else quantization
        )
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
        raise FileNotFoundError(f"{name} isn't whole on this machine: {one_line(error)[:300]}") from error
    except (SafetensorError, RuntimeError, KeyError, ImportError) as error:
        raise ValueError(f"{name} can't be loaded: {one_line(error)[:300]}") from error
    finally:
        if bar:
            logging.enable_progress_bar()
    if device_map is None and quantization is None:
        model = model.to(target)
    return _ready(str(name), model, processor, max_pixels=max_pixels, chat=chat)


def _ready(name: str, model: nn.Module, processor: Any, **options: Any) -> Mllm:
    """A loaded model, frozen, decoding greedily; the options are those of ``Sight``."""
    check_class(name, type(model).__name__, type(model))
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
