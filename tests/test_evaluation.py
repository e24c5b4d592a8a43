"""Deletion and insertion on a model whose scores are known, evaluate, retrieval and the grid search."""

import sys

import numpy as np
import pytest
import torch
import xarray as xr
from notebook_functions import functions_of
from refusals import refused
from small_models import stand_in

import xaikit as xk
from xaikit import evaluation
from xaikit.clip import perturbation as perturbing
from xaikit.clip.towers import Tower
from xaikit.evaluation import faithfulness, metrics, retrieval
from xaikit.measures import estimates, intervals


@pytest.fixture
def counting_clip(monkeypatch):
    """A stand-in whose cosine is the mean of the pixels of a 2 x 3 grid of patches; one pixel column is no patch's."""
    described = Tower([], [], None, (2, 3), (4, 6), None)
    monkeypatch.setattr(perturbing, "tower", lambda clip, side: described)
    return stand_in(lambda pixels: pixels[:, :1, :4, :6].mean((2, 3)))


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_curves_of_a_model_that_averages_pixels(counting_clip, batch_size):
    """Patches worth 6, 5, ... 1: deletion in their order removes the largest first, and the sums are known."""
    worth = torch.tensor([[6.0, 1, 5], [2, 4, 3]])
    pixels = torch.zeros(1, 3, 4, 7)
    pixels[..., :6] = worth.repeat_interleave(2, 0).repeat_interleave(2, 1)
    right, wrong = worth.numpy(), -worth.numpy()
    share, deleted, inserted = faithfulness.deletion_insertion(
        counting_clip, np.stack([right, wrong])[None], pixels, torch.zeros(1, 1), steps=6, fill="black", batch_size=batch_size
    )  # fmt: skip
    np.testing.assert_allclose(share, np.arange(7) / 6, rtol=1e-6)
    best = np.cumsum([0, 6, 5, 4, 3, 2, 1]) / 6
    np.testing.assert_allclose(inserted[0, 0], best, atol=1e-6)
    np.testing.assert_allclose(deleted[0, 0], best[-1] - best, atol=1e-6)
    np.testing.assert_allclose(deleted[0, 1], (best[-1] - best[:1] - np.cumsum([0, 1, 2, 3, 4, 5, 6]) / 6), atol=1e-6)


def test_fills(counting_clip):
    pixels = torch.rand(2, 3, 4, 7)
    assert (faithfulness.filled(counting_clip, pixels, "black") == 0).all()
    torch.testing.assert_close(faithfulness.filled(counting_clip, pixels, "mean")[:, :, 0, 0], pixels.mean((2, 3)))
    noise = [faithfulness.filled(counting_clip, pixels, "random", seed=s) for s in (0, 0, 1)]
    assert torch.equal(noise[0], noise[1]) and not torch.equal(noise[0], noise[2])
    assert noise[0][0, 0, 0, 0] == noise[0][0, 0, 1, 1] != noise[0][0, 0, 0, 2]
    assert faithfulness.filled(counting_clip, torch.rand(1, 3, 16, 16), "blur").std() < 0.2
    refused("fill='pink'", faithfulness.filled, counting_clip, pixels, "pink")


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(12, seed=21, objects=(2, 3))


def test_methods_beat_the_controls_on_the_bundled_model(clip, scenes):
    heat = xk.explain(["grad_eclip", "mmel", "random", "centre"], clip, scenes.image, scenes.caption)
    energy = xk.evaluate(heat, clip, scenes, metrics=["energy"]).energy.mean("sample").values
    assert energy[:2].min() > 1.5 * energy[2:].max()


NAMES = "give names, or None for all; the names are pointing_game, energy"


