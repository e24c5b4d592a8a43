"""For all tests: runs go to a temporary folder, and nbval compares what a notebook says, not how it looks.

Stored text and numbers are compared with those of a fresh execution: words and whole numbers exactly, decimal
numbers within one unit in the last printed digit. Pictures, HTML, widgets and what goes to stderr (warnings,
progress bars) are not compared, nor are the addresses of objects. Notebooks may be compared beside one another: each
waits for those whose stores it reads.
"""

import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

import xaikit as xk
from xaikit.running.committed import ADDRESS
from xaikit.running.execution import UNATTENDED
from xaikit.running.notebooks import all_needs_of, find_notebooks

NOT_COMPARED = ("text/html", "image/svg+xml", "application/vnd.jupyter.widget-view+json", "stderr")
DECIMAL = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE][-+]?\d))(?:[eE][-+]?\d+)?(?!\w)")
RELATIVE = 1e-6  # for numbers printed with all their digits


PATIENCE = 1800  # seconds that a notebook waits for the stores of others


def pytest_configure(config):
    folder = config.runs_folder = tempfile.mkdtemp(prefix="xaikit-test-")
    os.environ["XAIKIT_RUNS"] = folder
    if getattr(config.option, "nbval", False):
        # One for the notebooks of all processes, which the first of them makes.
        _teach_nbval(Path(os.environ.setdefault("XAIKIT_NOTEBOOKS_RUNS", folder)))


def pytest_unconfigure(config):
    shutil.rmtree(config.runs_folder, ignore_errors=True)


@pytest.fixture(scope="session")
def clip():
    """The bundled model, loaded once for all tests: what changes it takes a copy."""
    return xk.load_clip("tiny-clip")


@pytest.fixture(autouse=True)
def _names_of_examples(request):
    """What the examples in docstrings may use without saying where it is from."""
    if isinstance(request.node, pytest.DoctestItem):
        scenes = xk.draw_scenes(4, objects=(2, 3))
        names = {"np": np, "xk": xk, "clip": request.getfixturevalue("clip"), "scenes": scenes}
        request.getfixturevalue("doctest_namespace").update(names)


def pytest_collection_modifyitems(config, items):
    if getattr(config.option, "nbval", False):
        # Notebooks that need no more than one other come first, those that need more after half of the unit tests: so nobody
        # waits for a store, and the longest notebook doesn't run alone at the end.
        notebooks = find_notebooks()
        needed = {notebooks[name].path: len(needs) for name, needs in all_needs_of(notebooks).items()}
        others = list(dict.fromkeys(item.path for item in items if item.path not in needed))
        early = {*others[: len(others) // 2]}
        items.sort(key=lambda item: needed.get(item.path, 1.5 if item.path in early else max(needed.values()) + 1))


def pytest_collectstart(collector):
    if type(collector).__name__ == "IPyNbFile":
        collector.skip_compare += NOT_COMPARED


def _teach_nbval(runs):
    from nbval.kernel import RunningKernel
    from nbval.plugin import IPyNbCell, IPyNbFile

    setup, teardown = IPyNbFile.setup, IPyNbFile.teardown

    def setup_after_needs(file):
        beside = {Path(item.path).stem for item in file.session.items}
        needs = all_needs_of(find_notebooks()).get(file.path.stem, ())  # of these, those that are compared, too
        end = time.monotonic() + PATIENCE
        while any(not _ended(runs, name).exists() for name in beside.intersection(needs)) and time.monotonic() < end:
            time.sleep(0.1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XAIKIT_RUNS", str(runs))
            patch.setenv(UNATTENDED, "1")
            setup(file)

    def teardown_and_say(file):
        teardown(file)
        _ended(runs, file.path.stem).touch()

    IPyNbFile.setup, IPyNbFile.teardown = setup_after_needs, teardown_and_say

    sanitize = IPyNbCell.sanitize
    IPyNbCell.sanitize = lambda cell, output: _printed(sanitize(cell, output))
    # nbval leaves the history off, and with it IPython no longer hides the value of a line that ends with ";"
    RunningKernel.execute_cell_input = lambda kernel, source, allow_stdin=None: kernel.kc.execute(
        source, store_history=True, allow_stdin=allow_stdin, stop_on_error=False
    )


def _ended(runs, name):
    return runs / f".{name}.ended"


def _printed(output):
    return Printed(ADDRESS.sub("", output)) if isinstance(output, str) else output


class Printed(str):
    """Printed text, equal to other text that differs only in the last digit of decimal numbers."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return str.__eq__(self, other) or (isinstance(other, str) and _agree(str(self), str(other)))

    def __ne__(self, other):
        return not self == other


def _agree(one, other):
    numbers, others = DECIMAL.findall(one), DECIMAL.findall(other)
    return _words(one) == _words(other) and all(map(_close, numbers, others))


def _words(text):
    return " ".join(DECIMAL.sub(" # ", text).split())


def _close(one, other):
    allowed = max(min(_last_digit(one), _last_digit(other)), RELATIVE * abs(float(other)))
    return abs(float(one) - float(other)) <= 1.001 * allowed


def _last_digit(number):
    """The value of one unit in the last printed place; nothing for "3.", which numpy prints for a whole number."""
    digits, _, exponent = number.lower().partition("e")
    decimals = len(digits.partition(".")[2])
    return 0.0 if digits.endswith(".") else 10.0 ** (int(exponent or 0) - decimals)
