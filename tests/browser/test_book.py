"""The static site of the notebooks: it builds without a warning, links to nothing that isn't there, and reads offline."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from xaikit.files import notebooks_folder


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Its folder, built as ``make book`` does."""
    folder, source = tmp_path_factory.mktemp("book"), notebooks_folder()
    arguments = ["-q", "-W", source, folder]
    done = subprocess.run([sys.executable, "-m", "sphinx", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """The places and the links of one page."""

    def __init__(self, path: Path):
        super().__init__()
        self.places, self.links = {""}, []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places.add(found.get("id"))
        self.links += [found[name] for name in ("href", "src") if found.get(name)]


def test_no_link_is_broken_and_no_picture_missing(book):
    pages = {path.resolve(): Page(path) for path in book.rglob("*.html") if "_static" not in path.parts}
    numbered = {path.stem for path in notebooks_folder().glob("*.ipynb")}
    assert numbered <= {path.stem for path in pages} and sum(len(page.links) for page in pages.values()) > 500
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "data"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path.name}: {link}"
            if target in pages and target.name not in ("genindex.html", "search.html"):
                assert unquote(parts.fragment) in pages[target].places, f"{path.name}: {link}"


def test_it_reads_offline(book, browser, output):
    page, outside = browser.new_page(), []
    page.on("request", lambda request: outside.append(request.url) if request.url.startswith("http") else None)
    page.goto((book / "02_grad_eclip.html").as_uri())
    page.screenshot(path=output / "book.png")
    pictures = page.locator("article img")
    assert pictures.count() > 3
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete", arg=picture.element_handle())
        assert picture.evaluate("image => image.naturalWidth") > 50
    formula = page.locator("math[display=block]").first.bounding_box()
    assert formula["width"] > 100 and formula["height"] > 15
    page.goto((book / "functions.html").as_uri())
    assert page.locator("dt[id='xaikit.samples.draw_scenes'] + dd dl").first.locator("dt").first.inner_text() == "n"
    page.goto((book / "search.html").as_uri() + "?q=resonate")
    page.locator("#search-results li").first.wait_for()
    assert "Semantic Resonance Maps" in page.locator("#search-results").inner_text()
    page.close()
    assert outside == []
