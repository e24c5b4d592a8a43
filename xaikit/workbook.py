"""Run the numbered notebooks in order with papermill, each into the run's folder, and record how it went."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .parameters import FOR_THE_RUNNER, declared_parameters, parameters_for
from .paths import notebooks_folder, run_folder
from .run_record import FILE, Status, now, read_record, stamp, surroundings, write_record


class RunFailed(RuntimeError):
    """A notebook failed; the message says which, why, and what was and wasn't run."""


def run(
    out: str | Path | None = None,
    parameters: Mapping[str, object] | None = None,
    only: Sequence[str] | None = None,
    resume: bool = False,
    notebooks: Path | None = None,
) -> Path:
    """Execute the notebooks in order and leave them, executed, in one folder with ``run.json``.

    Parameters
    ----------
    out : the run's folder; its name is the notebooks' parameter ``run``. None for ``runs/default``.
    parameters : values for parameters that the notebooks declare; each goes to the notebooks that know it.
    only : run these notebooks only, named by number ("04") or in full.
    resume : skip, and say so, what is already done with the same code and parameters.
    notebooks : the folder of the notebooks, if not the checkout's.

    Returns the run's folder. Raises ValueError for bad arguments before any work, RunFailed when a notebook
    fails: what it got to stays as ``NN_name.part.ipynb``, and no later notebook is run.
    """
    chosen = find_notebooks(only, notebooks)
    declared = {path.stem: declared_parameters(path) for path in find_notebooks(folder=notebooks)}
    given = parameters_for(parameters or {}, declared)
    _check_used(parameters or {}, given, chosen)
    folder = Path(out).resolve() if out else run_folder("default")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: a run needs a folder")
    folder.mkdir(parents=True, exist_ok=True)

    earlier = read_record(folder)["notebooks"] if (folder / FILE).exists() and (only or resume) else {}
    earlier = {name: entry for name, entry in earlier.items() if entry["status"] != Status.RUNNING}  # was killed
    seeds = [notebook["seed"].default for notebook in declared.values() if "seed" in notebook]
    record = {
        "run": folder.name,
        "parameters": dict(parameters or {}),
        "seed": (parameters or {}).get("seed", seeds[0] if seeds else None),
        **surroundings(),
        "notebooks": {name: earlier.get(name, {"status": Status.WAITING}) for name in declared},
    }
    for path in chosen:
        values = given[path.stem] | ({FOR_THE_RUNNER: folder.name} if FOR_THE_RUNNER in declared[path.stem] else {})
        entry = {"parameters": values, "stamp": stamp(path, values)}
        if resume and _is_done(path.stem, entry, record["notebooks"], folder):
            done = record["notebooks"][path.stem]["finished"]
            print(f"{path.stem}: skipped, done at {done} with the same code and parameters", flush=True)
            continue
        record["notebooks"] |= {later.stem: {"status": Status.WAITING} for later in chosen if later > path}
        _run_one(path, folder, entry, record)
    write_record(folder, record)
    return folder


def find_notebooks(only: Sequence[str] | None = None, folder: Path | None = None) -> list[Path]:
    """The numbered notebooks in order, or those named by number or in full in ``only``."""
    folder = folder or notebooks_folder()
    found = sorted(path for path in folder.glob("[0-9][0-9]_*.ipynb") if ".part" not in path.name)
    if not found:
        raise FileNotFoundError(f"{folder} holds no numbered notebook such as 00_name.ipynb")
    for name in only or ():
        if not any(_is_named(path, name) for path in found):
            raise ValueError(f"there is no notebook {name!r}: choose from {', '.join(path.stem for path in found)}")
    return [path for path in found if not only or any(_is_named(path, name) for name in only)]


def execute(notebook: Path, target: Path, parameters: Mapping[str, object], runs: Path) -> None:
    """Execute one notebook with papermill, its stores going to the folder ``runs``, and save it as ``target``.

    While it runs, and if it fails, what there is of it stands in ``target`` with the ending .part.ipynb.
    """
    import papermill
    from traitlets.config import Config

    part = target.resolve().with_suffix(".part.ipynb")
    with _environment(XAIKIT_RUNS=str(runs)):
        papermill.execute_notebook(
            str(notebook.resolve()),
            str(part),
            parameters=dict(parameters),
            cwd=str(notebook.resolve().parent),
            kernel_name="python3",
            progress_bar=False,
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        )
    os.replace(part, target)


def failure(error: BaseException) -> str:
    """Why a notebook failed, in one line."""
    if hasattr(error, "ename"):  # papermill's report of an exception in a cell
        return f"{_first_line(f'{error.ename}: {error.evalue}')} at In [{error.exec_count}]"
    return _first_line(f"{type(error).__name__}: {error}")


def _run_one(path: Path, folder: Path, entry: dict, record: dict) -> None:
    """Run one notebook and keep the record up to date before and after it."""
    print(f"{path.stem}: running", flush=True)
    started, clock = now(), time.perf_counter()
    record["notebooks"][path.stem] = entry | {"status": Status.RUNNING, "started": started}
    write_record(folder, record)
    outcome = {"status": Status.DONE}
    try:
        execute(path, folder / path.name, entry["parameters"], folder.parent)
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
    if before["status"] != Status.DONE or before["stamp"] != entry["stamp"] or not (folder / f"{name}.ipynb").exists():
        return False
    return all(other.get("finished", "") <= before["started"] for earlier, other in entries.items() if earlier < name)


def _check_used(parameters: Mapping[str, object], given: Mapping[str, Mapping], chosen: Sequence[Path]) -> None:
    for name in parameters:
        if not any(name in given[path.stem] for path in chosen):
            owners = ", ".join(notebook for notebook, values in given.items() if name in values)
            raise ValueError(f"parameter {name} has no effect here: of the notebooks only {owners} has it")


def _what_is_left(path: Path, folder: Path, reason: object, record: Mapping) -> str:
    status = {name: entry["status"] for name, entry in record["notebooks"].items()}
    done = ", ".join(name for name, value in status.items() if value == Status.DONE) or "none"
    left = ", ".join(name for name, value in status.items() if value == Status.WAITING) or "none"
    part = folder / path.with_suffix(".part.ipynb").name
    return f"{path.stem} failed, {reason} (see {part}); done: {done}; not run: {left}"


def _is_named(path: Path, name: str) -> bool:
    return name.removesuffix(".ipynb") in (path.stem, path.stem[:2])


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables for the kernels started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
