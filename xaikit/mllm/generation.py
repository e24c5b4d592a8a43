"""Greedy answers in batches, and a user's own answer as ids."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..files.checks import check_whole
from .family import View
from .model import Mllm


@torch.no_grad()
def generate(mllm: Mllm, views: Sequence[View], max_new_tokens: int = 64, batch_size: int = 16) -> list[list[int]]:
    """The greedy answer to each view as token ids, without the end token.

    Batches are padded on the left, so that a batch gives what each view alone gives. Raises ValueError for an
    answer that fills the model's context before it ends.
    """
    check_whole(1, max_new_tokens=max_new_tokens, batch_size=batch_size)
    ends = mllm.model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    answers = []
    for start in range(0, len(views), batch_size):
        for view, row in zip(
            views[start:], _batch(mllm, views[start : start + batch_size], max_new_tokens), strict=False
        ):
            length = next((index for index, token in enumerate(row) if token in ends), len(row))
            room = mllm.context_length - len(view.ids)
            if length > room or (length == room < max_new_tokens and length == len(row)):
                raise ValueError(
                    f"the answer hasn't ended after {room} tokens, which with {len(view.ids)} of prompt and image fill the"
                    f" {mllm.context_length} that {mllm.name} takes; use max_new_tokens={room} or a smaller scale"
                )
            answers.append(row[:length])
    return answers


def _batch(mllm: Mllm, views: Sequence[View], max_new_tokens: int) -> list[list[int]]:
    longest = max(len(view.ids) for view in views)
    room = mllm.context_length - min(len(view.ids) for view in views)
    ids = torch.full((len(views), longest), mllm.model.generation_config.pad_token_id)
    real = torch.zeros_like(ids)
    for row, view in enumerate(views):
        ids[row, longest - len(view.ids) :] = view.ids
        real[row, longest - len(view.ids) :] = 1
    ids = ids.to(mllm.device)
    written = mllm.model.generate(
        input_ids=ids,
        attention_mask=real.to(mllm.device),
        max_new_tokens=min(max_new_tokens, room),
        suppress_tokens=[mllm.family.image_token_id],  # an untrained model may write it, and none could read it
        **mllm.family.language_inputs(views, ids, mllm.family.encode(views)),
    )
    return written[:, longest:].tolist()


def answer_ids(mllm: Mllm, text: str) -> list[int]:
    """A user's own answer as ids that continue the assistant's header; ValueError for one the model can't write."""
    return mllm.tokenizer(mllm.family.check_text(text, "the answer"), add_special_tokens=False).input_ids


def check_fits(mllm: Mllm, view: View, answer: Sequence[int] | Tensor) -> None:
    """Raise ValueError where an answer doesn't fit behind a view's prompt and image."""
    if len(view.ids) + len(answer) > mllm.context_length:
        raise ValueError(
            f"an answer of {len(answer)} tokens after {len(view.ids)} of prompt and image is longer than the"
            f" {mllm.context_length} that {mllm.name} takes"
        )
    if mllm.family.image_token_id in list(map(int, answer)):
        raise ValueError(f"an answer holds the image token {mllm.family.image_token_id}: it stands for no word")
