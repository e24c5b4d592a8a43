"""A multimodal language model with what is needed to feed it and to read it."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import punctuation
from typing import Any

import torch
from tokenizers.models import WordLevel
from torch import Tensor, nn

from ..clip.model import digest_of
from ..samples.captions import world_by_words
from .family import Family

WORDS_AT_ONCE = 2**15  # rows of the unembedding brought to float32 at once: bounds the memory


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

    def __repr__(self) -> str:
        return f"Mllm({self.name!r}, {str(self.dtype).removeprefix('torch.')} on {self.device})"

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def world(self) -> str:
        """The world of planted scenes that it was trained on, as its vocabulary tells; "things" for one that reads any text."""
        return world_by_words(self.tokenizer.get_vocab())

    @property
    def decoder(self) -> nn.Module:
        """The language layers and the norm behind them."""
        return self.model.get_decoder()

    @property
    def output_weight(self) -> Tensor:
        """The unembedding (V, D), as it is; ``logits`` and ``logits_of`` do what the model does with it."""
        return self.model.get_output_embeddings().weight

    def logits(self, states: Tensor) -> Tensor:
        """The model's own logits (..., V), float32, of states (..., D) after the final norm."""
        head = self.model.get_output_embeddings()
        given = states.to(head.weight.device).float()
        parts = [given @ rows.float().T for rows in head.weight.split(WORDS_AT_ONCE)]
        found = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
        return self._finished(found if head.bias is None else found + head.bias.float()).to(states.device)

    def logits_of(self, ids: Tensor, states: Tensor) -> Tensor:
        """The logits (n, T, k) of the words ids (n, T) at states (n, k, D); the same numbers as in ``logits``."""
        head = self.model.get_output_embeddings()
        ids = ids.to(head.weight.device)
        found = head.weight[ids].float() @ states.to(head.weight.device).float().mT
        return self._finished(found if head.bias is None else found + head.bias[ids].float()[..., None]).to(
            states.device
        )

    def _finished(self, logits: Tensor) -> Tensor:
        """What a class does to its logits: a scale (Cohere, Granite) and a soft limit (Gemma)."""
        done = inspect.unwrap(
            type(self.model).forward
        ).__code__.co_names  # a configuration may name what its class ignores
        text = self.model.config.get_text_config()
        if "logit_scale" in done:
            logits = logits * text.logit_scale
        if "logits_scaling" in done:
            logits = logits / text.logits_scaling
        if "final_logit_softcapping" in done and text.final_logit_softcapping is not None:
            logits = text.final_logit_softcapping * torch.tanh(logits / text.final_logit_softcapping)
        return logits

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

    @property
    def setup(self) -> dict[str, object]:
        """What the weights go with, of what ``load_mllm`` was asked for: ``max_pixels`` and options of the ``chat`` template."""
        asked = {"max_pixels": self.family.max_pixels, "chat": self.family.wording.chat}
        return {option: value for option, value in asked.items() if value}

    @cached_property
    def weights_digest(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over all weights and their set-up, to tell models apart in stores."""
        return digest_of(self.model, self.setup)
