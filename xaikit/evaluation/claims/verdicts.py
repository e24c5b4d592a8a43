"""From stores or values to a verdict: the estimates that a claim rests on, readings of which all or one must hold; p values of its
holding, failing and having no effect; and what they say once the number of claims is paid for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from ...measures.estimates import Estimate, auroc_of, difference_of, discoveries, mean_of, mean_over_draws, share_of
from ...measures.maps import auroc
from .rules import Rule

FEWEST = 10  # scenes: fewer don't decide
HOLDS, FAILS, UNDECIDED = "holds here", "does not hold here", "cannot be decided here"
SAME = "no effect here"
TRUE, FALSE = "true by argument", "false by argument"  # as the argument of a row of the ledger begins
CONSISTENT, INCONSISTENT, UNTESTABLE = "consistent in the paper", "inconsistent in the paper", "cannot be tested here"
RATE = 0.05  # of the claims that are said to hold the share that is expected not to; of those without effect the same
TESTS = ("p_holds", "p_fails", "p_same")
NUMBERS = ("measured", "low", "high", "n", "detectable", "margin", *TESTS)


@dataclass(frozen=True)
class Contrast:
    """One effect that must be as claimed: against what, the estimate, its bound, and whether the claim itself names it;
    what it doesn't name can keep it from holding, but doesn't refute it."""

    against: str
    estimate: Estimate
    bound: float
    named: bool = True


Reading = list[Contrast]


def compared(rule: Rule, suites: Mapping[str, xr.Dataset]) -> tuple[dict[str, Reading], list[str]]:
    """The one reading of a comparison: the first against each named rival and each control on each suite; and what of
    that wasn't measured."""
    contrasts, missing = [], []
    for suite in rule.suites:
        scores = suites[suite].get(rule.metric) if suite in suites else None
        there = [] if scores is None else scores.explainer.values.tolist()
        if rule.first not in there or (rule.above is not None and "object_count" not in scores.coords):
            missing.append(f"suite {suite}")
            continue
        of = dict(zip(there, scores.transpose("explainer", "sample").values.astype(float), strict=True))
        many = None if rule.above is None else scores.object_count.values > rule.above
        pairs = [(name, True) for name in rule.second or ("",)] + [(name, False) for name in rule.controls]
        missing += [name for name, _ in pairs if name and name not in of]
        for name, named in (pair for pair in pairs if not pair[0] or pair[0] in of):
            values = of[rule.first] - of[name] if name else of[rule.first]
            found = (
                mean_of(values, scores.attrs.get("whole", 0.0))
                if many is None
                else difference_of(values[many], values[~many])
            )
            label = f"against {name} on {suite}" if name else f"on {suite}"
            contrasts.append(Contrast(label, found, rule.bound if named else 0.0, named))
    return {"": contrasts} if contrasts else {}, list(dict.fromkeys(missing))


def valued(rule: Rule, values, seed: int) -> dict[str, Reading]:
    """The readings of values that were measured elsewhere. Where one of several will do each pays for their number, also
    in its interval; readings of too few values don't count beside others."""
    if rule.kind == "separated":
        return _separated(rule, values, seed)
    if rule.kind == "groups":
        return {"": [Contrast("", difference_of(*values), rule.bound)]}
    several = values if isinstance(values, Mapping) else {"": values}
    found = {name: _parts(rule, name, each) for name, each in several.items()}
    if rule.kind == "every":
        return {"": [part for parts in found.values() for part in parts]}
    enough = max(1, sum(min(part.estimate.n for part in parts) >= FEWEST for parts in found.values()))
    return {name: [_among(part, enough) for part in parts] for name, parts in found.items()}


def _parts(rule: Rule, name: str, values) -> Reading:
    """A reading of values, or of several that all must hold, by what each is held against."""
    several = values if isinstance(values, Mapping) else {"": values}
    return [
        Contrast(" beside ".join(filter(None, (name, against))), _single(rule, each), rule.bound)
        for against, each in several.items()
    ]


def _single(rule: Rule, values: np.ndarray) -> Estimate:
    values = np.asarray(values, float)
    if rule.kind == "worst":  # a single case refutes it, so that there is nothing to sample
        worst = {"higher": values.min(), "lower": values.max(), "equal": np.abs(values).max()}[rule.direction]
        return Estimate(worst, 0.0, np.inf, len(values))
    if rule.kind == "excess":
        return mean_of(values, whole=1.0) if values.ndim == 1 else mean_over_draws(values, whole=1.0)
    return share_of(values) if rule.kind == "share" else mean_of(values)


