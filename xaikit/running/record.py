"""A run's folder: the one process that writes into it, and ``run.json``, what was run there, with what, and how it went."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from ..files.paths import CHECKOUT, data_folder, find_named, leftovers, notebooks_folder, write_text
from ..files.store import code_digest, digest_in, file_digest
from .notebooks import Notebook, read_notebook

FILE, SWEEP = "run.json", "sweep.json"
LOCK, HOLDER = ".lock", ".holder.json"
PATIENCE = 1.0  # seconds: ``is_held`` takes the lock for a moment
TABLES = (".safetensors", ".nc", ".csv", ".tsv", ".json", ".jsonl", ".txt", ".parquet")
PACKAGES = ("xaikit", "torch", "open_clip_torch", "numpy", "xarray")


class Status(StrEnum):
    """How far a notebook has come."""

    WAITING = "not run"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class FolderInUse(ValueError):
    """Another run is writing into the folder."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only one who writes into a run folder, which is made if need be, and clear away what killed ones left half-written:
    the lock of a process is free again however that ends.

    Raises FolderInUse, with the process that holds it, a folder in it, or the folder that it is in, or OSError for a folder
    that can't be written into.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: a run needs a folder")
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    for other in (folder.parent, *(path.parent for path in folder.glob(f"*/{LOCK}"))):
        if is_held(other):
            raise FolderInUse(f"{other} is in use{_holder(other)}: wait for it, or give another --out than {folder}")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(folder / LOCK, timeout=PATIENCE))
        except Timeout:
            raise FolderInUse(f"{folder} is in use{_holder(folder)}: wait for it, or give another --out") from None
        for path in leftovers(folder):
            path.unlink(missing_ok=True)
        write_text(folder / HOLDER, json.dumps({"process": os.getpid(), "machine": platform.node()}))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / HOLDER).unlink(missing_ok=True)
            if new and {path.name for path in folder.iterdir()} <= {LOCK}:  # refused before any work
                shutil.rmtree(folder, ignore_errors=True)


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


def read_record(folder: Path) -> dict:
    """The record of a run folder. Raises FileNotFoundError if there is none."""
    try:
        return json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} holds no run: there is no {FILE} in it") from None
    except ValueError as error:
        raise ValueError(f"{folder / FILE} can't be read ({error})") from error


def write_record(folder: Path, record: Mapping) -> None:
    """Write the record, so that a reader never sees half of it."""
    write_text(folder / FILE, json.dumps(record, indent=2) + "\n")


def note(folder: Path, entries: Mapping[str, Mapping]) -> None:
    """Put what is known of some notebooks into the record; several processes may, at once."""
    with FileLock(folder / f".{FILE}.lock"):
        record = read_record(folder)
        record["notebooks"] |= entries
        write_record(folder, record)


def begin_record(
    folder: Path, notebooks: Mapping[str, Notebook], parameters: Mapping[str, object], earlier: Mapping[str, Mapping]
) -> None:
    """Write the record of a run that begins, with what is known from earlier."""
    seeds = [notebook.defaults["seed"] for notebook in notebooks.values() if "seed" in notebook.parameters]
    record = {
        "run": folder.name,
        "parameters": dict(parameters),
        "seed": parameters.get("seed", seeds[0] if seeds else None),
        **_surroundings(),
        "notebooks": dict(earlier),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, record)


def earlier_entries(folder: Path) -> dict[str, dict]:
    """What a record there says of its notebooks, but for those that a killed run left running."""
    found = read_record(folder)["notebooks"] if (folder / FILE).exists() else {}
    return {name: entry for name, entry in found.items() if entry["status"] != Status.RUNNING}


@cache
def _surroundings() -> dict[str, object]:
    """What a run depends on beside its parameters: package versions, and the git commit, with "-dirty" when files differ from
    it, None outside git."""
    versions, commit = dict.fromkeys(PACKAGES), None
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        commit = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip()
    return {"versions": versions, "commit": commit}


