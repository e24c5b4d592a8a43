"""What a sweep has to do: its rows of parameters, from a table or from choices to be combined, and for each row every
notebook once, after those whose stores it reads."""

import csv
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..files.checks import one_line
from ..samples.source import in_names, parse_shard
from .notebooks import Notebook, all_needs_of, find_notebooks, literal, needs_of, parameters_for, with_whole_paths
from .workbook import SHARD, Execution, execution_of

FIRST = ("model", "pretrained", "multimodal_model", "data", "seed")  # in the names of folders
LONGEST_NAME = 120
RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
EVERY_SHARD = re.compile(r"\*/(\d+)")
AT_MOST = 100_000  # rows: beyond that a range is more likely mistyped
# Between values: a comma that stands in no bracket and no quotes.
VALUES = re.compile(r"""(?:\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]|\([^()]*\)|\{[^{}]*\}|'[^']*'|"[^"]*"|[^,])+""")


def parse_choice(text: str) -> tuple[str, list[object]]:
    """The name and values of "model=tiny-clip,tiny-clip-shortcut", "seed=0..4" or "shard=*/8": Python literals, ranges, all
    shares of a number of shards, or else text, which is never executed."""
    name, equals, values = text.partition("=")
    if not equals or not name.isidentifier() or not values or ",," in values or values[0] == "," or values[-1] == ",":
        raise ValueError(f"-p {text}: NAME=VALUE is needed, or NAME=VALUE,VALUE or NAME=FIRST..LAST")
    return name, [value for found in VALUES.findall(values) for value in _expanded(literal(found.strip()), name)]


def rows_of(table: Path | None, choices: Sequence[str]) -> list[dict[str, object]]:
    """The rows of a table, or one row of defaults for None, each combined with each combination of choices, as
    ``parse_choice`` takes them. Raises ValueError, or FileNotFoundError, for what can't be read, or is given twice.

    Examples
    --------
    >>> xk.running.rows_of(None, ["model=tiny-clip", "seed=0..1"])
    [{'model': 'tiny-clip', 'seed': 0}, {'model': 'tiny-clip', 'seed': 1}]
    """
    chosen = {}
    for name, values in map(parse_choice, choices):
        if name in chosen:
            raise ValueError(f"parameter {name} is given twice: write -p {name}=VALUE,VALUE")
        chosen[name] = values
    rows = read_table(table) if table else [{}]
    for name in chosen:
        if any(name in row for row in rows):
            raise ValueError(f"parameter {name} is in the table and in -p: give it in one place")
    _check_count(len(rows) * math.prod(map(len, chosen.values())))
    return [row | choice for row in rows for choice in combinations(chosen)]


