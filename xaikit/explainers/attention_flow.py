"""Attention flow: how much can flow from the summary token down to each position, attention being capacity."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import maximum_flow
from torch import Tensor

from ..clip.model import Clip
from ..clip.score import content_of, record_score, summary_row
from ..clip.tape import last
from ..clip.towers import tower
from .grad_eclip import scaled_positions
from .registry import method

UNIT = 2**30  # capacities are whole numbers: parts of the one unit that leaves the summary token


@method(sides=("image", "text"), source="Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020")
def attention_flow(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, blocks: int | None = None) -> Tensor:
    """E(i) = maximum flow from the summary token, at the output, to position i at the input of the last ``blocks``
    blocks (None for all). The nodes are the tokens between blocks; the capacities (mean over heads of A + I) / 2.
    A pooling layer's attention is the uppermost edges as it is.

    Exact up to 2^-30 an edge (Dinic's algorithm), and one flow problem a position, on the CPU: the time grows with
    the third power of the tokens. One thread takes about 0.07 s for an image of 64 patches and 4 blocks or of 49
    and 12 (ViT-B/32), but 3 s for 196 and 12 (ViT-B/16).
    """
    indices = last(blocks, len(tower(clip, of).blocks))
    tape, _ = record_score(clip, pixels, tokens, of, indices, gradients=False)
    row = summary_row(clip, pixels, tokens, of)
    layers, pooled = tape.layers, len(tape.layers) > len(indices)
    top = layers.pop()
    leaving = top.attention_at(row).mean(1)
    if pooled:
        leaving = F.pad(leaving, (layers[-1].v.shape[2] - leaving.shape[1], 0))  # it may pool the patches only
    else:
        leaving = (leaving + F.one_hot(row, leaving.shape[1])) / 2
    wanted = scaled_positions(clip, layers[0] if layers else top, tokens, of, "content").expand(len(row), -1)
    flows = np.zeros(leaving.shape)
    below = [(layer.attention.mean(1).double().cpu().numpy() + np.eye(leaving.shape[1])) / 2 for layer in layers]
    for sample, (first, positions) in enumerate(zip(leaving.double().cpu().numpy(), wanted.cpu().numpy(), strict=True)):
        graph, sinks = _graph(first, [capacity[sample] for capacity in reversed(below)])
        for position in positions.nonzero()[0]:
            flows[sample, position] = maximum_flow(graph, 0, sinks + int(position)).flow_value / UNIT
    return content_of(clip, torch.from_numpy(flows).float().to(leaving.device), tokens, of)


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
