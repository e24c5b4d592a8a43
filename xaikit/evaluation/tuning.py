"""Grid search of a method's options on validation scenes, by explanation quality instead of a loss."""

import itertools

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from ..clip.model import Clip
from ..explainers.explanation import explain
from ..files.store import annotate
from .metrics import evaluate

REPORTED = ("energy", "pointing_game", "deletion_auc", "insertion_auc")


def quality(evaluation: xr.Dataset) -> float:
    """Mean of energy inside the named objects and of insertion minus deletion AUC over the whole curve's span.

    Both halves are 0 for a bad map and near 1 for a perfect one, so neither drowns the other.
    """
    span = evaluation.deletion_curve.isel(step=0) - evaluation.deletion_curve.isel(step=-1)
    faithful = float((evaluation.insertion_auc - evaluation.deletion_auc).mean()) / max(float(span.mean()), 1e-6)
    return (float(evaluation.energy.mean()) + faithful) / 2


def grid_search(
    method: str,
    clip: Clip,
    scenes: xr.Dataset,
    grid: dict[str, list],
    steps: int = 8,
    batch_size: int = 256,
    progress: bool = False,
    **options,
) -> xr.Dataset:
    """Score every combination of choices on the scenes.

    grid: for each option of the method the values to try; ``options`` stay fixed. Returns the ``sweep``
    store: ``score`` (row) with the choices of each row and its metrics' means beside it, best row first.
    """
    if not grid or any(len(values) == 0 for values in grid.values()):
        raise ValueError(f"grid={grid}: give at least one option, each with at least one value")
    rows = []
    for values in tqdm(list(itertools.product(*grid.values())), disable=not progress, desc=f"{method} grid"):
        choice = dict(zip(grid, values, strict=True))
        heat = explain(method, clip, scenes.image, scenes.caption, batch_size=batch_size, **choice, **options)
        measured = evaluate(heat, clip, scenes, steps=steps, batch_size=batch_size, metrics=REPORTED)
        means = {name: float(measured[name].mean()) for name in REPORTED}
        rows.append({**choice, **means, "score": quality(measured)})
    table = pd.DataFrame(rows)
    best_first = (
        table.score.round(3).sort_values(ascending=False, kind="stable").index
    )  # equal ones in the grid's order
    table = table.loc[best_first].reset_index(drop=True)
    found = xr.Dataset(coords={"row": np.arange(len(table))})
    for name in table.columns:
        found[name] = ("row", table[name].values, {"long_name": name.replace("_", " "), "units": "1"})
    about = {
        "model": clip.name,
        "weights_digest": clip.weights_digest,
        "method": method,
        "grid": grid,
        "options": options,
    }
    return annotate(found, "sweep", **about)
