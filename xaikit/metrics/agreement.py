"""Whether metrics agree on which explainer is better."""

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from .intervals import RESAMPLES, oriented


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