@pytest.mark.parametrize(
    ("damage", "choice", "message"),
    [
        (lambda heat: heat.isel(sample=slice(3)), {}, "3 samples but the scenes of 12"),
        (lambda heat: heat.where(heat.sample != 4), {}, "the map of sample 4 holds NaN"),
        (lambda heat: heat.to_dataset(name="heat"), {}, "the maps are a Dataset: give a DataArray"),
        (lambda heat: heat.values, {}, "the maps are a ndarray"),
        (None, {"scenes": ["one.jpg", "two.jpg"]}, "the scenes are a list: give a dataset"),
        (lambda heat: heat.isel(sample=0, drop=True), {}, "the maps have the dimensions"),
        (lambda heat: heat.expand_dims(seed=2), {}, "the maps have the dimensions"),
        (lambda heat: heat.astype(complex), {}, "type complex"),
        (lambda heat: heat > 0, {}, "type bool"),
        (lambda heat: heat.isel(row=slice(5)), {}, r"\(5, 8\) rows and columns, but tiny-clip has \(8, 8\)"),
        (None, {"steps": 999}, "steps=999: a whole number from 1 to the 64 patches"),
        (None, {"fill": "x"}, "fill='x': for the image choose from"),
        *((None, {"metrics": names}, NAMES) for names in ([], ["enery"], "enery", ["word_deletion_auc"])),
    ],
)
def test_what_cannot_be_evaluated(clip, scenes, damage, choice, message):
    heat = xk.explain("centre", clip, scenes.image, scenes.caption)
    refused(message, xk.evaluate, damage(heat) if damage else heat, clip, **{"scenes": scenes} | choice)


def test_the_bundled_models_reach_their_promise():
    """Fresh two-object scenes of another seed than any reported: recall@1 of 512, attribute and relation swaps."""
    clip = xk.load_clip("tiny-clip")
    assert retrieval.recall_at_1(clip, xk.draw_scenes(512, 77, (2, 2), "relation"))["image_to_text"] >= 0.85
    assert xk.evaluation.recognised(clip, xk.draw_pairs("attribute", 128, 78, (2, 2))).mean() >= 0.98
    assert xk.evaluation.recognised(clip, xk.draw_pairs("relation", 128, 79, (2, 2))).mean() >= 0.97


def test_only_the_shortcut_model_follows_the_mark():
    accuracy, models = {}, [xk.load_clip(name) for name in ("tiny-clip", "tiny-clip-shortcut")]
    for conflict in (False, True):
        scenes = xk.draw_scenes(200, 80, (1, 2), "object", shortcut=1.0, conflict=conflict)
        for model in models:
            own, chosen = retrieval.colour_choice(model, scenes)
            accuracy[model.name, conflict] = (own == chosen).mean()
    assert accuracy["tiny-clip", True] > 0.95 and accuracy["tiny-clip-shortcut", False] > 0.9
    assert accuracy["tiny-clip-shortcut", True] < 0.7


def test_grid_search_finds_the_planted_best(clip, scenes, monkeypatch):
    """With a method that lies on the truth only at one choice, that choice comes first."""
    mask = (scenes.object_mask & scenes.object_named).any("object")
    truth = mask.coarsen(y=8, x=8).mean().rename(y="row", x="col").rename("heat").drop_vars(["row", "col"])
    noise = xk.explain("random", clip, scenes.image, scenes.caption).drop_vars(["row", "col"])

    def explain(ways, *args, batch_size):
        maps = [each["share"] * truth + (1 - each["share"]) * noise for _, each in ways.values()]
        return (
            xr.concat(maps, "explainer").assign_coords(explainer=[*ways]).transpose("sample", "explainer", "row", "col")
        )

    monkeypatch.setattr(xk, "explain", explain)
    grid_search = functions_of("mmel").grid_search
    found = grid_search("mmel", clip, scenes, {"share": [0.0, 1.0, 0.5]}, steps=4)
    assert found.share.values.tolist() == [1.0, 0.5, 0.0]
    assert (np.diff(found.score.values) < 0).all()
    refused("grid={}", grid_search, "mmel", clip, scenes, {})


