"""One writer a run folder: a lock that its process holds, and that is free again however the process ends."""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..files.paths import leftovers, write_text

LOCK, HOLDER = ".lock", ".holder.json"
PATIENCE = 1.0  # seconds: ``is_held`` takes the lock for a moment


class FolderInUse(ValueError):
    """Another run is writing into the folder."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only one who writes into a run folder, which is made if need be, and clear away what killed ones left half-written.

    Raises FolderInUse, with the process that holds it, a folder in it, or the folder that it is in, or OSError for a folder
    that can't be written into.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: a run needs a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for other in (folder.parent, *(path.parent for path in folder.glob(f"*/{LOCK}"))):
        if is_held(other):
            raise FolderInUse(f"{other} is in use{_holder(other)}: wait for it, or give another --out than {folder}")
    lock = FileLock(folder / LOCK, timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUse(f"{folder} is in use{_holder(folder)}: wait for it, or give another --out") from None
    try:
        for path in leftovers(folder):
            path.unlink(missing_ok=True)
        write_text(folder / HOLDER, json.dumps({"process": os.getpid(), "machine": platform.node()}))
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process is writing into the run folder now."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that this user can only read
        return (folder / HOLDER).exists()


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER).read_text())
        return f" by process {holder['process']} on {holder['machine']}"
    except (OSError, ValueError, KeyError):
        return ""
