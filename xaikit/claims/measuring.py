"""What was measured of each claim, and the verdict that follows."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import binomtest

from ..metrics.hallucination import auroc
from ..metrics.intervals import mean_interval, resamples
from .comparisons import (
    COMPARISONS,
    DIRECTIONS,
    FAILS,
    FEWEST,
    HOLDS,
    ROUNDING,
    SINGLES,
    UNDECIDED,
    Comparison,
    Difference,
    Separation,
    Single,
)


def verdict(low: float, high: float, direction: str, bound: float = 0.0) -> str:
    """Whether an effect with this interval is what was claimed.

    direction: "higher" or "lower" than ``bound``, or "equal" to 0 within it. Cannot be decided where the interval holds
    the bound, or isn't finite. Raises ValueError for another direction.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction={direction!r}: choose from {', '.join(DIRECTIONS)}")
    if direction == "equal":
        holds, fails = -bound <= low and high <= bound, low > bound or high < -bound
    else:
        above, below = low > bound + ROUNDING, high < bound - ROUNDING
        holds, fails = (above, below) if direction == "higher" else (below, above)
    return HOLDS if holds else FAILS if fails else UNDECIDED


def map_change(first: xr.DataArray, second: xr.DataArray) -> np.ndarray:
    """The largest difference of two maps of each sample (n,), relative to the first one's peak; infinite where only the
    first is flat zero."""
    dims = [dim for dim in first.dims if dim != "sample"]
    change, peak = abs(first - second).max(dims).values, abs(first).max(dims).values
    return np.divide(change, peak, where=peak > 0, out=np.where(change > 0, np.inf, 0.0))


def time_ratios(first: str, second: str, clip, images, texts, rounds: int = FEWEST) -> np.ndarray:
    """Time of one method over that of another on the same pairs (rounds,), the two in turn after a first run of each;
    takes what ``explain`` takes, and raises what it raises."""
    from ..explaining import explain  # torch is loaded only where something is explained

    def seconds(name: str) -> float:
        start = time.perf_counter()
        explain(name, clip, images, texts)
        return time.perf_counter() - start

    times = np.array([[seconds(name) for name in (first, second)] for _ in range(rounds + 1)])[1:]
    return times[:, 0] / times[:, 1]


def applies(method: str, models: Sequence[str], side: str = "image") -> np.ndarray:
    """1 for each model (an architecture that open_clip knows, with random weights) whose tower the method explains,
    else 0, (models,)."""
    from ..explainers.registry import explaining
    from ..loading import load_clip

    def explained(name: str) -> bool:
        try:
            return method in explaining(load_clip(name), side)
        except ValueError:  # a tower without transformer blocks
            return False

    return np.array([float(explained(name)) for name in models])


