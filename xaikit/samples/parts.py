"""Results of a long computation in part files, a block of samples each: resumed, shared out, and opened as one; and the
samples that could not be used, with the reason of each.

A part is written whole or not at all, and says what it was made with; one that was made with the same is never computed
again, and one that was made with something else is never replaced, as it may be open. Parts of different blocks never meet, so
any number of processes may write into one folder, each its share.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr
from tqdm import tqdm

from ..files.schema import SCHEMA
from ..files.store import ATTRIBUTE, SchemaError, annotate, code_digest, provenance, read, write
from .source import Block, Reader, Source, hexadecimal, in_names

NOT_NUMBERS = ("explorer", "running", "plots")  # code that parts don't depend on
BAD_SAMPLES = "bad_samples"  # the stage of their stores
LISTED = 20  # bad samples
LEFT_OUT = "left out:"  # begins the reason of a good sample that a computation can't use
# From the good samples of a block, as a dataset of the inputs schema, to their results: floats or texts over ``sample``.
Compute = Callable[[xr.Dataset], xr.Dataset]


def compute_parts(
    folder: Path,
    source: Source,
    compute: Compute,
    stage: str,
    made_with: Mapping[str, object],
    clip: Reader | None = None,
    shard: str | None = None,
    progress: str = "",
) -> dict[str, str]:
    """Compute what is missing of a share, a file a block, ``folder/000012.0123456789abcdef.nc``, named by what it is made with.

    Parameters
    ----------
    folder : of these parts alone; made if it isn't there.
    source, clip : of the samples; see ``Source.inputs``.
    compute : called with the good samples of one block at a time. Where it can't use one it gives its ``reason`` (sample),
        which begins with ``LEFT_OUT`` and is "" for the others.
    stage : of the schema, that the results are of.
    made_with : what the results depend on beside the samples, as plain values: model, methods, options.
    shard : a share "i/k"; None for all.
    progress : name of the progress bar, empty for none.

    Returns the reason of each bad sample of the share, by its label: its results are NaN, and its reason stands in the
    coordinate ``error``. A block in which a bad image can be read by now is computed again.

    Examples
    --------
    >>> source, folder = xk.open_source("planted", 40), xk.files.run_folder("example") / "parts"
    >>> def brightness(inputs):
    ...     return inputs[["sample"]].assign(similarity=inputs.image.mean(("y", "x", "rgb")))
    >>> xk.samples.compute_parts(folder, source, brightness, "protocol", {"of": "images"})
    {}
    """
    folder.mkdir(parents=True, exist_ok=True)
    bad = {}
    for block, path, about in tqdm(_parts(folder, source, made_with, shard), disable=not progress, desc=progress):
        errors = _errors_in(path, about)
        if errors is None or _mended(source, block, errors, clip):
            errors = _compute(path, source, block, compute, stage, about, clip)
        bad |= {
            str(label): str(reason) for label, reason in zip(source.labels[block.rows], errors, strict=True) if reason
        }
    return bad


def open_parts(folder: Path, source: Source, made_with: Mapping[str, object], shard: str | None = None) -> xr.Dataset:
    """The parts of a share, all for None, as one dataset along ``sample``, in the source's order, read only where it is looked
    at. Raises FileNotFoundError that says how many parts are missing, or were made with something else.

    Examples
    --------
    >>> source, folder = xk.open_source("planted", 40), xk.files.run_folder("example") / "parts"
    >>> try:
    ...     xk.samples.open_parts(folder, source, {"of": "captions"})
    ... except FileNotFoundError as error:
    ...     print(str(error)[:14])
    2 of 2 parts i
    """
    found = _parts(folder, source, made_with, shard)
    missing = [path for _, path, about in found if _errors_in(path, about) is None]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(found)} parts in {folder} aren't computed yet, or with other choices"
            f" (the first is {missing[0].name}): run their shards first"
        )
    together = xr.concat(
        [xr.open_dataset(path, engine="h5netcdf", chunks={}) for _, path, _ in found],
        "sample", data_vars="minimal", coords="minimal", compat="override", join="outer", combine_attrs="override",
    )  # fmt: skip
    together.attrs.pop(ATTRIBUTE, None)  # that of the first alone
    return together


def _parts(
    folder: Path, source: Source, made_with: Mapping[str, object], shard: str | None
) -> list[tuple[Block, Path, dict]]:
    """The blocks of a share, each with its file and what this is made with, as a file gives it back."""
    made_with = {**made_with, "code": code_digest(without=NOT_NUMBERS)}
    blocks = source.blocks(shard)
    about = [json.loads(json.dumps({**made_with, "samples": source.digest(block.rows)})) for block in blocks]
    return [
        (block, folder / f"{block.number:06}.{hexadecimal(one)}.nc", one)
        for block, one in zip(blocks, about, strict=True)
    ]


def _errors_in(path: Path, made_with: Mapping) -> np.ndarray | None:
    """The reasons (block,) in a part that was made with just this; None where there is none such."""
    try:
        with xr.open_dataset(path, engine="h5netcdf") as ds:
            return ds.error.values.astype(str) if provenance(ds).get("made_with") == made_with else None
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, SchemaError):
        return None


def _mended(source: Source, block: Block, errors: np.ndarray, clip: Reader | None) -> bool:
    """Whether a sample that was bad is good by now."""
    bad = [place for place, reason in enumerate(errors) if reason and not reason.startswith(LEFT_OUT)]
    return any(source.is_good(block.rows.start + place, clip) for place in bad)


def _compute(
    path: Path, source: Source, block: Block, compute: Compute, stage: str, made_with: dict, clip: Reader | None
) -> np.ndarray:
    inputs = source.inputs(block.rows, clip)
    errors = inputs.error.values.astype(str)
    good = inputs.isel(sample=np.flatnonzero(errors == "")).drop_vars("error")
    results = compute(good) if len(good.sample) else inputs[["sample"]].drop_attrs()
    texts = {name: "" for name, variable in results.data_vars.items() if variable.dtype.kind in "UTO"}
    results = results.reindex(sample=inputs.sample.values, fill_value=texts)
    if "reason" in results:  # of good samples that were left out
        errors = np.where(errors == "", results.reason.values.astype(str), errors)
        results = results.drop_vars("reason")
    results = results.assign_coords(error=("sample", errors))
    write(annotate(results, stage, made_with=made_with), path, stage)
    return errors


def save_bad_samples(reasons: dict[str, dict[str, str]], folder: Path, share: str | None = None) -> Path:
    """Store the reasons by dataset and sample, in the run's folder, under a name of its own for a share "i/k".

    Examples
    --------
    >>> xk.samples.save_bad_samples({"coco": {"139-0": "there is no file"}}, xk.files.run_folder("example")).name
    'bad_samples.nc'
    """
    rows = [(dataset, label, reason) for dataset, own in reasons.items() for label, reason in own.items()]
    columns = np.array(rows, dtype=str).reshape(-1, 3).T
    ds = xr.Dataset({name: ("bad", values) for name, values in zip(SCHEMA[BAD_SAMPLES], columns, strict=True)})
    written = write(annotate(ds, BAD_SAMPLES), _path(folder, share), BAD_SAMPLES)
    if share is None:  # what the shares have stored is among these
        for path in folder.glob(f"{BAD_SAMPLES}.*-of-*.nc"):
            path.unlink(missing_ok=True)
    return written


def count_bad_samples(folder: Path, share: str | None = None) -> int:
    """How many are stored there; none where nothing is, or nothing that can be read."""
    try:
        return read(_path(folder, share), BAD_SAMPLES).sizes["bad"]
    except (FileNotFoundError, SchemaError):
        return 0


def bad_samples(folder: Path) -> list[str]:
    """What the notebooks of a run, or of all runs of a sweep, have stored of bad samples: lines to be read, the first
    of many."""
    found = set()
    for path in sorted(folder.rglob(f"{BAD_SAMPLES}*.nc")):
        try:
            ds = read(path, BAD_SAMPLES)
        except SchemaError as error:
            found.add(str(error))
            continue
        rows = zip(ds.dataset.values, ds.sample_name.values, ds.reason.values, strict=True)
        found |= {f"bad sample {name} of {dataset} in {path.parent.name}: {reason}" for dataset, name, reason in rows}
    lines = sorted(found)
    return lines[:LISTED] + ([f"and {len(lines) - LISTED} more bad samples"] if len(lines) > LISTED else [])


def _path(folder: Path, share: str | None) -> Path:
    return folder / f"{BAD_SAMPLES}{in_names(share)}.nc"
