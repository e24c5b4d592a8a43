"""What the README says came out is what the committed pages print."""

import re
from functools import reduce

import nbformat
import numpy as np
from notebook_functions import NOTEBOOKS

import xaikit as xk
from xaikit.evaluation.metrics import METRICS
from xaikit.explainers.registry import METHODS
from xaikit.mllm.methods import REGISTRY

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


def test_every_name_that_the_readme_calls_is_there():
    names = {*re.findall(r"\bxk((?:\.\w+)+)", README)}
    assert len(names) > 30
    for name in names:
        reduce(getattr, name[1:].split("."), xk)


def test_the_method_the_metric_and_the_token_method_that_it_shows_work_as_it_says(clip, monkeypatch):
    for registry in (METHODS, METRICS, REGISTRY):
        monkeypatch.setattr(registry, "_entries", registry.all())
    section = README.split("## Add a method")[1].split("## What lies where")[0]
    blocks = re.findall(r"```python\n(.+?)```", section, re.S)
    assert len(blocks) == 3
    for block in blocks:
        names = {"__name__": "xaikit.explainers.shown", "__package__": "xaikit.explainers", "xk": xk}
        exec(compile(block, "README.md", "exec"), names)
    scenes, told = xk.draw_scenes(2, seed=1), xk.draw_descriptions(2, seed=1)
    heat = xk.explain(["attention_times_gradient"], clip, scenes.image, scenes.caption)
    found = xk.evaluate(heat, clip, scenes, metrics="hot_on_objects").hot_on_objects
    assert found.attrs["score_direction"] == "higher is better" and ((found >= 0) & (found <= 1)).all()
    answers = xk.explain_tokens(xk.load_mllm(), told.image, method="state_cosine")
    assert np.isfinite(answers.token_heat).all() and float(answers.token_heat.max()) > 0
