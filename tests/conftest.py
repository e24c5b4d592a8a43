"""The bundled model, loaded once for all tests, and toy notebooks for the tests of the workbook itself."""

import shutil

import nbformat
import pytest
from nbformat import v4

import xaikit as xk
from xaikit.running import workbook

FIRST = "run = 'default'  # the run\nn = 2  # scenes\nseed = 5  # of the scenes\nscale = 1.0  # of the heat"
SECOND = "run = 'default'  # the run\nn = 2  # scenes\nblocks = 1  # how many, None for all\nmethods = ['a']  # which"
STORE = "from xaikit.files.paths import run_folder\n(run_folder(run) / 'store').write_text(str(n))"
READ = "from xaikit.files.paths import run_folder\nprint('read', (run_folder(run) / 'store').read_text(), methods)"


@pytest.fixture(scope="session")
def clip():
    """The bundled model, which no test may leave changed."""
    return xk.load_clip("tiny-clip")


@pytest.fixture
def write_notebook():
    """A function that writes a notebook of code cells, the first of them tagged ``parameters``, and returns it."""

    def write(path, parameters, *cells):
        code = [v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(v4.new_code_cell, cells)]
        notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# A toy"), *code])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        for index, cell in enumerate(notebook.cells):
            cell.id = f"toy-{index:02}"
        nbformat.write(notebook, path)
        return path

    return write


@pytest.fixture
def notebooks(tmp_path, write_notebook):
    """A folder of two notebooks, the second of which reads what the first stores."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(folder / "00_store.ipynb", FIRST, STORE)
    write_notebook(folder / "01_read.ipynb", SECOND, READ)
    write_notebook(folder / "scratch.ipynb", "n = 1  # not numbered, never run")
    return folder


@pytest.fixture
def executed(monkeypatch, notebooks):
    """Instead of starting kernels, list (notebook, parameters); notebooks named in ``executed.bad`` fail."""

    class Executed(list):
        bad = ()

    calls = Executed()

    def execute(notebook, target, parameters, runs, limit=None):
        calls.append((notebook.stem, parameters))
        if notebook.stem in calls.bad:
            raise RuntimeError("no kernel")
        shutil.copyfile(notebook, target)

    monkeypatch.setattr(workbook, "execute", execute)
    monkeypatch.setattr(workbook, "notebooks_folder", lambda: notebooks)
    return calls
