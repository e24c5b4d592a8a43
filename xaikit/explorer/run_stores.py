"""The stores of one run folder, read when they are asked for."""

from functools import cached_property
from pathlib import Path

import xarray as xr

from ..files.paths import runs_folder
from ..files.store import inputs_digest, provenance, read, writer_of
from ..running.record import read_record


class RunStores:
    """What a run has stored. run : its name among the runs, or the path of its folder, whole or from the working folder.

    Raises FileNotFoundError for a folder that isn't there or holds no store.
    """

    def __init__(self, run: str):
        self.run, self.folder = run, folder_of(run)
        self.paths = {path.stem: path for path in _stores_in(self.folder)}
        if not self.paths:
            raise FileNotFoundError(f"run={run!r}: {self.folder} holds no store (.nc); run the workbook into it first")
        self._open: dict[str, xr.Dataset] = {}
        self.broken: dict[str, str] = {}  # why a store was left out, by name

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
            raise FileNotFoundError(f"run={self.run!r} has no store 'inputs': run {writer_of('inputs')} first")
        return self["inputs"]

    @cached_property
    def inputs_digest(self) -> str:
        """Of the run's scenes, to tell which stores are made from them."""
        return inputs_digest(self.scenes)

    @cached_property
    def parameters(self) -> dict[str, object]:
        """What the run was started with; nothing where its record doesn't say."""
        return dict(self.record["parameters"]) if self.record else {}

    @cached_property
    def record(self) -> dict | None:
        """The run's record, None where there is none that can be read."""
        try:
            record = read_record(self.folder)
            return record if isinstance(record["parameters"], dict) else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def made_from_scenes(self, stage: str) -> dict[str, xr.Dataset]:
        """The stores of a stage that were made from the run's own scenes, by name. One that can't be read is left out, and
        its reason kept in ``broken``; a run without scenes has none."""
        if "inputs" not in self.paths:
            return {}
        found = {}
        for name in (name for name, of in self.stages.items() if of == stage and name not in self.broken):
            try:
                if provenance(self[name]).get("inputs_digest") == self.inputs_digest:
                    found[name] = self[name]
            except (OSError, ValueError) as error:
                self.broken[name] = str(error)
        return found


def folder_of(run: str) -> Path:
    """A run's folder, by its name among the runs or its path. Raises FileNotFoundError where there is none."""
    for folder in (runs_folder() / run, Path(run)):
        if folder.is_dir():
            return folder.resolve()
    known = ", ".join(known_runs()) or "none yet, make one with 'make workbook'"
    raise FileNotFoundError(f"run={run!r}: there is no such run folder; the runs are {known}")


def stamp(run: str) -> tuple:
    """Changes whenever a store of the run does."""
    files = [(path.name, path.stat()) for path in _stores_in(folder_of(run))]
    return tuple((name, about.st_mtime_ns, about.st_size) for name, about in files)


def _stores_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.nc") if not path.name.startswith("."))


def known_runs() -> list[str]:
    """The names of the runs that hold a store.

    Examples
    --------
    >>> all(name for name in known_runs())
    True
    """
    folder = runs_folder()
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path.name for path in found if path.is_dir() and any(path.glob("*.nc"))]


def _stage(path: Path) -> str:
    try:
        with xr.open_dataset(path, engine="h5netcdf") as ds:
            return str(provenance(ds).get("stage", ""))
    except (OSError, ValueError):
        return ""
