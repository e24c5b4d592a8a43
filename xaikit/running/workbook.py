"""Run the numbered notebooks in order with papermill, each into the run's folder, and record how it went."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files.paths import run_folder
from ..samples.bad_samples import STAGE as BAD_SAMPLES, count_bad_samples
from .execution import check_limit, execute, failure
from .lock import hold
from .notebooks import find_notebooks, own_parameters, parameters_for, with_whole_paths
from .record import (
    SWEEP,
    Status,
    begin_record,
    earlier_entries,
    is_done,
    note,
    now,
    read_record,
    stamp,
    stored,
    stores_in,
)

SHARD = "shard"


class RunFailed(RuntimeError):
    """A notebook failed; the message says which, why, and what was and wasn't run."""


@dataclass(frozen=True, eq=False)
class Execution:
    """A notebook to be executed into a run's folder.

    name : of the executed notebook, without its ending. values : of its parameters. stores : the names of those that it writes.
    """

    folder: Path
    name: str
    notebook: Path
    values: Mapping[str, object]
    stamp: str
    stores: tuple[str, ...]

    @property
    def target(self) -> Path:
        """The executed notebook."""
        return self.folder / f"{self.name}.ipynb"

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


def run(
    out: str | Path | None = None,
    parameters: Mapping[str, object] | None = None,
    only: Sequence[str] | None = None,
    resume: bool = False,
    notebooks: Path | None = None,
    limit: float | None = None,
) -> Path:
    """Execute the notebooks in order and leave them, executed, in one folder with ``run.json``.

    Parameters
    ----------
    out : the run's folder; its name is the notebooks' parameter ``run``. None for ``runs/default``.
    parameters : values for parameters that the notebooks declare; each goes to the notebooks that know it.
    only : run these notebooks only, named by number ("04") or in full.
    resume : skip, and say so, what is already done with the same code and parameters.
    notebooks : the folder of the notebooks, if not the checkout's.
    limit : seconds that a notebook may take; then it is stopped, and has failed.

    Returns the run's folder. Raises ValueError for bad arguments before any work, or for a folder that another run writes
    into, RunFailed when a notebook fails: what it got to stays as ``NN_name.part.ipynb``, and no later notebook is run.
    """
    known, chosen = find_notebooks(folder=notebooks), list(find_notebooks(only, notebooks))
    parameters = with_whole_paths(parameters or {})
    given = parameters_for(parameters, known, chosen)
    check_limit(limit)
    folder = Path(out).resolve() if out else run_folder("default")
    with hold(folder):
        if (folder / SWEEP).exists():
            raise ValueError(f"{folder} holds a sweep, whose runs are the folders in it: give another --out")
        waiting = {name: {"status": Status.WAITING} for name in known}
        earlier = earlier_entries(folder) if only or resume else {}
        entries = waiting | {name: entry for name, entry in earlier.items() if name in known}
        begin_record(folder, known, parameters, entries)
        for place, name in enumerate(chosen):
            notebook, values = known[name], given[name] | own_parameters(known[name], folder)
            to_do = Execution(folder, name, notebook.path, values, stamp(notebook.path, values), notebook.stores)
            if resume and _is_done(to_do, list(known)):
                done = read_record(folder)["notebooks"][name]["finished"]
                print(f"{name}: skipped, done at {done} with the same code and parameters", flush=True)
                continue
            print(f"{name}: running", flush=True)
            note(folder, {later: waiting[later] for later in chosen[place:]})
            entry = to_do.carry_out(limit)
            if entry["status"] == Status.FAILED:
                raise RunFailed(_what_is_left(to_do, entry["reason"]))
            print(f"{name}: done in {entry['seconds']:.1f} s", flush=True)
    return folder


def _is_done(to_do: Execution, order: Sequence[str]) -> bool:
    """Whether a notebook was finished as it would now run, and after the last run of all that come before it."""
    entries = read_record(to_do.folder)["notebooks"]
    own, before = entries[to_do.name], order[: order.index(to_do.name)]
    return is_done(own, to_do.stamp, to_do.target) and all(
        entries[name].get("finished", "") <= own["started"] for name in before
    )


def _what_is_left(failed: Execution, reason: str) -> str:
    status = {name: entry["status"] for name, entry in read_record(failed.folder)["notebooks"].items()}
    done = ", ".join(name for name, value in status.items() if value == Status.DONE) or "none"
    left = ", ".join(name for name, value in status.items() if value == Status.WAITING) or "none"
    part = failed.target.with_suffix(".part.ipynb")
    return f"{failed.name} failed, {reason} (see {part}); done: {done}; not run: {left}"
