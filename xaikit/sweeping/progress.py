"""How many rows are done, how fast they go, and how long the rest will take."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import mean

from ..run_lock import is_held
from ..run_record import Status, now
from .ledger import Listed, entries, read_sweep

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
