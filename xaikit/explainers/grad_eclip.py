"""Maps by the gradients of the attention layers: Grad-ECLIP, gradient times value times query-key similarity (Zhao et al. 2024),
Attention-ECLIP, the same by way of the attention's gradient (arXiv 2605.12952), and Grad-CAM on a transformer."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.layers import Layer
from ..clip.model import Clip
from ..clip.score import content_of, record_score, summary_row
from ..clip.tape import last
from ..clip.towers import tower
from .registry import check_native, method

Similarity = Literal["query_key", "query_key_and_patches", "projected", "none"]


@method(sides=("image", "text"), source="Zhao et al., Grad-ECLIP, ICML 2024; MMEL paper (arXiv 2509.15243) eq. 8")
def grad_eclip(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    blocks: int | None = 1,
    similarity: Similarity = "query_key",
    heads: Literal["all", "one"] = "all",
    signed: bool = False,
    context: Literal["content", "context"] = "content",
    rectify: Literal["block", "sum"] = "block",
    normalise: bool = False,
    reference: bool = False,
) -> Tensor:
    """E = sum over the last ``blocks`` blocks l of ReLU(sum over channels of g_l * v_l(i) * sim_l(i)).

    g is the gradient of the cosine at the summary token's attention output (class token, or end of text),
    v(i) the value and sim(i) the min-max scaled cosine of that token's query with the key of position i.

    blocks: how many last blocks, None for all. similarity: "query_key"; "query_key_and_patches" (mean with
    the patch queries' similarity, MMEL section 3.5; a pooling layer has none); "projected" (after the out-projection, as the released
    generate_emap.py); "none" (leaves the factor out). heads: "all" is the true model; "one" runs the
    explained blocks with a single attention head, as the released code does. signed: no ReLU. On the text
    side, context: "content" scales sim over the prompt's own tokens, "context" over all positions, padding
    too; rectify: "block" or after the "sum"; normalise: divide by the sum (a map without a positive word
    stays zero). reference: the released code's behaviour, that is heads="one" and, for text,
    context="context", rectify="sum", normalise=True.
    """
    if reference:
        heads = "one"
        if of == "text":
            context, rectify, normalise = "context", "sum", True
    indices = explained_blocks(clip, of, blocks)
    with one_head(clip, of, indices, heads == "one"):
        tape, _ = record_score(clip, pixels, tokens, of, indices, shared=heads == "all")
    row = summary_row(clip, pixels, tokens, of)
    scope = scaled_positions(clip, tape.layers[-1], tokens, of, context)
    maps = [contributions(layer, row, scope, similarity) for layer in tape.layers]
    if rectify == "block" and not signed:
        maps = [m.relu() for m in maps]
    heat = torch.stack(maps).sum(0)
    heat = heat if signed else heat.relu()
    heat = content_of(clip, heat, tokens, of)
    if normalise:
        total = heat.sum(tuple(range(1, heat.ndim)), keepdim=True)
        heat = heat / torch.where(total == 0, torch.ones_like(total), total)
    return heat


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
    weight: Literal["query_key", "attention", "none"] = "query_key",
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
    indices = explained_blocks(clip, of, blocks)
    with one_head(clip, of, indices, reference):
        tape, _ = record_score(clip, pixels, tokens, of, indices, shared=not reference)
        row = summary_row(clip, pixels, tokens, of)
        scope = scaled_positions(clip, tape.layers[-1], tokens, of)
        maps = [_attention_contributions(layer, row, scope, weight) for layer in tape.layers]
    return content_of(clip, torch.stack(maps if signed else [m.relu() for m in maps]).sum(0), tokens, of)


def explained_blocks(clip: Clip, side: str, blocks: int | None) -> list[int]:
    """Indices of the last blocks. Where a pooling layer leads to the embedding it alone has a summary query."""
    described = tower(clip, side)
    if described.pool is None:
        return last(blocks, len(described.blocks))
    if blocks not in (1, None):
        raise ValueError(
            f"blocks={blocks!r}: {clip.name} pools by attention, which alone can be explained; use blocks=1"
        )
    return []


def scaled_positions(clip: Clip, layer: Layer, tokens: Tensor, side: str, context: str = "content") -> Tensor:
    """Which key positions (n or 1, tokens) the similarity is scaled over."""
    length, device = layer.joined_k.shape[1], layer.joined_k.device
    if side == "text" and context == "context":
        return torch.ones(1, length, dtype=torch.bool, device=device)
    if side == "text":
        return F.pad(clip.content(tokens), (0, length - tokens.shape[1])).to(device)
    rows, cols = tower(clip, side).grid
    return (torch.arange(length, device=device) >= length - rows * cols)[None]


def contributions(layer: Layer, row: Tensor, scope: Tensor, similarity: str) -> Tensor:
    """sum over channels of g * v(i) * sim(i), for all key positions (n, tokens)."""
    index = torch.arange(len(row), device=row.device)
    weight = (layer.joined_v @ layer.gradient[index, row].unsqueeze(-1)).squeeze(-1)
    return weight if similarity == "none" else weight * similarity_to(layer, row, scope, similarity)


def _attention_contributions(layer: Layer, row: Tensor, scope: Tensor, weight: str) -> Tensor:
    gradient = layer.attention_gradient_at(row).float()
    if weight == "attention":
        return (gradient * layer.attention_at(row)).sum(1)
    summed = gradient.sum(1)
    return summed if weight == "none" else summed * similarity_to(layer, row, scope, "query_key")


def similarity_to(layer: Layer, row: Tensor, scope: Tensor, similarity: str) -> Tensor:
    """Cosine of the summary token's query with each key, min-max scaled over the scope (n, tokens)."""
    query, key = layer.query_at(row), layer.joined_k
    if similarity == "projected":
        query, key = layer.project_out(query), layer.project_out(key)
    key = F.normalize(key, dim=-1)
    query = F.normalize(query, dim=-1)
    if similarity == "query_key_and_patches" and layer.joined_q.shape[1] == key.shape[1]:
        patches = F.normalize(layer.joined_q, dim=-1) * scope.unsqueeze(-1)
        query = (query + patches.sum(1) / scope.sum(1, keepdim=True)) / 2
    cosine = (key @ query.unsqueeze(-1)).squeeze(-1)
    low = cosine.masked_fill(~scope, torch.inf).amin(1, keepdim=True)
    high = cosine.masked_fill(~scope, -torch.inf).amax(1, keepdim=True)
    return (cosine - low) / (high - low).clamp(min=torch.finfo(cosine.dtype).tiny)


