"""Attention and gradient maps of answer tokens: against independent computations, on the three classes of models."""

import numpy as np
import pytest
import torch
from refusals import refused
from small_mllms import CLASSES, alone, small_mllm

from xaikit.mllm import memory, methods as token_methods
from xaikit.mllm.methods import attention, grad_cam, gradient_x_input, rollout

METHODS = (attention, rollout, gradient_x_input, grad_cam)
PROMPTS = ("describe the scene", "what is left of the red circle ?", "describe the scene now please")


@pytest.fixture(params=CLASSES)
def mllm(request):
    return small_mllm(request.param)


@pytest.fixture(params=[*CLASSES, "crops"])
def case(request):
    """A model, its views of several pictures, and answers; once of an enlarged picture in tiles."""
    if request.param != "crops":
        return small_mllm(request.param), *inputs(small_mllm(request.param))
    return small_mllm("internvl"), *inputs(small_mllm("internvl"), scale=2.0, enlargement="crops")


@pytest.fixture
def internvl():
    return small_mllm("internvl")


def images(n=3):
    return np.random.default_rng(3).integers(0, 255, (n, 84, 84, 3), dtype=np.uint8)


def inputs(mllm, lengths=(4, 1, 3), scale=1.0, enlargement="interpolate"):
    views = [
        mllm.family.view(image, prompt, scale, enlargement) for image, prompt in zip(images(), PROMPTS, strict=True)
    ]
    ids = np.random.default_rng(5).integers(14, len(mllm.output_weight), (len(views), max(lengths)))
    return views, [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]


def scores(mllm, view, answer, features, target="logit"):
    """The score (a,) of each answer token."""
    logits = alone(mllm, view, answer, features).logits[0, len(view.ids) - 1 : -1]
    return (logits if target == "logit" else logits.log_softmax(-1))[torch.arange(len(answer)), answer]


def layers(mllm, view, answer):
    """Each layer's attention (heads, L, L), as the model's class returns it."""
    language = mllm.decoder
    language.set_attn_implementation("eager")
    try:
        return [layer[0] for layer in alone(mllm, view, answer, output_attentions=True).attentions]
    finally:
        language.set_attn_implementation("sdpa")


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_answers_of_several_lengths_equals_its_singles(mllm, method):
    views, answers = inputs(mllm)
    together = method(mllm, views, answers)
    assert together.shape == (3, 4, *views[0].grid) and together.dtype == torch.float32 and not together.requires_grad
    for row, view, answer in zip(together, views, answers, strict=True):
        single = method(mllm, [view], [answer])[0]
        torch.testing.assert_close(row[: len(answer)], single, atol=1e-5 * float(single.abs().max()), rtol=1e-4)
        assert not row[len(answer) :].any()
    assert together[0].any() and together[2].any()


@pytest.mark.parametrize("method", METHODS)
def test_later_tokens_and_an_empty_answer_beside_it_change_nothing(internvl, method):
    views, answers = inputs(internvl, (4, 1, 3))
    first = method(internvl, views, answers)
    shortened = method(internvl, views, [answers[0][:2], [], answers[2]])
    torch.testing.assert_close(shortened[0, :2], first[0, :2], atol=1e-5 * float(first.max()), rtol=1e-4)
    assert not shortened[1].any()


@pytest.mark.parametrize("fusion", ("mean", "max"))
def test_last_attention_is_that_of_the_model(case, fusion):
    mllm, views, answers = case
    found = attention(mllm, views, answers, head_fusion=fusion)
    for heat, view, answer in zip(found, views, answers, strict=True):
        rows = layers(mllm, view, answer)[-1][:, len(view.ids) - 1 : -1]
        rows = rows.mean(0) if fusion == "mean" else rows.amax(0)
        torch.testing.assert_close(heat[: len(answer)].flatten(1), rows[:, view.image_positions])
    if fusion == "mean":
        assert (found.sum((2, 3)) <= 1 + 1e-6).all()


