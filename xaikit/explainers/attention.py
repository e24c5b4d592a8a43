"""What recorded attention says of the summary token: raw, multiplied through the blocks (rollout, and Chefer's relevance, which
weighs it by its gradient), as the capacity of a flow, and how sensitive each block's own output is to it (LeGrad)."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import maximum_flow
from torch import Tensor

from ..clip.layers import Layer
from ..clip.model import Clip
from ..clip.score import content_of, other_embedding, project_tokens, record_score, summary_row
from ..clip.tape import last, record
from ..clip.towers import tower
from ..files.checks import check_choices
from .grad_eclip import explained_blocks, one_head, scaled_positions
from .registry import method

UNIT = 2**30  # capacities of a flow are whole numbers: parts of the one unit that leaves the summary token


@method(sides=("image", "text"), source="attention of the last layer, averaged over heads (Radford et al. 2021)")
def raw_attention(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, reference: bool = False) -> Tensor:
    """A(i) = mean over heads of the attention from the summary token to position i, in the last layer.

    reference: the last block with one attention head, as Grad-ECLIP's released code runs it.
    """
    indices = explained_blocks(clip, of, 1)
    with one_head(clip, of, indices, reference):
        tape, _ = record_score(clip, pixels, tokens, of, indices, gradients=False)
        attention = tape.layers[-1].attention_at(summary_row(clip, pixels, tokens, of))
    return content_of(clip, attention.mean(1), tokens, of)


@method(sides=("image", "text"), source="Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020")
def rollout(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, blocks: int | None = None) -> Tensor:
    """R = product over the last ``blocks`` blocks (None for all) of (mean over heads of A + I) / 2, later
    blocks on the left; the summary token's row of R. A pooling layer multiplies from the left as it is."""
    layers, pooled, row = _recorded(clip, pixels, tokens, of, blocks)
    flow = _from_summary(layers, pooled, row, _mean_attention) * (1 if pooled else 0.5)
    while layers:
        flow = (flow + (flow[:, None] @ layers.pop().attention.mean(1)).squeeze(1)) / 2
    return content_of(clip, flow, tokens, of)


@method(sides=("image", "text"), source="Chefer et al., Generic Attention-model Explainability, ICCV 2021")
def chefer(
    clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, blocks: int | None = None, reference: bool = False
) -> Tensor:
    """R = product over the last ``blocks`` blocks of (I + mean over heads of ReLU(A * dc/dA)), later blocks on the
    left; the summary token's row of R. A pooling layer multiplies from the left, without I.

    c is the cosine. blocks: how many last blocks, None for all as in the paper; the released code's default for
    CLIP is 1. reference: the released code's numbers, that is the gradient of the logit, exp(logit_scale) times
    that of the cosine, and for text the map divided by its sum (a map of zeros stays zero).
    """
    layers, pooled, row = _recorded(clip, pixels, tokens, of, blocks, gradients=True)
    scale = float(clip.model.logit_scale.detach().exp()) if reference else 1.0

    def weighted(layer: Layer, row: Tensor) -> Tensor:
        return (layer.attention_at(row).float() * layer.attention_gradient_at(row)).relu().mean(1) * scale

    relevance = _from_summary(layers, pooled, row, weighted)
    while layers:
        layer = layers.pop()
        step = (layer.attention.float() * layer.attention_gradient).relu_().mean(1) * scale
        relevance = relevance + (relevance[:, None] @ step).squeeze(1)
    relevance = content_of(clip, relevance, tokens, of)
    if reference and of == "text":
        total = relevance.sum(1, keepdim=True)
        relevance = relevance / total.masked_fill(total == 0, 1.0)
    return relevance


@method(sides=("image", "text"), source="Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020")
def attention_flow(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, blocks: int | None = None) -> Tensor:
    """E(i) = maximum flow from the summary token, at the output, to position i at the input of the last ``blocks``
    blocks (None for all). The nodes are the tokens between blocks; the capacities (mean over heads of A + I) / 2.
    A pooling layer's attention is the uppermost edges as it is.

    Exact up to 2^-30 an edge (Dinic's algorithm), and one flow problem a position, on the CPU: the time grows with
    the third power of the tokens. One thread takes about 0.07 s for an image of 64 patches and 4 blocks or of 49
    and 12 (ViT-B/32), but 3 s for 196 and 12 (ViT-B/16).
    """
    layers, pooled, row = _recorded(clip, pixels, tokens, of, blocks)
    wanted = scaled_positions(clip, layers[0], tokens, of).expand(len(row), -1)
    leaving = _from_summary(layers, pooled, row, _mean_attention) * (1 if pooled else 0.5)
    flows = np.zeros(leaving.shape)
    below = [(layer.attention.mean(1).double().cpu().numpy() + np.eye(leaving.shape[1])) / 2 for layer in layers]
    for sample, (first, positions) in enumerate(zip(leaving.double().cpu().numpy(), wanted.cpu().numpy(), strict=True)):
        graph, sinks = _graph(first, [capacity[sample] for capacity in reversed(below)])
        for position in positions.nonzero()[0]:
            flows[sample, position] = maximum_flow(graph, 0, sinks + int(position)).flow_value / UNIT
    return content_of(clip, torch.from_numpy(flows).float().to(leaving.device), tokens, of)


