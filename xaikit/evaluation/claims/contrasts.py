"""What a claim rests on: estimates out of stores or values, a reading of the claim each, that all must hold."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from ...measures.estimates import Estimate, auroc_of, difference_of, mean_of, mean_over_draws, share_of
from ...measures.maps import auroc
from .rules import Rule

FEWEST = 10  # scenes: fewer don't decide


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
