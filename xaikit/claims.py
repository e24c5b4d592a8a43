"""The ledger of the papers' claims (``data/claims.csv``): what each says, what was measured here, and whether it holds."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from .metrics.intervals import mean_interval, resamples
from .paper_tables import inconsistencies, paper_tables
from .paths import data_folder
from .store import annotate

HOLDS, FAILS, UNDECIDED = "holds here", "does not hold here", "cannot be decided here"
INCONSISTENT, UNTESTABLE = "inconsistent in the paper", "cannot be tested here"
DIRECTIONS = ("higher", "lower", "equal")
ROUNDING = 1e-6  # an interval this near to the bound holds it: scores are float32

TABLE_1 = ("gradcam", "saliency", "kernel_shap", "rise", "chefer", "m2ib")
TABLE_2 = ("clip_surgery", "m2ib", "grad_eclip")
TABLE_3 = ("raw_attention", "rollout", "m2ib", "grad_eclip")
BASELINES = ("grad_eclip", *TABLE_1, "attention_flow", "raw_attention")  # MMEL, section 4.3
EVERYWHERE = ("mixed", "single", "relation", "attribute", "clutter", "word")
# The explainers of the suite "ablation", on the mixed scenes: method and options of each.
VARIANTS: dict[str, tuple[str, dict]] = {
    "mmel": ("mmel", {}),
    "one scale": ("mmel", {"scales": (1.0,)}),
    "no enhancement": ("mmel", {"alpha": 0.0}),
    "late blocks count more": ("mmel", {"theta_slope": 1.0}),
    "grad_eclip": ("grad_eclip", {}),
    "grad_eclip as released": ("grad_eclip", {"reference": True}),
}


@dataclass(frozen=True)
class Comparison:
    """A claim as a paired difference over samples: ``first`` minus each of ``second``, on each of ``suites``; without a
    second, the metric of the first itself.

    direction, bound: see ``verdict``. of: "image" or "text". above: what counts is its change, from scenes of up to this
    many objects to scenes of more.
    """

    metric: str
    second: tuple[str, ...]
    direction: str
    suites: tuple[str, ...] = ("mixed",)
    first: str = "mmel"
    bound: float = 0.0
    of: str = "image"
    above: int | None = None


@dataclass(frozen=True)
class Single:
    """A claim about values (n,) that are measured elsewhere; worst: about the worst of them instead of their mean."""

    direction: str
    bound: float
    worst: bool = False


_GRAD_ECLIP, _ABLATION = ("grad_eclip",), ("ablation",)
COMPARISONS: dict[str, Comparison] = {
    "mmel-deletion-17": Comparison("deletion_auc", _GRAD_ECLIP, "lower"),
    "mmel-insertion-21": Comparison("insertion_auc", _GRAD_ECLIP, "higher"),
    "mmel-drop-34": Comparison("confidence_drop", _GRAD_ECLIP, "higher"),
    "mmel-deletion": Comparison("deletion_auc", _GRAD_ECLIP, "lower"),
    "mmel-insertion": Comparison("insertion_auc", _GRAD_ECLIP, "higher"),
    "mmel-deletion-lowest": Comparison("deletion_auc", TABLE_2, "lower"),
    "mmel-insertion-competitive": Comparison("insertion_auc", TABLE_2, "higher", bound=-0.01),
    "mmel-deletion-diverse": Comparison("deletion_auc", BASELINES, "lower", EVERYWHERE),
    "mmel-insertion-diverse": Comparison("insertion_auc", BASELINES, "higher", EVERYWHERE),
    "mmel-drop-gradcam": Comparison("confidence_drop", ("gradcam",), "lower"),
    "mmel-increase-gradcam": Comparison("confidence_increase", ("gradcam",), "higher"),
    "mmel-drop-baselines": Comparison("confidence_drop", TABLE_1, "lower"),
    "mmel-increase-baselines": Comparison("confidence_increase", TABLE_1, "higher"),
    "mmel-drop-diverse": Comparison("confidence_drop", TABLE_1, "lower", EVERYWHERE),
    "mmel-increase-diverse": Comparison("confidence_increase", TABLE_1, "higher", EVERYWHERE),
    "mmel-occlusion": Comparison("occlusion", (), "higher"),
    "mmel-text-drop": Comparison("word_confidence_drop", TABLE_1, "lower", of="text"),
    "mmel-text-increase": Comparison("word_confidence_increase", ("kernel_shap",), "higher", bound=-10, of="text"),
    "mmel-text-deletion": Comparison("word_deletion_auc", TABLE_3, "lower", of="text"),
    "mmel-text-insertion": Comparison("word_insertion_auc", TABLE_3, "higher", of="text"),
    "mmel-coverage": Comparison("smallest_share", _GRAD_ECLIP, "higher"),
    "mmel-coverage-relation": Comparison("smallest_share", _GRAD_ECLIP, "higher", ("relation",)),
    "mmel-coverage-clutter": Comparison("smallest_share", _GRAD_ECLIP, "higher", ("clutter",)),
    "mmel-completeness": Comparison("smallest_share", BASELINES, "higher"),
    "mmel-region": Comparison("iou_best", BASELINES, "higher"),
    "mmel-pointing": Comparison("pointing_game", BASELINES, "higher"),
    "mmel-noise": Comparison("energy", BASELINES, "higher"),
    "mmel-word-focus": Comparison("energy", ("m2ib", "grad_eclip"), "higher", ("word",)),
    "mmel-word-region": Comparison("iou_best", ("m2ib", "grad_eclip"), "higher", ("word",)),
    "mmel-clutter-10": Comparison("auroc", (), "lower", ("clutter",), above=10),
    "mmel-clutter-scales": Comparison("auroc", _GRAD_ECLIP, "lower", ("clutter",), above=10),
    "mmel-multiscale": Comparison("insertion_auc", ("one scale",), "higher", _ABLATION),
    "mmel-enhancement": Comparison("insertion_auc", ("no enhancement",), "higher", _ABLATION),
    "mmel-weights-matter": Comparison("insertion_auc", ("mmel",), "higher", _ABLATION, "late blocks count more"),
    "mmel-similarity": Comparison("insertion_auc", _GRAD_ECLIP, "higher", _ABLATION, "no enhancement"),
    "debunk-misaligned": Comparison("deletion_auc", _GRAD_ECLIP, "higher", _ABLATION, "grad_eclip as released"),
}
SINGLES: dict[str, Single] = {
    "mmel-scales-cancel": Single("higher", 0.01),  # change of the map with the scale, scaling="multiply"
    "mmel-sanity": Single("lower", 0.5),  # rank correlation with the maps of a model of random blocks
    "mmel-overhead": Single("lower", 1.15),  # times, mmel over grad_eclip
    "mmel-any-clip": Single("higher", 0.5, worst=True),  # 1 for a tower that mmel explains, else 0
    "debunk-equal": Single("equal", 1e-4, worst=True),  # change of the map, attention_eclip for grad_eclip
    "debunk-simpler": Single("lower", 1.0),  # times, attention_eclip over grad_eclip
    "debunk-other-model": Single("higher", 0.01),  # change of the map, released for the true model
}


def ledger() -> pd.DataFrame:
    """A row a claim: its id, paper, where it stands, text, the number claimed, how it is tested, the notebook that
    does so, and why it can't be where it can't. All are strings."""
    return pd.read_csv(data_folder() / "claims.csv", dtype=str, keep_default_na=False)


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


def time_ratios(first: str, second: str, clip, images, texts, rounds: int = 7) -> np.ndarray:
    """Time of one method over that of another on the same pairs (rounds,), the two in turn after a first run of each;
    takes what ``explain`` takes, and raises what it raises."""
    from .explaining import explain  # torch is loaded only where something is explained

    def seconds(name: str) -> float:
        start = time.perf_counter()
        explain(name, clip, images, texts)
        return time.perf_counter() - start

    times = np.array([[seconds(name) for name in (first, second)] for _ in range(rounds + 1)])[1:]
    return times[:, 0] / times[:, 1]


def applies(method: str, models: Sequence[str], side: str = "image") -> np.ndarray:
    """1 for each model (an architecture that open_clip knows, with random weights) whose tower the method explains,
    else 0, (models,)."""
    from .explainers.registry import explaining
    from .loading import load_clip

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
    values: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """What was measured of each claim of ``COMPARISONS`` and ``SINGLES``.

    Parameters
    ----------
    claims : rows of ``ledger()``; others are not looked at.
    images, words : what ``evaluate`` gives for maps of the image, and of the text, by suite: "mixed" for the default
        scenes, "ablation" for ``VARIANTS`` on them, and the names of ``scenes.SUITES``.
    scenes : the scenes by suite, where a claim needs their number of objects.
    values : for claims of ``SINGLES``, values (n,).

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
            rows.append({"claim": claim, **_single(SINGLES[claim], np.asarray(values[claim], float), seed)})
    columns = ["claim", "measured", "low", "high", "n", "verdict", "note"]
    return pd.DataFrame(rows, columns=columns).astype({"measured": float, "low": float, "high": float, "n": float})