def _recorded(
    clip: Clip, pixels: Tensor, tokens: Tensor, of: str, blocks: int | None, gradients: bool = False
) -> tuple[list[Layer], bool, Tensor]:
    """The layers, lowest first, whether a pooling layer is the uppermost, and the summary token's row. A layer that has been
    used and taken off the list is freed, with its attention matrices."""
    indices = last(blocks, len(tower(clip, of).blocks))
    layers = record_score(clip, pixels, tokens, of, indices, gradients=gradients)[0].layers
    return layers, len(layers) > len(indices), summary_row(clip, pixels, tokens, of)


def _mean_attention(layer: Layer, row: Tensor) -> Tensor:
    return layer.attention_at(row).mean(1)


def _from_summary(layers: list[Layer], pooled: bool, row: Tensor, weights: Callable[[Layer, Tensor], Tensor]) -> Tensor:
    """Weights (n, tokens) from the summary token to the input of the uppermost layer, which is taken off: those of a block
    with the residual connection, a pooling layer's with 0 for tokens that it leaves out."""
    found = weights(layers.pop(), row)
    if pooled:
        return F.pad(found, (layers[-1].v.shape[2] - found.shape[1], 0))  # it may pool the patches only
    return found + F.one_hot(row, found.shape[1])


def _graph(leaving: np.ndarray, below: list[np.ndarray]) -> tuple[csr_array, int]:
    """The capacities as a graph whose node 0 is the summary token, and its first input node.

    leaving: from the summary token to the nodes under the uppermost layer (tokens,). below: from nodes to the next
    lower ones (tokens, tokens), uppermost layer first.
    """
    length = len(leaving)
    start, end = np.indices((length, length)).reshape(2, -1)
    starts, ends, capacities = [np.zeros(length, int)], [1 + np.arange(length)], [leaving]
    for depth, capacity in enumerate(below):
        starts.append(1 + depth * length + start)
        ends.append(1 + (depth + 1) * length + end)
        capacities.append(capacity.ravel())
    size = 1 + (1 + len(below)) * length
    whole = np.floor(np.concatenate(capacities) * UNIT).astype(np.int32)
    edges = coo_array((whole, (np.concatenate(starts), np.concatenate(ends))), shape=(size, size))
    return edges.tocsr(), size - length


@method(sides=("image", "text"), source="Bousselham et al., LeGrad, arXiv 2404.03214", needs="tokens")
def legrad(
    clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, blocks: int | None = None, pooling: str | None = None
) -> Tensor:
    """E = sum over the last ``blocks`` blocks l (None for all) of the mean over heads and queries of
    ReLU(dc_l/dA_l), the gradient itself being the map; c_l is the cosine of the other side's embedding with that of
    block l's own output, through the final norm and the projection, and A_l block l's attention.

    pooling: block l's output becomes one embedding by the "mean" of its tokens, as in the released code, or by its
    "summary" token alone; None is "mean" for images and "summary" for text, whose mean would hold the padding.
    Where a pooling layer leads to the embedding, c_l is what it makes of block l's output and A_l its attention, for
    every block; the released code's correction for SigLIP (zero where an empty prompt's map is high) is left out.
    """
    check_choices(pooling=(pooling or "mean", ("mean", "summary")))
    if of == "text" and pooling == "mean":
        raise ValueError("pooling='mean': the text tower's mean would hold the padding; use 'summary'")
    described = tower(clip, of)
    indices = last(blocks, len(described.blocks))
    other = other_embedding(clip, pixels, tokens, of)
    if described.pool is not None:
        return _of_pooling(clip, pixels, other, indices)
    row = summary_row(clip, pixels, tokens, of) if of == "text" or pooling == "summary" else None

    def score(output: Tensor) -> Tensor:
        pooled = output.mean(1, keepdim=True) if row is None else output.take_along_dim(row[:, None, None], dim=1)
        return (F.normalize(project_tokens(clip, pooled, of)[:, 0], dim=-1) * other).sum()

    with record(clip, of, indices, gradients=True) as tape:
        clip.encode_image(pixels) if of == "image" else clip.encode_text(tokens.to(pixels.device))
        tape.backward_each(score)
    if row is None:
        maps = [layer.attention_gradient.float().relu().mean((1, 2)) for layer in tape.layers]
    else:  # the other queries' gradients are zero
        maps = [layer.attention_gradient_at(row).float().relu().mean(1) / layer.v.shape[2] for layer in tape.layers]
    return content_of(clip, torch.stack(maps).sum(0), tokens, of)


def _of_pooling(clip: Clip, pixels: Tensor, other: Tensor, indices: list[int]) -> Tensor:
    """The pooling layer's sensitivity to each block's output in turn."""
    with record(clip, "image", indices) as tape:
        clip.encode_image(pixels)
    maps = []
    for index in indices:
        with record(clip, "image", [], gradients=True) as pooled:
            pooled.backward((F.normalize(_pool(clip, tape[index].output), dim=-1) * other).sum())
        first = torch.zeros(len(pixels), dtype=torch.long, device=pixels.device)
        maps.append(pooled.pool.attention_gradient_at(first).float().relu().mean(1))
    return content_of(clip, torch.stack(maps).sum(0), torch.empty(0), "image")


def _pool(clip: Clip, hidden: Tensor) -> Tensor:
    """A block's output (n, tokens, width) through the final norm, the pooling layer and the projection."""
    visual = clip.model.visual
    if hasattr(visual, "trunk"):
        return visual.head(visual.trunk.forward_head(visual.trunk.norm(hidden)))
    pooled, _ = visual._pool(hidden)
    return pooled if visual.proj is None else pooled @ visual.proj
