"""Parameters and files are data: nothing of theirs is ever executed, and nothing is ever unpickled."""

import ast
from pathlib import Path

import pytest
from notebook_functions import printed

from xaikit.running.execution import execute

SOURCES = sorted((Path(__file__).parents[1] / "xaikit").rglob("*.py"))
PICKLING = {"pickle", "cPickle", "_pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal", "jsonpickle"}
RUNNING = {"eval", "exec", "compile", "__import__"}
LOADING = {"torch.load", "np.load", "numpy.load", "pd.read_pickle", "os.system"}
LOADING |= {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}


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


DANGERS = ["import pickle", "from joblib import load", "eval(text)", "exec(compile(text, '', 'exec'))"]
DANGERS += ["torch.load(path)", "np.load(path, allow_pickle=True)", "yaml.load(text)", "subprocess.run(x, shell=True)"]


@pytest.mark.parametrize("source", DANGERS)
def test_a_danger_is_found(source):
    assert list(dangers(source))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_source_unpickles_or_executes_what_it_reads(path):
    assert list(dangers(path.read_text(encoding="utf-8"))) == []


def test_a_parameter_reaches_its_notebook_as_the_text_that_it_is(tmp_path, write_notebook):
    texts = ["__import__('os')._exit(3)", "'; raise SystemExit #", '"""\nraise SystemExit\n"""']
    texts += ["{{7*7}} $(id) `id` \\'", "%run x\n!id"]
    parameters = "texts = ['']  # some texts\nname = ''  # one"
    notebook = write_notebook(tmp_path / "00_toy.ipynb", parameters, "print(repr([*texts, name]))")
    execute(notebook, tmp_path / "done.ipynb", {"texts": texts, "name": texts[0]}, tmp_path)
    assert printed(tmp_path / "done.ipynb") == [repr([*texts, texts[0]]) + "\n"]
