"""The one score that all methods explain, the cosine of an image and its text by the true model, and what leads to it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .model import Clip, as_sequence
from .perturbation import encoded
from .tape import Tape, record
from .towers import tower


@torch.no_grad()
def embed_images(clip: Clip, images, batch_size: int = 128) -> Tensor:
    """Unit embeddings (n, width), float32 on the CPU, of images in any form that ``Clip.pixels`` takes, batch by batch."""
    images = as_sequence(images)
    parts = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    return torch.cat([clip.encode_image(clip.pixels(part)).float().cpu() for part in parts])


@torch.no_grad()
def embed_texts(clip: Clip, texts, batch_size: int = 512) -> Tensor:
    """Unit embeddings (..., width), float32 on the CPU, of prompts (...), each different prompt encoded once."""
    texts = np.atleast_1d(texts).astype(str)
    different, place = np.unique(texts, return_inverse=True)
    tokens = clip.tokens(different.tolist()).to(clip.device)
    return encoded(clip.embed_text, tokens, batch_size).cpu()[place.reshape(texts.shape)]


def record_score(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    side: str,
    blocks: Sequence[int] | None,
    gradients: bool = True,
    graph_from: int | None = None,
    inputs: str | None = None,
    shared: bool = False,
) -> tuple[Tape, Tensor]:
    """Run both towers on n pairs and record one of them; with gradients, those of each pair's cosine.

    graph_from: the lowest recorded block that needs gradients; None for all recorded ones. inputs: as in ``record``.
    shared: for methods that leave tape and model as they are; within ``computed_once`` the same recording asked for again is
    then the one that is there. Returns the tape and the cosines (n,). The other tower runs without a graph.

    Examples
    --------
    >>> pixels, tokens = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    >>> tape, cosine = xk.clip.record_score(clip, pixels, tokens, "image", (-1,))
    >>> tape[-1].attention_gradient.shape, cosine.shape
    (torch.Size([4, 4, 65, 65]), torch.Size([4]))
    """

    def recorded() -> tuple[Tape, Tensor]:
        other = other_embedding(clip, pixels, tokens, side)
        with record(clip, side, blocks, gradients=gradients, graph_from=graph_from, inputs=inputs) as tape:
            own = clip.encode_image(pixels) if side == "image" else clip.encode_text(tokens.to(pixels.device))
            cosine = (own * other).sum(-1)
            if gradients:
                tape.backward(cosine.sum())  # a sample's cosine depends on its own tokens only
        return tape, cosine.detach()

    how = (side, blocks and tuple(blocks), gradients, graph_from, inputs)
    return _once("recording", how, (clip, pixels, tokens), recorded) if shared else recorded()


_kept: ContextVar[dict[str, tuple] | None] = ContextVar("kept", default=None)


@contextmanager
def computed_once() -> Iterator[None]:
    """While it lasts the last shared recording of ``record_score`` and the last ``other_embedding`` are kept, so that many methods
    of the same pairs need them once. They are freed at the end, or when others are made."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def _once(kind: str, how: tuple, given: tuple, make: Callable[[], Any]) -> Any:
    """What ``make`` gives, or within ``computed_once`` what the last one of its kind gave for the very same objects."""
    kept = _kept.get()
    if kept is None:
        return make()
    if kind in kept:
        last_how, last_given, found = kept[kind]
        if how == last_how and all(map(is_, given, last_given)):
            return found
        del kept[kind], found  # before another is made: never two at a time
    kept[kind] = how, given, (found := make())
    return found


@torch.no_grad()
def other_embedding(clip: Clip, pixels: Tensor, tokens: Tensor, side: str) -> Tensor:
    """Unit embeddings (n, width) of what the side is compared with: of the texts for "image", and vice versa. Methods of the same
    pairs may get the same tensor, so it isn't changed in place."""
    if side == "image":
        return _once("embedding", (side,), (clip, tokens), lambda: clip.embed_text(tokens.to(pixels.device)))
    return _once("embedding", (side,), (clip, pixels), lambda: clip.encode_image(pixels))


def project_tokens(clip: Clip, hidden: Tensor, side: str) -> Tensor:
    """Each token of a block's output (n, tokens, width) as if it were the summary: through the final norm and
    the projection, (n, tokens, shared width), not normalised. For towers without a pooling layer."""
    if side == "text":
        text = getattr(clip.model, "text", clip.model)
        hidden, projection = text.ln_final(hidden), text.text_projection
        if projection is None:
            return hidden
        return projection(hidden) if isinstance(projection, torch.nn.Module) else hidden @ projection
    visual = clip.model.visual
    if hasattr(visual, "trunk"):
        trunk = visual.trunk
        return visual.head(trunk.head(trunk.fc_norm(trunk.norm(hidden))))
    hidden = visual.ln_post(hidden)
    return hidden if visual.proj is None else hidden @ visual.proj


def summary_row(clip: Clip, pixels: Tensor, tokens: Tensor, side: str) -> Tensor:
    """The row (n,) of the token that becomes the embedding. Raises ValueError where there is none."""
    described = tower(clip, side)
    if described.summary is None:
        raise ValueError(f"the {side} tower of {clip.name} averages its tokens: no single query leads to its embedding")
    return described.summary(pixels if side == "image" else tokens.to(pixels.device))


def attention_from(attention: Tensor, row: Tensor) -> Tensor:
    """The row (n,) of each attention matrix (n, queries, keys)."""
    return attention.take_along_dim(row[:, None, None], dim=1).squeeze(1)


def content_of(clip: Clip, values: Tensor, tokens: Tensor, side: str, fill: float = 0.0) -> Tensor:
    """From values for every token (n, tokens, ...) those of the patches (n, rows, cols, ...) or of the prompt's own
    tokens (n, longest prompt, ...), in order, with ``fill`` after a shorter prompt's end.

    Examples
    --------
    >>> tokens = clip.tokens(["a red ring", "a ring"])
    >>> xk.clip.content_of(clip, tokens, tokens, "text").shape
    torch.Size([2, 3])
    """
    if side == "image":
        described = tower(clip, side)
        rows, cols = described.grid
        return values[:, values.shape[1] - rows * cols :].unflatten(1, (rows, cols))
    behind = [1] * (values.ndim - 2)
    order, there = (each.view(*each.shape, *behind) for each in content_order(clip, tokens.to(values.device)))
    return values.take_along_dim(order, 1).masked_fill(~there, fill)


def content_order(clip: Clip, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (n, longest prompt) of each prompt's own tokens, in order, and which of these are there: those of a shorter
    prompt go on with others after its end."""
    content = clip.content(tokens)
    order = (~content).int().argsort(dim=1, stable=True)[:, : int(content.sum(1).max())]
    return order, content.gather(1, order)
