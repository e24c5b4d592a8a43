"""Many methods at once, towers that a method can't explain, a method added in one file, and whether metrics agree."""

import sys
import textwrap

import numpy as np
import pytest
import torch
import xarray as xr
from refusals import refused
from scipy.stats import spearmanr
from small_models import small_clip

import xaikit as xk
from xaikit import explainers
from xaikit.clip import pairs
from xaikit.explainers import registry
from xaikit.measures.intervals import over_groups, rank_agreement
from xaikit.running import command_line


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(5, seed=2).assign_coords(sample=[3, 5, 7, 8, 9])


NAMES = ["centre", "grad_eclip", "random"]


def test_many_methods_are_each_of_them(clip, scenes):
    given = {"centre": "centre", "grad_eclip": ("grad_eclip", {"blocks": 2}), "random": ("random", {"seed": 4})}
    together = xk.explain_all(clip, scenes.image, scenes.caption, given)
    assert together.heat.dims == ("sample", "explainer", "row", "col") and (together.seconds > 0).all()
    assert together.sample.values.tolist() == [3, 5, 7, 8, 9] and together.explainer.values.tolist() == NAMES
    for name, options in (("centre", {}), ("grad_eclip", {"blocks": 2}), ("random", {"seed": 4})):
        alone = xk.explain(name, clip, scenes.image, scenes.caption, **options)
        np.testing.assert_array_equal(together.heat.sel(explainer=name), alone)
    pair = {"near": ("grad_eclip", {"blocks": 2}), "noise": ("random", {"seed": 4}), "centre": "centre"}
    for heat in (
        xk.explain(pair, clip, scenes.image, scenes.caption, batch_size=2),
        xk.explain_all(clip, scenes.image, scenes.caption, pair).heat,
    ):
        assert heat.dims == together.heat.dims and heat.explainer.values.tolist() == list(pair)
        np.testing.assert_allclose(heat, together.heat.sel(explainer=["grad_eclip", "random", "centre"]), atol=1e-6)
    xk.evaluate(together.heat, clip, scenes, steps=2)


def test_several_share_options_and_one_of_a_list_keeps_its_dimension(clip, scenes, monkeypatch):
    blocks = xk.explain(["mmel", "grad_eclip"], clip, scenes.image, scenes.caption, blocks=2)
    own = xk.explain(
        {"mmel": ("mmel", {"blocks": 2}), "one": "grad_eclip"}, clip, scenes.image, scenes.caption, blocks=1
    )
    np.testing.assert_array_equal(blocks.sel(explainer="mmel"), own.sel(explainer="mmel"))
    assert (blocks.sel(explainer="grad_eclip") != own.sel(explainer="one")).any()
    prepared, pixels = [], type(clip).pixels
    monkeypatch.setattr(type(clip), "pixels", lambda self, images: prepared.append(len(images)) or pixels(self, images))
    xk.explain(NAMES, clip, scenes.image, scenes.caption)
    assert prepared == [5]  # once for all
    with pytest.raises(ValueError, match="unknown option 'blocks' of centre"):
        xk.explain(["grad_eclip", "centre"], clip, scenes.image, scenes.caption, blocks=1)


def test_many_methods_of_the_text(clip, scenes):
    together = xk.explain_all(clip, scenes.image, scenes.caption, ["mmel", "random"], of="text")
    alone = xk.explain(["random"], clip, scenes.image, scenes.caption, of="text")
    assert alone.identical(together.word_heat.sel(explainer=["random"]))
    assert xk.explain_all(clip, scenes.image, scenes.caption, "random", of="text").word_heat.identical(alone)
    assert together.word_heat.dims == ("sample", "explainer", "token")
    assert (together.token_text.values == scenes.token_text.values[:, : together.sizes["token"]]).all()


def test_without_names_all_that_can_are_taken(clip, scenes):
    one = scenes.isel(sample=[0])
    known = xk.methods()
    for side in ("image", "text"):
        found = xk.explain_all(clip, one.image, one.caption, of=side)
        assert found.explainer.values.tolist() == [n for n, about in known.items() if side in about["explains"]]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"methods": []}, "methods=\\[\\]: give a list of different names"),
        ({"methods": 3}, "methods=3: give names, or labels with a name and options"),
        ({"methods": ["centre", ("rise", {})]}, "give names, or labels with a name and options"),
        (
            {"methods": {"a": ("rise", {}, 1)}},
            "'a' is .*: a label is a text, and is given a name, or a name and options",
        ),
        ({"methods": {1: "rise"}}, "methods: 1 is 'rise': a label is a text"),
        ({"methods": ["centre", "centre"]}, "give a list of different names"),
        ({"methods": {"centre": ("centre", {"wide": 1})}}, "unknown option 'wide' of centre"),
    ],
)
def test_a_wrong_choice_is_refused_before_any_work(clip, scenes, monkeypatch, choice, message):
    monkeypatch.setattr(type(clip), "pixels", lambda *args: pytest.fail("work was done"))
    refused(message, xk.explain_all, clip, scenes.image, scenes.caption, **choice)


def test_a_bad_sample_is_recorded_by_all(clip, scenes):
    images = [*scenes.image.values[:2], np.zeros((4, 4))]
    found = xk.explain_all(clip, images, "a red ring", NAMES[:2], errors="record")
    assert (found.heat[2] == 0).all() and (found.heat[0] != 0).any()
    assert "image 2" in str(found.error.values[2]) and (found.error.values[:2] == "").all()


