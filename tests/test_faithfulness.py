"""Deletion, insertion, confidence and retrieval: against the numbers of the released codes, and where they are known."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from golden_models import MODELS, arrays, assert_near, golden_model
from oracles import released_curves as released
from refusals import refused
from small_models import stand_in

import xaikit as xk
from xaikit.clip import perturbation as perturbing
from xaikit.clip.towers import Tower
from xaikit.evaluation import confidence, faithfulness, metrics, retrieval
from xaikit.files import store


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(10, seed=21, objects=(2, 3))


@pytest.fixture(scope="module")
def inputs(clip, scenes):
    return clip.pixels(scenes.image), clip.tokens(scenes.caption)


@pytest.fixture(scope="module")
def heat(clip, scenes):
    return xk.explain_all(clip, scenes.image, scenes.caption, ["grad_eclip", "centre", "random"]).heat.values


@pytest.fixture(scope="module")
def word_heat(clip, scenes):
    names = ["grad_eclip", "random"]
    return xk.explain_all(clip, scenes.image, scenes.caption, names, of="text").word_heat.values


@MODELS
def test_the_released_deletion_and_insertion_give_the_authors_numbers(model):
    inputs, golden = arrays(model, "deletion_insertion")
    names = [name for name in ("i0", "i1") if f"{name}__heatmap" in golden.files]
    keys = ("heatmap", "fill_rgb", "labels", "order")
    stack = {key: np.stack([golden[f"{i}__{key}"] for i in names]) for key in keys}
    np.testing.assert_array_equal(released.pixel_order(stack["heatmap"]), stack["order"])
    images = np.stack([inputs[f"image{i[1]}_u8"] for i in names])
    weights = torch.tensor(golden["zero_shot_weights"]).float()
    colours = stack["fill_rgb"].reshape(len(names), -1, 3)
    for which in (0, 1):
        ours = released.released_deletion_insertion(
            golden_model(model), stack["heatmap"], images, weights, stack["labels"][:, which], colours
        )
        for index, i in enumerate(names):
            for kind in ("deletion", "insertion"):
                short = kind[:3]
                assert_near(ours[f"{kind}_logits"][index], golden[f"{i}__{short}_logits"])
                assert_near(ours[f"{kind}_cosine"][index], golden[f"{i}__{short}_cosine"])
                np.testing.assert_array_equal(ours[f"{kind}_hits"][index], golden[f"{i}__{short}_hits_label{which}"])
                np.testing.assert_array_equal(np.float32(ours[f"{kind}_fraction"]), golden[f"fractions_{kind}"])


@MODELS
@pytest.mark.parametrize("as_shipped", [False, True])
def test_confidence_gives_the_authors_numbers(model, as_shipped):
    inputs, golden = arrays(model, "confidence")
    clip = golden_model(model)
    pairs = sorted({key[:5] for key in golden.files})
    assert len(pairs) >= 2
    for pair in pairs:
        pixels, tokens = torch.tensor(inputs[f"image{pair[1]}"])[None], torch.tensor(inputs["text_ids"])[[int(pair[4])]]
        ours = confidence.confidence_change(
            clip, golden[f"{pair}__vmap"][None, None], pixels, tokens, "image", as_shipped
        )
        words = golden[f"{pair}__tmap"][None, None, 1:-1]
        ours += confidence.confidence_change(clip, words, pixels, tokens, "text", released=True)
        expected = golden[f"{pair}__released" if as_shipped else f"{pair}__corrected"]
        np.testing.assert_allclose(np.ravel(ours), expected, atol=1e-3, err_msg=pair)


def test_the_intended_text_confidence_keeps_the_prompts_start_and_end(clip, scenes):
    pixels, tokens = clip.pixels(scenes.image[:1]), clip.tokens("a red ring above a blue cross")
    heat = np.array([[[0.0, 3, 4, 1, 0, 2, 5]]])
    drop, increase = confidence.confidence_change(clip, heat, pixels, tokens, "text")
    whole, left = clip.similarity(pixels, ["a red ring above a blue cross", "red ring cross"])[0].tolist()
    assert drop[0, 0] == pytest.approx(100 * max(0, whole - left), abs=1e-3) and increase[0, 0] == 100 * (left > whole)


def test_confidence_of_everything_and_of_nothing(clip, inputs):
    """A map that is 1 nearly everywhere keeps the image; a flat one has no hot part and keeps nothing."""
    one_corner = np.ones((10, 1, 8, 8))
    one_corner[..., 0, 0] = 0
    drop, _ = confidence.confidence_change(clip, np.concatenate([one_corner, 0 * one_corner + 3], 1), *inputs)
    assert drop[:, 0].mean() < 0.1 * drop[:, 1].mean()


def test_words_go_hottest_first(clip):
    text = "a red ring above a blue cross"
    pixels, tokens = clip.pixels(xk.draw_scenes(1, seed=3).image), clip.tokens(text)
    heat = np.array([[[0.1, 7, 6, 5, 0.2, 4, 3]]])
    shares, deleted, inserted = faithfulness.deletion_insertion(clip, heat, pixels, tokens, "text", steps=7)
    left = ["a ring above a blue cross", "a above a blue cross", "a a blue cross", "a a cross", "a a", "a"]
    come = ["red", "red ring", "red ring above", "red ring above blue", "red ring above blue cross"]
    come.append("red ring above a blue cross")
    np.testing.assert_allclose(shares, np.arange(8) / 7)
    np.testing.assert_allclose(deleted[0, 0, :-1], clip.similarity(pixels, [text, *left])[0], atol=1e-5)
    np.testing.assert_allclose(inserted[0, 0, 1:], clip.similarity(pixels, [*come, text])[0], atol=1e-5)
    assert deleted[0, 0, -1] == inserted[0, 0, 0]
    padded = faithfulness.deletion_insertion(clip, heat, pixels, tokens, "text", steps=7, fill="padding")[1]
    changed = tokens.clone()
    changed[0, 2] = perturbing.padding(clip)
    np.testing.assert_allclose(padded[0, 0, 1], clip.similarity(pixels, changed)[0, 0], atol=1e-5)


@pytest.mark.parametrize("of", ["image", "text"])
def test_a_batch_equals_its_singles(clip, inputs, heat, word_heat, of):
    pixels, tokens = inputs
    values = heat if of == "image" else word_heat
    tied = np.round(values / np.abs(values).max(), 1)
    measure = faithfulness.deletion_insertion
    together = measure(clip, tied, pixels, tokens, of, steps=4, score="similarity", batch_size=7)
    longest = int(clip.content(tokens[4:5]).sum())
    alone = tied[4:5] if of == "image" else tied[4:5, :, :longest]
    for many, one in zip(together[1:], measure(clip, alone, pixels[4:5], tokens[4:5], of, steps=4)[1:], strict=True):
        np.testing.assert_allclose(many[4:5], one, atol=1e-5)


def test_scores_among_candidates(clip, scenes, inputs):
    """The whole image's scores are those of the similarity matrix, for truth, prediction and given classes."""
    pixels, tokens = inputs
    classes = [*dict.fromkeys(map(str, scenes.caption.values)), "a red ring", "two blue rings"]
    logits = clip.model.logit_scale.exp().item() * clip.similarity(pixels, classes).double().numpy()
    own = np.array([classes.index(text) for text in map(str, scenes.caption.values)])
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    place = (logits > np.take_along_axis(logits, own[:, None], 1)).sum(1)
    flat = np.random.default_rng(0).random((len(pixels), 1, 8, 8))

    def whole(**choice):
        return faithfulness.deletion_insertion(clip, flat, pixels, tokens, steps=1, **choice)[1][:, 0, 0]

    expected = np.take_along_axis(chance, own[:, None], 1)[:, 0]
    np.testing.assert_allclose(whole(score="probability", candidates=classes), expected, atol=1e-4)
    np.testing.assert_array_equal(whole(score="top1", candidates=classes), place < 1)
    np.testing.assert_array_equal(whole(score="top5", candidates=clip.tokens(classes)), place < 5)
    assert (whole(score="top1", label="prediction", candidates=classes) == 1).all()
    by_place = np.argsort(-logits, 1)
    for place, hits in ((0, (1, 1)), (1, (0, 1)), (4, (0, 1)), (5, (0, 0))):
        for score, hit in zip(("top1", "top5"), hits, strict=True):
            assert (whole(score=score, label=by_place[:, place], candidates=classes) == hit).all(), (place, score)
    given = whole(score="probability", label=own, candidates=clip.encode_text(clip.tokens(classes)))
    np.testing.assert_allclose(given, expected, atol=1e-4)
    best = whole(score="similarity", label="prediction", candidates=classes)
    np.testing.assert_allclose(best, clip.similarity(pixels, classes).amax(1), atol=1e-5)
    words = np.zeros((len(pixels), 1, tokens.shape[1]))
    of_text = faithfulness.deletion_insertion(clip, words, pixels, tokens, "text", steps=1, score="top1")[1][:, 0, 0]
    np.testing.assert_array_equal(of_text, clip.similarity(pixels, tokens).argmax(0) == torch.arange(len(pixels)))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"score": "logit"}, "score='logit': choose from similarity"),
        ({"label": "guess"}, "label='guess': choose from truth, prediction"),
        ({"unit": "word"}, "unit='word': choose from patch, pixel"),
        ({"unit": "pixel", "steps": 5000}, "steps=5000: a whole number from 1 to the 4096 pixels"),
        ({"candidates": ["a red ring"] * 9}, "the text of sample 0 isn't among the candidates"),
        (
            {"score": "top5", "label": "prediction", "candidates": ["a red ring", "a blue ring"]},
            "at least 6 candidates",
        ),
        ({"label": np.array([99] * 10)}, "for each of the 10 samples the index of one of the 10"),
    ],
)
def test_bad_choices_of_deletion_and_insertion(clip, inputs, heat, choice, message, monkeypatch):
    monkeypatch.setattr(faithfulness, "scores_of_images", lambda *args, **rest: pytest.fail("worked before it checked"))
    with pytest.raises(ValueError, match=message):
        faithfulness.deletion_insertion(clip, heat, *inputs, **choice)


