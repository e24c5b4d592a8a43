"""What the tests in a real browser share: Chromium, a small run, the notebook, and where screenshots go.

They are marked ``browser`` (``-m "not browser"`` leaves them out) and skipped where there is no Chromium or no playwright.
Screenshots of every view are kept in ``tests/browser/output``, which git ignores.
"""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

import xaikit as xk
from xaikit.files import store

HERE = Path(__file__).parent
NOTEBOOK = HERE.parents[1] / "notebooks/07_explore.ipynb"
RUN = "default"
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


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory):
    """Chromium without a window; ended with the module, since others start event loops of their own."""
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


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """The folder of the runs, with one of six scenes, their maps by two methods, and what these score."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAIKIT_RUNS", str(runs))
        clip = xk.load_clip("tiny-clip")
        scenes = xk.draw_scenes(n=6, seed=3, objects=(2, 3))
        xk.save_store(scenes, RUN, "inputs")
        about = {
            "model": clip.name,
            "weights_digest": clip.weights_digest,
            "inputs_digest": store.provenance(xk.open_inputs(RUN))["inputs_digest"],
        }
        found = xk.explain_all(clip, scenes.image, scenes.caption, ["grad_eclip", "chefer"])
        xk.save_store(store.annotate(found, "explanations", **about), RUN, "maps", "explanations")
        scores = xk.evaluate(found.heat, clip, scenes, steps=4)
        xk.save_store(store.annotate(scores, "evaluation", **about), RUN, "evaluation", "evaluation")
    return runs


@pytest.fixture(scope="session")
def notebook(tmp_path_factory):
    """A copy of the notebook of the explorer, alone in its folder."""
    folder = tmp_path_factory.mktemp("notebooks")
    if NOTEBOOK.is_file():
        return Path(shutil.copy(NOTEBOOK, folder))
    cells = [v4.new_code_cell("import xaikit as xk\n\napp = xk.explore()\napp")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / NOTEBOOK.name)
    return folder / NOTEBOOK.name


@pytest.fixture(scope="session")
def output():
    """The folder for screenshots."""
    folder = HERE / "output"
    folder.mkdir(exist_ok=True)
    return folder
