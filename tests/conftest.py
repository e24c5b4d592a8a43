"""Toy notebooks for the tests of the workbook itself, and their execution without kernels; and multimodal models."""

import ast
import contextlib
import io
import os
import shutil
import threading
from functools import partial

import nbformat
import pytest
from nbformat import v4

import xaikit as xk
from xaikit.running import notebooks as declared, workbook

FIRST = "run = 'default'  # the run\nn = 2  # scenes\nseed = 5  # of the scenes\nscale = 1.0  # of the heat"
SECOND = "run = 'default'  # the run\nn = 2  # scenes\nblocks = 1  # how many, None for all\nmethods = ['a']  # which"
STORE = "from xaikit.files.paths import run_folder\n(run_folder(run) / 'store').write_text(str(n))"
READ = "from xaikit.files.paths import run_folder\nprint('read', (run_folder(run) / 'store').read_text(), methods)"


@pytest.fixture(scope="session")
def described():
    """Described scenes of one to four shapes, by their number."""
    return {count: xk.draw_descriptions(60, seed=count, objects=(count, count)) for count in (1, 2, 3, 4)}


@pytest.fixture
def write_notebook():
    """A function that writes a notebook of code cells, the first of them tagged ``parameters``, and returns its path."""

    def write(path, parameters, *cells, stores=(), reads=()):
        path.parent.mkdir(exist_ok=True)
        code = [v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(v4.new_code_cell, cells)]
        notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# A toy"), *code])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook.metadata["xaikit"] = {"stores": [*stores], "reads": [*reads]}
        for index, cell in enumerate(notebook.cells):
            cell.id = f"toy-{index:02}"
        nbformat.write(notebook, path)
        return path

    return write


@pytest.fixture
def notebooks_here(tmp_path, monkeypatch):
    """A folder that stands for that of the checkout's notebooks."""
    folder = tmp_path / "notebooks"
    monkeypatch.setattr(declared, "notebooks_folder", lambda: folder)
    return folder


@pytest.fixture
def notebooks(notebooks_here, write_notebook):
    """A folder of two notebooks, the second of which reads what the first stores."""
    folder = notebooks_here
    write_notebook(folder / "00_store.ipynb", FIRST, STORE, stores=["store"])
    write_notebook(folder / "01_read.ipynb", SECOND, READ, reads=["store"])
    write_notebook(folder / "scratch.ipynb", "n = 1  # not numbered, never run")
    return folder


@pytest.fixture
def executed(monkeypatch, notebooks):
    """Instead of starting kernels, list (notebook, parameters); notebooks named in ``executed.bad`` fail."""

    class Executed(list):
        bad = ()

    calls = Executed()

    def execute(notebook, target, parameters, runs, limit=None, threads=None):
        calls.append((notebook.stem, parameters))
        if notebook.stem in calls.bad:
            raise RuntimeError("no kernel")
        shutil.copyfile(notebook, target)

    monkeypatch.setattr(workbook, "execute", execute)
    return calls


class CellFailed(Exception):
    """An exception in a cell, as papermill reports it."""

    def __init__(self, error, exec_count):
        super().__init__(str(error))
        self.ename, self.evalue, self.exec_count = type(error).__name__, str(error), exec_count


@pytest.fixture
def without_kernels(monkeypatch):
    """Notebooks are executed in this process, and a sweep's workers are threads of it: as with kernels, but quick."""
    from distributed import Client, LocalCluster

    from xaikit.running import sweeping

    elsewhere, one_at_a_time = sweeping._connected, threading.Lock()

    @contextlib.contextmanager
    def connected(scheduler, workers):
        own = {"threads_per_worker": 1, "processes": False, "dashboard_address": None, "memory_limit": None}
        if scheduler:
            with elsewhere(scheduler, workers) as client:
                yield client
        else:
            with LocalCluster(n_workers=workers, **own) as cluster, Client(cluster) as client:
                yield client

    def execute(notebook, target, parameters, runs, limit=None, threads=None):
        with one_at_a_time, pytest.MonkeyPatch.context() as patched:
            patched.setitem(os.environ, "XAIKIT_RUNS", str(runs))
            _execute_here(notebook, target, parameters)

    monkeypatch.setattr(sweeping, "_connected", connected)
    monkeypatch.setattr(workbook, "execute", execute)


def _execute_here(notebook, target, parameters):
    found, part, names = nbformat.read(notebook, as_version=4), target.with_suffix(".part.ipynb"), {}
    given = v4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in parameters.items()))
    found.cells[2:2] = [given]  # after the title and the cell of parameters
    try:
        for count, cell in enumerate(found.cells[1:], start=1):
            said = io.StringIO()
            names["print"] = partial(print, file=said)  # what other threads print meanwhile isn't the cell's
            try:
                exec(compile(ast.parse(cell.source), "cell", "exec"), names)
            except Exception as error:
                cell.outputs = [v4.new_output("error", ename=type(error).__name__, evalue=str(error), traceback=[])]
                raise CellFailed(error, count) from error
            if said.getvalue():
                cell.outputs = [v4.new_output("stream", name="stdout", text=said.getvalue())]
    finally:
        nbformat.write(found, part)
    os.replace(part, target)


@pytest.fixture(scope="session")
def bundled():
    """The bundled multimodal model, loaded once."""
    from small_mllms import tiny_llava  # with transformers, which most tests do without

    return tiny_llava()


@pytest.fixture(scope="session")
def llava():
    """A random model of LLaVA's class, made and loaded once: what changes it takes a copy."""
    from small_mllms import small_mllm

    return small_mllm("llava")
