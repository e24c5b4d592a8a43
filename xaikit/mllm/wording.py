"""The text around an image: what a class's processor and chat template make of a prompt, and where in it the prompt is."""

import copy
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor

from ..clip.model import shortened, unknown_word

KINDS = ("token_type_ids", "mm_token_type_ids")  # what a class may ask of each token
_MARK = "\ue000"  # private use: no template and no prompt holds it


class _Recording:
    """A tokenizer that keeps the text it gets: processors add to it, and write a word for each image token."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.text = tokenizer, ""

    def __call__(self, text: Any, **options: Any) -> Any:
        self.text = text if isinstance(text, str) else text[0]
        return self._tokenizer(text, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class Wording:
    """Prompts of one model as texts and tokens; ``chat`` are options of its template."""

    def __init__(self, processor: Any, image_token_id: int, name: str, chat: Mapping[str, Any] | None = None) -> None:
        self.processor, self.tokenizer, self.name, self.chat = processor, processor.tokenizer, name, dict(chat or {})
        special = {id_ for id_, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        self._special = special | {image_token_id, *self.tokenizer.all_special_ids}
        self._chat = lru_cache(maxsize=256)(self._written)
        self.blank = self._chat(_MARK)  # with a prompt that says nothing

    def check(self, text: str, label: str) -> str:
        """The text without blanks around it; ValueError, naming it, where the model can't take it as its user's words."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{label} ({text!r}) is empty or no text: at least one word is needed")
        text = text.strip()
        ids = set(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
        if self.tokenizer.unk_token_id in ids:
            raise ValueError(f"{label} ({shortened(text)}): {unknown_word(self.tokenizer, text)}")
        if found := sorted(ids & self._special):
            raise ValueError(
                f"{label} ({shortened(text)}) holds {', '.join(self.tokenizer.convert_ids_to_tokens(found))}, one of the"
                " model's own tokens: leave it out"
            )
        return text

    def rendered(self, prompt: str) -> str:
        """The whole text of a user's checked prompt with one image."""
        before, _, after = self.blank.partition(_MARK)
        text = self._chat(prompt)
        if text != before + prompt + after:
            raise ValueError(
                f"the chat template of {self.name} must write one image and the prompt as it is; it writes {shortened(text)}"
            )
        return text

    def processed(self, image: Any, text: str, options: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """What the processor makes of one image and a rendered text, with ``options`` for the image and ``changes`` of its own
        attributes; and as ``text`` and ``offset_mapping`` what was tokenised, and where in it each token is."""
        processor, bos = copy.copy(self.processor), self.tokenizer.bos_token
        for name, value in changes.items():
            setattr(processor, name, value)
        processor.tokenizer = _Recording(self.tokenizer)
        adds = {"add_special_tokens": bos is None or not text.startswith(bos)}
        made = processor(
            images=[image], text=[text], return_tensors="pt", return_offsets_mapping=True, **adds, **options
        )
        return dict(made) | {"text": processor.tokenizer.text}

    def own(self, made: dict[str, Any], prompt: str) -> Tensor:
        """Positions of the prompt's own tokens in what ``processed`` made."""
        after = self.blank.partition(_MARK)[2]
        start = made["text"].rindex(prompt + after)
        first, last = made["offset_mapping"][0].T
        return ((first < start + len(prompt)) & (last > start) & (last > first)).nonzero()[:, 0]

    def _written(self, prompt: str) -> str:
        if self.processor.chat_template is None:  # as PaliGemma's
            return self.processor.image_token + prompt
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        messages = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(messages, add_generation_prompt=True, **self.chat)
