"""A loaded open_clip model, given images and texts that are checked first.

The model is the plain open_clip model, frozen and in evaluation mode; nothing on it is patched.
"""

import copy
import difflib
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import open_clip
import torch
import xarray as xr
from open_clip.transformer import TextTransformer
from PIL import Image
from torch import Tensor

from ..files.images import read_image
from ..files.models import CLIPS, vocabulary_of
from ..files.paths import data_folder
from ..samples.captions import world_by_words

STARTS = ("\u2581", "\u0120")  # that of SentencePiece and of byte-level BPE, before a token that starts a word
ACTIVATION = re.compile(r"(?i)(elu|silu|swish|activation)")  # in the names of modules
FEW_TOKENS = 32  # a context that is encoded whole
LARGEST_PIXEL = 30  # of normalised ones: no published normalisation reaches a tenth of it


def check_values_of_pixels(pixels: Tensor, first: int = 0) -> None:
    """Raise ValueError for preprocessed pixels (n, 3, H, W) that aren't finite, or so large that they can't be normalised. first :
    the number of the first image."""
    for index, largest in enumerate(pixels.abs().flatten(1).amax(1).tolist(), first):
        if not math.isfinite(largest):
            raise ValueError(f"image {index} holds NaN or infinite pixels: all must be finite")
        if largest > LARGEST_PIXEL:
            raise ValueError(
                f"image {index} holds pixels up to {largest:g}: those of a tensor are normalised ones, as clip.pixels gives them;"
                " give images of 0 to 255 as uint8 arrays"
            )


