"""Where things are: the bundled data and the notebooks beside the package, and the folder of each run."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def data_folder() -> Path:
    """The folder of the bundled models and scenes.

    Examples
    --------
    >>> (xk.files.data_folder() / "tiny-clip").is_dir()
    True
    """
    return _in_checkout("data")


def notebooks_folder() -> Path:
    """The folder of the numbered notebooks.

    Examples
    --------
    >>> xk.files.notebooks_folder().name
    'notebooks'
    """
    return _in_checkout("notebooks")


def runs_folder() -> Path:
    """The folder that holds one folder a run: ``runs/`` in the checkout, or the variable ``XAIKIT_RUNS``.

    Examples
    --------
    >>> xk.files.runs_folder().is_absolute()
    True
    """
    return Path(os.environ.get("XAIKIT_RUNS") or CHECKOUT / "runs").resolve()


def run_folder(run: str, create: bool = True) -> Path:
    """The folder of one run, made if it isn't there yet (not with ``create=False``).

    Raises ValueError for a name that would lead out of the runs folder.

    Examples
    --------
    >>> xk.files.run_folder("mine", create=False).name
    'mine'
    """
    if not run or run in (".", "..") or "/" in run or "\\" in run:
        raise ValueError(f"run={run!r}: a run has a plain name such as 'default', without slashes")
    folder = runs_folder() / run
    if create:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _in_checkout(name: str) -> Path:
    folder = CHECKOUT / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {name}/ beside the package in {CHECKOUT}: "
            "install xaikit from its checkout with 'pip install -e .'"
        )
    return folder
