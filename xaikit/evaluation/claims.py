"""The ledger of the papers' claims, ``data/claims.csv``: its rules, and the verdicts that measurements give by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import binomtest

from ..files.paths import data_folder
from ..files.store import annotate
from ..measures.intervals import mean_interval, resamples
from ..measures.maps import auroc

HOLDS, FAILS, UNDECIDED = "holds here", "does not hold here", "cannot be decided here"
INCONSISTENT, UNTESTABLE = "inconsistent in the paper", "cannot be tested here"
DIRECTIONS = ("higher", "lower", "equal")
FEWEST = 10  # scenes: a bootstrap over fewer is too narrow to decide by
ROUNDING = 1e-6  # an interval this near to the bound holds it: scores are float32

UNCORRECTED = "nothing taken off"  # a label of token methods: the steps of TAM and ARC but for their correction
TEXTS = ("paper", "where", "text", "claimed", "statement_tested", "notebook")
MEASURED = ("measured", "low", "high", "n", "verdict", "note")  # of a claim, by ``measure``


@dataclass(frozen=True)
class Rule:
    """What must show for a claim to hold, as its row of the ledger says.

    kind : "compared", ``first`` minus each of ``second`` on each of ``suites`` by ``metric``, paired over samples, or
        without a second the metric of the first itself. The others are about values that are measured elsewhere:
        "mean" of values (n,), the "worst" of them, or the "share" of those that are 1, not 0; "every": a mean of which
        all readings must hold, not the best; "groups": the mean of one group minus that of another, values (n,) and (m,);
        "separated": that a statistic tells two groups of the same n scenes apart, values two datasets of k statistics
        over sample, or four, the latter two of a control whose AUROC is taken off.
    direction, bound : see ``verdict``. For "separated" the bound of the AUROC, turned so that it is above 0.5, or with a
        control of the difference.
    of : "image" or "text". above : what counts is the change from scenes of up to this many objects to scenes of more.
    """

    kind: str
    direction: str
    bound: float
    first: str = ""
    second: tuple[str, ...] = ()
    metric: str = ""
    of: str = ""
    suites: tuple[str, ...] = ()
    above: int | None = None

    def __str__(self) -> str:
        """Such as "mmel - grad_eclip: deletion_auc lower than 0"."""
        limit = f"{self.direction} than {self.bound:g}"
        if self.direction == "equal":
            limit = f"equal to 0 within {self.bound:g}"
        if self.kind == "groups":
            return f"first group - second: {limit}"
        if self.kind == "separated":
            return f"AUROC{' - that of the control' if self.bound == 0 else ''} {limit}"
        if self.kind != "compared":
            return limit
        others = f" - {'each of ' * (len(self.second) > 1)}{', '.join(self.second)}" if self.second else ""
        change = f", change above {self.above} objects" if self.above is not None else ""
        return f"{self.first}{others}: {self.metric}{change} {limit}"


def ledger() -> pd.DataFrame:
    """A row a claim: its id, paper, where it stands, text, the number claimed, how it is tested, the notebook that does
    so (by its name without the number), the columns of its ``Rule``, and why it can't be tested where it can't. All are
    strings.

    Examples
    --------
    >>> str(rules(ledger())["mmel-deletion"])
    'mmel - grad_eclip: deletion_auc lower than 0'
    """
    return pd.read_csv(data_folder() / "claims.csv", dtype=str, keep_default_na=False)


def rules(claims: pd.DataFrame) -> dict[str, Rule]:
    """The rule of each claim, of rows of ``ledger()``, that is decided by a measurement."""
    found = {}
    for row in claims[claims.kind != ""].itertuples():
        second, suites = (tuple(filter(None, names.split("; "))) for names in (row.second, row.suites))
        above = int(row.above) if row.above else None
        found[row.claim] = Rule(
            row.kind, row.direction, float(row.bound), row.first, second, row.metric, row.of, suites, above
        )
    return found


def verdict(low: float, high: float, direction: str, bound: float = 0.0) -> str:
    """Whether an effect with this interval is what was claimed.

    direction: "higher" or "lower" than ``bound``, or "equal" to 0 within it. Cannot be decided where the interval holds
    the bound, or isn't finite. Raises ValueError for another direction.

    Examples
    --------
    >>> verdict(-0.3, -0.1, "lower"), verdict(-0.1, 0.3, "lower")
    ('holds here', 'cannot be decided here')
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


