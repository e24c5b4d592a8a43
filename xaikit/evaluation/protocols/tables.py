"""Protocols' results as measures with the columns of the papers' tables, beside which they can be put."""

import pandas as pd
import xarray as xr

from ...files.schema import HIGHER, LOWER
from ...files.store import annotate, provenance
from ...measures.intervals import as_text, summary
from ..claims import paper_tables
from ..metrics import score_variable
from ..retrieval import retrieval_columns
from .faithfulness import class_columns, confidence_columns
from .pairs import foil_columns, pair_columns

COLUMNS = {  # and whether each of them is all or nothing
    "confidence": (confidence_columns, False),
    "classification": (class_columns, False),
    "retrieval": (retrieval_columns, False),
    "winoground": (pair_columns, True),
    "foil images": (foil_columns, True),
}


def measured(ds: xr.Dataset, progress: bool = False) -> xr.Dataset:
    """What a protocol's results come to: a dataset of the ``evaluation`` schema, with a variable for each column.

    ds : of ``confidence``, ``classification``, ``retrieval``, ``winoground`` or ``foil_images``.

    Returns (sample, explainer) for each column of the table, NaN where a sample doesn't count in it, and where there are
    curves their means ``... curve`` (explainer, step) over the shares ``fraction`` (step). Of a retrieval an image
    counts once, at its first caption, of Winoground a pair, at its first.
    Raises ValueError for other datasets, or where no sample is good.
    """
    about = provenance(ds).get("made_with", {})
    if about.get("protocol") not in COLUMNS:
        raise ValueError("the dataset isn't the result of a protocol: give what protocols.confidence and so on return")
    if not (ds.error == "").any():
        raise ValueError(f"none of the {len(ds.sample)} samples is good; the first: {ds.error.values[0]}")
    columns, paired = COLUMNS[about["protocol"]]
    values, curves = columns(ds, progress)
    out = xr.Dataset(coords={"sample": ds.sample.values, "explainer": ds.explainer.values})
    out = out.assign_coords(error=("sample", ds.error.values.astype(str)))
    for suffix, dims, found in (("", ("sample", "explainer"), values), (" curve", ("explainer", "step"), curves)):
        for name, value in found.items():
            better = LOWER if any(word in name for word in ("drop", "deletion", "without hottest")) else HIGHER
            units = "percent" if "increase" in name else "1"
            most = 100.0 if units == "percent" else 1.0
            limits = None if "drop" in name else (0.0, most)
            whole = most if units == "percent" or paired else None
            out[f"{name}{suffix}"] = score_variable(dims, value, name, better, units, limits, None if suffix else whole)
    if curves:
        out["fraction"] = ("step", ds.step.values)
    return annotate(out, "evaluation", made_with=about)


def table(ds: xr.Dataset, interval: bool = False, digits: int = 3) -> pd.DataFrame:
    """Methods x columns, named as in ``data/paper_tables.csv``: means over the good samples.

    ds : a protocol's results, or what ``measured`` made of them. interval : text instead of numbers, "mean [low, high]"
        with the 95 % interval over samples; those that a retrieval searches among stay the same. digits : of that.

    ``attrs`` of the table say of which protocol, model and data it is, and of how many good samples.
    """
    found = ds if _is_measured(ds) else measured(ds)
    columns = [name for name, values in found.data_vars.items() if values.dims == ("sample", "explainer")]
    made_with = provenance(found)["made_with"]
    if interval:
        shown = as_text(summary(found[columns]), digits).replace("nan", "")
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
