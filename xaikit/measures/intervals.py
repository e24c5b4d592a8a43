"""What means over samples say: bootstrap intervals, who is best, and whether metrics put explainers in the same order."""

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import bootstrap

from .maps import unit_ranks

RESAMPLES = 2000
AT_ONCE = 10_000_000  # values resampled at once, which bounds the memory for many samples and changes no result


def resamples(level: float) -> int:
    """How many resamples an interval of this level needs, so that some twenty lie beyond each of its ends."""
    return max(RESAMPLES, round(40 / (1 - level)))


def oriented(scores: xr.DataArray) -> xr.DataArray:
    """The scores, with their sign turned where lower is better."""
    return -scores if scores.attrs.get("score_direction") == "lower is better" else scores


def mean_interval(values: np.ndarray, seed: int = 0, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and its percentile-bootstrap interval over samples (n,); NaN samples do not count."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return np.nan, np.nan, np.nan
    if np.ptp(values) == 0 or len(values) == 1:
        return values[0], values[0], values[0]
    interval = bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=resamples(level), method="percentile",
        rng=np.random.default_rng(seed), batch=max(1, AT_ONCE // len(values)),
    ).confidence_interval  # fmt: skip
    return values.mean(), interval.low, interval.high


def summary(scores: xr.Dataset, seed: int = 0) -> pd.DataFrame:
    """A row an explainer and metric: mean, low and high end of the 95 % interval over samples."""
    rows = []
    for metric, values in scores.data_vars.items():
        if values.dims != ("sample", "explainer"):
            continue
        for explainer in values.explainer.values:
            mean, low, high = mean_interval(values.sel(explainer=explainer).values, seed)
            rows.append({"explainer": str(explainer), "metric": metric, "mean": mean, "low": low, "high": high})
    return pd.DataFrame(rows)


def as_text(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """The summary as explainers x metrics of "mean [low, high]"."""
    cell = [f"{r['mean']:.{digits}f} [{r['low']:.{digits}f}, {r['high']:.{digits}f}]" for _, r in table.iterrows()]
    wide = table.assign(cell=cell).pivot(index="explainer", columns="metric", values="cell")
    return wide.loc[table.explainer.unique(), table.metric.unique()]


def paired_difference(scores: xr.DataArray, first: str, second: str, seed: int = 0) -> tuple[float, float, float]:
    """Mean of first minus second over samples, with its bootstrap interval."""
    return mean_interval((scores.sel(explainer=first) - scores.sel(explainer=second)).values, seed)


def shared_best(scores: xr.DataArray, seed: int = 0) -> pd.Series:
    """Which explainers are best by the metric's direction, or not significantly worse than the best.

    Not significantly worse means that the bootstrap 95 % interval of the paired difference holds 0. Where no score is
    finite nobody is.
    """
    turned = oriented(scores)
    names = [str(name) for name in scores.explainer.values]
    means = turned.mean("sample").values
    if not np.isfinite(means).any():
        return pd.Series(False, names)
    best = names[int(np.nanargmax(means))]
    low = {name: paired_difference(turned, best, name, seed)[1] for name in names}
    return pd.Series({name: name == best or low[name] <= 0 for name in names})


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
    ranks = np.nan_to_num(unit_ranks(means))  # without an order 0
    correlation = np.einsum("dme,dke->dmk", ranks, ranks)
    low, high = np.percentile(correlation[1:], [2.5, 97.5], axis=0)
    return tuple(pd.DataFrame(table, metrics, metrics) for table in (correlation[0], low, high))
