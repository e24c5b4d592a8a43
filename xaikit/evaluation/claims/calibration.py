"""How far verdicts can be trusted: ledgers of which the truth is known, judged like the papers'."""

import numpy as np
import pandas as pd
import xarray as xr

from ...files.checks import check_number, check_whole
from .rules import CONTROLS
from .table import measure
from .verdicts import HOLDS, RATE, decided

RIVALS = ("method", "rival", *CONTROLS["image"])


def calibration(
    ledgers: int = 200, claims: int = 40, scenes: int = 40, true: int = 4, seed: int = 0, rate: float = RATE
) -> pd.DataFrame:
    """What the ledger says of simulated claims that a method is better than a rival.

    In each ledger ``true`` of the claims are so, by just the effect that their row says it could have found; in the others
    method and rival are equally good. All beat the controls, so that these rule out no false one: the worst case. Scores
    share the difficulty of their scene, and the method's are skewed. Sentences of one claim each; how often "does not hold" and
    "no effect" are wrong isn't simulated. rate : of false discoveries.

    Returns a row a ledger: ``false``, claims without effect that are said to hold, and ``found``, the share of the true ones
    that are (NaN for none). Without a true one at most a share ``rate`` of the ledgers should have a false one; found should
    be at least 0.8 on average.

    Examples
    --------
    >>> xk.evaluation.claims.calibration(ledgers=2, claims=3, true=0).columns.tolist()
    ['false', 'found']
    """
    check_whole(1, ledgers=ledgers, claims=claims, scenes=scenes)
    check_whole(0, claims, true=true)
    check_number(0, 1, rate=rate)
    draws = np.random.default_rng(seed)
    table = _claims(claims)
    rows = []
    for _ in range(ledgers):
        scores = _scores(draws, claims, scenes)
        detectable = measure(table, {"mixed": scores}, family=claims).detectable if true else np.zeros(claims)
        for name, effect in zip(table.metric[:true], detectable, strict=False):
            scores[name].loc[{"explainer": "method"}] += effect
        holds = decided(measure(table, {"mixed": scores}, family=claims), rate).to_numpy() == HOLDS
        rows.append({"false": holds[true:].sum(), "found": holds[:true].mean() if true else np.nan})
    return pd.DataFrame(rows)


def _claims(count: int) -> pd.DataFrame:
    """Rows as those of the ledger, each by a metric of its own."""
    given = {"kind": "compared", "first": "method", "second": "rival", "of": "image", "suites": "mixed"}
    given |= {"direction": "higher", "bound": "0", "margin": "0.01"}
    blank = "paper where text claimed statement_tested notebook above controls reason argument".split()
    names = [f"score-{index}" for index in range(count)]
    return pd.DataFrame({"claim": names, "sentence": names, "metric": names} | given | dict.fromkeys(blank, ""))


def _scores(draws: np.random.Generator, count: int, scenes: int) -> xr.Dataset:
    """Scores (sample, explainer) of all: the method as good as its rival, and the controls far worse."""
    shared = draws.normal(0, 0.3, (count, scenes, 1))
    own = 0.1 * draws.normal(size=(count, scenes, len(RIVALS)))
    own[..., 0] = 0.05 * (4 - draws.gamma(4, size=(count, scenes)))  # seldom very bad
    own[..., 2:] -= 0.5
    dims = ("sample", "explainer")
    return xr.Dataset(
        {f"score-{index}": (dims, values) for index, values in enumerate(shared + own)}, {"explainer": list(RIVALS)}
    )
