"""What means over samples say: their intervals, who is best, and whether metrics put explainers in the same order."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ..files.names import spelled
from ..files.schema import LOWER, NEITHER
from .estimates import RESAMPLES, UNBOUNDED, Estimate, discoveries, finite, mean_of, wilson
from .maps import unit_ranks

RATE = 0.05  # of the differences that are called significant the share that is expected not to be


def oriented(scores: xr.DataArray) -> xr.DataArray:
    """The scores, with their sign turned where lower is better. Raises ValueError where neither end is better."""
    direction = scores.attrs.get("score_direction")
    if direction == NEITHER:
        raise ValueError(f"{scores.name}: neither end is better, so nothing can be ranked by it")
    return -scores if direction == LOWER else scores


def mean_interval(
    values: np.ndarray, level: float = 0.95, whole: float = 0.0, limits: tuple[float, float] | None = None
) -> tuple[float, float, float]:
    """Mean and its interval over samples (n,), Student's t, as ``estimates.mean_of`` has it; NaN samples do not count.

    whole, limits : as there: what a hit counts of a difference of scores that are all or nothing, and the ends that it can't
    pass. The ends are NaN of fewer than two samples, which say nothing of them.

    Examples
    --------
    >>> [round(float(each), 2) for each in mean_interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.48, 4.48]
    """
    found = mean_of(values, whole, limits)
    return float(found.value), *found.interval(level)


def share_interval(values: np.ndarray, whole: float = 1.0) -> tuple[float, float, float]:
    """Mean and Wilson's 95 % interval of values (n,) that are 0 or ``whole``, a tie something between; NaN ones don't count.

    A bootstrap gives 1.00 [1.00, 1.00] for 32 hits of 32, as if a miss were impossible.

    Examples
    --------
    >>> [round(float(each), 2) for each in share_interval(np.ones(32))]
    [1.0, 0.89, 1.0]
    """
    values = finite(values)
    if len(values) == 0:
        return np.nan, np.nan, np.nan
    low, high = wilson(values.mean() / whole, len(values))
    return values.mean(), whole * low, whole * high


def score_interval(
    values: np.ndarray, whole: float | None = None, limits: tuple[float, float] | None = None
) -> tuple[float, float, float]:
    """Mean and 95 % interval of a metric's scores (n,): of one that is all or nothing ``share_interval``, else ``mean_interval``
    within the limits. whole, limits : the metric's attributes, None for those that the scores (a DataArray) have."""
    about = getattr(values, "attrs", {})
    whole, limits = whole or about.get("whole"), about.get("limits") if limits is None else limits
    return share_interval(values, whole) if whole else mean_interval(values, limits=limits)


def interval_text(mean: float, low: float, high: float, digits: int = 3, signed: bool = False) -> str:
    """An interval as tables and titles show it; signed : with its sign also above zero, as of differences.

    Examples
    --------
    >>> interval_text(0.12345, 0.1, 0.2), interval_text(0.12345, -0.1, 0.2, digits=2, signed=True)
    ('0.123 [0.100, 0.200]', '+0.12 [-0.10, +0.20]')
    >>> interval_text(-0.0001, -0.01, 0.01), interval_text(0.01, -0.0001, 0.02)
    ('0.000 [-0.010, 0.010]', '0.010 [-0.000, 0.020]')
    """
    form = f"{{:{'+' if signed else ''}.{digits}f}}"
    ends = "" if np.isnan([low, high]).all() else f" [{form}, {form}]"  # a single sample has none
    # Where 0 lies within, a mean of "-0.000" says nothing; an end always says on which side of 0 it lies.
    of_mean = form if low * high > 0 else form.replace(".", "z.")
    return f"{of_mean}{ends}".format(mean, low, high)


def mean_text(
    values: np.ndarray, digits: int = 2, signed: bool = False, limits: tuple[float, float] | None = None
) -> str:
    """``mean_interval`` of values (n,) as text.

    Examples
    --------
    >>> mean_text(np.array([1.0, 2.0, 3.0]))
    '2.00 [-0.48, 4.48]'
    """
    return interval_text(*mean_interval(values, limits=limits), digits, signed)


