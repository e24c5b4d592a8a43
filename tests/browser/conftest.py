"""What the tests in a real browser share: Chromium, a small run, the notebook, and where screenshots go.

They are marked ``browser`` (``-m "not browser"`` leaves them out) and skipped where there is no Chromium or no playwright.
Screenshots of every view are kept in ``tests/browser/output``, which git ignores.
"""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from explorer.conftest import write_run

import xaikit as xk
from xaikit.files import store
from xaikit.running.committed import explorer_notebook

from .explorer_page import ExplorerPage
from .servers import application, jupyterlab

HERE = Path(__file__).parent
RUN = "default"
SCREENSHOTS = "XAIKIT_SCREENSHOTS"  # the folder in which to take the notebook's, of the workbook's own run
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium():
    """The path of the browser."""
    pytest.importorskip("playwright", reason="playwright drives the browser: install the extra 'test'")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or pytest.skip("there is no Chromium here: install it, such as by apt-get install chromium")


@pytest.fixture(scope="package")
def browser(chromium, tmp_path_factory):
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=chromium,
            headless=True,
            args=ARGUMENTS,
            viewport={"width": 1280, "height": 1000},
        )
        context.set_default_timeout(30_000)
        yield context
        context.close()


@pytest.fixture(scope="package")
def servers(chromium, notebook, tmp_path_factory):
    """JupyterLab, Voila and the folder of their runs. Both start at once, and while the run is made."""
    runs = HERE.parents[1] / "runs" if SCREENSHOTS in os.environ else tmp_path_factory.mktemp("runs")
    environment = {"XAIKIT_RUNS": str(runs)}
    with ExitStack() as started:
        lab = started.enter_context(jupyterlab(notebook.parent, tmp_path_factory.mktemp("lab"), **environment))
        voila = started.enter_context(application(tmp_path_factory.mktemp("voila"), **environment))
        yield lab, voila, runs


@pytest.fixture(scope="package")
def small_run(servers):
    """The folder of the runs: the workbook's for screenshots, else with one of six scenes of things, their maps by two methods,
    and what these score."""
    *_, runs = servers
    if SCREENSHOTS in os.environ:
        if not (runs / RUN / "evaluation.nc").is_file():
            pytest.fail(f"screenshots are of the run {RUN}, which isn't there: make workbook makes it")
        return runs
    clip = xk.load_clip("tiny-clip-things")
    drawn = xk.draw_scenes(n=6, seed=3, objects=(2, 3), world="things", size=clip.image_size[0])
    scenes = store.annotate(drawn, "inputs", model=clip.name)
    found = xk.explain_all(clip, scenes.image, scenes.caption, ["grad_eclip", "chefer"])
    scores = xk.evaluate(found.heat, clip, scenes, steps=4)
    stores = {"maps": ("explanations", found), "evaluation": ("evaluation", scores)}
    write_run(runs / RUN, scenes, clip, clip.name, **stores)
    return runs


@pytest.fixture(scope="package")
def pages(browser, servers, small_run):
    """The notebook in JupyterLab, just opened, and the explorer alone, which is starting meanwhile."""
    lab, voila, _ = servers
    voila.ready()
    alone = ExplorerPage(browser.new_page(), voila.url)
    alone.page.goto(f"{voila.url}/?token={voila.token}", wait_until="commit", timeout=90_000)
    lab.ready()
    return ExplorerPage(browser.new_page(), lab.url), alone


@pytest.fixture(scope="session")
def notebook(tmp_path_factory):
    """A copy of the notebook of the explorer, alone in its folder."""
    return Path(shutil.copy(explorer_notebook(), tmp_path_factory.mktemp("notebooks")))


@pytest.fixture(scope="session")
def output():
    """The folder for screenshots."""
    folder = HERE / "output"
    folder.mkdir(exist_ok=True)
    return folder
