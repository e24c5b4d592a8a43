"""House rules for the committed notebooks, checked without running them."""

import ast
import io
import re
import tokenize

import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from notebook_functions import NOTEBOOKS
from PIL import Image

from xaikit.explorer.state import TABS
from xaikit.running.committed import cleaned
from xaikit.running.notebooks import read_notebook, read_parameters

COMMON = {"run", "n", "seed", "device", "batch_size"}
OF_CLIP = {"model", "pretrained", "data"}  # but for a notebook that is about another kind of model, by another name
MOST_CELLS = 35
LONGEST_CELL = 25
LONGEST_FUNCTION = 15
HIDING = {"exec", "eval", "compile", "__import__", "get_ipython"}  # code in strings, magics
LARGEST_FILE = 1_000_000
BATCHED = {
    "explain",
    "explain_all",
    "evaluate",
    "explain_tokens",
    "explain_all_tokens",
    "measure_tokens",
    "road",
    "cost",
}
BATCHED |= {"sanity_cascade", "seed_stability", "completeness", "object_effects", "perturbation_agreement"}
FRAME = ("You learn", "You need", "Time")  # of the first cell: what a reader gets, brings and spends
COMPARED = {"text/plain", "application/json", "text/latex", "text/markdown"}

PATH = re.compile(r"(?<![\w.:/)])/(?:tmp|home|root|work|usr|var|opt|Users)/[^\s'\"]+")
LINK = re.compile(r"\]\(([^)]+\.ipynb[^)]*)\)")


def violations(path):
    """The rules that a notebook breaks, one sentence each."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if notebook.cells[0].cell_type != "markdown" or not notebook.cells[0].source.startswith("# "):
        yield "the first cell is not a title"
    yield from (
        f"the first cell does not say {word!r}" for word in FRAME if f"**{word}" not in notebook.cells[0].source
    )
    if "**References.**" not in notebook.cells[-1].source:
        yield "the last cell has no references"
    if len(notebook.cells) > MOST_CELLS:
        yield f"it has more than {MOST_CELLS} cells"
    # nbval compares nothing in a cell without execution count: a notebook never run would always pass
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "the cells were not executed once each, from top to bottom"
    if text != cleaned(text):
        yield "it is not clean: run make refresh"
    if len(text.encode()) >= LARGEST_FILE:
        yield "it is larger than 1 MB"
    if any("injected-parameters" in tags(cell) for cell in code):
        yield "it has a cell injected by papermill"
    yield from parameter_violations([cell for cell in code if "parameters" in tags(cell)])
    for number, cell in enumerate(code, start=1):
        yield from (f"cell {number} {rule}" for rule in cell_violations(cell))


def parameter_violations(tagged):
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged parameters"
        return
    try:
        parameters = read_parameters(tagged[0].source)
    except ValueError as error:
        yield str(error)
        return
    missing = sorted((COMMON | (set() if "multimodal_model" in parameters else OF_CLIP)) - set(parameters))
    if missing:
        yield f"the parameters lack {', '.join(missing)}"
    elif parameters["run"].default != "default":
        yield "the parameter run is not 'default'"
    for parameter in parameters.values():
        if not parameter.meaning:
            yield f"the parameter {parameter.name} has no meaning beside it"
        if isinstance(parameter.default, tuple | set):
            yield f"the parameter {parameter.name} is a {type(parameter.default).__name__}, which papermill can't pass"


def cell_violations(cell):
    source = TransformerManager().transform_cell(cell.source)
    nodes = [*ast.walk(ast.parse(source))]
    if any(isinstance(node, ast.AsyncFunctionDef | ast.ClassDef) for node in nodes):
        yield "defines a class or coroutine"
    if any(isinstance(node, ast.Lambda) for node in nodes):
        yield "holds a lambda"
    yield from (f"calls {node.id}" for node in nodes if isinstance(node, ast.Name) and node.id in HIDING)
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            if node.end_lineno - node.lineno >= LONGEST_FUNCTION:
                yield f"has a function {node.name} of more than {LONGEST_FUNCTION} lines"
            if len((ast.get_docstring(node) or "").splitlines()) != 1:
                yield f"has a function {node.name} without a docstring of one line"
    for node in nodes:  # or the parameter would not bound the memory
        called = getattr(node, "func", None)
        name = getattr(called, "attr", getattr(called, "id", ""))
        if name in BATCHED and not any(gives_batch_size(keyword) for keyword in node.keywords):
            yield f"calls {name} without batch_size"
    if len(cell.source.splitlines()) > LONGEST_CELL:
        yield f"is longer than {LONGEST_CELL} lines"
    if any(token.string == ";" for token in tokenize.generate_tokens(io.StringIO(source).readline)):
        yield "has a semicolon"
    if any(output.output_type == "error" for output in cell.outputs):
        yield "stores an error"
    shown = [output for output in cell.outputs if output.output_type in ("display_data", "execute_result")]
    if any(not COMPARED & set(output.data) for output in shown):
        yield "stores an output of which nothing is compared"
    printed = [output.text for output in cell.outputs if output.output_type == "stream"]
    texts = printed + [output.data[kind] for output in shown for kind in COMPARED & set(output.data)]
    # another folder would print another path; a book follows links of Markdown cells alone
    yield from (f"prints a path of this machine: {path!r}" for text in texts for path in PATH.findall(str(text)))
    yield from (f"prints a link to a notebook: {link!r}" for text in texts for link in LINK.findall(str(text)))


def gives_batch_size(keyword):
    """Whether an argument is the parameter, or options of the cell that may hold it."""
    return keyword.arg is None or (keyword.arg == "batch_size" and getattr(keyword.value, "id", "") == "batch_size")


def tags(cell):
    return cell.metadata.get("tags", [])


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_committed_notebook(path):
    assert list(violations(path)) == []


@pytest.mark.parametrize("tab", TABS)
def test_every_view_of_the_explorer_has_its_screenshot(tab):
    """Taken in a browser by ``make screenshots``."""
    picture = np.asarray(Image.open(NOTEBOOKS / "screenshots" / f"{tab}.jpg").convert("L"))
    assert picture.shape[1] > 800 and picture.std() > 20  # not an empty page


PARAMETERS = """model = "tiny-clip"  # bundled
pretrained = None  # tag of the weights
data = "scenes"  # where the images come from
run = "default"  # the run's folder
n = 4  # scenes
seed = 0  # of the scenes
device = "cpu"  # or cuda
batch_size = 4  # at once"""


