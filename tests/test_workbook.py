"""Running notebooks: order, parameters, what is recorded, failures, resuming."""

import ast
import json
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from notebook_functions import NOTEBOOKS, printed
from refusals import refused

from xaikit.files import store
from xaikit.files.paths import run_folder, runs_folder
from xaikit.running import record as run_record, workbook
from xaikit.running.command_line import main
from xaikit.running.committed import refresh
from xaikit.running.notebooks import find_notebooks, parameters_for, read_parameters, with_whole_paths
from xaikit.running.record import read_record, write_record
from xaikit.running.sweep_plan import make_plan
from xaikit.running.workbook import RunFailed, run

PARAMETERS = "run = 'default'  # the run\nn = 2  # scenes\nscale = 1.0  # of the heat"


def test_notebooks_run_in_order_and_share_the_run_folder(tmp_path, notebooks):
    folder = run(tmp_path / "runs" / "toy", {"n": 7, "methods": ("rise", "mmel")})
    assert printed(folder / "01_read.ipynb") == ["read 7 ['rise', 'mmel']\n"]
    files = sorted(path.name for path in folder.glob("[!.]*"))
    assert files == ["00_store.ipynb", "01_read.ipynb", "run.json", "store"]
    record = json.loads((folder / "run.json").read_text())
    assert (record["run"], record["seed"], record["parameters"]) == ("toy", 5, {"n": 7, "methods": ["rise", "mmel"]})
    assert set(record["versions"]) == {"xaikit", "torch", "open_clip_torch", "numpy", "xarray"}
    first, second = record["notebooks"].values()
    assert first["status"] == second["status"] == "done"
    assert first["parameters"] == {"n": 7, "run": "toy"}
    assert first["seconds"] > 0 and first["finished"] <= second["started"]
    assert not (notebooks / "store").exists() and not (runs_folder() / "toy").exists()


def test_a_failing_notebook_is_kept_and_recorded_and_ends_the_run(tmp_path, notebooks, write_notebook, capsys):
    write_notebook(notebooks / "00_store.ipynb", PARAMETERS, "print('so far')", "raise ValueError('no\\nway')")
    folder = tmp_path / "toy"
    assert main(["run", "--out", str(folder)]) == 1
    problem = capsys.readouterr().err
    assert problem.startswith("xaikit: 00_store failed, ValueError: no at In [4] (see ") and problem.count("\n") == 1
    assert problem.endswith("done: none; not run: 01_read\n")
    assert "so far\n" in printed(folder / "00_store.part.ipynb")
    assert not (folder / "00_store.ipynb").exists()
    entries = read_record(folder)["notebooks"]
    assert entries["00_store"]["status"] == "failed" and "ValueError: no" in entries["00_store"]["reason"]
    assert entries["01_read"] == {"status": "not run"}


def test_refresh_stores_clean_outputs_twice_the_same_and_leaves_runs_alone(notebooks):
    assert refresh(["01"]) == [notebooks / "01_read.ipynb"]
    once = (notebooks / "01_read.ipynb").read_bytes()
    assert printed(notebooks / "00_store.ipynb") == []
    assert printed(notebooks / "01_read.ipynb") == ["read 2 ['a']\n"]
    assert [cell.get("execution_count") for cell in nbformat.read(notebooks / "01_read.ipynb", 4).cells] == [None, 1, 2]
    refresh(["01"])
    assert (notebooks / "01_read.ipynb").read_bytes() == once
    assert not run_folder("default", create=False).exists()


def test_each_notebook_gets_the_parameters_it_declares(tmp_path, executed):
    run(tmp_path / "toy", {"n": 3, "scale": 2, "blocks": None})
    assert executed == [
        ("00_store", {"n": 3, "scale": 2, "run": "toy"}),
        ("01_read", {"n": 3, "blocks": None, "run": "toy"}),
    ]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("blocks", 2, "parameter blocks has no effect here: of the notebooks only 01_read has it"),
        ("m", 3, "no notebook has a parameter m .*known: blocks, methods, n, scale, seed"),
        ("seeds", 3, "did you mean seed?"),
        ("n", "3", "parameter n is of type int, as in n = 2 .scenes., but was given '3'"),
        ("n", 3.0, "type int"),
        ("n", True, "type int"),
        ("n", None, "type int"),
        ("methods", "mmel", "type list"),
        ("n", 0, "n=0: a whole number of at least 1 is needed"),
        ("methods", ["mmell"], "methods=.mmell.: "),
        ("scale", {1}, "type float"),
        ("run", "mine", "set with --out"),
    ],
)
def test_a_wrong_parameter_is_an_error_before_any_work(tmp_path, executed, name, value, problem):
    refused(problem, run, tmp_path / "toy", {name: value}, only=["00"] if name == "blocks" else None)
    assert executed == [] and not (tmp_path / "toy").exists()


