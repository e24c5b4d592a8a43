"""Files of a published dataset: kept inside its folder, read as pictures, and tables checked entry by entry."""

import csv
import io
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from ..files.images import decode, decode_mask
from ..files.registry import Entry, Registry

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST_BYTES = 2**31  # no published table is larger; another is not read
KINDS = {int: "a whole number", str: "text", list: "a list", dict: "an object"}
DTYPES = {int: "int64", str: "str", list: object}

published: Registry[Entry] = Registry("xaikit.samples.published")


def layout(source: str) -> Callable[[Callable], Callable]:
    """A decorator that registers a function (folder, split) -> Pictures as the layout of its name, dashes for underscores.

    source : where the dataset is from. The function reads tables, no image: ``Pictures`` says which columns there can be.

    Examples
    --------
    >>> import pandas as pd
    >>> from xaikit.samples.source import Pictures
    >>> from xaikit.samples.tables import PicturesIn, layout, published
    >>> @layout("captions in the files' names, such as 'a red ring.png'")
    ... def named_pictures(folder, split=None):
    ...     names = sorted(path.name for path in folder.glob("*.png"))
    ...     rows = [(name, name, name.removesuffix(".png")) for name in names]
    ...     return Pictures.of("named-pictures", pd.DataFrame(rows, columns=["label", "image", "caption"]), PicturesIn(folder))
    >>> folder = xk.files.run_folder("named")
    >>> folder.mkdir(parents=True, exist_ok=True)
    >>> (folder / "a red ring.png").touch()
    >>> xk.open_source(f"named-pictures:{folder}").labels.tolist()
    ['a red ring.png']
    >>> published.remove("named_pictures")
    """
    return published.register(Entry, source=source)


class LayoutError(ValueError):
    """A folder isn't laid out as the dataset is published; the message says what was looked for where, and how to get it."""


def inside(folder: Path, name: str) -> Path:
    """The file of this name in a folder. Raises ValueError for a name that leads out of it, also by a link in it.

    The folder itself may be a link: that is how its user laid it out. In a hub's cache a snapshot's files are links to the
    blobs beside all snapshots, which belong to it.
    """
    if not name:
        raise ValueError("the file name is empty: no image is read")
    try:
        root = folder.resolve()
        path = (root / name).resolve()
    except (OSError, RuntimeError, ValueError):  # a circle of links, a NUL
        raise ValueError(f"the file name {_short(name)!r} can't be one: it is not read") from None
    hub = next((above.parent for above in root.parents if above.name == "snapshots"), None)
    if not path.is_relative_to(root) and not (hub and path.is_relative_to(hub / "blobs")):
        raise ValueError(
            f"the file name {_short(name)!r} leads out of the dataset's folder {folder.name}: it is not read"
        )
    return path


class PicturesIn:
    """From a file's name, relative to a folder, to its RGB picture.

    links : folders in it, that hold images and may be links that lead elsewhere; nothing else may lead out.
    """

    def __init__(self, folder: Path, links: Collection[str] = ()):
        self.folder, self.links = folder, frozenset(links)

    def __call__(self, entry: object) -> Image.Image:
        return decode(self._file(entry), f"the image {entry}")

    def mask(self, entry: object) -> Image.Image:
        """A mask, in black and white."""
        return decode_mask(self._file(entry), f"the mask {entry}")

    def _file(self, entry: object) -> Path:
        path = self.path(entry)
        if not os.path.isfile(path):  # which says no to a name that is too long, too
            raise FileNotFoundError(f"there is no file {_short(str(entry))}")
        return path

    def path(self, entry: object) -> Path:
        head, _, name = str(entry).rpartition("/")
        return inside(self.folder / head, name) if head in self.links else inside(self.folder, str(entry))

    def stamp(self, entry: object) -> tuple[int, int] | None:
        """What changes when the file does; None where there is none."""
        try:
            return stamp_of(self.path(entry))
        except ValueError:
            return None


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def image_names(folder: Path) -> list[str]:
    """The names of the image files in a folder, in order, without hidden ones and those that aren't UTF-8; none is looked at."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.lower().endswith(SUFFIXES)]
    return sorted(name for name in names if is_utf8(name) and not name.startswith("."))


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


def choose_split(
    layout: str, folder: Path, found: Sequence[str], split: str | None, usual: Sequence[str] = ()
) -> str | None:
    """The split that is wanted; without a wish the only one, or the first of the usual ones that is there; None where a
    dataset has none. Raises LayoutError that names the choices."""
    there = ", ".join(found)
    if split is not None and not found:
        raise LayoutError(f"{layout} has no splits, but {split!r} is asked for: leave '#{split}' out")
    if split is not None and split not in found:
        raise LayoutError(f"{folder} has no split {split!r} of {layout}: there is {there}")
    if split is not None or len(found) < 2:
        return split or next(iter(found), None)
    for name in usual:
        if name in found:
            return name
    raise LayoutError(f"{folder} has several splits of {layout}, {there}: name one, as in '{layout}:PATH#{found[0]}'")


def _short(name: str) -> str:
    return name if len(name) <= 120 else name[:117] + "..."


def read_text(path: Path) -> str:
    """A table's text. Raises LayoutError for a file that is missing, too large or not UTF-8."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise LayoutError(f"{path} has {size / 1e9:.1f} GB, more than any table that is published: it is not read")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LayoutError(f"{path} isn't UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise LayoutError(f"{path} can't be read ({error.strerror})") from error


