"""The numerics behind the lens family. TAM (Li et al., Token Activation Map, ICCV 2025): what earlier tokens light up is taken off
a token's map, maps are normalised together with the text's relevance, and filtered; and what ARC reads otherwise in this. Of Liang
et al., arXiv 2509.22415: the mean over input scales (MSEA), and how far two rankings of likely next tokens agree, their tops most
of all (ARC)."""

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
    Source: Liang et al., section 3.2; resizing and grid are not given there.
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

    Raises ValueError for logits that are NaN. Source: Liang et al., section 3.3.
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
    Source: Webber et al., A similarity measure for indefinite rankings, TOIS 2010, cut off at k; Liang et al.,
    section 3.3, eq. 7.
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


def rank_gaussian_filter(maps: Tensor, size: int = 3) -> Tensor:
    """Maps (..., rows, cols) of real numbers, filtered by windows of ``size`` x ``size`` cells; same shape and unit.

    A window's values, sorted, are weighted by exp(-(rank - middle)^2 / (2 sigma^2)), sigma = standard deviation / mean:
    the median where the window is even, almost the mean where it varies much. Windows of mean <= 0 give 0, constant
    ones their value (the released code gives NaN). The border is mirrored, its cells not repeated; an axis with too few
    cells to mirror repeats its last one. size : odd. Source: TAM, released code.
    """
    reach = size // 2
    padded = maps.flatten(0, -3)[None] if maps.ndim > 2 else maps[None, None]
    for pad in ((reach, reach, 0, 0), (0, 0, reach, reach)):
        cells = padded.shape[-1 if pad[0] else -2]
        padded = F.pad(padded, pad, mode="reflect" if cells > reach else "replicate")
    windows = padded.unfold(-2, size, 1).unfold(-2, size, 1).flatten(-2).movedim(-1, 0).contiguous()
    _sort_planes(windows)
    tiny = torch.finfo(maps.dtype).tiny
    mean = windows.mean(0)
    variance = ((windows - mean) / mean.clamp(min=tiny)).square().mean(0)
    rank = torch.arange(size**2, dtype=maps.dtype, device=maps.device) - size**2 // 2
    # A variance of 0 becomes tiny: the median's weight is exp(0), the others' exp(-inf).
    weights = (-(rank**2)[:, None, None, None, None] / (2 * variance.clamp(min=tiny))).softmax(0)
    return torch.where(mean > 0, (weights * windows).sum(0), 0).view(maps.shape)


def _sort_planes(planes: Tensor) -> None:
    """Sort along the first dimension, in place, by odd-even transposition: for few long planes faster than ``sort``."""
    for step in range(len(planes)):
        lower, upper = planes[step % 2 : -1 : 2], planes[step % 2 + 1 :: 2]
        smaller = torch.minimum(lower, upper)
        torch.maximum(lower, upper, out=upper)
        lower.copy_(smaller)


# How much of a context's map counts, given its relevance r >= 0 for the target and the rank overlap rho of the two.
WEIGHTINGS = {
    "relevance": "r: TAM, what the context's state says for the target's word",
    "irrelevance": "1 - rho: ARC read as removing what irrelevant contexts light up",
    "damped": "r (1 - rho): TAM's relevance, damped where the rankings agree",
    "agreement": "rho: TAM with the relevance replaced by the rank overlap",
    "damped_fixed": "r (1 - rho), scaled as TAM scales r: agreement also lessens how much is removed",
    "incoherent": "r where rho is below the threshold, else 0: agreeing contexts are left out",
}
EPSILON = 1e-8  # TAM's own, in eq. 2


def context_mask(
    ids: Tensor, is_answer: Tensor, real: Tensor, prompt_context: bool = True, repeated: bool = False
) -> Tensor:
    """Which tokens k are context of which targets t, (n, T, T) bool: real ones before t, of another id.

    ids, is_answer, real : (n, T), tokens in order. prompt_context=False leaves out the prompt's tokens.
    repeated=True lets in tokens of the target's id, as ``joint_normalisation`` has them.
    """
    mask = (real[:, :, None] & real[:, None, :]).tril(-1)
    if not repeated:
        mask &= ids[:, :, None] != ids[:, None, :]
    return mask if prompt_context else mask & is_answer[:, None, :]


def context_weights(
    weighting: str, relevance: Tensor, overlap: Tensor | None, allowed: Tensor, threshold: float = 0.5
) -> Tensor:
    """Weights >= 0 of the contexts' maps, not normalised, 0 where not allowed; of relevance's shape and type.

    weighting : a name of ``WEIGHTINGS``. relevance : (n, targets, T), r[t, k] = ReLU(logit of t's class at the state of
    k). overlap : rho, same shape, from 0 to 1; only "relevance" does without (None). allowed : same shape, bool.
    threshold : of "incoherent".
    Source: TAM eq. 2 for "relevance"; the others read MSEA and ARC (arXiv 2509.22415), section 3.3, whose form is not known.
    """
    if weighting == "relevance":
        return relevance * allowed
    overlap = overlap.to(relevance.dtype)
    if weighting in ("irrelevance", "agreement"):
        return (overlap if weighting == "agreement" else 1 - overlap) * allowed
    return relevance * (overlap < threshold if weighting == "incoherent" else 1 - overlap) * allowed


