"""Whether context tokens that name the same object predict alike: the claim behind ARC's weights."""

import numpy as np
from scipy.stats import rankdata


def context_auroc(overlap: np.ndarray, token_object: np.ndarray, token_class: np.ndarray | None = None) -> np.ndarray:
    """How often (n,) two tokens on one object overlap more than two on different objects; ties count half; 0.5 is chance.

    overlap (n, T, T), of each token (row) with each context token before it (column), such as the rank-biased overlap of
    their predictions; token_object (n, T) as in ``planted_word_scores``. Over all pairs of such pairs of a sample; tokens
    on no object don't count. token_class (n, T): such as ``word_classes`` gives; only pairs of tokens of two classes count
    then. One object's words are of different classes, and what comes next depends on the class above all, so that
    without it words of one class, of different objects, overlap most. NaN where a sample lacks pairs of one of both kinds.

    Raises ValueError for shapes that don't fit, and for overlaps of object words that aren't finite.
    """
    n, tokens = token_object.shape
    if overlap.shape != (n, tokens, tokens):
        raise ValueError(f"overlap of shape {overlap.shape}: {(n, tokens, tokens)} is needed for these tokens")
    target, context = np.tril_indices(tokens, -1)
    first, second, value = token_object[:, target], token_object[:, context], overlap[:, target, context]
    counted = (first >= 0) & (second >= 0)
    if token_class is not None:
        counted &= token_class[:, target] != token_class[:, context]
    if not np.isfinite(value[counted]).all():
        raise ValueError("the overlap of some object words is NaN or infinite: it must be finite")
    same = counted & (first == second)
    together, apart = same.sum(-1), (counted & ~same).sum(-1)
    rank = rankdata(np.where(counted, value, np.inf), axis=-1) if len(target) else np.zeros_like(value)
    pairs = together * apart
    above = (rank * same).sum(-1) - together * (together + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)
