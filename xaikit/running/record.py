"""``run.json``: what was run in a run folder, with what, how it went, and whether its stores are still what was saved."""

import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path

from filelock import FileLock

from ..files.digests import _file_digest, code_digest
from ..files.paths import CHECKOUT, data_folder, leftovers, notebooks_folder, write_text
from ..files.store import SchemaError, digest_in, read, stage_in
from .lock import is_held
from .notebooks import Notebook, read_notebook

FILE, SWEEP = "run.json", "sweep.json"
TABLES = (".safetensors", ".nc", ".csv", ".tsv", ".json", ".jsonl", ".txt", ".parquet")
PACKAGES = ("xaikit", "torch", "open_clip_torch", "numpy", "xarray")


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
    """What a run depends on beside its parameters: package versions and the git commit."""
    return {"versions": {name: _version(name) for name in PACKAGES}, "commit": _commit()}


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


def stamp(notebook: Path, parameters: Mapping[str, object], needs: Mapping[str, str] | None = None) -> str:
    """A digest of all that the results of a notebook depend on: its code, its parameters, the package's own code, the bundled
    models and tables, the files that the parameters name, and the stamps of the notebooks whose stores it ``needs``."""
    found = read_notebook(notebook)
    digest = hashlib.sha256(json.dumps([found.code, parameters, needs], sort_keys=True).encode())
    digest.update(code_digest().encode())
    # Notebooks use weights and tables in ``data/`` without a parameter that names them.
    bundled = sorted(path for path in data_folder().rglob("*") if path.suffix in (".safetensors", ".csv", ".json"))
    for file in [*bundled, *_named({**found.defaults, **parameters})]:
        digest.update(_file_digest(file, file.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:16]


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
    from ..samples.layouts import LAYOUTS, parse_data

    if value.partition(":")[0] in LAYOUTS:
        try:
            return [parse_data(value)[1]]
        except ValueError:  # the notebook says what is wrong
            return []
    named = value.removeprefix("local-dir:")
    return [notebooks_folder() / named, CHECKOUT / named] if named.strip("./") else []


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


@dataclass(frozen=True)
class Checked:
    """How many stores a folder holds, and what is wrong with it, a sentence each."""

    stores: int
    problems: list[str]


def check_run(folder: Path) -> Checked:
    """Read every store in a run's folder, or a sweep's, and hold it against the schema and the digest that it carries, and
    those that ``run.json`` lists against what is there. Raises FileNotFoundError for a folder that isn't there.

    Examples
    --------
    >>> path = xk.save_store(xk.draw_scenes(2), "checked", "inputs")
    >>> xk.running.check_run(path.parent)
    Checked(stores=1, problems=[])
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    paths = sorted(path for path in folder.rglob("*.nc") if not path.name.startswith("."))
    problems = [problem for path in paths for problem in _problems_of(path)]
    for record in sorted(folder.rglob(FILE)):
        problems += _differences(record.parent)
    if not is_held(folder):  # nobody is writing them now
        problems += [f"{path} was left half-written by a process that was killed" for path in leftovers(folder)]
    return Checked(len(paths), problems)


def _problems_of(path: Path) -> Iterator[str]:
    try:
        read(path, stage_in(path))
    except SchemaError as error:
        yield str(error)


def _differences(folder: Path) -> Iterator[str]:
    for name, entry in read_record(folder)["notebooks"].items():
        for file, digest in entry.get("stores", {}).items() if entry["status"] == Status.DONE else ():
            path = folder / file
            if not path.is_file():
                yield f"{path} is missing: {name} wrote it"
            elif digest_in(path) not in ("", digest):
                yield f"{path} isn't the one that {name} wrote: another run has replaced it"
