"""What notebooks 00, 06 and 06b make of what was measured, against steps, scores and shares made by hand."""

import numpy as np
import pandas as pd
import xarray as xr
from notebook_functions import functions_of

import xaikit as xk
from xaikit.evaluation import claims
from xaikit.explainers.registry import explaining

evaluation, hard_cases = functions_of("evaluation"), functions_of("hard_cases")


def test_which_steps_of_deletion_take_a_named_patch():
    """Patches go in the order of each map alone: one whose heat is small everywhere isn't the last to lose them."""
    up, down = np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])
    heat = np.stack([[up, down], [1e-3 * up, 1e-3 * down]]).reshape(2, 2, 2, 2)
    touching = np.array([[True, False, False, False], [False, True, False, False]])
    went = evaluation.named_went(heat, np.linspace(0, 1, 5), touching, 0)
    assert went.argmax(-1).tolist() == [[3, 0], [2, 1]] and (went.sum(-1) == 1).all()
    by_twos = evaluation.named_went(heat, np.linspace(0, 1, 3), touching, 0)
    assert by_twos.argmax(-1).tolist() == [[1, 0], [1, 0]]


def test_a_scene_is_one_share_of_steps_however_many_methods_it_has():
    steps = np.array([[[True, False, True]] * 4, [[False] * 3] * 4])
    chosen = np.array([[[True, True, False]] * 4, [[False] * 3] * 4])
    np.testing.assert_array_equal(evaluation.share_among(steps, chosen), [0.5, np.nan])
    np.testing.assert_array_equal(evaluation.share_among(steps, ~chosen), [1.0, 0.0])


def test_what_is_told_from_what_is_absent_pays_for_the_number_of_explainers():
    names = [f"method {index}" for index in range(20)]

    def told(low):
        value = np.where(np.arange(20) == 0, 0.7, 0.5)
        scores = {"auroc_box": ("explainer", value), "auroc_box_low": ("explainer", value - low)}
        return hard_cases.told(xr.Dataset(scores, {"explainer": names}), "auroc_box", names, 40)

    assert told(0.19) == []  # an interval above 0.5, of one in twenty, is what chance gives
    assert told(0.1) == ["method 0"]
    assert hard_cases.told(xr.Dataset({"auroc_box": ("explainer", [0.7]), "auroc_box_low": ("explainer", [0.51])},
                                {"explainer": ["mmel"]}), "auroc_box", ["mmel"], 40) == ["mmel"]  # fmt: skip


def test_nobody_is_ahead_where_nothing_is_ranked():
    """As of a model with random weights, which recognises no scene."""
    names = ["edge", "mmel", "rise"]
    values = np.random.default_rng(0).normal([0.99, 0.9, 0.1], 0.01, (20, 3))
    scores = xr.DataArray(values, {"explainer": names}, ("sample", "explainer"))
    ahead = functions_of("evaluation").ahead
    ahead.__globals__.update(heat=scores, controls=["edge"], ranked={"energy": scores, "auroc": scores * np.nan})
    assert ahead("energy").startswith("MMEL, best mean 0.90 [") and ahead("auroc") == "none that was measured"


def test_shares_tell_of_how_many_pairs_they_are():
    log = pd.DataFrame({"relation_swap": [0.2857, 0.8571, np.nan], "relation_pairs": [7, 7, np.nan]})
    assert functions_of("planted_scenes").last_swap(log) == "86% [49%, 97%] of 7"


def test_methods_are_beside_all_controls_with_what_they_may_cost(clip):
    some = claims.beside_controls(clip, ["rise"], perturbations=8, seed=3)
    assert [*some] == ["centre", "edge", "random", "rise"] and some["rise"] == ("rise", {"masks": 8, "seed": 3})
    everything = claims.beside_controls(clip, path_steps=5)
    assert {*everything} == {*explaining(clip, "image")} - {"attention_eclip"} and everything["integrated_gradients"][
        1
    ] == {"steps": 5}
    scenes = xk.draw_scenes(1, seed=0)
    heat = xk.explain(some | claims.OTHER_BLOCKS, clip, scenes.image, scenes.caption)
    assert heat.explainer.values.tolist() == [*some, *claims.OTHER_BLOCKS]
