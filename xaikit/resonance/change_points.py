"""The phases of a resonance trajectory, found where its course changes (SRM section 3.2).

The paper names three: initial coupling (iterations 0 to 5), relational focusing (5 to 15) and lock-in (15 to 20). Here
neither their number nor their places are assumed.
"""

import numpy as np
import xarray as xr
from ruptures import KernelCPD
from ruptures.costs import CostL2

from ..files.checks import check_number, check_whole
from ..files.store import annotate_from
from ..measures.maps import spatial_entropy
from .spectra import FLAT, check_trajectory

SHORTEST = 2  # iterations of a phase


def phases(trajectory: xr.DataArray, largest: int = 4, penalty: float | None = None) -> xr.Dataset:
    """Divide each sample's trajectory into phases, between which step size and spatial entropy change their level.

    trajectory : (sample, time, token, row, col). largest : the most phases to look for. penalty : what a further phase
    must take off the sum of squares of both curves, each standardised over time (2 times the iterations for one phase);
    None for 4 log(iterations). The Bayesian information criterion would be 3 log(iterations), two levels and a place a
    phase, were all variance noise; with 4, white noise of 20 iterations has one phase in 94 of 100 cases instead of 79.
    So a phase must account for 30 % of the variance of 20 iterations, 18 % of 40; a smaller penalty looks for finer ones.

    Returns over (sample, time) ``step_size``, the norm over tokens and patches of R(t) - R(t - 1), NaN at the first time,
    and ``entropy`` in nat of the maps, clipped at 0 and divided by their sum, mean over the sample's tokens: log(patches)
    for a map spread evenly, and also for one without positive values, which points nowhere; NaN for a sample whose maps
    are all 0. ``boundary`` (sample, phase): index in time at which a phase begins, 0 for the first, -1 where there is
    none. ``phases`` (sample): how many there are. A trajectory that stays as it is has one.

    Of all divisions into phases of at least 2 iterations, the one with the smallest penalised sum of squares about the
    phases' levels counts. A smooth approach to a fixed point is divided too, since a curve isn't a level: a boundary
    says where the course changes most, not that it jumps. Source: SRM section 3.2; change points by ``ruptures``
    (Truong et al. 2020).

    Examples
    --------
    >>> course = xk.resonance.resonate(clip, scenes.image, scenes.caption).trajectory
    >>> xk.resonance.phases(course).boundary.dims
    ('sample', 'phase')
    """
    check_trajectory(trajectory, iterations=4)
    check_whole(1, largest=largest)
    if penalty is not None:
        check_number(0, open_low=True, penalty=penalty)
    maps = trajectory.values.astype(np.float64)
    samples, points = maps.shape[:2]
    steps = np.sqrt((np.diff(maps, axis=1) ** 2).sum((2, 3, 4)))
    entropy = spatial_entropy(maps)
    scale = np.sqrt((maps**2).sum((2, 3, 4)).max(1))
    curves = np.stack([_standard(steps, FLAT * scale), _standard(np.nan_to_num(entropy[:, 1:]), FLAT)], -1)
    price = 4 * np.log(points - 1) if penalty is None else penalty
    boundary = np.full((samples, largest), -1)
    for row, curve in zip(boundary, curves, strict=True):
        starts = _starts(curve, largest, price)
        row[: len(starts)] = starts
    outside = {name: v for name, v in trajectory.coords.items() if set(v.dims) <= {"sample", "time"}}
    out = xr.Dataset(coords=outside | {"phase": np.arange(largest)})
    out["step_size"] = ("sample", "time"), np.concatenate([np.full((samples, 1), np.nan), steps], 1)
    out["entropy"] = ("sample", "time"), entropy
    out["boundary"] = ("sample", "phase"), boundary, {"penalty": float(price)}
    out["phases"] = "sample", (boundary >= 0).sum(1)
    return annotate_from(trajectory, out, "phases", largest=largest, penalty=float(price))


def _standard(curve: np.ndarray, rounding: np.ndarray | float) -> np.ndarray:
    """Mean 0 and standard deviation 1 along the last axis; 0 where the deviation is no more than ``rounding``."""
    centred = curve - curve.mean(-1, keepdims=True)
    spread = centred.std(-1)
    varies = (spread > rounding)[..., None]
    return np.where(varies, centred / np.where(varies, spread[..., None], 1), 0)


def _starts(curve: np.ndarray, largest: int, price: float) -> list[int]:
    """Times at which the phases begin of which a curve (iterations, 2), whose first row is time 1, is made up."""
    cost, search = CostL2().fit(curve), KernelCPD(kernel="linear", min_size=SHORTEST).fit(curve)
    divisions = [[len(curve)]]
    divisions += [search.predict(n_bkps=count) for count in range(1, min(largest, len(curve) // SHORTEST))]
    best = min(divisions, key=lambda ends: cost.sum_of_costs(ends) + price * len(ends))
    return [0, *(end + 1 for end in best[:-1])]