def test_bad_choices_of_words_and_occlusion(clip, inputs, heat, word_heat):
    words, occlusion = partial(faithfulness.deletion_insertion, of="text"), faithfulness.progressive_occlusion
    for measure, maps, choice, message in (
        (words, word_heat, {"fill": "mean"}, "fill='mean': for the text choose from padding, removed"),
        (words, word_heat[..., :2], {}, "the word heat has 2 tokens but the longest prompt has"),
        (words, word_heat, {"steps": 0}, "steps=0"),
        (occlusion, heat, {"shares": (0.1, 2)}, r"shares=\(0.1, 2\)"),
        (occlusion, heat, {"draws": 0}, "draws=0"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(clip, maps, *inputs, **choice)


@pytest.mark.parametrize("batch_size", [5, 256])
def test_pixels_as_units(clip, inputs, batch_size):
    """Of a map that is hot in a corner, the first quarter of the pixels is that corner, exactly, drawn smoothly."""
    pixels, tokens = inputs
    slope = -np.maximum(*np.mgrid[:8, :8]).astype(float)
    heat = np.broadcast_to(slope, (len(pixels), 2, 8, 8))
    share, deleted, inserted = faithfulness.deletion_insertion(
        clip, heat, pixels, tokens, steps=4, fill="black", unit="pixel", batch_size=batch_size
    )
    corner = pixels.clone()
    corner[..., :32, :32] = perturbing.filled(clip, pixels, "black")[..., :32, :32]
    np.testing.assert_allclose(share, np.arange(5) / 4)
    cosine = (clip.encode_image(corner) * clip.encode_text(tokens)).sum(-1)
    np.testing.assert_allclose(deleted[:, 0, 1], cosine, atol=0.02)
    np.testing.assert_allclose(deleted[:, 0, 0], clip.similarity(pixels, tokens).diagonal(), atol=1e-5)
    np.testing.assert_allclose(deleted[:, 0], deleted[:, 1], atol=1e-5)
    np.testing.assert_allclose(inserted[..., -1], deleted[..., 0], atol=1e-5)


def test_occlusion_is_the_start_of_deletion(clip, scenes, inputs, heat):
    whole, occluded, random = faithfulness.progressive_occlusion(clip, heat, *inputs, shares=(0.125, 0.25))
    fraction, deleted, _ = faithfulness.deletion_insertion(clip, heat, *inputs, steps=8)
    np.testing.assert_allclose(whole, deleted[:, 0, 0], atol=1e-5)
    np.testing.assert_allclose(occluded, deleted[..., 1:3], atol=1e-5)
    assert random.shape == (10, 2) and random.mean() > occluded[:, 0].mean()
    measured = xk.evaluate(xk.explain("grad_eclip", clip, scenes.image, scenes.caption), clip, scenes, steps=2)
    shares = faithfulness.progressive_occlusion(clip, heat[:, :1], *inputs)
    np.testing.assert_allclose(measured.occlusion[:, 0], (shares[2][:, None] - shares[1]).mean(-1)[:, 0], atol=1e-5)


def test_everything_that_evaluate_measures_of_the_truth_and_of_noise(clip, scenes):
    mask = (scenes.object_mask & scenes.object_named).any("object")
    truth = mask.coarsen(y=8, x=8).mean().rename(y="row", x="col").assign_coords(row=range(8), col=range(8))
    good = xk.evaluate(truth.rename("heat"), clip, scenes, steps=2, fill="black")
    noise = xk.evaluate(xk.explain("random", clip, scenes.image, scenes.caption), clip, scenes, steps=2, fill="black")
    assert {
        "pointing_game", "energy", "iou_best", "iou_otsu", "average_precision",
        "energy_of_possible", "iou_of_possible", "auroc", "smallest_share",
        "effect_correlation", "best_object", "unused_heat", "flat", "fraction",
        "deletion_curve", "deletion_auc", "insertion_curve", "insertion_auc", "confidence_drop", "confidence_increase",
        "occlusion",
    } <= {*good}  # fmt: skip
    ranking = {name for name, one in metrics.all_metrics("image").items() if one.direction != "neither"}
    for name in ranking - {"confidence_increase", "flat"}:
        sign = -1 if good[name].attrs["score_direction"] == "lower is better" else 1
        assert sign * float(good[name].mean()) > sign * float(noise[name].mean()), name
    assert (good.pointing_game == 1).all() and float(good.iou_best.mean()) > 0.45  # the grid is coarse
    similarity = clip.similarity(scenes.image, scenes.caption).diagonal()
    np.testing.assert_allclose(good.deletion_curve[:, 0, 0], similarity, atol=1e-4)
    np.testing.assert_allclose(good.insertion_curve[:, 0, -1], similarity, atol=1e-4)
    one_named = (scenes.object_named & scenes.object_mask.any(("y", "x"))).sum("object") < 2
    assert 0 < one_named.sum() < 10
    np.testing.assert_array_equal(np.isnan(good.smallest_share[:, 0]), one_named)
    assert (good.smallest_share[:, 0].dropna("sample") > 0.3).all()


def test_good_words_matter_more_than_random_ones(clip):
    scenes = xk.draw_scenes(60, seed=21, objects=(2, 3))
    names = ["grad_eclip", "random"]
    words = xk.explain_all(clip, scenes.image, scenes.caption, names, of="text").word_heat
    measured = xk.evaluate(words, clip, scenes, steps=6)
    for name in ("deletion_auc", "insertion_auc", "confidence_drop", "confidence_increase"):
        values = measured[f"word_{name}"]
        assert values.dims == ("sample", "explainer") and values.attrs["score_direction"]
    means = measured.mean("sample")
    assert means.word_deletion_auc[0] < means.word_deletion_auc[1]
    assert means.word_insertion_auc[0] > means.word_insertion_auc[1]
    images = xk.explain_all(clip, scenes.image, scenes.caption, names).heat
    both = xr.merge([xk.evaluate(images, clip, scenes, steps=2), measured], combine_attrs="override")
    store.validate(both, "evaluation")


@pytest.mark.parametrize("of", ["text", "image"])
def test_retrieval_starts_and_ends_where_it_must(clip, of):
    scenes = xk.draw_scenes(24, seed=4, objects=(2, 2), captions="relation")
    maps = xk.explain_all(clip, scenes.image, scenes.caption, ["grad_eclip", "random"], of=of)
    heat = maps["word_heat" if of == "text" else "heat"]
    found = retrieval.retrieval_faithfulness(clip, heat, scenes, steps=4)
    known = retrieval.recall_at_1(clip, scenes)
    for short, name in (("ir", "text_to_image"), ("tr", "image_to_text")):
        deletion, insertion = (found[f"{short}_{way}_curve"] for way in ("deletion", "insertion"))
        np.testing.assert_allclose([deletion[:, 0], insertion[:, -1]], known[name])
        # With nothing left all inputs of the perturbed side are (nearly) alike, so at most a few are found.
        assert float(deletion[:, -1].max()) <= 3 / 24 and (deletion[:, -1] == insertion[:, 0]).all()
        assert found[f"{short}_deletion_auc"][0] < found[f"{short}_deletion_auc"][1]
        assert found[f"{short}_insertion_auc"][0] >= found[f"{short}_insertion_auc"][1]
        for way, curve in (("deletion", deletion), ("insertion", insertion)):
            area, low, high = (found[f"{short}_{way}_auc{end}"].values for end in ("", "_low", "_high"))
            np.testing.assert_allclose(area, np.trapezoid(curve, found.fraction))
            assert ((0 <= low) & (low < area) & (area < high) & (high <= 1)).all()
            # No wider than that of values which are all 0 or 1.
            assert (high - low <= 2 * 2.07 * np.sqrt(area * (1 - area) / 23) + 1e-9).all()
    ask = retrieval.retrieval_faithfulness
    refused("24 samples but the scenes of 3", ask, clip, heat, scenes.isel(sample=slice(3)))
    refused("fill='x'", ask, clip, heat, scenes, fill="x")


def test_deletion_is_the_pixel_flipping_of_quantus(monkeypatch):
    """A model whose score is a weighted sum of 4 x 4 pixels, each a patch."""
    weight = torch.linspace(-1, 2, 16).view(4, 4)
    rng = np.random.default_rng(0)
    pixels, heat = rng.random((3, 1, 4, 4)).astype(np.float32), rng.random((3, 1, 4, 4))
    described = Tower([], [], None, (4, 4), (4, 4), None)
    monkeypatch.setattr(perturbing, "tower", lambda clip, side: described)
    fake = stand_in(lambda pixels: (pixels[:, :1] * weight).sum((2, 3)))
    images = torch.tensor(pixels).expand(3, 3, 4, 4)
    curves = faithfulness.deletion_insertion(fake, heat, images, torch.zeros(3, 1), steps=16, fill="black")[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import quantus

        flip = quantus.PixelFlipping(
            features_in_step=1, perturb_baseline=0.0, normalise=False, abs=False, disable_warnings=True
        )
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1, bias=False))
        model.eval()[1].weight.data = weight.view(1, 16)
        theirs = flip(model=model, x_batch=pixels, y_batch=np.zeros(3, int), a_batch=heat, softmax=False)
    np.testing.assert_allclose(curves[:, 0, 1:], np.array(theirs).reshape(3, 16), atol=1e-5)


def test_half_precision_stays_near(inputs, heat, scenes):
    half = xk.load_clip("tiny-clip", precision="bf16")
    curves = [
        faithfulness.deletion_insertion(model, heat, *inputs, steps=4)[1] for model in (half, xk.load_clip("tiny-clip"))
    ]
    np.testing.assert_allclose(*curves, atol=0.02)
