"""An effect over samples with its standard error: tests of it, the interval that they leave, what it could have found, and
false-discovery control over many of them.

Why Student's t and not the percentiles of a bootstrap: those are too narrow below some forty samples, and too coarse for the
small levels that many tests at once need.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit
from scipy.stats import false_discovery_control

from .maps import auroc

ROUNDING = 1e-6  # what lies this near to a bound doesn't lie beyond it: scores are float32
POWER = 0.8
RESAMPLES = 2000
Z = float(ndtri(0.975))
UNBOUNDED = (-np.inf, np.inf)
ENOUGH = 5  # draws, for their spread to be known
LARGE = 1e9  # degrees of freedom for a normal distribution


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and the degrees of freedom of that; a share's error is that of the bound tested.

    n : samples it is of. choices : among how many it was chosen as the best, which its tests pay for (Bonferroni).
    limits : between which its values lie by their definition.
    """

    value: float
    error: float
    freedom: float
    n: int
    share: bool = False
    choices: int = 1
    limits: tuple[float, float] = UNBOUNDED

    def above(self, bound: float) -> float:
        """The p value, one-sided, of a truth above the bound; 1 where nothing is known."""
        return self._tail(1, bound)

    def below(self, bound: float) -> float:
        """The p value, one-sided, of a truth below the bound; 1 where nothing is known."""
        return self._tail(-1, bound)

    def within(self, margin: float, about: float = 0.0) -> float:
        """The p value of a truth within so much of ``about``: the larger of two one-sided tests (Schuirmann 1987)."""
        return max(self.above(about - margin), self.below(about + margin)) if margin > 0 else 1.0

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The values that the two-sided tests of 1 - level don't refute: Student's t, of a share Wilson's."""
        tail = (1 - level) / (2 * self.choices)
        if self.share:
            return wilson(self.value, self.n, 1 - 2 * tail)
        reach = _quantile(1 - tail, self.freedom) * self.error if self.error else 0.0
        low, high = self.limits
        return float(max(self.value - reach, low)), float(min(self.value + reach, high))

    def detectable(self, level: float = 0.05, power: float = POWER) -> float:
        """The smallest distance from the bound that a two-sided test of this level finds with this power."""
        error = 0.5 / np.sqrt(max(self.n, 1)) if self.share else self.error
        freedom = np.inf if self.share else self.freedom
        quantiles = _quantile(1 - level / (2 * self.choices), freedom) + _quantile(power, freedom)
        return float(quantiles * error) if error else 0.0

    def beyond(self, bound: float, sign: int = 1) -> float:
        """How many standard errors the value lies above the bound, or with sign -1 below it; NaN where nothing is known."""
        error = self.error
        if self.share:
            clipped = min(max(bound, 0.0), 1.0)
            error = np.sqrt(clipped * (1 - clipped) / max(self.n, 1))
        distance = sign * (self.value - bound) - ROUNDING
        return float(distance / error if error else np.copysign(np.inf, distance))

    def _tail(self, sign: int, bound: float) -> float:
        beyond = self.beyond(bound, sign)
        if not self.n or np.isnan(beyond):
            return 1.0
        tail = stdtr(min(self.freedom, LARGE), -beyond) if np.isfinite(beyond) else float(beyond < 0)
        return float(min(1.0, tail * self.choices))


