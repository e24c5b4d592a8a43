"""Load any open_clip model by name, or say which names are near; and its tokenizer, when it is first used.

The tokenizer of a folder with whole words, as those of the bundled models are, is read without transformers.
"""

import json
import tempfile
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, get_clean_fn
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from ..files.checks import PRECISIONS, check_choices, one_line
from ..files.hub import hub_off
from ..files.models import CLIPS, check_clip_name
from ..files.paths import data_folder
from .model import Clip
from .setups import CONFIG, checked_size, fetch_clip, fetch_tokenizer, read_setup, setup_of, text_config
from .towers import tower

PLAIN = {"TokenizersBackend", "PreTrainedTokenizerFast"}  # classes that add nothing to what tokenizer.json says
UNFIT = (ValueError, AssertionError, ArithmeticError, IndexError, TypeError)  # of towers given an impossible size
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


def load_clip(
    name: str = "tiny-clip",
    pretrained: str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    setup: Mapping[str, object] | None = None,
) -> Clip:
    """Load a CLIP.

    Parameters
    ----------
    name : a bundled model ("tiny-clip", "tiny-clip-things" and others, see data/README.md), any architecture open_clip knows (also one
        registered with ``open_clip.add_model_config``), ``local-dir:PATH`` or ``hf-hub:OWNER/NAME``.
    pretrained : for an architecture name, open_clip's tag of the weights or a path to a safetensors file;
        None leaves random weights (drawn with ``seed``), for trying things out.
    device, precision : where and how to compute; precision is "fp32", "fp16" or "bf16".
    image_size : height and width other than the model's own; position embeddings are interpolated.
    setup : of weights in a file, what they were trained with and neither an ``open_clip_config.json`` beside them nor the
        architecture's published weights tell: "mean", "std", "interpolation", "resize_mode", "quick_gelu"; see ``setup_of``.

    The network is used only for what the hub holds of the model that is named and its cache lacks: weights of an open_clip tag
    or an ``hf-hub:`` name, and the tokenizer of an architecture that has none of its own, when it is first used. Raises
    ValueError with the nearest known names for a wrong one and for weights that are pickles, FileNotFoundError for a missing
    folder or file, and its kind HubError for what the hub doesn't give.

    Examples
    --------
    >>> clip = xk.load_clip("tiny-clip")
    >>> clip.image_size, clip.context_length
    ((64, 64), 20)
    >>> clip.similarity(scenes.image, scenes.caption).shape
    torch.Size([4, 4])
    """
    check_choices(precision=(precision, PRECISIONS))
    target, image_size = checked_device(device), checked_size(image_size)
    source, prepared, assumed = check_clip(name, pretrained, setup)
    fetch_clip(source, pretrained)
    failures = (SafetensorError, RuntimeError, KeyError, *(UNFIT if image_size else ()))
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        weights = None if ":" in source else pretrained
        try:
            if image_size is not None and weights is not None and Path(weights).is_file():
                weights = _in_float32(Path(weights), Path(folder))
            with hub_off():  # which would find pickles, or fetch a text tower where random weights are wanted
                model, _, preprocess = open_clip.create_model_and_transforms(
                    source,
                    weights,
                    device=target,
                    precision=precision,
                    force_image_size=image_size,
                    pretrained_text=False,
                    **{f"image_{key}": value for key, value in prepared.items()},
                )
        except failures as error:
            reason = one_line(error)[:300]
            sized = f" and image_size={image_size}" if image_size else ""
            raise ValueError(
                f"{name} can't be loaded with pretrained={pretrained!r}{sized} on {device}: {reason}"
            ) from error
    model.requires_grad_(False).eval()
    dtype = open_clip.get_input_dtype(precision) or torch.float32
    clip = Clip(name, model, preprocess, source, target, dtype, partial(load_tokenizer, name, source))
    if assumed:
        warnings.warn(assumed, stacklevel=2)
    if image_size:
        _check_takes_its_size(clip)
    return clip


def check_clip(
    name: str, pretrained: str | None = None, setup: Mapping[str, object] | None = None
) -> tuple[str, dict[str, object], str]:
    """What open_clip calls a model that is known, and whose files are there if they are to be on this machine, and what
    ``setup_of`` says of its weights where they don't bring it; nothing is loaded or fetched. Raises ValueError or
    FileNotFoundError for another, as ``load_clip`` does."""
    source = f"local-dir:{data_folder() / name}" if name in CLIPS else name
    if pretrained is not None and ":" in source:
        raise ValueError(f"pretrained={pretrained!r}: {name} brings its own weights; leave pretrained at None")
    if setup is not None and (":" in source or pretrained is None):
        raise ValueError(
            f"setup={setup!r}: only weights in a file need one, {name} brings its own; leave setup at None"
        )
    if source.startswith("local-dir:"):
        _check_folder(Path(source.removeprefix("local-dir:")))
        read_setup(Path(source.removeprefix("local-dir:")) / CONFIG)
    elif not source.startswith("hf-hub:"):
        _check_architecture(name, pretrained)
        return source, *setup_of(name, pretrained, setup)
    return source, {}, ""