@dataclass
class Clip:
    """A loaded model with what is needed to feed it.

    ``model`` is the open_clip module (frozen), ``preprocess`` maps one PIL image to pixels (3, H, W),
    ``tokenizer`` texts to ids (n, context); it is loaded on first use, since some models' must be fetched.

    Examples
    --------
    >>> clip.token_strings("a red ring")
    [['a', 'red', 'ring']]
    >>> clip.pixels(scenes.image).shape
    torch.Size([4, 3, 64, 64])
    """

    name: str
    model: torch.nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    source: str
    device: torch.device
    dtype: torch.dtype
    load_tokenizer: Callable[[], Any]

    def __repr__(self) -> str:
        rows, cols = self.image_size
        return f"Clip({self.name!r}, {rows} x {cols} pixels, {str(self.dtype).removeprefix('torch.')} on {self.device})"

    @cached_property
    def tokenizer(self) -> Any:
        return self.load_tokenizer()

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Unit image embeddings (n, width) of preprocessed pixels (n, 3, H, W)."""
        return self.model.encode_image(pixels, normalize=True)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit text embeddings (n, width) of token ids (n, context)."""
        return self.model.encode_text(tokens, normalize=True)

    def embed_text(self, tokens: Tensor) -> Tensor:
        """The same, to rounding, for where nothing is recorded: a causal tower never sees what stands behind a prompt's end, so
        that it runs no further than the longest one's, which of a context of 77 is a few times faster."""
        length = self._length_that_counts(tokens)
        if length == tokens.shape[1]:
            return self.encode_text(tokens)
        prefix, text = ("text.", self.model.text) if hasattr(self.model, "text") else ("", self.model)
        shorter = {
            "positional_embedding": text.positional_embedding[:length],
            "attn_mask": text.attn_mask[:length, :length],
        }
        shorter = {prefix + name: each for name, each in shorter.items()}
        found = torch.func.functional_call(self.model, shorter, (None, tokens[:, :length]))
        return found["text_features"] if isinstance(found, dict) else found[1]

    def _length_that_counts(self, tokens: Tensor) -> int:
        """Up to where tokens lead to an embedding, in steps of eight; all of them where that isn't known, or they are few."""
        text = getattr(self.model, "text", self.model)
        known = isinstance(text, open_clip.CLIP | TextTransformer) and getattr(text, "cls_emb", None) is None
        if not known or text.attn_mask is None or tokens.shape[1] <= FEW_TOKENS or self.text_end(tokens) is None:
            return tokens.shape[1]
        return min(tokens.shape[1], 8 * (int(self.text_end(tokens).max()) // 8 + 1))

    @torch.no_grad()
    def similarity(self, images, texts) -> Tensor:
        """Cosine similarity (images, texts) of every image with every text, on the CPU, in one batch.

        Images and texts in any form that ``pixels`` and ``tokens`` accept.
        """
        spoken = self.embed_text(self.tokens(texts).to(self.device))
        return (self.encode_image(self.pixels(images)) @ spoken.T).float().cpu()

    def pixels(self, images) -> Tensor:
        """Preprocessed pixels (n, 3, H, W) on the model's device.

        images: float tensor (n, 3, H, W) already preprocessed, or a sequence of uint8 RGB arrays (H, W, 3),
        PIL images or paths, or one uint8 array (n, H, W, 3) or DataArray (sample, y, x, rgb, in any order).
        Raises ValueError that names the image and what is wrong with it.
        """
        images = as_sequence(images)
        if isinstance(images, Tensor):
            return self._checked_pixels(images).to(self.device, self.dtype)
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
        check_values_of_pixels(pixels)
        return pixels

    def seen(self, image) -> np.ndarray:
        """One image as the model gets it, resized and cropped: uint8 (H, W, 3), on which its map lies."""
        return self.colours(self.pixels([image]))[0]

    def colours(self, pixels: Tensor) -> np.ndarray:
        """Preprocessed pixels (n, 3, H, W) as they look: uint8 (n, H, W, 3)."""
        values = pixels.float().cpu().numpy()
        mean, std = (np.reshape(each, (3, 1, 1)) for each in self.normalisation)
        return (255 * (values * std + mean)).round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)

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
            self._check_ids(texts)
            return texts.cpu()
        texts = [texts] if isinstance(texts, str) else list(getattr(texts, "values", texts))
        if not texts:
            raise ValueError("no text was given: at least one is needed")
        for index, text in enumerate(texts):
            self._check_text(text, f"text {index} ({shortened(str(text))})")
        return self.tokenizer(texts)

    def _check_ids(self, ids: Tensor) -> None:
        vocabulary = getattr(self.model, "text", self.model).vocab_size
        if ids.shape[1] != self.context_length or ids.min() < 0 or ids.max() >= vocabulary:
            raise ValueError(
                f"token ids of shape {tuple(ids.shape)} from {int(ids.min())} to {int(ids.max())}: {self.name} takes"
                f" {self.context_length} a text, from 0 to {vocabulary - 1}"
            )
        # Without an end token only the tokenizer, which may have to be fetched, knows what padding is.
        if self.text_end(ids) is not None:
            empty = ~self.content(ids).any(1)
            if empty.any():
                raise ValueError(
                    f"text {int(empty.nonzero()[0])} has no token besides start, end and padding: a prompt of at least"
                    " one word is needed"
                )

    def _check_text(self, text: object, label: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{label} is empty or no text: a prompt of at least one word is needed")
        if "\0" in text:
            raise ValueError(f"{label} holds a NUL character, which can't be part of a text")
        if hasattr(self.tokenizer, "tokenizer"):  # a Hugging Face tokenizer inside
            inner = self.tokenizer.tokenizer
            clean = self.tokenizer.clean_fn(text)
            words = inner(clean, add_special_tokens=False, verbose=False).input_ids
            if inner.unk_token_id is not None and inner.unk_token_id in words:
                raise ValueError(f"{label}: {unknown_word(inner, clean)}")
            length = len(inner(clean, verbose=False).input_ids)
        else:
            words = self.tokenizer.encode(text)
            length = len(words) + 2
        if own := {*words} & {*self._own_tokens}:
            raise ValueError(
                f"{label} holds one of the tokenizer's own tokens, {self._own_tokens[min(own)]}, whose text can't be part of a"
                f" prompt ({', '.join(self._own_tokens.values())} can't)"
            )
        if not words:
            raise ValueError(f"{label} is empty for the tokenizer: a prompt of at least one word is needed")
        if length > self.context_length:
            raise ValueError(
                f"{label} has {length} tokens with its start and end, but {self.name} takes at most {self.context_length}"
            )

    @property
    def world(self) -> str:
        """The world of planted scenes that it was trained on, as its vocabulary tells; "things" for one that reads any text."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        return world_by_words({} if inner is None else inner.get_vocab())

    @cached_property
    def _own_tokens(self) -> dict[int, str]:
        """The tokens that stand for no text (start, end, padding and others), by their ids."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is None:
            return {index: self.tokenizer.decoder[index] for index in self.tokenizer.all_special_ids}
        own = dict(zip(inner.all_special_ids, inner.all_special_tokens, strict=False))
        added = getattr(inner, "added_tokens_decoder", {})
        return own | {index: str(token) for index, token in added.items() if token.special}

    def token_strings(self, texts) -> list[list[str]]:
        """The content tokens of each text as readable strings, without start, end and padding.

        A token that holds a part of a character alone is shown as "\ufffd".
        """
        return [[self._decode(index) for index in row] for row in self._content_ids(texts)]

    def token_words(self, texts) -> list[list[int]]:
        """For each content token of each text which of its words, from 0, it is a piece of."""
        return [self._words(row) for row in self._content_ids(texts)]

    def _content_ids(self, texts) -> list[list[int]]:
        tokens = self.tokens(texts)
        return [row[keep].tolist() for row, keep in zip(tokens, self.content(tokens), strict=True)]

    def _decode(self, index: int) -> str:
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is not None:
            return inner.decode([index]).removeprefix("##").strip() or inner.convert_ids_to_tokens(index)
        letters = self.tokenizer.decoder[index].removesuffix("</w>")
        if index in self._own_tokens:
            return letters
        return bytearray(self.tokenizer.byte_decoder[letter] for letter in letters).decode("utf-8", "replace")

    def _words(self, ids: Sequence[int]) -> list[int]:
        """The word of each token: CLIP's own tokenizer marks the last piece of a word, others the first or those behind it."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is None:
            ends = [self.tokenizer.decoder[index].endswith("</w>") for index in ids]
            return np.cumsum([0, *ends[:-1]]).tolist() if ids else []
        vocabulary = inner.get_vocab()
        pieces = [inner.convert_ids_to_tokens(index) for index in ids]
        if any(name.startswith("##") for name in vocabulary):
            starts = [not piece.startswith("##") for piece in pieces]
        elif any(name.startswith(STARTS) for name in vocabulary):
            starts = [piece.startswith(STARTS) or not any(map(str.isalnum, piece)) for piece in pieces]
        else:  # of whole words
            starts = [True] * len(pieces)
        return np.cumsum([0, *starts[1:]]).tolist() if ids else []

    def content(self, tokens: Tensor) -> Tensor:
        """Which positions (n, context) hold the prompt's own tokens: not start, end or padding."""
        position = torch.arange(tokens.shape[1], device=tokens.device)
        end = self.text_end(tokens)
        if end is not None:
            return (position > 0) & (position < end[:, None])
        if not hasattr(self.tokenizer, "tokenizer"):
            return tokens != 0  # open_clip's own tokenizers pad with 0
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
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each colour, which preprocessing takes off and divides by."""
        return self.model.visual.image_mean, self.model.visual.image_std

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pixels the model takes."""
        size = self.model.visual.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def context_length(self) -> int:
        return getattr(self.model, "text", self.model).context_length

    @property
    def setup(self) -> dict[str, object]:
        """What the weights go with: how pictures are prepared for them, and which activations the towers have."""
        names = {type(module).__name__ for module in self.model.modules()}
        return {**self.model.visual.preprocess_cfg, "activations": sorted(filter(ACTIVATION.search, names))}

    @cached_property
    def weights_digest(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over all weights and their set-up, to tell models apart in stores."""
        return digest_of(self.model, self.setup)


def as_sequence(images) -> Sequence | Tensor:
    """Images, or a single one, in any form that ``explain`` takes, as something with a length."""
    if isinstance(images, Tensor):
        return images
    images = in_order(images) if isinstance(images, xr.DataArray) else images
    images = getattr(images, "values", images)  # of an xarray or pandas object
    single = not isinstance(images, np.ndarray | list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 3)
    images = [images] if single else images
    if len(images) == 0:
        raise ValueError("no image was given: at least one is needed")
    return images


def in_order(images: xr.DataArray) -> xr.DataArray:
    """Images with their dimensions and colours in the usual order, whatever order they have, by their names.

    Raises ValueError for other names, but those that xarray gives where there are none.
    """
    wanted = ("sample", "y", "x", "rgb")[4 - images.ndim :] if images.ndim in (3, 4) else images.dims
    if all(re.fullmatch(r"dim_\d+", str(name)) for name in images.dims):
        return images
    if {*images.dims} != {*wanted}:
        raise ValueError(f"the images have the dimensions {images.dims}: {', '.join(wanted)} are needed, in any order")
    images, colours = images.transpose(*wanted), ["red", "green", "blue"]
    named = "rgb" in images.indexes and sorted(map(str, images.rgb.values)) == sorted(colours)
    return images.sel(rgb=colours) if named else images


def digest_of(model: torch.nn.Module, setup: Mapping[str, object] | None = None) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over all weights, and what they go with."""
    digest = hashlib.sha256(json.dumps(setup, sort_keys=True).encode() if setup else b"")
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode() + weight.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def shortened(text: str) -> str:
    """The text in quotes, cut where it is long, for a message."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def unknown_word(tokenizer, text: str, bundled: Sequence[str] = CLIPS) -> str:
    """Which word of the text a vocabulary of whole words lacks, which it has that are near, and which bundled model knows it."""
    known = [word for word in tokenizer.get_vocab() if word not in tokenizer.all_special_tokens]
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    start, end = found.offset_mapping[found.input_ids.index(tokenizer.unk_token_id)]
    word = text[start:end]
    near = difflib.get_close_matches(word.lower(), known, n=3, cutoff=0.0)
    told = f"the word {word!r} is outside the model's vocabulary; the nearest known words are {', '.join(near)}"
    knowing = next((name for name in bundled if word.lower() in vocabulary_of(data_folder() / name)), None)
    return told + (f"; {knowing} knows it" if knowing else "")


def copied(clip: Clip) -> Clip:
    """The same with its own copy of the model."""
    return replace(clip, model=copy.deepcopy(clip.model))