def test_a_tower_that_a_method_cannot_explain_names_those_that_can():
    siglip = small_clip("small-siglip")
    tokens = torch.tensor([[1, 5, 9, 63, *[0] * 8]])
    pixels = torch.zeros(1, 3, *siglip.image_size)
    unable = [name for name, found in registry.all_methods().items() if found.needs == "class token"]
    able = registry.explaining(siglip, "image")
    assert {"random", "centre", "grad_eclip"} <= set(able) and not set(unable) & set(able)
    assert unable
    for name in unable:
        with pytest.raises(
            ValueError, match=f"{name} can't explain the image tower of .*: it needs .*; methods that can are .*centre"
        ):
            xk.explain(name, siglip, pixels, tokens)


def test_a_method_in_one_new_file_is_found_everywhere(clip, scenes, tmp_path, monkeypatch, capsys):
    assert command_line.main(["methods"]) == 0 and "brightness" not in capsys.readouterr().out
    (tmp_path / "brightness.py").write_text(
        textwrap.dedent('''
            """How bright each patch is."""
            import torch.nn.functional as F
            from xaikit.explainers.registry import method
            from xaikit.clip.towers import tower

            @method(sides=("image",), source="a test", needs="tokens")
            def brightness(clip, pixels, tokens, *, of, power: float = 1.0):
                """Mean of a patch's channels, raised to a power."""
                return F.adaptive_avg_pool2d(pixels.exp().mean(1), tower(clip, of).grid) ** power
        ''')
    )
    monkeypatch.setattr(explainers, "__path__", [*explainers.__path__, str(tmp_path)])
    monkeypatch.setattr(registry.METHODS, "_entries", registry.METHODS.all())
    registry.METHODS._import_all.cache_clear()
    try:
        assert xk.methods()["brightness"]["options"] == {"power": 1.0}
        heat = xk.explain("brightness", clip, scenes.image, scenes.caption, power=2.0)
        assert heat.shape == (5, 8, 8) and heat.attrs["source"] == "a test"
        assert "brightness" in registry.explaining(clip, "image")
        assert command_line.main(["methods"]) == 0 and "brightness" in capsys.readouterr().out
    finally:
        registry.METHODS._import_all.cache_clear()
        sys.modules.pop("xaikit.explainers.brightness", None)


def scores(values, direction="higher is better"):
    return xr.DataArray(values, dims=("sample", "explainer"), attrs={"score_direction": direction})


def test_rank_agreement_is_spearman_of_the_means():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 6)) + np.arange(6)
    measured = xr.Dataset(
        {
            "a": scores(a),
            "same": scores(a * 2),
            "loss": scores(-a, "lower is better"),
            "b": scores(rng.normal(size=(30, 6))),
        }
    )
    found, low, high = rank_agreement(measured, ["a", "same", "loss", "b"])
    assert found.loc["a", "same"] == pytest.approx(1) and found.loc["a", "loss"] == pytest.approx(1)
    expected = spearmanr(a.mean(0), measured.b.values.mean(0)).statistic
    assert found.loc["a", "b"] == pytest.approx(expected)
    assert low.loc["a", "b"] <= found.loc["a", "b"] <= high.loc["a", "b"] and low.loc["a", "b"] < high.loc["a", "b"]
    refused("2 explainers: at least 3", rank_agreement, measured.isel(explainer=slice(2)), ["a", "b"])


def test_a_batch_takes_no_more_pairs_than_its_graph_has_room_for(clip, scenes, monkeypatch):
    whole = xk.explain("chefer", clip, scenes.image, scenes.caption)
    monkeypatch.setattr(pairs, "GRAPH", 3 * pairs.bytes_of_graph(clip))
    sizes = [len(tokens) for _, tokens in pairs.Pairs(clip, scenes.image, scenes.caption).batches(64)]
    assert set(sizes[:-1]) == {3} and sum(sizes) == len(scenes.sample)
    np.testing.assert_allclose(xk.explain("chefer", clip, scenes.image, scenes.caption), whole, atol=1e-6)
    monkeypatch.setattr(pairs, "GRAPH", 1)
    assert [len(tokens) for _, tokens in pairs.Pairs(clip, scenes.image, scenes.caption).batches(2)][0] == 1


def test_the_interval_over_groups_is_as_wide_as_groups_differ():
    """Scenes of one model say nothing of another: the interval is Student's t over the models' means, however many scenes."""
    draws = np.random.default_rng(0)
    apart = [draws.normal(mean, 0.1, (size, 2)) + [0, 5] for mean, size in ((0.2, 30), (0.4, 40), (0.9, 50))]
    mean, low, high = over_groups(apart)
    np.testing.assert_allclose(mean, np.mean([each.mean(0) for each in apart], axis=0))
    means = np.array([each.mean(0) for each in apart])
    reach = 4.303 * means.std(0, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose([low, high], [mean - reach, mean + reach], rtol=1e-3)
    alike = [draws.normal(0.5, 0.1, (400, 1)) for _ in range(5)]
    _, low, high = over_groups(alike)
    assert high - low < 8 * 1.96 * 0.1 / np.sqrt(5 * 400)


def test_the_interval_over_models_contains_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(1)
    found = [over_groups(list(draws.normal(draws.normal(0, 1, (3, 1, 1)), 0.5, (3, 20, 1)))) for _ in range(400)]
    inside = np.mean([low[0] <= 0 <= high[0] for _, low, high in found])
    assert 0.92 <= inside <= 0.98


def test_the_interval_over_one_group_is_that_of_its_samples():
    draws = np.random.default_rng(0)
    # One group alone: its samples; missing values don't count.
    gappy = np.where(draws.random((200, 1)) < 0.5, np.nan, draws.normal(1, 1, (200, 1)))
    mean, low, high = over_groups([gappy])
    known = gappy[np.isfinite(gappy)]
    assert mean == pytest.approx(known.mean())
    np.testing.assert_allclose(high - low, 2 * 1.96 * known.std() / np.sqrt(len(known)), rtol=0.15)
