"""``make lab``: what is looked at, tried and saved there leaves the committed notebooks as they are."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/sh
shift 2
for opened; do echo opened $opened; echo tried >> $opened; done
"""


@pytest.fixture
def lab(tmp_path):
    """What ``make lab`` opens, where JupyterLab is a program that changes what it opens."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/07_explore.ipynb").write_text('{"tags": ["application"]}\n')
    (tmp_path / "notebooks/00_planted.ipynb").write_text("{}\n")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def make():
        command = ["make", "-s", "lab", "PYTHON=./python", "INSTALLED="]
        own = {
            name: value for name, value in os.environ.items() if not name.startswith("MAKE")
        }  # not of `make test ARGS=...`
        said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=own).stdout
        return tmp_path / said.split()[1]

    return make


def test_copies_are_opened_and_kept_until_the_notebooks_change(lab, tmp_path):
    committed = tmp_path / "notebooks/07_explore.ipynb"
    before = committed.read_text()
    opened = lab()
    assert committed.read_text() == before and opened.read_text() == before + "tried\n"
    assert (opened.parent / "00_planted.ipynb").read_text() == "{}\n" and opened.is_relative_to(tmp_path / "runs/lab")
    assert lab() == opened and opened.read_text() == before + 2 * "tried\n"  # one's own changes are still there
    committed.write_text(before + "newer\n")
    newer = lab()
    assert newer != opened and newer.read_text() == before + "newer\ntried\n" and opened.is_file()
