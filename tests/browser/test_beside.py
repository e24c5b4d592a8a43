"""A figure beside a claim, in a notebook in JupyterLab: every kind of control, by mouse and by keyboard, and the widgets of the
notebooks, on small results."""

import base64
import io

import nbformat
import numpy as np
import pytest
from notebook_functions import widget_of
from PIL import Image

from xaikit.running.committed import LANGUAGE

from .explorer_page import BYTES, CUT_OFF, ExplorerPage
from .test_lab import IDLE, READY

WIDGET = '''
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from xaikit import explorer

def draw(time=0, grey="dark", name="a", word=0, cell=("one", "x")):
    """A ground whose level is the sum of what was chosen; the name "none" is refused."""
    if name == "none" or (time, grey) == (1, "light"):
        raise ValueError("there is no name 'none', and no light at 1")
    level = 20 * time + {"dark": 0, "light": 100}[grey] + 10 * word + 5 * (cell == ("two", "x")) + 3 * len(name)
    figure = Figure(figsize=(3, 2), facecolor=(level / 255,) * 3)
    figure.suptitle(f"Level {level}", color="w")
    return figure

words, table = pd.Series([0.1, 0.9], ["a", "ring"]), pd.DataFrame({"x": [1.0, 2.0]}, ["one", "two"])
explorer.beside(draw, time=range(4), grey=["dark", "light"], name="a", word=words, cell=table)
'''  # fmt: skip
SMALL = '''
import ast
from dataclasses import replace
from functools import partial
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
import xaikit as xk
from xaikit import plots, resonance as srm
from xaikit.evaluation import claims
from xaikit.measures import intervals
from xaikit.mllm import PRESETS
from xaikit.resonance import COMPLEX

clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(4, seed=0)

def last_of(code):
    """The value of the last line of code, which has names of its own."""
    names, (*lines, last) = dict(globals()), ast.parse(code).body
    exec(compile(ast.Module(lines, []), "notebook", "exec"), names)
    return eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
'''  # fmt: skip
OF_04 = """
iterations, show, farthest = 6, 0, [1, 2]
plain, settings = {"iterations": iterations}, {"none": {}, "attention": {}}
maps = srm.resonate(clip, scenes.image, scenes.caption, **plain).trajectory
way = np.abs(maps[show, -1] - maps[show, 0]).sum(("row", "col")).values
reached = xr.DataArray([[0.5, 0.2], [0.1 + 0.3j, 0.1 - 0.3j]], {"coupling": [*settings]}, ("coupling", "eigenvalue"))
"""
OF_05 = """
pairs, shown, best, scale_sets = xk.draw_descriptions(1, seed=0), 0, 0, {"all": (1.0, 0.5), "1": (1.0,)}
family = {f"{arc}, {name}": replace(PRESETS[arc], scales=some) for name, some in scale_sets.items() for arc in ("arc", "tam")}
pressed = xk.explain_all_tokens(xk.load_mllm("tiny-llava"), pairs.image, "describe the picture", methods=family)
spoken = [text.strip() for text in pressed.answer_text.values[0] if text]
word_shares = np.linspace(0, 1, len(spoken))
"""
OF_06 = """
metrics, chosen = ["average_precision", "energy"], ["chefer", "edge"]
heat = xk.explain(chosen, clip, scenes.image, scenes.caption)
measured = xk.evaluate(heat, clip, scenes, metrics=metrics)
"""
OF_09 = """
UNSTEADY, BLANK, ledger = "srm-frequency-rate", ["measured", "detectable", "note"], claims.ledger()
filled = claims.fill(ledger, claims.measure(ledger, {}, values={"srm-passes": np.full(12, 9.0)}, seed=0))
"""
OWN = {  # of each notebook what its widget needs, in small, and the widget
    "04": OF_04 + widget_of("srm_spectral", "moment", "complex_pairs", "moment"),
    "05": OF_05 + widget_of("mllm_msea_arc", "mllm-17", "map_of"),
    "06": OF_06 + widget_of("evaluation", "pressed", "best_and_worst"),
    "09": OF_09 + widget_of("ledger", "09-sorted", "of_paper"),
}
NAME = "beside.ipynb"


@pytest.fixture(scope="module")
def page(browser, servers, notebook):
    """A notebook with the widget in JupyterLab, executed."""
    lab, _, _ = servers
    lab.ready()
    cells = [nbformat.v4.new_code_cell(code) for code in (WIDGET, SMALL, *map("last_of({!r})".format, OWN.values()))]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=LANGUAGE), notebook.parent / NAME)
    shown = ExplorerPage(browser.new_page(), lab.url)
    shown.widgets = shown.page.locator(".xaikit-beside")
    shown.root = shown.widgets.first
    shown.page.goto(f"{lab.url}/lab/workspaces/auto-b/tree/{NAME}?reset&token={lab.token}")
    shown.page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    shown.page.evaluate(READY)
    shown.page.wait_for_function(IDLE)
    assert shown.page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
    shown.widgets.nth(len(OWN)).locator("img, table").first.wait_for(timeout=120_000)
    yield shown
    shown.page.close()


