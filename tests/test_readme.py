"""What the README says came out is what the committed pages print."""

import re

import nbformat
from notebook_functions import NOTEBOOKS

README = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
READ = ("text/plain", "text/markdown")
# A number with its interval as it is printed, so that it can hardly stand there for another reason.
NUMBER = re.compile(r"[-+]?\d+\.\d+ \[[-+]?\d+\.\d+, [-+]?\d+\.\d+\]")


def printed(path):
    """All that a committed notebook prints as text."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(
        str(text)
        for output in outputs
        for text in [output.get("text", ""), *(output.get("data", {}).get(kind, "") for kind in READ)]
    )


def came_out():
    """The README's findings, by the notebook that each is read from."""
    section = README.split("## What came out")[1].split("\n## ")[0]
    return re.findall(r"^- \[[^]]+\]\(notebooks/(\S+\.ipynb)\): (.+?)(?=\n- |\n\n|\Z)", section, re.M | re.S)


def test_every_number_that_came_out_stands_on_its_page():
    found = came_out()
    assert len(found) >= 8
    for name, text in found:
        page, numbers = printed(NOTEBOOKS / name), NUMBER.findall(text)
        assert numbers, f"{name}: no number"
        missing = [number for number in numbers if number not in page]
        assert missing == [], f"{name}: {missing}"


def test_every_link_of_the_readme_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in link]
    assert len(links) > 12 and all((NOTEBOOKS.parent / link.partition("#")[0]).exists() for link in links)
