"""How far heat on the objects of a scene agrees with what an intervention says they do: the change of the model's answer when
one of them is taken away.

Units are a scene's objects and, where there is one, the corner mark as one more. A unit's heat is the share of all positive
heat that lies on it, in total and not by area: its effect, too, is that of the whole of it, and a map that adds up to the
score divides the score among units in just this way. So a flat map gives large units more: compare with controls.
Units that can't be seen, such as those behind others, don't count.
Sources: Hesse et al., FunnyBirds, 2023 (importance of a part against the fall of the score without it, by Spearman's rank
correlation); Arras et al., CLEVR-XAI, 2022 (share of the relevance that lies on objects).
"""

import numpy as np

from .maps import unit_ranks

MARGIN = 0.1  # of a scene's largest effect: what is nearer to zero counts as no effect
DIGITS = 6  # of effects; beyond them there is only rounding, of which ranks would make an order


def unit_heat(heat: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Share of a map's positive heat on each unit (n, explainers, units); 0 for a map without any.

    heat (n, explainers, rows, cols); covered (n, units, rows, cols), the share of each patch that a unit takes up.

    Examples
    --------
    >>> covered = np.array([[[[1.0, 1.0], [0, 0]], [[0, 0], [0.5, 0]]]])
    >>> unit_heat(np.array([[[[1.0, 1.0], [2.0, -9]]]]), covered).tolist()
    [[[0.5, 0.25]]]
    """
    heat = np.maximum(heat, 0)
    total = heat.sum((-2, -1))
    return np.einsum("nerc,nurc->neu", heat, covered) / np.where(total == 0, 1, total)[..., None]


def effect_correlation(heat: np.ndarray, covered: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of heat and effect over each scene's units, (n, explainers); higher is better.

    heat, covered: as in ``unit_heat``; effects (n, units), NaN for none. NaN where fewer than three units are there or all
    have the same effect; 0 for a map that has the same heat on all of them, which puts them in no order.

    Examples
    --------
    >>> covered, effects = np.eye(4).reshape(1, 4, 2, 2), np.array([[0.3, 0.1, -0.2, 0.0]])
    >>> heat = np.stack([effects + 1, 1 - effects, 0 * effects]).reshape(1, 3, 2, 2)
    >>> effect_correlation(heat, covered, effects).round(3).tolist()
    [[1.0, -1.0, 0.0]]
    """
    on, effects = _units(heat, covered, effects)
    order = unit_ranks(effects)  # NaN where all are the same
    unclear = (np.isfinite(effects).sum(-1) < 3) | np.isnan(order).any(-1)
    return np.where(unclear, np.nan, np.nan_to_num(unit_ranks(on) * order).sum(-1))


def best_object(heat: np.ndarray, covered: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """1 where the unit with the most heat is the one with the largest effect, else 0, (n, explainers); higher is better.

    Among equally hot units the mean counts, so a map without heat on any gets its chance. NaN with fewer than two units,
    and where none supports the caption (no effect is above zero). Arguments as in ``effect_correlation``.

    Examples
    --------
    >>> covered, effects = np.eye(4).reshape(1, 4, 2, 2), np.array([[0.3, 0.1, -0.2, 0.0]])
    >>> heat = np.stack([effects + 1, 1 - effects, 0 * effects]).reshape(1, 3, 2, 2)
    >>> best_object(heat, covered, effects).tolist()
    [[1.0, 0.0, 0.25]]
    """
    on, effects = _units(heat, covered, effects)
    hottest = on == _largest(on)[..., None]
    best = effects == _largest(effects)[..., None]
    found = (hottest & best).sum(-1) / np.maximum(hottest.sum(-1), 1)
    unclear = (np.isfinite(effects).sum(-1) < 2) | ~(_largest(effects) > 0)
    return np.where(unclear, np.nan, found)


def unused_heat(heat: np.ndarray, covered: np.ndarray, effects: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """Share of the heat on units that lies on those without an effect, (n, explainers); lower is better.

    margin : effects within this share of the scene's largest, either way, count as none: relative, since cosines of one
    model change by much more than those of another. NaN where every unit has an effect, and for a map without heat on any
    unit. Arguments as in ``effect_correlation``.

    Examples
    --------
    >>> covered, effects = np.eye(4).reshape(1, 4, 2, 2), np.array([[0.3, 0.1, -0.2, 0.0]])
    >>> unused_heat(np.array([[[[3.0, 2], [1, 2]]]]), covered, effects).tolist()
    [[0.25]]
    """
    on, effects = _units(heat, covered, effects)
    unused = ~has_effect(effects, margin) & np.isfinite(effects)
    total = np.nansum(on, -1)
    share = np.where(unused, on, 0).sum(-1) / np.where(total == 0, 1, total)
    return np.where(unused.any(-1) & (total > 0), share, np.nan)


def has_effect(effects: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """Whether effects (..., units) are further from zero than this share of the largest of their scene; not where NaN."""
    size = np.abs(effects)
    return size > margin * np.nan_to_num(_largest(size), nan=0.0)[..., None]


def _units(heat: np.ndarray, covered: np.ndarray, effects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heat and effects (n, explainers, units), both NaN for units that aren't there or can't be seen."""
    there = (np.isfinite(effects) & (covered.sum((-2, -1)) > 0))[:, None]
    on = unit_heat(heat, covered).round(DIGITS)
    return np.where(there, on, np.nan), np.broadcast_to(
        np.where(there, effects.round(DIGITS)[:, None], np.nan), on.shape
    )


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest finite value (...) along the last axis, NaN for none."""
    found = np.where(np.isfinite(values), values, -np.inf).max(-1, initial=-np.inf)
    return np.where(np.isfinite(found), found, np.nan)
