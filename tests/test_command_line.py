"""The command xaikit: what it prints, its exit codes, and the notebook that it serves."""

import subprocess
import sys
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

import xaikit
from xaikit.files.paths import run_folder
from xaikit.running.command_line import main
from xaikit.running.committed import write_application
from xaikit.running.notebooks import literal, read_notebook
from xaikit.running.record import read_record, write_record
from xaikit.running.workbook import run


def test_the_command_line_passes_literals_and_text(tmp_path, executed, capsys):
    arguments = ["-p", "n=4", "-p", "methods", "['mmel']", "-p", "scale", "-1.5"]
    assert main(["run", "--out", str(tmp_path / "toy"), *arguments]) == 0
    assert executed[0] == ("00_store", {"n": 4, "scale": -1.5, "run": "toy"})
    assert executed[1][1]["methods"] == ["mmel"]
    assert [literal(text) for text in ("3/16", "tiny-clip", "1e-3")] == ["3/16", "tiny-clip", 1e-3]
    assert "00_store: running\n00_store: done in " in capsys.readouterr().out


def test_status_shows_how_a_run_went(tmp_path, executed, capsys, monkeypatch):
    executed.bad = ["01_read"]
    monkeypatch.chdir(tmp_path)
    main(["run", "--out", "runs/mine", "-p", "n", "4"])
    assert main(["status", "mine"]) == 1  # where the run was begun
    (tmp_path / "runs" / "mine").rename(tmp_path / "toy")
    capsys.readouterr()
    assert main(["status", str(tmp_path / "toy")]) == 1
    first, store, read = capsys.readouterr().out.splitlines()
    assert first.startswith("parameters: n=4; seed: 5; commit: ")
    assert store.startswith("00_store  done ") and read.endswith("RuntimeError: no kernel")
    executed.bad = []
    run(run_folder("fine"))
    assert main(["status", "fine"]) == 0
    capsys.readouterr()
    record = read_record(tmp_path / "toy")
    record["notebooks"]["01_read"] = {"status": "running", "started": "2026-01-01T00:00:00.000+00:00"}
    write_record(tmp_path / "toy", record)  # as a killed run leaves it
    main(["status", str(tmp_path / "toy")])
    assert "was interrupted" in capsys.readouterr().out


def test_a_run_is_looked_for_where_runs_are_kept(tmp_path, executed, capsys, monkeypatch):
    (tmp_path / "here" / "runs" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XAIKIT_RUNS", str(tmp_path / "kept"))
    assert main(["status", "mine"]) == 2 and "kept" not in capsys.readouterr().err
    (tmp_path / "kept" / "mine").mkdir(parents=True)
    assert main(["status", "mine"]) == 2 and "kept" in capsys.readouterr().err
    assert main(["status", "runs/mine"]) == 2 and "holds no run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["run", "--out", "{}/toy", "-p", "m", "1"], "no notebook has a parameter m"),
        (["run", "--out", "{}/notebooks/00_store.ipynb"], "is a file: a run needs a folder"),
        (["run", "--only", "7"], "there is no notebook '7'"),
        (["run", "--out", "{}/toy", "-p", "data", "coco:none/here#val"], "there is no folder none/here"),
        (["run", "--out", "{}/toy", "-p", "data", "coco:" + 300 * "x"], "there is no folder xxx"),
        (["run", "--out", "{}/toy", "-p", "data", "cooco:none"], "LAYOUT one of coco"),
        (["status", "none"], "holds no run: there is no run.json in it"),
        (["status", "../none"], "without slashes"),
        (["explain", "no.png", "a red circle", "--out", "{}/map.png"], "there is no file no.png"),
        (["explain", "no.png", "a red circle", "--out", "{}/none/map.png"], "there is no folder"),
        (["explain", "no.png", "a red circle", "--out", "{}/map.xyz"], "a picture's name ends with one of"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_code_2(tmp_path, executed, capsys, arguments, problem):
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert problem in said and said.startswith("xaikit: ") and said.count("\n") == 1
    assert executed == [] and not run_folder("none", create=False).exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("--only 02 -p n 0", "n=0: a whole number of at least 1"),
        ("--only 00 -p seed -1", "seed=-1: a whole number of at least 0"),
        ("--only 06 -p methods ['grad_eclipp']", "methods='grad_eclipp': "),
        ("--only 06 -p methods mmel", "methods='mmel': give a list of different names"),
        ("--only 06 -p redrawn_n 0", "redrawn_n=0: a whole number of at least 1"),
        ("--only 08 -p coco 3", "coco=3: text is needed"),
        ("--only 06 -p fill blurr", "fill='blurr': choose from zero"),
        ("--only 04 -p coupling atention", "coupling='atention'"),
        ("--only 00 -p world thing", "world='thing': choose from shapes, things"),
        ("--only 00 -p precision fp8", "precision='fp8': choose from fp32"),
        ("--only 00 -p device cuda:99", "device='cuda:99'"),
        ("--only 00 -p data folder:{}", "there is no captions.csv in"),
        ("--only 08 -p coco coco:{}", "coco"),
        ("--only 08 -p masks 0", "masks=0: a whole number of at least 1 is needed"),
        ("--only 06 -p steps abc", "steps='abc': a whole number"),
        ("--only 05 -p size abc", "size='abc': a whole number"),
        ("-p pretrained 3", "pretrained=3: text is needed, for an architecture"),
        ("-p model foo:bar", "unknown model 'foo:bar': the nearest known names are"),
        ("--only 04b -p other tiny-clop", "unknown model 'tiny-clop': the nearest known names are tiny-clip"),
        ("--only 01,03", "reads the scenes of notebook 00_planted_scenes, and"),
    ],
)
def test_a_value_that_no_notebook_can_use_is_told_before_any_kernel(tmp_path, capsys, arguments, problem):
    out, data = tmp_path / "out", tmp_path / "data"
    data.mkdir()
    assert main(["run", "--out", str(out), *arguments.format(data).split()]) == 2
    said = capsys.readouterr().err
    assert problem in said and said.startswith("xaikit: ") and said.count("\n") == 1
    assert not out.exists()


