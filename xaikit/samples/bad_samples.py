"""Samples that could not be used, with the reason of each: what a notebook stores of them, and what a command lists."""

from pathlib import Path

import numpy as np
import xarray as xr

from ..files.store import SchemaError, annotate, read, write
from .source import in_names

STAGE = "bad_samples"
LISTED = 20


def save_bad_samples(reasons: dict[str, dict[str, str]], folder: Path, share: str | None = None) -> Path:
    """Store the reasons by dataset and sample, in the run's folder, under a name of its own for a share "i/k".

    Examples
    --------
    >>> xk.samples.save_bad_samples({"coco": {"139-0": "there is no file"}}, xk.files.run_folder("example")).name
    'bad_samples.nc'
    """
    rows = [(dataset, label, reason) for dataset, own in reasons.items() for label, reason in own.items()]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(("dataset", "sample_name", "reason"))}
    ds = xr.Dataset({name: ("bad", np.array(values, dtype=str)) for name, values in columns.items()})
    written = write(annotate(ds, STAGE), _path(folder, share), STAGE)
    if share is None:  # what the shares have stored is among these
        for path in folder.glob(f"{STAGE}.*-of-*.nc"):
            path.unlink(missing_ok=True)
    return written


def count_bad_samples(folder: Path, share: str | None = None) -> int:
    """How many are stored there; none where nothing is, or nothing that can be read."""
    try:
        return read(_path(folder, share), STAGE).sizes["bad"]
    except (FileNotFoundError, SchemaError):
        return 0


def bad_samples(folder: Path) -> list[str]:
    """What the notebooks of a run, or of all runs of a sweep, have stored of bad samples: lines to be read, the first
    of many."""
    found = set()
    for path in sorted(folder.rglob(f"{STAGE}*.nc")):
        try:
            ds = read(path, STAGE)
        except SchemaError as error:
            found.add(str(error))
            continue
        rows = zip(ds.dataset.values, ds.sample_name.values, ds.reason.values, strict=True)
        found |= {f"bad sample {name} of {dataset} in {path.parent.name}: {reason}" for dataset, name, reason in rows}
    lines = sorted(found)
    return lines[:LISTED] + ([f"and {len(lines) - LISTED} more bad samples"] if len(lines) > LISTED else [])


def _path(folder: Path, share: str | None) -> Path:
    return folder / f"{STAGE}{in_names(share)}.nc"