def test_no_effect_pays_for_the_number_of_tests():
    """One change whose interval just fits into the margin is found alone, and not beside nineteen that are unknown."""
    near, unknown = (estimates.Estimate(0.0, error, 30, 31) for error in (0.005, 0.1))
    unchanged = functions_of("mmel").unchanged
    assert unchanged({"one": near}) == {"one": True}
    many = unchanged({"one": near} | {place: unknown for place in range(19)})
    assert not any(many.values())
    assert unchanged({"one": near}, margin=0.001) == {"one": False}


def test_the_quality_of_a_grid_search_is_no_noise_divided_by_noise():
    """Each of its three parts counts the same, also of a model that loses nothing as patches go."""
    columns = {
        "energy": [0.4, 0.6],
        "average_precision": [0.5, 0.5],
        "insertion_auc": [0.3, 0.3],
        "deletion_auc": [0.1, 0.3],
    }
    scores = xr.Dataset({name: ("sample", np.array(values)) for name, values in columns.items()})
    quality = functions_of("mmel").quality
    falls = scores.assign(deletion_curve=(("sample", "step"), np.tile([0.5, 0.2, 0.1], (2, 1))))
    np.testing.assert_allclose(quality(falls), [(0.4 + 0.5 + 0.2 / 0.4) / 3, (0.6 + 0.5) / 3])
    level = scores.assign(deletion_curve=(("sample", "step"), np.tile([0.2, 0.2, 0.201], (2, 1))))
    level["insertion_auc"] = level.deletion_auc + 0.001
    np.testing.assert_allclose(quality(level), [(0.4 + 0.5 + 0.1) / 3, (0.6 + 0.5 + 0.1) / 3])


def test_above_controls_and_paired_difference():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 5, 60)
    values = np.stack([difficulty + 1, difficulty + 1 + rng.normal(0, 1, 60), difficulty], 1)
    better = {"score_direction": "higher is better"}
    scores = xr.DataArray(values, {"explainer": ["a", "b", "c"]}, ("sample", "explainer"), attrs=better)
    mean, low, high = intervals.paired_difference(scores, "a", "c")
    assert mean == low == high == pytest.approx(1.0)
    alike = scores.copy(data=np.ones((60, 3))).assign_attrs(whole=1.0)  # all hit: that is no certainty
    mean, low, high = intervals.paired_difference(alike, "a", "c")
    assert mean == 0 and high == -low == pytest.approx(0.06, abs=0.01)

    found = intervals.above_controls(scores.to_dataset(name="m"), ["m"], ["b", "c"])
    assert found.m["a"].value == pytest.approx(
        (values[:, 0] - values[:, 1]).mean()
    )  # the control that it beats by the least certain margin
    assert not intervals.surely_above(found).m["a"]

    def above_c():
        return intervals.surely_above(intervals.above_controls(scores.to_dataset(name="m"), ["m"], ["c"])).m.tolist()

    assert above_c() == [True, True]
    scores.attrs["score_direction"] = "lower is better"
    assert above_c() == [False, False]
    scores[:] = np.nan  # nobody is above where nothing is finite
    assert above_c() == [False, False]


def test_nobody_is_called_the_best_of_those_that_cannot_be_told_apart():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 5, 60)
    noise = rng.normal(0, 1, (60, 3))
    values = np.stack([difficulty, difficulty + noise[:, 0] - 3, difficulty + noise[:, 1] - noise[:, 1].mean()], 1)
    names = ["first_one", "third", "second"]
    scores = xr.DataArray(values, {"explainer": names}, ("sample", "explainer"))
    scores[:, 0] += 0.001
    assert intervals.leaders(scores) == ["first_one", "second"]
    assert intervals.leaders_text(scores) == "first one and second (no difference found)"
    assert intervals.leaders(scores, ["third", "first_one"]) == ["first_one"]
    assert intervals.leaders_text(scores.assign_attrs(score_direction="lower is better")) == "third"
    assert intervals.leaders(scores[:1]) == ["first_one", "second", "third"]  # one sample tells nothing
    assert intervals.leaders_text(scores[:1], most=2) == "first one (no difference from the other 2 found)"
    # a name with a comma is one name
    longer = scores.assign_coords(explainer=["first_one", "third", "mmel, last block"])
    assert intervals.leaders_text(longer) == "first one; and MMEL, last block (no difference found)"
    scores[:, 0] = np.nan
    assert intervals.leaders_text(scores) == "second"
    assert intervals.leaders(scores * np.nan) == [] and "none" in intervals.leaders_text(scores * np.nan)


