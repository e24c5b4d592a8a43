"""The text around images: what a class's processor and chat template make of a conversation, and where in it its words are."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from ..clip.model import shortened, unknown_word
from ..files.models import MLLMS
from .view import Video

KINDS = ("token_type_ids", "mm_token_type_ids")  # what a class may ask of each token
_MARK = "\ue000"  # private use: no template and no prompt holds it


class Named(Enum):
    """What a conversation names in the place of a text, as the chat format calls it."""

    IMAGE = "image"
    VIDEO = "video"


IMAGE, VIDEO = Named
Turn = tuple[str, tuple[str | Named, ...]]  # a role, and its texts, images and videos in order


@dataclass(frozen=True)
class Said:
    """A conversation as its template writes it, with a mark in the place of each text; ``context``, of each text, is whether
    later words are explained by it, as by all that user and assistant said."""

    blank: str
    texts: tuple[str, ...]
    context: tuple[bool, ...]

    @property
    def header(self) -> str:
        """What the template writes behind the last text, before the answer."""
        return self.blank.rpartition(_MARK)[2]


class _Marked:
    """A tokenizer that puts texts in the place of their marks, and keeps where in the whole each one is: processors write a word
    for each image token before."""

    def __init__(self, tokenizer: Any, texts: Sequence[str]) -> None:
        self._tokenizer, self._texts, self.spans = tokenizer, texts, []

    def __call__(self, text: Any, **options: Any) -> Any:
        parts = (text if isinstance(text, str) else text[0]).split(_MARK)
        if len(parts) == len(self._texts) + 1:
            text, self.spans = parts[0], []
            for one, after in zip(self._texts, parts[1:], strict=True):
                self.spans.append((len(text), len(text) + len(one)))
                text += one + after
            text = [text]
        return self._tokenizer(text, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class Wording:
    """Conversations of one model as texts and tokens; ``chat`` are options of its template."""

    def __init__(self, processor: Any, image_token_id: int, name: str, chat: Mapping[str, Any] | None = None) -> None:
        self.processor, self.tokenizer, self.name, self.chat = processor, processor.tokenizer, name, dict(chat or {})
        special = {id_ for id_, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        self._special = special | {image_token_id, *self.tokenizer.all_special_ids}
        self._chat = lru_cache(maxsize=256)(self._written)

    def blank(self, *named: Named) -> Said:
        """What these are named by, with a prompt that says nothing."""
        return Said(self._chat((("user", (*named, _MARK)),)), ("",), (True,))

    def check(self, text: str, label: str) -> str:
        """The text without blanks around it; ValueError, naming it, where the model can't take it as its user's words."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{label} ({text!r}) is empty or no text: at least one word is needed")
        text = text.strip()
        ids = set(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
        if self.tokenizer.unk_token_id in ids:
            raise ValueError(f"{label} ({shortened(text)}): {unknown_word(self.tokenizer, text, MLLMS)}")
        if found := sorted(ids & self._special):
            raise ValueError(
                f"{label} ({shortened(text)}) holds {', '.join(self.tokenizer.convert_ids_to_tokens(found))}, one of the"
                " model's own tokens: leave it out"
            )
        return text

    def asked(self, prompt: str) -> Said:
        """One image and a prompt, checked."""
        return self.said((("user", (IMAGE, self.check(prompt, "the prompt"))),))

    def said(self, turns: Sequence[Turn]) -> Said:
        """A conversation, whose texts are checked. Raises ValueError where the template writes it otherwise than it is."""
        turns = tuple(turns)
        texts = tuple(part for _, parts in turns for part in parts if isinstance(part, str))
        context = tuple(role != "system" for role, parts in turns for part in parts if isinstance(part, str))
        blank = self._chat(
            tuple((role, tuple(_MARK if isinstance(part, str) else part for part in parts)) for role, parts in turns)
        )
        pieces = blank.split(_MARK)
        text = self._chat(turns)
        if len(pieces) != len(texts) + 1 or text != "".join(
            piece + own for piece, own in zip(pieces, (*texts, ""), strict=True)
        ):
            raise ValueError(
                f"the chat template of {self.name} must write images and texts as they are, in order; it writes"
                f" {shortened(text)}"
            )
        for kind in Named:
            many = sum(part is kind for _, parts in turns for part in parts)
            if many > 1 and self._chat(_shorter(turns, kind)) == text:
                raise ValueError(f"the chat template of {self.name} takes one {kind.value} only: give no more")
        return Said(blank, texts, context)

    def processed(self, media: Sequence[Any], said: Said, options: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """What the processor makes of images, videos and a conversation, with ``options`` for these and ``changes`` of its own
        attributes; and as ``offset_mapping`` and ``spans`` where in the text each token and each of the conversation's texts is."""
        processor, bos = copy.copy(self.processor), self.tokenizer.bos_token
        for name, value in changes.items():
            setattr(processor, name, value)
        processor.tokenizer = marked = _Marked(self.tokenizer, said.texts)
        adds = {"add_special_tokens": bos is None or not said.blank.startswith(bos)}
        images, videos = ([one for one in media if is_video(one) == wanted] for wanted in (False, True))
        given: dict[str, Any] = {}
        if images:
            given["images"] = images if len(images) == 1 else [images]  # as those of one conversation
        if videos:  # whose frames are given as they shall be seen: nothing is left out
            given["videos"] = [list(one.frames) if isinstance(one, Video) else one for one in videos]
            own = {"do_sample_frames": False, "return_metadata": True, "video_metadata": list(map(_timing, videos))}
            options = options | {"videos_kwargs": own | options.get("videos_kwargs", {})}
        made = processor(
            text=[said.blank], return_tensors="pt", return_offsets_mapping=True, **given, **adds, **options
        )
        return dict(made) | {"spans": marked.spans}

    def own(self, made: dict[str, Any], said: Said) -> Tensor:
        """Positions of the context's tokens in what ``processed`` made."""
        first, last = made["offset_mapping"][0].T
        inside = torch.zeros(len(first), dtype=torch.bool)
        for (start, end), counts in zip(made["spans"], said.context, strict=True):
            if counts:
                inside |= (first < end) & (last > start) & (last > first)
        return inside.nonzero()[:, 0]

    def _written(self, turns: tuple[Turn, ...]) -> str:
        if self.processor.chat_template is None:  # as PaliGemma's
            if [role for role, _ in turns] != ["user"]:
                raise ValueError(f"{self.name} has no chat template: it takes what one user says once, and no more")
            if VIDEO in turns[0][1]:
                raise ValueError(f"{self.name} takes no video: give its frames as images, each with maps of its own")
            return "".join(self.processor.image_token if part is IMAGE else part for part in turns[0][1])
        messages = [
            {
                "role": role,
                "content": [
                    {"type": "text", "text": part} if isinstance(part, str) else {"type": part.value} for part in parts
                ],
            }
            for role, parts in turns
        ]
        try:
            return self.processor.apply_chat_template(messages, add_generation_prompt=True, **self.chat)
        except TemplateError as error:
            raise ValueError(f"the chat template of {self.name} refuses this conversation: {error}") from error


def is_video(medium: Any) -> bool:
    """Whether this is a video, or a tensor of frames, and no image."""
    return isinstance(medium, Video) or getattr(medium, "ndim", 3) == 4


def _timing(video: Any) -> dict[str, Any]:
    """What processors want to know of a video's frames."""
    many = len(video.frames) if isinstance(video, Video) else len(video)
    return {"total_num_frames": many, "fps": getattr(video, "fps", None), "frames_indices": list(range(many))}


def _shorter(turns: Sequence[Turn], kind: Named) -> tuple[Turn, ...]:
    """The turns without their last image or video."""
    last = max(place for place, (_, parts) in enumerate(turns) if kind in parts)
    role, parts = turns[last]
    end = len(parts) - parts[::-1].index(kind)
    return (*turns[:last], (role, parts[: end - 1] + parts[end:]), *turns[last + 1 :])
