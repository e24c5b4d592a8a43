"""The command ``xaikit``: run the workbook, look at a run, serve the explorer, list the methods, explain one image.

Exit codes: 0 done, 1 a notebook failed, 2 bad arguments. What goes wrong is said in one sentence.
"""

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    from .workbook import RunFailed

    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except RunFailed as error:
        return _say(error, 1)
    except (ValueError, OSError) as error:
        return _say(error, 2)
    except KeyboardInterrupt:
        return _say("interrupted", 1)


def _run(options: argparse.Namespace) -> int:
    from .workbook import run

    parameters = {name: _literal(text) for name, text in options.parameters}
    folder = run(options.out, parameters, options.only, options.resume)
    print(f"done: {folder}")
    return 0


def _status(options: argparse.Namespace) -> int:
    from .paths import run_folder
    from .run_record import Status, read_record, table

    folder = Path(options.run) if Path(options.run).is_dir() else run_folder(options.run, create=False)
    record = read_record(folder)
    print(table(record))
    return int(any(entry["status"] == Status.FAILED for entry in record["notebooks"].values()))


def _refresh(options: argparse.Namespace) -> int:
    from .refreshing import refresh

    for path in refresh(options.only):
        print(f"{path.stem}: refreshed")
    return 0


def _app(options: argparse.Namespace) -> int:
    from .serving import serve

    parameters = {name: _literal(text) for name, text in options.parameters}
    return serve(options.run, parameters, options.voila)


def _methods(options: argparse.Namespace) -> int:
    import xaikit

    listed = xaikit.methods()
    width = max(map(len, listed))
    for name, about in listed.items():
        print(f"{name:{width}}  {' and '.join(about['explains']):14}  {about['source']}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    import matplotlib

    import xaikit
    from xaikit.explainers.registry import find
    from xaikit.images import read_image

    matplotlib.use("agg")
    find(options.method, "image", {})
    _check_picture(options.out)
    image = read_image(options.image)
    clip = xaikit.load_clip(options.model, pretrained=options.pretrained, device=options.device)
    heat = xaikit.explain(options.method, clip, [image], [options.prompt])

    from xaikit.plots import overlay

    overlay(clip.seen(image), heat.isel(sample=0), title=_title(options)).savefig(options.out)
    print(options.out)
    return 0


def _title(options: argparse.Namespace) -> str:
    from xaikit.loading import BUNDLED

    own = options.model in BUNDLED or ":" in options.model or options.pretrained is not None
    return f"{options.prompt!r}: {options.method} of {options.model}{'' if own else ' with random weights'}"


def _check_picture(path: Path) -> None:
    from matplotlib.backend_bases import FigureCanvasBase

    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: there is no folder {path.parent}")
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"--out {path}: a picture's name ends with one of {', '.join(known)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xaikit", description="Explain vision-language models, in notebooks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("run", help="execute the notebooks in order into a run's folder")
    command.set_defaults(command=_run)
    command.add_argument("--out", metavar="runs/NAME", help="the run's folder (runs/default)")
    command.add_argument("--only", nargs="+", action="extend", metavar="NN", help="only these notebooks, such as 04")
    command.add_argument(
        "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="a parameter of the notebooks; its value is a Python literal, anything else is text",
    )  # fmt: skip
    command.add_argument("--resume", action="store_true", help="skip what is done with the same code and parameters")

    command = commands.add_parser("status", help="show how a run went")
    command.set_defaults(command=_status)
    command.add_argument("run", metavar="RUN", help="a run's name or folder")

    command = commands.add_parser("refresh", help="execute the committed notebooks in place, with their defaults")
    command.set_defaults(command=_refresh)
    command.add_argument("--only", nargs="+", action="extend", metavar="NN", help="store only these, such as 04")

    command = commands.add_parser("app", help="serve the explorer as a web page")
    command.set_defaults(command=_app)
    command.add_argument(
        "--run", default="default", metavar="NAME", help="whose scenes and stores are shown (%(default)s)"
    )
    command.add_argument(
        "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="a parameter of notebook 07",
    )  # fmt: skip
    command.add_argument(
        "voila", nargs="*", metavar="-- VOILA'S OWN", help="options of Voila, such as -- --port=8866 --no-browser"
    )

    command = commands.add_parser("methods", help="list the explanation methods")
    command.set_defaults(command=_methods)

    command = commands.add_parser("explain", help="draw what a model sees of a prompt in an image")
    command.set_defaults(command=_explain)
    command.add_argument("image", metavar="IMAGE")
    command.add_argument("prompt", metavar="PROMPT")
    command.add_argument("--method", default="mmel", help="one of 'xaikit methods' (%(default)s)")
    command.add_argument("--model", default="tiny-clip", help="bundled, or any that open_clip knows (%(default)s)")
    command.add_argument("--pretrained", help="open_clip's tag of the weights, or a file")
    command.add_argument("--device", default="cpu", help="such as cuda (%(default)s)")
    command.add_argument("--out", type=Path, default=Path("map.png"), help="the picture to write (%(default)s)")
    return parser


def _literal(text: str) -> object:
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _say(problem: object, code: int) -> int:
    print(f"xaikit: {' '.join(str(problem).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