def measure(
    claims: pd.DataFrame,
    images: Mapping[str, xr.Dataset],
    words: Mapping[str, xr.Dataset] | None = None,
    scenes: Mapping[str, xr.Dataset] | None = None,
    values: Mapping[str, object] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """What was measured of each claim that has a rule.

    Parameters
    ----------
    claims : rows of ``ledger()``.
    images, words : what ``evaluate`` gives for maps of the image, and of the text, by the suites that the rules name.
    scenes : the scenes by suite, where a claim needs their number of objects.
    values : for claims that are not compared what their rule's kind takes: values (n,), or several by name, readings of a
        claim that leaves open what it means, of which that counts for which it holds best; or groups.

    Returns
    -------
    A row a claim: measured, low, high (the 95 % interval), n, verdict, note. Where a claim is about many baselines or
    suites it is the one for which it holds least, and the intervals hold for all at once (Bonferroni): the claim holds if
    it does for all, and does not if it doesn't for one. What was not computed is named in the note: without it a claim
    can fail, but not hold; a claim of which nothing was computed has only a note.

    Raises ValueError for an unknown claim in ``values``.
    """
    values, known = values or {}, rules(claims)
    valued = [claim for claim, test in known.items() if test.kind != "compared"]
    strange = sorted({*values} - {*valued})
    if strange:
        raise ValueError(f"values for {strange[0]!r}, which is none of {', '.join(valued)}")
    rows = []
    for claim, test in known.items():
        if test.kind == "compared":
            suites = (images if test.of == "image" else words) or {}
            rows.append({"claim": claim, **_compared(test, suites, scenes or {}, seed)})
        elif claim in values:
            rows.append({"claim": claim, **_valued(test, values[claim], seed)})
    return pd.DataFrame(rows, columns=["claim", *MEASURED]).astype(dict.fromkeys(MEASURED[:4], float))


def _valued(test: Rule, values, seed: int) -> dict:
    if test.kind not in ("groups", "separated"):
        return _readings(test, values, seed) if isinstance(values, Mapping) else _single(test, values, seed)
    if test.kind == "separated":
        mean, low, high, note = _separated(values, seed)
        n = values[0].sizes["sample"]
    else:
        groups = [np.asarray(group, float) for group in values]
        mean, low, high = _difference_interval(*groups, seed, 0.95)
        n, note = min(int(np.isfinite(group).sum()) for group in groups), ""
    return _decided(test, mean, low, high, n, note)


def _decided(test: Rule, mean: float, low: float, high: float, n: int, note: str) -> dict:
    enough = n >= FEWEST or test.kind == "worst"
    found = verdict(low, high, test.direction, test.bound) if enough else UNDECIDED
    return dict(zip(MEASURED, (mean, low, high, n, found, note), strict=True))


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


def _readings(test: Rule, values: Mapping[str, np.ndarray], seed: int) -> dict:
    """The reading of a claim for which it holds best, or least where every one must hold, with an interval that holds for
    all readings (Bonferroni). The claim fails where it does in all of them, or then in one; readings of too few values
    don't count beside others."""
    rows = {name: _single(test, each, seed, 1 - 0.05 / len(values)) for name, each in values.items()}
    ranks, order = {HOLDS: 2, UNDECIDED: 1, FAILS: 0}, {}
    for name, row in rows.items():
        low, high, n = row["low"], row["high"], row["n"]
        reach = {"higher": low, "lower": -high, "equal": -max(abs(low), abs(high))}[test.direction]
        order[name] = (n >= FEWEST, n > 0, ranks[row["verdict"]], reach)
    best = min(order, key=lambda name: order[name][2:]) if test.kind == "every" else max(order, key=order.get)
    each = ", ".join(
        f"{name} {row['measured']:+.2f}{' (too few values)' * (row['n'] < FEWEST)}" for name, row in rows.items()
    )
    return rows[best] | {"note": f"{best}, of {each}"}


def _single(test: Rule, values: np.ndarray, seed: int, level: float = 0.95) -> dict:
    values = np.asarray(values, float)
    known = values[np.isfinite(values)]
    n = len(known)
    if test.kind == "worst":
        worst = {"higher": values.min(), "lower": values.max(), "equal": np.abs(values).max()}
        mean = low = high = worst[test.direction]
    elif test.kind == "share" and n:  # resampling would give shares of 0 and 1 no width
        mean, interval = known.mean(), binomtest(int(known.sum()), n).proportion_ci(level, method="wilson")
        low, high = interval.low, interval.high
    else:
        mean, low, high = mean_interval(values, seed, level)
    return _decided(test, mean, low, high, n, "the worst of all" if test.kind == "worst" else "")


def _compared(test: Rule, suites: Mapping[str, xr.Dataset], scenes: Mapping[str, xr.Dataset], seed: int) -> dict:
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
    return dict(zip(MEASURED, (mean, low, high, n, overall, note), strict=True))


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


def paper_tables() -> pd.DataFrame:
    """The papers' tables, a row a cell: paper, table ("text" for numbers in the text), dataset, method (there: place),
    column, which values are better, value, spread, and mark (bold, underlined or empty)."""
    known = {name: str for name in ("paper", "table", "dataset", "method", "column", "better", "mark")}
    return pd.read_csv(data_folder() / "paper_tables.csv", dtype=known).fillna({name: "" for name in known})


def fill(claims: pd.DataFrame, measured: pd.DataFrame | None = None, checked: pd.DataFrame | None = None) -> xr.Dataset:
    """The ledger with a verdict a claim, as a dataset of the stage ``claims``: variables over ``claim``.

    measured: rows of ``measure``. checked: rows of claim, consistent and arithmetic, of claims held against the paper's
    own numbers. One that these contradict is inconsistent whatever was measured, and its note has the arithmetic; one
    that is neither measured nor untestable says who fills it.
    Raises ValueError for a measured claim that isn't in the ledger, or is measured twice.
    """
    table = claims.set_index("claim")
    rows = pd.DataFrame(columns=["claim", *MEASURED]) if measured is None else measured
    rows = rows.set_index("claim")
    strange = [*rows.index[~rows.index.isin(table.index)], *rows.index[rows.index.duplicated()]]
    if strange:
        raise ValueError(f"measured claim {strange[0]!r}: it must be in the ledger, and measured once")
    rows = rows.reindex(table.index)
    checked = pd.DataFrame(columns=["claim", "consistent", "arithmetic"]) if checked is None else checked
    checked = checked.set_index("claim").reindex(table.index)
    wrong = checked.consistent.eq(False)
    verdicts = np.select(
        [wrong, table.reason.ne(""), rows.verdict.notna()],
        [INCONSISTENT, UNTESTABLE, rows.verdict.fillna("")],
        "filled by notebook " + table.notebook,
    )
    note = np.select([wrong, table.reason.ne("")], [checked.arithmetic.fillna(""), table.reason], rows.note.fillna(""))
    out = xr.Dataset(coords={"claim": table.index.to_numpy(str)})
    for known, names, kind in ((table, TEXTS, str), (rows, MEASURED[:4], float)):
        for name in names:
            out[name] = ("claim", known[name].to_numpy(kind))
    out["verdict"], out["note"] = ("claim", verdicts.astype(str)), ("claim", note.astype(str))
    known = rules(claims)
    out["holds_if"] = ("claim", [str(known.get(claim, "")) for claim in table.index])
    return annotate(out, "claims")


def measured_in(filled: xr.Dataset) -> pd.DataFrame:
    """The rows of ``measure`` that went into a filled ledger, such as another notebook's, to go on with."""
    rows = filled[list(MEASURED)].to_dataframe().reset_index()
    return rows[rows.n.notna()].reset_index(drop=True)


def readable(filled: xr.Dataset, digits: int = 3) -> pd.DataFrame:
    """A row a claim for reading: paper, place, text, what was claimed, "mean [low, high]" to so many decimals, what makes
    it hold, verdict and note."""
    numbers = zip(*(filled[name].values for name in MEASURED[:3]), strict=True)
    form = f"{{:+.{digits}f}} [{{:+.{digits}f}}, {{:+.{digits}f}}]"
    shown = ["" if np.isnan(row[0]) else form.format(*row) for row in numbers]
    table = filled[["paper", "where", "text", "claimed", "holds_if", "verdict", "note"]].to_dataframe()
    table.insert(4, "measured", shown)
    return table