def _check_takes_its_size(clip: Clip) -> None:
    """Raise ValueError for a size of pictures of which the model makes nothing."""
    try:
        makes_something = 0 not in tower(clip, "image").grid
    except ValueError:  # a tower without patches
        try:
            clip.encode_image(torch.zeros(1, 3, *clip.image_size, dtype=clip.dtype, device=clip.device))
            makes_something = True
        except RuntimeError:
            makes_something = False
    if not makes_something:
        raise ValueError(f"image_size={clip.image_size}: {clip.name} can't take pictures that small")


def checked_device(device: str) -> torch.device:
    """The device of this name. Raises ValueError for one that torch or this machine doesn't have."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = "'cpu' or 'cuda'" if torch.cuda.is_available() else "'cpu'"
        raise ValueError(
            f"device={device!r}: torch knows no such device, or this machine has none; use {known}"
        ) from error
    return torch.device(device)


def _in_float32(weights: Path, folder: Path) -> str:
    """A copy in float32: position embeddings in half precision can't be interpolated on the CPU."""
    copy = folder / weights.name
    save_file({name: tensor.float() for name, tensor in load_file(weights).items()}, copy)
    return str(copy)


def _check_folder(folder: Path) -> None:
    needed = (CONFIG, "open_clip_model.safetensors")
    missing = " and ".join(file for file in needed if not (folder / file).is_file())
    if missing:
        raise FileNotFoundError(f"{folder} lacks {missing}: an open_clip folder holds {' and '.join(needed)}")


def _check_architecture(name: str, pretrained: str | None) -> None:
    check_clip_name(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None or pretrained in tags:
        return
    path = Path(pretrained)
    if (path.suffix or path.is_file()) and path.suffix != ".safetensors":
        raise ValueError(
            f"pretrained={pretrained!r}: weights are loaded from .safetensors files only, never from pickles"
        )
    if not path.is_file():
        raise ValueError(
            f"pretrained={pretrained!r} is neither a file nor a tag of {name}; its tags are {', '.join(tags) or 'none'}"
        )


class WordTokenizer:
    """Texts to ids (n, context); ``tokenizer`` has the part of a Hugging Face tokenizer's interface that ``Clip`` uses.

    A full stop at a text's end is read over where the vocabulary has none.
    """

    def __init__(self, folder: Path, context: int):
        self.tokenizer = Words(folder)
        self._end = "" if "." in self.tokenizer.get_vocab() else "."
        self._padded = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._padded.enable_truncation(context)
        self._padded.enable_padding(length=context, pad_id=self.tokenizer.pad_token_id)

    def clean_fn(self, text: str) -> str:
        return get_clean_fn("whitespace")(text).removesuffix(self._end)

    def __call__(self, texts: str | list[str]) -> Tensor:
        texts = [texts] if isinstance(texts, str) else texts
        return torch.tensor([found.ids for found in self._padded.encode_batch([*map(self.clean_fn, texts)])])


class Words:
    """A vocabulary of whole words under the names that Hugging Face gives its parts."""

    def __init__(self, folder: Path):
        self._tokenizer = inner = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.get_vocab, self.convert_ids_to_tokens = inner.get_vocab, inner.id_to_token
        self.decode = partial(inner.decode, skip_special_tokens=False)
        named = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.all_special_tokens = [named[name] for name in SPECIAL]
        self.all_special_ids = [inner.token_to_id(token) for token in self.all_special_tokens]
        self.unk_token_id, self.pad_token_id = self.all_special_ids[2:]

    def __call__(self, text: str, add_special_tokens: bool = True, **_) -> SimpleNamespace:
        found = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return SimpleNamespace(input_ids=found.ids, offset_mapping=found.offsets)


def load_tokenizer(name: str, source: str):
    """The model's tokenizer: open_clip's, but for a folder's vocabulary of whole words, which needs no transformers."""
    if words := word_tokenizer(source):
        return words
    folder = fetch_tokenizer(source)
    try:
        if folder is None:
            with hub_off():
                return open_clip.get_tokenizer(source)
        text = text_config(
            source
        )  # read as a folder: by its name transformers would ask the hub for more than it needs
        options = {"tokenizer_mode": text.get("tokenizer_mode"), **text.get("tokenizer_kwargs", {})}
        return HFTokenizer(str(folder), text.get("context_length", 77), **options)
    except (OSError, ValueError, ImportError) as error:  # the last from what would fetch a vocabulary by its address
        raise FileNotFoundError(f"the tokenizer of {name} can't be read: {one_line(error)}") from error


def word_tokenizer(source: str) -> WordTokenizer | None:
    """The tokenizer of a ``local-dir:`` model, or None for one that isn't plainly of whole words: open_clip reads that."""
    folder = Path(source.removeprefix("local-dir:"))
    files = [folder / name for name in ("tokenizer.json", "tokenizer_config.json", "open_clip_config.json")]
    if not source.startswith("local-dir:") or not all(file.is_file() for file in files):
        return None
    try:
        words, named, config = (json.loads(file.read_text(encoding="utf-8")) for file in files)
        text = config["model_cfg"]["text_cfg"]
        plain = (
            words["model"]["type"] == "WordLevel"
            and named.get("tokenizer_class") in PLAIN
            and all(isinstance(named.get(name), str) for name in SPECIAL)
            and text.get("tokenizer_kwargs", {}) in ({}, {"clean": "whitespace"})
            and "hf_tokenizer_name" in text
        )
    except (ValueError, KeyError, TypeError, AttributeError):  # whatever it is, it isn't this
        return None
    return WordTokenizer(folder, text["context_length"]) if plain and "context_length" in text else None
