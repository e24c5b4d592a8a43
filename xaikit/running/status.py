"""How far a run or a sweep has come, as its folder says: the rows of ``sweep.json``, how each went in the ``run.json`` of its
own folder, and whether the stores are still what was saved."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean

import pandas as pd
import xarray as xr

from ..files.paths import leftovers, runs_folder, write_text
from ..files.store import ATTRIBUTE, SchemaError, digest_in, read, stage_in
from .record import FILE, SWEEP, Status, is_held, now, read_record, table
from .workbook import Execution


@dataclass(frozen=True)
class Listed:
    """A row of a sweep: the folder of its run, the name of the executed notebook, and how it is called in messages."""

    folder: str
    name: str
    label: str


Entries = Collection[tuple[Listed | Execution, dict]]  # rows, each with what ``run.json`` says of it


@dataclass(frozen=True)
class Sweep:
    """What a sweep is made of, as ``sweep.json`` holds it: its table of parameters, its rows, when it was last begun, and how
    many rows are executed at once."""

    table: list[dict]
    only: list[str] | None
    rows: list[Listed]
    began: str
    at_once: int

    def write(self, folder: Path) -> None:
        """Save it in the sweep's folder."""
        write_text(folder / SWEEP, json.dumps(asdict(self), indent=2) + "\n")


def read_sweep(folder: Path) -> Sweep:
    """The sweep in a folder. Raises FileNotFoundError if there is none, ValueError for a damaged one."""
    try:
        found = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        return Sweep(**{**found, "rows": [Listed(**row) for row in found["rows"]]})
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} holds no sweep: there is no {SWEEP} in it") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / SWEEP} can't be read ({error})") from error


def _as_it_is(entry: dict, alive: bool) -> dict:
    """What is known of a notebook or row; one that a killed process left running is waiting."""
    killed = entry["status"] == Status.RUNNING and not alive
    return {"status": Status.WAITING, "reason": "was interrupted"} if killed else entry


def entries(folder: Path) -> list[tuple[Listed, dict]]:
    """The rows of the sweep in a folder, each with what is known of it; one that a killed sweep left running is waiting."""
    rows, alive = read_sweep(folder).rows, is_held(folder)
    own = {row.folder: folder / row.folder for row in rows}
    records = {name: read_record(of)["notebooks"] if (of / FILE).exists() else {} for name, of in own.items()}
    found = []
    for row in rows:
        entry = records[row.folder].get(row.name, {"status": Status.WAITING})
        found.append((row, _as_it_is(entry, alive)))
    return found


def counts(rows: Entries) -> str:
    """The rows by status."""
    found = Counter(entry["status"] for _, entry in rows)
    shown = (Status.DONE, Status.FAILED, Status.RUNNING, Status.WAITING)
    return f"{len(rows)} rows: {', '.join(f'{found[status]} {status}' for status in shown)}"


def pace(rows: Entries, began: str, at_once: int) -> str:
    """Rows a minute since the sweep was begun, and the time that is left by how long each notebook took so far."""
    ended = sum(entry.get("finished", "") >= began for _, entry in rows)
    minutes = _seconds_since(began) / 60
    if not ended or minutes <= 0:
        return "no row has ended yet"
    left = seconds_left(rows, at_once)
    return f"{ended / minutes:.1f} a minute" + ("" if left is None else f", {_readable(left)} left")


def seconds_left(rows: Entries, at_once: int) -> float | None:
    """Time that the rows not yet ended will take: each as long as its notebook took on average, or any did where that has not
    been seen. None where nothing is known, or nothing left."""
    took, rest = {}, []
    for row, entry in rows:
        notebook = row.name.partition(".")[0]  # without its share
        if entry["status"] == Status.DONE and "same_as" not in entry:
            took.setdefault(notebook, []).append(entry["seconds"])
        elif entry["status"] in (Status.RUNNING, Status.WAITING) and "held_up" not in entry:
            rest.append(notebook)
    every = sum(took.values(), [])
    return sum(mean(took.get(notebook, every)) for notebook in rest) / at_once if every and rest else None


def report(folder: Path) -> tuple[str, bool]:
    """How the run or sweep in a folder went, as lines, and whether anything of it failed: a run's notebooks, or a sweep's
    counts, pace, and each row that failed or runs."""
    if not (folder / SWEEP).exists():
        record, alive = read_record(folder), is_held(folder)
        record["notebooks"] = {name: _as_it_is(entry, alive) for name, entry in record["notebooks"].items()}
        return table(record), any(entry["status"] == Status.FAILED for entry in record["notebooks"].values())
    sweep, rows = read_sweep(folder), entries(folder)
    lines, failed = [f"{folder.name}: {counts(rows)}"], _of_status(Status.FAILED, rows)
    if is_held(folder):
        lines[0] += f"; {pace(rows, sweep.began, sweep.at_once)}"
    elif any(entry["status"] == Status.WAITING for _, entry in rows):
        lines.append("no process is working on it: give the same command again, and it goes on")
    return "\n".join([*lines, *failed, *_of_status(Status.RUNNING, rows)]), bool(failed)


def _of_status(status: Status, rows: Entries) -> list[str]:
    found = []
    for row, entry in rows:
        if entry["status"] == status:
            about = entry.get("reason") or f"for {_readable(_seconds_since(entry['started']))}"
            found.append(f"{status:8}{row.label}: {about}")
    return found


def _seconds_since(moment: str) -> float:
    return (datetime.fromisoformat(now()) - datetime.fromisoformat(moment)).total_seconds()


def _readable(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Checked:
    """How many stores a folder holds, and what is wrong with it, a sentence each."""

    stores: int
    problems: list[str]


def check_run(folder: Path) -> Checked:
    """Read every store in a run's folder, or a sweep's, and hold it against the schema and the digest that it carries, and
    those that ``run.json`` lists against what is there; notebooks that failed are told of. Raises FileNotFoundError for a
    folder that isn't there.

    Examples
    --------
    >>> path = xk.save_store(xk.draw_scenes(2), "checked", "inputs")
    >>> xk.running.check_run(path.parent)
    Checked(stores=1, problems=[])
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    paths, problems = sorted(path for path in folder.rglob("*.nc") if not path.name.startswith(".")), []
    for path in paths:
        try:
            read(path, stage_in(path))
        except SchemaError as error:
            problems.append(str(error))
    for record in sorted(folder.rglob(FILE)):
        problems += _differences(record.parent)
    if not is_held(folder):  # nobody is writing them now
        problems += [f"{path} was left half-written by a process that was killed" for path in leftovers(folder)]
    return Checked(len(paths), problems)


def _differences(folder: Path) -> Iterator[str]:
    for name, entry in read_record(folder)["notebooks"].items():
        if entry["status"] == Status.FAILED:
            yield f"{folder / name} failed: {entry.get('reason')}"
        for file, digest in entry.get("stores", {}).items() if entry["status"] == Status.DONE else ():
            path = folder / file
            if not path.is_file():
                yield f"{path} is missing: {name} wrote it"
            elif digest_in(path) not in ("", digest):
                yield f"{path} isn't the one that {name} wrote: another run has replaced it"


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
