"""Rows of a sweep as futures on Dask, each after those that it needs; what is known of them stands in the runs' folders.

A row notes in the ``run.json`` of its folder how far it has come, and finds there that it was done already: whatever dies
may be done again.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed
from filelock import FileLock

from ..files.checks import check_whole
from ..files.paths import replacing
from .execution import check_limit, failure, prepare
from .record import FILE, SWEEP, Status, begin_record, earlier_entries, hold, note, now, read_record, stores_in
from .status import Listed, Sweep, counts, pace, read_sweep
from .sweep_plan import Plan, make_plan
from .workbook import Execution

Say = Callable[[str], None]
ALLOWED_DEATHS = 5  # of workers under one row, before the row is given up
PATIENCE = 10  # seconds until a scheduler that doesn't answer is taken for none


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
    out : the sweep's folder; each different row gets a run folder in it, named after its parameters, and rows that
        differ only in their ``shard`` share one.
    table : parameters by name, a mapping a row, as of ``rows_of``.
    only, limit, notebooks : as in ``run``; the notebooks whose stores the wanted ones read come with them.
    workers : processes on this machine, None for one a core; each executes one notebook at a time.
    scheduler : address of a Dask scheduler, such as "tcp://host:8786", whose workers share this file system; None for a
        cluster of this machine's own.
    threads : of the computations of each notebook.
    failed_only : do only the rows that failed before or met bad samples, and those that need them.
    say : gets each line of progress.

    Models on the hub are fetched first. Returns the folder. Raises ValueError for bad arguments before any work, or for a folder
    in use; HubError for a model that can't be had; SweepFailed, when all
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
        rows = {(row.folder.name, row.name): row for row in plan.rows}
        before = read_sweep(folder).rows if (folder / SWEEP).exists() else []
        if other := {(row.folder, row.name) for row in before} - {*rows}:
            say(f"{len(other)} rows of an earlier table in this folder are no longer listed; what they gave stays")
        listed = [Listed(*key, row.label) for key, row in rows.items()]
        about = Sweep([dict(row) for row in table], list(only) if only else None, listed, now(), at_once)
        _Progress(plan, folder, about, failed_only, say, here=scheduler is None).do(scheduler, limit, threads)
    return folder


class _Progress:
    """One go at a plan: what is known of each row, the rows that are to be done, and from which each would be copied."""

    def __init__(self, plan: Plan, folder: Path, about: Sweep, failed_only: bool, say: Say, here: bool):
        self._folder, self._about, self._say = folder, about, say
        waiting, earlier = {"status": Status.WAITING}, {own: earlier_entries(own) for own in plan.parameters}
        self._entries = {row: earlier[row.folder].pop(row.name, waiting) for row in plan.rows}
        done = {row for row, entry in self._entries.items() if row.is_done(entry)}
        again = self._failed(done) if failed_only else {*plan.rows} - done
        self._done, self._left = done - again, [row for row in plan.rows if row in again]
        prepare([row.effective for row in self._left], here)  # before anything is written
        about.write(folder)
        self._entries |= dict.fromkeys(self._left, waiting)
        records = {own: {} for own in plan.parameters}
        for row, entry in self._entries.items():
            records[row.folder][row.name] = entry
        for own, known in records.items():
            others = {name: entry for name, entry in earlier[own].items() if "stamp" in entry}
            begin_record(own, plan.notebooks, plan.parameters[own], known | others)
        first: dict[str, Execution] = {}
        for row in [*(row for row in plan.rows if row in self._done), *self._left]:
            first.setdefault(row.stamp, row)
        self._original = {row: first[row.stamp] for row in self._left if first[row.stamp] is not row}

    def _failed(self, done: set[Execution]) -> set[Execution]:
        """What failed before or met bad samples, what needs it, and what it needs that isn't done any more."""
        again: set[Execution] = set()
        for row, entry in self._entries.items():
            if entry["status"] == Status.FAILED or entry.get("bad_samples") or again.intersection(row.needs):
                again.add(row)
        for row in reversed(self._entries):
            if row in again:
                again.update(need for need in row.needs if need not in done)
        return again

    def do(self, scheduler: str | None, limit: float | None, threads: int) -> None:
        """Do what is left. Raises SweepFailed at the end if any row failed."""
        if self._done:
            self._say(
                f"{len(self._done)} of {len(self._entries)} rows are done already, with the same code and parameters"
            )
        if self._left:
            self._say(
                f"{len(self._left)} notebooks to execute into {self._folder}; see how far with: xaikit status {self._folder}"
            )
            with _connected(scheduler, self._about.at_once) as client:
                self._execute(client, limit, threads)
        self._say(f"{self._folder.name}: {counts(self._entries.items())}")
        if missing := [row for row in self._left if self._entries[row]["status"] != Status.DONE]:
            raise SweepFailed("\n".join(f"{row.label}: {self._entries[row]['reason']}" for row in missing))
        if left := sum(entry["status"] != Status.DONE for entry in self._entries.values()):
            raise SweepFailed(
                f"{left} rows were not executed yet and didn't fail: give the sweep's own command to go on"
            )

    def _execute(self, client: Client, limit: float | None, threads: int) -> None:
        workers = client.scheduler_info(n_workers=-1).get("workers", ())
        self._about = replace(self._about, at_once=max(1, len(workers)))
        self._about.write(self._folder)
        futures: dict[Execution, Future] = {}
        for row in self._left:
            before = [futures.get(of, self._entries[of]) for of in self._before(row)]
            key = f"{row.notebook.stem}-{uuid.uuid4().hex}"  # Dask learns how long a notebook takes from its name
            given = row, self._original.get(row), before, limit, threads
            futures[row] = client.submit(_outcome, *given, key=key, pure=False)
        row_of = {future: row for row, future in futures.items()}
        ended = as_completed(row_of)
        for future in ended:
            row, status = row_of[future], future.status
            if status == "cancelled":
                raise SweepFailed("the Dask scheduler was lost; give the same command again, and the sweep goes on")
            if status == "finished":
                self._entries[row] = future.result()
            elif status == "error":
                self._entries[row] = self._without_worker(row, futures, future.exception())
            else:  # the worker that had its entry died just now, and another looks it up
                ended.add(future)
                continue
            if row not in self._original and "held_up" not in self._entries[row]:
                self._tell(row)

    def _before(self, row: Execution) -> list[Execution]:
        """What must have ended before a row: the rows that it needs, and that of which it would be a copy."""
        return [*row.needs, *([self._original[row]] if row in self._original else [])]

    def _without_worker(self, row: Execution, futures: Mapping[Execution, Future], error: BaseException) -> dict:
        """The entry of a row that no worker could give one, or one that such a row holds up."""
        why = "its worker was killed again and again" if isinstance(error, KilledWorker) else failure(error)
        entry = {"status": Status.FAILED, "reason": why, "finished": now()}
        before = [
            entry if of in futures and futures[of].status == "error" else self._entries[of] for of in self._before(row)
        ]
        if any(known is entry for known in before):
            return _outcome(row, self._original.get(row), before)
        note(row.folder, {row.name: {"parameters": row.values, "stamp": row.stamp} | entry})
        return entry

    def _tell(self, row: Execution) -> None:
        entry, ended = self._entries[row], [entry["status"] for entry in self._entries.values()]
        how = f"done in {entry['seconds']:.1f} s" if entry["status"] == Status.DONE else f"FAILED, {entry['reason']}"
        failed = ended.count(Status.FAILED)
        rate = pace(self._entries.items(), self._about.began, self._about.at_once)
        self._say(f"[{ended.count(Status.DONE) + failed}/{len(ended)}] {row.label}: {how}; {failed} failed; {rate}")


