"""What batches cost: a sweep with one worker and with two, and Grad-ECLIP over more and more scenes, in shards.

Prints ratios of times measured side by side in one run, and the largest memory of a worker.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from xaikit.running.sweep_plan import rows_of
from xaikit.running.sweeping import sweep

SHARDS = 4
SMALL = ("n=8", "n_test=64", "measured_n=16", "compared_n=12", "faithful_n=10", "suite_n=4", "perturbations=64")
ONE_SHARD = """
import sys
import xaikit as xk
n, shard, folder = sys.argv[1:]
xk.explain_source("grad_eclip", xk.load_clip("tiny-clip"), xk.open_source("planted", int(n)), folder, shard=shard)
"""


def time_sweep(workers: int, choices: list[str], only: list[str]) -> float:
    """Seconds that a sweep takes in a fresh folder."""
    folder = Path(tempfile.mkdtemp(prefix="xaikit-benchmark-"))
    began = time.perf_counter()
    sweep(folder / "sweep", rows_of(None, choices), only, workers=workers)
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return seconds


def time_shards(n: int) -> float:
    """Seconds that n scenes take in shards, two at a time, beyond what importing and loading takes."""
    with tempfile.TemporaryDirectory(prefix="xaikit-benchmark-") as folder:
        began = time.perf_counter()
        waiting = [f"{share}/{SHARDS}" for share in range(1, SHARDS + 1)]
        while waiting:
            two, waiting = waiting[:2], waiting[2:]
            started = [subprocess.Popen([sys.executable, "-c", ONE_SHARD, str(n), shard, folder]) for shard in two]
            if any([process.wait() for process in started]):
                raise RuntimeError(f"a shard of {n} scenes failed")
        return time.perf_counter() - began


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", nargs="+", type=int, default=[2500, 5000, 10_000])
    parser.add_argument("--only", nargs="+", default=["01-06"], help="notebooks of the sweep (%(default)s)")
    parser.add_argument("-p", dest="choices", action="append", help="parameters of the sweep")
    parser.add_argument("--part", choices=["sweep", "shards"], help="only one of the two")
    options = parser.parse_args()
    if options.part != "sweep":
        base = min(time_shards(32 * SHARDS) for _ in range(2))  # the first one may find cold files
        rows = [(n, time_shards(n) - base) for n in options.scenes]
        for n, seconds in rows:
            print(
                f"{n:6} scenes: {seconds:7.1f} s, {seconds / n / (rows[0][1] / rows[0][0]):.2f} of the first's time a scene"
            )
        print(f"largest memory of a worker: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB")
    if options.part != "shards":
        choices = options.choices or ["model=tiny-clip,tiny-clip-shortcut", "seed=0..2", *SMALL]
        took = {workers: time_sweep(workers, choices, options.only) for workers in (2, 1)}
        print(
            f"sweep: {took[2]:.0f} s with two workers, {took[1]:.0f} s with one: {took[1] / took[2]:.2f} times faster"
        )


if __name__ == "__main__":
    main()
