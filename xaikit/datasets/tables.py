"""Tables that come with a dataset, JSON or CSV: read as plain values, and checked entry by entry."""

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from .files import LayoutError, is_utf8

MOST_BYTES = 2**31  # no published table is larger; another is not read
KINDS = {int: "a whole number", str: "text", list: "a list", dict: "an object"}
DTYPES = {int: "int64", str: "str", list: object}


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
    try:
        return json.loads(read_text(path), object_pairs_hook=_leaving_out(without))
    except RecursionError:
        raise LayoutError(f"{path} isn't JSON of a dataset: it is nested too deeply") from None
    except LayoutError:
        raise
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
    rows, lines = [], []
    try:
        header = [name.strip() for name in next(reader, [])]
        for row in reader:
            if row and len(row) != len(header):
                raise LayoutError(
                    f"{path}: line {reader.line_num} has {len(row)} columns, but the header {len(header)}"
                )
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise LayoutError(f"{path}: line {reader.line_num} can't be read as a table ({error})") from error
    if len({*header}) < len(header):
        raise LayoutError(f"{path}: the header names a column twice: {', '.join(header)}")
    return pd.DataFrame(rows, index=lines, columns=header, dtype=object)


def column(path: Path, table: pd.DataFrame, *names: str) -> pd.Series:
    """The column of the first of these names that a table has. Raises LayoutError if it has none."""
    for name in names:
        if name in table:
            return table[name]
    raise LayoutError(f"{path} has no column {' or '.join(names)}: its header is {', '.join(table.columns) or 'empty'}")


def whole_numbers(path: Path, values: pd.Series) -> pd.Series:
    """A column of text as whole numbers. Raises LayoutError that names the first line with another."""
    good = values.str.fullmatch(r"\s*-?[0-9]{1,18}\s*").astype(bool)
    if not good.all():
        line = good.index[~good.to_numpy()][0]
        raise LayoutError(f"{path}: line {line} has {values.name}={_shown(values[line])}, but a whole number is needed")
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


def _leaving_out(names: Collection[str]):
    """For a file of which most isn't needed (outlines of objects): it is let go as soon as it is read."""
    return (lambda pairs: {key: value for key, value in pairs if key not in names}) if names else None


def _shown(value: object) -> str:
    """A value as a message shows it."""
    if value is None:
        return "missing or null"
    return repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