def _outcome(
    row: Execution,
    original: Execution | None,
    before: Sequence[dict],
    limit: float | None = None,
    threads: int | None = None,
) -> dict:
    """What becomes of a row, as its entry in ``run.json`` says: held up by what it needs, a copy of its original, or executed.

    before : the entries of what it needs, and of its original.
    """
    entry = {"parameters": row.values, "stamp": row.stamp}
    missing = [need.name for need, known in zip(row.needs, before, strict=False) if known["status"] != Status.DONE]
    if missing:
        entry |= {"status": Status.WAITING, "reason": f"needs {missing[0]}, which isn't done", "held_up": True}
    elif original and before[-1]["status"] != Status.DONE:
        entry |= {"status": Status.FAILED, "reason": f"{before[-1]['reason']} (in {original.label})"}
    elif original:
        stores = _copy(original, row, before[-1].get("stores", {}))
        entry |= {"status": Status.DONE, "stores": stores, "same_as": original.label, "finished": now()}
    else:
        return _executed(row, limit, threads)
    note(row.folder, {row.name: entry})
    return entry


def _copy(original: Execution, row: Execution, stores: Mapping[str, str]) -> dict[str, str]:
    """Copy the executed notebook and the stores that a row with the same stamp gave in another run's folder."""
    for name in {*stores_in(row.folder, row.stores)} - {*stores}:  # of another version
        (row.folder / name).unlink()
    for name in (*stores, None):
        source, target = (original.folder / name, row.folder / name) if name else (original.target, row.target)
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    row.target.with_suffix(".part.ipynb").unlink(missing_ok=True)
    return dict(stores)


def _executed(row: Execution, limit: float | None, threads: int | None) -> dict:
    # The runner, its connection, or another worker may have died and left this row to a second worker: it waits for the first.
    with FileLock(row.folder / f".{row.name}.lock"):
        entry = read_record(row.folder)["notebooks"][row.name]
        if row.is_done(entry):
            return entry
        entry = row.carry_out(limit, threads)
        if row.stamp != row.stamp_now():  # somebody edits code meanwhile: done, but to be done again next time
            entry |= {"stamp": "the code changed while the sweep ran"}
            note(row.folder, {row.name: entry})
    return entry


@contextlib.contextmanager
def _connected(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of the scheduler at this address, or of a cluster of so many single-threaded processes on this machine, whose
    parts talk to one another under keys of their own. Raises ConnectionError for an address where no scheduler answers."""
    # A row is handed to a worker once that is free, not before: some take seconds, some an hour.
    settings = {
        "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
        "distributed.scheduler.worker-saturation": 1.0,
    }
    with dask.config.set(settings), contextlib.ExitStack() as opened:
        if scheduler:
            try:
                client = opened.enter_context(Client(scheduler, timeout=PATIENCE))
            except (OSError, ValueError) as error:
                raise ConnectionError(f"no Dask scheduler answers at {scheduler} ({error})") from error
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError as error:
                raise ConnectionError(f"the Dask scheduler at {scheduler} has no worker: start some first") from error
        else:
            own = {"threads_per_worker": 1, "memory_limit": None, "dashboard_address": "127.0.0.1:0", "security": True}
            try:
                cluster = opened.enter_context(LocalCluster(n_workers=workers, silence_logs="CRITICAL", **own))
            except RuntimeError as error:
                raise ConnectionError(
                    f"Dask's workers did not start ({error}); give the same command again. A script of your own calls it under "
                    "if __name__ == '__main__':, since each worker imports the script"
                ) from error
            client = opened.enter_context(Client(cluster))
        yield client