def stamp(notebook: Path, parameters: Mapping[str, object], needs: Mapping[str, str] | None = None) -> str:
    """A digest of all that the results of a notebook depend on: its code, its parameters, the package's own code, the bundled
    models and tables, the files that the parameters name, and the stamps of the notebooks whose stores it ``needs``."""
    found = read_notebook(notebook)
    digest = hashlib.sha256(json.dumps([found.code, parameters, needs], sort_keys=True).encode())
    digest.update(code_digest().encode())
    # Notebooks use weights and tables in ``data/`` without a parameter that names them.
    bundled = sorted(path for path in data_folder().rglob("*") if path.suffix in (".safetensors", ".csv", ".json"))
    bundled += sorted(path for folder in found.reads_data for path in (data_folder() / folder).glob("*.nc"))
    values = {**found.defaults, **parameters}
    for file in [*bundled, *_named(values)]:
        digest.update(file_digest(file).encode())
    digest.update(json.dumps([*_images(values)]).encode())
    return digest.hexdigest()[:16]


def _named(parameters: Mapping[str, object]) -> Iterator[Path]:
    """The files that the parameters name: weights, stores, and the tables of datasets, not their images."""
    for _, path in _places(parameters):
        if path.is_file():
            yield path
        else:
            found = [*path.glob("*"), *path.glob("annotations/*"), *path.glob("data/*")]
            yield from sorted(file for file in found if file.is_file() and file.suffix in TABLES)


def _images(parameters: Mapping[str, object]) -> Iterator[tuple]:
    """Names, sizes and times of the files in the folders of datasets that the parameters name: no image is read."""
    from ..samples.tables import stamp_of

    for kind, folder in _places(parameters):
        if kind not in ("", "local-dir") and folder.is_dir():
            seen = set()  # a link may lead back
            for at, folders, files in os.walk(folder, followlinks=True):
                folders[:] = [each for each in sorted(folders) if os.path.realpath(Path(at, each)) not in seen]
                seen |= {os.path.realpath(Path(at, each)) for each in folders}
                yield from ((name, stamp_of(Path(at, name))) for name in sorted(files))


def _places(parameters: Mapping[str, object]) -> Iterator[tuple[str, Path]]:
    """The kind and the place of each file or folder that a parameter names, from where kernels look for it."""
    from ..samples.layouts import known_layouts

    for value in parameters.values():
        if isinstance(value, str) and value.strip("./"):
            named = find_named(value, ("local-dir", *known_layouts()), notebooks_folder(), CHECKOUT)
            if named is not None:
                yield named.kind, named.path


def stores_in(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Those of the stores that are in a run's folder, each with a number that changes when it is written again."""
    paths = [folder / f"{name}.nc" for name in names]
    return {path.name: path.stat().st_ino for path in paths if path.is_file()}


def stored(folder: Path, names: Sequence[str], before: Mapping[str, int]) -> dict[str, str]:
    """The digests of the stores that a notebook has written, by their file's name. Those that it wrote earlier (``before``, of
    ``stores_in``) and not again are of another version of it, and deleted."""
    found = stores_in(folder, names)
    for name in [name for name in found if found[name] == before.get(name)]:
        (folder / name).unlink()
        del found[name]
    return {name: digest_in(folder / name) for name in found}


def now() -> str:
    """The time as it is written in a record; such times sort as strings."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def table(record: Mapping) -> str:
    """A record as text, one line a notebook."""
    given = ", ".join(f"{name}={value!r}" for name, value in record["parameters"].items())
    lines = [f"parameters: {given or 'the defaults'}; seed: {record['seed']}; commit: {record['commit']}"]
    width = max(map(len, record["notebooks"]), default=0)
    for name, entry in record["notebooks"].items():
        seconds = f"{entry['seconds']:8.1f} s" if "seconds" in entry else " " * 10
        note = entry.get("reason") or entry.get("finished", "")
        lines.append(f"{name:{width}}  {entry['status']:8}{seconds}  {note}".rstrip())
    return "\n".join(lines)