def remove_interference(
    maps: Tensor,
    weighting: str,
    relevance: Tensor,
    overlap: Tensor | None,
    allowed: Tensor,
    threshold: float = 0.5,
    least_squares: bool = True,
) -> Tensor:
    """Maps (n, T, rows, cols), raw, >= 0, without what their contexts light up: ReLU(A - s E); the rest as in
    ``context_weights``.

    E is the mean of the contexts' maps with those weights, s >= 0 the scale that minimises ||A - s E||^2, or 1 for
    least_squares=False. Where E is 0, A stays. Of the weights only their direction counts, but for "damped_fixed": there s
    is fitted with the relevance and the weights are divided by its sum, so that smaller ones remove less.
    Source: TAM eqs. 2 to 5.
    """
    weights = context_weights(weighting, relevance, overlap, allowed, threshold).to(maps.dtype)
    fitted = (relevance * allowed).to(maps.dtype) if weighting == "damped_fixed" else weights
    total = fitted.sum(-1, keepdim=True) + EPSILON
    own = maps.flatten(2)
    estimate = (fitted / total) @ own
    scale = 1.0
    if least_squares:
        square = (estimate**2).sum(-1, keepdim=True)
        product = (own * estimate).sum(-1, keepdim=True)
        scale = torch.where(square > 0, product / square, 0).clamp(min=0)
    if weighting == "damped_fixed":
        estimate = (weights / total) @ own
    return (own - scale * estimate).relu().unflatten(-1, maps.shape[-2:])


def joint_normalisation(maps: Tensor, relevance: Tensor, context_all: Tensor) -> Tensor:
    """Maps (n, targets, rows, cols) from 0 to 1: (A - min) / (max - min), extremes over the map and the relevance of its
    contexts, so that a word which the text explains gets a dim map; 0 where all these are equal.

    relevance : (n, targets, T). context_all : same shape, bool, all tokens before the target, repeated ones too.
    Source: TAM, released code.
    """
    relevance = relevance.to(maps.dtype)
    low = torch.minimum(maps.amin((-2, -1)), relevance.masked_fill(~context_all, torch.inf).amin(-1))
    high = torch.maximum(maps.amax((-2, -1)), relevance.masked_fill(~context_all, -torch.inf).amax(-1))
    low, high = low[..., None, None], high[..., None, None]
    return torch.where(high > low, (maps - low) / (high - low), 0)


def released_tam(
    tokens: Tensor, logits: Tensor, grid: tuple[int, int], input_length: int, image: Tensor, prompt: Tensor
) -> Tensor:
    """Maps (answer tokens, rows, cols), uint8, of one sample, as the released function returns them round by round.

    tokens : (L,) ids of prompt and answer. logits : (L or L - 1, V), row p the model's output at position p.
    input_length : the position of the first answer token. image, prompt : positions of the image's tokens, row by row,
    and of the user's own prompt words, in order.

    The quirks: the first answer token is explained, as a context, for the id of the last input token; the first prompt
    token for the id likeliest at its position; the first map returned is that of the first prompt token, uncorrected.
    Not kept: where every context repeats the target's word the released function crashes, and a constant window makes
    it NaN; and words are compared by id, not by string.
    Source: Li et al., Token Activation Map, ICCV 2025, released code at 7c7df1d.
    """
    emitting = torch.arange(input_length - 1, len(tokens) - 1, device=tokens.device)
    positions = torch.cat([prompt, emitting])
    words = torch.cat([tokens[prompt], tokens[input_length:]])[None]
    classes = words[0].clone()
    classes[0] = logits[prompt[0]].argmax()
    classes[len(prompt)] = tokens[input_length - 1]
    maps = logits[image][:, classes].relu().T.reshape(1, -1, *grid)
    relevance = logits[positions][:, classes].relu().T[None]
    real = torch.ones_like(words, dtype=torch.bool)
    allowed, before = (context_mask(words, real, real, repeated=repeated) for repeated in (False, True))
    corrected = remove_interference(maps, "relevance", relevance, None, allowed)
    corrected[:, len(prompt)] = maps[:, 0]
    before[:, len(prompt)] = False
    dimmed = joint_normalisation(corrected, relevance, before)[0, len(prompt) :]
    return (255 * rank_gaussian_filter(dimmed)).to(torch.uint8)