def _single(test: Single, values: np.ndarray, seed: int) -> dict:
    if test.worst:
        mean = low = high = {"higher": np.min, "lower": np.max, "equal": lambda v: np.abs(v).max()}[test.direction](
            values
        )
    else:
        mean, low, high = mean_interval(values, seed)
    found = verdict(low, high, test.direction, test.bound)
    note = "the worst of all" if test.worst else ""
    return {"measured": mean, "low": low, "high": high, "n": len(values), "verdict": found, "note": note}


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
    mean, low, high, n, suite, second = min(
        found, key=lambda row: np.inf if np.isnan(row[0]) else (row[2] if sign > 0 else -row[1])
    )
    verdicts = [verdict(row[1], row[2], test.direction, test.bound) for row in found]
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


def fill(claims: pd.DataFrame, measured: pd.DataFrame | None = None) -> xr.Dataset:
    """The ledger with a verdict a claim, as a dataset of the stage ``claims``: variables over ``claim``.

    measured: rows of ``measure``. A claim that the paper's own numbers contradict is inconsistent whatever was
    measured, and its note has the arithmetic; one that is neither measured nor untestable says who fills it.
    Raises ValueError for a measured claim that isn't in the ledger, or is measured twice.
    """
    table = claims.set_index("claim")
    rows = pd.DataFrame(columns=["measured", "low", "high", "n", "verdict", "note"])
    if measured is not None and len(measured):
        rows = measured.set_index("claim")
        strange = [*rows.index[~rows.index.isin(table.index)], *rows.index[rows.index.duplicated()]]
        if strange:
            raise ValueError(f"measured claim {strange[0]!r}: it must be in the ledger, and measured once")
    rows = rows.reindex(table.index)
    checked = inconsistencies(claims, paper_tables()).set_index("claim").reindex(table.index)
    wrong = checked.consistent.eq(False)
    verdicts = np.select(
        [wrong, table.reason.ne(""), rows.verdict.notna()],
        [INCONSISTENT, UNTESTABLE, rows.verdict.fillna("")],
        "filled by notebook " + table.notebook,
    )
    note = np.select([wrong, table.reason.ne("")], [checked.arithmetic.fillna(""), table.reason], rows.note.fillna(""))
    out = xr.Dataset(coords={"claim": table.index.to_numpy(str)})
    for name in table.columns.drop("reason"):
        out[name] = ("claim", table[name].to_numpy(str))
    for name in ("measured", "low", "high", "n"):
        out[name] = ("claim", rows[name].to_numpy(float))
    out["verdict"], out["note"] = ("claim", verdicts.astype(str)), ("claim", note.astype(str))
    return annotate(out, "claims")


def readable(filled: xr.Dataset, digits: int = 2) -> pd.DataFrame:
    """A row a claim for reading: paper, place, text, what was claimed, "mean [low, high]" in so many significant
    digits, verdict and note."""
    numbers = zip(filled.measured.values, filled.low.values, filled.high.values, strict=True)
    shown = [
        "" if np.isnan(m) else f"{m:+.{digits}g} [{low:+.{digits}g}, {high:+.{digits}g}]" for m, low, high in numbers
    ]
    table = filled[["paper", "where", "text", "claimed", "verdict", "note"]].to_dataframe()
    table.insert(4, "measured", shown)
    return table
