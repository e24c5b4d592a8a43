"""The stores of one run folder, read when they are asked for."""

import json
from functools import cached_property
from pathlib import Path

import xarray as xr

from ..paths import runs_folder
from ..run_record import FILE
from ..store import inputs_digest, provenance, read


class RunStores:
    """What a run has stored. run : its name among the runs, or the path of its folder, whole or from the working folder.

    Raises FileNotFoundError for a folder that isn't there or holds no store.
    """

    def __init__(self, run: str):
        beside = [folder for folder in (runs_folder() / run, Path(run)) if folder.is_dir()]
        if not beside:
            known = ", ".join(known_runs()) or "none yet, make one with 'make workbook'"
            raise FileNotFoundError(f"run={run!r}: there is no such run folder; the runs are {known}")
        self.run, self.folder = run, beside[0].resolve()
        self.paths = {path.stem: path for path in sorted(self.folder.glob("*.nc")) if not path.name.startswith(".")}
        if not self.paths:
            raise FileNotFoundError(f"run={run!r}: {self.folder} holds no store (.nc); run the workbook into it first")
        self._open: dict[str, xr.Dataset] = {}

    def __getitem__(self, name: str) -> xr.Dataset:
        """A store by name, read whole and checked. Raises ValueError for one that the run doesn't have."""
        if name not in self.paths:
            raise ValueError(f"run={self.run!r} has no store {name!r}: it has {', '.join(self.paths)}")
        if name not in self._open:
            self._open[name] = read(self.paths[name], self.stages[name])
        return self._open[name]

    @cached_property
    def stages(self) -> dict[str, str]:
        """The stage of the schema that each store is of, by name; "" for one that can't be read."""
        return {name: _stage(path) for name, path in self.paths.items()}

    @cached_property
    def scenes(self) -> xr.Dataset:
        """The run's scenes. Raises FileNotFoundError for a run without any."""
        if "inputs" not in self.paths:
            raise FileNotFoundError(f"run={self.run!r} has no store 'inputs': run notebook 00_planted_scenes first")
        return self["inputs"]

    @cached_property
    def inputs_digest(self) -> str:
        """Of the run's scenes, to tell which stores are made from them."""
        return inputs_digest(self.scenes)

    @cached_property
    def parameters(self) -> dict[str, object]:
        """What the run was started with, from its record; nothing where it has none."""
        record = self.folder / FILE
        return json.loads(record.read_text(encoding="utf-8")).get("parameters", {}) if record.is_file() else {}

    def made_from_scenes(self, stage: str) -> dict[str, xr.Dataset]:
        """The stores of a stage that were made from the run's own scenes, by name."""
        named = [name for name, of in self.stages.items() if of == stage]
        return {name: self[name] for name in named if provenance(self[name]).get("inputs_digest") == self.inputs_digest}


def known_runs() -> list[str]:
    """The names of the runs that hold a store."""
    folder = runs_folder()
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path.name for path in found if path.is_dir() and any(path.glob("*.nc"))]


def _stage(path: Path) -> str:
    try:
        with xr.open_dataset(path, engine="h5netcdf") as ds:
            return str(provenance(ds).get("stage", ""))
    except (OSError, ValueError):
        return ""