@contextlib.contextmanager
def one_head(clip: Clip, side: str, blocks: list[int], wanted: bool = True) -> Iterator[None]:
    """The released code's model, where it is wanted: some blocks with one attention head as wide as all together."""
    attentions = [tower(clip, side).attentions[index] for index in blocks if wanted]
    if wanted:
        check_native(clip, side)
    heads = [(attention.num_heads, attention.head_dim) for attention in attentions]
    try:
        for attention in attentions:
            attention.num_heads, attention.head_dim = 1, attention.embed_dim
        yield
    finally:
        for attention, (number, width) in zip(attentions, heads, strict=True):
            attention.num_heads, attention.head_dim = number, width


@method(
    sides=("image", "text"),
    source="Selvaraju et al., Grad-CAM, ICCV 2017; on the last block's input as in captum",
    needs="tokens",
)
def gradcam(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    at: Literal["block", "norm"] = "block",
    average: Literal["content", "all"] = "content",
    signed: bool = False,
    reference: bool = False,
) -> Tensor:
    """E(i) = ReLU(sum over channels of w * x(i)), w the mean over positions of dc/dx, c the cosine.

    at: x is the input of the last "block", or of its attention layer, behind the "norm". (The last block's output
    has no gradient at the patches.) average: w over the patches, or the prompt's own tokens ("content"), or over
    "all" tokens. signed: no ReLU. reference: Grad-ECLIP's released baseline, that is average="all" and the last
    block with one attention head.
    """
    with one_head(clip, of, [-1], reference):
        tape, _ = record_score(clip, pixels, tokens, of, [-1], inputs=at)
    layer = tape[-1]
    scope = torch.ones(1, layer.input.shape[1], dtype=torch.bool, device=layer.input.device)
    if average == "content" and not reference:
        scope = scaled_positions(clip, layer, tokens, of)
    scope = scope.unsqueeze(-1).float()
    channels = (layer.input_gradient.float() * scope).sum(1) / scope.sum(1)
    heat = (layer.input.float() @ channels.unsqueeze(-1)).squeeze(-1)
    return content_of(clip, heat if signed else heat.relu(), tokens, of)
