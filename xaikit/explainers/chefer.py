"""Chefer's relevance: attention times its positive gradient, added up through the blocks."""

import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..clip.score import content_of, record_score, summary_row
from ..clip.tape import last
from ..clip.towers import tower
from .registry import method


@method(
    sides=("image", "text"),
    source="Chefer et al., Generic Attention-model Explainability, ICCV 2021",
)
def chefer(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    blocks: int | None = None,
    reference: bool = False,
) -> Tensor:
    """R = product over the last ``blocks`` blocks of (I + mean over heads of ReLU(A * dc/dA)), later blocks on the
    left; the summary token's row of R. A pooling layer multiplies from the left, without I.

    c is the cosine. blocks: how many last blocks, None for all as in the paper; the released code's default for
    CLIP is 1. reference: the released code's numbers, that is the gradient of the logit, exp(logit_scale) times
    that of the cosine, and for text the map divided by its sum (a map of zeros stays zero).
    """
    indices = last(blocks, len(tower(clip, of).blocks))
    tape, _ = record_score(clip, pixels, tokens, of, indices)
    row = summary_row(clip, pixels, tokens, of)
    scale = float(clip.model.logit_scale.detach().exp()) if reference else 1.0
    layers, pooled = tape.layers, len(tape.layers) > len(indices)
    del tape  # a layer that has been used is freed, with its attention matrices
    top = layers.pop()
    relevance = (top.attention_at(row).float() * top.attention_gradient_at(row)).relu().mean(1) * scale
    if pooled:
        relevance = F.pad(relevance, (layers[-1].v.shape[2] - relevance.shape[1], 0))  # it may pool the patches only
    else:
        relevance = relevance.scatter_add(1, row[:, None], relevance.new_ones(len(row), 1))
    while layers:
        layer = layers.pop()
        step = (layer.attention.float() * layer.attention_gradient).relu_().mean(1) * scale
        relevance = relevance + (relevance[:, None] @ step).squeeze(1)
    relevance = content_of(clip, relevance, tokens, of)
    if reference and of == "text":
        total = relevance.sum(1, keepdim=True)
        relevance = relevance / total.masked_fill(total == 0, 1.0)
    return relevance
