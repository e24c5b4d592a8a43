"""Run the numbered notebooks in order with papermill, each into the run's folder, and record how it went."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files.paths import notebooks_folder, run_folder
from .execution import check_limit, execute, failure
from .lock import hold
from .parameters import FOR_THE_RUNNER, Parameter, check_used, declared_parameters, parameters_for, with_whole_paths
from .record import FILE, SWEEP, Status, is_done, now, read_record, stamp, stored, stores_of, surroundings, write_record


class RunFailed(RuntimeError):
    """A notebook failed; the message says which, why, and what was and wasn't run."""


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
    chosen = find_notebooks(only, notebooks)
    declared = {path.stem: declared_parameters(path) for path in find_notebooks(folder=notebooks)}
    parameters = with_whole_paths(parameters or {})
    given = parameters_for(parameters, declared)
    check_used(parameters, given, [path.stem for path in chosen])
    check_limit(limit)
    folder = Path(out).resolve() if out else run_folder("default")
    with hold(folder):
        if (folder / SWEEP).exists():
            raise ValueError(f"{folder} holds a sweep, whose runs are the folders in it: give another --out")
        record = new_record(folder, declared, parameters, keep=bool(only or resume))
        for path in chosen:
            values = given[path.stem] | own_parameters(declared[path.stem], folder)
            entry = {"parameters": values, "stamp": stamp(path, values)}
            if resume and _is_done(path.stem, entry, record["notebooks"], folder):
                done = record["notebooks"][path.stem]["finished"]
                print(f"{path.stem}: skipped, done at {done} with the same code and parameters", flush=True)
                continue
            record["notebooks"] |= {later.stem: {"status": Status.WAITING} for later in chosen if later > path}
            _run_one(path, folder, entry, record, limit)
        write_record(folder, record)
    return folder


def new_record(
    folder: Path, declared: Mapping[str, Mapping[str, Parameter]], parameters: Mapping[str, object], keep: bool
) -> dict:
    """The record of a run that begins; with ``keep`` it goes on from what stands in the folder, but for what was killed."""
    earlier = read_record(folder)["notebooks"] if keep and (folder / FILE).exists() else {}
    earlier = {name: entry for name, entry in earlier.items() if entry["status"] != Status.RUNNING}
    seeds = [notebook["seed"].default for notebook in declared.values() if "seed" in notebook]
    return {
        "run": folder.name,
        "parameters": dict(parameters),
        "seed": parameters.get("seed", seeds[0] if seeds else None),
        **surroundings(),
        "notebooks": {name: {"status": Status.WAITING} for name in declared} | earlier,
    }


def own_parameters(declared: Mapping[str, Parameter], folder: Path) -> dict[str, str]:
    """What a notebook is told that follows from the run's folder."""
    return {FOR_THE_RUNNER: folder.name} if FOR_THE_RUNNER in declared else {}


def find_notebooks(only: Sequence[str] | None = None, folder: Path | None = None) -> list[Path]:
    """The numbered notebooks in order, or those named in ``only`` by number, by a range of numbers ("01-06"), or in full."""
    folder = folder or notebooks_folder()
    found = sorted(path for path in folder.glob("[0-9][0-9]_*.ipynb") if ".part" not in path.name)
    if not found:
        raise FileNotFoundError(f"{folder} holds no numbered notebook such as 00_name.ipynb")
    for name in only or ():
        if not any(_is_named(path, name) for path in found):
            raise ValueError(f"there is no notebook {name!r}: choose from {', '.join(path.stem for path in found)}")
    return [path for path in found if not only or any(_is_named(path, name) for name in only)]


def _run_one(path: Path, folder: Path, entry: dict, record: dict, limit: float | None) -> None:
    """Run one notebook and keep the record up to date before and after it."""
    print(f"{path.stem}: running", flush=True)
    started, clock = now(), time.perf_counter()
    record["notebooks"][path.stem] = entry | {"status": Status.RUNNING, "started": started}
    write_record(folder, record)
    outcome, before = {"status": Status.DONE}, stores_of(folder, path.stem)
    try:
        execute(path, folder / path.name, entry["parameters"], folder.parent, limit)
        outcome["stores"] = stored(folder, path.stem, before)
    except Exception as error:
        outcome = {"status": Status.FAILED, "reason": failure(error)}
        raise RunFailed(_what_is_left(path, folder, outcome["reason"], record)) from error
    except KeyboardInterrupt:
        outcome = {"status": Status.FAILED, "reason": "interrupted"}
        raise
    finally:
        seconds = round(time.perf_counter() - clock, 2)
        times = {"started": started, "finished": now(), "seconds": seconds}
        record["notebooks"][path.stem] = entry | outcome | times
        write_record(folder, record)
    print(f"{path.stem}: done in {seconds:.1f} s", flush=True)


def _is_done(name: str, entry: Mapping, entries: Mapping[str, Mapping], folder: Path) -> bool:
    """Whether a notebook was finished as it would now run, and after the last run of all that come before it."""
    before = entries[name]
    if not is_done(before, entry["stamp"], folder / f"{name}.ipynb"):
        return False
    return all(other.get("finished", "") <= before["started"] for earlier, other in entries.items() if earlier < name)


def _what_is_left(path: Path, folder: Path, reason: object, record: Mapping) -> str:
    status = {name: entry["status"] for name, entry in record["notebooks"].items()}
    done = ", ".join(name for name, value in status.items() if value == Status.DONE) or "none"
    left = ", ".join(name for name, value in status.items() if value == Status.WAITING) or "none"
    part = folder / path.with_suffix(".part.ipynb").name
    return f"{path.stem} failed, {reason} (see {part}); done: {done}; not run: {left}"


def _is_named(path: Path, name: str) -> bool:
    if between := re.fullmatch(r"(\d\d)-(\d\d)", name):
        return between[1] <= path.stem[:2] <= between[2]
    return name.removesuffix(".ipynb") in (path.stem, path.stem[:2])
