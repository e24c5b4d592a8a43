"""Summaries of recorded attention, small enough to keep for figures."""

import torch
import xarray as xr
from torch import Tensor

from ..clip.model import Clip
from ..clip.score import attention_from, content_of, summary_row
from ..clip.tape import Tape


def summary_attention(clip: Clip, tape: Tape, pixels: Tensor, tokens: Tensor, side: str) -> Tensor:
    """Attention from the token that becomes the embedding: (n, blocks, heads, rows, cols) over the patches, or
    (n, blocks, heads, words) over the prompt's own tokens."""
    row = summary_row(clip, pixels, tokens, side)
    blocks = []
    for layer in tape.layers:
        heads = [content_of(clip, attention_from(head, row), tokens, side) for head in layer.attention.unbind(1)]
        blocks.append(torch.stack(heads, 1))
    return torch.stack(blocks, 1)


def summarise(clip: Clip, tape: Tape, pixels: Tensor, tokens: Tensor, side: str = "image") -> xr.Dataset:
    """The ``tape`` store's variables: attention of the summary token (mean over heads), its entropy in nats, and
    the mean lengths of queries, keys and values, for each block."""
    row = summary_row(clip, pixels, tokens, side)
    mean = [attention_from(layer.attention.mean(1), row) for layer in tape.layers]
    entropy = torch.stack([-(a * a.clamp(min=1e-12).log()).sum(-1) for a in mean], 1)
    maps = torch.stack([content_of(clip, a, tokens, side) for a in mean], 1)
    data = {
        "attention": (("sample", "block", "row", "col"), maps.cpu().numpy()),
        "attention_entropy": (("sample", "block"), entropy.cpu().numpy()),
    }
    for name, part in (("query_norm", "q"), ("key_norm", "k"), ("value_norm", "v")):
        norms = torch.stack([getattr(layer, part).norm(dim=-1).mean((1, 2)) for layer in tape.layers], 1)
        data[name] = (("sample", "block"), norms.cpu().numpy())
    return xr.Dataset(data)
