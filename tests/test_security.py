"""Parameters and files are data: nothing of theirs is ever executed, and nothing is ever unpickled."""

import ast
from pathlib import Path

import nbformat
import pytest

from xaikit.running.execution import execute

SOURCES = sorted((Path(__file__).parents[1] / "xaikit").rglob("*.py"))
PICKLING = {"pickle", "cPickle", "_pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal", "jsonpickle"}
RUNNING = {"eval", "exec", "compile", "__import__"}
LOADING = {
    "torch.load",
    "np.load",
    "numpy.load",
    "pd.read_pickle",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
}


def dangers(source):
    """Imports and calls in this source that could execute what a file or a parameter holds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", None) or ""] + [alias.name for alias in node.names]
            yield from (module for module in modules if module.split(".")[0] in PICKLING)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            shell = any(word.arg == "shell" and getattr(word.value, "value", True) for word in node.keywords)
            if called in RUNNING | LOADING or shell:
                yield called
            if any(word.arg in ("allow_pickle", "weights_only") for word in node.keywords):
                yield f"{called} with a pickle"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "torch.load(path)",
        "yaml.load(text)",
        "subprocess.run(x, shell=True)",
    ]
    + ["np.load(path, allow_pickle=True)", "exec(compile(text, '', 'exec'))"],
)
def test_a_danger_is_found(source):
    assert list(dangers(source))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_source_unpickles_or_executes_what_it_reads(path):
    assert list(dangers(path.read_text(encoding="utf-8"))) == []


def test_a_parameter_reaches_its_notebook_as_the_text_that_it_is(tmp_path, write_notebook):
    texts = [
        "__import__('os')._exit(3)",
        "'; raise SystemExit #",
        '"""\nraise SystemExit\n"""',
        "{{7*7}} $(id) `id` \\'",
        "%run x\n!id",
    ]
    notebook = write_notebook(
        tmp_path / "00_toy.ipynb", "texts = ['']  # some texts\nname = ''  # one", "print(repr([*texts, name]))"
    )
    execute(notebook, tmp_path / "done.ipynb", {"texts": texts, "name": texts[0]}, tmp_path)
    printed = [o.text for cell in nbformat.read(tmp_path / "done.ipynb", 4).cells for o in cell.get("outputs", [])]
    assert printed == [repr([*texts, texts[0]]) + "\n"]
