"""Files that are there whole or not at all, whatever happens while they are written."""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}\.part")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write into, which takes its place at the end; on an error it is deleted and what
    was there before stays."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def leftovers(folder: Path) -> list[Path]:
    """The temporary files below a folder: of processes that are writing now, or were killed."""
    return sorted(path for path in folder.rglob(".*.part") if LEFTOVER.fullmatch(path.name))
