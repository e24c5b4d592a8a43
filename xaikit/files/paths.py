"""Where things are (bundled data, notebooks, the folder of each run), and files that are there whole or not at all."""

import contextlib
import os
import re
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}\.part")


def data_folder() -> Path:
    """The folder of the bundled models and scenes.

    Examples
    --------
    >>> (xk.files.data_folder() / "tiny-clip").is_dir()
    True
    """
    return _in_checkout("data")


def notebooks_folder() -> Path:
    """The folder of the numbered notebooks.

    Examples
    --------
    >>> xk.files.notebooks_folder().name
    'notebooks'
    """
    return _in_checkout("notebooks")


def runs_folder() -> Path:
    """The folder that holds one folder a run: ``runs/`` in the checkout, without one here, or the variable ``XAIKIT_RUNS``.

    Examples
    --------
    >>> xk.files.runs_folder().is_absolute()
    True
    """
    home = CHECKOUT if (CHECKOUT / "notebooks").is_dir() else Path.cwd()
    return Path(os.environ.get("XAIKIT_RUNS") or home / "runs").resolve()


def run_folder(run: str, create: bool = True) -> Path:
    """The folder of one run, made if it isn't there yet (not with ``create=False``).

    Raises ValueError for a name that would lead out of the runs folder.

    Examples
    --------
    >>> xk.files.run_folder("mine", create=False).name
    'mine'
    """
    if not run or run in (".", "..") or "/" in run or "\\" in run:
        raise ValueError(f"run={run!r}: a run has a plain name such as 'default', without slashes")
    folder = runs_folder() / run
    if create:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


class Named(NamedTuple):
    """A file or folder as a parameter names it; "coco:data/coco#val" is the split "val" of a dataset of the kind "coco"."""

    kind: str
    path: Path
    split: str

    def __str__(self) -> str:
        before, behind = self.kind and f"{self.kind}:", self.split and f"#{self.split}"
        return f"{before}{self.path}{behind}"


def find_named(value: str, kinds: Collection[str] = (), *folders: Path) -> Named | None:
    """The file or folder that "PATH", "KIND:PATH" or "KIND:PATH#SPLIT" names, in the first of the folders in which it is
    there; None for nothing.

    kinds : the known ones; any other colon is part of the path, which may hold a "#", too. folders : the working folder and
    the repository where none is given.

    Examples
    --------
    >>> found = find_named("local-dir:data/tiny-clip", ["local-dir"], CHECKOUT)
    >>> found.kind, found.path == CHECKOUT / "data" / "tiny-clip"
    ('local-dir', True)
    """
    before, colon, behind = value.partition(":")
    kind, path = (before, behind) if colon and before in kinds else ("", value)
    inner, _, split = path.rpartition("#")
    for name, part in ((path, ""), (inner, split)):
        for folder in folders or (Path.cwd(), CHECKOUT):
            found = folder / os.path.expanduser(name)
            if name and os.path.exists(found):  # which says no to a name that is too long, too
                return Named(kind, found, part)
    return None


def _in_checkout(name: str) -> Path:
    folder = CHECKOUT / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {name}/ beside the package in {CHECKOUT}: "
            "install xaikit from its checkout with 'pip install -e .'"
        )
    return folder


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
