"""What the numbered notebooks declare, their parameters, the stores that they write and those that they read, and whether
what a user gives fits.

Nothing hangs on the number in a file's name but the order of notebooks that don't need one another. papermill only warns
about an unknown parameter, after running with it ignored; here it is an error before any work.
"""

import ast
import difflib
import json
import os
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from ..files.checks import COUPLINGS, FILLS, PRECISIONS, check_choices, check_names, check_whole
from ..files.paths import CHECKOUT, data_folder, find_named, notebooks_folder
from ..files.store import declared_stores
from ..samples.worlds import WORLDS

TAG = "parameters"
FOR_THE_RUNNER = "run"
NUMBERED = re.compile(r"\d\d[a-z]?_")  # "04_", and "04b_" for a second half
PLAIN = (type(None), bool, int, float, str, list, dict)  # what papermill can write into a notebook
FROM_NOUGHT = ("seed", "sample")  # of the whole numbers; all others count something, at least one
CHOICES = {"precision": PRECISIONS, "fill": FILLS, "coupling": COUPLINGS, "world": WORLDS}
OF_DATA = ("data", "captions", "coco", "imagenet", "winoground")
COUNTS = re.compile(r"n_.+|.+_n|n|size")  # and what says of itself "None for 8"


@dataclass(frozen=True)
class Parameter:
    """One line ``name = default  # meaning`` of a notebook's parameters cell."""

    name: str
    default: object
    meaning: str = ""

    def checked(self, value: object) -> object:
        """The value as the notebook takes it, or a ValueError that says what it takes."""
        value = list(value) if isinstance(value, tuple) else value  # papermill would write a tuple as a string
        like_default = self.default is None or type(value) is type(self.default)
        whole_for_float = isinstance(self.default, float) and type(value) is int
        none = value is None and "None" in self.meaning
        if _is_plain(value) and (like_default or whole_for_float or none):
            self._check_known(value)
            return value
        wanted = f"parameter {self.name} is of type {type(self.default).__name__}, as in {self.name} = {self.default!r}"
        meaning = f" ({self.meaning})" if self.meaning else ""
        raise ValueError(f"{wanted}{meaning}, but was given {value!r}")

    def _check_known(self, value: object) -> None:
        """Raise ValueError for a value that no notebook could use, which its kernel would say much later."""
        counts = type(self.default) is int or COUNTS.fullmatch(self.name) or re.search(r"None for \d", self.meaning)
        if value is not None and counts:
            check_whole(0 if self.name in FROM_NOUGHT else 1, **{self.name: value})
        elif self.name in CHOICES and value is not None:
            check_choices(**{self.name: (value, CHOICES[self.name])})
        elif self.name == "methods" and value is not None:
            check_names(listed_methods(), methods=value)
        elif (self.name in OF_DATA or self.default is None) and not isinstance(value, str | None):
            raise ValueError(f"{self.name}={value!r}: text is needed, {self.meaning}")


def listed_methods() -> dict[str, dict]:
    """What the decorator of each explanation method says, by name, read from its source: torch takes seconds to import."""
    from .. import explainers

    files = (Path(each.module_finder.path, f"{each.name}.py") for each in pkgutil.iter_modules(explainers.__path__))
    found = {name: said for file in files for name, said in _methods_in(file, file.stat().st_mtime_ns).items()}
    return dict(sorted(found.items()))


@cache
def _methods_in(file: Path, changed: int) -> dict[str, dict]:
    functions = ast.parse(file.read_text(encoding="utf-8")).body
    calls = [
        (function.name, call)
        for function in functions
        for call in getattr(function, "decorator_list", ())
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "method"
    ]
    return {name: {word.arg: ast.literal_eval(word.value) for word in call.keywords} for name, call in calls}


def _is_plain(value: object) -> bool:
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return isinstance(value, PLAIN) and all(map(_is_plain, inner))


@dataclass(frozen=True)
class Notebook:
    """A notebook, by what it declares.

    code : of its cells. stores, reads : the stores that it writes and reads, from ``metadata.xaikit``; ``reads`` is None
    where it doesn't say, which is taken for all that come before. reads_data : the folders of results in ``data/`` that it reads.
    """

    path: Path
    code: tuple[str, ...]
    parameters: dict[str, Parameter]
    stores: tuple[str, ...] = ()
    reads: tuple[str, ...] | None = None
    reads_data: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def defaults(self) -> dict[str, object]:
        """The defaults of its parameters."""
        return {name: known.default for name, known in self.parameters.items()}


def read_notebook(path: Path) -> Notebook:
    """A notebook by what it declares. Raises ValueError for one without exactly one cell tagged ``parameters``, or with anything
    but parameters in it."""
    return _read(path, path.stat().st_mtime_ns)


@cache
def _read(path: Path, changed: int) -> Notebook:
    found = json.loads(path.read_text(encoding="utf-8"))
    cells = [(cell, "".join(cell["source"])) for cell in found["cells"] if cell["cell_type"] == "code"]
    tagged = [source for cell, source in cells if TAG in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{path.name} has {len(tagged)} cells tagged {TAG!r}: one is needed")
    code = tuple(source for _, source in cells)
    data = tuple(found["metadata"].get("xaikit", {}).get("reads_data", ()))
    return Notebook(path, code, read_parameters(tagged[0], path.name), *declared_stores(found), data)


def read_parameters(source: str, where: str = "the parameters cell") -> dict[str, Parameter]:
    """The parameters in the source of a parameters cell. Raises ValueError if it holds anything else."""
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body:
        try:
            (target,) = node.targets
            name, default = target.id, ast.literal_eval(node.value)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{where}, line {node.lineno}: only 'name = literal  # meaning' may stand there"
            ) from error
        comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
        found[name] = Parameter(name, default, comment.strip().lstrip("# "))
    return found


