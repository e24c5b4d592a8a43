"""How each claim that can be measured is measured: declared, a line a claim."""

import time
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
from .consistency import inconsistencies, paper_tables

HOLDS, FAILS, UNDECIDED = "holds here", "does not hold here", "cannot be decided here"
INCONSISTENT, UNTESTABLE = "inconsistent in the paper", "cannot be tested here"
DIRECTIONS = ("higher", "lower", "equal")
FEWEST = 10  # scenes: a bootstrap over fewer is too narrow to decide by
ROUNDING = 1e-6  # an interval this near to the bound holds it: scores are float32

TABLE_1 = ("gradcam", "saliency", "kernel_shap", "rise", "chefer", "m2ib")
TABLE_2 = ("clip_surgery", "m2ib", "grad_eclip")
SRM_TABLE_1 = ("gradcam", "integrated_gradients", "kernel_shap")
TABLE_3 = ("raw_attention", "rollout", "m2ib", "grad_eclip")
BASELINES = ("grad_eclip", *TABLE_1, "attention_flow", "raw_attention")  # MMEL, section 4.3
TOKEN_BASELINES = ("lens", "tam", "attention", "rollout", "gradient_x_input", "grad_cam")  # of MSEA with ARC
UNCORRECTED = "nothing taken off"  # the steps of TAM and ARC but for their correction
DESCRIBED = ("described", "misleading")  # scenes of two objects; of three or four, whose answers may mislead
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
    """A claim about values (n,) that are measured elsewhere; worst: about the worst of them instead of their mean; share:
    they are 1 for a scene of which it is true, else 0; every: of several readings all count, not the best."""

    direction: str
    bound: float
    worst: bool = False
    share: bool = False
    every: bool = False


@dataclass(frozen=True)
class Difference:
    """A claim about the mean of one group of scenes minus that of another: values (first (n,), second (m,))."""

    direction: str
    bound: float = 0.0


@dataclass(frozen=True)
class Separation:
    """A claim that a statistic tells two groups apart, of the same n scenes: values are two datasets of k statistics over
    sample, or four, the latter two of a control whose AUROC is taken off. It counts the statistic for which the result is
    largest, with an interval that holds for all k at once (Bonferroni).

    bound: that the AUROC, turned so that it is above 0.5, must exceed; with a control, that the difference must.
    """

    bound: float = 0.5
    direction: str = "higher"


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
    "srm-deletion": Comparison("deletion_auc", SRM_TABLE_1, "lower", first="srm"),
    "srm-deletion-marked": Comparison("deletion_auc", SRM_TABLE_1, "higher", first="srm"),
    "srm-insertion": Comparison("insertion_auc", SRM_TABLE_1, "higher", first="srm"),
    "srm-faithful": Comparison("insertion_auc", ("grad_eclip", "srm_fixed_point"), "higher", first="srm"),
    "srm-faithful-deletion": Comparison("deletion_auc", ("grad_eclip", "srm_fixed_point"), "lower", first="srm"),
    "srm-amplitude-regions": Comparison("energy", ("srm_fixed_point",), "higher", first="srm"),
    "srm-static-miss": Comparison("insertion_auc", ("srm_fixed_point",), "higher", first="srm"),
    "msea-outperforms": Comparison("answer_f1", TOKEN_BASELINES, "higher", DESCRIBED[:1], "msea+arc"),
    "msea-faithful": Comparison("insertion_minus_deletion", ("tam",), "higher", DESCRIBED[:1], "msea+arc"),
    "arc-suppresses": Comparison("leakage_earlier", (UNCORRECTED, "tam"), "lower", DESCRIBED, "arc"),
    "arc-preserves": Comparison("own_share", ("tam",), "higher", DESCRIBED, "arc", bound=-0.01),
}
SINGLES: dict[str, Single | Difference | Separation] = {
    "mmel-scales-cancel": Single("higher", 0.01),  # change of the map with the scale, scaling="multiply"
    "mmel-sanity": Single("lower", 0.5),  # rank correlation with the maps of a model of random blocks
    "mmel-overhead": Single("lower", 1.15),  # times, mmel over grad_eclip
    "mmel-any-clip": Single("higher", 0.5, worst=True),  # 1 for a tower that mmel explains, else 0
    "debunk-equal": Single("equal", 1e-4, worst=True),  # change of the map, attention_eclip for grad_eclip
    "debunk-simpler": Single("lower", 1.0),  # times, attention_eclip over grad_eclip
    "debunk-other-model": Single("higher", 0.01),  # change of the map, released for the true model
    "srm-compositional": Difference("higher"),  # insertion AUC, srm minus gradcam: relation scenes, single ones
    "srm-resonance": Single("higher", 0.01),  # change of a word's share on its own object
    "srm-oscillation-none": Single(
        "higher", 0.5, share=True
    ),  # 1 for a scene whose map swings, cycles or is restless, else 0; so on
    "srm-oscillation-attention": Single("higher", 0.5, share=True),
    "srm-oscillation-encoder": Single("higher", 0.5, share=True),
    "srm-oscillation-cold": Single("higher", 0.5, share=True),
    "srm-spectrum": Single("higher", 0.5, share=True),  # 1 for a scene with a peak above the nulls, else 0
    "srm-undamped": Single("equal", 0.01),  # modulus of the leading oscillating mode, minus 1
    "srm-frequency-rate": Single("higher", 0.0),  # rank correlation
    "srm-bands": Single("higher", 0.0),  # spatial frequency, high band minus low
    "srm-hierarchy": Single("higher", 0.0),  # adjusted mutual information minus that of the null
    "srm-hierarchy-static": Single("higher", 0.0),  # ... of k-means on features
    "srm-phases": Single("higher", 0.5, share=True),  # 1 for a scene with three phases, else 0
    "srm-phase-places": Single("higher", 0.5, share=True),  # 1 for a scene with change points at 5 and 15, else 0
    "srm-relational-focusing": Single("higher", 0.01),  # change of the share of heat
    "srm-spurious": Separation(),  # statistics of the two bundled models
    "srm-spurious-evidence": Separation(0.0),  # ... and those without the mark
    "srm-composition-detect": Separation(),  # statistics of true captions and foils
    "srm-alpha": Single("lower", 0.9),  # rank correlation of maps between alphas
    "srm-passes": Single("higher", 1.5),  # passes of all blocks of the image tower, a scene
    "msea-fragmented": Single("higher", 0.5),  # connected parts of one scale's maps minus those of the masks
    "msea-coherent": Single("higher", 0.0, every=True),  # connected parts that are fewer, IoU that is higher
    "msea-scale-sensitive": Single("higher", 0.01),  # F1-IoU, best set of scales minus worst, chosen on other scenes
    "arc-spurious": Single("higher", 0.01),  # change of a word's raw map when the words before it are others
    "arc-rank": Single("higher", 0.5),  # AUROC of rank overlap, contexts on the same object against others
}


