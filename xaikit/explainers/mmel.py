"""MMEL: Grad-ECLIP, raised where patches (or words) relate to one another at several scales (arXiv 2509.15243)."""

import math
from typing import Literal

import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.score import content_of, record_score, summary_row
from ..clip.tape import last
from ..clip.towers import tower
from ..files.checks import check_number
from .grad_eclip import Similarity, contributions, explained_blocks, scaled_positions
from .registry import method

SCALES = (1.0, 0.75, 0.5)


@method(sides=("image", "text"), source="MMEL, arXiv 2509.15243, eq. 1-9")
def mmel(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    blocks: int | None = None,
    levels: int | None = None,
    alpha: float = 2.0,
    beta: float = 2.0,
    temperature: float = 0.1,
    theta: float = 1.0,
    theta_slope: float = 0.0,
    scales: tuple[float, ...] = SCALES,
    scaling: Literal["resample", "multiply"] = "resample",
    transform: Literal["identity", "random"] = "identity",
    similarity: Similarity = "query_key_and_patches",
    standardise: bool = True,
    seed: int = 0,
) -> Tensor:
    """E_out = (E * [1 + alpha * sigmoid(sum over scales of Level_s)] + beta * E) / (1 + beta).

    E is Grad-ECLIP over the last ``blocks`` blocks (None for all: eq. 8 sums over the layers) with the section 3.5
    similarity ("query_key" for the plain one); Level_s sums over the last ``levels`` blocks l (None for all) w_l * the
    mean over queries of softmax(A / temperature), A = cosine(T(x_j), T(x_i)) / sqrt(width), x the queries at scale s.
    beta keeps part of E: 0 is eq. 9 alone. w_l = softplus(theta_l), theta_l = theta + theta_slope * (l - last l): a
    theta that is the same for all blocks drops out again where Level is standardised, so only the slope can change the
    map then.

    Readings the paper leaves open: scaling: "resample" computes A on a grid of s times the rows and columns and
    gives each patch its part of a cell's importance, so that every scale's importance sums to 1; "multiply"
    multiplies the queries by s as eq. 1 says, which the normalisation behind it undoes. transform: T is a layer
    norm alone ("identity") or the two-layer network of eq. 3 with random weights ("random", drawn with ``seed``).
    standardise: Level over the grid before the sigmoid.
    """
    check_number(0, 100, alpha=alpha, beta=beta)
    check_number(0, 100, open_low=True, temperature=temperature)
    check_number(-100, 100, theta=theta, theta_slope=theta_slope)
    if not isinstance(scales, tuple | list) or not scales or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"scales={scales}: give a list of one or more numbers above 0 and up to 1")
    explained = explained_blocks(clip, of, blocks)
    related = last(levels, len(tower(clip, of).blocks), "levels")
    lowest = min(explained, default=len(tower(clip, of).blocks))  # a pooling layer stands behind all blocks
    tape, _ = record_score(clip, pixels, tokens, of, sorted({*explained, *related}), graph_from=lowest, shared=True)
    row = summary_row(clip, pixels, tokens, of)
    top = tape.layers[len(tape.layers) - max(len(explained), 1) :]
    scope = scaled_positions(clip, top[-1], tokens, of)
    base = torch.stack([contributions(layer, row, scope, similarity).relu() for layer in top]).sum(0)
    base = content_of(clip, base, tokens, of).float()
    extent, mask = _extent(clip, tokens, of, base)
    level = torch.zeros_like(base).flatten(1)
    sizes = scales if scaling == "resample" else [1.0] * len(scales)
    resampling = [_resampling(extent, base.shape[1:], size).to(base) for size in sizes]
    for index in related:
        weight = math.log1p(math.exp(theta + theta_slope * (index - related[-1])))
        queries = content_of(clip, tape[index].joined_q, tokens, of).flatten(1, -2)
        queries = queries.float()  # half precision is too coarse for what follows
        plain = _gram(queries) if transform == "identity" else None
        for scale, down in zip(scales, resampling, strict=True):
            if plain is not None:
                # Resampling and centring are linear, so it can be done on the products.
                gram = plain if _is_identity(down) else down @ plain @ down.mT
            else:
                x = queries * scale if scaling == "multiply" else queries
                gram = _gram(_network(x if _is_identity(down) else down @ x, seed))
            level = level + weight * _importance(gram, down, queries.shape[-1], temperature)
    if standardise:
        level = _standardised(level, mask)
    raised = base * (1 + alpha * level.sigmoid().view_as(base))
    return (raised + beta * base) / (1 + beta)