def test_the_best_pays_for_the_number_of_those_that_it_is_compared_with():
    noise = np.random.default_rng(1).normal(size=(40, 21))
    noise = (noise - noise.mean(0)) / noise.std(0, ddof=1)
    behind = np.where(np.arange(21) == 0, 2.2, 0.1) / np.sqrt(40)  # of these differences the first counts by itself
    values = np.hstack([np.zeros((40, 1)), noise - behind])
    scores = xr.DataArray(values, {"explainer": [f"m{place}" for place in range(22)]}, ("sample", "explainer"))
    assert intervals.leaders(scores, ["m0", "m1"]) == ["m0"]
    assert "m1" in intervals.leaders(scores)
    assert intervals.leaders_text(scores) == "m0 (no difference from the other 21 found)"
    named = intervals.leaders_text(xr.concat([scores, scores[:, :1].assign_coords(explainer=["far"]) - 9], "explainer"))
    assert named.startswith("m0, ") and named.count(",") == 2 and named.endswith(" 19 more (no difference found)")


def test_stars_pay_for_the_number_of_comparisons():
    """A difference that counts by itself is, among forty-nine where nothing differs, what chance gives."""
    values = np.random.default_rng(0).normal(size=(50, 40, 2))
    values[0] += [0.55, 0] - values[0].mean(0)
    board = xr.Dataset({f"m{index}": (("sample", "explainer"), each) for index, each in enumerate(values)})
    board = board.assign_coords(explainer=["method", "control"])
    alone, among = (
        intervals.surely_above(intervals.above_controls(board, names, ["control"])) for names in (["m0"], [*board])
    )
    assert alone.m0["method"] and not among.any(axis=None)


def test_all_or_nothing_has_wilsons_interval(clip, scenes):
    heat = xk.explain("centre", clip, scenes.image, scenes.caption)
    found = xk.evaluate(heat, clip, scenes, metrics=["pointing_game", "energy", "confidence_increase"])
    found.pointing_game[:] = 1.0
    found.confidence_increase[:] = 100.0
    table = intervals.summary(found).set_index("metric")
    n = scenes.sizes["sample"]
    assert table.high["pointing_game"] == 1 and table.low["pointing_game"] == pytest.approx(n / (n + 1.96**2), abs=1e-4)
    assert table.low["confidence_increase"] == pytest.approx(100 * table.low["pointing_game"])
    assert (table.low["energy"], table.high["energy"]) == intervals.mean_interval(found.energy.values[:, 0])[1:]


def test_only_the_metrics_wanted_are_computed(clip, scenes, monkeypatch):
    heat = xk.explain("centre", clip, scenes.image, scenes.caption)
    every = xk.evaluate(heat, clip, scenes, steps=2)
    some = xk.evaluate(heat, clip, scenes, steps=2, metrics=["energy", "confidence_drop"])
    assert {"energy", "confidence_drop"} <= {*some} < {*every} and "deletion_auc" not in some
    np.testing.assert_array_equal(some.energy, every.energy)
    monkeypatch.setattr(type(clip), "encode_image", lambda *args: pytest.fail("the model ran"))
    assert "pointing_game" in xk.evaluate(heat, clip, scenes, metrics=["pointing_game"])


