"""The first good samples of a source, for a study that wants a number of them and not whatever is broken."""

import numpy as np
import xarray as xr

from ..files.checks import check_whole
from ..files.paths import data_folder
from ..files.store import annotate, inputs_digest, open_store, read
from .source import Reader, Source


def first_good(source: Source, n: int, clip: Reader | None = None) -> xr.Dataset:
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


def open_inputs(run: str, data: str = "planted", n: int | None = None, clip: Reader | None = None) -> xr.Dataset:
    """The first n scenes of a run ("planted": those that notebook 00 stored), of a store of inputs elsewhere, by its path
    (relative to the repository), or of a dataset "LAYOUT:PATH" as ``open_source`` takes it, all for None.

    Of a dataset these are the first n good samples, 64 for None, as ``clip`` gets them; the provenance's ``left_out`` tells
    of the bad ones. The provenance holds their ``inputs_digest``.
    """
    path = data_folder().parent / data
    if ":" in data and not path.is_file():
        from .layouts import open_source

        scenes = first_good(open_source(data), 64 if n is None else n, clip)
    else:
        check_whole(1, **({} if n is None else {"n": n}))
        scenes = (open_store(run, "inputs") if data == "planted" else read(path, "inputs")).isel(sample=slice(n))
    return annotate(scenes, "inputs", inputs_digest=inputs_digest(scenes))
