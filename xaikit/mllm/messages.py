"""Conversations in the chat format: as they are given, what they hold, and what of an answer to them is reasoning."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .view import Picture, Video
from .wording import IMAGE, VIDEO, Turn

ROLES = ("system", "user", "assistant")
FORM = '{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this"}]}'
THINKING = (("<think>", "</think>"), ("<|channel>", "<channel|>"))  # around reasoning: Qwen, GLM and others; Gemma 4
REASONING, ANSWER = "reasoning", "answer"


def conversations_of(messages: Any, n: int | None) -> list[Any]:
    """The conversations in ``messages``, one for each of n samples; one alone is for all of them. None for as many as there are.

    Raises ValueError for another number, and for what is no list.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError(f"messages={messages!r:.80}: give a list of messages such as {FORM}, or a list of such lists")
    found = list(messages) if isinstance(messages[0], list | tuple) else [list(messages)]
    if n is not None and len(found) == 1:
        found = found * n
    if n is not None and len(found) != n:
        raise ValueError(f"images for {n} samples but {len(found)} conversations: give as many of each, or one for all")
    return found


def turns_of(conversation: Sequence[Any], given: Any = None) -> tuple[tuple[Turn, ...], list[Picture | Video]]:
    """The turns of a conversation and its pictures and videos in order: its own, and pictures ``given``, one or a list of them, in
    the places of images that have none.

    Raises ValueError, in one sentence, for a message of another form, pictures that no message names or that are missing, and
    where nothing asks for an answer.
    """
    spare = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    many, turns, pictures, missing = len(spare), [], [], 0
    for place, message in enumerate(conversation):
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise ValueError(f"message {place} is {message!r:.60}: a message is such as {FORM}")
        if message["role"] not in ROLES:
            raise ValueError(f"message {place} has the role {message['role']!r}: choose from {', '.join(ROLES)}")
        parts = []
        for part in _parts(message["content"], place):
            if part["type"] == "text":
                parts.append(part["text"])
                continue
            if part["type"] == "video":
                parts.append(VIDEO)
                pictures.append(Video.of(part.get("video"), part.get("fps"), f"the video of message {place}"))
                continue
            parts.append(IMAGE)
            own = part.get("image")
            missing += own is None and not spare
            pictures.append(own if own is not None else spare.pop(0) if spare else None)
        turns.append((message["role"], tuple(parts)))
    open_ = many - len(spare) + missing
    if spare or missing:
        raise ValueError(
            f"{many} images are given, but the messages name {open_} without a picture of their own: give one for each"
            ' {"type": "image"}, in order'
        )
    if not pictures:
        raise ValueError('no message names an image by {"type": "image"}: what a word owes to an image needs one')
    if turns[-1][0] != "user":
        raise ValueError(f"the last message is of the role {turns[-1][0]!r}: the user's must be last, to be answered")
    return tuple(turns), pictures


def _parts(content: Any, place: int) -> list[Mapping[str, Any]]:
    """The parts of a message's content."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple) or not parts:
        raise ValueError(f"message {place} has the content {content!r:.60}: a text, or a list of texts and images")
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "image", "video") or (kind == "text" and not isinstance(part.get("text"), str)):
            raise ValueError(
                f'message {place} holds {part!r:.60}: a part is {{"type": "text", "text": ...}}, {{"type": "image"}} or'
                ' {"type": "video", "video": frames}'
            )
    return list(parts)


def last_words(turns: Sequence[Turn]) -> str:
    """What the user said last."""
    return " ".join(part for part in turns[-1][1] if isinstance(part, str))


def segments(texts: Sequence[str], header: str) -> np.ndarray:
    """Of each token of an answer, "reasoning" or "answer".

    texts : the tokens. header : what the model was given before them: a template may open the reasoning.

    Examples
    --------
    >>> segments(["<think>", " why", "</think>", " so"], "assistant").tolist()
    ['reasoning', 'reasoning', 'reasoning', 'answer']
    """
    ends = np.cumsum([len(text) for text in texts])
    whole = "".join(texts)
    for opened, closed in THINKING:
        start, end = whole.find(opened), whole.find(closed)
        if start < 0 and end < 0 and not header.rstrip().endswith(opened):
            continue
        inside = (ends > max(start, 0)) & ((ends <= end + len(closed)) | (end < 0))
        return np.where(inside, REASONING, ANSWER)
    return np.full(len(texts), ANSWER)