@pytest.fixture(scope="module")
def expected():
    """What each notebook's own widget is in this process."""
    names = {}
    exec(SMALL, names)
    return {name: names["last_of"](code) for name, code in OWN.items()}


def same(root, widget):
    """Wait until a page's widget says what it should show, and look whether it does."""
    image = root.get_by_role("img", name=widget.shown.alt, exact=True)
    image.wait_for()
    image.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
    assert base64.b64decode(image.evaluate(BYTES)) == widget.picture.png


def level(page, expected):
    """Wait until the picture says this level, and look whether it shows it."""
    image = page.root.get_by_role("img", name=f"Level {expected} ")
    image.wait_for()
    page.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
    shown = Image.open(io.BytesIO(base64.b64decode(image.evaluate(BYTES)))).convert("L")
    assert abs(np.asarray(shown)[-1, -1] - expected) <= 1


def test_every_control_changes_the_picture_to_what_was_chosen(page, output):
    level(page, 3)
    slider = page.root.get_by_role("slider", name="time")
    slider.press("ArrowRight")
    level(page, 23)
    slider.press("End")
    level(page, 63)
    assert slider.get_attribute("aria-valuetext") == "3"
    page.root.get_by_role("combobox", name="grey").select_option("light")
    level(page, 163)
    page.root.get_by_role("button", name="ring").press("Enter")
    level(page, 173)
    page.root.get_by_role("button", name="two, x: 2").click()
    level(page, 178)
    field = page.root.get_by_role("textbox", name="name")
    field.fill("none")
    field.press("Tab")
    alert = page.root.get_by_role("alert")
    alert.wait_for()
    assert "there is no name 'none'" in alert.inner_text()
    level(page, 178)
    assert field.input_value() == "none"  # to be mended
    field.fill("bb")
    field.press("Tab")
    level(page, 181)
    slider.fill("1")  # refused: it goes back to what is shown
    alert.wait_for()
    page.page.wait_for_function("slider => slider.value === '3'", arg=slider.element_handle())
    page.root.screenshot(path=output / "beside.png")
    box = slider.bounding_box()
    page.page.mouse.click(box["x"] + 3, box["y"] + box["height"] / 2)
    level(page, 121)
    assert page.root.evaluate(CUT_OFF) == [] and page.troubles == [] and page.bad_outputs() == []


def test_letters_typed_into_a_control_are_no_commands_of_the_notebook(page):
    """In JupyterLab "a" makes a cell and "d d" deletes one, where the keyboard is on no text."""
    count = page.page.locator(".jp-Notebook .jp-Cell").count()
    for role, name in (("combobox", "grey"), ("slider", "time")):
        for key in ("a", "d", "d", "ArrowDown"):
            page.root.get_by_role(role, name=name).press(key)
    assert page.page.locator(".jp-Notebook .jp-Cell").count() == count == 2 + len(OWN)


def test_the_notebooks_widgets_show_what_is_pressed(page, expected):
    roots = {name: page.widgets.nth(1 + place) for place, name in enumerate(OWN)}
    control = {name: (lambda role, label, own=root: own.get_by_role(role, name=label)) for name, root in roots.items()}
    words = {name: root.get_by_role("group", name="word").get_by_role("button") for name, root in roots.items()}
    assert expected["04"].shown.values["word"] == 2  # the word that moves farthest
    for name, choose, chosen in (
        ("04", lambda: None, {}),
        ("04", lambda: control["04"]("slider", "time").press("End"), {"time": 6}),
        ("04", lambda: control["04"]("combobox", "temperature").select_option("none"), {"temperature": "none"}),
        ("04", lambda: words["04"].nth(1).click(), {"word": 1}),
        ("05", lambda: None, {}),
        ("05", lambda: words["05"].nth(3).click(), {"word": 3}),
        ("05", lambda: control["05"]("combobox", "scales").select_option("1"), {"scales": "1"}),
        ("05", lambda: control["05"]("combobox", "correction").select_option("TAM"), {"correction": "tam"}),
        ("06", lambda: None, {}),
        ("06", lambda: control["06"]("button", "edge, energy").click(), {"cell": ("edge", "energy")}),
    ):
        choose()
        same(roots[name], expected[name].set(**chosen))
    papers, rows = expected["09"].shown.options["paper"], roots["09"].locator("tbody tr")
    control["09"]("combobox", "verdict").select_option("all")
    control["09"]("combobox", "paper").select_option(papers.labels[1])
    wanted = expected["09"].set(verdict="all", paper=papers.values[1]).result.index.tolist()
    rows.nth(len(wanted) - 1).wait_for()
    page.page.wait_for_function(
        "([root, count]) => root.querySelectorAll('tbody tr').length === count",
        arg=[roots["09"].element_handle(), len(wanted)],
    )
    assert [text.split("\t")[0] for text in rows.all_inner_texts()] == wanted
    assert page.troubles == [] and page.bad_outputs() == []
