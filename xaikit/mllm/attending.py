"""Attention weights of a pass: the rows that are asked for, as each layer's own class computes them, and no others."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .memory import ROWS_AT_ONCE

NAME = "xaikit_watched"
Rows = Callable[[Tensor], Tensor]  # weights (n, heads, rows, L) of the queries at positions (n, rows)
_WATCH: ContextVar[Callable[[Rows, int], None]] = ContextVar("watch")


@contextmanager
def watched(decoder: nn.Module, watch: Callable[[Rows, int], None] | None) -> Iterator[None]:
    """Call ``watch`` with each attention layer in turn, what gives its weights and the number of positions, for a while."""
    if watch is None:
        yield
        return
    usual, token = decoder.config._attn_implementation, _WATCH.set(watch)
    decoder.set_attn_implementation(NAME)
    try:
        yield
    finally:
        decoder.set_attn_implementation(usual)
        _WATCH.reset(token)


def mean_over_heads(rows: Rows, length: int, samples: int, device: torch.device) -> Tensor:
    """A layer's weights (n, L, L), float32, meaned over the heads, a bounded number of rows at a time."""
    every = torch.arange(length, device=device).expand(samples, -1)
    return torch.cat([rows(part).mean(1, dtype=torch.float32) for part in every.split(ROWS_AT_ONCE, 1)], 1)


def _attend(module, query, key, value, attention_mask, **options):
    """Attention as usual, and for whom watches the weights by the layer's own eager function, of the wanted rows alone."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    length = key.shape[2]
    mask = attention_mask
    if mask is None:
        mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()[None, None]
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill(
            ~mask, torch.finfo(query.dtype).min
        )
    mask = mask.expand(len(query), -1, -1, -1)[..., :length]

    def rows(positions: Tensor) -> Tensor:
        places = positions.to(query.device)[:, None, :, None]
        asked = query.gather(2, places.expand(-1, query.shape[1], -1, query.shape[3]))
        seen = mask.gather(2, places.expand(-1, mask.shape[1], -1, length))
        return eager(module, asked, key, value, seen, **options)[1]

    _WATCH.get()(rows, length)
    own = options.get("softcap") is not None or options.get("s_aux") is not None  # which only the eager function knows
    found = eager(module, query, key, value, mask, **options) if own else sdpa_attention_forward(
        module, query, key, value, attention_mask, **options
    )  # fmt: skip
    return found[0], None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
