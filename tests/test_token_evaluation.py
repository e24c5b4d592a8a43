"""Maps of answers measured: what planted words' objects get of them, and curves of deleted and inserted cells against
plain passes of the model; how scenes and batches are cut changes nothing."""

import numpy as np
import pytest
import torch
import xarray as xr
from refusals import refused
from small_mllms import CLASSES, alone, small_mllm

import xaikit as xk
from xaikit.evaluation import tokens as measuring
from xaikit.evaluation.tokens import (
    measure_answers,
    measure_faithfulness,
    measure_tokens,
    measured_words,
    reduce_to_grid,
    token_curve_areas,
    token_deletion_insertion,
)
from xaikit.measures.localisation import iou_otsu, region_coverage
from xaikit.measures.planted_tokens import context_auroc
from xaikit.mllm.conversations import answer_ids

METHODS = ["lens", "arc", "random"]
PROMPTS = ("describe the scene", "what is left of the red circle ?", "describe the scene")


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_descriptions(5, seed=11, objects=(1, 4))


@pytest.fixture(scope="module")
def answers(bundled, scenes):
    return xk.explain_all_tokens(bundled, scenes.image, methods=METHODS)


@pytest.fixture(scope="module")
def together(bundled, scenes):
    return measure_tokens(bundled, scenes, METHODS)


def test_it_is_the_parts_together(scenes, answers, together):
    parts = measured_words(answers, scenes)
    for name, values in parts.data_vars.items():
        np.testing.assert_allclose(together[name], values, atol=1e-5, err_msg=name)
    assert together.exact.values.tolist() == (answers.answer.values == scenes.caption.values).tolist()
    assert together.token_text.values.tolist() == np.char.strip(answers.answer_text.values).tolist()


def test_how_scenes_are_cut_changes_nothing(bundled, scenes, together, monkeypatch):
    monkeypatch.setattr(measuring, "SCENES_AT_ONCE", 2)
    cut = measure_tokens(bundled, scenes, METHODS, ["describe the picture"] * 5, batch_size=1)
    xr.testing.assert_allclose(together, cut, atol=1e-4)
    assert (together.kind == cut.kind).all() and (together.token_object == cut.token_object).all()


def test_agreement_of_contexts_is_that_of_the_answers_own_words(scenes, answers, together):
    measured = together.context_auroc
    assert np.isnan(measured.sel(explainer=["lens", "random"])).all()
    named = xk.samples.name_objects(answers.answer_text.values, scenes).token_object.values
    for sample in range(5):
        told = int((answers.answer_text.values[sample] != "").sum())
        prompt = int((answers.context_text.values[sample] != "").sum()) - told
        overlap = answers.rank_overlap.sel(explainer="arc").values[sample, :told, prompt : prompt + told]
        expected = context_auroc(overlap[None], named[sample : sample + 1, :told])
        np.testing.assert_allclose(measured.sel(explainer="arc")[sample], expected[0])
    assert np.isfinite(measured.sel(explainer="arc")).any()


def test_faithfulness_is_that_of_the_maps(bundled, scenes, answers):
    words = np.isin(np.char.strip(answers.answer_text.values), xk.samples.COLOURS)
    found = measure_faithfulness(bundled, scenes.image, answers, words, steps=2)
    views = [bundled.family.view(image, "describe the picture") for image in scenes.image.values]
    ids = [row[row >= 0].tolist() for row in answers.answer_id.values]
    curves = token_deletion_insertion(bundled, views, ids, answers.token_heat.values, words, 2)
    expected = token_curve_areas(*curves, METHODS)
    for name, values in expected.data_vars.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4)
    finer = xk.explain_all_tokens(bundled, scenes.image, methods={"fine": ("lens", {"scales": 2})})
    assert np.isfinite(measure_faithfulness(bundled, scenes.image, finer, words, steps=2).token_deletion_auc).all()