def _extent(clip: Clip, tokens: Tensor, side: str, base: Tensor) -> tuple[list[Tensor], Tensor]:
    """Length of each axis for each sample (or for all), and which positions are real, (n or 1, positions)."""
    if side == "image":
        return [torch.tensor([size]) for size in base.shape[1:]], torch.ones(1, base[0].numel(), dtype=torch.bool)
    length = clip.content(tokens).sum(1)
    return [length], torch.arange(base.shape[1]) < length[:, None]


def _resampling(extent: list[Tensor], sizes: torch.Size, scale: float) -> Tensor:
    """Area resampling to ``scale`` times each axis: a matrix (n or 1, coarse, fine) whose rows sum to 1, or to 0
    for cells that a shorter prompt does not have."""
    down = None
    for length, size in zip(extent, sizes, strict=True):
        coarse = (length * scale).round().clamp(min=1)[:, None, None]
        step = length[:, None, None] / coarse
        cell = torch.arange(int(coarse.max()))[None, :, None]
        fine = torch.arange(size)[None, None]
        overlap = (torch.minimum((cell + 1) * step, fine + 1) - torch.maximum(cell * step, fine)).clamp(min=0)
        overlap = overlap * ((cell < coarse) & (fine < length[:, None, None])) / step.clamp(min=1e-6)
        down = overlap if down is None else torch.kron(down, overlap)  # of images, which are alike
    return down


def _gram(x: Tensor) -> Tensor:
    """Inner products of all pairs after centring (n, positions, positions).

    The layer norm that ends T leaves, behind it the L2 normalisation, only its centring: cosines of layer-normed
    vectors are cosines of centred ones.
    """
    x = x - x.mean(-1, keepdim=True)
    return x @ x.mT


def _network(x: Tensor, seed: int) -> Tensor:
    """Linear2(ReLU(Linear1(x))) of eq. 3 with random weights."""
    width = x.shape[-1]
    draw = torch.Generator().manual_seed(int(seed))
    first = torch.randn(width, 2 * width, generator=draw).to(x) / math.sqrt(width)
    second = torch.randn(2 * width, width, generator=draw).to(x) / math.sqrt(2 * width)
    return (x @ first).relu() @ second


def _importance(gram: Tensor, down: Tensor, width: int, temperature: float) -> Tensor:
    """Mean over queries j of softmax_i(cosine(x_j, x_i) / sqrt(width) / temperature), handed back to the fine
    positions (n, positions); sums to 1."""
    inverse = gram.diagonal(dim1=1, dim2=2).clamp(min=1e-12).rsqrt()
    scores = gram * inverse[:, :, None] * (inverse / (math.sqrt(width) * temperature))[:, None]
    there = down.sum(2) > 0
    if not there.all():
        scores = scores.masked_fill(~there[:, None], torch.finfo(scores.dtype).min)
    queries = there.to(scores) / there.sum(1, keepdim=True).clamp(min=1)
    importance = (scores.softmax(-1) * queries[:, :, None]).sum(1)
    return importance if _is_identity(down) else (down.mT @ importance.unsqueeze(-1)).squeeze(-1)


def _is_identity(matrix: Tensor) -> bool:
    return matrix.shape[0] == 1 and matrix.shape[1] == matrix.shape[2] and bool((matrix[0].diagonal() == 1).all())


def _standardised(level: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over each sample's positions; flat maps become zero."""
    mask = mask.to(level.device)
    count = mask.sum(1, keepdim=True).clamp(min=1)
    centred = (level - (level * mask).sum(1, keepdim=True) / count) * mask
    spread = (centred.square().sum(1, keepdim=True) / count).sqrt()
    return centred / spread.clamp(min=1e-8)
