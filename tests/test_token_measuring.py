"""Explaining planted scenes and measuring at once gives what the parts give, however the scenes are cut."""

import numpy as np
import pytest
import xarray as xr
from small_mllms import tiny_llava

import xaikit as xk
from xaikit.evaluation import tokens as measuring
from xaikit.evaluation.tokens import (
    measure_faithfulness,
    measure_tokens,
    measured_words,
    token_curve_areas,
    token_deletion_insertion,
)
from xaikit.measures.planted_tokens import context_auroc

METHODS = ["lens", "arc", "random"]


@pytest.fixture(scope="module")
def mllm():
    return tiny_llava()


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_descriptions(5, seed=11, objects=(1, 4))


@pytest.fixture(scope="module")
def answers(mllm, scenes):
    return xk.explain_all_tokens(mllm, scenes.image, methods=METHODS)


@pytest.fixture(scope="module")
def together(mllm, scenes):
    return measure_tokens(mllm, scenes, METHODS)


def test_it_is_the_parts_together(scenes, answers, together):
    parts = measured_words(answers, scenes)
    for name, values in parts.data_vars.items():
        np.testing.assert_allclose(together[name], values, atol=1e-5, err_msg=name)
    assert together.exact.values.tolist() == (answers.answer.values == scenes.caption.values).tolist()
    assert together.token_text.values.tolist() == np.char.strip(answers.answer_text.values).tolist()


def test_how_scenes_are_cut_changes_nothing(mllm, scenes, together, monkeypatch):
    monkeypatch.setattr(measuring, "SCENES_AT_ONCE", 2)
    cut = measure_tokens(mllm, scenes, METHODS, ["describe the picture"] * 5, batch_size=1)
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


def test_faithfulness_is_that_of_the_maps(mllm, scenes, answers):
    words = np.isin(np.char.strip(answers.answer_text.values), xk.samples.worlds.shapes.COLOURS)
    found = measure_faithfulness(mllm, scenes.image, answers, words, steps=2)
    views = [mllm.family.view(image, "describe the picture") for image in scenes.image.values]
    ids = [row[row >= 0].tolist() for row in answers.answer_id.values]
    curves = token_deletion_insertion(mllm, views, ids, answers.token_heat.values, words, 2)
    expected = token_curve_areas(*curves, METHODS)
    for name, values in expected.data_vars.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4)
    finer = xk.explain_all_tokens(mllm, scenes.image, methods={"fine": ("lens", {"scales": 2})})
    assert np.isfinite(measure_faithfulness(mllm, scenes.image, finer, words, steps=2).token_deletion_auc).all()


def test_scenes_that_cannot_be_explained_are_nan(mllm, scenes):
    prompts = ["describe the picture"] * 4 + ["describe the elephant"]
    words = measure_tokens(mllm, scenes, ["lens"], prompts, errors="record")
    whole = measure_tokens(mllm, scenes.isel(sample=slice(4)), ["lens"])
    assert np.isnan(words.own_iou[4]).all() and not words.exact[4]
    np.testing.assert_allclose(words.own_iou[:4, :, : whole.sizes["token"]], whole.own_iou, atol=1e-5)
    answers = xk.explain_all_tokens(mllm, [*scenes.image.values[:2], "/no.png"], methods=["lens"], errors="record")
    found = measure_faithfulness(mllm, [*scenes.image.values[:2], "/no.png"], answers, steps=2).token_deletion_auc
    assert np.isfinite(found[:2]).all() and np.isnan(found[2]).all()
    with pytest.raises(ValueError, match="2 images but 3 answers"):
        measure_faithfulness(mllm, scenes.image.values[:2], answers)
    one = xk.explain_tokens(mllm, scenes.image, method="lens")  # without an explainer dimension
    np.testing.assert_allclose(
        measured_words(one, scenes).own_iou[:, 0],
        measured_words(xk.explain_all_tokens(mllm, scenes.image, methods=["lens"]), scenes).own_iou[:, 0],
    )


def test_the_wrong_kind_of_model_is_named(mllm, scenes):
    with pytest.raises(ValueError, match="mllm is a Clip: a model of load_mllm"):
        xk.explain_tokens(xk.load_clip("tiny-clip"), scenes.image)
    with pytest.raises(ValueError, match="clip is a Mllm: a model of load_clip"):
        xk.explain("mmel", mllm, scenes.image, scenes.caption)
    with pytest.raises(ValueError, match="tiny-clip is a CLIP: load it with load_clip"):
        xk.load_mllm("tiny-clip")
