"""``run.json``: what was run in a run folder, with what, and how it went."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import nbformat

from . import __version__
from .paths import CHECKOUT

FILE = "run.json"
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
    """Write the record under a temporary name and rename it, so that a reader never sees half of it."""
    part = folder / "run.part.json"
    part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(part, folder / FILE)


def surroundings() -> dict[str, object]:
    """What a run depends on beside its parameters: package versions and the git commit."""
    versions = {"xaikit": __version__} | {name: _version(name) for name in PACKAGES}
    return {"versions": versions, "commit": _commit()}


def stamp(notebook: Path, parameters: Mapping[str, object]) -> str:
    """A digest of a notebook's code, its parameters and the package's own code."""
    cells = nbformat.read(notebook, as_version=4).cells
    digest = hashlib.sha256()
    digest.update(json.dumps([cell.source for cell in cells if cell.cell_type == "code"]).encode())
    digest.update(json.dumps(parameters, sort_keys=True).encode())
    for source in sorted((CHECKOUT / "xaikit").rglob("*.py")):
        digest.update(source.relative_to(CHECKOUT).as_posix().encode() + source.read_bytes())
    return digest.hexdigest()[:16]


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
