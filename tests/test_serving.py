"""The notebook that shows the explorer alone."""

import nbformat
import pytest

from xaikit.running.committed import write_application
from xaikit.running.notebooks import read_notebook


def test_the_explorers_cells_with_the_parameters_that_were_given(tmp_path):
    written = write_application(tmp_path, "mine", {"model": "ViT-B-32", "pretrained": "a'b"})
    cells = nbformat.read(written, as_version=4).cells
    assert all(cell.cell_type == "code" and not cell.outputs for cell in cells)
    assert read_notebook(written).parameters["run"].default == "default"
    given = {}
    exec(cells[1].source, given)
    assert (given["run"], given["model"], given["pretrained"]) == ("mine", "ViT-B-32", "a'b")
    assert cells[-1].source.endswith("\napp") and "export" not in "".join(cell.source for cell in cells)


def test_a_wrong_parameter_is_told_before_anything_is_served(tmp_path):
    with pytest.raises(ValueError, match="no notebook has a parameter modle, did you mean model"):
        write_application(tmp_path, "mine", {"modle": "x"})