def test_scenes_that_cannot_be_explained_are_nan(bundled, scenes):
    prompts = ["describe the picture"] * 4 + ["describe the elephant"]
    words = measure_tokens(bundled, scenes, ["lens"], prompts, errors="record")
    whole = measure_tokens(bundled, scenes.isel(sample=slice(4)), ["lens"])
    assert np.isnan(words.own_iou[4]).all() and not words.exact[4]
    np.testing.assert_allclose(words.own_iou[:4, :, : whole.sizes["token"]], whole.own_iou, atol=1e-5)
    answers = xk.explain_all_tokens(bundled, [*scenes.image.values[:2], "/no.png"], methods=["lens"], errors="record")
    found = measure_faithfulness(bundled, [*scenes.image.values[:2], "/no.png"], answers, steps=2).token_deletion_auc
    assert np.isfinite(found[:2]).all() and np.isnan(found[2]).all()
    refused("2 images but 3 answers", measure_faithfulness, bundled, scenes.image.values[:2], answers)
    one = xk.explain_tokens(bundled, scenes.image, method="lens")  # without an explainer dimension
    np.testing.assert_allclose(
        measured_words(one, scenes).own_iou[:, 0],
        measured_words(xk.explain_all_tokens(bundled, scenes.image, methods=["lens"]), scenes).own_iou[:, 0],
    )


def test_the_wrong_kind_of_model_is_named(bundled, scenes):
    refused("mllm is a Clip: a model of load_mllm", xk.explain_tokens, xk.load_clip("tiny-clip"), scenes.image)
    refused("clip is a Mllm: a model of load_clip", xk.explain, "mmel", bundled, scenes.image, scenes.caption)
    refused("tiny-clip is a CLIP: load it with load_clip", xk.load_mllm, "tiny-clip")


@pytest.fixture(params=CLASSES)
def mllm(request):
    return small_mllm(request.param)


def inputs(mllm, lengths=(4, 2, 3), scale=1.0, enlargement="interpolate"):
    """Views, answers, random heat of two explainers, and which tokens to measure: the first and the last but one's."""
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 255, (3, 84, 84, 3), dtype=np.uint8)
    views = [mllm.family.view(i, prompt, scale, enlargement) for i, prompt in zip(pictures, PROMPTS, strict=True)]
    answers = [rng.integers(14, len(mllm.output_weight), length).tolist() for length in lengths]
    heat = rng.random((3, 2, max(lengths), *views[0].grid))
    words = np.zeros((3, max(lengths)), bool)
    words[0, [1, 3]] = words[2, 0] = True
    return views, answers, heat, words


@torch.no_grad()
def log_probability(mllm, view, answer, token, keep):
    """Of one token, from one plain pass over the whole answer with the kept cells (rows, cols) of the image."""
    seen = mllm.family.masked([view], torch.as_tensor(keep).flatten()[None])
    logits = alone(mllm, seen[0], answer).logits
    return float(logits[0, len(view.ids) - 1 + token].log_softmax(-1)[answer[token]])


def kept_after(heat, count):
    """Which cells stay when the hottest ``count`` ones go; no ties."""
    return heat < np.sort(heat.ravel())[::-1][count - 1] if count else np.ones(heat.shape, bool)


def test_every_point_of_the_curves_is_that_of_a_plain_pass(mllm):
    views, answers, heat, words = inputs(mllm)
    cells = heat[0, 0, 0].size
    fraction, deletion, insertion = token_deletion_insertion(mllm, views, answers, heat, words, steps=4)
    np.testing.assert_allclose(fraction, np.round(np.linspace(0, cells, 5)) / cells, rtol=1e-6)
    assert deletion.shape == insertion.shape == (3, 2, 4, 5)
    for sample, token in zip(*np.nonzero(words), strict=True):
        for explainer, step in np.ndindex(2, 5):
            one = heat[sample, explainer, token]
            keep = kept_after(one, round(step * cells / 4))
            for curve, kept in ((deletion, keep), (insertion, ~keep)):
                wanted = log_probability(mllm, views[sample], answers[sample], token, kept)
                assert curve[sample, explainer, token, step] == pytest.approx(wanted, abs=2e-4)
    measured = np.broadcast_to(words[:, None, :, None], deletion.shape)
    for curve in (deletion, insertion):
        assert (np.isnan(curve) == ~measured).all()
        assert np.ptp(curve[0, 0, 1]) > 1e-3  # the image matters to these models


def test_crops_of_internvl_lose_the_cells_of_the_map():
    internvl = small_mllm("internvl")
    views, answers, heat, words = inputs(internvl, scale=2.0, enlargement="crops")
    _, deletion, _ = token_deletion_insertion(internvl, views, answers, heat, words, steps=2)
    wanted = log_probability(internvl, views[0], answers[0], 3, kept_after(heat[0, 1, 3], 8))
    assert deletion[0, 1, 3, 1] == pytest.approx(wanted, abs=2e-4)


