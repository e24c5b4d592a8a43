"""Are the stores of a run what was saved? Every file, against the schema, its own digest, and the run's record."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..files.atomic import leftovers
from ..files.store import SchemaError, digest_in, read, stage_in
from .lock import is_held
from .record import FILE, Status, read_record


@dataclass(frozen=True)
class Checked:
    """How many stores a folder holds, and what is wrong with it, a sentence each."""

    stores: int
    problems: list[str]


def check_run(folder: Path) -> Checked:
    """Read every store in a run's folder, or a sweep's, and hold it against the schema and the digest that it carries, and
    those that ``run.json`` lists against what is there. Raises FileNotFoundError for a folder that isn't there."""
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
        if entry["status"] != Status.DONE:
            continue
        for file, digest in entry.get("stores", {}).items():
            path = folder / file
            if not path.is_file():
                yield f"{path} is missing: {name} wrote it"
            elif digest_in(path) not in ("", digest):
                yield f"{path} isn't the one that {name} wrote: another run has replaced it"
