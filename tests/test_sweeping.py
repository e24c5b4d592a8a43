"""Sweeps on Dask: what is executed, skipped, copied, given up, retried and reported. With kernels and workers that are
processes, and what may happen to them, they stand in test_faults."""

import json
import shutil

import nbformat
import pytest
from notebook_functions import printed
from refusals import refused

import xaikit as xk
from xaikit.files import store
from xaikit.running import record as run_record, sweeping, workbook
from xaikit.running.command_line import main
from xaikit.running.record import hold, read_record, write_record
from xaikit.running.status import entries, report, seconds_left
from xaikit.running.sweep_plan import make_plan
from xaikit.running.sweeping import SweepFailed, sweep

pytestmark = pytest.mark.usefixtures("without_kernels")
RUN = "run = 'default'  # the run\n"
DRAW = RUN + "n = 4  # scenes\nseed = 0  # of the scenes\nmodel = 'tiny-clip'  # a model"
READ = RUN + "model = 'tiny-clip'  # a model\nfail = False  # raise an error"
ALONE = RUN + "seed = 0  # of the scenes"
SHARED = ALONE + "\nshard = None  # 'i/k', None for all"
OPEN = "import xaikit as xk\nscenes = xk.open_inputs(run)"


@pytest.fixture
def notebooks(notebooks_here, write_notebook):
    """00 draws and stores scenes, 01 reads and stores them, 05 reads nothing of the others."""
    folder = notebooks_here
    save = "xk.save_store(xk.draw_scenes(n, seed), run, 'inputs').name"
    write_notebook(folder / "00_draw.ipynb", DRAW, "import xaikit as xk", save, stores=["inputs"])
    check = "if fail:\n    raise ValueError('asked to')"
    store = "xk.save_store(scenes, run, 'tape', 'inputs').name"
    write_notebook(folder / "01_read.ipynb", READ, OPEN, check, store, stores=["tape"], reads=["inputs"])
    write_notebook(folder / "05_alone.ipynb", ALONE, "print('seed', seed)")
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs" / "sweep"


@pytest.fixture
def swept(notebooks, out):
    """A function that sweeps into ``out`` and returns the lines of progress."""

    def swept(table, only=None, workers=1, **more):
        lines = []
        assert sweep(out, table, only, workers, say=lines.append, **more) == out
        return lines

    return swept


def executed(lines):
    """The rows of which the lines of progress say that they were executed."""
    return [line.split("]")[1].split(":")[0].strip() for line in lines if line.startswith("[")]


def names(folder):
    return sorted(path.name for path in folder.glob("[!.]*"))


def test_each_row_has_a_run_of_its_own_and_nothing_is_computed_twice(swept, out, capsys):
    table = [{"model": model, "seed": seed} for model in ("tiny-clip", "tiny-clip-shortcut") for seed in (0, 1)]
    lines = swept(table, workers=2)
    folders = [f"model={row['model']},seed={row['seed']}" for row in table]
    assert names(out) == sorted([*folders, "sweep.json"])
    for folder in folders:
        assert names(out / folder) == [
            "00_draw.ipynb", "01_read.ipynb", "05_alone.ipynb", "inputs.nc", "run.json", "tape.nc",
        ]  # fmt: skip
        assert {entry["status"] for entry in read_record(out / folder)["notebooks"].values()} == {"done"}
    # 05 has no model: the second model's rows are those of the first
    same = [entry.get("same_as") for row, entry in entries(out) if row.name == "05_alone"]
    assert same == [None, None, f"{folders[0]} 05_alone", f"{folders[1]} 05_alone"]
    assert printed(out / folders[3] / "05_alone.ipynb") == ["seed 1\n"]
    assert lines[-1] == "sweep: 12 rows: 12 done, 0 failed, 0 running, 0 not run" and len(lines) == 12

    before = {path: path.read_bytes() for path in out.rglob("*.nc")}
    lines = swept(table, workers=2)
    assert lines[0] == "12 of 12 rows are done already, with the same code and parameters" and len(lines) == 2
    assert {path: path.read_bytes() for path in before} == before
    assert main(["check", str(out)]) == 0
    assert capsys.readouterr().out == "8 stores checked: no problems\n"