def test_the_batch_changes_nothing_and_bounds_the_images(llava, monkeypatch):
    views, answers, heat, words = inputs(llava)
    sizes = []
    run = llava.family.run
    monkeypatch.setattr(llava.family, "run", lambda seen: sizes.append(len(seen["pixel_values"])) or run(seen))
    whole = token_deletion_insertion(llava, views, answers, heat, words, steps=3)
    # Three tokens of two explainers at 2 * (3 - 1) points, and both ends of each.
    assert sizes == [3 * 2 * 4, 3 * 2], "samples, tokens and explainers share batches"
    sizes.clear()
    small = token_deletion_insertion(llava, views, answers, heat, words, steps=3, batch_size=5)
    assert max(sizes) == 5
    for ours, other in zip(whole, small, strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-5)


def test_one_step_has_the_ends_only_and_no_words_no_numbers(llava):
    views, answers, heat, words = inputs(llava)
    fraction, deletion, insertion = token_deletion_insertion(llava, views, answers, heat, words, steps=1)
    assert fraction.tolist() == [0, 1]
    np.testing.assert_array_equal(deletion, insertion[..., ::-1])
    np.testing.assert_array_equal(deletion[:, 0], deletion[:, 1])
    whole = log_probability(llava, views[0], answers[0], 3, np.ones((4, 4)))
    assert deletion[0, 0, 3, 0] == pytest.approx(whole, abs=2e-4)
    for curve in token_deletion_insertion(llava, views, answers, heat, words & False, steps=3)[1:]:
        assert np.isnan(curve).all()


def test_equally_hot_cells_go_in_one_seeded_order(llava):
    views, answers, heat, words = inputs(llava)
    one, same, other = (
        token_deletion_insertion(llava, views, answers, np.full_like(heat, level), words, steps=4, seed=seed)[1]
        for level, seed in ((1.0, 0), (2.0, 0), (1.0, 1))
    )
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one[:, 0], one[:, 1])
    assert np.nanmax(np.abs(one - other)) > 1e-4


def test_the_planted_object_is_what_its_words_need(bundled):
    scenes = xk.draw_descriptions(6, seed=11, objects=(2, 2))
    views = [bundled.family.view(image, "describe the picture") for image in scenes.image.values]
    answers = [answer_ids(bundled, caption) for caption in scenes.caption.values.tolist()]
    words = np.isin(scenes.token_text.values, xk.samples.COLOURS) & (scenes.token_object.values >= 0)
    covered = region_coverage(scenes.object_mask.values, views[0].grid)
    own = np.take_along_axis(covered, np.maximum(scenes.token_object.values, 0)[..., None, None], 1)
    heat = np.stack([own, -own], 1)
    fraction, deletion, insertion = token_deletion_insertion(bundled, views, answers, heat, words, steps=6)
    areas = token_curve_areas(fraction, deletion, insertion, ["own object", "the rest"])
    truth, inverse = (areas.sel(explainer=name).mean("sample") for name in ("own object", "the rest"))
    assert truth.token_deletion_auc < inverse.token_deletion_auc - 1
    assert truth.token_insertion_auc > inverse.token_insertion_auc + 1


def test_areas_are_means_over_the_measured_tokens():
    fraction = np.array([0, 0.5, 1.0])
    deletion = np.array([[[[0, -2, -2], [0, -4, -4], [np.nan] * 3]], [[[np.nan] * 3] * 3]])
    areas = token_curve_areas(fraction, deletion, deletion + 1, ["mine"])
    np.testing.assert_allclose(areas.token_deletion_auc, [[(-1.5 - 3) / 2], [np.nan]])
    np.testing.assert_allclose(areas.token_insertion_auc, [[(-1.5 - 3) / 2 + 1], [np.nan]])
    assert areas.token_deletion_auc.dims == ("sample", "explainer") and areas.explainer.values.tolist() == ["mine"]
    assert areas.token_deletion_auc.attrs["score_direction"] == "lower is better"
    assert areas.token_insertion_auc.attrs["score_direction"] == "higher is better"