def measure(
    claims: pd.DataFrame,
    images: Mapping[str, xr.Dataset],
    words: Mapping[str, xr.Dataset] | None = None,
    scenes: Mapping[str, xr.Dataset] | None = None,
    values: Mapping[str, object] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """What was measured of each claim of ``COMPARISONS`` and ``SINGLES``.

    Parameters
    ----------
    claims : rows of ``ledger()``; others are not looked at.
    images, words : what ``evaluate`` gives for maps of the image, and of the text, by suite: "mixed" for the default
        scenes, "ablation" for ``VARIANTS`` on them, and the names of ``scenes.SUITES``.
    scenes : the scenes by suite, where a claim needs their number of objects.
    values : for claims of ``SINGLES``, values (n,), or several by name, readings of a claim that leaves open what it
        means, of which that counts for which it holds best; or the groups that ``Difference`` and ``Separation`` take.

    Returns
    -------
    A row a claim: measured, low, high (the 95 % interval), n, verdict, note. Where a claim is about many baselines or
    suites it is the one for which it holds least, and the intervals hold for all at once (Bonferroni): the claim holds if
    it does for all, and does not if it doesn't for one. What was not computed is named in the note: without it a claim
    can fail, but not hold; a claim of which nothing was computed has only a note.

    Raises ValueError for an unknown claim in ``values``.
    """
    strange = sorted({*(values or {})} - {*SINGLES})
    if strange:
        raise ValueError(f"values for {strange[0]!r}, which is none of {', '.join(SINGLES)}")
    rows = []
    for claim in claims.claim:
        if claim in COMPARISONS:
            test = COMPARISONS[claim]
            rows.append(
                {"claim": claim, **_compared(test, (images if test.of == "image" else words) or {}, scenes or {}, seed)}
            )
        elif claim in SINGLES and claim in (values or {}):
            rows.append({"claim": claim, **_valued(SINGLES[claim], values[claim], seed)})
    columns = ["claim", "measured", "low", "high", "n", "verdict", "note"]
    return pd.DataFrame(rows, columns=columns).astype({"measured": float, "low": float, "high": float, "n": float})


def _valued(test: Single | Difference | Separation, values, seed: int) -> dict:
    if isinstance(test, Single):
        return _readings(test, values, seed) if isinstance(values, Mapping) else _single(test, values, seed)
    if isinstance(test, Separation):
        mean, low, high, note = _separated(values, seed)
        n = values[0].sizes["sample"]
    else:
        groups = [np.asarray(group, float) for group in values]
        mean, low, high = _difference_interval(*groups, seed, 0.95)
        n, note = min(int(np.isfinite(group).sum()) for group in groups), ""
    found = verdict(low, high, test.direction, test.bound) if n >= FEWEST else UNDECIDED
    return {"measured": mean, "low": low, "high": high, "n": n, "verdict": found, "note": note}


def _separated(groups: Sequence[xr.Dataset], seed: int) -> tuple[float, float, float, str]:
    """AUROC of the statistic that tells the first two groups apart best, turned so that it is above 0.5, less that of the
    other two, with its interval over scenes; and which one it is."""
    names = list(groups[0].data_vars)
    values = [np.stack([group[name].values.astype(float) for name in names], 1) for group in groups]
    (n, k), own = values[0].shape, auroc(*values[:2])
    sign = np.where(own >= 0.5, 1, -1)
    values = [group * sign for group in values]

    def score(index) -> np.ndarray:
        parts = [group[index] for group in values]
        return auroc(*parts[:2]) - (auroc(*parts[2:]) if parts[2:] else 0)

    found = score(np.arange(n))
    best = int(found.argmax())
    values = [group[:, best] for group in values]
    drawn = np.random.default_rng(seed).integers(n, size=(n, resamples(1 - 0.05 / k)))
    low, high = np.quantile(score(drawn), [0.025 / k, 1 - 0.025 / k])
    return float(found[best]), low, high, f"{names[best]}, best of {', '.join(names)}"


def _readings(test: Single, values: Mapping[str, np.ndarray], seed: int) -> dict:
    """The reading of a claim for which it holds best, or least where every one must hold, with an interval that holds for
    all readings (Bonferroni). The claim fails where it does in all of them, or then in one; readings of too few values
    don't count beside others."""
    rows = {name: _single(test, each, seed, 1 - 0.05 / len(values)) for name, each in values.items()}
    sign = 1 if test.direction == "higher" else -1
    reach = {
        name: row["low"]
        if sign > 0
        else -row["high"]
        if test.direction == "lower"
        else -max(abs(row["low"]), abs(row["high"]))
        for name, row in rows.items()
    }
    ranks = {HOLDS: 2, UNDECIDED: 1, FAILS: 0}
    order = {name: (row["n"] >= FEWEST, row["n"] > 0, ranks[row["verdict"]], reach[name]) for name, row in rows.items()}
    best = min(order, key=lambda name: order[name][2:]) if test.every else max(order, key=order.get)
    each = ", ".join(
        f"{name} {row['measured']:+.3f}{' (too few values)' * (row['n'] < FEWEST)}" for name, row in rows.items()
    )
    return rows[best] | {"note": f"{best}, of {each}"}


def _single(test: Single, values: np.ndarray, seed: int, level: float = 0.95) -> dict:
    values = np.asarray(values, float)
    known = values[np.isfinite(values)]
    n = len(known)
    if test.worst:
        mean = low = high = {"higher": np.min, "lower": np.max, "equal": lambda v: np.abs(v).max()}[test.direction](
            values
        )
    elif test.share and n:  # resampling would give shares of 0 and 1 no width
        mean, interval = known.mean(), binomtest(int(known.sum()), n).proportion_ci(level, method="wilson")
        low, high = interval.low, interval.high
    else:
        mean, low, high = mean_interval(values, seed, level)
    found = verdict(low, high, test.direction, test.bound) if test.worst or n >= FEWEST else UNDECIDED
    note = "the worst of all" if test.worst else ""
    return {"measured": mean, "low": low, "high": high, "n": n, "verdict": found, "note": note}


def _compared(test: Comparison, suites: Mapping[str, xr.Dataset], scenes: Mapping[str, xr.Dataset], seed: int) -> dict:
    pairs, missing = [], []
    for suite in test.suites:
        scores = suites.get(suite, xr.Dataset()).get(test.metric)
        there = [] if scores is None else scores.explainer.values.tolist()
        if test.first not in there or (test.above is not None and suite not in scenes):
            missing.append(f"suite {suite}")
            continue
        pairs += [(suite, second, scores) for second in test.second or (None,) if second is None or second in there]
        missing += [second for second in test.second if second not in there]
    note = f"not measured: {', '.join(dict.fromkeys(missing))}" if missing else ""
    if not pairs:
        return {"note": note}
    sign = 1 if test.direction == "higher" else -1
    found = []
    for suite, second, scores in pairs:
        own = scores.sel(explainer=test.first)
        difference = (own if second is None else own - scores.sel(explainer=second)).values.astype(float)
        level = 1 - 0.05 / len(pairs)
        if test.above is None:
            interval = mean_interval(difference, seed, level)
        else:
            many = (scenes[suite].object_name != "").sum("object").values > test.above
            interval = _difference_interval(difference[many], difference[~many], seed, level)
        found.append((*interval, int(np.isfinite(difference).sum()), suite, second))
    # The one for which the claim holds least: whose interval reaches least far to the claim's side.
    enough = [row for row in found if row[3] >= FEWEST] or found
    reach = [np.inf if np.isnan(row[0]) else row[2] if sign > 0 else -row[1] for row in enough]
    mean, low, high, n, suite, second = enough[int(np.argmin(reach))]
    verdicts = [verdict(row[1], row[2], test.direction, test.bound) if row[3] >= FEWEST else UNDECIDED for row in found]
    few = sorted({row[4] for row in found if row[3] < FEWEST})
    if few:
        note = f"{note}; " * bool(note) + f"fewer than {FEWEST} scenes to decide by: {', '.join(few)}"
    overall = FAILS if FAILS in verdicts else HOLDS if set(verdicts) == {HOLDS} and not missing else UNDECIDED
    if len(pairs) > 1:
        against = f"against {second} on {suite}; holds in {verdicts.count(HOLDS)} of {len(pairs)}, fails in {verdicts.count(FAILS)}"
        note = f"{against}; {note}" if note else against
    return {"measured": mean, "low": low, "high": high, "n": n, "verdict": overall, "note": note}


def _difference_interval(many: np.ndarray, few: np.ndarray, seed: int, level: float) -> tuple[float, float, float]:
    """Mean of one group minus that of another, and its bootstrap interval over both."""
    rng = np.random.default_rng(seed)
    groups = [group[np.isfinite(group)] for group in (many, few)]
    if not all(map(len, groups)):
        return np.nan, np.nan, np.nan
    draws = resamples(level)
    many, few = (group[rng.integers(len(group), size=(draws, len(group)))].mean(1) for group in groups)
    low, high = np.quantile(many - few, [(1 - level) / 2, (1 + level) / 2])
    return groups[0].mean() - groups[1].mean(), low, high
