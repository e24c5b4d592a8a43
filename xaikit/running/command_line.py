"""The command ``xaikit``: run the workbook, sweep it over parameters, look at a run and check it, serve the explorer, list
the methods, explain one image.

Exit codes: 0 done, 1 a notebook, a row or a sample failed, 2 bad arguments. What goes wrong is said in one sentence.
"""

import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..files.checks import check_known
from .notebooks import listed_methods, literal

EXIT_CODES = "Exit codes: 0 done; 1 a notebook or a row failed, or samples were bad (both are listed); 2 bad arguments."
NOT_THE_ARGUMENTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    from .workbook import RunFailed

    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except RunFailed as error:
        return _say(error, 1)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return _say(error, 1 if getattr(error, "errno", None) in NOT_THE_ARGUMENTS else 2)
    except KeyboardInterrupt:
        return _say("interrupted", 1)


def _run(options: argparse.Namespace) -> int:
    from .workbook import run

    parameters = dict(map(_given, options.parameters))
    folder = run(
        options.out, parameters, options.only, options.resume, limit=options.time_limit, workers=options.workers
    )
    print(f"done: {folder}")
    return _list_bad_samples(folder)


def _given(words: Sequence[str]) -> tuple[str, object]:
    """Name and value of ``-p NAME VALUE`` or ``-p NAME=VALUE``."""
    name, value = words if len(words) == 2 else " ".join(words).partition("=")[::2]
    if not name.isidentifier() or not value:
        raise ValueError(f"-p {' '.join(words)}: NAME VALUE or NAME=VALUE is needed")
    return name, literal(value)


def _sweep(options: argparse.Namespace) -> int:
    from ..files.paths import runs_folder
    from . import SweepFailed, read_sweep, rows_of, sweep

    only, out = options.only, options.out or runs_folder() / "sweep"
    if options.retry:
        if options.table or options.choices or only:
            raise ValueError(
                "--retry takes rows and notebooks from the sweep in --out: give neither a table, -p nor --only"
            )
        earlier = read_sweep(out)
        rows, only = earlier.table, earlier.only
    else:
        if not (options.table or options.choices or only):
            raise ValueError("nothing to sweep: give a table, parameters with -p NAME=VALUES, or notebooks with --only")
        rows = rows_of(options.table, options.choices)
    try:
        folder = sweep(
            out, rows, only, options.workers, options.scheduler, options.time_limit, options.threads, options.retry
        )
    except SweepFailed as error:
        print(error, file=sys.stderr)
        return _say(
            f"some rows failed; look at their notebooks, then retry them alone: xaikit sweep --retry --out {out}", 1
        )
    print(f"done: {folder}")
    return _list_bad_samples(folder)


def _replicate(options: argparse.Namespace) -> int:
    from . import SweepFailed, replicate

    try:
        print(*replicate(options.out, options.workers, options.time_limit), sep="\n")
    except SweepFailed as error:
        print(error, file=sys.stderr)
        return _say("some rows failed; give the same command again once they are mended, and it goes on", 1)
    return 0


def _status(options: argparse.Namespace) -> int:
    from .status import report

    folder = _folder_of(options.run)
    text, failed = report(folder)
    print(text)
    return max(_list_bad_samples(folder), int(failed))


def _check(options: argparse.Namespace) -> int:
    from .status import check_run

    found = check_run(_folder_of(options.run))
    count = len(found.problems)
    said = f"{found.stores} stores checked: {count or 'no'} problem{'' if count == 1 else 's'}"
    print(*found.problems, said, sep="\n")
    return int(bool(count))


def _folder_of(run: str) -> Path:
    from ..files.paths import run_folder

    if Path(run).is_dir():
        return Path(run)
    kept, here = run_folder(run, create=False), Path("runs", run)  # the latter as ``--out runs/NAME`` makes it
    return here if here.is_dir() and not kept.is_dir() else kept


def _list_bad_samples(folder: Path) -> int:
    """Print the samples that could not be used, and return the exit code that they mean."""
    from ..samples.parts import bad_samples

    found = bad_samples(folder)
    for line in found:
        print(line)
    return int(bool(found))


def _refresh(options: argparse.Namespace) -> int:
    from .committed import refresh

    for path in refresh(options.only):
        print(f"{path.stem}: refreshed")
    return 0


def _app(options: argparse.Namespace) -> int:
    from .committed import serve

    return serve(options.run, dict(map(_given, options.parameters)), options.voila)


