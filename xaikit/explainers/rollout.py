"""Attention rollout: attention multiplied through the blocks, residual connections included."""

import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..clip.score import content_of, record_score, summary_row
from ..clip.tape import last
from ..clip.towers import tower
from .registry import method


@method(sides=("image", "text"), source="Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020")
def rollout(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, blocks: int | None = None) -> Tensor:
    """R = product over the last ``blocks`` blocks (None for all) of (mean over heads of A + I) / 2, later
    blocks on the left; the summary token's row of R. A pooling layer multiplies from the left as it is."""
    indices = last(blocks, len(tower(clip, of).blocks))
    tape, _ = record_score(clip, pixels, tokens, of, indices, gradients=False)
    row = summary_row(clip, pixels, tokens, of)
    layers, pooled = tape.layers, len(tape.layers) > len(indices)
    del tape  # a layer that has been used is freed, with its attention matrices
    flow = layers.pop().attention_at(row).mean(1)
    if pooled:
        flow = F.pad(flow, (layers[-1].v.shape[2] - flow.shape[1], 0))  # it may pool the patches only
    else:
        flow = (flow + F.one_hot(row, flow.shape[1])) / 2
    while layers:
        flow = (flow + (flow[:, None] @ layers.pop().attention.mean(1)).squeeze(1)) / 2
    return content_of(clip, flow, tokens, of)
