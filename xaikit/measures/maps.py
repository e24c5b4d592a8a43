"""What metrics ask of the maps that they are given."""

import numpy as np
import xarray as xr

KINDS = ({"row", "col"}, {"token"})


def checked(heat: xr.DataArray, scenes: xr.Dataset, what: str = "maps") -> xr.DataArray:
    """Maps as (sample, explainer, row, col) or (sample, explainer, token), with an explainer where there was none.

    Raises ValueError, in one sentence, for anything but real and finite values with these dimensions, of the same
    samples as the scenes. what: what they are called there.
    """
    if not isinstance(heat, xr.DataArray):
        raise ValueError(f"the {what} are a {type(heat).__name__}: give a DataArray, such as explain_all(...).heat")
    if "explainer" not in heat.dims:
        heat = heat.expand_dims({"explainer": [heat.attrs.get("explainer", "heat")]})
    place = set(heat.dims) - {"sample", "explainer"}
    if "sample" not in heat.dims or place not in KINDS:
        raise ValueError(
            f"the {what} have the dimensions {heat.dims}: sample, row and col, or sample and token, are needed"
        )
    heat = heat.transpose("sample", "explainer", *(("token",) if "token" in place else ("row", "col")))
    if not np.array_equal(heat.sample, scenes.sample):
        raise ValueError(
            f"the {what} are of {heat.sizes['sample']} samples but the scenes of {scenes.sizes['sample']}, or of others"
        )
    if heat.dtype.kind not in "fiu":
        raise ValueError(f"the {what} hold values of type {heat.dtype}: real numbers are needed")
    finite = np.isfinite(heat.values).reshape(len(heat), -1).all(1)
    if not finite.all():
        bad = heat.sample.values[~finite][0]
        raise ValueError(f"the map of sample {bad} holds NaN or infinite values: all must be finite")
    return heat if heat.dtype.kind == "f" else heat.astype(float)


def check_values(heat: np.ndarray, n: int, of: str) -> None:
    """Raise ValueError for bare values that aren't (n, explainers, rows, cols), or for "text" (n, explainers, tokens),
    or aren't finite."""
    wanted = "(n, explainers, rows, cols)" if of == "image" else "(n, explainers, tokens)"
    if heat.ndim != (4 if of == "image" else 3) or len(heat) != n:
        raise ValueError(f"heat of shape {heat.shape}: {wanted} of the {n} samples is needed")
    if heat.dtype.kind not in "fiu" or not np.isfinite(heat).all():
        raise ValueError("the heat holds NaN or infinite values, or no real numbers: all must be finite")