def find_notebooks(only: Sequence[str] | None = None, folder: Path | None = None) -> dict[str, Notebook]:
    """The numbered notebooks by name, or those named in ``only`` by number ("04", or "04b" for its second half), by a range of
    numbers ("01-06", halves and all), in full, or by several of these with commas between ("00,06"): in the order of their
    names, but each after those whose stores it reads."""
    folder = folder or notebooks_folder()
    paths = sorted(
        path for path in folder.glob("[0-9][0-9]*_*.ipynb") if NUMBERED.match(path.name) and ".part" not in path.name
    )
    if not paths:
        raise FileNotFoundError(f"{folder} holds no numbered notebook such as 00_name.ipynb")
    chosen = [name for several in only or () for name in several.split(",")]
    for name in chosen:
        if not any(_is_named(path, name) for path in paths):
            raise ValueError(f"there is no notebook {name!r}: choose from {', '.join(path.stem for path in paths)}")
    found = {path.stem: read_notebook(path) for path in paths}
    return {
        name: found[name]
        for name in _in_order(needs_of(found))
        if not only or any(_is_named(found[name].path, wanted) for wanted in chosen)
    }


def needs_of(notebooks: Mapping[str, Notebook]) -> dict[str, list[str]]:
    """For each notebook those whose stores it reads itself."""
    return {
        name: [
            other
            for other, writer in notebooks.items()
            if (other < name if notebook.reads is None else other != name and set(writer.stores) & set(notebook.reads))
        ]
        for name, notebook in notebooks.items()
    }


def all_needs_of(notebooks: Mapping[str, Notebook]) -> dict[str, set[str]]:
    """For each notebook, in their order, those whose stores it reads, and those whose stores these read, and so on."""
    needs, found = needs_of(notebooks), {}
    for name in notebooks:
        found[name] = {*needs[name]}.union(*(found[need] for need in needs[name]))
    return found


def _in_order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    sorter, ready, order = TopologicalSorter(needs), [], []
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(
            f"each of these notebooks reads what the next one stores: {', '.join(error.args[1])}"
        ) from None
    while sorter.is_active():
        first, *ready = sorted([*ready, *sorter.get_ready()])
        order.append(first)
        sorter.done(first)
    return order


def _is_named(path: Path, name: str) -> bool:
    if between := re.fullmatch(r"(\d\d)-(\d\d)", name):
        return between[1] <= path.stem[:2] <= between[2]
    return name.removesuffix(".ipynb") in (path.stem, path.stem.partition("_")[0])


def parameters_for(
    given: Mapping[str, object], notebooks: Mapping[str, Notebook], chosen: Sequence[str] | None = None
) -> dict[str, dict[str, object]]:
    """For each notebook that is wanted the given parameters that it declares, checked.

    given : value by parameter name. chosen : the notebooks that are wanted, None for all.

    Raises ValueError for a parameter that no notebook declares, or none of the chosen ones, for a value of another type than
    the default, and for ``run``, which follows from the run's folder.
    """
    owners = {name: [notebook.name for notebook in notebooks.values() if name in notebook.parameters] for name in given}
    for name, own in owners.items():
        if name == FOR_THE_RUNNER:
            raise ValueError("parameter run can't be given: it is the name of the run's folder, set with --out")
        if not own:
            known = sorted({each for notebook in notebooks.values() for each in notebook.parameters} - {FOR_THE_RUNNER})
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ValueError(f"no notebook has a parameter {name}{hint} (known: {', '.join(known)})")
    found = {
        name: {each: own.parameters[each].checked(given[each]) for each in given if each in own.parameters}
        for name, own in notebooks.items()
        if chosen is None or name in chosen  # what suits one, as None for all samples, need not suit another
    }
    for name, own in owners.items():
        if chosen is not None and not {*own} & {*chosen}:
            raise ValueError(f"parameter {name} has no effect here: of the notebooks only {', '.join(own)} has it")
    return found


def with_whole_paths(parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters, with each file or folder that one names by its whole path: kernels work in another folder.

    It is looked for in the working folder, the notebooks' and the repository. What names none stays as it is; for data that
    aren't there ValueError is raised, before any kernel starts.
    """
    from ..samples.layouts import known_layouts, parse_data

    found = dict(parameters)
    for name, value in parameters.items():
        if not isinstance(value, str):
            continue
        kind = value.partition(":")[0]
        is_data = kind in known_layouts() or (name == "data" and value not in ("planted", "photos"))
        ours = name in ("pretrained", "multimodal_model") and os.path.exists(data_folder() / value)  # a bundled model
        if is_data or kind == "local-dir" or (name in ("pretrained", "multimodal_model") and value and not ours):
            named = find_named(value, ("local-dir", *known_layouts()), Path.cwd(), notebooks_folder(), CHECKOUT)
            if named is None and is_data:
                parse_data(value)  # which says what is wrong
            found[name] = str(named or value)
    return found


def literal(text: str) -> object:
    """The Python literal that the text is (a number, a list, None), or the text itself; nothing in it is executed."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
