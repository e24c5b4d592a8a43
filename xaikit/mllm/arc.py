"""How far two rankings agree, their tops most of all: rank-biased overlap of the k likeliest next tokens."""

import torch
from torch import Tensor

from ..files.checks import check_whole

ENTRIES = 500_000  # looked up at a time: 4 MB, which a processor's cache holds


def top_ids(logits: Tensor, k: int) -> Tensor:
    """Ids (..., k) of the k largest logits (..., V), largest first; of equal ones the lower id.

    Raises ValueError for more ids than there are, and for logits that are NaN. Source: MSEA and ARC, section 3.3.
    """
    vocabulary = logits.shape[-1]
    check_whole(1, vocabulary, k=k)
    rows = logits.reshape(-1, vocabulary)
    values, ids = rows.topk(min(k + 1, vocabulary))
    if values[:, 0].isnan().any():
        raise ValueError("the logits hold NaN: only numbers can be ranked")
    ids = ids[:, :k].sort(-1).values
    if k < vocabulary:  # topk chooses freely among those that equal the last: take the lowest ids instead
        tied = (values[:, k - 1] == values[:, k]).nonzero()[:, 0]
        last = values[tied, k - 1, None]
        above, level = rows[tied] > last, rows[tied] == last
        room = k - above.sum(-1, keepdim=True)
        ids[tied] = (above | (level & (level.cumsum(-1) <= room))).nonzero()[:, 1].view(-1, k)
    order = rows.gather(1, ids).sort(dim=-1, descending=True, stable=True).indices
    return ids.gather(1, order).view(*logits.shape[:-1], k)


def _shares(k: int, persistence: float, normalised: bool, device: torch.device) -> Tensor:
    """What an id adds whose worse rank is m = 0..k-1: (1 - p) times the sum over depths d > m of p^(d-1) / d."""
    if not 0 < persistence < 1:
        raise ValueError(f"persistence={persistence!r}: a number between 0 and 1 is needed")
    depth = torch.arange(1, k + 1, dtype=torch.float64, device=device)
    terms = persistence ** (depth - 1) / depth * (1 - persistence)
    return terms.flip(0).cumsum(0).flip(0) / (1 - persistence**k if normalised else 1)


def rank_biased_overlap(first: Tensor, second: Tensor, persistence: float = 0.9, normalised: bool = True) -> Tensor:
    """Overlap (...), float64, of rankings of distinct ids (..., k), best first; the leading dimensions broadcast.

    (1 - p) * sum over d = 1..k of p^(d-1) * |first[:d] and second[:d]| / d, p the ``persistence``: the larger it is, the
    deeper it looks. 0 for disjoint rankings; ``normalised`` divides by 1 - p^k, so that equal ones have 1. Raises
    ValueError for lists of two lengths and a persistence outside (0, 1).
    Source: Webber et al., A similarity measure for indefinite rankings, TOIS 2010, cut off at k; MSEA and ARC, eq. 7.
    """
    if first.shape[-1] != second.shape[-1]:
        raise ValueError(f"rankings of {first.shape[-1]} and {second.shape[-1]} ids: the same number is needed")
    shares = _shares(first.shape[-1], persistence, normalised, first.device)
    both = first[..., :, None] == second[..., None, :]
    return (both * torch.minimum(shares[:, None], shares)).sum((-2, -1))


def overlap_matrix(
    ids: Tensor, persistence: float = 0.9, normalised: bool = True, real: Tensor | None = None
) -> Tensor:
    """``rank_biased_overlap`` of every two tokens of a sample, (n, T, T), float64.

    ids : (n, T, k), of a token's likeliest next tokens, best first. real : (n, T) bool, None for all; a token that isn't
    real overlaps with none. Memory is bounded by chunks of tokens.
    """
    n, tokens, k = ids.shape
    shares = _shares(k, persistence, normalised, ids.device)
    ordered, places = ids.flatten(1).sort(1)
    dense = (ordered[:, 1:] != ordered[:, :-1]).cumsum(1)
    # ids counted from 0 within a sample: a row for each takes T * k places instead of the vocabulary's
    dense = torch.empty_like(places).scatter_(1, places, torch.cat([torch.zeros_like(dense[:, :1]), dense], 1))
    width = int(dense.max()) + 1 if dense.numel() else 0
    matrix = shares.new_zeros(n, tokens, tokens)
    step = max(1, ENTRIES // max(1, n * tokens * k))
    for start in range(0, tokens, step):
        rows = dense.view(n, tokens, k)[:, start : start + step]
        here = rows.shape[1]
        table = shares.new_zeros(n, here, width).scatter_(2, rows, shares.expand(n, here, k))
        found = table.gather(2, dense[:, None].expand(n, here, tokens * k)).view(n, here, tokens, k)
        # shares fall with the rank, so that of the worse rank is the smaller one
        matrix[:, start : start + step] = torch.minimum(found, shares).sum(-1)
    if real is not None:
        matrix *= real[:, :, None] & real[:, None, :]
    return matrix