def test_parameters_are_read_with_their_meaning():
    (name,) = read_parameters('text = "# no comment"  # what it is: "é" #1').values()
    assert (name.default, name.meaning) == ("# no comment", 'what it is: "é" #1')
    for bad in ("import os", "a = b", "a = b = 1", "a, b = 1, 2", "a += 1", "a: int = 1"):
        refused("only 'name = literal  # meaning'", read_parameters, bad)


def test_only_runs_what_was_named_and_keeps_what_is_known_of_the_others(tmp_path, executed):
    folder = run(tmp_path / "toy")
    before = read_record(folder)["notebooks"]
    run(folder, {"n": 9}, only=["01"])
    after = read_record(folder)["notebooks"]
    assert [name for name, _ in executed] == ["00_store", "01_read", "01_read"]
    assert after["00_store"] == before["00_store"] and after["01_read"]["parameters"]["n"] == 9
    refused("there is no notebook '05': choose from 00_store, 01_read", run, folder, only=["05"])


def test_notebooks_are_named_by_number_and_letter_but_unfinished_ones_never(notebooks, write_notebook, tmp_path):
    write_notebook(notebooks / "00b_more.ipynb", "run = 'default'  # the run\nn = 2  # scenes", "n", reads=["store"])
    (notebooks / "00_store.part.ipynb").touch()
    for only, names in {
        None: ["00_store", "00b_more", "01_read"], ("00-01",): ["00_store", "00b_more", "01_read"], ("00",): ["00_store"],
        ("00b",): ["00b_more"], ("00b_more",): ["00b_more"], ("01_read.ipynb",): ["01_read"],
        ("00,00b",): ["00_store", "00b_more"], ("00,01",): ["00_store", "01_read"], ("00", "01"): ["00_store", "01_read"],
    }.items():  # fmt: skip
        assert [*find_notebooks(only)] == names
    refused("there is no notebook '01b'", find_notebooks, ["01b"])
    with pytest.raises(FileNotFoundError, match="no numbered notebook"):
        find_notebooks(folder=tmp_path)


def test_resume_skips_what_is_done_and_says_so(tmp_path, executed, capsys):
    executed.bad = ["01_read"]
    with pytest.raises(RunFailed, match="01_read failed, RuntimeError: no kernel .*; done: 00_store; not run: none"):
        run(tmp_path / "toy")
    executed.bad = []
    executed.clear()
    folder = run(tmp_path / "toy", resume=True)
    assert [name for name, _ in executed] == ["01_read"]
    assert "00_store: skipped, done at 20" in capsys.readouterr().out
    assert {entry["status"] for entry in read_record(folder)["notebooks"].values()} == {"done"}
    run(folder, resume=True)
    assert len(executed) == 1
    run(folder)  # a rerun runs everything again
    assert [name for name, _ in executed[1:]] == ["00_store", "01_read"]


def test_what_would_follow_a_failure_no_longer_counts_as_done(tmp_path, executed):
    folder = run(tmp_path / "toy")
    executed.bad = ["00_store"]
    with pytest.raises(RunFailed, match="done: none; not run: 01_read"):
        run(folder, {"n": 9}, resume=True)
    assert read_record(folder)["notebooks"]["01_read"] == {"status": "not run"}


@pytest.mark.parametrize("change", ["parameter", "code", "lost", "lost store", "earlier"])
def test_resume_runs_again_what_has_changed_and_all_that_follows(tmp_path, executed, notebooks, write_notebook, change):
    folder = run(tmp_path / "toy")
    if change == "code":
        write_notebook(notebooks / "00_store.ipynb", PARAMETERS, "print(1)", stores=["store"])
    if change == "lost":
        (folder / "00_store.ipynb").unlink()
    if change == "lost store":
        record = read_record(folder)
        record["notebooks"]["00_store"]["stores"] = {"inputs.nc": "0" * 64}
        write_record(folder, record)
    if change == "earlier":
        run(folder, only=["00"])
    executed.clear()
    run(folder, {"scale": 3.0} if change == "parameter" else {}, resume=True)
    assert [name for name, _ in executed] == (["01_read"] if change == "earlier" else ["00_store", "01_read"])


