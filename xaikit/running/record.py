"""``run.json``: what was run in a run folder, with what, and how it went."""

import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path

import nbformat

from ..files.atomic import write_text
from ..files.digests import _file_digest, code_digest
from ..files.paths import CHECKOUT, data_folder, notebooks_folder
from ..files.store import WRITERS, digest_in
from ..samples.layouts import LAYOUTS, parse_data
from .parameters import declared_parameters

FILE, SWEEP = "run.json", "sweep.json"
TABLES = (".safetensors", ".nc", ".csv", ".tsv", ".json", ".jsonl", ".txt", ".parquet")
PACKAGES = ("torch", "open_clip_torch", "numpy", "xarray")


class Status(StrEnum):
    """How far a notebook has come."""

    WAITING = "not run"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


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


@cache
def surroundings() -> dict[str, object]:
    """What a run depends on beside its parameters: package versions and the git commit."""
    versions = {name: _version(name) for name in ("xaikit", *PACKAGES)}
    return {"versions": versions, "commit": _commit()}


def stamp(notebook: Path, parameters: Mapping[str, object], needs: Mapping[str, str] | None = None) -> str:
    """A digest of all that the results of a notebook depend on: its code, its parameters, the package's own code, the bundled
    models and tables, the files that the parameters name, and the stamps of the notebooks whose stores it ``needs``."""
    code, defaults = _read(notebook, notebook.stat().st_mtime_ns)
    digest = hashlib.sha256(code.encode())
    digest.update(json.dumps([parameters, needs], sort_keys=True).encode())
    digest.update(code_digest().encode())
    for file in [*_bundled(), *_named({**defaults, **parameters})]:
        digest.update(_file_digest(file, file.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:16]


@cache
def _read(notebook: Path, changed: int) -> tuple[str, dict[str, object]]:
    """The code of a notebook's cells, and the defaults of its parameters."""
    cells = nbformat.read(notebook, as_version=4).cells
    defaults = {name: known.default for name, known in declared_parameters(notebook).items()}
    return json.dumps([cell.source for cell in cells if cell.cell_type == "code"]), defaults


def _bundled() -> list[Path]:
    """Weights and tables in ``data/``, which notebooks use without a parameter that names them."""
    return sorted(path for path in data_folder().rglob("*") if path.suffix in (".safetensors", ".csv", ".json"))


def _named(parameters: Mapping[str, object]) -> Iterator[Path]:
    """The files that the parameters name: weights, stores, and the tables of datasets, not their images."""
    for value in parameters.values():
        for path in _places(value) if isinstance(value, str) else ():
            if path.is_file():
                yield path
            elif path.is_dir():
                found = [*path.glob("*"), *path.glob("annotations/*"), *path.glob("data/*")]
                yield from sorted(file for file in found if file.is_file() and file.suffix in TABLES)


def _places(value: str) -> list[Path]:
    """Where the file or folder lies that this value of a parameter may name."""
    if value.partition(":")[0] in LAYOUTS:
        try:
            return [parse_data(value)[1]]
        except ValueError:  # the notebook says what is wrong
            return []
    named = value.removeprefix("local-dir:")
    return [notebooks_folder() / named, CHECKOUT / named] if named.strip("./") else []


def stores_of(folder: Path, notebook: str) -> dict[str, int]:
    """The stores in a run's folder that a notebook writes, each with a number that changes when it is written again."""
    paths = [folder / f"{name}.nc" for name, writer in WRITERS.items() if writer[:2] == notebook[:2]]
    return {path.name: path.stat().st_ino for path in paths if path.is_file()}


def stored(folder: Path, notebook: str, before: Mapping[str, int]) -> dict[str, str]:
    """The digests of the stores that a notebook has written, by their file's name. Those that it wrote earlier (``before``, of
    ``stores_of``) and not again are of another version of it, and deleted."""
    found = stores_of(folder, notebook)
    for name in [name for name in found if found[name] == before.get(name)]:
        (folder / name).unlink()
        del found[name]
    return {name: digest_in(folder / name) for name in found}


def is_done(entry: Mapping, stamp: str, target: Path) -> bool:
    """Whether a notebook was finished as it would now be executed, into ``target``, and its stores are still there."""
    stores = entry.get("stores", {})
    return (
        entry["status"] == Status.DONE
        and entry.get("stamp") == stamp
        and target.is_file()
        and all(digest_in(target.parent / name) == digest for name, digest in stores.items())
    )


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


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout, with "-dirty" when files differ from it; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