TITLE = "# A toy\n\n**You learn** to add. **You need** nothing. **Time**: a minute."


class Toy:
    """A notebook that keeps all rules until a test edits its cells."""

    def __init__(self, path):
        self.path = path
        self.notebook = nbformat.read(path, as_version=4)
        self.cells = self.notebook.cells
        for count, cell in enumerate(self.cells[1:], start=1):
            cell.execution_count = count
        self.cells[2].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "5"}, execution_count=2)]
        self.cells[3].outputs = [nbformat.v4.new_output("stream", name="stdout", text="4\n")]

    def broken(self, clean=True):
        text = nbformat.writes(self.notebook)
        self.path.write_text(cleaned(text) if clean else text)
        return list(violations(self.path))


@pytest.fixture
def notebook(tmp_path, write_notebook):
    toy = Toy(write_notebook(tmp_path / "00_toy.ipynb", PARAMETERS, "n + 1", "print(n)"))
    toy.cells[0].source = TITLE
    toy.cells.append(nbformat.v4.new_markdown_cell("**References.** Peano 1889.", id="toy-last"))
    return toy


DOUBLE = '''def double(x):
    """Twice as many."""
    return 2 * x'''


@pytest.mark.parametrize("source", ["n + 1", "'a;b'", DOUBLE, DOUBLE.replace("return", "x = x\n    " * 12 + "return")])
def test_a_good_notebook_breaks_no_rule(notebook, source):
    notebook.cells[2].source = source
    assert notebook.broken() == []


BAD_CELLS = {
    "def double(x):\n    return 2 * x": "has a function double without a docstring of one line",
    DOUBLE.replace("many.", "many.\n\n    By two."): "has a function double without a docstring of one line",
    DOUBLE.replace("return", "x = x\n    " * 13 + "return"): "has a function double of more than 15 lines",
    "if n:\n    class Late:\n        pass": "defines a class or coroutine",
    "async " + DOUBLE: "defines a class or coroutine",
    "sorted([n], key=lambda x: -x)": "holds a lambda",
    "n + 1;": "has a semicolon",
    "m = n; m + 1": "has a semicolon",
    "exec('m = 1')": "calls exec",
    "xk.explain('mmel', clip, images, texts)": "calls explain without batch_size",
    "road(clip, heat, *inputs, batch_size=256)": "calls road without batch_size",
    "%matplotlib inline": "calls get_ipython",
    "\n".join(["n + 1"] * 26): "is longer than 25 lines",
}
NO_PARAMETER = "the parameters cell, line 9: only 'name = literal  # meaning' may stand there"
BAD_PARAMETERS = {
    PARAMETERS.replace("seed = 0  # of the scenes\n", ""): "the parameters lack seed",
    PARAMETERS.replace('"default"', '"mine"'): "the parameter run is not 'default'",
    PARAMETERS.replace("  # scenes", ""): "the parameter n has no meaning beside it",
    PARAMETERS + "\nsizes = (1, 2)  # small": "the parameter sizes is a tuple, which papermill can't pass",
    PARAMETERS + "\nimport os": NO_PARAMETER,
    PARAMETERS + "\nm = 2 * n  # more": NO_PARAMETER,
}


