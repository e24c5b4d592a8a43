"""The same ledger and leaderboard for every bundled CLIP, in one sweep, and their small results beside the models."""

import json
from pathlib import Path

from ..evaluation.claims.replications import FOLDER, replication
from ..files.models import CLIPS
from ..files.paths import data_folder, runs_folder
from ..files.store import read, write
from ..samples.captions import world_of_model
from .sweep_plan import make_plan
from .sweeping import sweep

LEDGER = "ledger"


def replicate(out: Path | None = None, workers: int | None = None, limit: float | None = None) -> list[Path]:
    """Run the notebook that judges the claims, and those whose stores it reads, for every model of ``replicated``, and write
    what each says into ``data/replications``; what is done already is skipped.

    out : the sweep's folder, None for ``runs/replications``. workers, limit : as in ``sweep``. Returns the files written.
    """
    out, rows = Path(out or runs_folder() / FOLDER).resolve(), replicated()
    plan = make_plan(rows, out)
    (judge,) = (name for name in plan.notebooks if name.partition("_")[2] == LEDGER)
    sweep(out, rows, [judge], workers, limit=limit)
    return [collect(folder, given["model"]) for folder, given in plan.parameters.items()]


def replicated() -> list[dict[str, str]]:
    """The parameters of a run of each bundled CLIP, of which the world follows. Left out is one that was trained to take a
    shortcut.

    Examples
    --------
    >>> replicated()[0]
    {'model': 'tiny-clip'}
    """
    return [{"model": name} for name in CLIPS if not any(step.get("shortcut") for step in recipe_of(name))]


def recipe_of(model: str) -> list[dict]:
    """The steps of a bundled model's training."""
    return json.loads((data_folder() / model / "recipe.json").read_text(encoding="utf-8"))


def collect(folder: Path, model: str) -> Path:
    """Write what a finished run says of a model into ``data/replications/MODEL.nc``, and return that file."""
    scores, filled = (read(folder / f"{name}.nc", name) for name in ("evaluation", "claims"))
    helped = any(step.get("patch_weight", 0) > 0 for step in recipe_of(model))
    found = replication(scores, filled, model=model, world=world_of_model(model), patch_supervision=helped)
    return write(found, data_folder() / FOLDER / f"{model}.nc", "replication")