def rule(claim: str) -> str:
    """What the interval of a claim must show for it to hold, such as "mmel - grad_eclip: deletion_auc lower than 0";
    empty where nothing is measured."""
    test = COMPARISONS.get(claim) or SINGLES.get(claim)
    if test is None:
        return ""
    limit = (
        f"equal to 0 within {test.bound:g}" if test.direction == "equal" else f"{test.direction} than {test.bound:g}"
    )
    if isinstance(test, Difference):
        return f"first group - second: {limit}"
    if isinstance(test, Separation):
        return f"AUROC{' - that of the control' if test.bound == 0 else ''} {limit}"
    if isinstance(test, Single):
        return limit
    others = f" - each of {', '.join(test.second)}" if len(test.second) > 1 else "".join(f" - {s}" for s in test.second)
    change = f", change above {test.above} objects" if test.above is not None else ""
    return f"{test.first}{others}: {test.metric}{change} {limit}"


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
    from ..explainers.explanation import explain

    def seconds(name: str) -> float:
        start = time.perf_counter()
        explain(name, clip, images, texts)
        return time.perf_counter() - start

    times = np.array([[seconds(name) for name in (first, second)] for _ in range(rounds + 1)])[1:]
    return times[:, 0] / times[:, 1]


def applies(method: str, models: Sequence[str], side: str = "image") -> np.ndarray:
    """1 for each model (an architecture that open_clip knows, with random weights) whose tower the method explains,
    else 0, (models,)."""
    from ..clip.loading import load_clip
    from ..explainers.registry import explaining

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


def ledger() -> pd.DataFrame:
    """A row a claim: its id, paper, where it stands, text, the number claimed, how it is tested, the notebook that
    does so, and why it can't be where it can't. All are strings."""
    return pd.read_csv(data_folder() / "claims.csv", dtype=str, keep_default_na=False)


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
    out["holds_if"] = ("claim", [rule(claim) for claim in table.index])
    return annotate(out, "claims")


def measured_in(filled: xr.Dataset) -> pd.DataFrame:
    """The rows of ``measure`` that went into a filled ledger, such as another notebook's, to go on with."""
    rows = filled[["measured", "low", "high", "n", "verdict", "note"]].to_dataframe().reset_index()
    return rows[rows.n.notna()].reset_index(drop=True)


def readable(filled: xr.Dataset, digits: int = 3) -> pd.DataFrame:
    """A row a claim for reading: paper, place, text, what was claimed, "mean [low, high]" to so many decimals, what makes
    it hold, verdict and note."""
    numbers = zip(filled.measured.values, filled.low.values, filled.high.values, strict=True)
    shown = [
        "" if np.isnan(m) else f"{m:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]" for m, low, high in numbers
    ]
    table = filled[["paper", "where", "text", "claimed", "holds_if", "verdict", "note"]].to_dataframe()
    table.insert(4, "measured", shown)
    return table
