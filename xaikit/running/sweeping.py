"""Execute a sweep's rows, each once what it needs is done, and keep account of all of them."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from dask.distributed import Client, Future, as_completed

from ..files.atomic import replacing
from ..files.checks import check_whole
from .execution import check_limit
from .lock import hold
from .record import FILE, SWEEP, Status, now
from .sweep_cluster import SchedulerLost, connected, outcome, slots, submit
from .sweep_ledger import Ledger, Sweep, counts, listed, pace, read_sweep
from .sweep_plan import Plan, Row, make_plan

Say = Callable[[str], None]


class SweepFailed(RuntimeError):
    """Some rows failed; the message lists them, a line each."""


def sweep(
    out: str | Path,
    table: Sequence[Mapping[str, object]],
    only: Sequence[str] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    limit: float | None = None,
    threads: int = 1,
    failed_only: bool = False,
    notebooks: Path | None = None,
    say: Say = print,
) -> Path:
    """Execute the notebooks with each row's parameters, and skip what an earlier sweep into the folder has finished alike.

    Parameters
    ----------
    out : the sweep's folder; each different row gets a run folder in it, named after the parameters that vary, and rows that
        differ only in their ``shard`` share one.
    table : parameters by name, a mapping a row; see ``read_table`` and ``combinations``.
    only : the notebooks that are wanted, by number or name; those whose stores they read come with them. None for all.
    workers : processes on this machine, None for one a core; each executes one notebook at a time.
    scheduler : address of a Dask scheduler, such as "tcp://host:8786", whose workers share this file system; None for a
        cluster of this machine's own.
    limit : seconds that a notebook may take, None for any.
    threads : of the computations of each notebook.
    failed_only : do only the rows that failed before or met bad samples, and those that need them.
    say : is told each line of progress.

    Returns the folder. Raises ValueError for bad arguments before any work, or for a folder in use; SweepFailed, when all
    else is done, with the rows that failed. Whatever kills the sweep, doing it again goes on where it was.
    """
    check_whole(1, threads=threads, **({} if workers is None else {"workers": workers}))
    check_limit(limit)
    if workers is not None and scheduler is not None:
        raise ValueError(
            f"workers={workers} and scheduler={scheduler}: a scheduler brings its own workers; give one of the two"
        )
    if not table:
        raise ValueError("the sweep has no row: give a table, or parameters with values")
    folder = Path(out).resolve()
    plan = make_plan(table, folder, only, notebooks)
    at_once = workers or os.cpu_count() or 1
    with hold(folder):
        if (folder / FILE).exists():
            raise ValueError(f"{folder} holds a run of the workbook, not a sweep: give another --out")
        before = read_sweep(folder).rows if (folder / SWEEP).exists() else []
        rows = [listed(row) for row in plan.rows]
        about = Sweep([dict(row) for row in table], list(only) if only else None, rows, now(), at_once)
        execution = _Execution(plan, folder, about, say)
        if failed_only:
            execution.leave_all_but_failed()
        if other := {(row.folder, row.name) for row in before} - {(row.folder, row.name) for row in rows}:
            say(f"{len(other)} rows of an earlier table in this folder are no longer listed; what they gave stays")
        about.write(folder)
        execution.run(lambda: connected(scheduler, at_once), limit, threads)
    return folder


class _Execution:
    """One go at a plan: each row is done already, copied from another that would give the same, or executed."""

    def __init__(self, plan: Plan, folder: Path, about: Sweep, say: Say):
        self._rows, self._folder, self._about, self._say = plan.rows, folder, about, say
        self._ledger = Ledger(plan)
        self._by_name = {(row.folder, row.name): row for row in plan.rows}
        self._state = {row: Status.DONE if self._ledger.is_done(row) else Status.WAITING for row in plan.rows}

    def leave_all_but_failed(self) -> None:
        """Do only what failed before or met bad samples, what needs it, and what it needs that isn't done any more."""
        again: set[Row] = set()
        for row in self._rows:
            entry = self._ledger.entry(row)
            if entry["status"] == Status.FAILED or entry.get("bad_samples") or again.intersection(self._needs(row)):
                again.add(row)
                self._state[row] = Status.WAITING
        for row in reversed(self._rows):
            if row in again:
                again.update(need for need in self._needs(row) if self._state[need] != Status.DONE)
        self._state = {row: own for row, own in self._state.items() if row in again or own == Status.DONE}

    def run(self, connect: Callable[[], AbstractContextManager[Client]], limit: float | None, threads: int) -> None:
        """Do what is left. Raises SweepFailed at the end if any row failed."""
        if done := self._in(Status.DONE):
            self._say(f"{len(done)} of {len(self._rows)} rows are done already, with the same code and parameters")
        for row in self._in(Status.WAITING):
            self._ledger.note(row, status=Status.WAITING)
        self._copy_what_is_known()
        if waiting := self._in(Status.WAITING):
            self._say(
                f"{len(waiting)} notebooks to execute into {self._folder}; see how far with: xaikit status {self._folder}"
            )
            with connect() as client:
                self._execute(client, limit, threads)
        self._account_for_the_rest()
        self._say(f"{self._folder.name}: {counts(self._ledger.entries())}")
        if missing := self._in(Status.FAILED) + self._in(Status.WAITING):
            raise SweepFailed("\n".join(f"{row.label}: {self._ledger.entry(row)['reason']}" for row in missing))
        others = (row for row in self._rows if row not in self._state)
        if left := sum(self._ledger.entry(row)["status"] != Status.DONE for row in others):
            raise SweepFailed(
                f"{left} rows were not executed yet and didn't fail: give the sweep's own command to go on"
            )

    def _execute(self, client: Client, limit: float | None, threads: int) -> None:
        self._about = replace(self._about, at_once=max(1, slots(client)))
        self._about.write(self._folder)
        running: dict[Future, Row] = {}
        ended = as_completed()
        while True:
            for row in self._ready()[: max(0, max(1, slots(client)) - len(running))]:
                self._ledger.begin(row)
                self._note(row, status=Status.RUNNING, started=now())
                future = submit(client, row, limit, threads)
                running[future] = row
                ended.add(future)
            if not running:
                return
            future = next(ended)
            try:
                self._end(running.pop(future), outcome(future))
            except SchedulerLost as error:
                raise SweepFailed(str(error)) from error
            self._copy_what_is_known()

    def _ready(self) -> list[Row]:
        """The rows that can begin: all that they need is done, and none with the same stamp has begun, or failed."""
        begun = {row.stamp for row in self._in(Status.RUNNING) + self._in(Status.FAILED)}
        first = {row.stamp: row for row in reversed(self._in(Status.WAITING)) if self._can_begin(row)}
        return [row for row in self._in(Status.WAITING) if first.get(row.stamp) is row and row.stamp not in begun]

    def _copy_what_is_known(self) -> None:
        """Copy what a row would give from one that is done with the same stamp: the same notebook in another run's folder."""
        known = {row.stamp: row for row in self._in(Status.DONE)}
        for row in self._in(Status.WAITING):
            if row.stamp in known and self._can_begin(row):
                done = known[row.stamp]
                row.folder.mkdir(parents=True, exist_ok=True)
                self._ledger.begin(row)
                for name in self._ledger.entry(done).get("stores", {}):
                    _copy(done.folder / name, row.folder / name)
                _copy(done.target, row.target)
                row.target.with_suffix(".part.ipynb").unlink(missing_ok=True)
                self._note(row, status=Status.DONE, same_as=done.label, finished=now())

    def _end(self, row: Row, result: dict) -> None:
        if row.stamp != row.stamp_now():  # somebody edits code meanwhile: done, but to be done again next time
            result |= {"stamp": "the code changed while the sweep ran"}
        self._note(row, **result)
        how = f"done in {result['seconds']:.1f} s" if result["status"] == Status.DONE else f"FAILED, {result['reason']}"
        ended, failed = len(self._in(Status.DONE) + self._in(Status.FAILED)), len(self._in(Status.FAILED))
        rate = pace(self._ledger.entries(), self._about.began, self._about.at_once)
        self._say(f"[{ended}/{len(self._rows)}] {row.label}: {how}; {failed} failed; {rate}")

    def _account_for_the_rest(self) -> None:
        """What never began needs a row that failed, or would be the same as one."""
        failed = {row.stamp: row for row in self._in(Status.FAILED)}
        for row in self._in(Status.WAITING):
            if row.stamp in failed:
                other = failed[row.stamp]
                self._note(
                    row, status=Status.FAILED, reason=f"{self._ledger.entry(other)['reason']} (in {other.label})"
                )
            else:
                missing = next(need for need in self._needs(row) if self._state.get(need) != Status.DONE)
                self._note(row, status=Status.WAITING, reason=f"needs {missing.name}, which isn't done", held_up=True)

    def _needs(self, row: Row) -> list[Row]:
        return [self._by_name[row.folder, need] for need in row.needs]

    def _can_begin(self, row: Row) -> bool:
        return all(self._state.get(need) == Status.DONE for need in self._needs(row))

    def _in(self, status: Status) -> list[Row]:
        return [row for row, own in self._state.items() if own == status]

    def _note(self, row: Row, **news) -> None:
        self._state[row] = news["status"]
        self._ledger.note(row, **news)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
