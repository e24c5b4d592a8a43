"""Bring the committed notebooks up to date: execute them with their defaults and keep the cleaned result."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .executing import execute, failure
from .notebook_cleaning import clean_file
from .workbook import RunFailed, find_notebooks


def refresh(only: Sequence[str] | None = None, notebooks: Path | None = None) -> list[Path]:
    """Execute the notebooks with their defaults and store the cleaned outputs in them; returns those written.

    A notebook reads what earlier ones stored, so with ``only`` the ones before it are executed as well, but
    left as they are. Everything is computed in a temporary folder: ``runs/`` is not touched. Raises RunFailed
    when a notebook fails; it is then left as it was, and the temporary folder is kept to look at.
    """
    chosen = find_notebooks(only, notebooks)
    needed = [path for path in find_notebooks(folder=notebooks) if path <= chosen[-1]]
    workplace = Path(tempfile.mkdtemp(prefix="xaikit-refresh-"))
    for path in needed:
        executed = workplace / path.name
        print(f"{path.stem}: running", flush=True)
        try:
            execute(path, executed, {}, workplace / "runs")
        except Exception as error:
            part = executed.with_suffix(".part.ipynb")
            raise RunFailed(f"{path.stem} failed, {failure(error)} (see {part}); it is left as it was") from error
        if path in chosen:
            clean_file(executed)
            part = path.with_suffix(".part.ipynb")
            shutil.copyfile(executed, part)
            os.replace(part, path)
    shutil.rmtree(workplace)
    return chosen