def test_finer_maps_are_averaged_over_the_area_of_a_cell():
    fine = np.arange(24, dtype=np.float32).reshape(4, 6)
    blocks = fine.reshape(2, 2, 3, 2).mean((1, 3))
    np.testing.assert_allclose(reduce_to_grid(fine[None], (2, 3))[0], blocks)
    assert reduce_to_grid(fine, (2, 3)).dtype == np.float32
    # Three cells on two: the middle one counts half in each.
    np.testing.assert_allclose(reduce_to_grid(np.array([[3.0, 6.0, 0.0]]), (1, 2)), [[(3 + 3) / 1.5, 3 / 1.5]])
    np.testing.assert_allclose(reduce_to_grid(np.array([[1.0, 2.0]]), (2, 4)), [[1, 1, 2, 2]] * 2)
    assert reduce_to_grid(fine.astype(np.uint8), (4, 3))[0, 0] == 0.5
    assert reduce_to_grid(fine, (3, 5)).mean() == pytest.approx(fine.mean())
    assert reduce_to_grid(fine, (4, 6)) is fine
    refused("rows=0", reduce_to_grid, fine, (0, 2))


def test_bad_input_is_refused_in_a_sentence(llava):
    views, answers, heat, words = inputs(llava)
    other, _, _, _ = inputs(llava, scale=2.0)
    missing, beyond, holes = heat[:, :, :3], words.copy(), heat.copy()
    beyond[1, 2] = True
    holes[0, 1, 3, 0, 0] = np.nan
    for change, message in (
        (dict(heat=heat[..., :3]), r"\(3, explainers, tokens, 4, 4\) is needed"),
        (dict(heat=missing), r"bool \(3, 3\) is needed"),
        (dict(words=words.astype(int)), r"type int64: bool \(3, 4\)"),
        (dict(words=beyond), "token 2 of sample 1, whose answer has 2 tokens"),
        (dict(heat=holes), "NaN or infinite"),
        (dict(steps=17), "steps=17: a whole number from 1 to 16"),
        (dict(batch_size=0), "batch_size=0"),
        (dict(views=[views[0], other[1], views[2]]), "grids 4 x 4, 8 x 8"),
        (dict(answers=answers[:2]), "3 views and 2 answers"),
    ):
        given = dict(views=views, answers=answers, heat=heat, words=words) | change
        refused(message, token_deletion_insertion, llava, **given)
    holes[0, 1, 2, 0, 0] = holes[0, 1, 3, 0, 0]
    holes[0, 1, 3, 0, 0] = 0
    token_deletion_insertion(llava, views, answers, holes, words, steps=1)  # tokens that aren't measured don't matter


def test_free_answers_are_measured_by_labels_and_a_tagger(bundled):
    scenes = xk.draw_descriptions(3, seed=4)
    images = [*scenes.image.values[:2], scenes.image.values[2, ..., 0]]  # the last one can't be explained
    methods = ["attention", "lens"]
    answers = xk.explain_all_tokens(bundled, images, methods=methods, answer=scenes.caption, errors="record")
    nouns = sorted({name.split()[-1] for name in scenes.object_name.values.ravel()})
    categories = {noun: place for place, noun in enumerate(nouns, 1)}
    labels = np.array([[categories[name.split()[-1]] for name in row] for row in scenes.object_name.values])
    masks = (scenes.object_mask.values * labels[..., None, None]).max(1)
    plain = measure_answers(answers, masks, categories)
    tagger = {noun: "NN" for noun in nouns} | {"a": "DT"}
    tagged = measure_answers(answers, masks, categories, lambda word: tagger.get(word, "JJ"))
    for sample, (row, said) in enumerate(zip(labels[:2], scenes.caption.values, strict=False)):
        assert np.isfinite(tagged.object_iou[sample]).sum("mention").values.tolist() == [2, 2], said
        words = answers.answer_text.values[sample]
        for explainer, name in enumerate(methods):
            maps = answers.token_heat.values[sample, explainer]
            for mention, label in enumerate(row):
                place = next(i for i, word in enumerate(words) if word.strip() == nouns[label - 1])
                covered = region_coverage((masks[sample] == label)[None, None], maps.shape[-2:])
                expected = iou_otsu(maps[None, None, place], covered)
                if list(row).count(label) == 1:
                    np.testing.assert_allclose(
                        tagged.object_iou.sel(explainer=name)[sample, mention], expected.item(), atol=0.02
                    )
    assert np.isfinite(tagged.function_iou[:2]).sum("word").values.tolist() == [[2, 2]] * 2  # both articles
    assert np.isfinite(plain.function_iou[:2]).any()
    assert np.isnan(tagged.object_iou[2]).all() and np.isnan(tagged.function_iou[2]).all()
    refused("3 answers but 1 masks", measure_answers, answers, masks[:1], categories)
