"""How far a sweep has come: its rows in ``sweep.json``, how each went in the ``run.json`` of its folder."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean

import pandas as pd
import xarray as xr

from ..files.atomic import write_text
from ..files.digests import ATTRIBUTE
from ..files.paths import runs_folder
from ..samples.bad_samples import count_bad_samples
from .lock import is_held
from .record import FILE, SWEEP, Status, is_done, now, read_record, stored, stores_of, write_record
from .sweep_plan import SHARD, Plan, Row
from .workbook import new_record


@dataclass(frozen=True)
class Listed:
    """A row as ``sweep.json`` lists it."""

    folder: str
    name: str
    label: str


def listed(row: Row) -> Listed:
    """How ``sweep.json`` lists a row."""
    return Listed(row.folder.name, row.name, row.label)


@dataclass(frozen=True)
class Sweep:
    """What a sweep is made of, as ``sweep.json`` holds it: the table it was asked for, its rows, when it was last begun, and
    how many rows are executed at once."""

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
        rows = [Listed(row["folder"], row["name"], row["label"]) for row in found["rows"]]
        return Sweep(**{**found, "rows": rows})
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} holds no sweep: there is no {SWEEP} in it") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / SWEEP} can't be read ({error})") from error


class Ledger:
    """The records of a sweep's folders, written whenever a row begins or ends."""

    def __init__(self, plan: Plan):
        self._rows, self._declared = plan.rows, plan.declared
        self._before: dict[Row, dict[str, int]] = {}
        self._records = {
            folder: new_record(folder, plan.declared, parameters, keep=True)
            for folder, parameters in plan.parameters.items()
        }
        names_in: dict[Path, list[str]] = {}
        for row in plan.rows:
            names_in.setdefault(row.folder, []).append(row.name)
        for folder, record in self._records.items():
            names = names_in[folder]
            known = {name: entry for name, entry in record["notebooks"].items() if "stamp" in entry}
            record["notebooks"] = {name: known.get(name, {"status": Status.WAITING}) for name in [*names, *known]}

    def entry(self, row: Row) -> dict:
        """What is known of a row."""
        return self._records[row.folder]["notebooks"][row.name]

    def is_done(self, row: Row) -> bool:
        """Whether the row was finished as it would now run, and all that it wrote is still there."""
        return is_done(self.entry(row), row.stamp, row.target)

    def begin(self, row: Row) -> None:
        """Remember which stores of a row are there before it writes its own."""
        self._before[row] = stores_of(row.folder, row.notebook.stem)

    def note(self, row: Row, **news: object) -> None:
        """Add to what is known of a row, and save it."""
        if news["status"] == Status.DONE:
            before = self._before.pop(row, {})
            # A share leaves parts alone; the stores are of all of them.
            news["stores"] = {} if row.values.get(SHARD) else stored(row.folder, row.notebook.stem, before)
            if SHARD in self._declared[row.notebook.stem]:  # it goes through datasets, and says what it could not use
                news["bad_samples"] = count_bad_samples(row.folder, row.values.get(SHARD))
        known = {} if news["status"] in (Status.RUNNING, Status.WAITING) else self.entry(row)
        entry = known | {"parameters": row.values, "stamp": row.stamp} | news
        self._records[row.folder]["notebooks"][row.name] = entry
        row.folder.mkdir(parents=True, exist_ok=True)
        write_record(row.folder, self._records[row.folder])

    def entries(self) -> list[tuple[Listed, dict]]:
        """The rows, each with what is known of it."""
        return [(listed(row), self.entry(row)) for row in self._rows]


def entries(folder: Path) -> list[tuple[Listed, dict]]:
    """The rows of the sweep in a folder, each with what is known of it; one that a killed sweep left running is waiting."""
    sweep, alive, records = read_sweep(folder), is_held(folder), {}
    found = []
    for row in sweep.rows:
        own = folder / row.folder
        if own not in records:
            records[own] = read_record(own)["notebooks"] if (own / FILE).exists() else {}
        entry = records[own].get(row.name, {"status": Status.WAITING})
        if entry["status"] == Status.RUNNING and not alive:
            entry = {"status": Status.WAITING, "reason": "was interrupted"}
        found.append((row, entry))
    return found


Entries = Sequence[tuple[Listed, dict]]


def counts(rows: Entries) -> str:
    """The rows by status."""
    found = Counter(entry["status"] for _, entry in rows)
    shown = ", ".join(
        f"{found[status]} {status}" for status in (Status.DONE, Status.FAILED, Status.RUNNING, Status.WAITING)
    )
    return f"{len(rows)} rows: {shown}"


def pace(rows: Entries, began: str, at_once: int) -> str:
    """Rows a minute since the sweep was begun, and the time that is left by how long each notebook took so far."""
    ended = [entry for _, entry in rows if entry.get("finished", "") >= began]
    minutes = _seconds_since(began) / 60
    if not ended or minutes <= 0:
        return "no row has ended yet"
    left = seconds_left(rows, at_once)
    return f"{len(ended) / minutes:.1f} a minute" + ("" if left is None else f", {_readable(left)} left")


def seconds_left(rows: Entries, at_once: int) -> float | None:
    """Time that the rows not yet ended will take: each as long as its notebook took on average, any as long as an average
    one where it has not been seen. None where nothing is known, or nothing left."""
    took: dict[str, list[float]] = {}
    for row, entry in rows:
        if "seconds" in entry and entry["status"] == Status.DONE and "same_as" not in entry:
            took.setdefault(_notebook(row), []).append(entry["seconds"])
    rest = [
        row for row, entry in rows if entry["status"] in (Status.RUNNING, Status.WAITING) and "held_up" not in entry
    ]
    if not took or not rest:
        return None
    overall = mean(seconds for each in took.values() for seconds in each)
    return sum(mean(took.get(_notebook(row), [overall])) for row in rest) / max(1, at_once)


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
