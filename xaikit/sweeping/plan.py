"""What a sweep has to do: each notebook of each row once, after those whose stores it reads."""

import ast
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from ..datasets.shards import parse_shard
from ..parameters import Parameter, check_used, declared_parameters, parameters_for
from ..run_record import stamp
from ..store import WRITERS
from ..workbook import find_notebooks, own_parameters

SHARD = "shard"
LONGEST_NAME = 100


@dataclass(frozen=True, eq=False)
class Row:
    """One execution of one notebook.

    folder : the run's folder, that of all notebooks and shards with the same parameters. name : of the executed notebook,
    without its ending. values : of the notebook's parameters. needs : the names of those in the same folder that come first.
    stamp : changes with whatever its results depend on.
    """

    folder: Path
    name: str
    notebook: Path
    values: dict
    needs: tuple[str, ...]
    stamp: str

    @property
    def target(self) -> Path:
        """The executed notebook."""
        return self.folder / f"{self.name}.ipynb"

    @property
    def label(self) -> str:
        """How the row is called in messages."""
        return f"{self.folder.name} {self.name}"


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
    folders = {}
    for number, row in enumerate(table, start=1):
        undivided = {name: row[name] for name in sorted(row) if name != SHARD}
        folder = out / _folder_name(undivided)
        folders[folder] = undivided
        try:
            planner.add(folder, row)
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
        self.rows: dict[tuple[Path, str], Row] = {}

    def add(self, folder: Path, parameters: Mapping[str, object]) -> None:
        """The chosen notebooks with these parameters, as far as they aren't there yet."""
        values = parameters_for(parameters, self.declared)
        check_used(parameters, values, self._chosen)
        shard = parameters.get(SHARD)
        parse_shard(shard)
        self._shards.setdefault(folder, []).append(shard)
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
        if SHARD in self.declared[name]:  # its parts stay in its folder: no other's results can stand for them
            stamps["folder"] = folder.name
        own = stamp(self._paths[name], values, stamps)
        values |= own_parameters(self.declared[name], folder)
        self.rows[folder, called] = Row(folder, called, self._paths[name], values, needs, own)


def _called(notebook: str, shard: str | None) -> str:
    return f"{notebook}.{shard.replace('/', '-of-')}" if shard else notebook


def _reads(notebook: Path, known: Sequence[str]) -> list[str]:
    """The notebooks whose stores this one opens by name."""
    cells = nbformat.read(notebook, as_version=4).cells
    found = set()
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    for node in ast.walk(ast.parse(TransformerManager().transform_cell(code))):
        called = getattr(getattr(node, "func", None), "attr", "")
        if called == "open_inputs":
            found.add(WRITERS["inputs"])
        elif called == "open_store" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            found.add(WRITERS.get(node.args[1].value, ""))
    return [name for name in known if any(name[:3] == writer[:3] for writer in found) and name != notebook.stem]


def _with_needs(chosen: Sequence[str], reads: Mapping[str, list[str]]) -> list[str]:
    wanted = set(chosen)
    for name in sorted(reads, reverse=True):
        if name in wanted:
            wanted.update(reads[name])
    return [name for name in reads if name in wanted]


def _folder_name(parameters: Mapping[str, object]) -> str:
    """After all parameters, so that a row keeps its folder, and what is done in it, when others join the sweep."""
    exact = ",".join(f"{name}={value}" for name, value in parameters.items())
    plain = re.sub(r"[^\w.,=+-]+", "_", exact)[:LONGEST_NAME].lstrip(".")
    if plain != exact:  # another row may look the same
        plain += "." + hashlib.sha256(exact.encode()).hexdigest()[:6]
    return plain or "run"
