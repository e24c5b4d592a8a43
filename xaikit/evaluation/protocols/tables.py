"""Text, image and group score of Winoground, and the choice between two images, before and after masking."""

import numpy as np
import pandas as pd
import xarray as xr

from ...files.schema import HIGHER, LOWER
from ...files.store import annotate, provenance
from ...measures.intervals import as_text, summary
from ..claims import paper_tables
from .ranking import retrieval_columns

Columns = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
AFTER = (("deletion", "without hottest"), ("insertion", "hottest only"))


def winoground_scores(own: np.ndarray, foil: np.ndarray) -> dict[str, np.ndarray]:
    """Text, image and group score (pairs, ...), 1 or 0, of cosines (pairs, 2, ...).

    own : of each of the two images with its own caption, foil : of each with the other's. Text: each image is nearer to
    its own caption than to the other. Image: each caption is nearer to its own image. Group: both. Equal is not nearer.
    """
    text = (own > foil).all(1)
    image = (own > foil[:, ::-1]).all(1)
    return {"text": text.astype(float), "image": image.astype(float), "group": (text & image).astype(float)}


def pair_columns(ds: xr.Dataset, progress: bool = False) -> Columns:
    """Scores of the pairs both of whose samples are good, at the first of the two, before masking and after."""
    good = np.flatnonzero(np.isfinite(ds.similarity.values)) if "pair" in ds else []
    if not len(good):
        raise ValueError("no pair of good samples is complete: two samples in a row with the same pair are needed")
    both = good[np.argsort(ds.pair.values[good], kind="stable")].reshape(-1, 2)
    found = {}
    for suffix, own, foil in _states(ds):
        known = np.isfinite(own[both]).all(1)
        for name, score in winoground_scores(own[both], foil[both]).items():
            column = found[f"{name}{suffix}"] = np.full(own.shape, np.nan)
            column[both[:, 0]] = np.where(known, score, np.nan)
    return found, {}


def foil_columns(ds: xr.Dataset, progress: bool = False) -> Columns:
    """Whether the caption is nearer to its image than to the foil image, before masking and after."""
    states = _states(ds)
    found = {f"accuracy{suffix}": np.where(np.isfinite(own), own > foil, np.nan) for suffix, own, foil in states}
    return found, {}


def _states(ds: xr.Dataset) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """How the columns of a state end, and both cosines in it, (sample, explainer)."""
    shape = (ds.sizes["sample"], ds.sizes["explainer"])
    before = [np.broadcast_to(ds[name].values[:, None], shape) for name in ("similarity", "foil_similarity")]
    left = ds[["similarity_left", "foil_similarity_left"]].load()
    after = [(f" {said}", *(left[name].sel(way=way).values for name in left)) for way, said in AFTER]
    return [("", *before), *after]


BETTER = {"drop": LOWER, "deletion": LOWER, "without hottest": LOWER}
CONFIDENCE = ("image drop", "image increase", "text drop", "text increase")


def measured(ds: xr.Dataset, progress: bool = False) -> xr.Dataset:
    """What a protocol's results come to: a dataset of the ``evaluation`` schema, with a variable for each column.

    ds : of ``confidence``, ``classification``, ``retrieval``, ``winoground`` or ``foil_images``.

    Returns (sample, explainer) for each column of the table, NaN where a sample doesn't count in it, and where there are
    curves their means ``... curve`` (explainer, step) over the shares ``fraction`` (step). A sample of an image retrieval
    is a caption, of a text retrieval the first caption of an image, of Winoground the first of a pair.
    Raises ValueError for other datasets, or where no sample is good.
    """
    about = provenance(ds).get("made_with", {})
    columns = _COLUMNS.get(about.get("protocol"))
    if columns is None:
        raise ValueError("the dataset isn't the result of a protocol: give what protocols.confidence and so on return")
    if not (ds.error == "").any():
        raise ValueError(f"none of the {len(ds.sample)} samples is good; the first: {ds.error.values[0]}")
    values, curves = columns(ds, progress)
    out = xr.Dataset(coords={"sample": ds.sample.values, "explainer": ds.explainer.values})
    out = out.assign_coords(error=("sample", ds.error.values.astype(str)))
    for name, value in values.items():
        out[name] = (("sample", "explainer"), value, _attributes(name))
    for name, curve in curves.items():
        out[f"{name} curve"] = (("explainer", "step"), curve, _attributes(name))
    if curves:
        out["fraction"] = ("step", ds.step.values)
    return annotate(out, "evaluation", made_with=about)


def _attributes(name: str) -> dict[str, str]:
    better = next((way for word, way in BETTER.items() if word in name), HIGHER)
    return {"long_name": name, "units": "percent" if "increase" in name else "1", "score_direction": better}


def _confidence_columns(ds: xr.Dataset, progress: bool) -> Columns:
    return {name: ds[name.replace(" ", "_")].values for name in CONFIDENCE}, {}


def _class_columns(ds: xr.Dataset, progress: bool) -> Columns:
    values, curves = {}, {}
    for way in ("deletion", "insertion"):
        for label, said in (("truth", way), ("prediction", f"prediction {way}")):
            for first in ds.first.values.tolist():
                place = {"label": label, "first": first}
                values[f"{said} @{first}"] = ds[way].sel(place).values
                curves[f"{said} @{first}"] = ds[f"{way}_curve"].sel(place).mean("sample").values
    return values, curves


_COLUMNS = {
    "confidence": _confidence_columns,
    "classification": _class_columns,
    "retrieval": retrieval_columns,
    "winoground": pair_columns,
    "foil images": foil_columns,
}


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