def test_what_changed_is_executed_again_and_nothing_else(notebooks, swept, out, write_notebook):
    table, only = [{"seed": 0}, {"seed": 1}], ["00", "01"]
    swept(table, only, workers=2)
    less = "xk.save_store(scenes[['image', 'caption', 'token_text']], run, 'tape', 'inputs').name"
    write_notebook(notebooks / "01_read.ipynb", READ, OPEN, less, stores=["tape"], reads=["inputs"])
    (out / "seed=1" / "inputs.nc").unlink()  # lost: what made it runs again
    rows = executed(swept([*table, {"seed": 2}], only, workers=2))
    assert sorted(rows) == ["seed=0 01_read", "seed=1 00_draw", "seed=1 01_read", "seed=2 00_draw", "seed=2 01_read"]
    assert "object_mask" not in store.read(out / "seed=0" / "tape.nc", "inputs")


def test_a_store_that_the_new_code_no_longer_writes_goes(notebooks, swept, out, write_notebook):
    save = "import xaikit as xk\nxk.save_store(xk.draw_scenes(2), run, 'tape', 'inputs').name"
    for code, there in ((save, True), ("print('stores nothing any more')", False)):
        write_notebook(notebooks / "01_read.ipynb", RUN, code, stores=["tape"])
        swept([{}], ["01"])
        assert (out / "run" / "tape.nc").exists() == there


def test_a_row_whose_code_was_edited_meanwhile_is_executed_again(notebooks, swept, out, write_notebook):
    edit = f"import nbformat\npath = {str(notebooks / '05_alone.ipynb')!r}\nnb = nbformat.read(path, 4)\n"
    edit += "nb.cells[2].source = 'print(1)'\nnbformat.write(nb, path)"
    write_notebook(notebooks / "05_alone.ipynb", ALONE, edit)
    lines = [*swept([{}], ["05"]), *swept([{}], ["05"])]
    assert printed(out / "run" / "05_alone.ipynb") == ["1\n"] and not any("done already" in line for line in lines)
    assert "1 of 1 rows are done already" in swept([{}], ["05"])[-2]


def test_retrying_after_the_package_was_mended_does_what_the_failed_row_needs_too(swept, out, monkeypatch):
    for code, failed_only in (("broken", False), ("mended", True)):
        monkeypatch.setattr(run_record, "code_digest", lambda code=code: code)
        with pytest.raises(SweepFailed, match="fail=True 01_read: ValueError: asked to"):
            swept([{"fail": True}, {"fail": False}], ["01"], failed_only=failed_only)
    found = {(row.folder, row.name): entry["finished"] for row, entry in entries(out)}
    assert found["fail=True", "00_draw"] > found["fail=False", "01_read"]


