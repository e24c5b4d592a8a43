"""What earlier tokens light up is taken off the map of a later one: TAM's causal inference, and ARC's weightings.

Matrices (n, targets, contexts) have a row for each token whose map is corrected (the target, t) and a column for each
token of the text (the contexts, k).
"""

import torch
from torch import Tensor

from ..checks import check_choices

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
    before = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril(-1)
    mask = before & real[:, :, None] & real[:, None, :]
    if not repeated:
        mask &= ids[:, :, None] != ids[:, None, :]
    return mask if prompt_context else mask & is_answer[:, None, :]


def context_weights(
    weighting: str, relevance: Tensor, overlap: Tensor | None, allowed: Tensor, threshold: float = 0.5
) -> Tensor:
    """Weights >= 0 of the contexts' maps, not normalised, 0 where not allowed; of relevance's shape and type.

    weighting : a name of ``WEIGHTINGS``. relevance : (n, targets, T), r[t, k] = ReLU(logit of t's class at the state of
    k). overlap : rho, same shape, from 0 to 1; only "relevance" does without (None). allowed : same shape, bool.
    threshold : of "incoherent". Raises ValueError for an unknown weighting, and where the overlap is needed and missing.
    Source: TAM eq. 2 for "relevance"; the others read MSEA and ARC (arXiv 2509.22415), section 3.3, whose form is not known.
    """
    check_choices(weighting=(weighting, tuple(WEIGHTINGS)))
    if weighting == "relevance":
        return relevance * allowed
    if overlap is None:
        raise ValueError(f"weighting={weighting!r} needs the overlap of the rankings: only 'relevance' does without")
    overlap = overlap.to(relevance.dtype)
    weights = {
        "irrelevance": lambda: 1 - overlap,
        "damped": lambda: relevance * (1 - overlap),
        "agreement": lambda: overlap,
        "damped_fixed": lambda: relevance * (1 - overlap),
        "incoherent": lambda: relevance * (overlap < threshold),
    }[weighting]()
    return weights * allowed


def interference(
    maps: Tensor,
    weights: Tensor,
    allowed: Tensor,
    least_squares: bool = True,
    scale_weights: Tensor | None = None,
    targets: slice = slice(None),
) -> Tensor:
    """Maps (n, targets, rows, cols) of the targets without what their contexts light up: ReLU(A - s E).

    E is the mean of the contexts' maps with ``weights``, s >= 0 the scale that minimises ||A - s E||^2, or 1 for
    least_squares=False. Where E is 0, A stays.

    maps : (n, T, rows, cols), raw, >= 0. weights, allowed : (n, targets, T); weights >= 0, counted where allowed.
    scale_weights : like the weights; where given, s is fitted with these and the weights are divided by their sum, so
    that smaller weights remove less (with the weights alone, only their direction counts).
    targets : the tokens that the rows belong to. Source: TAM eqs. 2 to 5.
    """
    allowed = allowed.to(maps.dtype)
    fitted = (weights if scale_weights is None else scale_weights).to(maps.dtype) * allowed
    total = fitted.sum(-1, keepdim=True) + EPSILON
    flat = maps.flatten(2)
    own, estimate = flat[:, targets], (fitted / total) @ flat
    scale = 1.0
    if least_squares:
        square = (estimate**2).sum(-1, keepdim=True)
        product = (own * estimate).sum(-1, keepdim=True)
        scale = torch.where(square > 0, product / square, 0).clamp(min=0)
    if scale_weights is not None:
        estimate = (weights.to(maps.dtype) * allowed / total) @ flat
    return (own - scale * estimate).relu().unflatten(-1, maps.shape[-2:])


def remove_interference(
    maps: Tensor,
    weighting: str,
    relevance: Tensor,
    overlap: Tensor | None,
    allowed: Tensor,
    threshold: float = 0.5,
    least_squares: bool = True,
    targets: slice = slice(None),
) -> Tensor:
    """``interference`` with the ``context_weights`` of that weighting, "damped_fixed" with the scale of "relevance"."""
    weights = context_weights(weighting, relevance, overlap, allowed, threshold)
    scale_weights = relevance if weighting == "damped_fixed" else None
    return interference(maps, weights, allowed, least_squares, scale_weights, targets)


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
