"""A multimodal language model with what is needed to feed it and to read it, loaded from a folder or by name."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import punctuation
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import AutoConfig, AutoProcessor, GenerationConfig, PreTrainedConfig
from transformers.utils import logging

from ..clip.loading import BUNDLED as CLIPS, checked_device
from ..clip.model import digest_of
from ..files.checks import check_choices
from ..files.hub import fetch, hub_off
from ..files.paths import bundled, data_folder
from .families import FAMILIES
from .family import Family

BUNDLED = bundled("processor_config.json")
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_EXAMPLES = ("llava-hf/llava-1.5-7b-hf", "Qwen/Qwen2-VL-2B-Instruct", "OpenGVLab/InternVL3-1B-hf")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_SHARDS = ("model*.safetensors",)
_PROCESSORS = ("processor_config.json", "preprocessor_config.json")
_BESIDE = ("*config.json", "*tokens*.json", "chat_template*", "tokenizer*", "vocab*", "merges.txt", "*.model")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass
class Mllm:
    """A frozen model of a supported class: ``model`` and ``processor`` are those of transformers, nothing on them
    is patched; ``family`` knows how the class takes images."""

    name: str
    model: nn.Module
    processor: Any
    family: Family
    device: torch.device
    dtype: torch.dtype

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def output_weight(self) -> Tensor:
        """The unembedding (V, D): logits are states after the final norm times its transpose."""
        return self.model.get_output_embeddings().weight

    @property
    def context_length(self) -> int:
        """The most tokens of prompt, image and answer together."""
        return self.family.context_length

    def decode(self, ids: Sequence[int] | Tensor) -> list[str]:
        """One readable string a token, with a space in front where the token starts a word.

        Byte-level vocabularies hold that space; sentence pieces mark it with "▁", which decoding drops; in a
        vocabulary of whole words every token but punctuation starts one.
        """
        whole = isinstance(self.tokenizer.backend_tokenizer.model, WordLevel)
        strings = []
        for index in map(int, ids):
            text = self.tokenizer.decode([index], clean_up_tokenization_spaces=False)
            piece = self.tokenizer.convert_ids_to_tokens(index)
            starts = piece.startswith("▁") or (whole and not set(text) <= set(punctuation))
            strings.append(f" {text.lstrip(' ')}" if starts else text)
        return strings

    @cached_property
    def weights_digest(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over all weights, to tell models apart in stores."""
        return digest_of(self.model)


def load_mllm(
    name: str = "tiny-llava", device: str = "cpu", precision: str = "fp32", seed: int = 0, random_weights: bool = False
) -> Mllm:
    """Load a multimodal language model of one of the supported classes, frozen and in evaluation mode.

    Parameters
    ----------
    name : a bundled model ("tiny-llava"), a folder as ``save_pretrained`` writes it, or a hub name "owner/name";
        the network is used only for the last.
    device, precision : where and how to compute; precision is "fp32", "fp16" or "bf16".
    seed, random_weights : with random weights only the configuration and the processor are read, and the
        weights are drawn with this seed, for trying things out.

    Weights come from safetensors files only. Decoding is greedy, whatever the checkpoint asks for. Raises
    ValueError for a wrong name, device, precision or class of models, FileNotFoundError for missing files.

    Examples
    --------
    >>> import xaikit as xk
    >>> xk.load_mllm("tiny-llava", precision="bf16").dtype
    torch.bfloat16
    """
    check_choices(precision=(precision, tuple(PRECISIONS)))
    target = checked_device(device)
    folder = fetch_mllm(name, random_weights)
    found = _class_name(name, folder)
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with hub_off():
            processor = AutoProcessor.from_pretrained(folder)
            model = _model(name, folder, found, PRECISIONS[precision], seed if random_weights else None)
    except OSError as error:
        raise FileNotFoundError(f"{name} isn't whole on this machine: {_line(error)}") from error
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise ValueError(f"{name} can't be loaded: {_line(error)}") from error
    finally:
        if bar:
            logging.enable_progress_bar()
    if processor.chat_template is None:
        raise ValueError(f"{name} has no chat template: it says where image and prompt go, and is needed")
    stated = (model.generation_config, model.config.get_text_config(), processor.tokenizer)
    ends = next((each.eos_token_id for each in stated if each.eos_token_id is not None), None)
    # Sampling, penalties and the like of the checkpoint would change what is explained.
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=processor.tokenizer.pad_token_id or 0)
    model.requires_grad_(False).eval().to(target)
    return Mllm(name, model, processor, FAMILIES[found](model, processor, name), target, PRECISIONS[precision])


def fetch_mllm(name: str, random_weights: bool = False) -> Path:
    """The folder of a model, whole, fetched where the hub has it and its cache hasn't; nothing is loaded. Raises what
    ``load_mllm`` does for a wrong name, a class that can't be explained and missing files, before weights are fetched."""
    folder = local = _folder(name)
    if local is None:
        folder = fetch(name, name, ["config.json"]).parent
    if (found := _class_name(name, folder)) not in FAMILIES:
        raise ValueError(f"{name} is a {found}: the classes that can be explained are {', '.join(FAMILIES)}")
    if local is None:
        folder = fetch(name, name, _PROCESSORS, _BESIDE).parent
        if not random_weights:
            # the index of the shards last: it says that all of them are there
            folder = fetch(name, name, _WEIGHTS[::-1], _SHARDS).parent
    _check_folder(folder, random_weights)
    return folder


def _model(name: str, folder: Path, found: str, dtype: torch.dtype, seed: int | None) -> nn.Module:
    build = getattr(transformers, found)
    if seed is not None:
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(folder)
        return build._from_config(config, dtype=dtype, attn_implementation="sdpa")
    options = {"dtype": dtype, "attn_implementation": "sdpa", "use_safetensors": True}
    model, report = build.from_pretrained(folder, output_loading_info=True, **options)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(f"{name} lacks {len(missing)} of the weights of {found}, the first of them {missing[0]}")
    return model


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
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} lacks config.json: a model's folder holds it, its weights and its processor")
    try:
        settings = PreTrainedConfig.get_config_dict(folder)[0]
    except OSError as error:
        raise ValueError(f"{name} can't be loaded: its config.json is damaged ({_line(error)})") from error
    return next(iter(settings.get("architectures") or []), None) or f"model of type {settings.get('model_type')!r}"


def _check_folder(folder: Path, random_weights: bool) -> None:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    held = f" and holds only pickles ({', '.join(pickles[:3])}), which are never loaded" if pickles else ""
    for names, lack in (
        (() if random_weights else _WEIGHTS, f"{' or '.join(_WEIGHTS)}{held}"),
        (_PROCESSORS, f"{' or '.join(_PROCESSORS)}: the processor belongs to the model's folder"),
        (
            ("tokenizer.json", "tokenizer.model", "vocab.json"),
            "tokenizer.json: the tokenizer belongs to the model's folder",
        ),
    ):
        if names and not any((folder / name).is_file() for name in names):
            raise FileNotFoundError(f"{folder} lacks {lack}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