def _separated(rule: Rule, groups, seed: int) -> dict[str, Reading]:
    """By statistic: that it tells the first two groups apart, turned so that its AUROC is above 0.5, and does so more than
    it tells apart the two of the control; which statistic, and which way round, pays for the choice."""
    readings = {}
    for name in groups[0].data_vars:
        values = [group[name].values.astype(float) for group in groups]
        sign = 1 if auroc(*values[:2]) >= 0.5 else -1
        values = [sign * each for each in values]
        parts = [Contrast("alone", auroc_of(*values[:2], seed=seed), rule.bound)]
        if len(values) == 4:
            parts.append(Contrast("beyond the control", auroc_of(*values, seed=seed), 0.0, named=False))
        readings[str(name)] = parts
    ways = 2 * len(readings)
    return {name: [_among(each, ways) for each in parts] for name, parts in readings.items()}


def _among(contrast: Contrast, choices: int) -> Contrast:
    return replace(contrast, estimate=replace(contrast.estimate, choices=choices))


def map_change(first: xr.DataArray, second: xr.DataArray) -> np.ndarray:
    """The largest difference of two maps of each sample (n,), relative to the first one's peak; infinite where only the
    first is flat zero."""
    dims = [dim for dim in first.dims if dim != "sample"]
    change, peak = abs(first - second).max(dims).values, abs(first).max(dims).values
    return np.divide(change, peak, where=peak > 0, out=np.where(change > 0, np.inf, 0.0))


def tested(rule: Rule, readings: Mapping[str, Reading], missing: list[str], claims: int) -> dict:
    """Numbers of a claim: the effect that decides with its 95 % interval, the smallest that could have been found there with
    80 % power were it the only one among so many claims, its margin and p values; and ``note``, what was compared.

    In a reading all contrasts must hold (an intersection of tests, each at its full level), one named contrast that
    fails is enough (paid for by their number), and so is a named one without effect. Of readings one that holds is enough.
    """
    enough = {
        name: parts for name, parts in readings.items() if not all(_few(rule, part) for part in parts)
    } or readings
    by_reading = {name: _reading(rule, parts, bool(missing)) for name, parts in enough.items()}
    leasts = {name: _least(rule, parts) for name, parts in enough.items()}
    best = min(enough, key=lambda name: (by_reading[name]["p_holds"], -_reach(rule, leasts[name])))
    tests = {
        name: which(each[name] for each in by_reading.values())
        for name, which in {"p_holds": min, "p_fails": max, "p_same": max}.items()
    }
    least = _deciding(rule, enough[best], tests)
    low, high = least.estimate.interval()
    detectable = least.estimate.detectable(RATE / claims)
    numbers = (least.estimate.value, low, high, least.estimate.n, detectable, rule.margin)
    return dict(zip(NUMBERS, numbers, strict=False)) | tests | {"note": _note(rule, readings, best, least, missing)}


def _reading(rule: Rule, parts: Reading, incomplete: bool) -> dict:
    holds, fails, same = zip(*(_sides(rule, part) for part in parts), strict=True)
    few = incomplete or any(_few(rule, part) for part in parts)
    # A control can keep a claim from holding, but not refute it.
    against = {
        name: [p for p, part in zip(each, parts, strict=True) if part.named]
        for name, each in (("p_fails", fails), ("p_same", same))
    }
    paid = {name: min(1.0, min(each, default=1.0) * len(each)) if each else 1.0 for name, each in against.items()}
    return {"p_holds": 1.0 if few else max(holds)} | paid


def _sides(rule: Rule, part: Contrast) -> tuple[float, float, float]:
    """P values that a contrast is as claimed, is the opposite, and is none; two-sided, but for equivalence."""
    if _few(rule, part):
        return 1.0, 1.0, 1.0
    found, bound = part.estimate, part.bound
    if rule.direction == "equal":
        fails = 2 * min(found.above(bound), found.below(-bound))
        return found.within(bound), min(1.0, fails), 1.0
    above, below = min(1.0, 2 * found.above(bound)), min(1.0, 2 * found.below(bound))
    sides = (above, below) if rule.direction == "higher" else (below, above)
    return *sides, found.within(rule.margin, bound)


