"""Execute one notebook with papermill, in a kernel of its own, and say why it failed."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import offline
from .parameters import declared_parameters

# What is set for a kernel is set for the process that starts it: one at a time.
_ONE_AT_A_TIME = threading.Lock()
# glibc gives large arrays back to the system after each use and then waits for fresh pages: nearly half of a notebook's time.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class OutOfTime(TimeoutError):
    """A notebook was stopped at its time limit."""


def check_limit(limit: float | None) -> None:
    """Raise ValueError for a time limit that is no number of seconds above 0."""
    if limit is not None and not 0 < limit < math.inf:
        raise ValueError(f"limit={limit!r}: a number of seconds above 0 is needed, or None for any time")


def execute(
    notebook: Path,
    target: Path,
    parameters: Mapping[str, object],
    runs: Path,
    limit: float | None = None,
    threads: int | None = None,
) -> None:
    """Execute one notebook, its stores going to the folder ``runs``, and save it as ``target``.

    While it runs, and if it fails, what there is of it stands in ``target`` with the ending .part.ipynb.

    limit : seconds it may take, None for any; then it is stopped with OutOfTime. threads : of its computations, None for as
    many as they like. The kernel can't use the network unless a parameter names a model on a hub.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError
    from traitlets.config import Config

    part = target.resolve().with_suffix(".part.ipynb")
    effective = {name: known.default for name, known in declared_parameters(notebook).items()} | dict(parameters)
    variables = {"XAIKIT_RUNS": str(runs), **_MEMORY, **offline.environment(effective)}
    variables |= dict.fromkeys(_THREADS if threads else (), str(threads))
    stopped = OutOfTime(f"stopped at its time limit of {limit} s (see {part})")
    with _ONE_AT_A_TIME, _environment(variables):
        end = None if limit is None else time.monotonic() + limit

        def left(cell: object) -> float | None:  # nbclient's limit is a cell's: each gets what is left
            seconds = None if end is None else end - time.monotonic()
            if seconds is not None and seconds <= 0:
                raise stopped
            return seconds

        try:
            papermill.execute_notebook(
                str(notebook.resolve()),
                str(part),
                parameters=dict(parameters),
                cwd=str(notebook.resolve().parent),
                kernel_name="python3",
                progress_bar=False,
                timeout_func=left,
                shutdown_kernel="immediate",
                config=Config({"KernelManager": {"transport_encryption": "auto"}}),
            )
        except CellTimeoutError as error:
            raise stopped from error
    with open(part, "rb") as written:
        os.fsync(written.fileno())
    os.replace(part, target)


def failure(error: BaseException) -> str:
    """Why a notebook failed, in one line."""
    if hasattr(error, "ename"):  # papermill's report of an exception in a cell
        return f"{_first_line(f'{error.ename}: {error.evalue}')} at In [{error.exec_count}]"
    return _first_line(str(error) if isinstance(error, OutOfTime) else f"{type(error).__name__}: {error}")


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
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
