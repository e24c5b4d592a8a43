"""A loaded multimodal language model with what is needed to feed it and to read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import punctuation
from typing import Any

import torch
from tokenizers.models import WordLevel
from torch import Tensor, nn

from ..clip.model import digest_of
from .family import Family


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
        ids = [int(index) for index in ids]
        whole = isinstance(self.tokenizer.backend_tokenizer.model, WordLevel)
        decoded = self.tokenizer.batch_decode([[index] for index in ids], clean_up_tokenization_spaces=False)
        raw = self.tokenizer.convert_ids_to_tokens(ids)
        strings = []
        for piece, text in zip(raw, decoded, strict=True):
            starts = piece.startswith("▁") or (whole and not set(text) <= set(punctuation))
            strings.append(f" {text.lstrip(' ')}" if starts else text)
        return strings

    @cached_property
    def weights_digest(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over all weights, to tell models apart in stores."""
        return digest_of(self.model)
