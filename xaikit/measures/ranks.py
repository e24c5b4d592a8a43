"""Orders: the ranks of places, what follows from them, and whether metrics put explainers in the same order."""

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from .intervals import RESAMPLES, oriented


def ranks(heat: np.ndarray, seed: int = 0) -> np.ndarray:
    """Place of each patch from hottest (0) to coldest, (..., rows * cols); ties in one random order for all."""
    flat = heat.reshape(*heat.shape[:-2], -1)
    shuffle = np.random.default_rng(seed).permutation(flat.shape[-1])
    order = shuffle[np.argsort(-flat[..., shuffle], axis=-1, kind="stable")]
    return np.argsort(order, axis=-1)


def word_ranks(heat: np.ndarray, lengths: np.ndarray, seed: int = 0) -> np.ndarray:
    """Place of each of a prompt's own tokens (n, explainers, tokens) from hottest (0) to coldest, what follows its end
    last. lengths (n,). Ties fall in an order that doesn't depend on the other prompts."""
    place = np.arange(heat.shape[-1])
    tie = np.broadcast_to(np.random.default_rng(seed).random(heat.shape[-1]), heat.shape)
    after = np.broadcast_to((place >= lengths[:, None])[:, None], heat.shape)
    return np.argsort(np.lexsort((tie, -heat, after), axis=-1), axis=-1)


def area_under_curve(fractions: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Trapezoid rule over the last axis."""
    return np.trapezoid(curve, fractions, axis=-1)


def auroc(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """How often, over all pairs along the first axis, a value of ``high`` (n, ...) is above one of ``low`` (m, ...);
    ties count half."""
    together = np.moveaxis(np.concatenate([high, low]), 0, -1)
    return right_above_wrong(together, np.arange(together.shape[-1]) < len(high))


def right_above_wrong(values: np.ndarray, right: np.ndarray, counted: np.ndarray | bool = True) -> np.ndarray:
    """How often, over all pairs along the last axis of one right and one wrong value (..., places), the right one is the
    higher; ties count half. counted : the values that are compared. NaN where there is no such pair."""
    right, wrong = right & counted, ~right & counted
    rank = rankdata(np.where(right | wrong, values, np.inf), axis=-1)  # the others behind all
    count, pairs = right.sum(-1), right.sum(-1) * wrong.sum(-1)
    above = (rank * right).sum(-1) - count * (count + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)


def listed(values: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Values (n, places), NaN after a prompt's end."""
    values = values.reshape(len(values), -1).astype(float)
    return values if lengths is None else np.where(np.arange(values.shape[1]) < lengths[:, None], values, np.nan)


def unit_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, centred and of length 1, so that a product of two is their Spearman correlation.
    NaN values are left out; a flat row is all NaN, since it has no order."""
    ranks = rankdata(values, axis=-1, nan_policy="omit")
    there = np.isfinite(ranks)
    mean = np.where(there, ranks, 0).sum(-1, keepdims=True) / np.maximum(there.sum(-1, keepdims=True), 1)
    centred = np.where(there, ranks - mean, 0)
    length = np.sqrt((centred**2).sum(-1, keepdims=True))
    return np.where(length == 0, np.nan, centred / np.where(length == 0, 1, length))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman correlation (...) of values (..., places), over the places that both have; NaN where one is flat."""
    return (unit_ranks(first) * unit_ranks(second)).sum(-1)


def rank_agreement(
    measured: xr.Dataset, metrics: list[str], seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Spearman correlation over explainers between the mean scores of each two metrics, so that 1 means the same order
    of explainers, best first.

    Returns three tables (metrics x metrics): the correlation, and the low and high end of its bootstrap 95 % interval
    over samples. Raises ValueError for fewer than three explainers, which have no order to speak of, and for a metric
    without a finite score of one of them.
    """
    if measured.sizes["explainer"] < 3:
        raise ValueError(f"{measured.sizes['explainer']} explainers: at least 3 are needed for a rank correlation")
    values = np.stack([oriented(measured[metric]).values for metric in metrics])  # (metric, sample, explainer)
    nothing = [metric for metric, v in zip(metrics, values, strict=True) if not np.isfinite(v).any(0).all()]
    if nothing:
        raise ValueError(f"{nothing[0]} has no finite score of some explainer, so it gives no order: leave it out")
    n = values.shape[1]
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES)  # how often each sample is drawn
    there = np.isfinite(values)
    weights = np.concatenate([np.ones((1, n), int), draws]).astype(float)
    total = np.einsum("dn,mne->dme", weights, np.where(there, values, 0))
    means = total / np.maximum(np.einsum("dn,mne->dme", weights, there), 1)
    ranks = rankdata(means, axis=-1)
    ranks = ranks - ranks.mean(-1, keepdims=True)
    length = np.sqrt((ranks**2).sum(-1, keepdims=True))
    ranks = ranks / np.where(length == 0, 1, length)
    correlation = np.einsum("dme,dke->dmk", ranks, ranks)
    low, high = np.percentile(correlation[1:], [2.5, 97.5], axis=0)
    return tuple(pd.DataFrame(table, metrics, metrics) for table in (correlation[0], low, high))
