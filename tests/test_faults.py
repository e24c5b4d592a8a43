"""Whatever kills, fills or forbids: what was stored stays whole, and doing it again gives what would have been without."""

import os
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from notebook_functions import printed

import xaikit as xk
from xaikit.files import store
from xaikit.files.paths import leftovers, replacing
from xaikit.running import record as run_lock, workbook
from xaikit.running.command_line import main
from xaikit.running.record import read_record, write_record
from xaikit.running.status import entries
from xaikit.running.sweeping import ALLOWED_DEATHS, SweepFailed, sweep

RUN = "run = 'default'  # the run\n"
SWEEP = """
import sys
from pathlib import Path
from xaikit.running import sweep
sweep(sys.argv[1], [{"seed": 3}], workers=2, notebooks=Path(sys.argv[2]))
"""


@pytest.fixture
def drawing(notebooks_here, write_notebook):
    """Notebook 00 draws and stores scenes, 01 explains nothing but stores them twice."""
    draw = "import xaikit as xk\nxk.save_store(xk.draw_scenes(20, seed), run, 'inputs').name"
    write_notebook(notebooks_here / "00_draw.ipynb", RUN + "seed = 0  # of the scenes", draw, stores=["inputs"])
    read = "import xaikit as xk\nfor name in ('tape', 'mllm'):\n    xk.save_store(xk.open_inputs(run), run, name, 'inputs')"
    write_notebook(notebooks_here / "01_read.ipynb", RUN, read, stores=["tape", "mllm"], reads=["inputs"])
    return notebooks_here


def start(out, notebooks):
    return subprocess.Popen([sys.executable, "-c", SWEEP, str(out), str(notebooks)], stdout=subprocess.DEVNULL)


