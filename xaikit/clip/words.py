"""The tokenizer of a folder with whole words, read without transformers, as those of the bundled models are."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from open_clip.tokenizer import get_clean_fn
from tokenizers import Tokenizer
from torch import Tensor

PLAIN = {"TokenizersBackend", "PreTrainedTokenizerFast"}  # classes that add nothing to what tokenizer.json says
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass
class Encoding:
    """Ids of a text, and where in the text each begins and ends."""

    input_ids: list[int]
    offset_mapping: list[tuple[int, int]]


class WordTokenizer:
    """Texts to ids (n, context); ``tokenizer`` has the part of a Hugging Face tokenizer's interface that ``Clip`` uses."""

    def __init__(self, folder: Path, context: int):
        self.clean_fn = get_clean_fn("whitespace")
        self.tokenizer = Words(folder)
        self._padded = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._padded.enable_truncation(context)
        self._padded.enable_padding(length=context, pad_id=self.tokenizer.pad_token_id)

    def __call__(self, texts: str | list[str]) -> Tensor:
        texts = [texts] if isinstance(texts, str) else texts
        return torch.tensor([found.ids for found in self._padded.encode_batch([*map(self.clean_fn, texts)])])


class Words:
    """A vocabulary of whole words under the names that Hugging Face gives its parts."""

    def __init__(self, folder: Path):
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        told = _json(folder / "tokenizer_config.json")
        self.all_special_tokens = [told[name] for name in SPECIAL]
        self.all_special_ids = [self._tokenizer.token_to_id(token) for token in self.all_special_tokens]
        self.unk_token_id, self.pad_token_id = self.all_special_ids[2:]

    def __call__(self, text: str, add_special_tokens: bool = True, **_) -> Encoding:
        found = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return Encoding(found.ids, found.offsets)

    def get_vocab(self) -> dict[str, int]:
        return self._tokenizer.get_vocab()

    def convert_ids_to_tokens(self, index: int) -> str:
        return self._tokenizer.id_to_token(index)

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)


def word_tokenizer(source: str) -> WordTokenizer | None:
    """The tokenizer of a ``local-dir:`` model, or None for one that isn't plainly of whole words: open_clip reads that."""
    folder = Path(source.removeprefix("local-dir:"))
    files = [folder / name for name in ("tokenizer.json", "tokenizer_config.json", "open_clip_config.json")]
    if not source.startswith("local-dir:") or not all(file.is_file() for file in files):
        return None
    try:
        words, told, config = map(_json, files)
        text = config["model_cfg"]["text_cfg"]
        plain = (
            words["model"]["type"] == "WordLevel"
            and told.get("tokenizer_class") in PLAIN
            and all(isinstance(told.get(name), str) for name in SPECIAL)
            and text.get("tokenizer_kwargs", {}) in ({}, {"clean": "whitespace"})
            and "hf_tokenizer_name" in text
        )
    except (ValueError, KeyError, TypeError, AttributeError):  # whatever it is, it isn't this
        return None
    return WordTokenizer(folder, text["context_length"]) if plain and "context_length" in text else None


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