def _methods(options: argparse.Namespace) -> int:
    listed = listed_methods()
    width = max(map(len, listed))
    for name, about in listed.items():
        print(f"{name:{width}}  {' and '.join(about['sides']):14}  {about['source']}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    import matplotlib
    from matplotlib.backend_bases import FigureCanvasBase

    from ..files.images import read_image
    from ..files.models import CLIPS, check_clip_name

    out, kinds = options.out, sorted(FigureCanvasBase.get_supported_filetypes())
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: there is no folder {out.parent}")
    if out.suffix[1:].lower() not in kinds:
        raise ValueError(f"--out {out}: a picture's name ends with one of {', '.join(kinds)}")
    check_known("method", options.method, listed_methods())
    check_clip_name(options.model)
    if not options.prompt.strip():  # said before anything is imported that takes seconds
        raise ValueError("the prompt is empty: one of at least one word is needed")
    image = read_image(options.image)

    import xaikit

    from ..plots import overlay

    matplotlib.use("agg")
    clip = xaikit.load_clip(options.model, pretrained=options.pretrained, device=options.device)
    heat = xaikit.explain(options.method, clip, [image], [options.prompt])
    own = options.model in CLIPS or ":" in options.model or options.pretrained is not None
    title = f"{options.prompt!r}: {options.method} of {options.model}{'' if own else ' with random weights'}"
    overlay(clip.seen(image), heat.isel(sample=0), title=title).savefig(out)
    if heat.min() == heat.max():
        print(f"the map is the same everywhere: {options.method} says nothing about this picture and prompt")
    print(out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xaikit", description="Explain vision-language models, in notebooks.", epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable, about: str) -> Callable:
        """Add a command, and return what adds an argument to it."""
        added = commands.add_parser(name, help=about)
        added.set_defaults(command=function)
        return added.add_argument

    # What several of them have
    limit = "seconds that a notebook may take; then it is stopped, and has failed"
    notebooks = {"nargs": "+", "action": "extend", "metavar": "NN"}
    parameter = {"dest": "parameters", "nargs": "+", "action": "append", "default": [], "metavar": "NAME VALUE"}

    add = command("run", _run, "execute the notebooks in order into a run's folder")
    add("--out", metavar="runs/NAME", help="the run's folder (runs/default)")
    add("--only", **notebooks, help="only these notebooks, such as 04 or 01-03")
    add("-p", **parameter, help="a parameter of the notebooks; its value is a Python literal, anything else is text")
    add("--resume", action="store_true", help="skip what is done with the same code, parameters and files")
    add("--workers", type=int, default=1, help="notebooks executed at once (%(default)s)")
    add("--time-limit", type=float, metavar="SECONDS", help=limit)

    add = command(
        "sweep", _sweep, "execute the notebooks with many parameters, on Dask; again, it goes on where it was"
    )
    add("table", nargs="?", type=Path, help="a .csv, .yaml or .yml of rows of parameters")
    add("--out", type=Path, metavar="runs/NAME", help="the sweep's folder (runs/sweep)")
    add("--only", **notebooks, help="these notebooks, such as 01-06, and those whose stores they read")
    about = (
        "values of a parameter, as in -p model=tiny-clip,tiny-clip-shortcut -p seed=0..4 -p 'shard=*/8'; each is"
        " combined with each, and with each row of the table"
    )
    add("-p", dest="choices", action="append", default=[], metavar="NAME=VALUES", help=about)
    add("--workers", type=int, help="processes, each for one notebook at a time (one a core)")
    add("--threads", type=int, default=1, help="of each notebook's computations (%(default)s)")
    add("--scheduler", metavar="tcp://HOST:PORT", help="a Dask scheduler, instead of this machine's cores")
    add("--retry", action="store_true", help="only rows of the sweep in --out that failed or met bad samples")
    add("--time-limit", type=float, metavar="SECONDS", help=limit)

    add = command("replicate", _replicate, "run the ledger for every bundled CLIP, and write its results beside them")
    add("--out", type=Path, metavar="runs/NAME", help="the sweep's folder (runs/replications)")
    add("--workers", type=int, help="processes, each for one notebook at a time (one a core)")
    add("--time-limit", type=float, metavar="SECONDS", help=limit)

    add = command("check", _check, "hold every store of a run against the schema and its digest")
    add("run", metavar="RUN", help="a run's or sweep's name or folder")

    add = command("status", _status, "show how a run or sweep went, or how far it has come")
    add("run", metavar="RUN", help="a run's name or folder")

    add = command("refresh", _refresh, "execute the committed notebooks in place, with their defaults")
    add("--only", **notebooks, help="store only these, such as 04")

    add = command("app", _app, "serve the explorer as a web page")
    add("--run", default="default", metavar="NAME", help="whose scenes and stores are shown (%(default)s)")
    add("-p", **parameter, help="a parameter of the explorer's notebook")
    add("voila", nargs="*", metavar="-- VOILA'S OWN", help="options of Voila, such as -- --port=8866 --no-browser")

    command("methods", _methods, "list the explanation methods")

    add = command("explain", _explain, "draw what a model sees of a prompt in an image")
    add("image", metavar="IMAGE")
    add("prompt", metavar="PROMPT")
    add("--method", default="mmel", help="one of 'xaikit methods' (%(default)s)")
    add("--model", default="tiny-clip", help="bundled, or any that open_clip knows (%(default)s)")
    add("--pretrained", help="open_clip's tag of the weights, or a file")
    add("--device", default="cpu", help="such as cuda (%(default)s)")
    add("--out", type=Path, default=Path("map.png"), help="the picture to write (%(default)s)")
    return parser


def _say(problem: object, code: int) -> int:
    print(f"xaikit: {' '.join(str(problem).split())}", file=sys.stderr)
    return code
