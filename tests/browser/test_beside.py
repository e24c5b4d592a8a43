"""A figure beside a claim, in a notebook in JupyterLab: every kind of control, by mouse and by keyboard."""

import base64
import io

import nbformat
import numpy as np
import pytest
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
NAME = "beside.ipynb"


@pytest.fixture(scope="module")
def page(browser, servers, notebook):
    """A notebook with the widget in JupyterLab, executed."""
    lab, _, _ = servers
    lab.ready()
    cell = nbformat.v4.new_code_cell(WIDGET)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=LANGUAGE), notebook.parent / NAME)
    shown = ExplorerPage(browser.new_page(), lab.url)
    shown.root = shown.page.locator(".xaikit-beside")
    shown.page.goto(f"{lab.url}/lab/workspaces/auto-b/tree/{NAME}?reset&token={lab.token}")
    shown.page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    shown.page.evaluate(READY)
    shown.page.wait_for_function(IDLE)
    assert shown.page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
    shown.root.locator("img").wait_for()
    yield shown
    shown.page.close()


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
    assert page.page.locator(".jp-Notebook .jp-Cell").count() == count and page.root.count() == 1
