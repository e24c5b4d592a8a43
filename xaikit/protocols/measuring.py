"""From a protocol's results to a value for each sample, method, and column of the paper's table."""

import numpy as np
import xarray as xr

from ..store import annotate, provenance
from .pair_scores import foil_columns, pair_columns
from .retrieval_ranks import retrieval_columns

HIGHER, LOWER = "higher is better", "lower is better"
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


def _confidence_columns(ds: xr.Dataset, progress: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return {name: ds[name.replace(" ", "_")].values for name in CONFIDENCE}, {}


def _class_columns(ds: xr.Dataset, progress: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
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
