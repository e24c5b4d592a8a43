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
Watch = Callable[[Rows, int], None]  # called with a layer's, and how many queries it has
_WATCH: ContextVar[Watch] = ContextVar("watch")


@contextmanager
def watched(decoder: nn.Module, watch: Watch | None) -> Iterator[None]:
    """Call ``watch`` with each attention layer in turn, what gives its weights and the number of queries, for a while."""
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


def alike_when_watched(decoder: nn.Module) -> bool:
    """Whether watching leaves every number as it is, since what is watched computes as the model does by itself."""
    return decoder.config._attn_implementation == "sdpa"


def mean_over_heads(rows: Rows, queries: int, samples: int, device: torch.device) -> Tensor:
    """A layer's weights (n, queries, L), float32, meaned over the heads, a bounded number of rows at a time."""
    every = torch.arange(queries, device=device).expand(samples, -1)
    return torch.cat([rows(part).mean(1, dtype=torch.float32) for part in every.split(ROWS_AT_ONCE, 1)], 1)


def _attend(module, query, key, value, attention_mask, **options):
    """Attention as usual, and for whom watches the weights by the layer's own eager function, of the wanted rows alone."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    queries, length = query.shape[2], key.shape[2]

    def added(places: Tensor) -> Tensor:
        """The rows of the mask, as what is added to the logits, of the queries at places (n, 1, rows, 1)."""
        if attention_mask is None:  # causal; behind a cache the queries are the last positions
            mask = torch.arange(length, device=query.device) <= places + length - queries
        else:
            mask = attention_mask.expand(len(query), -1, -1, -1)[..., :length]
            mask = mask.gather(2, places.expand(-1, mask.shape[1], -1, length))
        if mask.dtype != torch.bool:
            return mask
        least = torch.finfo(query.dtype).min
        return torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill(~mask, least)

    def rows(positions: Tensor) -> Tensor:
        places = positions.to(query.device)[:, None, :, None]
        asked = query.gather(2, places.expand(-1, query.shape[1], -1, query.shape[3]))
        return eager(module, asked, key, value, added(places), **options)[1]

    _WATCH.get()(rows, queries)
    own = options.get("softcap") is not None or options.get("s_aux") is not None  # which only the eager function knows
    if not own:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)[0], None
    every = torch.arange(queries, device=query.device).expand(len(query), -1)[:, None, :, None]
    return eager(module, query, key, value, added(every), **options)[0], None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