def wilson(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of n, which is never a point, also at 0 and 1.

    Examples
    --------
    >>> [round(float(end), 2) for end in wilson(1.0, 32)]
    [0.89, 1.0]
    """
    if not n:
        return np.nan, np.nan
    z = ndtri((1 + level) / 2)
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = ((middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    return float(max(low, 0.0)), float(min(high, 1.0))


def mean_of(values: np.ndarray, whole: float = 0.0, limits: tuple[float, float] | None = None) -> Estimate:
    """The mean of values (n,); NaN ones don't count.

    whole : of what is all or nothing, or of a difference of two such, what a hit counts: that n samples are alike is then
        no certainty, and the error is at least what gives Wilson's interval of none of n.
    limits : between which the values lie by their definition, and so the interval.

    Examples
    --------
    >>> found = mean_of(np.array([0.1, 0.2, 0.3, np.nan]))
    >>> round(float(found.value), 2), found.n, round(found.above(0), 3)
    (0.2, 3, 0.037)
    """
    low, high = UNBOUNDED if limits is None else limits
    values = finite(values)
    n = len(values)
    least = whole * Z / (n + Z**2)
    error = float(np.fmax(_error(values), least)) if n > 1 else np.nan
    return Estimate(values.mean() if n else np.nan, error, n - 1, n, limits=(float(low), float(high)))


def mean_over_draws(values: np.ndarray, whole: float = 0.0, limits: tuple[float, float] | None = None) -> Estimate:
    """The mean of values (n, draws) of samples that all meet the same draws, such as random models: its error is that over other
    samples and over other draws (two crossed random effects). A sample with a NaN doesn't count; of a single draw, or a single
    sample, nothing is known. Of fewer than five draws the spread may seem small by chance, so that it alone gives the degrees of
    freedom. whole, limits : as in ``mean_of``; that all draws say the same is no certainty either.

    Examples
    --------
    >>> found = mean_over_draws(np.array([[0.1, 0.3], [0.2, 0.4], [0.3, 0.5]]))
    >>> round(float(found.value), 2), round(found.above(0), 2)  # the two draws differ by more than the samples
    (0.3, 0.12)
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values).all(1)]
    of_samples, (n, draws) = mean_of(values.mean(1), whole, limits), values.shape
    if draws < 2 or n < 2:
        return replace(of_samples, error=np.nan)
    # The variance of the draws' means holds what one draw does to all samples and, divided by n, what it does to each; the latter
    # is in the samples' error already.
    residual = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    each = (residual**2).sum() / ((n - 1) * (draws - 1)) / (n * draws)
    means = values.mean(0)
    of_draws = max(means.var(ddof=1) / draws - each, 0.0) if np.ptp(means) else (whole * Z / (draws + Z**2)) ** 2
    error = float(np.sqrt(of_samples.error**2 + of_draws))
    parts = of_samples.error**4 / (n - 1) + of_draws**2 / (draws - 1)
    freedom = error**4 / parts if error else n - 1  # Satterthwaite
    return replace(of_samples, error=error, freedom=float(freedom if draws >= ENOUGH else min(freedom, draws - 1)))


def share_of(values: np.ndarray) -> Estimate:
    """The share of values (n,), 0 or 1, that are 1; NaN ones don't count."""
    values = finite(values)
    return Estimate(values.mean() if len(values) else np.nan, np.nan, np.inf, len(values), share=True)


def difference_of(first: np.ndarray, second: np.ndarray) -> Estimate:
    """The mean of one group (n,) minus that of another (m,), which need not vary alike (Welch 1947)."""
    groups = [finite(group) for group in (first, second)]
    n = min(map(len, groups))
    if n < 2:
        return Estimate(np.nan, np.nan, np.nan, n)
    parts = [_error(group) ** 2 for group in groups]
    error = np.sqrt(sum(parts))
    weights = sum(part**2 / (len(group) - 1) for part, group in zip(parts, groups, strict=True))
    freedom = error**4 / weights if weights else np.inf
    return Estimate(groups[0].mean() - groups[1].mean(), error, freedom, n)


def auroc_of(first: np.ndarray, second: np.ndarray, *control: np.ndarray, seed: int = 0) -> Estimate:
    """How often a value of the first group (n,) is above one of the second (n,), less what a control's two groups give,
    all of the same n samples; its error by resampling them."""
    groups = [np.asarray(group, float) for group in (first, second, *control)]

    def score(index: np.ndarray) -> np.ndarray:
        parts = [group[index] for group in groups]
        return auroc(*parts[:2]) - (auroc(*parts[2:]) if control else 0.0)

    n = len(groups[0])
    drawn = np.random.default_rng(seed).integers(n, size=(n, RESAMPLES))
    error = max(float(score(drawn).std(ddof=1)), 0.5 / n)  # to tell n samples apart without a fault is no certainty
    return Estimate(
        float(score(np.arange(n)[:, None])[0]), error, n - 1, n, limits=(-1.0, 1.0) if control else (0.0, 1.0)
    )


def discoveries(values: np.ndarray) -> np.ndarray:
    """P values adjusted for their number (Benjamini and Hochberg 1995): of those up to q a share of q is expected to be
    false. NaN ones don't count as tests.

    Examples
    --------
    >>> discoveries(np.array([0.01, 0.04, np.nan])).tolist()
    [0.02, 0.04, nan]
    """
    values = np.asarray(values, float)
    known = np.isfinite(values)
    adjusted = np.full(values.shape, np.nan)
    if known.any():
        adjusted[known] = false_discovery_control(values[known])
    return adjusted


def _quantile(share: float, freedom: float) -> float:
    return float(stdtrit(min(freedom, LARGE), share))


def finite(values: np.ndarray) -> np.ndarray:
    """Those of the values (n,) that count."""
    values = np.asarray(values, float)
    return values[np.isfinite(values)]


def _error(values: np.ndarray) -> float:
    """Standard error of a mean (n,): 0 where all are the same, NaN for fewer than two."""
    if len(values) < 2:
        return np.nan
    return 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1) / np.sqrt(len(values)))
