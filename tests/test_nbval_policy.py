"""What ``pytest --nbval`` finds in a notebook whose stored outputs were changed by hand, one cell a case."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output

ROOT = Path(__file__).parents[1]
PICTURE = "from IPython.display import Image\nImage(data=__import__('base64').b64decode(dot), format='png')"
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
FRAME = "import pandas as pd\npd.DataFrame({'recall': [0.852, 0.901]}, index=['mmel', 'random'])"
FRAME_TEXT = "        recall\nmmel     0.852\nrandom   0.901"


def result(text, **other):
    return [new_output("execute_result", {"text/plain": text, **other})]


def printed(text, name="stdout"):
    return new_output("stream", name=name, text=text)


CASES = {  # code, what the notebook stores, whether the comparison should pass
    "the same": ("round(0.8521, 3)", result("0.852"), True),
    "a decimal off by one in the last digit": ("round(0.8521, 3)", result("0.853"), True),
    "a decimal off by two in the last digit": ("round(0.8521, 3)", result("0.854"), False),
    "a decimal printed to fewer digits": ("0.3", result("0.39"), False),
    "a decimal of another sign": ("round(0.8521, 3)", result("-0.852"), False),
    "a whole number off by one": ("30 + 2", result("33"), False),
    "a whole number that numpy prints with a point": ("print('[1. 2.]')", [printed("[1. 3.]\n")], False),
    "a small number off in the exponent": ("1.25e-7", result("1.25e-06"), False),
    "all digits, rounded otherwise": ("0.1 + 0.2", result("0.30000000000000010"), True),
    "a word": ("'mmel'", result("'rollout'"), False),
    "a number more": ("print(0.5, 0.5)", [printed("0.5 0.5 0.5\n")], False),
    "a table off by one in the last digit": (FRAME, result(FRAME_TEXT.replace("0.901", "0.902")), True),
    "a table with a wrong number": (FRAME, result(FRAME_TEXT.replace("0.901", "0.931")), False),
    "the address of an object": ("object()", result("<object>"), True),
    "another object": ("object()", result("<Figure>"), False),
    "another HTML": (FRAME, result(FRAME_TEXT, **{"text/html": "<b>random id</b>"}), True),
    "another picture": (PICTURE, result("<IPython.core.display.Image object>", **{"image/png": DOT[:60]}), True),
    "no picture": (PICTURE, [], False),
    "another warning": ("import sys\nprint('50 %', file=sys.stderr)", [printed("99 %\n", "stderr")], True),
    "a warning not stored": ("print('50 %', file=sys.stderr)\nprint(1)", [printed("1\n")], True),
    "a value hidden by a semicolon": ("30 + 2;", [], True),
    "runs go to a temporary folder": ("import os\n'xaikit-test-' in os.environ['XAIKIT_RUNS']", result("True"), True),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """PASSED or FAILED for each case, from one run of pytest over one notebook."""
    folder = tmp_path_factory.mktemp("policy")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"dot = {DOT!r}", execution_count=1)])
    for count, (code, stored, _) in enumerate(CASES.values(), start=2):
        notebook.cells.append(nbformat.v4.new_code_cell(code, outputs=stored, execution_count=count))
    nbformat.write(notebook, folder / "toy.ipynb")
    command = ["-m", "pytest", "--nbval", "--nbval-current-env", "-v", "-c", ROOT / "pyproject.toml", "-p", "conftest"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, *command, "toy.ipynb"], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    found = dict(re.findall(r"::Cell (\d+) (PASSED|FAILED)", done.stdout))
    assert len(found) == len(CASES) + 1, done.stdout + done.stderr
    assert done.returncode == 1
    return {case: found[str(index)] for index, case in enumerate(CASES, start=1)}


@pytest.mark.parametrize("case", CASES)
def test_nbval_compares_what_the_notebook_says(outcomes, case):
    assert outcomes[case] == ("PASSED" if CASES[case][2] else "FAILED")
