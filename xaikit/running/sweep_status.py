"""How far a sweep has come: its rows in ``sweep.json``, how each went in the ``run.json`` of its folder, and its stores."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from ..files.paths import runs_folder, write_text
from .lock import is_held
from .record import FILE, SWEEP, Status, now, read_record

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Listed:
    """A row as ``sweep.json`` lists it."""

    folder: str
    name: str
    label: str


Entries = Sequence[tuple[Listed, dict]]


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


def entries(folder: Path) -> list[tuple[Listed, dict]]:
    """The rows of the sweep in a folder, each with what is known of it; one that a killed sweep left running is waiting."""
    sweep, alive = read_sweep(folder), is_held(folder)
    own = {row.folder: folder / row.folder for row in sweep.rows}
    records = {name: read_record(of)["notebooks"] if (of / FILE).exists() else {} for name, of in own.items()}
    found = []
    for row in sweep.rows:
        entry = records[row.folder].get(row.name, {"status": Status.WAITING})
        if entry["status"] == Status.RUNNING and not alive:
            entry = {"status": Status.WAITING, "reason": "was interrupted"}
        found.append((row, entry))
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
    """Time that the rows not yet ended will take: each as long as its notebook took on average, any as long as an average
    one where it has not been seen. None where nothing is known, or nothing left."""
    took: dict[str, list[float]] = {}
    for row, entry in rows:
        if entry["status"] == Status.DONE and "same_as" not in entry:
            took.setdefault(_notebook(row), []).append(entry["seconds"])
    left = (Status.RUNNING, Status.WAITING)
    rest = [_notebook(row) for row, entry in rows if entry["status"] in left and "held_up" not in entry]
    if not took or not rest:
        return None
    overall = mean(seconds for each in took.values() for seconds in each)
    return sum(mean(took.get(notebook, [overall])) for notebook in rest) / at_once


def report(folder: Path) -> str:
    """The state of the sweep in a folder, as lines: counts, pace, and each row that failed or runs."""
    sweep, rows = read_sweep(folder), entries(folder)
    lines = [f"{folder.name}: {counts(rows)}"]
    if is_held(folder):
        lines[0] += f"; {pace(rows, sweep.began, sweep.at_once)}"
    elif any(entry["status"] == Status.WAITING for _, entry in rows):
        lines.append("no process is working on it: give the same command again, and it goes on")
    for status in (Status.FAILED, Status.RUNNING):
        lines += [_line(row, entry) for row, entry in rows if entry["status"] == status]
    return "\n".join(lines)


def _line(row: Listed, entry: dict) -> str:
    about = entry.get("reason") or f"for {_readable(_seconds_since(entry['started']))}"
    return f"{entry['status']:8}{row.label}: {about}"


def _seconds_since(moment: str) -> float:
    return (datetime.fromisoformat(now()) - datetime.fromisoformat(moment)).total_seconds()


def _notebook(row: Listed) -> str:
    return row.name.partition(".")[0]


def _readable(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def open_sweep(sweep: str | Path, store: str) -> "xr.Dataset":
    """A store, by its name such as "evaluation", of every run of a sweep, read where it is looked at.

    sweep : a sweep's folder, or its name among the runs.

    Returns a dataset along a new dimension ``run``, with the parameters that differ between runs as coordinates: select
    with ``ds.where(ds.model == "tiny-clip", drop=True)``, average with ``ds.groupby("model").mean()``. Runs whose
    notebook didn't finish are left out. Raises FileNotFoundError where none has the store.
    """
    import pandas as pd
    import xarray as xr

    from ..files.digests import ATTRIBUTE

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
