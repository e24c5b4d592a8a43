"""The ledger of the papers' claims (``data/claims.csv``): what each says, what was measured here, and whether it holds."""

import numpy as np
import pandas as pd
import xarray as xr

from ..paths import data_folder
from ..store import annotate
from .comparisons import (
    COMPARISONS,
    DESCRIBED,
    DIRECTIONS,
    FAILS,
    FEWEST,
    HOLDS,
    INCONSISTENT,
    SINGLES,
    UNCORRECTED,
    UNDECIDED,
    UNTESTABLE,
    VARIANTS,
    rule,
)
from .consistency import inconsistencies, paper_tables
from .measuring import applies, map_change, measure, time_ratios, verdict


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
