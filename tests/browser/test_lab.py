"""The explorer in JupyterLab: everything that its user does by mouse and keyboard, and that all of it can be seen whole."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from explorer.conftest import file_of
from PIL import Image

from xaikit.explorer.jobs import Job
from xaikit.explorer.pixels import EDGE, TRUE_EDGE, coloured, relative, upsampled
from xaikit.explorer.state import TABS, State
from xaikit.explorer.views import view
from xaikit.explorer.workspace import Workspace

from .conftest import SCREENSHOTS

READY = """async () => {
  await jupyterapp.restored;
  const { context, sessionContext } = jupyterapp.shell.currentWidget;
  await context.ready;
  await sessionContext.ready;
  await sessionContext.session.kernel.info;
}"""
IDLE = "() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
APP = (  # the first explorer of the notebook, whatever it is called there
    "from ipywidgets.widgets.widget import _instances; from xaikit.explorer import Explorer, State; import dataclasses; "
    "app = [each for each in _instances.values() if isinstance(each, Explorer)][0]; "
)


@pytest.fixture(scope="module")
def lab(pages, servers, notebook):
    """The notebook in JupyterLab with all its cells run."""
    explorer, _ = pages
    page, token = explorer.page, servers[0].token
    page.goto(f"{explorer.url}/lab/workspaces/auto-t/tree/{notebook.name}?reset&token={token}")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.evaluate(READY)
    page.wait_for_function(IDLE)
    assert page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
    page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    explorer.root.locator("img").first.wait_for()
    explorer.root.scroll_into_view_if_needed()  # from the last cell, where running all of them leads
    return explorer


@pytest.fixture(scope="module")
def workspace(small_run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAIKIT_RUNS", str(small_run))
        yield Workspace()


@pytest.fixture
def explorer(lab):
    """The explorer as it opens by default; whatever a test does, nothing may go wrong unseen."""
    lab.page.set_viewport_size({"width": 1280, "height": 1000})
    lab.execute(f"{APP} app.set(**dataclasses.asdict(State())); None")
    lab.wait(tab="compare", run=None)
    lab.troubles.clear()
    yield lab
    assert lab.troubles == [] and lab.bad_outputs() == []


def drawn(workspace, state):
    return view(state.tab)(workspace, state, Job())


def test_all_cells_run_without_a_word_of_trouble(lab):
    assert lab.bad_outputs() == [] and lab.troubles == []
    assert all(request.startswith("ws://127.0.0.1") for request in lab.outside), (
        "nothing may be asked of other machines"
    )


def test_the_line_of_code_shows_the_same_pictures(explorer, workspace):
    explorer.drag("opacity", 0.3)
    explorer.page.wait_for_function("() => document.querySelector('.xaikit-explorer').textContent.includes('opacity=')")
    explorer.control("colours").select_option("viridis")
    explorer.wait(colours="viridis")
    expected = drawn(workspace, explorer.state)
    assert explorer.state.opacity == pytest.approx(0.3, abs=0.1)
    for name in ("image", "map 0", "map 1"):
        assert explorer.png(expected.panels[name].title) == expected.panels[name].png


def test_opacity_by_mouse_and_by_keyboard(explorer, workspace):
    explorer.control("outline the mask").uncheck()
    explorer.wait(mask=False)
    before = explorer.png("MMEL")
    explorer.drag("opacity", -0.1)
    explorer.wait(opacity=0.0)
    assert explorer.png("MMEL") != before
    assert (explorer.pixels("MMEL") == explorer.pixels("scene 0")).all()
    explorer.handle("opacity").press("ArrowRight")
    explorer.wait(opacity=0.05)
    assert (explorer.pixels("MMEL") != explorer.pixels("scene 0")).any()
    explorer.handle("opacity").press("End")
    explorer.wait(opacity=1.0)
    heat = workspace.heat(State(), "mmel", Job())
    shown = explorer.pixels("MMEL")
    colours = coloured(upsampled(relative(heat), shown.shape[:2]), "magma")
    outline = (shown == TRUE_EDGE).all(-1) | (shown == 0).all(-1)
    assert outline.mean() < 0.05 and (shown == colours).all(-1)[~outline].all()
    assert not (shown == EDGE).all(-1).any()


@pytest.mark.parametrize("width", [1280, 1920])
@pytest.mark.parametrize("tab", TABS)
def test_every_tab_is_shown_whole(explorer, output, tab, width):
    explorer.page.set_viewport_size({"width": width, "height": 2600})
    explorer.control("run").select_option("default")
    explorer.wait(run="default")
    explorer.open(tab)
    if tab == "runs":
        explorer.root.locator(".xaikit-table td button").first.click()
        explorer.root.locator(".xaikit-picture:visible").nth(1).wait_for()
    explorer.page.wait_for_timeout(200)  # pictures are painted
    explorer.root.screenshot(path=output / f"{tab}-{width}.png")
    assert explorer.cut_off() == []


WIDTH = 850  # pixels of a screenshot, as wide as the notebook shows it
# What the notebook of the explorer shows of each view, on the run's scenes.
SHOWN = {
    "compare": {"methods": ["grad_eclip", "chefer", "rise"], "threshold": 0.4},
    "words": {"method": "chefer", "words": [1]},
    "resonance": {"word": 1, "coupling": "encoder", "time": 3},
    "answer": {"arc": False},
    "perturb": {"method": "chefer", "share": 0.2, "masked": [0, 1]},
    "runs": {"sort": "iou_best", "explainer": "chefer", "metric": "iou_best"},
}


@pytest.mark.parametrize("tab", TABS)
def test_a_screenshot_of_every_view_for_its_notebook(explorer, output, tab):
    """Written to the notebooks by ``make screenshots``, else beside the others."""
    folder = Path(os.environ.get(SCREENSHOTS, output / "notebook"))
    folder.mkdir(exist_ok=True)
    explorer.page.set_viewport_size(
        {"width": 1160, "height": 3400}
    )  # a view is taller than a screen, and bars lie over its end
    choices = {"run": "default", "sample": 1, "tab": tab, "upsampling": "bicubic", **SHOWN[tab]}
    explorer.execute(f"{APP} app.set(**{choices!r}); None")
    explorer.wait(tab=tab, run="default", sample=1)
    explorer.page.wait_for_timeout(500)  # pictures are painted
    picture = Image.open(io.BytesIO(explorer.root.screenshot())).convert("RGB")
    picture.thumbnail((WIDTH, 10 * WIDTH), Image.LANCZOS)
    picture.save(folder / f"{tab}.jpg", quality=35, optimize=True)
    assert explorer.cut_off() == [] and explorer.error == ""
    assert explorer.root.locator("img:visible").count() >= 1
    nameless = "all => all.filter((each) => !(each.ariaLabel || each.labels?.length || each.textContent)).map((each) => each.outerHTML)"
    for role in ("slider", "combobox", "textbox", "checkbox", "button"):
        assert explorer.root.get_by_role(role).evaluate_all(nameless) == []
    assert explorer.root.locator("img:visible:not([alt]), img:visible[alt='']").count() == 0


def test_tabs_by_keyboard(explorer):
    explorer.root.get_by_role("tab", name="Compare").focus()
    for tab in (*TABS[1:], TABS[0]):
        explorer.page.keyboard.press("ArrowRight")
        explorer.page.keyboard.press("Enter")
        explorer.wait(tab=tab)
        assert explorer.error == ""
        name = explorer.page.evaluate("() => document.activeElement.textContent")
        assert name == tab.capitalize()  # the focus stays, so that the next arrow goes on from here


def test_a_pressed_word_gets_a_picture_of_its_own(explorer, workspace):
    explorer.open("words")
    words = explorer.root.get_by_role("group", name="words of the prompt").get_by_role("button")
    text = words.nth(1).inner_text()
    words.nth(1).click()
    explorer.wait(words=[1])
    assert words.nth(1).get_attribute("aria-pressed") == "true"
    expected = drawn(workspace, State(tab="words", words=(1,))).panels["pressed"]
    assert expected.title == f"only: {text}"
    assert explorer.png(f"only: {text}") == expected.png
    words.nth(1).press("Space")
    explorer.wait(words=())
    explorer.button("release all").wait_for()


def test_the_answer_word_by_word(explorer, workspace):
    explorer.open("answer")
    words = explorer.root.get_by_role("group", name="words of the answer").get_by_role("button")
    words.nth(6).press("Enter")
    explorer.wait(token=6)
    explorer.control("MSEA").uncheck()
    explorer.wait(msea=False)
    title = f"“{words.nth(6).inner_text()}” by ARC"
    expected = drawn(workspace, State(tab="answer", token=6, msea=False))
    assert explorer.png(title) == expected.panels["map"].png
    explorer.type("question", "where is the dragon")
    explorer.root.get_by_role("alert").wait_for()
    assert "nearest known words are diamond" in explorer.error
    explorer.type("question", "name all objects")
    explorer.wait(question="name all objects")
    assert explorer.error == ""


def test_a_masked_patch_changes_the_score(explorer, workspace):
    explorer.open("perturb")
    patches = explorer.root.locator(".xaikit-spot:visible")
    assert patches.count() == 64
    before = explorer.root.inner_text()
    patches.nth(10).click()
    explorer.wait(masked=[10])
    patches.nth(10).press("ArrowDown")  # the patch below has the focus now
    explorer.page.keyboard.press("Enter")
    explorer.wait(masked=[10, 18])
    expected = drawn(workspace, State(tab="perturb", masked=(10, 18)))
    after = explorer.root.inner_text()
    assert after != before and " ".join(expected.sentences["masked"].split()) in " ".join(after.split())
    assert explorer.png(expected.panels["picture"].title) == expected.panels["picture"].png


def test_a_cell_of_a_run_shows_its_samples(explorer, workspace):
    explorer.control("run").select_option("default")
    explorer.wait(run="default")
    explorer.open("runs")
    cell = explorer.root.locator(".xaikit-table td button").first
    cell.click()
    explorer.page.wait_for_function(
        "() => document.querySelector('.xaikit-explorer').textContent.includes('explainer=')"
    )
    explorer.wait()
    assert cell.get_attribute("aria-pressed") == "true"
    expected = drawn(workspace, explorer.state)
    assert len(expected.panels) >= 2
    for panel in expected.panels.values():
        assert explorer.picture(panel.title).count() >= 1


def test_resonance_plays(explorer):
    explorer.open("resonance")
    explorer.handle("time t").press("Home")
    explorer.wait(time=0)
    explorer.root.locator(".widget-play:visible button").first.click()
    explorer.page.wait_for_function("() => /time=[3-9]/.test(document.querySelector('.xaikit-explorer').textContent)")
    explorer.root.locator(".widget-play:visible button").first.click()


def test_an_unknown_word_is_a_sentence(explorer):
    before = explorer.png("MMEL")
    explorer.type("prompt", "a purpel ring")
    explorer.root.get_by_role("alert").wait_for()
    assert "'purpel'" in explorer.error and "purple" in explorer.error and "Traceback" not in explorer.error
    assert explorer.png("MMEL") == before
    explorer.type("prompt", "a purple ring")
    explorer.wait(prompt="a purple ring")
    assert explorer.error == ""


def test_long_work_can_be_cancelled(explorer):
    slow = "import time; block = app.workspace.clip(app.state).model.visual.transformer.resblocks[0]; "
    slow += "handle = block.register_forward_pre_hook(lambda *_: time.sleep(0.3)); None"
    explorer.execute(APP + slow)  # as if the model were a large one
    explorer.control("method 1").select_option("rise")
    explorer.button("Cancel").wait_for()
    assert "explaining by rise" in explorer.root.inner_text()
    explorer.button("Cancel").click()
    explorer.wait(methods=("grad_eclip", "mmel"))
    explorer.execute("handle.remove()")
    explorer.control("method 1").select_option("chefer")
    explorer.wait(methods=["chefer", "mmel"])
    assert explorer.picture("Chefer").count() == 1


def give(explorer, path, content):
    path.write_bytes(content)
    with explorer.page.expect_file_chooser() as chooser:
        explorer.button("upload a picture").click()
    chooser.value.set_files(path)


@pytest.mark.parametrize(
    "name, make, told",
    [
        ("notes.txt", lambda: b"hello", "notes.txt can't be read as an image"),
        ("huge.png", lambda: file_of(Image.new("1", (10000, 5000))), "50 megapixels"),
        ("film.png", lambda: bytes(45_000_000), "film.png has 45 MB: pictures up to 30 MB are taken"),
    ],
    ids=["no picture", "50 megapixels", "45 MB"],
)
def test_what_is_no_picture_or_too_large_is_a_sentence(explorer, tmp_path, name, make, told):
    before = explorer.png("MMEL")
    give(explorer, tmp_path / name, make())
    explorer.root.get_by_role("alert").wait_for()
    assert told in explorer.error
    assert explorer.png("MMEL") == before


def test_a_picture_of_more_than_ten_megabytes_arrives(explorer, tmp_path):
    """A message of this size would cut the connection to the server."""
    noise = np.random.default_rng(0).integers(0, 256, (1900, 1900, 3), dtype=np.uint8)
    content = file_of(Image.fromarray(noise), compress_level=1)
    assert len(content) > 10 * 2**20
    give(explorer, tmp_path / "large.png", content)
    explorer.wait(image="large.png")
    assert explorer.error == ""
    digest = f"{APP} import hashlib; print(hashlib.sha256(app.workspace.picture(app.state).tobytes()).hexdigest())"
    expected = hashlib.sha256(Image.open(io.BytesIO(content)).tobytes()).hexdigest()
    assert explorer.execute(digest).strip() == expected
    explorer.handle("opacity").press("ArrowLeft")
    explorer.wait(opacity=0.55)  # the connection lives


def test_export(explorer, workspace, tmp_path):
    explorer.button("Export this view").click()
    expected = drawn(workspace, State())
    saved = {}
    for link in ("picture (PNG)", "numbers (CSV)"):
        with explorer.page.expect_download() as download:
            explorer.root.get_by_role("link", name=link).click()
        saved[download.value.suggested_filename] = download.value.path()
    assert set(saved) == {"xaikit-compare-scene0.png", "xaikit-compare-scene0.csv"}
    pd.testing.assert_frame_equal(pd.read_csv(saved["xaikit-compare-scene0.csv"]), expected.numbers, check_dtype=False)
    picture = Image.open(saved["xaikit-compare-scene0.png"])
    assert picture.width > 800 and np.asarray(picture.convert("RGB")).std() > 20  # not an empty page
