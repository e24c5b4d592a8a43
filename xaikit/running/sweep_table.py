"""A sweep's rows: which parameters each run of the notebooks gets, from a table or from choices to be combined."""

import csv
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from ..samples.source import parse_shard
from .parameters import literal

RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
EVERY_SHARD = re.compile(r"\*/(\d+)")
AT_MOST = 100_000  # rows: beyond that a range is more likely mistyped
# Between values: a comma that stands in no bracket and no quotes.
VALUES = re.compile(r"""(?:\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]|\([^()]*\)|\{[^{}]*\}|'[^']*'|"[^"]*"|[^,])+""")


def parse_choice(text: str) -> tuple[str, list[object]]:
    """The name and values of "model=tiny-clip,tiny-clip-shortcut", "seed=0..4" or "shard=*/8".

    A value is a Python literal, a range of whole numbers, all shares of a number of shards, or else text; it is never
    executed. Raises ValueError for anything that isn't NAME=VALUE.
    """
    name, equals, values = text.partition("=")
    if not equals or not name.isidentifier() or not values or ",," in values or values[0] == "," or values[-1] == ",":
        raise ValueError(f"-p {text}: NAME=VALUE is needed, or NAME=VALUE,VALUE or NAME=FIRST..LAST")
    return name, [value for found in VALUES.findall(values) for value in _expanded(literal(found.strip()), name)]


def rows_of(table: Path | None, choices: Sequence[str]) -> list[dict[str, object]]:
    """The rows of a table, or one row of defaults for None, each combined with each combination of choices, as
    ``parse_choice`` takes them. Raises ValueError, or FileNotFoundError, for what can't be read, or is given twice."""
    chosen = {}
    for name, values in map(parse_choice, choices):
        if name in chosen:
            raise ValueError(f"parameter {name} is given twice: write -p {name}=VALUE,VALUE")
        chosen[name] = values
    rows = read_table(table) if table else [{}]
    for name in chosen:
        if any(name in row for row in rows):
            raise ValueError(f"parameter {name} is in the table and in -p: give it in one place")
    found = [row | choice for row in rows for choice in combinations(chosen)]
    if len(found) > AT_MOST:
        raise ValueError(f"the sweep has {len(found)} rows: {AT_MOST} at most")
    return found


def read_table(path: Path) -> list[dict[str, object]]:
    """The rows of a table of parameters.

    A CSV file has the parameters' names as its head and a row a line; an empty field leaves the notebook's default. A YAML
    file is a list of rows, each from name to value, or one mapping from name to a value or a list of values, of which all
    combinations are the rows: "0..4" is a range, "*/8" all eight shards, and a value that is a list itself stands in a list.
    Raises ValueError, or FileNotFoundError, in one sentence that names the file and the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path}")
    if path.suffix.lower() == ".csv":
        return list(_rows_of_csv(path))
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise ValueError(f"{path.name}: a table of rows is a .csv, .yaml or .yml file")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} isn't plain YAML ({' '.join(str(error).split())})") from error
    for row in found if isinstance(found, list) else [found]:
        if isinstance(row, dict) and not all(isinstance(name, str) for name in row):
            raise ValueError(
                f"{path.name}: {next(name for name in row if not isinstance(name, str))!r} is no parameter's name"
            )
    if isinstance(found, list) and found and all(isinstance(row, dict) for row in found):
        return [dict(row) for row in found]
    if isinstance(found, dict) and found:
        return combinations({name: _choices(name, value) for name, value in found.items()})
    raise ValueError(
        f"{path.name}: a list of rows is needed, each from name to value, or one mapping from name to values"
    )


def combinations(choices: Mapping[str, Sequence[object]]) -> list[dict[str, object]]:
    """A row for each way to take one value of each parameter. Raises ValueError for a parameter without values, or for more
    rows than a sweep can mean."""
    count = 1
    for name, values in choices.items():
        if not values:
            raise ValueError(f"parameter {name} has no values: give at least one")
        count *= len(values)
    if count > AT_MOST:
        raise ValueError(f"the sweep has {count} rows: {AT_MOST} at most")
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def _choices(name: str, value: object) -> list[object]:
    return [each for one in (value if isinstance(value, list) else [value]) for each in _expanded(one, name)]


def _expanded(value: object, name: str) -> list[object]:
    if not isinstance(value, str):
        return [value]
    if numbers := RANGE.fullmatch(value):
        first, last = map(int, numbers.groups())
        if not first <= last < first + AT_MOST:
            raise ValueError(f"{name}={value}: a range goes upwards, such as 0..4")
        return list(range(first, last + 1))
    if every := EVERY_SHARD.fullmatch(value):
        parse_shard(f"{every[1]}/{every[1]}")
        return [f"{share}/{every[1]}" for share in range(1, int(every[1]) + 1)]
    return [value]


def _rows_of_csv(path: Path) -> Iterator[dict[str, object]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lines, head = list(reader), reader.fieldnames
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} isn't a CSV file in UTF-8 ({error})") from error
    names = [name.strip() for name in head or ()]
    if len({*names}) < len(names):
        raise ValueError(f"{path.name}: its head names {next(name for name in names if names.count(name) > 1)} twice")
    if not lines:
        raise ValueError(f"{path.name} has no row below its head")
    for number, line in enumerate(lines, start=2):
        if None in line or None in line.values():
            raise ValueError(f"{path.name}, line {number}: it has more or fewer fields than the head")
        yield {name.strip(): literal(text.strip()) for name, text in line.items() if text.strip()}
