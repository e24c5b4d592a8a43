"""The first good samples of a source, for a study that wants a number of them and not whatever is broken."""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..checks import check_whole
from ..store import annotate
from .source import Source

if TYPE_CHECKING:
    from ..clip import Clip


def first_good(source: Source, n: int, clip: "Clip | None" = None) -> xr.Dataset:
    """The first n good samples, or as many as there are, as a dataset of the ``inputs`` schema.

    The provenance's ``left_out`` holds the reason of each bad one among them, by its label. Raises ValueError for n below 1,
    and for a source without any good sample.
    """
    check_whole(1, n=n)
    found, left_out, wanted = [], {}, n
    for block in source.blocks():
        inputs = source.inputs(block.rows, clip)
        errors = inputs.error.values.astype(str)
        good = np.flatnonzero(errors == "")[:wanted]
        seen = errors[: good[-1] + 1] if len(good) == wanted else errors
        left_out |= {str(inputs.sample.values[place]): str(seen[place]) for place in np.flatnonzero(seen != "")}
        found.append(inputs.isel(sample=good))
        wanted -= len(good)
        if not wanted:
            break
    if wanted == n:
        label, reason = next(iter(left_out.items()))
        raise ValueError(f"the {source.layout} dataset holds no good sample; the first one, {label}: {reason}")
    fill = {"token_text": "", "token_object": -1}
    together = xr.concat(found, "sample", join="outer", fill_value=fill, combine_attrs="override").drop_vars("error")
    return annotate(together, "inputs", left_out=left_out)
