"""The parameters of notebooks: what their cells declare, and whether what a user gives fits.

papermill only warns about an unknown parameter, after running with it ignored; here it is an error before
any work.
"""

import ast
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from ..files.paths import data_folder

TAG = "parameters"
FOR_THE_RUNNER = "run"
PLAIN = (type(None), bool, int, float, str, list, dict)  # what papermill can write into a notebook


@dataclass(frozen=True)
class Parameter:
    """One line ``name = default  # meaning`` of a notebook's parameters cell."""

    name: str
    default: object
    meaning: str = ""

    def checked(self, value: object) -> object:
        """The value as the notebook takes it, or a ValueError that says what it takes."""
        value = list(value) if isinstance(value, tuple) else value  # papermill would write a tuple as a string
        if self._fits(value):
            return value
        wanted = f"parameter {self.name} is of type {type(self.default).__name__}, as in {self.name} = {self.default!r}"
        meaning = f" ({self.meaning})" if self.meaning else ""
        raise ValueError(f"{wanted}{meaning}, but was given {value!r}")

    def _fits(self, value: object) -> bool:
        if not _is_plain(value):
            return False
        if value is None:
            return self.default is None or "None" in self.meaning
        if self.default is None or type(value) is type(self.default):
            return True
        return isinstance(self.default, float) and type(value) is int


def _is_plain(value: object) -> bool:
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return isinstance(value, PLAIN) and all(map(_is_plain, inner))


def with_whole_paths(parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters, with each file or folder that one names from the working folder named by its whole path: kernels work
    in another folder. A name that is no file or folder here stays as it is."""
    return {name: _whole_path(name, value) for name, value in parameters.items()}


def _whole_path(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    from ..samples.layouts import LAYOUTS

    kind, colon, path = value.partition(":")
    named = path if kind in ("local-dir", *LAYOUTS) else value if name in ("pretrained", "multimodal_model") else ""
    found = Path(named.rpartition("#")[0] if "#" in named and not Path(named).exists() else named)
    if not named or (data_folder() / named).exists() or not found.exists():
        return value
    return (kind + colon if named == path else "") + str(Path.cwd() / named)


def literal(text: str) -> object:
    """The Python literal that the text is (a number, a list, None), or the text itself; nothing in it is executed."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def declared_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares, read by parsing its one cell tagged ``parameters``."""
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell.source for cell in cells if TAG in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{notebook.name} has {len(tagged)} cells tagged {TAG!r}: one is needed")
    return read_parameters(tagged[0], notebook.name)


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


def parameters_for(
    given: Mapping[str, object], declared: Mapping[str, Mapping[str, Parameter]]
) -> dict[str, dict[str, object]]:
    """For each notebook the given parameters that it declares, checked.

    Parameters
    ----------
    given : value by parameter name.
    declared : for each notebook the parameters that it declares.

    Raises ValueError for a parameter that no notebook declares, for a value of another type than the
    default, and for ``run``, which follows from the run's folder.
    """
    known = sorted({name for parameters in declared.values() for name in parameters} - {FOR_THE_RUNNER})
    for name in given:
        if name == FOR_THE_RUNNER:
            raise ValueError("parameter run can't be given: it is the name of the run's folder, set with --out")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ValueError(f"no notebook has a parameter {name}{hint} (known: {', '.join(known)})")
    return {
        notebook: {name: parameters[name].checked(value) for name, value in given.items() if name in parameters}
        for notebook, parameters in declared.items()
    }


def check_used(given: Mapping[str, object], values: Mapping[str, Mapping[str, object]], chosen: Sequence[str]) -> None:
    """Raise ValueError for a given parameter that none of the chosen notebooks has; ``values`` from ``parameters_for``."""
    for name in given:
        if not any(name in values[notebook] for notebook in chosen):
            owners = ", ".join(notebook for notebook, own in values.items() if name in own)
            raise ValueError(f"parameter {name} has no effect here: of the notebooks only {owners} has it")
