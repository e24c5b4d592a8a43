"""Attention-ECLIP: Grad-ECLIP's map by way of the attention's gradient (arXiv 2605.12952)."""

import contextlib

import torch
from torch import Tensor

from ..clip.layers import Layer
from ..clip.model import Clip
from ..clip.score import content_of, record_score, summary_row
from ..files.checks import check_choices
from .grad_eclip import explained_blocks, one_head, scaled_positions, similarity_to
from .registry import method

WEIGHTS = ("query_key", "attention", "none")


@method(
    sides=("image", "text"), source="Cui and Fan, Debunking Grad-ECLIP, arXiv 2605.12952; derived from its abstract"
)
def attention_eclip(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    blocks: int | None = 1,
    weight: str = "query_key",
    signed: bool = False,
    reference: bool = False,
) -> Tensor:
    """E = sum over the last ``blocks`` blocks of ReLU(sum over heads h of dc/dA_h(i) * weight_h(i)).

    c is the cosine and A_h(i) the attention of head h from the summary token to position i. The output that
    Grad-ECLIP differentiates is O = sum over i of A_h(i) v_h(i), so dc/dA_h(i) = g_h . v_h(i), and summed over the
    heads it is Grad-ECLIP's g . v(i). Hence, for every block, the same map up to rounding:
    - weight="query_key" (the min-max scaled cosine of query and key, one for all heads) is ``grad_eclip``;
    - weight="none" is ``grad_eclip`` with similarity="none".
    weight="attention" takes A_h(i) itself, a head each, which is not Grad-ECLIP: its sum over all positions is g . O.

    blocks: how many last blocks, None for all. signed: no ReLU. reference: the explained blocks with one attention
    head, as Grad-ECLIP's released code runs them. The paper's text was not available: its abstract says that its
    method equals Grad-ECLIP, and this is the attention-based route for which that holds.
    """
    check_choices(weight=(weight, WEIGHTS))
    indices = explained_blocks(clip, of, blocks)
    with one_head(clip, of, indices) if reference else contextlib.nullcontext():
        tape, _ = record_score(clip, pixels, tokens, of, indices)
        row = summary_row(clip, pixels, tokens, of)
        scope = scaled_positions(clip, tape.layers[-1], tokens, of, "content")
        maps = [_contributions(layer, row, scope, weight) for layer in tape.layers]
    return content_of(clip, torch.stack(maps if signed else [m.relu() for m in maps]).sum(0), tokens, of)


def _contributions(layer: Layer, row: Tensor, scope: Tensor, weight: str) -> Tensor:
    gradient = layer.attention_gradient_at(row).float()
    if weight == "attention":
        return (gradient * layer.attention_at(row)).sum(1)
    summed = gradient.sum(1)
    return summed if weight == "none" else summed * similarity_to(layer, row, scope, "query_key")
