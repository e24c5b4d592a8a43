"""Bring an executed notebook into the form that is committed: a rerun of unchanged code gives the same bytes.

What goes: times, widget state, stderr with its progress bars, object addresses, and HTML with random ids (a
table's HTML is kept). What stays is what a reader sees and the test compares.
"""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ..files.paths import write_text
from .execution import execute, failure
from .notebooks import find_notebooks
from .workbook import RunFailed

DECLARED = "xaikit"  # the stores that the notebook writes and reads
LANGUAGE = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")


def cleaned(text: str) -> str:
    """The text of a notebook file as it is committed."""
    notebook = nbformat.reads(text, as_version=4)
    declared = {name: own for name, own in notebook.metadata.items() if name == DECLARED}
    notebook.metadata = NotebookNode(declared | LANGUAGE)
    executed = 0
    for cell in notebook.cells:
        cell.metadata = NotebookNode({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
        if cell.cell_type == "code":
            if cell.execution_count is not None:
                executed += 1
                cell.execution_count = executed
            cell.outputs = _clean_outputs(cell)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def _clean_outputs(cell: NotebookNode) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":  # how a stream is cut into pieces depends on the time
                kept[-1].text += output.text
                continue
        if "data" in output:
            _clean_data(output.data)
        if "execution_count" in output:
            output.execution_count = cell.execution_count
        kept.append(output)
    return kept


def _clean_data(data: NotebookNode) -> None:
    data.pop(WIDGET_VIEW, None)
    if 'class="dataframe"' not in data.get("text/html", ""):
        data.pop("text/html", None)
    if "text/plain" in data:
        data["text/plain"] = ADDRESS.sub("", data["text/plain"])


def refresh(only: Sequence[str] | None = None, notebooks: Path | None = None) -> list[Path]:
    """Execute the notebooks with their defaults and store the cleaned outputs in them; returns those written.

    A notebook reads what earlier ones stored, so with ``only`` the ones before it are executed as well, but
    left as they are. Everything is computed in a temporary folder: ``runs/`` is not touched. Raises RunFailed
    when a notebook fails; it is then left as it was, and the temporary folder is kept to look at.
    """
    chosen = [notebook.path for notebook in find_notebooks(only, notebooks).values()]
    every = [notebook.path for notebook in find_notebooks(folder=notebooks).values()]
    workplace = Path(tempfile.mkdtemp(prefix="xaikit-refresh-"))
    for path in every[: every.index(chosen[-1]) + 1]:
        executed = workplace / path.name
        print(f"{path.stem}: running", flush=True)
        try:
            execute(path, executed, {}, workplace / "runs")
        except Exception as error:
            part = executed.with_suffix(".part.ipynb")
            raise RunFailed(f"{path.stem} failed, {failure(error)} (see {part}); it is left as it was") from error
        if path in chosen:
            write_text(path, cleaned(executed.read_text(encoding="utf-8")))
    shutil.rmtree(workplace)
    return chosen
