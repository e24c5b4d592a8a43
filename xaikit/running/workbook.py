"""Run the numbered notebooks in order with papermill, each into the run's folder, and record how it went."""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..files.checks import check_whole
from ..files.paths import run_folder
from ..files.store import digest_in, writer_of
from ..samples.parts import BAD_SAMPLES, count_bad_samples
from .execution import check_limit, end_kernels, execute, failure, prepare
from .notebooks import (
    FOR_THE_RUNNER,
    Notebook,
    all_needs_of,
    find_notebooks,
    parameters_for,
    read_notebook,
    with_whole_paths,
)
from .record import SWEEP, Status, begin_record, earlier_entries, hold, note, now, read_record, stamp, stored, stores_in

SHARD, INPUTS = "shard", "inputs"


class RunFailed(RuntimeError):
    """A notebook failed; the message says which, why, and what was and wasn't run."""


@dataclass(frozen=True, eq=False)
class Execution:
    """A notebook to be executed into a run's folder.

    name : of the executed notebook, without its ending. values : of its parameters. stores : the names of those that it writes.
    label : how it is called in messages. needs : what comes first in the same folder. stamp_now : computes its stamp again,
    which changes with whatever its results depend on.
    """

    folder: Path
    name: str
    notebook: Path
    values: Mapping[str, object]
    stores: tuple[str, ...]
    label: str
    needs: tuple["Execution", ...]
    stamp_now: Callable[[], str]
    stamp: str

    @property
    def effective(self) -> dict[str, object]:
        """The values of all its parameters."""
        return read_notebook(self.notebook).defaults | dict(self.values)

    @property
    def target(self) -> Path:
        """The executed notebook."""
        return self.folder / f"{self.name}.ipynb"

    def is_done(self, entry: Mapping) -> bool:
        """Whether it was finished, as its entry in ``run.json`` says, as it would be now, and its stores are still there."""
        return (
            entry["status"] == Status.DONE
            and entry.get("stamp") == self.stamp
            and self.target.is_file()
            and all(digest_in(self.folder / name) == digest for name, digest in entry.get("stores", {}).items())
        )

    def carry_out(self, limit: float | None = None, threads: int | None = None) -> dict:
        """Execute it, keep its entry in ``run.json`` up to date before and after, and return that. A notebook that fails is an
        entry like another; only an interruption is raised."""
        shard = self.values.get(SHARD)
        stores = () if shard else self.stores  # a share leaves parts alone; the stores are of all of them
        before, clock = stores_in(self.folder, stores), time.perf_counter()
        entry = {"parameters": dict(self.values), "stamp": self.stamp, "started": now()}
        note(self.folder, {self.name: entry | {"status": Status.RUNNING}})
        outcome = {"status": Status.FAILED, "reason": "interrupted"}
        try:
            execute(self.notebook, self.target, self.values, self.folder.parent, limit, threads)
            outcome = {"status": Status.DONE, "stores": stored(self.folder, stores, before)}
            if BAD_SAMPLES in self.stores:
                outcome["bad_samples"] = count_bad_samples(self.folder, shard)
        except Exception as error:
            outcome["reason"] = failure(error)
        finally:
            entry |= outcome | {"finished": now(), "seconds": round(time.perf_counter() - clock, 2)}
            note(self.folder, {self.name: entry})
        return entry


def execution_of(
    notebook: Notebook,
    folder: Path,
    name: str,
    given: Mapping[str, object],
    needs: Sequence[Execution] = (),
    differs: str = "",
) -> Execution:
    """A notebook as it is to be executed in this folder, by this name, with these parameters, in which it ``differs`` from the
    same in other folders, after those that it needs."""
    stamps = {need.name: need.stamp for need in needs}
    if SHARD in notebook.parameters or given.get("train"):  # what it leaves beside stores stays in its folder
        stamps["folder"] = folder.name
    stamp_now = partial(stamp, notebook.path, given, stamps)
    values = {**given, **({FOR_THE_RUNNER: folder.name} if FOR_THE_RUNNER in notebook.parameters else {})}
    label = f"{differs} {name}".strip()
    return Execution(folder, name, notebook.path, values, notebook.stores, label, tuple(needs), stamp_now, stamp_now())


