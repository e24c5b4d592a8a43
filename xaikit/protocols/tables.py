"""A protocol's table in the shape of the paper's, by itself or beside the paper's own numbers."""

import pandas as pd
import xarray as xr

from ..claims.consistency import paper_tables
from ..metrics.intervals import as_text, summary
from ..store import provenance
from .measuring import measured


def table(ds: xr.Dataset, interval: bool = False, digits: int = 3, seed: int = 0) -> pd.DataFrame:
    """Methods x columns, named as in ``data/paper_tables.csv``: means over the good samples.

    ds : a protocol's results, or what ``measured`` made of them. interval : text instead of numbers, "mean [low, high]"
        with the 95 % bootstrap interval over samples; those that a retrieval searches among stay the same. digits, seed :
        of that.

    ``attrs`` of the table say of which protocol, model and data it is, and of how many good samples.
    """
    found = ds if _is_measured(ds) else measured(ds)
    columns = [name for name, values in found.data_vars.items() if values.dims == ("sample", "explainer")]
    made_with = provenance(found)["made_with"]
    if interval:
        shown = as_text(summary(found[columns], seed), digits).replace("nan [nan, nan]", "")
    else:
        shown = pd.DataFrame({name: found[name].mean("sample").to_series() for name in columns})
    shown = shown.rename_axis(index="method", columns=None)
    shown.attrs = {
        **{name: made_with[name] for name in ("protocol", "model", "layout")},
        "samples": int((found.error == "").sum()),
    }
    return shown


def beside_paper(here: pd.DataFrame, number: int) -> pd.DataFrame:
    """A table above that table of the MMEL paper, whose rows are of another model and of other data.

    here : of ``table``, with the columns of that table. number : 1 for confidence, 2 for classes, 3 for retrieval.
    """
    known = paper_tables()
    part = known[(known.paper == "MMEL") & (known.table == str(number))]
    if part.empty:
        raise ValueError(f"number={number!r}: the MMEL paper has the tables 1, 2 and 3")
    theirs = part.pivot(index="method", columns="column", values="value").loc[
        part.method.unique(), part.column.unique()
    ]
    if list(here.columns) != list(theirs.columns):
        raise ValueError(
            f"the table has the columns {', '.join(here.columns)}, but table {number} of the paper {', '.join(theirs.columns)}"
        )
    about = here.attrs
    label = f"here: {about['model']}, {about['layout']}, {about['samples']} samples" if about else "here"
    of_paper = f"paper: {part.dataset.iloc[0]}, another model"
    return pd.concat({label: here, of_paper: theirs}, names=["source", "method"])


def bad_samples(ds: xr.Dataset) -> pd.DataFrame:
    """A row for each sample that counts nowhere, and for each map that isn't finite: label, and the reason."""
    errors = ds.error.to_series().astype(str)
    rows = [(label, reason) for label, reason in errors.items() if reason]
    if "finite" in ds:
        odd = (ds.finite == 0).to_series()
        rows += [(label, f"the map of {explainer} holds NaN or infinite values") for label, explainer in odd.index[odd]]
    return pd.DataFrame(rows, columns=["label", "reason"])


def _is_measured(ds: xr.Dataset) -> bool:
    about = provenance(ds)
    return about.get("stage") == "evaluation" and "protocol" in about.get("made_with", {})