def read_table(path: Path) -> list[dict[str, object]]:
    """The rows of a CSV file, whose empty fields leave the notebooks' defaults, or of a YAML file: a list of rows, each from
    name to value, or one mapping from name to a value or a list of values, of which all combinations are the rows, with
    "0..4" and "*/8" as in ``parse_choice`` (a value that is a list itself stands in a list).
    Raises ValueError, or FileNotFoundError, in one sentence that names the file and the line."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path}")
    if path.suffix.lower() == ".csv":
        return list(_rows_of_csv(path))
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise ValueError(f"{path.name}: a table of rows is a .csv, .yaml or .yml file")
    try:
        found = Yaml(path.read_text(encoding="utf-8")).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} isn't plain YAML ({one_line(error)})") from error
    rows = found if isinstance(found, list) else [found]
    if not found or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"{path.name}: a list of rows is needed, each from name to value, or one mapping from name to values"
        )
    for name in itertools.chain(*rows):
        if not isinstance(name, str):
            raise ValueError(f"{path.name}: {name!r} is no parameter's name")
    if isinstance(found, list):
        return found
    listed = {name: value if isinstance(value, list) else [value] for name, value in found.items()}
    return combinations(
        {name: [value for one in values for value in _expanded(one, name)] for name, values in listed.items()}
    )


class Yaml(yaml.SafeLoader):
    """Plain values as YAML 1.2 reads them: 1e-3 is a number, 010 is ten, "no", 12:30 and
    dates are text. A name that stands twice in a row is an error."""

    yaml_implicit_resolvers = {}

    def construct_mapping(self, node, deep=False):
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a name stands twice in a row", node.start_mark)
        return found


def _number(loader: Yaml, node: yaml.Node) -> int:
    text = loader.construct_scalar(node)
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


Yaml.add_constructor("tag:yaml.org,2002:int", _number)
for kind, pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}.items():
    Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{pattern})$"), None)


def combinations(choices: Mapping[str, Sequence[object]]) -> list[dict[str, object]]:
    """A row for each way to take one value of each parameter. Raises ValueError for a parameter without values, or for more
    rows than a sweep can mean."""
    for name, values in choices.items():
        if not values:
            raise ValueError(f"parameter {name} has no values: give at least one")
    _check_count(math.prod(map(len, choices.values())))
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def _check_count(rows: int) -> None:
    if rows > AT_MOST:
        raise ValueError(f"the sweep has {rows} rows: {AT_MOST} at most")


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


@dataclass(frozen=True)
class Plan:
    """The rows in an order in which none comes before one that it needs, the parameters that each run's folder was given, and
    the notebooks by name."""

    rows: list[Execution]
    parameters: dict[Path, dict[str, object]]
    notebooks: dict[str, Notebook]


def make_plan(
    table: Sequence[Mapping[str, object]], out: Path, only: Sequence[str] | None = None, notebooks: Path | None = None
) -> Plan:
    """The plan of a sweep into the folder ``out``, a folder in it for each different row but for its shard.

    only : the notebooks that are wanted; those whose stores they read come with them. Where a row stands there for each of
    the shards, the notebook is executed once more when they are done, over all of them. Raises ValueError for parameters
    that the notebooks don't take, before any work.
    """
    known, wanted = find_notebooks(folder=notebooks), find_notebooks(only, notebooks)
    needed = all_needs_of(known)
    chosen = [name for name in known if name in wanted or any(name in needed[one] for one in wanted)]
    table = [with_whole_paths(row) for row in table]
    names = {name for row in table for name in row if name != SHARD}
    varying = {name for name in names if len({repr(row.get(name)) for row in table}) > 1}
    parameters, shares = {}, {}
    for number, row in enumerate(table, start=1):
        undivided = {name: row[name] for name in sorted(row, key=_place) if name != SHARD}
        folder = out / _folder_name(undivided)
        try:
            if parameters.setdefault(folder, undivided) != undivided:
                raise ValueError(f"its folder would be that of another row, {folder.name}")
            parameters_for(row, known, chosen)
            parse_shard(row.get(SHARD))
        except ValueError as error:
            raise ValueError(f"row {number} of the sweep: {error}") from error
        shares.setdefault(folder, {})[row.get(SHARD)] = None
    rows = []
    for folder, given in parameters.items():
        differs = _as_text({name: value for name, value in given.items() if name in varying})
        rows += _rows_in(folder, given, list(shares[folder]), differs, known, chosen)
    return Plan(rows, parameters, known)


def _rows_in(
    folder: Path,
    parameters: Mapping[str, object],
    shares: Sequence[str | None],
    differs: str,
    known: Mapping[str, Notebook],
    chosen: Sequence[str],
) -> list[Execution]:
    """The chosen notebooks in one folder, those that take a share once for each, and, where all shares of one division are
    there, once more over all of them."""
    needs, values, rows = needs_of(known), parameters_for(parameters, known, chosen), {}
    gathered = {parse_shard(share)[1] for share in shares if share is not None} == {len(shares)}
    for share, name in itertools.product([*shares, *([None] if gathered else [])], chosen):
        sharded = SHARD in known[name].parameters
        called = name + in_names(share if sharded else None)
        if called not in rows:
            given = values[name] | ({SHARD: share} if sharded and share else {})
            after = [name + in_names(each) for each in shares] if gathered and sharded and share is None else []
            before = [rows[need] for need in (*needs[name], *after)]
            rows[called] = execution_of(known[name], folder, called, given, before, differs)
    return list(rows.values())


def _folder_name(parameters: Mapping[str, object]) -> str:
    """After all parameters, so that a row keeps its folder, and what is done in it, when others join the sweep."""
    exact = _as_text(parameters)
    ambiguous = any(literal(str(value)) != value or "," in str(value) for value in parameters.values())
    plain = re.sub(r"[^A-Za-z0-9_.,=+-]+", "_", exact)[:LONGEST_NAME].lstrip(".")
    if plain != exact or ambiguous:  # another row may look the same
        given = json.dumps(parameters, sort_keys=True)
        plain += "." + hashlib.sha256(given.encode()).hexdigest()[:12]
    return plain if parameters else "run"


def _as_text(parameters: Mapping[str, object]) -> str:
    return ",".join(f"{name}={value}" for name, value in parameters.items())


def _place(name: str) -> tuple[int, str]:
    return FIRST.index(name) if name in FIRST else len(FIRST), name
