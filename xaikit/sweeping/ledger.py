"""How far a sweep has come: its rows in ``sweep.json``, how each went in the ``run.json`` of its folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..atomic import write_text
from ..bad_samples import count_bad_samples
from ..run_lock import is_held
from ..run_record import FILE, SWEEP, Status, is_done, read_record, stored, stores_of, write_record
from ..workbook import new_record
from .plan import SHARD, Plan, Row


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
