"""What a sweep has to do: each notebook of each row once, after those whose stores it reads."""

import ast
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from ..files.store import WRITERS
from ..samples.source import in_names, parse_shard
from .parameters import Parameter, check_used, declared_parameters, literal, parameters_for, with_whole_paths
from .record import stamp
from .workbook import find_notebooks, own_parameters

SHARD = "shard"
FIRST = ("model", "pretrained", "multimodal_model", "data", "seed")  # in the names of folders
LONGEST_NAME = 120


@dataclass(frozen=True, eq=False)
class Row:
    """One execution of one notebook.

    folder : the run's folder, that of all notebooks and shards with the same parameters. differs : the parameters in which
    it differs from other rows, as text. name : of the executed notebook, without its ending. values : of the notebook's
    parameters. needs : the names of those in the same folder that come first. stamp : changes with whatever its results
    depend on; stamp_now computes it again.
    """

    folder: Path
    differs: str
    name: str
    notebook: Path
    values: dict
    needs: tuple[str, ...]
    stamp: str
    stamp_now: Callable[[], str]

    @property
    def target(self) -> Path:
        """The executed notebook."""
        return self.folder / f"{self.name}.ipynb"

    @property
    def label(self) -> str:
        """How the row is called in messages."""
        return f"{self.differs} {self.name}".strip()


@dataclass(frozen=True)
class Plan:
    """The rows in an order in which none comes before one that it needs, the parameters that each run's folder was given, and
    what the notebooks declare."""

    rows: list[Row]
    parameters: dict[Path, dict[str, object]]
    declared: dict[str, dict[str, Parameter]]


def make_plan(
    table: Sequence[Mapping[str, object]], out: Path, only: Sequence[str] | None = None, notebooks: Path | None = None
) -> Plan:
    """The plan of a sweep into the folder ``out``, a folder in it for each different row but for its shard.

    only : the notebooks that are wanted; those whose stores they read come with them. Where a row stands there for each of
    the shards, the notebook is executed once more when they are done, over all of them. Raises ValueError for parameters
    that the notebooks don't take, before any work.
    """
    planner = _Planner(find_notebooks(folder=notebooks), [path.stem for path in find_notebooks(only, notebooks)])
    table = [with_whole_paths(row) for row in table]
    names = {name for row in table for name in row if name != SHARD}
    varying = {name for name in names if len({repr(row.get(name)) for row in table}) > 1}
    folders = {}
    for number, row in enumerate(table, start=1):
        undivided = {name: row[name] for name in sorted(row, key=_place) if name != SHARD}
        folder = out / _folder_name(undivided)
        if folders.setdefault(folder, undivided) != undivided:
            raise ValueError(f"row {number} of the sweep: its folder would be that of another row, {folder.name}")
        try:
            planner.add(folder, row, _as_text({name: undivided[name] for name in undivided if name in varying}))
        except ValueError as error:
            raise ValueError(f"row {number} of the sweep: {error}") from error
    for folder, parameters in folders.items():
        planner.gather_shards(folder, parameters)
    return Plan(list(planner.rows.values()), folders, planner.declared)


class _Planner:
    def __init__(self, notebooks: Sequence[Path], wanted: Sequence[str]):
        self._paths = {path.stem: path for path in notebooks}
        self.declared = {name: declared_parameters(path) for name, path in self._paths.items()}
        self._reads = {name: _reads(path, list(self._paths)) for name, path in self._paths.items()}
        self._chosen = _with_needs(wanted, self._reads)
        self._shards: dict[Path, list[str | None]] = {}
        self._differs: dict[Path, str] = {}
        self.rows: dict[tuple[Path, str], Row] = {}

    def add(self, folder: Path, parameters: Mapping[str, object], differs: str) -> None:
        """The chosen notebooks with these parameters, as far as they aren't there yet."""
        values = parameters_for(parameters, self.declared)
        check_used(parameters, values, self._chosen)
        shard = parameters.get(SHARD)
        parse_shard(shard)
        self._shards.setdefault(folder, []).append(shard)
        self._differs[folder] = differs
        for name in self._chosen:
            self._add(folder, name, values[name], shard if SHARD in self.declared[name] else None)

    def gather_shards(self, folder: Path, parameters: Mapping[str, object]) -> None:
        """Where there is a row for each share of one division, the sharded notebooks once more, over all shares."""
        shards = sorted({str(shard) for shard in self._shards[folder]})
        divisions = {parse_shard(shard)[1] for shard in shards if shard != "None"}
        if divisions != {len(shards)}:
            return
        values = parameters_for(parameters, self.declared)
        for name in (name for name in self._chosen if SHARD in self.declared[name]):
            self._add(folder, name, values[name], None, [_called(name, shard) for shard in shards])

    def _add(
        self, folder: Path, name: str, given: Mapping[str, object], shard: str | None, after: Sequence[str] = ()
    ) -> None:
        called = _called(name, shard)
        if (folder, called) in self.rows:
            return
        values = {key: value for key, value in given.items() if key != SHARD} | ({SHARD: shard} if shard else {})
        needs = (*self._reads[name], *after)
        stamps = {need: self.rows[folder, need].stamp for need in needs}
        if SHARD in self.declared[name] or values.get("train"):  # what it leaves beside stores stays in its folder
            stamps["folder"] = folder.name
        stamp_now = partial(stamp, self._paths[name], values, stamps)
        values = values | own_parameters(self.declared[name], folder)
        self.rows[folder, called] = Row(
            folder, self._differs[folder], called, self._paths[name], values, needs, stamp_now(), stamp_now
        )


def _called(notebook: str, shard: str | None) -> str:
    return notebook + in_names(shard)


def _reads(notebook: Path, known: Sequence[str]) -> list[str]:
    """The notebooks before this one whose stores it opens; all of them, if the name of a store is no plain text."""
    cells = nbformat.read(notebook, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    before = [name for name in known if name < notebook.stem]
    found = set()
    for node in ast.walk(ast.parse(TransformerManager().transform_cell(code))):
        function = getattr(node, "func", None)
        called = getattr(function, "attr", getattr(function, "id", ""))
        if called == "open_inputs":
            found.add(WRITERS["inputs"])
        elif called == "open_store":
            named = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
            if not named or not isinstance(named[0], ast.Constant):
                return before
            found.add(WRITERS.get(named[0].value, ""))
    return [name for name in before if any(name[:3] == writer[:3] for writer in found)]


def _with_needs(chosen: Sequence[str], reads: Mapping[str, list[str]]) -> list[str]:
    wanted = set(chosen)
    for name in sorted(reads, reverse=True):
        if name in wanted:
            wanted.update(reads[name])
    return [name for name in reads if name in wanted]


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