def _few(rule: Rule, part: Contrast) -> bool:
    return part.estimate.n < FEWEST and rule.kind != "worst"


def _least(rule: Rule, parts: Reading) -> Contrast:
    """The contrast for which the claim holds least, which stands for all of them."""
    return min([part for part in parts if not _few(rule, part)] or parts, key=lambda part: _reach(rule, part))


def _deciding(rule: Rule, parts: Reading, tests: Mapping[str, float]) -> Contrast:
    """The contrast whose numbers stand beside the verdict: that which fails, or has no effect, where one does and the claim
    doesn't hold, else the one for which it holds least."""
    named = [part for part in parts if part.named]
    for place, name in ((1, "p_fails"), (2, "p_same")):
        if named and tests["p_holds"] > RATE >= tests[name]:
            return min(named, key=lambda part: _sides(rule, part)[place])
    return _least(rule, parts)


def _reach(rule: Rule, part: Contrast) -> float:
    """How many standard errors a contrast lies on the claim's side of its bound: comparable also where p values are 1."""
    found, bound = part.estimate, part.bound
    above, below = found.beyond(bound), found.beyond(bound, -1)
    reach = {"higher": above, "lower": below, "equal": min(found.beyond(-bound), below)}[rule.direction]
    return -np.inf if np.isnan(reach) else reach


def _note(rule: Rule, readings: Mapping[str, Reading], best: str, least: Contrast, missing: list[str]) -> str:
    parts = readings[best]
    if rule.kind == "worst":
        return "the worst of all"
    if rule.kind == "separated":
        shown = f"{best}, {least.against}; best of {', '.join(readings)}"
    elif best or rule.kind == "every":
        each = (part for reading in readings.values() for part in reading)
        shown = f"{best or least.against}, among " + ", ".join(_reading_text(rule, part) for part in each)
    else:
        shown = f"{least.against}; the least of {len(parts)}" if len(parts) > 1 else ""
    few = sorted({part.against for part in parts if _few(rule, part)}) if len(readings) == 1 else []
    extra = [f"not measured: {', '.join(missing)}"] * bool(missing)
    extra += [f"fewer than {FEWEST} scenes to decide by: {', '.join(filter(None, few)) or 'all'}"] * bool(few)
    return "; ".join(filter(None, [shown, *extra]))


def _reading_text(rule: Rule, part: Contrast) -> str:
    said = "(too few values)" if _few(rule, part) else f"{part.estimate.value:+.2f}"
    return f"{part.against} {said}"


def of_sentences(rows: pd.DataFrame) -> pd.DataFrame:
    """The p values of sentences, of rows of ``measure`` with ``sentence`` and ``needs``.

    A sentence that needs all of its claims holds where each does (an intersection, each at its full level), and fails, or is
    without effect, where one is (paid for by their number, Bonferroni). One that needs any holds where one does, is without
    effect where all are, and fails where each fails or is without effect, and one fails at least. A claim that wasn't measured
    counts as one of which nothing is known.
    """
    tests = rows[list(TESTS)].fillna(1.0).assign(not_so=lambda each: 2 * each[["p_fails", "p_same"]].min(axis=1))
    groups = tests.groupby(rows.sentence, sort=False)
    one, each = groups.min().mul(groups.size(), axis=0).clip(upper=1.0), groups.max().clip(upper=1.0)
    of_any = each.assign(p_holds=one.p_holds, p_fails=np.maximum(each.not_so, one.p_fails))
    of_all = rows.groupby("sentence", sort=False).needs.first().eq("all")
    return one.assign(p_holds=each.p_holds).where(of_all, of_any, axis=0)[list(TESTS)]


def decided(rows: pd.DataFrame, rate: float = RATE) -> pd.Series:
    """The verdict of each row of ``measure``, or of ``of_sentences``, by its p values, adjusted for their number, in this order: it
    holds, it doesn't, it has no effect beyond its margin, or that can't be decided.

    Of the claims that hold a share of ``rate`` is expected not to (Benjamini and Hochberg 1995), and likewise of those
    that fail and of those without effect.
    """
    significant = [discoveries(rows[name].to_numpy(float)) <= rate for name in TESTS]
    return pd.Series(np.select(significant, [HOLDS, FAILS, SAME], UNDECIDED), rows.index)
