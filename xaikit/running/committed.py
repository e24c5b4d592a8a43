"""The committed notebooks outside of runs: refreshed in place, and the explorer's served as a web page of its own.

A rerun of unchanged code gives the same bytes. What goes from an executed notebook: times, widget state, stderr with its
progress bars, object addresses, and HTML with random ids (a table's HTML is kept). What stays is what a reader sees and
the test compares.
"""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files.checks import EXTRAS, needs
from ..files.paths import notebooks_folder, write_text
from .execution import execute, failure
from .notebooks import TAG, find_notebooks, parameters_for, read_notebook
from .workbook import RunFailed

DECLARED = "xaikit"  # the stores that the notebook writes and reads
LANGUAGE = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
APPLICATION = "application"  # the tag of the cell that shows the explorer
# A page that was closed leaves its kernel behind, with a model in it: it is ended once nothing is connected to it.
VOILA = (
    "--strip_sources=True",
    "--MappingKernelManager.cull_idle_timeout=60",
    "--MappingKernelManager.cull_interval=20",
)


def cleaned(text: str) -> str:
    """The text of a notebook file as it is committed."""
    import nbformat  # takes a second, and bad parameters of the explorer are refused before

    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata = {name: own for name, own in notebook.metadata.items() if name == DECLARED} | LANGUAGE
    executed = 0
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            if cell.execution_count is not None:
                executed += 1
                cell.execution_count = executed
            cell.outputs = _clean_outputs(cell)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def _clean_outputs(cell: dict) -> list[dict]:
    kept = []
    for output in cell.outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":  # how a stream is cut into pieces depends on the time
                kept[-1].text += output.text
                continue
        data = output.get("data", {})
        data.pop(WIDGET_VIEW, None)
        if 'class="dataframe"' not in data.get("text/html", ""):
            data.pop("text/html", None)
        if "text/plain" in data:
            data["text/plain"] = ADDRESS.sub("", data["text/plain"])
        if "execution_count" in output:
            output.execution_count = cell.execution_count
        kept.append(output)
    return kept


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


def serve(run: str = "default", parameters: Mapping[str, object] | None = None, options: Sequence[str] = ()) -> int:
    """Serve the explorer until it is interrupted, and return Voila's exit code.

    run : whose scenes and stores are shown. parameters : of the notebook. options : of Voila, such as ``--port=8866`` or
    ``--no-browser``. Raises ValueError for bad parameters, ModuleNotFoundError where Voila isn't installed.
    """
    with tempfile.TemporaryDirectory(prefix="xaikit-app-") as folder:
        notebook = write_application(Path(folder), run, parameters)
        try:
            import voila  # noqa: F401
        except ImportError as error:
            raise ModuleNotFoundError(needs("voila", EXTRAS["voila"])) from error
        with subprocess.Popen([sys.executable, "-m", "voila", *VOILA, *options, str(notebook)]) as server:
            # Terminated, Voila ends its kernels and then itself.
            before = signal.signal(signal.SIGTERM, lambda *about: server.terminate())
            try:
                return server.wait()
            except KeyboardInterrupt:
                return 0
            finally:
                signal.signal(signal.SIGTERM, before)


def explorer_notebook() -> Path:
    """The committed notebook that shows the explorer."""
    paths = sorted(notebooks_folder().glob("*.ipynb"))
    return next(path for path in paths if f'"{APPLICATION}"' in path.read_text(encoding="utf-8"))


def write_application(folder: Path, run: str = "default", parameters: Mapping[str, object] | None = None) -> Path:
    """Write the cells that show the explorer, and those that they need, into a folder and return the notebook."""
    path = explorer_notebook()
    given = parameters_for(parameters or {}, {path.stem: read_notebook(path)})[path.stem] | {"run": run}

    import nbformat

    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tags = [cell.metadata.get("tags", []) for cell in code]
    notebook.cells = code[: 1 + next(place for place, own in enumerate(tags) if APPLICATION in own)]
    for cell in notebook.cells:
        cell.outputs, cell.execution_count = [], None
    set_here = nbformat.v4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in given.items()))
    notebook.cells.insert(1 + next(place for place, own in enumerate(tags) if TAG in own), set_here)
    written = folder / "explorer.ipynb"
    nbformat.write(notebook, written)
    return written
