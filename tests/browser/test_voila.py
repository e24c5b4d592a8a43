"""The explorer as an application of its own, served by Voila."""

import pytest


@pytest.fixture(scope="module")
def explorer(pages):
    _, explorer = pages
    explorer.root.locator("img").first.wait_for(timeout=60_000)
    return explorer


def test_it_shows_the_explorer_without_code(explorer, output):
    explorer.page.screenshot(path=output / "voila.png", full_page=True)
    assert explorer.cut_off() == []
    assert explorer.page.locator(".jp-CodeCell .jp-Editor:visible, .jp-InputArea:visible .highlight").count() == 0
    assert explorer.root.bounding_box()["y"] < 80, "the explorer is all there is"
    assert "import xaikit" not in explorer.page.locator("body").inner_text()


def test_the_slider_changes_the_map(explorer):
    explorer.drag("opacity", -0.1)
    explorer.wait(opacity=0.0)
    faint = explorer.pixels("MMEL")
    explorer.handle("opacity").press("End")
    explorer.wait(opacity=1.0)
    assert (explorer.pixels("MMEL") != faint).any(-1).mean() > 0.5


def test_it_needs_nothing_from_other_machines(explorer):
    """Icons it asks for, and does without."""
    assert [request for request in explorer.outside if "fortawesome" not in request] == []
