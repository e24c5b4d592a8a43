"""A store of all runs of a sweep as one dataset."""

from pathlib import Path

import pandas as pd
import xarray as xr

from ..digests import ATTRIBUTE
from ..paths import runs_folder
from ..run_record import read_record
from .ledger import read_sweep


def open_sweep(sweep: str | Path, store: str) -> xr.Dataset:
    """A store, by its name such as "evaluation", of every run of a sweep, read where it is looked at.

    sweep : a sweep's folder, or its name among the runs.

    Returns a dataset along a new dimension ``run``, with the parameters that differ between runs as coordinates: select
    with ``ds.where(ds.model == "tiny-clip", drop=True)``, average with ``ds.groupby("model").mean()``. Runs that lack the
    store are left out. Raises FileNotFoundError where none has it.
    """
    folder = Path(sweep) if Path(sweep).is_dir() else runs_folder() / sweep
    runs = [folder / name for name in dict.fromkeys(row.folder for row in read_sweep(folder).rows)]
    found = [run for run in runs if (run / f"{store}.nc").is_file()]
    if not found:
        raise FileNotFoundError(f"no run of the sweep {folder} has a store {store!r}")
    given = pd.DataFrame([read_record(run)["parameters"] for run in found])
    given = given[[name for name in given if given[name].astype(str).nunique() > 1 and name != "shard"]]
    opened = [xr.open_dataset(run / f"{store}.nc", engine="h5netcdf", chunks={}) for run in found]
    together = xr.concat(
        opened, "run", data_vars="all", coords="minimal", compat="override", join="outer", combine_attrs="override"
    )
    together.attrs.pop(ATTRIBUTE, None)  # that of the first alone
    return together.assign_coords(run=range(len(found)), **{name: ("run", given[name].to_numpy()) for name in given})
