"""Rows executed on Dask, as many at a time as there are workers."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import dask
from dask.distributed import Client, Future, KilledWorker, LocalCluster
from filelock import FileLock

from .execution import execute, failure
from .record import Status, now
from .sweep_plan import Row

ALLOWED_DEATHS = 5  # of workers under one row, before the row is given up
PATIENCE = 10  # seconds until a scheduler that doesn't answer is taken for none


class SchedulerLost(ConnectionError):
    """The connection to the scheduler broke while rows were executed."""


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of the scheduler at this address, or of a cluster of so many single-threaded processes on this machine, whose
    parts talk to one another under keys of their own. Raises ConnectionError for an address where no scheduler answers."""
    settings = {"distributed.scheduler.allowed-failures": ALLOWED_DEATHS}
    with dask.config.set(settings):
        if scheduler:
            try:
                client = Client(scheduler, timeout=PATIENCE)
            except (OSError, ValueError) as error:
                raise ConnectionError(f"no Dask scheduler answers at {scheduler} ({error})") from error
            with client:
                try:
                    client.wait_for_workers(1, timeout=PATIENCE)
                except TimeoutError as error:
                    raise ConnectionError(
                        f"the Dask scheduler at {scheduler} has no worker: start some first"
                    ) from error
                yield client
            return
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=None,
                dashboard_address="127.0.0.1:0",
                security=True,
                silence_logs="CRITICAL",
            )
        except RuntimeError as error:
            raise ConnectionError(f"Dask's workers did not start ({error}); give the same command again") from error
        with cluster, Client(cluster) as client:
            yield client


def slots(client: Client) -> int:
    """How many rows can be executed at once: one a worker, since kernels are started with the worker's own environment."""
    return len(client.scheduler_info(n_workers=-1).get("workers", ()))


def submit(client: Client, row: Row, limit: float | None, threads: int) -> Future:
    """Execute a row on a worker; its outcome is what the record says of it."""
    given = str(row.notebook), str(row.target), row.values, str(row.folder.parent), limit, threads
    return client.submit(
        _execute, *given, key=f"{row.folder.name}/{row.name}/{row.stamp}/{time.monotonic()}", pure=False
    )


def outcome(future: Future) -> dict:
    """What became of a row, also where its worker died again and again."""
    if future.status == "finished":
        return future.result()
    if future.status != "error":
        raise SchedulerLost("the Dask scheduler was lost; give the same command again, and the sweep goes on")
    error = future.exception()
    why = "its worker was killed again and again" if isinstance(error, KilledWorker) else failure(error)
    return {"status": Status.FAILED, "reason": why, "finished": now()}


def _execute(notebook: str, target: str, values: dict, runs: str, limit: float | None, threads: int) -> dict:
    # The runner, or its connection, may have died and left this row to another worker, which is then waited for.
    with FileLock(Path(target).with_name(f".{Path(target).stem}.lock")):
        started, clock = now(), time.perf_counter()
        result = {"status": Status.DONE}
        try:
            execute(Path(notebook), Path(target), values, Path(runs), limit, threads)
        except Exception as error:
            result = {"status": Status.FAILED, "reason": failure(error)}
    return result | {"started": started, "finished": now(), "seconds": round(time.perf_counter() - clock, 2)}