@pytest.fixture
def toy_package(monkeypatch):
    """A model that halves the picture, and explanations that need no model."""

    def explain(method, clip, images, prompts):
        return xr.DataArray(np.ones((1, 2, 2)), dims=("sample", "row", "col"))

    def overlay(image, heat, title):
        assert title == "'a red circle': mmel of tiny-clip"
        assert image.shape == (2, 3, 3) and image.dtype == np.uint8 and (image == [200, 100, 0]).all()
        assert heat.dims == ("row", "col")
        return Figure()

    clip = SimpleNamespace(seen=lambda image: np.full((2, 3, 3), [200, 100, 0], np.uint8))
    for name, value in {"load_clip": lambda *_, **__: clip, "explain": explain}.items():
        monkeypatch.setitem(vars(xaikit), name, value)
    monkeypatch.setitem(sys.modules, "xaikit.plots", SimpleNamespace(overlay=overlay))


def test_explain_draws_the_map_over_the_image_as_the_model_sees_it(tmp_path, toy_package, capsys):
    Image.new("RGB", (6, 8)).save(tmp_path / "image.png")
    arguments = ["explain", str(tmp_path / "image.png"), "a red circle", "--out", str(tmp_path / "map.png")]
    assert main(arguments) == 0
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.size == (640, 480)
    assert main([*arguments, "--method", "none"]) == 2
    assert capsys.readouterr().err.startswith("xaikit: unknown method 'none': the nearest known ones are ")
    assert main([*arguments, "--model", "tiny-clop"]) == 2
    assert capsys.readouterr().err.startswith(
        "xaikit: unknown model 'tiny-clop': the nearest known names are tiny-clip"
    )
    assert main([*arguments[:2], " ", *arguments[3:]]) == 2
    assert capsys.readouterr().err == "xaikit: the prompt is empty: one of at least one word is needed\n"


def test_methods_are_listed_with_their_source(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {name: [" and ".join(about["explains"]), about["source"]] for name, about in xaikit.methods().items()}
    for line, (name, [sides, source]) in zip(lines, listed.items(), strict=True):
        assert line.split(maxsplit=1) == [name, f"{sides:14}  {source}"]


QUICK = {  # commands with a short answer, and their exit codes
    "methods": 0,
    "status none": 2,
    "check none": 2,
    "run -p m 1": 2,
    "explain no.png ring": 2,
    "explain no.png ring --method none": 2,
    "run -p model none": 2,
    "run --only 05 -p multimodal_model none": 2,
    "app -p m 1": 2,
}
IN_TURN = """
import sys
from xaikit.running.command_line import main
for command in sys.argv[1:]:
    code = main(command.split())
    slow = sorted({"torch", "open_clip", "transformers", "IPython", "distributed", "papermill"} & {*sys.modules})
    print(f"{command} -> {code} {slow}", file=sys.stderr)
"""


def test_a_short_answer_waits_for_no_import_of_seconds():
    """All in one process: what one of them imports is said of it and of those after it."""
    done = subprocess.run([sys.executable, "-c", IN_TURN, *QUICK], capture_output=True, text=True)
    found = [line for line in done.stderr.splitlines() if " -> " in line]
    assert found == [f"{command} -> {code} []" for command, code in QUICK.items()], done.stderr


def test_an_unknown_command_is_exit_code_2_and_the_module_can_be_run():
    done = subprocess.run([sys.executable, "-m", "xaikit", "bake"], capture_output=True, text=True)
    assert done.returncode == 2 and "invalid choice: 'bake'" in done.stderr


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
