"""What carries over from one trained model to others: the ledger and the leaderboard of each, as ``xaikit replicate`` left them."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

from ...files.paths import data_folder
from ...files.store import annotate, provenance, read
from ..ability import of_recognised
from .rules import ledger
from .table import verdicts_of
from .verdicts import FAILS, HOLDS, SAME, UNDECIDED

FOLDER = "replications"
OF_CLAIMS = ("sentence", "verdict", "measured", "low", "high", "n")
JUDGED = (HOLDS, FAILS, SAME, UNDECIDED)  # by a measurement of this model


def replication(evaluation: xr.Dataset, filled: xr.Dataset, **about) -> xr.Dataset:
    """One model's small results, as a dataset of the stage ``replication``: of its leaderboard each score (sample, explainer)
    and which scenes it recognised, and of its ledger (claim) what was measured, but for what isn't about this model.

    evaluation, filled : of notebooks evaluation and ledger. about : added to the evaluation's provenance, such as ``world``.
    """
    scores = evaluation[[name for name, each in evaluation.data_vars.items() if each.dims == ("sample", "explainer")]]
    scores = scores.astype("f4").assign({name: evaluation[name] for name in {"recognised"} & {*evaluation.data_vars}})
    chosen = ledger().set_index("claim").models.reindex(filled.claim.values) == ""  # not of models of their own
    of_model = chosen.values & filled.verdict.isin(JUDGED).values & filled.n.notnull().values
    claims = filled[list(OF_CLAIMS)].isel(claim=of_model)
    both = xr.merge([scores, claims], combine_attrs="drop_conflicts", join="outer", compat="no_conflicts")
    return annotate(both.assign_attrs(evaluation.attrs), "replication", **about)


def replications(folder: Path | None = None) -> dict[str, xr.Dataset]:
    """The results of each model, by its name, from a folder; None for ``data/replications``. Scores are of the scenes that the
    model recognised, NaN elsewhere.

    Examples
    --------
    >>> all("verdict" in each for each in replications().values())
    True
    """
    paths = sorted((folder or data_folder() / FOLDER).glob("*.nc"))
    found = [of_recognised(read(path, "replication")) for path in paths]
    return {provenance(each)["model"]: each for each in found}


def carried_over(found: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """For each sentence that was judged on some model: on how many it ``holds`` and on how many not, or without effect
    (``fails``), of so many ``models``; and over recipes, since trainings of one recipe from other seeds are not other models:
    on how many it ``holds_by_recipe`` (on more than half of the recipe's models), of so many ``recipes``, and whether it
    ``carries_over``: holds by more than half of at least two recipes, and fails on no model.

    A recipe is a world, and whether patches were supervised.

    Examples
    --------
    >>> one = xr.Dataset({"sentence": ("claim", ["a"]), "verdict": ("claim", ["holds here"])}, {"claim": ["a"]})
    >>> carried_over({"first": one, "second": one}).to_dict("records")
    [{'holds': 2, 'fails': 0, 'models': 2, 'holds_by_recipe': 2, 'recipes': 2, 'carries_over': True}]
    """
    verdicts = pd.DataFrame({name: verdicts_of(each) for name, each in found.items()})
    recipe = [_recipe(name, each) for name, each in found.items()]
    holds, judged = verdicts == HOLDS, verdicts.isin(JUDGED)
    most = 2 * holds.T.groupby(recipe).sum().T > judged.T.groupby(recipe).sum().T
    table = pd.DataFrame(
        {
            "holds": holds.sum(axis=1),
            "fails": verdicts.isin([FAILS, SAME]).sum(axis=1),
            "models": judged.sum(axis=1),
            "holds_by_recipe": most.sum(axis=1),
            "recipes": judged.T.groupby(recipe).any().sum(),
        }
    )
    everywhere = (table.recipes > 1) & (2 * table.holds_by_recipe > table.recipes) & (table.fails == 0)
    return table.assign(carries_over=everywhere)


def _recipe(name: str, found: xr.Dataset) -> str:
    """How a model was trained, but for the seed; of one of which nothing is known its name."""
    about = provenance(found)
    return f"{about['world']}, patches {about.get('patch_supervision')}" if "world" in about else name