def test_an_interrupted_run_says_so(tmp_path, executed, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workbook, "execute", interrupt)
    assert main(["run", "--out", str(tmp_path / "toy")]) == 1
    assert read_record(tmp_path / "toy")["notebooks"]["00_store"]["reason"] == "interrupted"


def test_notebooks_that_need_one_another_wait_and_others_run_beside_them(tmp_path, notebooks, write_notebook, capsys):
    say = "import os\nprint('threads', os.environ['OMP_NUM_THREADS'])"
    write_notebook(notebooks / "02_alone.ipynb", PARAMETERS, say)
    folder = run(tmp_path / "toy", {"n": 7}, workers=2)
    entries = read_record(folder)["notebooks"]
    assert entries["02_alone"]["started"] < entries["00_store"]["finished"] <= entries["01_read"]["started"]
    assert printed(folder / "01_read.ipynb") == ["read 7 ['a']\n"]
    assert "threads " in printed(folder / "02_alone.ipynb")[0]
    assert capsys.readouterr().out.startswith("00_store: running\n02_alone: running\n")
    run(folder, {"n": 7}, workers=2, resume=True)
    assert capsys.readouterr().out.count(": skipped, done at ") == 3


def test_a_run_that_is_interrupted_ends_its_kernels(tmp_path, write_notebook):
    folder = tmp_path / "slow"
    for name in ("00_a", "01_b"):
        write_notebook(folder / f"{name}.ipynb", PARAMETERS, "import time\ntime.sleep(600)")
    code = "import signal, sys; from pathlib import Path; from xaikit.running import run\n"
    code += (
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which tests in the background inherit ignored
    )
    code += "run(sys.argv[1], notebooks=Path(sys.argv[2]), workers=2)"
    command = [sys.executable, "-c", code, str(tmp_path / "toy"), str(folder)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts = [tmp_path / "toy" / f"{name}.part.ipynb" for name in ("00_a", "01_b")]
    while not all(part.exists() and '"status": "running"' in part.read_text() for part in parts):
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    running.wait(timeout=60)
    entries = read_record(tmp_path / "toy")["notebooks"]
    assert {(entry["status"], entry["reason"]) for entry in entries.values()} == {("failed", "interrupted")}


def test_a_killed_run_is_not_taken_for_a_running_one(tmp_path, executed):
    folder = run(tmp_path / "toy")
    record = read_record(folder)
    record["notebooks"]["00_store"]["status"] = "running"
    write_record(folder, record)
    run(folder, only=["01"])
    assert read_record(folder)["notebooks"]["00_store"] == {"status": "not run"}


def test_a_run_has_a_plain_name():
    for name in ("", "..", "a/b", "/tmp"):
        refused("plain name", run_folder, name)


def test_a_stamp_changes_with_all_that_results_depend_on(tmp_path, write_notebook, monkeypatch):
    monkeypatch.setattr(run_record, "data_folder", lambda: tmp_path / "data")
    for name in ("data/tiny/model.safetensors", "other.safetensors", "co#co/annotations/captions.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("weights")
    notebook = write_notebook(tmp_path / "00_toy.ipynb", "n = 1  # a number", "print(n)")
    given = {"pretrained": str(tmp_path / "other.safetensors"), "coco": f"coco:{tmp_path / 'co#co'}#val2017"}

    def stamped(**more):
        return run_record.stamp(notebook, given | more, {"00": "earlier"})

    seen = {stamped(), stamped()}
    assert len(seen) == 1
    seen |= {stamped(n=2), run_record.stamp(notebook, given, {"00": "later"})}
    for changed in ("data/tiny/model.safetensors", "other.safetensors", "co#co/annotations/captions.json"):
        (tmp_path / changed).write_text("other")
        seen.add(stamped())
    write_notebook(notebook, "n = 1  # a number", "print(n + 1)")
    seen.add(stamped())
    monkeypatch.setattr(run_record, "code_digest", lambda: "other code")
    assert len(seen | {stamped()}) == 8


def test_files_named_from_the_working_folder_are_found_by_the_kernel(tmp_path, executed, monkeypatch):
    (tmp_path / "w.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    named = with_whole_paths(
        {"pretrained": "w.safetensors", "model": f"local-dir:{tmp_path.name}", "prompt": "look: w.safetensors", "n": 3}
    )
    as_given = {"model": f"local-dir:{tmp_path.name}", "prompt": "look: w.safetensors", "n": 3}
    assert named == {"pretrained": str(tmp_path / "w.safetensors"), **as_given}
    monkeypatch.chdir(tmp_path.parent)
    assert with_whole_paths({"coco": f"coco:{tmp_path.name}#val"})["coco"] == f"coco:{tmp_path}#val"
    (tmp_path.parent / "planted").mkdir(exist_ok=True)
    assert with_whole_paths({"data": "planted"}) == {"data": "planted"}  # which is no folder's name
    refused("there is no folder none", with_whole_paths, {"winoground": "winoground:none"})


def test_a_time_limit_is_a_number_of_seconds(tmp_path, executed):
    for limit in (0, -5, float("inf"), float("nan")):
        refused("a number of seconds above 0 is needed", run, tmp_path / "toy", limit=limit)
    assert executed == []


def test_renaming_a_notebook_breaks_nothing(tmp_path, executed, monkeypatch):
    folder = tmp_path / "checkout" / "notebooks"
    shutil.copytree(NOTEBOOKS, folder)
    (folder / "02_grad_eclip.ipynb").rename(folder / "12_gradients.ipynb")
    order = list(find_notebooks(folder=folder))
    assert order.index("12_gradients") < order.index("03_mmel") and len(order) == len(find_notebooks(folder=NOTEBOOKS))
    plan = make_plan([{"seed": 1}], tmp_path / "sweep", ["03"], folder)
    assert [row.name for row in plan.rows] == ["00_planted_scenes", "12_gradients", "03_mmel"]
    assert [need.name for need in plan.rows[2].needs] == ["00_planted_scenes", "12_gradients"]
    record = read_record(run(tmp_path / "toy", notebooks=folder))["notebooks"]
    assert [name for name, _ in executed] == order == [name for name in record if record[name]["status"] == "done"]
    monkeypatch.setattr(store, "CHECKOUT", folder.parent)
    with pytest.raises(FileNotFoundError, match="no store 'grad_eclip' yet: run notebook 12_gradients first"):
        store.open_store("none-yet", "grad_eclip")


def test_notebooks_that_read_from_one_another_in_a_circle_are_refused(notebooks, write_notebook):
    write_notebook(notebooks / "00_store.ipynb", PARAMETERS, stores=["store"], reads=["more"])
    write_notebook(notebooks / "01_read.ipynb", PARAMETERS, stores=["more"], reads=["store"])
    refused("each of these notebooks reads what the next one stores: .*0[01]_", find_notebooks)


def test_a_notebook_that_says_nothing_of_stores_comes_after_all_before_it(notebooks, write_notebook):
    silent = nbformat.read(write_notebook(notebooks / "02_silent.ipynb", PARAMETERS), 4)
    del silent.metadata["xaikit"]
    nbformat.write(silent, notebooks / "02_silent.ipynb")
    rows = make_plan([{}], notebooks / "out", ["02"]).rows
    assert [row.name for row in rows] == ["00_store", "01_read", "02_silent"]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_committed_notebook_declares_the_stores_that_its_code_names(path):
    notebook = find_notebooks()[path.stem]
    code = TransformerManager().transform_cell("\n".join(notebook.code))
    inputs = (
        None if "inputs" in notebook.stores else notebook.reads
    )  # notebook 00 draws them, or takes them from elsewhere
    names = {"save_store": (2, notebook.stores), "open_store": (1, notebook.reads), "open_inputs": (None, inputs)}
    for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
        place, declared = names.get(getattr(call.func, "attr", ""), (None, None))
        anew = place is None and call.args and getattr(call.args[0], "value", "") is None  # scenes of no run
        if declared is not None and not anew:  # a name that is no plain text isn't looked at
            name = "inputs" if place is None else getattr(call.args[place], "value", None)
            assert not isinstance(name, str) or name in declared


def test_a_value_is_checked_against_the_notebooks_that_run(tmp_path):
    """All samples of a dataset, as the README has it: notebook 00 takes a number alone."""
    known = find_notebooks(folder=NOTEBOOKS)
    given = {"n": None, "coco": f"coco:{tmp_path}"}
    assert parameters_for(given, known, ["08_protocols"]) == {"08_protocols": given}
    refused("parameter n is of type int", parameters_for, given, known)
