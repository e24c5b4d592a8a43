"""What stands in notebooks: the functions that a committed one defines, to be tested as they are, and what cells printed."""

import ast
from pathlib import Path
from types import SimpleNamespace

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def functions_of(name: str) -> SimpleNamespace:
    """What a notebook, named without its number, imports and defines: functions, and constants in capitals."""
    (path,) = NOTEBOOKS.glob(f"[0-9][0-9]*_{name}.ipynb")
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    lines = [line for cell in cells for line in ast.parse(TransformerManager().transform_cell(cell.source)).body]
    namespace = {}
    for cell in cells:  # functions have parameters as defaults
        if "parameters" in cell.metadata.get("tags", []):
            exec(cell.source, namespace)
    exec(compile(ast.Module([line for line in lines if _is_kept(line)], []), path.name, "exec"), namespace)
    return SimpleNamespace(**namespace)


def widget_of(name: str, small: str, cell: str, *before: str) -> str:
    """What a notebook imports, small results in place of its own, and its cell named by its id, below the functions and the
    other cells that it takes."""
    (path,) = NOTEBOOKS.glob(f"[0-9][0-9]*_{name}.ipynb")
    cells = {each.id: each.source for each in nbformat.read(path, as_version=4).cells if each.cell_type == "code"}
    lines = [(ast.get_source_segment(code, line), line) for code in cells.values() for line in ast.parse(code).body]
    imports = [text for text, line in lines if isinstance(line, ast.Import | ast.ImportFrom)]
    known = cells | {line.name: text for text, line in lines if isinstance(line, ast.FunctionDef)}
    return "\n".join([*imports, small, *(known[part] for part in before), cells[cell]])


def printed(path: Path) -> list[str]:
    """What the cells of an executed notebook printed, a text an output."""
    cells = nbformat.read(path, as_version=4).cells
    return [output.text for cell in cells for output in cell.get("outputs", []) if "text" in output]


def _is_kept(line: ast.stmt) -> bool:
    constant = isinstance(line, ast.Assign) and all(isinstance(t, ast.Name) and t.id.isupper() for t in line.targets)
    return constant or isinstance(line, ast.Import | ast.ImportFrom | ast.FunctionDef)