def run(
    out: str | Path | None = None,
    parameters: Mapping[str, object] | None = None,
    only: Sequence[str] | None = None,
    resume: bool = False,
    notebooks: Path | None = None,
    limit: float | None = None,
    workers: int = 1,
) -> Path:
    """Execute the notebooks in order and leave them, executed, in one folder with ``run.json``.

    Parameters
    ----------
    out : the run's folder; its name is the notebooks' parameter ``run``. None for ``runs/default``.
    parameters : values for parameters that the notebooks declare; each goes to the notebooks that know it.
    only : run these notebooks only, named by number ("04") or in full.
    resume : skip, and say so, what is already done with the same code, parameters, and files that these name.
    notebooks : the folder of the notebooks, if not the checkout's.
    limit : seconds that a notebook may take; then it is stopped, and has failed. None for any.
    workers : how many notebooks are executed at once, each after those whose stores it reads, with its share of the cores.

    Models on the hub are fetched first. Returns the run's folder. Raises ValueError for bad arguments before any work, or for a
    folder that another run writes into, HubError for a model that can't be had, RunFailed when a notebook fails: what it got to
    stays as ``NN_name.part.ipynb``, and no further notebook is begun.
    """
    known, chosen = find_notebooks(folder=notebooks), find_notebooks(only, notebooks)
    parameters = with_whole_paths(parameters or {})
    given = parameters_for(parameters, known, list(chosen))
    check_limit(limit)
    check_whole(1, workers=workers)
    folder = Path(out).resolve() if out else run_folder("default")
    with hold(folder):
        if (folder / SWEEP).exists():
            raise ValueError(f"{folder} holds a sweep, whose runs are the folders in it: give another --out")
        _check_inputs(folder, chosen, given)
        entries = {name: {"status": Status.WAITING} for name in known}
        if only or resume:
            entries |= {name: entry for name, entry in earlier_entries(folder).items() if name in known}
        needs, to_do = all_needs_of(known), {}
        for name, notebook in chosen.items():
            own = execution_of(notebook, folder, name, given[name])
            before = entries[name]
            # finished as it would now run, and after the last run of all whose stores it reads
            if (
                resume
                and not needs[name] & {*to_do}
                and own.is_done(before)
                and all(entries[need].get("finished", "") <= before["started"] for need in needs[name])
            ):
                print(
                    f"{name}: skipped, done at {before['finished']} with the same code, parameters and files",
                    flush=True,
                )
            else:
                to_do[name], entries[name] = own, {"status": Status.WAITING}
        prepare(own.effective for own in to_do.values())
        begin_record(folder, known, parameters, entries)
        _carry_out(to_do, needs, limit, workers)
    return folder


def _check_inputs(folder: Path, chosen: Mapping[str, Notebook], given: Mapping[str, Mapping[str, object]]) -> None:
    """Raise FileNotFoundError where the planted scenes that a chosen notebook reads neither lie in the folder nor are drawn by
    another: what else a notebook reads it can do without, or says so itself."""
    drawn = (folder / f"{INPUTS}.nc").is_file() or any(INPUTS in notebook.stores for notebook in chosen.values())
    for name, notebook in chosen.items():
        planted = (notebook.defaults | given[name]).get("data") == "planted"
        if not drawn and planted and INPUTS in (notebook.reads or ()):
            raise FileNotFoundError(
                f"{name} reads the scenes of {writer_of(INPUTS)}, and {folder} has none: add it to --only, or run it first"
            )


def _carry_out(
    to_do: Mapping[str, Execution], needs: Mapping[str, Collection[str]], limit: float | None, workers: int
) -> None:
    """Execute what is to be done, so many at once. Raises RunFailed for the first that fails, once the others have ended."""
    threads = None if workers == 1 else max(1, (os.cpu_count() or 1) // workers)
    waiting, running, failed = dict(to_do), {}, None
    with ThreadPoolExecutor(workers) as pool:
        while running or (waiting and not failed):
            ready = [name for name in waiting if not needs[name] & {*waiting, *running.values()} and not failed]
            for name in ready[: workers - len(running)]:
                print(f"{name}: running", flush=True)
                running[pool.submit(_in_thread, waiting.pop(name), limit, threads)] = name
            try:
                ended = wait(running, return_when=FIRST_COMPLETED).done
            except KeyboardInterrupt:
                while wait(running, timeout=0.5).not_done:
                    end_kernels()  # also of those that start only now
                for future, name in running.items():
                    note(to_do[name].folder, {name: future.result() | {"reason": "interrupted"}})
                raise
            for future in ended:
                name, entry = running.pop(future), future.result()
                if entry["status"] == Status.FAILED:
                    failed = failed or RunFailed(_what_is_left(to_do[name], entry["reason"]))
                else:
                    print(f"{name}: done in {entry['seconds']:.1f} s", flush=True)
    if failed:
        raise failed


def _in_thread(own: Execution, limit: float | None, threads: int | None) -> dict:
    from jupyter_core.utils import ensure_event_loop

    try:
        return own.carry_out(limit, threads)
    finally:
        ensure_event_loop().close()  # the thread's own, on which its kernel was spoken to


def _what_is_left(failed: Execution, reason: str) -> str:
    status = {name: entry["status"] for name, entry in read_record(failed.folder)["notebooks"].items()}
    done = ", ".join(name for name, value in status.items() if value == Status.DONE) or "none"
    left = ", ".join(name for name, value in status.items() if value == Status.WAITING) or "none"
    part = failed.target.with_suffix(".part.ipynb")
    return f"{failed.name} failed, {reason} (see {part}); done: {done}; not run: {left}"