def test_a_failed_row_keeps_its_notebook_and_can_be_retried_alone(notebooks, out, write_notebook, capsys):
    last = "import xaikit as xk\nxk.open_store(run, 'tape', 'inputs').sizes['sample']"
    write_notebook(notebooks / "06_last.ipynb", RUN, last, reads=["tape"])
    choices = ["-p", "fail=True,False", "-p", "n=3", "--out", str(out), "--workers", "2"]
    assert main(["sweep", *choices]) == 1
    problem = capsys.readouterr().err.splitlines()
    assert problem[:2] == [
        "fail=True 01_read: ValueError: asked to at In [4]",
        "fail=True 06_last: needs 01_read, which isn't done",
    ]
    assert problem[2].startswith("xaikit: some rows failed") and len(problem) == 3
    kept = nbformat.read(out / "fail=True,n=3" / "01_read.part.ipynb", 4)
    assert any(o.output_type == "error" for cell in kept.cells for o in cell.get("outputs", []))
    assert not (out / "fail=True,n=3" / "01_read.ipynb").exists()
    assert (out / "fail=False,n=3" / "06_last.ipynb").exists() and (out / "fail=True,n=3" / "05_alone.ipynb").exists()
    assert main(["status", str(out)]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "sweep: 8 rows: 6 done, 1 failed, 0 running, 1 not run"
    assert "failed  fail=True 01_read: ValueError: asked to at In [4]" in shown
    held_up = {row.name: entry for row, entry in entries(out) if row.folder == "fail=True,n=3"}["06_last"]
    assert held_up["reason"] == "needs 01_read, which isn't done"

    code = nbformat.read(notebooks / "01_read.ipynb", 4)
    code.cells[3].source = "if fail:\n    print('mended')"
    nbformat.write(code, notebooks / "01_read.ipynb")
    assert main(["sweep", "--retry", "--out", str(out), "--workers", "1"]) == 0
    assert executed(capsys.readouterr().out.splitlines()) == ["fail=True 01_read", "fail=True 06_last"]
    assert "mended\n" in printed(out / "fail=True,n=3" / "01_read.ipynb")


def test_shares_meet_in_one_run_and_are_gathered_when_all_are_done(notebooks, swept, out, write_notebook):
    write_notebook(notebooks / "08_shared.ipynb", SHARED, "print('share', shard, 'of seed', seed)")
    table = [{"shard": f"{share}/3", "seed": 4} for share in (1, 2, 3)]
    swept(table, ["08"])
    shares = [f"08_shared.{share}-of-3.ipynb" for share in (1, 2, 3)]
    assert names(out) == ["seed=4", "sweep.json"] and names(out / "seed=4") == [*shares, "08_shared.ipynb", "run.json"]
    assert printed(out / "seed=4" / shares[1]) == ["share 2/3 of seed 4\n"]
    assert printed(out / "seed=4" / "08_shared.ipynb") == ["share None of seed 4\n"]
    done = read_record(out / "seed=4")["notebooks"]
    assert done["08_shared"]["started"] >= max(done[name.removesuffix(".ipynb")]["finished"] for name in shares)
    plan = make_plan(table[:2], out, ["08"])  # not all shares: nothing to gather
    assert [row.name for row in plan.rows] == [name.removesuffix(".ipynb") for name in shares[:2]]
    assert swept(table, ["08"])[0].startswith("4 of 4 rows are done already")


@pytest.mark.parametrize(
    ("choices", "problem"),
    [
        ({"table": [{"seed": 0}, {"seeds": 1}]}, "row 2 .*: no notebook has a parameter seeds, did you mean seed?"),
        ({"table": [{"seed": 0}, {"seed": "__import__('os')"}]}, "row 2 of the sweep: parameter seed is of type int"),
        ({"table": [{"seed": 0}, {"run": "mine"}]}, "row 2 of the sweep: parameter run can't be given"),
        ({"table": [{"shard": "4/3"}]}, "row 1 of the sweep: shard='4/3': a share such as '3/16' is needed"),
        ({"table": [{"fail": True}], "only": ["05"]}, "parameter fail has no effect here: .* only 01_read has it"),
        ({"workers": 0}, "workers=0: a whole number of at least 1"),
        ({"threads": 0}, "threads=0: a whole number of at least 1"),
        ({"limit": 0}, "limit=0: a number of seconds above 0"),
        ({"limit": float("inf")}, "limit=inf: a number of seconds above 0"),
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:9"}, "a scheduler brings its own workers"),
        ({"table": []}, "the sweep has no row"),
        ({"only": ["09"]}, "there is no notebook '09'"),
    ],
)
def test_bad_choices_are_errors_before_any_work(notebooks, out, write_notebook, choices, problem):
    write_notebook(notebooks / "08_shared.ipynb", SHARED)
    refused(problem, sweep, out, **{"table": [{}], **choices})
    assert not out.exists()


def test_rows_with_paths_get_folders_of_their_own(notebooks, out):
    table = [{"model": "local-dir:a/b"}, {"model": "local-dir:a_b"}, {"model": "../" * 60}]
    folders = {row.folder for row in make_plan(table, out).rows}
    assert len(folders) == 3 and {folder.parent for folder in folders} == {out}
    assert all(len(folder.name) < 140 and not folder.name.startswith(".") for folder in folders)


def test_no_scheduler_there_is_one_sentence(notebooks, out, monkeypatch, capsys):
    monkeypatch.setattr(sweeping, "PATIENCE", 0.5)
    assert main(["sweep", "--out", str(out), "--only", "05", "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err


def test_a_sweep_on_a_scheduler_elsewhere(swept, out):
    from dask.distributed import LocalCluster

    own = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": None}
    with LocalCluster(n_workers=1, **own) as other:
        swept([{"seed": 0}, {"seed": 1}], ["05"], workers=None, scheduler=other.scheduler_address)
    assert printed(out / "seed=1" / "05_alone.ipynb") == ["seed 1\n"]


def test_the_time_left_goes_by_how_long_each_notebook_took(swept, out):
    swept([{"seed": 0}], ["05"])
    rows = entries(out)
    row, entry = rows[0]
    waiting = {"status": "not run"}
    assert seconds_left(rows, 1) is None
    assert seconds_left([*rows, (row, waiting), (row, waiting)], 2) == pytest.approx(entry["seconds"])


def test_a_row_left_running_by_a_killed_sweep_is_told_from_one_that_runs(swept, out):
    swept([{"seed": 0}], ["05"])
    record = read_record(out / "seed=0")
    record["notebooks"]["05_alone"] |= {"status": "running"}
    write_record(out / "seed=0", record)
    assert "no process is working on it" in report(out)[0] and "1 not run" in report(out)[0]
    with hold(out):
        assert "1 running" in report(out)[0]


def test_status_of_a_damaged_sweep_is_one_sentence(out, capsys):
    out.mkdir(parents=True)
    (out / "sweep.json").write_text(json.dumps({"rows": 3}))
    assert main(["status", str(out)]) == 2
    assert "sweep.json can't be read" in capsys.readouterr().err


def test_a_row_keeps_its_folder_when_others_join_the_sweep(notebooks, out):
    alone = make_plan([{"seed": 0, "n": 3}], out).rows[0].folder
    assert alone.name == "seed=0,n=3"
    joined = make_plan([{"n": 3, "seed": 0}, {"seed": 1, "model": "tiny-clip"}], out)
    assert [row.folder for row in joined.rows[::3]] == [alone, out / "model=tiny-clip,seed=1"]


def test_rows_that_met_bad_samples_are_listed_and_retried(notebooks, out, write_notebook, capsys):
    flag = out.parent / "mended"
    save = (
        "from pathlib import Path\nfrom xaikit.samples.parts import save_bad_samples\nfrom xaikit.files.paths import run_folder\n"
        f"bad = {{}} if Path({str(flag)!r}).exists() else {{'7': 'no picture'}}\n"
        "save_bad_samples({'coco': bad}, run_folder(run), shard).name"
    )
    shared = RUN + "shard = None  # 'i/k', None for all"
    write_notebook(notebooks / "08_protocols.ipynb", shared, save, stores=["bad_samples"])
    command = ["sweep", "--out", str(out), "--workers", "1"]
    assert main([*command, "--only", "08", "-p", "shard=*/2"]) == 1
    assert "bad sample 7 of coco in run: no picture" in capsys.readouterr().out
    assert main(["status", str(out)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "bad sample 7 of coco in run: no picture"
    flag.touch()
    assert main([*command, "--retry"]) == 0
    ran = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert ran == [f"[{at}/3] 08_protocols{share}" for at, share in enumerate((".1-of-2", ".2-of-2", ""), start=1)]
    assert main(["status", str(out)]) == 0


def test_a_store_of_all_runs_opens_as_one(swept, out):
    swept([{"seed": 0, "n": 3}, {"seed": 1, "n": 3}], ["00"], workers=2)
    ds = xk.open_sweep(out, "inputs")
    assert ds.sizes["run"] == 2 and ds.seed.values.tolist() == [0, 1] and "n" not in ds.coords
    assert ds.image.chunks is not None  # not read yet
    own = ds.where(ds.seed == 1, drop=True).image.isel(run=0)
    assert (own.values == xk.draw_scenes(3, seed=1).image.values).all()
    with pytest.raises(FileNotFoundError, match="no run of the sweep .* has a store 'claims'"):
        xk.open_sweep(out, "claims")


def test_a_run_and_a_sweep_keep_to_folders_of_their_own(notebooks, out, monkeypatch, capsys):
    monkeypatch.setattr(workbook, "execute", lambda notebook, target, *rest: shutil.copyfile(notebook, target))
    assert main(["run", "--out", str(out)]) == 0
    assert main(["sweep", "--out", str(out), "-p", "seed=1"]) == 2
    assert "holds a run of the workbook, not a sweep" in capsys.readouterr().err
    (out / "run.json").rename(out / "sweep.json")
    assert main(["run", "--out", str(out)]) == 2
    assert "holds a sweep, whose runs are the folders in it" in capsys.readouterr().err


def test_retrying_says_what_was_never_executed(swept):
    swept([{"seed": 0}], ["05"])
    with pytest.raises(SweepFailed, match="1 rows were not executed yet and didn't fail: give the sweep's own command"):
        swept([{"seed": 0}, {"seed": 1}], ["05"], failed_only=True)


def test_a_sweep_of_nothing_is_an_error(out, capsys):
    assert main(["sweep", "--out", str(out)]) == 2
    assert "nothing to sweep: give a table" in capsys.readouterr().err and not out.exists()
