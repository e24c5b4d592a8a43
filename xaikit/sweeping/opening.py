"""A store of all runs of a sweep as one dataset."""

from pathlib import Path

import pandas as pd
import xarray as xr

from ..digests import ATTRIBUTE
from ..paths import runs_folder
from ..run_record import Status, read_record
from .ledger import entries


def open_sweep(sweep: str | Path, store: str) -> xr.Dataset:
    """A store, by its name such as "evaluation", of every run of a sweep, read where it is looked at.

    sweep : a sweep's folder, or its name among the runs.

    Returns a dataset along a new dimension ``run``, with the parameters that differ between runs as coordinates: select
    with ``ds.where(ds.model == "tiny-clip", drop=True)``, average with ``ds.groupby("model").mean()``. Runs whose
    notebook didn't finish are left out. Raises FileNotFoundError where none has the store.
    """
    folder = Path(sweep) if Path(sweep).is_dir() else runs_folder() / sweep
    done = [(row, entry.get("stores", {})) for row, entry in entries(folder) if entry["status"] == Status.DONE]
    found = [folder / row.folder for row, stores in done if f"{store}.nc" in stores]
    if not found:
        there = ", ".join(sorted({name.removesuffix(".nc") for _, stores in done for name in stores})) or "none yet"
        raise FileNotFoundError(f"no run of the sweep {folder} has a store {store!r}; the stores are {there}")
    given = pd.DataFrame([read_record(run)["parameters"] for run in found])
    given = given[[name for name in given if given[name].astype(str).nunique() > 1]]
    opened = [xr.open_dataset(run / f"{store}.nc", engine="h5netcdf", chunks={}) for run in found]
    opened = [ds.reset_coords([name for name in ds.coords if name not in ds.indexes]) for ds in opened]
    together = xr.concat(
        opened, "run", data_vars="all", coords="minimal", compat="override", join="outer", combine_attrs="override"
    )
    together.attrs.pop(ATTRIBUTE, None)  # that of the first alone
    return together.assign_coords(run=range(len(found)), **{name: ("run", given[name].to_numpy()) for name in given})
