"""Hallucination, sanity, seed stability, completeness and cost: on planted cases, and against other libraries."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from refusals import refused
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from small_models import FAMILIES, small_clip

import xaikit as xk
from xaikit.evaluation import cost, faithfulness, hallucination, sanity
from xaikit.files.store import validate
from xaikit.measures import localisation
from xaikit.measures.maps import rank_correlation


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(6, seed=11)


@pytest.mark.parametrize("of", ["image", "text"])
def test_randomised_weights_change_a_map_of_the_model_only(clip, scenes, of):
    before = {name: weight.clone() for name, weight in clip.model.state_dict().items()}
    found = sanity.sanity_cascade("grad_eclip", clip, scenes, of)
    validate(found, "evaluation")
    assert found.depth.values.tolist()[0] == "output" and found.depth.values.tolist()[-1] == "block 0"
    assert found.rank_correlation.dims == ("sample", "explainer", "depth")
    means = found.rank_correlation.mean("sample")[0]
    assert means[-1] < 0.5 and (of == "text") == ("ssim" not in found)
    assert all(torch.equal(weight, before[name]) for name, weight in clip.model.state_dict().items())
    again = sanity.sanity_cascade("grad_eclip", clip, scenes.isel(sample=slice(2)), of, batch_size=1)
    np.testing.assert_allclose(again.rank_correlation, found.rank_correlation[:2], atol=1e-4)
    other = sanity.sanity_cascade("grad_eclip", clip, scenes, of, seed=1)
    assert not np.allclose(other.rank_correlation, found.rank_correlation)


def test_a_map_that_ignores_the_model_stays(clip, scenes):
    for name in ("centre", "random"):
        found = sanity.sanity_cascade(name, clip, scenes)
        np.testing.assert_allclose(found.rank_correlation, 1)
        np.testing.assert_allclose(found.ssim, 1)


def test_several_methods_share_the_random_weights_and_are_compared_at_some_depths(clip, scenes):
    several = {"last": "grad_eclip", "all": ("grad_eclip", {"blocks": None})}
    found = sanity.sanity_cascade(several, clip, scenes, depths=3)
    assert found.explainer.values.tolist() == ["last", "all"] and found.depth.values.tolist() == [
        "output",
        "block 2",
        "block 0",
    ]
    whole = sanity.sanity_cascade("grad_eclip", clip, scenes, blocks=None)
    for name in ("rank_correlation", "ssim"):
        own = whole[name].sel(depth=found.depth.values, explainer="grad_eclip")
        np.testing.assert_allclose(found[name].sel(explainer="all"), own)
        assert not np.allclose(found[name].sel(explainer="last"), own)
    refused("depths=1", sanity.sanity_cascade, "grad_eclip", clip, scenes, depths=1)


@pytest.mark.parametrize("of", ["image", "text"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_cascade_reaches_every_weight_of_the_tower_and_no_other(family, of):
    clip = small_clip(family)
    broken = sanity.copied(clip)
    names = list(sanity.randomised(broken, of, 0))
    assert names[0] == "output" and names[1:] == [f"block {i}" for i in reversed(range(len(names) - 1))]
    changed = {
        name
        for (name, old), (_, new) in zip(clip.model.named_parameters(), broken.model.named_parameters(), strict=True)
        # CoCa's decoder has a weight that nobody initialises.
        if not torch.allclose(old, new, rtol=0, atol=0, equal_nan=True)
    }
    assert any("block" in name for name in changed) and not any("embed" in name.split(".")[-2:] for name in changed)
    assert all(name.startswith("visual.") == (of == "image") for name in changed)
    spread = {name for name, w in clip.model.named_parameters() if w.numel() > 1 and w.std() > 0}
    tower = {name for name in spread if name.startswith("visual.") == (of == "image") and "text_decoder" not in name}
    assert not {name for name in tower - changed if "blocks." in name}
    tops = {"image": ("visual.proj", "visual.head.proj.weight"), "text": ("text_projection", "text.text_projection")}
    assert changed & set(tops[of]) == tower & set(tops[of])


def test_rank_correlation_and_ssim_are_those_of_scipy_and_scikit_image():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 9, 8)).round(1)
    ours = rank_correlation(first.reshape(5, -1), second.reshape(5, -1))
    theirs = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(ours, theirs)
    ours = sanity.map_ssim(first, second)
    unit = [(a - a.min()) / (a.max() - a.min()) for a in (*first, *second)]
    theirs = [structural_similarity(a, b, data_range=1.0) for a, b in zip(unit[:5], unit[5:], strict=True)]
    np.testing.assert_allclose(ours, theirs)
    some = np.array([[3.0, 1, 2, np.nan], [1, 1, 1, 1]])
    np.testing.assert_allclose(rank_correlation(some, some), [1, np.nan])


def test_seed_stability_is_the_mean_over_pairs(clip, scenes, monkeypatch):
    maps = np.random.default_rng(0).normal(size=(3, 6, 8, 8))
    monkeypatch.setattr(sanity, "explain", lambda *args, seed: xr.DataArray(maps[seed]))
    found = sanity.seed_stability("random", clip, scenes, seeds=(0, 1, 2)).seed_stability
    pairs = [
        [spearmanr(maps[a, i].ravel(), maps[b, i].ravel())[0] for a, b in ((0, 1), (0, 2), (1, 2))] for i in range(6)
    ]
    np.testing.assert_allclose(found[:, 0], np.mean(pairs, 1), atol=1e-12)


def test_seed_stability_of_noise_and_of_what_has_no_seed(clip, scenes):
    assert abs(float(sanity.seed_stability("random", clip, scenes).seed_stability.mean())) < 0.15
    assert sanity.seed_stability("random", clip, scenes, of="text", seeds=(0, 5)).seed_stability.shape == (6, 1)
    refused("grad_eclip has no seed", sanity.seed_stability, "grad_eclip", clip, scenes)
    refused(r"seeds=\(1, 1\)", sanity.seed_stability, "random", clip, scenes, seeds=(1, 1))


@pytest.mark.parametrize("of", ["image", "text"])
def test_complete_methods_add_up_and_others_do_not(clip, scenes, of):
    pixels, tokens = clip.pixels(scenes.image[:2]), clip.tokens(scenes.caption[:2])
    for name, about in xk.methods().items():
        if of in about["explains"] and (about["complete"] or name == "grad_eclip"):
            heat = xk.explain(name, clip, pixels, tokens, of=of).values[:, None]
            gap = faithfulness.completeness(clip, heat, pixels, tokens, of)
            assert gap.shape == (2, 1) and (np.median(gap) < 0.1) == about["complete"], (name, gap)
    exact = np.array([[[0.25]], [[0.5]]])
    refused("fill='x': for the", faithfulness.completeness, clip, exact, pixels, tokens, of, fill="x")


def test_cost_counts_time_and_memory(clip, scenes):
    cheap, dear = (cost.cost(name, clip, scenes, repeats=2) for name in ("centre", "grad_eclip"))
    validate(dear, "evaluation")
    assert 0 < float(cheap.seconds[0]) < float(dear.seconds[0])
    assert 1 < float(dear.forward_passes[0]) < 20 and float(dear.peak_memory[0]) > float(cheap.peak_memory[0])
    refused("repeats=0", cost.cost, "centre", clip, scenes, repeats=0)


def test_peak_memory_is_what_is_held_at_once():
    def work():
        for _ in range(3):  # each 4 MB is given back before the next
            torch.zeros(1_000_000)
        both = [torch.zeros(1_000_000) for _ in range(2)]
        del both

    assert cost.peak_memory(work, torch.device("cpu")) == pytest.approx(8e6, rel=0.01)


@pytest.fixture(scope="module")
def pairs():
    return xk.draw_pairs("absent", 24, seed=2)


def maps_of(pairs, where, seed=0):
    maps = where(pairs).coarsen(y=8, x=8).mean().rename(y="row", x="col").drop_vars(["row", "col"])
    maps = maps.transpose("sample", "row", "col")
    return maps + 1e-3 * np.random.default_rng(seed).random(maps.shape)


def test_hallucination_tells_heat_on_an_object_from_heat_everywhere(pairs):
    on_it = maps_of(pairs, lambda p: (p.object_mask & p.object_named).any("object"))
    flat = maps_of(pairs, lambda p: 0.2 + 0 * p.object_mask.any("object"))
    found = hallucination.hallucination(on_it, flat, pairs)
    validate(found, "evaluation")
    assert float(found.auroc_box[0]) == 1
    assert float(hallucination.hallucination(flat, on_it, pairs).auroc_box[0]) == 0
    assert float(hallucination.hallucination(on_it, on_it, pairs).auroc_heat[0]) == 0.5
    np.testing.assert_allclose(found.absent_on_objects + found.absent_on_background, 1)
    assert (found.absent_on_alike <= found.absent_on_objects + 1e-9).all()
    area = pairs.object_mask.any("object").mean(("y", "x"))
    np.testing.assert_allclose(found.absent_on_objects[:, 0], area, atol=0.01)


def test_heat_of_the_absent_on_objects_alike(pairs):
    """Foil and object share a colour or a shape exactly where the words do."""
    said = zip(pairs.foil.values, pairs.object_name.values, strict=True)
    alike = [[bool({*str(foil).split()} & {*str(name).split()[1:]}) for name in row] for foil, row in said]
    alike = xr.DataArray(np.array(alike), dims=("sample", "object"))
    assert 0.1 < alike.mean() < 0.9
    heat = maps_of(pairs, lambda p: (p.object_mask & alike).any("object"))
    found = hallucination.hallucination(heat, heat, pairs)
    none, large = ~alike.any("object"), (pairs.object_mask & alike).sum(("object", "y", "x")) > 100
    assert (found.absent_on_alike[(large & ~none).values, 0] > 0.3).all()
    assert (found.absent_on_alike[none.values] == 0).all()


def test_best_box_by_hand():
    heat = np.zeros((1, 8, 8))
    heat[0, 2:4, 5:7], heat[0, 7, 0] = 1, 3.5
    assert hallucination.best_box(heat, area=1 / 16) == 4 and hallucination.best_box(-heat) == 0
    assert hallucination.best_box(heat, area=1) == pytest.approx(7.5)


def test_bad_hallucination_inputs(clip, pairs, scenes):
    heat = maps_of(pairs, lambda p: p.object_mask.any("object"))
    maps = heat.expand_dims(explainer=["centre", "edge"])
    for given, message in (
        ((heat, heat, scenes), "the scenes have no foils"),
        ((heat, heat[:3], pairs), "the absent maps"),
        ((heat, heat, pairs, 0), "area=0"),
        ((heat, heat, pairs.assign(foil=("sample", ["a photo"] * 24))), "'a photo' doesn't name one object"),
        ((maps, maps[::-1], pairs), "both must be alike"),
        ((maps[:, ::-1], maps, pairs), "of 24 samples but the scenes of 24, or of others"),
    ):
        refused(message, hallucination.hallucination, *given)


def test_agreement_with_quantus(clip):
    """Energy is quantus' relevance mass accuracy, and the completeness gap is the difference it measures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import quantus

        rng = np.random.default_rng(0)
        mask = np.zeros((5, 8, 8), bool)
        mask[:, 2:5, 1:6] = True
        heat = rng.random((5, 8, 8))
        pixels = np.zeros((5, 1, 8, 8))
        given = {"x_batch": pixels, "y_batch": np.zeros(5, int), "a_batch": heat[:, None], "s_batch": mask[:, None]}
        model = torch.nn.Flatten()
        quiet = {"disable_warnings": True, "display_progressbar": False, "normalise": False}
        theirs = quantus.RelevanceMassAccuracy(**quiet)(model=model, **given)
        np.testing.assert_allclose(localisation.energy(heat, mask), theirs)
        theirs = quantus.PointingGame(**quiet)(model=model, **given)
        np.testing.assert_allclose(localisation.pointing_game(heat, mask), theirs)
        theirs = quantus.AUC(**quiet)(model=model, **given)
        from_auroc = [hallucination.auroc(h[m], h[~m]) for h, m in zip(heat, mask, strict=True)]
        np.testing.assert_allclose(from_auroc, theirs)
