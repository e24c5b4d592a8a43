"""Files of a dataset: found as it is published, kept inside its folder, and read as pictures."""

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from PIL import Image

from ..images import decode

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class LayoutError(ValueError):
    """A folder isn't laid out as the dataset is published; the message says what was looked for where, and how to get it."""


def inside(folder: Path, name: str) -> Path:
    """The file of this name in a folder. Raises ValueError for a name that leads out of it, also by a link in it.

    The folder itself may be a link: that is how its user laid it out.
    """
    if not name:
        raise ValueError("the file name is empty: no image is read")
    try:
        root = folder.resolve()
        path = (root / name).resolve()
    except (OSError, RuntimeError, ValueError):  # a circle of links, a NUL
        raise ValueError(f"the file name {_short(name)!r} can't be one: it is not read") from None
    if not path.is_relative_to(root):
        raise ValueError(
            f"the file name {_short(name)!r} leads out of the dataset's folder {folder.name}: it is not read"
        )
    return path


def picture_in(folder: Path, links: Collection[str] = ()) -> Callable[[object], Image.Image]:
    """A function from a file's name, relative to a folder, to its RGB picture.

    links : folders in it, that hold images and may be links that lead elsewhere; nothing else may lead out.
    """
    links = frozenset(links)

    def read(entry: object) -> Image.Image:
        head, _, name = str(entry).rpartition("/")
        path = inside(folder / head, name) if head in links else inside(folder, str(entry))
        if not os.path.isfile(path):  # which says no to a name that is too long, too
            raise FileNotFoundError(f"there is no file {_short(str(entry))}")
        return decode(path, f"the image {entry}")

    return read


def first_folder(folder: Path, names: Sequence[str]) -> str | None:
    """The first of these names that is a folder in this one; None if none is."""
    return next((name for name in names if (folder / name).is_dir()), None)


def image_names(folder: Path) -> list[str]:
    """The names of the image files in a folder, in order, without those that aren't UTF-8; no file is looked at."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.lower().endswith(SUFFIXES)]
    return sorted(name for name in names if is_utf8(name))


def is_utf8(text: str) -> bool:
    """Whether a text is whole, without halves of characters as JSON and file names can hold them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def by_stem(folder: Path) -> dict[str, str]:
    """The image files in a folder by their name without the suffix; of several alike the first."""
    return {name.rpartition(".")[0]: name for name in reversed(image_names(folder))}


def choose_split(layout: str, folder: Path, found: Sequence[str], split: str | None, usual: Sequence[str] = ()) -> str:
    """The split that is wanted; without a wish the only one, or the first of the usual ones that is there.

    Raises LayoutError that names the choices.
    """
    there = ", ".join(found)
    if split is not None and split not in found:
        raise LayoutError(f"{folder} has no split {split!r} of {layout}: there is {there}")
    if split is not None or len(found) == 1:
        return split or found[0]
    for name in usual:
        if name in found:
            return name
    raise LayoutError(f"{folder} has several splits of {layout}, {there}: name one, as in '{layout}:PATH#{found[0]}'")


def no_split(layout: str, split: str | None) -> None:
    """Raise LayoutError for a split of a dataset that has none."""
    if split is not None:
        raise LayoutError(f"{layout} has no splits, but {split!r} is asked for: leave '#{split}' out")


def _short(name: str) -> str:
    return name if len(name) <= 120 else name[:117] + "..."
