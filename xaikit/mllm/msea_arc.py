"""The two parts of Liang et al., arXiv 2509.22415: the mean over input scales (MSEA), and how far two rankings of likely
next tokens agree, their tops most of all (ARC)."""

import torch
import torch.nn.functional as F
from torch import Tensor

ENTRIES = 500_000  # looked up at a time: 4 MB, which a processor's cache holds


def aggregate(
    maps: list[Tensor],
    weights: Tensor | None = None,
    grid: str | tuple[int, int] = "finest",
    normalise: str = "none",
    native: int = 0,
) -> Tensor:
    """The mean over the scales of their maps, (n, T, rows, cols), each resized bilinearly to one grid.

    maps : for each scale (n, T, rows of the scale, cols of the scale), all of the same image area: no crop. weights :
    (n, scales) >= 0, None for equal ones; they are divided by their sum. grid : that of the scale with the most cells
    ("finest"), of the scale with index ``native`` ("native"), or (rows, cols). normalise : what each scale's resized map
    is divided by before the mean: "none"; "range", so that it reaches from 0 to 1; "sum" (of maps >= 0). One scale on its
    own grid comes back as it is.
    Source: section 3.2; resizing and grid are not given there.
    """
    if isinstance(grid, str):
        chosen = maps[native] if grid == "native" else max(maps, key=lambda scale: scale.shape[-2:].numel())
        grid = chosen.shape[-2:]
    if weights is None:
        weights = maps[0].new_ones(len(maps[0]), len(maps))
    shares = (weights / weights.sum(1, keepdim=True)).to(maps[0])
    total = maps[0].new_zeros(*maps[0].shape[:2], *grid)
    for scale, share in zip(maps, shares.T, strict=True):
        total += share[:, None, None, None] * _normalised(resized(scale, tuple(grid)), normalise)
    return total


def resized(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Maps (n, T, rows, cols) drawn to another grid, bilinearly; the very maps where the grid is theirs."""
    if tuple(maps.shape[-2:]) == grid:
        return maps
    # antialiasing changes only an axis that shrinks
    return F.interpolate(maps, grid, mode="bilinear", align_corners=False, antialias=True)


def _normalised(maps: Tensor, normalise: str) -> Tensor:
    if normalise == "none":
        return maps
    if normalise == "range":
        maps = maps - maps.amin((-2, -1), keepdim=True)
        size = maps.amax((-2, -1), keepdim=True)
    else:
        size = maps.sum((-2, -1), keepdim=True)
    return torch.where(size > 0, maps / size, 0)


def top_ids(logits: Tensor, k: int) -> Tensor:
    """Ids (..., k) of the k largest logits (..., V), largest first; of equal ones the lower id.

    Raises ValueError for logits that are NaN. Source: section 3.3.
    """
    vocabulary = logits.shape[-1]
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


def overlap_matrix(
    ids: Tensor, persistence: float = 0.9, normalised: bool = True, real: Tensor | None = None
) -> Tensor:
    """Rank-biased overlap of every two tokens of a sample, (n, T, T), float64.

    (1 - p) * sum over d = 1..k of p^(d-1) * |first[:d] and second[:d]| / d, p the ``persistence``: the larger it is, the
    deeper it looks. 0 for disjoint rankings; ``normalised`` divides by 1 - p^k, so that equal ones have 1.

    ids : (n, T, k), of a token's likeliest next tokens, best first, distinct. real : (n, T) bool, None for all; a token that
    isn't real overlaps with none. Memory is bounded by chunks of tokens.
    Source: Webber et al., A similarity measure for indefinite rankings, TOIS 2010, cut off at k; section 3.3, eq. 7.
    """
    n, tokens, k = ids.shape
    depth = torch.arange(1, k + 1, dtype=torch.float64, device=ids.device)
    terms = persistence ** (depth - 1) / depth * (1 - persistence)
    # what an id adds whose worse rank is m = 0..k-1: the sum over depths d > m
    shares = terms.flip(0).cumsum(0).flip(0) / (1 - persistence**k if normalised else 1)
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