def read_json(path: Path, without: Collection[str] = ()) -> object:
    """What a JSON file holds, without the entries of these names. Raises LayoutError for one that isn't JSON."""
    text = read_text(path)

    def kept(pairs: list[tuple[str, object]]) -> dict:  # the others (outlines of objects, say) are let go at once
        return {key: value for key, value in pairs if key not in without}

    try:
        return json.loads(text, object_pairs_hook=kept if without else None)
    except RecursionError:
        raise LayoutError(f"{path} isn't JSON of a dataset: it is nested too deeply") from None
    except ValueError as error:
        raise LayoutError(f"{path} isn't JSON ({error})") from error


def read_json_lines(path: Path) -> list[object]:
    """The values of a file with a JSON value a line. Raises LayoutError that names a line which isn't JSON."""
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            raise LayoutError(f"{path}: line {number} isn't JSON ({error})") from error
    return rows


def entries(path: Path, value: object, name: str, kind: type) -> object:
    """An entry of a JSON object. Raises LayoutError where it is missing or no list (or whatever ``kind`` is)."""
    found = value.get(name) if isinstance(value, dict) else None
    if type(found) is not kind:
        raise LayoutError(f"{path}: {name!r} is {_shown(found)}, but {KINDS[kind]} is needed")
    return found


def records(
    path: Path,
    rows: Sequence[object],
    what: str,
    columns: Mapping[str, type],
    unique: str | None = None,
    first: int = 0,
) -> pd.DataFrame:
    """A list of JSON objects as a table of these entries.

    columns : names and kinds, int or str or list. unique : a column that must hold no value twice. what, first : what a row
    is called in messages, and the number of the first. Raises LayoutError that names the row.
    """
    for number, row in enumerate(rows, first):
        for name, kind in columns.items():
            value = row.get(name) if isinstance(row, dict) else None
            if not _is(value, kind):
                raise LayoutError(f"{path}: {what} {number} has {name}={_shown(value)}, but {KINDS[kind]} is needed")
    table = pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=DTYPES[kind]) for name, kind in columns.items()}
    )
    if unique is not None:
        check_unique(path, table[unique], f"{what}s", unique, range(first, first + len(rows)))
    return table


def read_rows(path: Path) -> pd.DataFrame:
    """A table with a header line, separated by commas or, if one is in the header, by tabs; all text, the index the lines.

    Raises LayoutError that names a line which has more or fewer columns than the header.
    """
    text = read_text(path)
    separator = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = {}
    try:
        header = [name.strip() for name in next(reader, [])]
        for row in reader:
            if row and len(row) != len(header):
                raise LayoutError(
                    f"{path}: line {reader.line_num} has {len(row)} columns, but the header {len(header)}"
                )
            if row:
                rows[reader.line_num] = row
    except csv.Error as error:
        raise LayoutError(f"{path}: line {reader.line_num} can't be read as a table ({error})") from error
    if len({*header}) < len(header):
        raise LayoutError(f"{path}: the header names a column twice: {', '.join(header)}")
    return pd.DataFrame([*rows.values()], index=[*rows], columns=header, dtype=object)


def column(path: Path, table: pd.DataFrame, *names: str) -> pd.Series:
    """The column of the first of these names that a table has. Raises LayoutError if it has none."""
    for name in names:
        if name in table:
            return table[name]
    raise LayoutError(f"{path} has no column {' or '.join(names)}: its header is {', '.join(table.columns) or 'empty'}")


def check_lines(path: Path, values: pd.Series, pattern: str, needed: str) -> None:
    """Raise LayoutError that names the first line whose text isn't of a pattern, and says what is needed."""
    wrong = ~values.str.fullmatch(pattern).to_numpy(bool)
    if wrong.any():
        line = values.index[wrong][0]
        raise LayoutError(f"{path}: line {line} has {values.name}={_shown(values[line])}{needed}")


def whole_numbers(path: Path, values: pd.Series) -> pd.Series:
    """A column of text as whole numbers. Raises LayoutError that names the first line with another."""
    check_lines(path, values, r"\s*-?[0-9]{1,18}\s*", ", but a whole number is needed")
    return values.astype("int64")


def check_unique(path: Path, values: pd.Series, what: str, name: str, numbers: Sequence[int]) -> None:
    """Raise LayoutError that names the first two rows with the same value."""
    again = values.duplicated().to_numpy()
    if again.any():
        second = int(again.argmax())
        one = int((values == values.iloc[second]).to_numpy().argmax())
        raise LayoutError(
            f"{path}: the {what} {numbers[one]} and {numbers[second]} have the same {name} {values.iloc[second]}"
        )


def _is(value: object, kind: type) -> bool:
    """Whether it is of this kind, and fits into a table's column."""
    return type(value) is kind and not (
        (kind is int and abs(value) >= 2**63) or (kind is str and not (value.isascii() or is_utf8(value)))
    )


def _shown(value: object) -> str:
    """A value as a message shows it."""
    if value is None:
        return "missing or null"
    return repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