def summary(scores: xr.Dataset) -> pd.DataFrame:
    """A row an explainer and metric: mean, low and high end of the 95 % interval over samples."""
    rows = []
    for metric, values in scores.data_vars.items():
        if values.dims != ("sample", "explainer"):
            continue
        for explainer in values.explainer.values:
            mean, low, high = score_interval(values.sel(explainer=explainer))
            rows.append({"explainer": str(explainer), "metric": metric, "mean": mean, "low": low, "high": high})
    return pd.DataFrame(rows)


def as_text(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """The summary as explainers x metrics of "mean [low, high]"."""
    cell = [interval_text(*row, digits) for row in table[["mean", "low", "high"]].itertuples(index=False)]
    wide = table.assign(cell=cell).pivot(index="explainer", columns="metric", values="cell")
    return wide.loc[table.explainer.unique(), table.metric.unique()]


def paired_difference(scores: xr.DataArray, first: str, second: str) -> tuple[float, float, float]:
    """Mean of first minus second over samples, with its interval."""
    found = difference_in(scores, first, second)
    return found.value, *found.interval()


def difference_in(scores: xr.DataArray, first: str, second: str) -> Estimate:
    """First minus second, paired over samples, as an estimate.

    Examples
    --------
    >>> scores = xr.DataArray([[0.9, 0.1], [0.8, 0.2]], {"explainer": ["mmel", "edge"]}, ("sample", "explainer"))
    >>> round(float(difference_in(scores, "mmel", "edge").value), 2)
    0.7
    """
    difference = scores.sel(explainer=first) - scores.sel(explainer=second)
    low, high = scores.attrs.get("limits", UNBOUNDED)
    return mean_of(difference.values, scores.attrs.get("whole", 0.0), (low - high, high - low))


def verdicts(scores: xr.Dataset, metrics: Sequence[str], against: Mapping[str, str]) -> pd.DataFrame:
    """Whether explainers are "better" or "worse" than those that they are compared with, or "not told apart": a row an
    explainer, a column a metric.

    A t test of the paired difference, with false discoveries among all that is compared kept to ``RATE``. against : for each
    explainer the one that is subtracted.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal([0.9, 0.1], 0.1, (40, 2))
    >>> scores = xr.Dataset({"energy": (("sample", "explainer"), values)}, {"explainer": ["mmel", "edge"]})
    >>> verdicts(scores, ["energy"], {"mmel": "edge"}).energy.tolist()
    ['better']
    """
    found = [[difference_in(oriented(scores[metric]), *pair) for metric in metrics] for pair in against.items()]
    chances = np.array([[[each.above(0), each.below(0)] for each in row] for row in found])
    clear = discoveries(np.minimum(1, 2 * chances.min(-1))) <= RATE
    told = np.where(clear, np.where(chances.argmin(-1) == 0, "better", "worse"), "not told apart")
    return pd.DataFrame(told, [*against], [*metrics])


def above_controls(scores: xr.Dataset, metrics: Sequence[str], controls: Sequence[str]) -> pd.DataFrame:
    """How far each explainer is above the control that it beats by the least certain margin on each metric, more always being better:
    explainers x metrics of ``Estimate``, paired over samples.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal([0.9, 0.1, 0.2], 0.01, (40, 3))
    >>> scores = xr.Dataset({"energy": (("sample", "explainer"), values)}, {"explainer": ["mmel", "edge", "centre"]})
    >>> round(float(above_controls(scores, ["energy"], ["edge", "centre"]).energy["mmel"].value), 1)
    0.7
    """
    names = [str(name) for name in scores.explainer.values if name not in controls]
    found = pd.DataFrame(index=names, columns=list(metrics), dtype=object)
    for metric in metrics:
        turned = oriented(scores[metric])
        for name in names:
            found.at[name, metric] = max(
                (difference_in(turned, name, control) for control in controls), key=lambda pair: pair.above(0)
            )
    return found


def surely_above(found: pd.DataFrame, rate: float = RATE) -> pd.DataFrame:
    """Which of these estimates lie above 0 by a t test, with false discoveries among all of them kept to ``rate``."""
    chances = found.map(lambda each: min(1.0, 2 * each.above(0))).astype(float)
    return pd.DataFrame(discoveries(chances.to_numpy()) <= rate, found.index, found.columns)


def stars(found: pd.DataFrame, rate: float = RATE) -> tuple[pd.DataFrame, str]:
    """Where the explainers of ``above_controls`` are significantly above all controls (explainers x metrics of bool), and who is on the
    most metrics, as a title says it.

    Examples
    --------
    >>> above, level = (Estimate(value, 0.01, 39, 40) for value in (0.7, 0.0))
    >>> stars(pd.DataFrame({"energy": [above, above], "auroc": [above, level]}, ["clip_surgery", "edge"]))[1]
    '2 of 2: CLIP Surgery'
    """
    sure = surely_above(found, rate)
    count = sure.sum(axis=1)
    most = listed(count.index[count == count.max()]) if count.any() else "none on any"
    return sure, f"{count.max()} of {sure.shape[1]}: {most}"


def listed(names: Sequence[str], last: str = "") -> str:
    """Explainers' names as a text has them, the last of them after a word such as "and"; by semicolons where a name has a comma.
    Of no name "none".

    Examples
    --------
    >>> listed(["srm", "grad_eclip", "rise"], "and"), listed(["srm", "mmel, last block", "rise"]), listed([])
    ('SRM, Grad-ECLIP and RISE', 'SRM; MMEL, last block; RISE', 'none')
    """
    if not len(names):
        return "none"
    *names, end = (spelled(name) for name in names)
    mark, word = ("; ", "; ") if any("," in name for name in (*names, end)) else (", ", " ")
    before = f"{word}{last} " if last else mark
    return before.join([mark.join(names), end]) if names else end


def leaders(scores: xr.DataArray, among: Sequence[str] | None = None, rate: float = RATE) -> list[str]:
    """The explainer with the best mean and, after it, those that it isn't significantly above: any of them may be the best.

    Paired t tests over samples of the best against each other one, with false discoveries among them kept to ``rate``. among :
    the explainers that are asked about (without controls, say), None for all. One without a finite score doesn't count, and
    the list is empty where none has any.

    Examples
    --------
    >>> values = np.random.default_rng(1).normal([0.1, 0.9, 0.9], 0.1, (40, 3))
    >>> scores = xr.DataArray(values, {"explainer": ["edge", "grad_eclip", "rise"]}, ("sample", "explainer"))
    >>> leaders(scores)
    ['grad_eclip', 'rise']
    """
    turned = oriented(scores if among is None else scores.sel(explainer=list(among)))
    means = turned.mean("sample").to_series().dropna().sort_values(ascending=False, kind="stable")
    names = [str(name) for name in means.index]
    chances = np.array([2 * difference_in(turned, names[0], other).above(0) for other in names[1:]])
    clear = discoveries(chances.clip(max=1)) <= rate
    return names[:1] + [other for other, above in zip(names[1:], clear, strict=True) if not above]


def leaders_text(scores: xr.DataArray, among: Sequence[str] | None = None, most: int = 4) -> str:
    """``leaders`` as a title names them, at most so many by name, and of more that are all that were compared the first alone:
    nobody is called the best of those that can't be told apart.

    Examples
    --------
    >>> values = np.random.default_rng(1).normal([0.1, 0.9, 0.9], 0.1, (40, 3))
    >>> scores = xr.DataArray(values, {"explainer": ["edge", "grad_eclip", "rise"]}, ("sample", "explainer"))
    >>> leaders_text(scores), leaders_text(scores, ["grad_eclip", "edge"])
    ('Grad-ECLIP and RISE (no difference found)', 'Grad-ECLIP')
    """
    names = leaders(scores, among)
    if not names:
        return "none that was measured"
    compared = scores if among is None else scores.sel(explainer=list(among))
    if len(names) > most and len(names) == int(compared.notnull().any("sample").sum()):
        return f"{listed(names[:1])} (no difference from the other {len(names) - 1} found)"
    named = names if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    return listed(named, "and") + " (no difference found)" * (len(named) > 1)


def over_groups(groups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over groups (such as trained models) of the means of their samples, with its 95 % interval, each of k columns.

    groups : values (n, k) of each, whose n may differ; NaN ones don't count. The interval is Student's t over the groups'
    means, for it is of groups that weren't seen: with two of them it is very wide. Of a single group it is that of its samples.

    Examples
    --------
    >>> mean, low, high = over_groups([np.full((4, 1), each) for each in (0.2, 0.3, 0.4)])
    >>> [round(float(each[0]), 2) for each in (mean, low, high)]
    [0.3, 0.05, 0.55]
    """
    columns = np.stack([np.nanmean(values, axis=0) for values in groups]).T if len(groups) > 1 else groups[0].T
    return tuple(np.array([mean_interval(column) for column in columns]).T)


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