def test_rollout_is_the_product_of_whole_matrices(case):
    mllm, views, answers = case
    found = rollout(mllm, views, answers)
    for heat, view, answer in zip(found, views, answers, strict=True):
        product = None
        for layer in layers(mllm, view, answer):
            mixed = (layer.mean(0).double() + torch.eye(layer.shape[-1])) / 2
            product = mixed if product is None else mixed @ product
        torch.testing.assert_close(product.sum(-1), torch.ones(len(product), dtype=torch.double))
        rows = product[len(view.ids) - 1 : -1, view.image_positions].float()
        torch.testing.assert_close(heat[: len(answer)].flatten(1), rows)


@pytest.mark.parametrize("target", ("logit", "log_probability"))
def test_gradients_are_those_of_a_loop_over_tokens(case, target):
    mllm, views, answers = case
    signed = gradient_x_input(mllm, views, answers, target=target, signed=True)
    cam = grad_cam(mllm, views, answers, target=target, signed=True)
    for sample, (view, answer) in enumerate(zip(views, answers, strict=True)):
        features = mllm.family.encode([view])[0].detach().requires_grad_()
        for token in range(len(answer)):
            score = scores(mllm, view, answer, features, target)[token]
            gradient = torch.autograd.grad(score, features)[0][view.feature_rows]
            cells = features.detach()[view.feature_rows]
            for found, wanted in (
                (signed, (gradient * cells).sum(-1)),
                (cam, (gradient.mean(0) * cells).sum(-1)),
            ):
                torch.testing.assert_close(
                    found[sample, token].flatten(), wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-3
                )
    torch.testing.assert_close(gradient_x_input(mllm, views, answers, target=target), signed.relu())
    torch.testing.assert_close(grad_cam(mllm, views, answers, target=target), cam.relu())
    assert (signed < 0).any() and (cam < 0).any()


def test_backward_passes_in_parts_give_the_same(internvl, monkeypatch):
    views, answers = inputs(internvl)
    whole = gradient_x_input(internvl, views, answers, signed=True)
    monkeypatch.setattr(memory, "SEQUENCES_AT_ONCE", 1)
    parts = gradient_x_input(internvl, views, answers, signed=True)
    torch.testing.assert_close(parts, whole, atol=1e-5 * float(whole.abs().max()), rtol=1e-4)


def test_layers_computed_again_give_the_same_and_are_left_as_they_were(mllm, monkeypatch):
    views, answers = inputs(mllm)
    whole, computed = gradient_x_input(mllm, views, answers, signed=True), []
    layer = mllm.decoder.layers[0]
    handle = layer.mlp.register_forward_pre_hook(lambda *_: computed.append(1))
    before = [dict(each.__dict__) for each in mllm.decoder.layers]
    monkeypatch.setattr(token_methods, "RECOMPUTED", 0)
    again = gradient_x_input(mllm, views, answers, signed=True)
    handle.remove()
    assert len(computed) > 1 and [dict(each.__dict__) for each in mllm.decoder.layers] == before
    torch.testing.assert_close(again, whole, atol=1e-5 * float(whole.abs().max()), rtol=1e-4)


def test_crops_are_put_in_their_places(internvl):
    """The sequence has four tiles of 2 x 2 cells, then the whole image once more, which is no cell."""
    view = inputs(internvl, scale=2.0, enlargement="crops")[0][0]
    row, col = np.indices(view.grid)
    order = torch.from_numpy(4 * (row // 2 * 2 + col // 2) + row % 2 * 2 + col % 2).flatten()
    start = view.ids.tolist().index(internvl.family.image_token_id)
    assert len(view.tokens) == 20 and view.grid == (4, 4)
    assert torch.equal(view.image_positions, start + order) and torch.equal(view.feature_rows, order)


@pytest.mark.parametrize("method", METHODS)
def test_bad_input_is_refused_in_a_sentence(internvl, method):
    views, answers = inputs(internvl)
    refused("3 views and 2 answers", method, internvl, views, answers[:2])
    refused("longer than the 256", method, internvl, views, [[14] * 300] * 3)
