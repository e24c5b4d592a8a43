"""Load any open_clip model by name and give it images and texts, checked.

The model is the plain open_clip model, frozen and in evaluation mode; nothing on it is patched.
"""

import difflib
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from .images import read_image
from .paths import data_folder

BUNDLED = ("tiny-clip", "tiny-clip-shortcut")
PRECISIONS = ("fp32", "fp16", "bf16")


@dataclass
class Clip:
    """A loaded model with what is needed to feed it.

    ``model`` is the open_clip module (frozen), ``preprocess`` maps one PIL image to pixels (3, H, W),
    ``tokenizer`` texts to ids (n, context); it is loaded on first use, since some models' must be fetched.
    """

    name: str
    model: torch.nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    source: str
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def tokenizer(self) -> Any:
        """open_clip's tokenizer of this model."""
        try:
            return open_clip.get_tokenizer(self.source)
        except OSError as error:
            raise FileNotFoundError(
                f"the tokenizer of {self.name} is neither on this machine nor reachable: {error}"
            ) from error

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Unit image embeddings (n, width) of preprocessed pixels (n, 3, H, W)."""
        return self.model.encode_image(pixels, normalize=True)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit text embeddings (n, width) of token ids (n, context)."""
        return self.model.encode_text(tokens, normalize=True)

    @torch.no_grad()
    def similarity(self, images, texts) -> Tensor:
        """Cosine similarity (images, texts) of every image with every text, on the CPU, in one batch.

        Images and texts in any form that ``pixels`` and ``tokens`` accept.
        """
        spoken = self.encode_text(self.tokens(texts).to(self.device))
        return (self.encode_image(self.pixels(images)) @ spoken.T).float().cpu()

    def pixels(self, images) -> Tensor:
        """Preprocessed pixels (n, 3, H, W) on the model's device.

        images: float tensor (n, 3, H, W) already preprocessed, or a sequence of uint8 RGB arrays (H, W, 3),
        PIL images or paths, or one uint8 array or DataArray (n, H, W, 3). Raises ValueError that names the
        image and what is wrong with it.
        """
        if isinstance(images, Tensor):
            return self._checked_pixels(images).to(self.device, self.dtype)
        if hasattr(images, "values"):  # an xarray or pandas object
            images = images.values
        if isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
            images = [images]
        if len(images) == 0:
            raise ValueError("no image was given: at least one is needed")
        pixels = torch.stack([self.preprocess(read_image(image, index)) for index, image in enumerate(images)])
        return pixels.to(self.device, self.dtype)

    def _checked_pixels(self, pixels: Tensor) -> Tensor:
        if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            raise ValueError(
                f"pixels of shape {tuple(pixels.shape)} and type {pixels.dtype}: preprocessed images are a float "
                "tensor (n, 3, height, width)"
            )
        if tuple(pixels.shape[2:]) != self.image_size:
            raise ValueError(f"pixels are {tuple(pixels.shape[2:])} but {self.name} takes {self.image_size}")
        bad = ~torch.isfinite(pixels).flatten(1).all(1)
        if bad.any():
            raise ValueError(f"image {int(bad.nonzero()[0])} holds NaN or infinite pixels: all must be finite")
        return pixels

    def tokens(self, texts) -> Tensor:
        """Token ids (n, context) on the CPU. texts: one string, a sequence of them, or ids already.

        Raises ValueError for an empty text, one longer than the context (never cut silently) and, for a
        vocabulary of whole words, a word outside it, with the nearest known words.
        """
        if isinstance(texts, Tensor):
            if texts.ndim != 2 or texts.is_floating_point():
                raise ValueError(
                    f"token ids of shape {tuple(texts.shape)} and type {texts.dtype}: integers (n, context) are needed"
                )
            return texts
        texts = [texts] if isinstance(texts, str) else [str(text) for text in getattr(texts, "values", texts)]
        if not texts:
            raise ValueError("no text was given: at least one is needed")
        for index, text in enumerate(texts):
            self._check_text(text, f"text {index} ({_short(text)})")
        return self.tokenizer(texts)

    def _check_text(self, text: str, label: str) -> None:
        if not text.strip():
            raise ValueError(f"{label} is empty: a prompt of at least one word is needed")
        if hasattr(self.tokenizer, "tokenizer"):  # a Hugging Face tokenizer inside
            inner = self.tokenizer.tokenizer
            ids = inner(self.tokenizer.clean_fn(text)).input_ids
            if inner.unk_token_id is not None and inner.unk_token_id in ids:
                raise ValueError(f"{label}: {_unknown_word(inner, text)}")
        else:
            ids = [None, *self.tokenizer.encode(text), None]
        if len(ids) > self.context_length:
            raise ValueError(
                f"{label} has {len(ids)} tokens with its start and end, but {self.name} takes at most {self.context_length}"
            )

    def token_strings(self, texts) -> list[list[str]]:
        """The content tokens of each text as readable strings, without start, end and padding."""
        tokens = self.tokens(texts)
        content = self.content(tokens)
        return [[self._decode(int(i)) for i in row[keep]] for row, keep in zip(tokens, content, strict=True)]

    def _decode(self, index: int) -> str:
        if hasattr(self.tokenizer, "tokenizer"):
            return self.tokenizer.tokenizer.convert_ids_to_tokens(index).replace("▁", "").replace("Ġ", "")
        return self.tokenizer.decoder[index].replace("</w>", "")

    def content(self, tokens: Tensor) -> Tensor:
        """Which positions (n, context) hold the prompt's own tokens: not start, end or padding."""
        position = torch.arange(tokens.shape[1], device=tokens.device)
        end = self.text_end(tokens)
        if end is not None:
            return (position > 0) & (position < end[:, None])
        special = torch.tensor(self.tokenizer.tokenizer.all_special_ids, device=tokens.device)
        return ~torch.isin(tokens, special)

    def text_end(self, tokens: Tensor) -> Tensor | None:
        """Position (n,) of the end-of-text token, or None for towers without one (SigLIP)."""
        text = getattr(self.model, "text", self.model)
        pool = getattr(text, "pool_type", getattr(self.model, "text_pool_type", None))
        if pool == "eos":
            eos = getattr(text, "eos_id", getattr(self.model, "text_eos_id", None))
            return (tokens == eos).int().argmax(-1)
        if pool == "argmax" or getattr(text, "cls_emb", None) is not None:
            return tokens.argmax(-1)
        return None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pixels the model takes."""
        size = self.model.visual.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def context_length(self) -> int:
        return getattr(self.model, "text", self.model).context_length

    @cached_property
    def weights_digest(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over all weights, to tell models apart in stores."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + weight.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _unknown_word(tokenizer, text: str) -> str:
    known = [word for word in tokenizer.get_vocab() if word not in tokenizer.all_special_tokens]
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text.lower())
    word = next(piece for piece, _ in pieces if tokenizer.convert_tokens_to_ids(piece) == tokenizer.unk_token_id)
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.0)
    return f"the word {word!r} is outside the model's vocabulary; the nearest known words are {', '.join(near)}"


def _no_such_model(name: str) -> ValueError:
    known = [*BUNDLED, *open_clip.list_models()]
    near = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=3, cutoff=0.3)
    near = [next(k for k in known if k.lower() == match) for match in near] or list(BUNDLED)
    return ValueError(f"unknown model {name!r}: the nearest known names are {', '.join(near)}")


def load_clip(
    name: str = "tiny-clip",
    pretrained: str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> Clip:
    """Load a CLIP.

    Parameters
    ----------
    name : a bundled model ("tiny-clip", "tiny-clip-shortcut"), any architecture open_clip knows (also one
        registered with ``open_clip.add_model_config``), ``local-dir:PATH`` or ``hf-hub:OWNER/NAME``.
    pretrained : for an architecture name, open_clip's tag of the weights or a path to a safetensors file;
        None leaves random weights (drawn with ``seed``), for trying things out.
    device, precision : where and how to compute; precision is "fp32", "fp16" or "bf16".
    image_size : height and width other than the model's own; position embeddings are interpolated.

    The network is used only for a named open_clip tag or an ``hf-hub:`` name. Raises ValueError with the
    nearest known names for a wrong one, FileNotFoundError for a missing folder or file.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: choose from {', '.join(PRECISIONS)}")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r}: torch knows no such device; use 'cpu' or 'cuda'") from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}: this machine has no CUDA device; use 'cpu'")
    source = f"local-dir:{data_folder() / name}" if name in BUNDLED else name
    if source.startswith("local-dir:"):
        _check_folder(Path(source.removeprefix("local-dir:")))
    elif not source.startswith("hf-hub:"):
        _check_architecture(name, pretrained)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        weights = None if ":" in source else pretrained
        if image_size is not None and weights is not None and Path(weights).is_file():
            weights = _in_float32(Path(weights), Path(folder))
        model, _, preprocess = open_clip.create_model_and_transforms(
            source,
            pretrained=weights,
            device=target,
            precision=precision,
            force_image_size=image_size,
            weights_only=True,
        )
    model.requires_grad_(False).eval()
    return Clip(name, model, preprocess, source, target, open_clip.get_input_dtype(precision) or torch.float32)


def _in_float32(weights: Path, folder: Path) -> str:
    """A copy in float32: position embeddings in half precision can't be interpolated on the CPU."""
    copy = folder / weights.name
    save_file({name: tensor.float() for name, tensor in load_file(weights).items()}, copy)
    return str(copy)


def _check_folder(folder: Path) -> None:
    needed = ("open_clip_config.json", "open_clip_model.safetensors")
    missing = [file for file in needed if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {' and '.join(missing)}: an open_clip folder holds {' and '.join(needed)}"
        )


def _check_architecture(name: str, pretrained: str | None) -> None:
    if name not in open_clip.list_models():
        raise _no_such_model(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None or pretrained in tags:
        return
    path = Path(pretrained)
    if path.suffix and path.suffix != ".safetensors":
        raise ValueError(
            f"pretrained={pretrained!r}: weights are loaded from .safetensors files only, never from pickles"
        )
    if not path.is_file():
        raise ValueError(
            f"pretrained={pretrained!r} is neither a file nor a tag of {name}; its tags are {', '.join(tags) or 'none'}"
        )
