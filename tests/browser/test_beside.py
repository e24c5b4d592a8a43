"""A figure beside a claim, in a notebook in JupyterLab: every kind of control, by mouse and by keyboard, and the widgets of the
notebooks, on small results."""

import base64

import nbformat
import pandas as pd
import pytest
from explorer.conftest import pixels
from notebook_functions import widget_of

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
import xaikit as xk

clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)

def last_of(code):
    """The value of the last line of code, which has names of its own."""
    names, (*lines, last) = dict(globals()), ast.parse(code).body
    exec(compile(ast.Module(lines, []), "notebook", "exec"), names)
    return eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
'''  # fmt: skip
OF_01 = """
sample = 0
with torch.no_grad(), xk.record(clip, side="image", blocks=None) as tape:
    clip.encode_image(clip.pixels(scenes.image))
heads = torch.stack([layer.attention[:, :, 0, 1:] for layer in tape.layers], 1).unflatten(-1, (8, 8)).numpy()
"""
OF_03 = """
explained = xk.explain({"grad_eclip, all blocks": ("grad_eclip", {"blocks": None})}, clip, scenes.image, scenes.caption)
"""
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
on_own = measured_words(pressed, pairs).own_share[0]
word_shares = np.linspace(0, 1, len(spoken))
"""
OF_06 = """
metrics, chosen = ["average_precision", "energy"], ["chefer", "edge"]
heat = xk.explain(chosen, clip, scenes.image, scenes.caption)
ranked = measured = xk.evaluate(heat, clip, scenes, metrics=metrics)
"""
OF_08 = """
drops = {"image drop": [0.3, 0.1, 0.2], "text drop": [0.1, 0.3, 0.4]}
summary = pd.DataFrame(drops, ["mmel", "chefer", "random"])
summary_text = summary.map("{:.2f}".format)
"""
OF_09 = """
UNSTEADY, BLANK = ["srm-frequency-rate", "srm-oscillation-cold", "srm-undamped"], ["measured", "detectable", "note"]
ledger = claims.ledger()
filled = claims.fill(ledger, claims.measure(ledger, {}, values={"srm-passes": np.full(12, 9.0)}, seed=0))
"""
OWN = {  # of each notebook what its widget needs, in small, and the widget
    "01": widget_of("hooking_clip", OF_01, "attention-beside", "leading", "attention"),
    "02": widget_of("grad_eclip", "blocks = 1", "02-08", "map-of"),
    "03": widget_of("mmel", OF_03, "enhanced-beside", "enhanced"),
    "04": widget_of("srm_spectral", OF_04, "moment", "complex_pairs", "moment"),
    "05": widget_of("mllm_msea_arc", OF_05, "mllm-17", "map_of"),
    "06": widget_of("evaluation", OF_06, "pressed", "best_and_worst"),
    "08": widget_of("protocols", OF_08, "summary-beside", "rows"),
    "09": widget_of("ledger", OF_09, "09-sorted", "of_paper"),
}
NAME, TYPED = "beside.ipynb", "a red ring"


@pytest.fixture(scope="module")
def page(browser, servers, notebook, expected):
    """A notebook with the widgets in JupyterLab, executed after what is expected, whose errors say more."""
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


def type_into(field, text):
    """Write a text and leave its field."""
    field.fill(text)
    field.press("Tab")


def painted(root, name, **how):
    """The bytes of the picture of this name, once it is there."""
    image = root.get_by_role("img", name=name, **how)
    image.wait_for()
    image.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
    return base64.b64decode(image.evaluate(BYTES))


def same(root, widget):
    """Wait until a page's widget says what it should show, and look whether it does."""
    from playwright.sync_api import expect

    if isinstance(widget.result, pd.DataFrame):
        rows = expect(root.locator("tbody th"))
        return rows.to_have_text(list(map(str, widget.result.index)), timeout=30_000)
    assert painted(root, widget.shown.alt, exact=True) == widget.picture.png


def level(page, expected):
    """Wait until the picture says this level, and look whether it shows it."""
    shown = pixels(painted(page.root, f"Level {expected} "))
    assert abs(int(shown[-1, -1, 0]) - expected) <= 1


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
    type_into(field, "none")
    alert = page.root.get_by_role("alert")
    alert.wait_for()
    assert "there is no name 'none'" in alert.inner_text()
    level(page, 178)
    assert field.input_value() == "none"  # to be mended
    type_into(field, "bb")
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


def choose(root, option, place):
    """Choose the value of an option at a place, the first or the last, or type a text, as a reader does."""
    if option.kind == "slider":
        root.get_by_role("slider", name=option.name).press("End" if place else "Home")
    elif option.kind == "list":
        root.get_by_role("combobox", name=option.name).select_option(label=option.labels[place])
    elif option.kind == "words":
        root.get_by_role("group", name=option.name).get_by_role("button").nth(place).click()
    elif option.kind == "table":
        root.get_by_role("button", name=option.labels[place]).click()
    else:
        type_into(root.get_by_role("textbox", name=option.name), TYPED)


def test_the_notebooks_widgets_show_what_is_pressed(page, expected):
    assert expected["04"].shown.values["word"] == 2  # the word that moves farthest
    for number, widget in enumerate(expected.values(), 1):
        root, shown = page.widgets.nth(number), widget.shown
        same(root, widget)
        for option in shown.options.values():
            place = len(option.values) - 1
            if option.values and shown.values[option.name] == option.values[place]:
                place = 0
            choose(root, option, place)
            same(root, widget.set(**{option.name: option.values[place] if option.values else TYPED}))
    assert page.troubles == [] and page.bad_outputs() == []


def test_a_summary_is_sorted_and_cut_as_is_chosen(expected):
    widget = expected["08"].set(sort="image drop", first="lowest", kept="all")
    for choice, rows in (
        ({}, ["chefer", "random", "mmel"]),
        ({"sort": "text drop"}, ["mmel", "chefer", "random"]),
        ({"first": "highest"}, ["random", "chefer", "mmel"]),
        ({"kept": "below noise"}, ["chefer", "mmel"]),
    ):
        assert widget.set(**choice).result.index.tolist() == rows