def stores(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.nc")}


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_runners_and_workers_killed_again_and_again_give_what_undisturbed_ones_do(tmp_path, drawing, kills):
    began = time.monotonic()
    assert start(tmp_path / "quiet", drawing).wait() == 0
    wanted, seconds = stores(tmp_path / "quiet"), time.monotonic() - began
    assert len(wanted) == 3
    out, draws, killed = tmp_path / "disturbed", random.Random(0), {"runner": 0, "worker": 0}
    while sum(killed.values()) < kills or not all(killed.values()):
        runner, deaths, began = start(out, drawing), 0, time.monotonic()
        while runner.returncode is None:
            try:
                runner.wait(draws.uniform(0.05, 0.6) * seconds)
            except subprocess.TimeoutExpired:
                workers = _workers(runner) if deaths < ALLOWED_DEATHS else []
                due = not killed["worker"] or (killed["runner"] and draws.random() < 0.6)  # each at least once
                which = "worker" if workers and due else "runner"
                (draws.choice(workers) if which == "worker" else runner).kill()
                deaths += which == "worker"
                killed[which] += 1
                if which == "runner":
                    runner.wait()
                assert stores(out).items() <= wanted.items()  # nothing half-written, nothing else
        if runner.returncode == 0:
            assert stores(out) == wanted
            shutil.rmtree(out)
            seconds = min(seconds, time.monotonic() - began)  # the machine may be faster by now
    assert start(out, drawing).wait() == 0
    assert stores(out) == wanted
    assert main(["check", str(out)]) == 0


def _workers(runner):
    try:
        return [c for c in psutil.Process(runner.pid).children() if "spawn_main" in " ".join(c.cmdline())]
    except psutil.NoSuchProcess:
        return []


def test_a_store_is_the_old_one_or_the_new_one_whenever_its_writer_is_killed(tmp_path):
    code = (
        "import sys, numpy as np; from pathlib import Path; from xaikit.files import store; import xaikit as xk\n"
        "both = [xk.draw_scenes(60, seed) for seed in (0, 1)]; print('go', flush=True)\n"
        "while True:\n    for ds in both: store.write(ds, Path(sys.argv[1]), 'inputs')"
    )
    path, delays = tmp_path / "inputs.nc", random.Random(2)
    both = [xk.draw_scenes(60, seed) for seed in (0, 1)]
    writer, seen = None, set()
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"go\n"
        while not path.exists() and writer.poll() is None:  # the first time
            time.sleep(0.01)
        for _ in range(5):  # stopped and looked at in the midst of its work, then killed
            time.sleep(delays.uniform(0.0, 0.2))
            psutil.Process(writer.pid).suspend()
            if path.exists():
                found = store.read(path, "inputs")
                seen.add(next(seed for seed, ds in enumerate(both) if ds.identical(found)))
            psutil.Process(writer.pid).resume()
        writer.kill()
        writer.wait()
        writer.stdout.close()
    assert seen


def test_the_next_run_clears_away_what_was_half_written_and_nothing_else(tmp_path):
    left = tmp_path / f".sub.nc.{'0a' * 16}.part"  # as a killed process leaves it
    with replacing(tmp_path / "sub.nc") as temporary:
        assert len(temporary.name) == len(left.name) and leftovers(tmp_path) == []
        temporary.touch()
        assert leftovers(tmp_path) == [temporary]
    left.touch()
    other = tmp_path / ".film.mp4.part"
    other.touch()
    assert left.exists()
    with run_lock.hold(tmp_path):
        assert not left.exists() and other.exists()


def test_a_folder_in_one_that_is_in_use_or_around_it_is_refused(tmp_path):
    for one, other in ((tmp_path / "a", tmp_path / "a" / "b"), (tmp_path / "c" / "d", tmp_path / "c")):
        with run_lock.hold(one), pytest.raises(run_lock.FolderInUse, match=f"{one} is in use"), run_lock.hold(other):
            pass


def test_a_kernel_that_dies_is_a_failed_row_and_is_retried(tmp_path, notebooks_here, write_notebook):
    once = f"from pathlib import Path\nflag = Path({str(tmp_path / 'killed')!r})\nif not flag.exists():\n    flag.touch()\n"
    write_notebook(notebooks_here / "00_die.ipynb", RUN, once + "    import os\n    os.kill(os.getpid(), 9)")
    with pytest.raises(SweepFailed, match="00_die: DeadKernelError: Kernel died"):
        sweep(tmp_path / "out", [{}], workers=1)
    sweep(tmp_path / "out", [{}], workers=1, failed_only=True)
    assert [entry["status"] for _, entry in entries(tmp_path / "out")] == ["done"]


def test_a_notebook_past_its_time_limit_is_stopped_and_reported(tmp_path, notebooks_here, write_notebook, capsys):
    hang = ("print('so far')", "import time\ntime.sleep(0.1)", "while True:\n    time.sleep(1)")
    write_notebook(notebooks_here / "00_hang.ipynb", RUN, *hang)
    write_notebook(notebooks_here / "01_fine.ipynb", RUN, "print('fine')")
    began, out = time.monotonic(), tmp_path / "out"
    assert main(["sweep", "--out", str(out), "--only", "00-01", "--time-limit", "8", "--workers", "1"]) == 1
    assert "00_hang: stopped at its time limit of 8.0 s" in capsys.readouterr().err
    assert time.monotonic() - began < 60
    assert "so far\n" in printed(out / "run" / "00_hang.part.ipynb")
    assert (out / "run" / "01_fine.ipynb").exists()
    assert not [c for c in psutil.Process().children(recursive=True) if "ipykernel" in " ".join(c.cmdline())]
    assert main(["run", "--out", str(tmp_path / "one"), "--time-limit", "6", "--only", "00"]) == 1
    assert "00_hang failed, stopped at its time limit of 6.0 s" in capsys.readouterr().err


def test_two_runs_into_one_folder_the_second_is_refused(tmp_path, executed, capsys):
    folder = workbook.run(tmp_path / "toy")
    before = read_record(folder)
    with run_lock.hold(folder):
        for command in ("run", "sweep"):
            assert main([command, "--out", str(folder), "--only", "00"]) == 2
            said = capsys.readouterr().err
            assert f"toy is in use by process {os.getpid()} on " in said and said.count("\n") == 1
        assert run_lock.is_held(folder)
    assert read_record(folder) == before and not run_lock.is_held(folder)
    workbook.run(folder)


def test_a_lock_is_free_again_when_its_process_was_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from xaikit.running.record import hold\n"
        "with hold(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    assert run_lock.is_held(tmp_path)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert not run_lock.is_held(tmp_path)
    with run_lock.hold(tmp_path):
        pass


@pytest.fixture
def full_disk(tmp_path):
    """A disk of its own of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noise(n):
    scenes = xk.draw_scenes(n, seed=0)
    return scenes.assign(
        image=scenes.image.copy(data=np.random.default_rng(0).integers(0, 256, scenes.image.shape, np.uint8))
    )


def test_a_full_disk_is_said_and_what_was_there_stays(full_disk):
    store.write(noise(10), full_disk / "inputs.nc", "inputs")
    before = stores(full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        store.write(noise(400), full_disk / "inputs.nc", "inputs")
    assert stores(full_disk) == before and [path.name for path in full_disk.iterdir()] == ["inputs.nc"]


def test_a_run_on_a_full_disk_fails_in_one_sentence(full_disk, notebooks_here, write_notebook, capsys):
    draw = "import xaikit as xk\nxk.save_store(xk.draw_scenes(n, 0), run, 'inputs').name"
    fill = "from xaikit.files.paths import run_folder\n(run_folder(run) / 'junk').write_bytes(bytes(4_000_000))"
    write_notebook(notebooks_here / "00_draw.ipynb", RUN + "n = 4  # scenes", draw, stores=["inputs"])
    write_notebook(notebooks_here / "01_fill.ipynb", RUN, fill, reads=["inputs"])
    for command in ("run", "sweep"):
        out = full_disk / command
        assert main([command, "--out", str(out), "--only", "00-01"]) == 1
        assert "No space left on device" in capsys.readouterr().err
        assert len(stores(out)) == 1
        for path in full_disk.rglob("junk"):
            path.unlink()
        assert main(["check", str(out)]) == 0


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_folder_that_cant_be_written_is_said_before_any_work(tmp_path, command):
    folder = tmp_path / "closed"
    folder.mkdir()
    store.write(xk.draw_scenes(2), folder / "inputs.nc", "inputs")
    before = stores(folder)
    folder.chmod(0o555)
    less = ["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    as_others = ["setpriv", *less] if os.geteuid() == 0 else []  # nothing is read-only to root
    done = subprocess.run(
        [*as_others, sys.executable, "-m", "xaikit", command, "--out", str(folder), "--only", "01"],
        capture_output=True, text=True,
    )  # fmt: skip
    folder.chmod(0o755)
    assert done.returncode == 2 and "Permission denied" in done.stderr and done.stderr.count("\n") == 1
    assert "running" not in done.stdout and stores(folder) == before


def test_check_finds_what_was_changed_damaged_lost_or_left(tmp_path, executed, capsys):
    folder = workbook.run(tmp_path / "toy")
    store.write(xk.draw_scenes(3), folder / "inputs.nc", "inputs")
    store.write(xk.draw_scenes(4), folder / "sub" / "000000.nc", "inputs")
    capsys.readouterr()
    assert main(["check", str(folder)]) == 0
    assert capsys.readouterr().out == "2 stores checked: no problems\n"
    ds = store.read(folder / "inputs.nc", "inputs")
    changed = ds.assign(mark=~ds.mark.assign_attrs(ds.mark.attrs)).assign_attrs(
        content_digest=store.digest_in(folder / "inputs.nc")
    )
    changed["mark"].attrs = ds.mark.attrs
    changed.to_netcdf(folder / "inputs.nc", engine="h5netcdf")
    whole = (folder / "sub" / "000000.nc").read_bytes()
    (folder / "sub" / "000000.nc").write_bytes(whole[: len(whole) // 2])
    (folder / "sub" / f".x.nc.{'0a' * 16}.part").write_bytes(b"")
    record = read_record(folder)
    record["notebooks"]["00_store"]["stores"] = {"tape.nc": "0" * 64}
    write_record(folder, record)
    assert main(["check", str(folder)]) == 1
    *problems, last = capsys.readouterr().out.splitlines()
    assert last == "2 stores checked: 4 problems"
    lost = "tape.nc is missing: 00_store wrote it"
    wrong = ("its digest differs", "can't be read as a store", lost, "left half-written")
    assert all(sum(problem in line for line in problems) == 1 for problem in wrong)
