"""The explorer as a web page of its own: its notebook's cell, without the tour that follows, served by Voila."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files.checks import EXTRAS, needs
from ..files.paths import notebooks_folder
from .notebooks import TAG, parameters_for, read_notebook

APPLICATION = "application"  # the tag of the cell that shows the explorer
# A page that was closed leaves its kernel behind, with a model in it: it is ended once nothing is connected to it.
OPTIONS = (
    "--strip_sources=True",
    "--MappingKernelManager.cull_idle_timeout=60",
    "--MappingKernelManager.cull_interval=20",
)


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
        with subprocess.Popen([sys.executable, "-m", "voila", *OPTIONS, *options, str(notebook)]) as server:
            # Terminated, Voila ends its kernels and then itself.
            before = signal.signal(signal.SIGTERM, lambda *about: server.terminate())
            try:
                return server.wait()
            except KeyboardInterrupt:
                return 0
            finally:
                signal.signal(signal.SIGTERM, before)


def write_application(folder: Path, run: str = "default", parameters: Mapping[str, object] | None = None) -> Path:
    """Write the cells that show the explorer, and those that they need, into a folder and return the notebook."""
    paths = sorted(notebooks_folder().glob("*.ipynb"))
    path = next(path for path in paths if f'"{APPLICATION}"' in path.read_text(encoding="utf-8"))
    given = parameters_for(parameters or {}, {path.stem: read_notebook(path)})[path.stem] | {"run": run}

    import nbformat  # takes a second: bad parameters are refused before
    from nbformat import v4

    notebook = nbformat.read(path, as_version=4)
    kept = []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs, cell.execution_count = [], None
        kept.append(cell)
        if TAG in cell.metadata.get("tags", []):
            kept.append(v4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in given.items())))
        if APPLICATION in cell.metadata.get("tags", []):
            break
    notebook.cells = kept
    written = folder / "explorer.ipynb"
    nbformat.write(notebook, written)
    return written