BAD = [(0, TITLE.replace(f"**{word}**", ""), f"the first cell does not say {word!r}") for word in FRAME]
BAD += [(1, source, problem) for source, problem in BAD_PARAMETERS.items()]
BAD += [(2, source, f"cell 2 {problem}") for source, problem in BAD_CELLS.items()]


@pytest.mark.parametrize(("place", "source", "problem"), BAD)
def test_a_bad_cell_is_found(notebook, place, source, problem):
    notebook.cells[place].source = source
    assert notebook.broken() == [problem]


def test_missing_references_and_many_cells_are_found(notebook):
    more = [nbformat.v4.new_markdown_cell("more", id=f"more-{place:02}") for place in range(30)]
    notebook.cells[1:1] = more
    assert notebook.broken() == []  # 35 cells
    notebook.cells.append(nbformat.v4.new_markdown_cell("The end", id="end"))
    assert notebook.broken() == ["the last cell has no references", "it has more than 35 cells"]


def test_a_cell_never_run_is_found(notebook):
    notebook.cells[3].execution_count = None
    assert notebook.broken() == ["the cells were not executed once each, from top to bottom"]


def test_traces_of_papermill_are_found(notebook):
    notebook.cells[2].metadata["tags"] = ["injected-parameters"]
    assert notebook.broken() == ["it has a cell injected by papermill"]
    notebook.cells[2].metadata["tags"] = ["parameters"]
    assert notebook.broken() == ["2 cells are tagged parameters"]


def test_noise_is_found_and_cleaned_away(notebook):
    assert notebook.broken(clean=True) == []
    notebook.cells[3].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="50 %"))
    notebook.cells[3].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    assert notebook.broken(clean=False) == ["it is not clean: run make refresh"]


def test_a_stored_error_and_an_uncheckable_picture_are_found(notebook):
    notebook.cells[3].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])]
    notebook.cells[2].outputs = [nbformat.v4.new_output("display_data", {"image/png": "AAAA"})]
    assert notebook.broken() == ["cell 2 stores an output of which nothing is compared", "cell 3 stores an error"]


def test_a_path_of_this_machine_and_a_link_that_a_book_cannot_follow_are_found(notebook, tmp_path):
    notebook.cells[3].outputs[0].text = f"Stored: {tmp_path / 'claims.nc'}"
    notebook.cells[2].outputs = [
        nbformat.v4.new_output("execute_result", {"text/markdown": "See [there](09_ledger.ipynb)."}, execution_count=1)
    ]
    assert notebook.broken() == [
        "cell 2 prints a link to a notebook: '09_ledger.ipynb'",
        f"cell 3 prints a path of this machine: {str(tmp_path / 'claims.nc')!r}",
    ]


def test_a_large_notebook_is_found(notebook):
    notebook.cells[3].outputs[0].text = "4" * LARGEST_FILE
    assert notebook.broken() == ["it is larger than 1 MB"]


PLACES = {"draw_scenes": 1, "draw_suite": 2, "draw_pairs": 2}  # of the seed among the arguments


def seeds_drawn(path, seed):
    """The seeds that the functions which draw scenes get in a notebook, at this value of its parameter."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    nodes = [node for source in cells for node in ast.walk(ast.parse(TransformerManager().transform_cell(source)))]
    known, found = {"seed": seed}, []
    for node in nodes:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id.endswith("seed")
        ):
            if node.targets[0].id != "seed":
                known[node.targets[0].id] = eval(ast.unparse(node.value), dict(known))
        name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
        for each in ast.walk(node) if name == "open_inputs" else ():  # gets it in a dict
            pairs = zip(each.keys, each.values, strict=True) if isinstance(each, ast.Dict) else ()
            found += [value for key, value in pairs if getattr(key, "value", "") == "seed"]
        if name in PLACES:
            found += [each.value for each in node.keywords if each.arg == "seed"] + node.args[PLACES[name] :][:1]
    texts = {ast.unparse(each) for each in found}
    return {eval(text, known | {"draw": draw}) for text in texts if "seed" in text for draw in range(3)}


def test_no_scene_is_evidence_in_two_notebooks():
    """Notebooks that measure for the ledger draw scenes by seeds of their own, and none reads those of notebook 00."""
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    of = {path.stem: set().union(*(seeds_drawn(path, seed) for seed in range(10))) for path in paths}
    assert seeds_drawn(NOTEBOOKS / "04b_srm_evidence.ipynb", 3) == {453, 473}
    for name in ("04_srm_spectral", "04b_srm_evidence", "06_evaluation", "06b_hard_cases"):
        others = set().union(*(each for other, each in of.items() if other != name))
        assert of[name] and not of[name] & others, name
    measuring = [name for name in of if name[:2] in ("04", "06")]
    assert all("inputs" not in read_notebook(NOTEBOOKS / f"{name}.ipynb").reads for name in measuring)