@pytest.fixture
def registered(monkeypatch):
    """The metrics, those that a test adds for itself alone."""
    monkeypatch.setattr(metrics.METRICS, "_entries", metrics.METRICS.all())


def test_a_metric_is_one_function(clip, scenes, registered):
    @xk.evaluation.metric("lower is better", "a test's", units="percent", needs=("coverage", "deletion_curve", "seed"))
    def missed(heat, coverage, curve, seed):
        assert coverage.shape == (12, 1, 8, 8) and curve.shape == (12, 2, 3) and seed == 5
        return 100 * (1 - (heat * coverage).sum((2, 3)))

    @xk.evaluation.metric("neither", "tokens", needs=("tokens", "fraction"), of=("image", "text"))
    def length(heat, tokens, fraction):
        return np.broadcast_to(clip.content(tokens).sum(1)[:, None], heat.shape[:2])

    heat = xk.explain(["centre", "edge"], clip, scenes.image, scenes.caption)
    found = xk.evaluate(heat, clip, scenes, steps=2, seed=5)
    assert {"missed", "length"} <= {*found}
    about = {"long_name": "a test's", "units": "percent", "score_direction": "lower is better"}
    assert found.missed.attrs == about and found.missed.dims == ("sample", "explainer")
    some = xk.evaluate(heat, clip, scenes, steps=2, seed=5, metrics=["missed", "insertion_auc"])
    assert list(some) == ["fraction", "insertion_curve", "insertion_auc", "deletion_curve", "missed"]
    xr.testing.assert_identical(some.missed, found.missed)
    bare = scenes.drop_vars("object_mask")
    refused(
        "the metric 'missed' compares maps with the objects' masks", xk.evaluate, heat, clip, bare, metrics="missed"
    )
    assert "missed" not in xk.evaluate(heat, clip, bare, steps=2)
    words = xk.explain("random", clip, scenes.image, scenes.caption, of="text")
    spoken = xk.evaluate(words, clip, scenes, steps=2, metrics=["word_length"])
    assert list(spoken) == ["word_fraction", "word_length"] and spoken.word_fraction.dims == ("word_step",)
    np.testing.assert_array_equal(spoken.word_length[:, 0], found.length[:, 0])


def test_a_metric_in_one_new_file_is_found(clip, scenes, registered, tmp_path, monkeypatch):
    (tmp_path / "warmth.py").write_text(
        "from xaikit.evaluation import metric\n\n\n"
        "@metric('neither', 'mean heat')\ndef warmth(heat):\n    return heat.mean((2, 3))\n"
    )
    monkeypatch.setattr(evaluation, "__path__", [*evaluation.__path__, str(tmp_path)])
    metrics.METRICS._import_all.cache_clear()
    try:
        heat = xk.explain("edge", clip, scenes.image, scenes.caption)
        found = xk.evaluate(heat, clip, scenes, metrics=["warmth"]).warmth
        np.testing.assert_allclose(found[:, 0], heat.mean(("row", "col")), rtol=1e-6)
    finally:
        metrics.METRICS._import_all.cache_clear()
        sys.modules.pop("xaikit.evaluation.warmth", None)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"direction": "up"}, "direction='up': choose from higher is better"),
        ({"of": "sound"}, "of='sound': choose from image, text"),
        ({"needs": ("mask",)}, "needs='mask': choose from coverage, objects"),
    ],
)
def test_metrics_that_cannot_be(choice, message):
    refused(message, metrics.metric, **{"direction": "neither", "meaning": "", **choice})


def test_a_metric_of_another_shape_is_refused(clip, scenes, registered):
    metrics.metric("neither", "of no sample")(np.shape)
    heat = xk.explain("edge", clip, scenes.image, scenes.caption)
    message = r"the metric 'shape' gave the shape \(4,\): \(12, 1\), \(samples, explainers\), is needed"
    refused(message, xk.evaluate, heat, clip, scenes, metrics="shape")
