"""Methods that perturb, integrate or squeeze the input: against captum's and the authors' numbers, and exact values."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from captum.attr import KernelShap
from golden_models import arrays, assert_near, golden_cases, golden_model
from sklearn.linear_model import orthogonal_mp

import xaikit as xk
from xaikit.clip.model import copied
from xaikit.clip.perturbation import (
    filled,
    perturbed_images,
    perturbed_texts,
    scores_of_images,
    scores_of_texts,
    to_patches,
)
from xaikit.clip.towers import tower
from xaikit.explainers.input_gradients import pixel_attributions, pixel_gradients
from xaikit.explainers.m2ib import starting_after
from xaikit.explainers.masking import coalitions, combined, draw_cells, enlarged, mask_ways, patch_means, shapley_values
from xaikit.explainers.osp import behind, content_words, planted_captions, prompts, residual


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(3, seed=11)


@pytest.fixture(scope="module")
def pair(clip, scenes):
    return clip.pixels(scenes.image), clip.tokens(scenes.caption)


@pytest.fixture(scope="module", params=["a4", "d7"])
def golden(request):
    """A golden model, and a function to the stored numbers of one group and its pairs (key, pixels, tokens)."""

    def group(which, having):
        stored = arrays(request.param, which)[1]
        cases = golden_cases(request.param, which, lambda key: having in key)
        return stored, [
            (key, *pair) for key, pair in sorted({k.split("__")[0]: case[1:] for _, k, case, _ in cases}.items())
        ]

    return golden_model(request.param), group


def patches_of(values):
    return values.sum(0).reshape(8, 8, 8, 8).sum((1, 3))


def test_gradients_of_pixels_are_captums(golden):
    model, group = golden
    stored, pairs = group("captum", "ig_zero")
    for key, pixels, tokens in pairs:
        signed = stored[f"{key}__saliency_signed"]
        assert_near(pixel_gradients(model, pixels, model.encode_text(tokens))[0], signed, 1e-4)
        assert_near(xk.explain("saliency", model, pixels, tokens)[0], patches_of(np.abs(signed)), 1e-4)
        assert_near(xk.explain("saliency", model, pixels, tokens, signed=True)[0], patches_of(signed), 1e-4)
        times = patches_of(signed * pixels[0].numpy())
        assert_near(xk.explain("saliency", model, pixels, tokens, signed=True, times_input=True)[0], times, 1e-4)
        path = stored[f"{key}__ig_zero_n50"]
        assert_near(pixel_attributions(model, pixels, tokens, 50, "zero")[0], path, 1e-4)
        assert_near(xk.explain("integrated_gradients", model, pixels, tokens)[0], patches_of(path), 1e-4)


def test_saliency_of_words_is_the_gradient_of_the_embeddings(clip, pair):
    """Against differences: the cosine when a word's embedding moves a little along its own direction."""
    pixels, tokens = pair[0][:1], pair[1][:1]
    signed = xk.explain("saliency", clip, pixels, tokens, of="text", signed=True, times_input=True)[0].values
    length = xk.explain("saliency", clip, pixels, tokens, of="text")[0].values
    assert (length > 0).all()
    seen = clip.encode_image(pixels)
    for word in range(len(signed)):
        scores = []
        for step in (0.01, -0.01):
            change = torch.ones(1, 20, 1).index_fill_(1, torch.tensor([word + 1]), 1 + step)
            hook = clip.model.text.token_embedding if hasattr(clip.model, "text") else clip.model.token_embedding
            handle = hook.register_forward_hook(lambda module, args, result, change=change: result * change)
            scores.append((clip.encode_text(tokens) * seen).sum().item())
            handle.remove()
        assert signed[word] == pytest.approx((scores[0] - scores[1]) / 0.02, abs=2e-3 * float(np.abs(signed).max()))


@pytest.mark.parametrize("fill", ["zero", "mean", "blur", "padding"])
@pytest.mark.parametrize("method", ["integrated_gradients", "kernel_shap"])
def test_values_add_up_to_what_the_fill_takes_away(clip, pair, method, fill):
    pixels, tokens = pair
    side = "text" if fill == "padding" else "image"
    nothing = torch.zeros(1, 1, 11, dtype=torch.bool) if side == "text" else torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    if side == "text":
        whole, bare = scores_of_texts(clip, pixels, tokens, torch.cat([~nothing, nothing], 1)).T
    else:
        both = torch.cat([~nothing, nothing], 1)
        whole, bare = scores_of_images(clip, pixels, tokens, both, filled(clip, pixels, fill)).T
    options = {"samples": 70} if method == "kernel_shap" and side == "image" else {}
    heat = xk.explain(method, clip, pixels, tokens, of=side, fill=fill, **options)
    relative = 1e-5 if method == "kernel_shap" else 0.02
    total = heat.values.reshape(3, -1).sum(1)
    assert_near(total, (whole - bare).numpy(), relative)


def test_kernel_shap_solves_captums_problem(clip, pair):
    """captum draws the coalitions and their scores are ours: the solution is captum's."""
    pixels, tokens = pair[0][:1], pair[1][:1]
    seen = []

    def forward(kept):
        seen.append(kept.view(1, 64).clone())
        return scores_of_images(clip, pixels, tokens, kept.view(1, 1, 8, 8))[0]

    torch.manual_seed(0)
    expected = KernelShap(forward).attribute(torch.ones(1, 64), n_samples=150)[0].numpy()
    keep = torch.cat(seen).bool()
    keep = torch.cat([torch.tensor([[False], [True]]).expand(2, 64), keep[(keep.sum(1) % 64) > 0]])
    scores = scores_of_images(clip, pixels, tokens, keep.view(1, -1, 8, 8))
    ours = shapley_values(scores, keep, torch.ones(len(keep) - 2, dtype=torch.float64))[0]
    assert_near(ours, expected, 2e-3)


def test_kernel_shap_nears_captums_many_samples(golden):
    model, group = golden
    stored, pairs = group("captum", "kernelshap_n20000")
    for key, pixels, tokens in pairs:
        ours = xk.explain("kernel_shap", model, pixels, tokens, samples=800)[0].values
        drop = stored[f"{key}__cosine"] - stored[f"{key}__cosine_at_zero_baseline"]
        assert ours.sum() == pytest.approx(float(drop[0]), abs=2e-4)
        assert np.corrcoef(ours.ravel(), stored[f"{key}__kernelshap_n20000_seed0"].ravel())[0, 1] > 0.85


def exact_shapley(worth, players):
    """The definition: the mean gain of a player over all coalitions of the others, weighted by orders."""
    values = np.zeros(players)
    for player in range(players):
        others = [other for other in range(players) if other != player]
        for size in range(players):
            share = factorial(size) * factorial(players - size - 1) / factorial(players)
            for chosen in combinations(others, size):
                values[player] += share * (worth(frozenset(chosen) | {player}) - worth(frozenset(chosen)))
    return values


@pytest.mark.parametrize("fill", ["padding", "removed"])
def test_kernel_shap_of_few_words_is_exact(clip, scenes, fill):
    image, text = scenes.image[:1], "a red ring left of a blue cross"
    pixels, tokens = clip.pixels(image), clip.tokens([text])
    words = len(text.split())
    every = (torch.arange(2**words)[:, None] >> torch.arange(words)) & 1 == 1
    scores = scores_of_texts(clip, pixels, tokens, every[None], fill)[0].double().numpy()

    def worth(chosen):
        return scores[sum(1 << player for player in chosen)]

    ours = xk.explain("kernel_shap", clip, image, text, of="text", fill=fill)[0]
    np.testing.assert_allclose(ours, exact_shapley(worth, words), atol=1e-6)
    drawn = xk.explain("kernel_shap", clip, image, text, of="text", fill=fill, samples=250)[0]
    assert not np.allclose(drawn, ours, atol=1e-6) and np.corrcoef(drawn, ours)[0, 1] > 0.9
    alone = xk.explain("kernel_shap", clip, image, "ring", of="text", fill=fill)[0]
    assert len(alone) == 1 and alone.item() != 0


def test_coalitions_follow_the_shapley_kernel():
    keep, weights = coalitions(12, 4000, paired=True, seed=0)
    assert not keep[0].any() and keep[1].all() and (weights == 1).all() and len(weights) == 4000
    sizes = keep[2:].sum(1)
    assert sizes.min() == 1 and sizes.max() == 11
    assert (keep[2::2] ^ keep[3::2]).all()  # each with its complement
    expected = 1 / (np.arange(1, 12) * np.arange(11, 0, -1))
    np.testing.assert_allclose(np.bincount(sizes)[1:] / 4000, expected / expected.sum(), atol=0.03)
    odd, _ = coalitions(64, 71, paired=True, seed=3)
    assert len(odd) == 73


def test_rise_gives_the_authors_numbers(golden):
    model, group = golden
    stored, pairs = group("rise", "shift")
    described = tower(model, "image")
    for key, pixels, tokens in pairs:
        cells, shift = torch.tensor(stored[f"{key}__grid"]).float(), torch.tensor(stored[f"{key}__shift_xy"]).long()
        masks = enlarged(*mask_ways(cells, shift, pixels.shape[2:]))
        scores = torch.tensor(stored[f"{key}__preds"])[None]
        expected = stored[f"{key}__map"]
        assert_near(scores_of_images(model, pixels, tokens, masks[None]), scores.numpy(), 1e-4)
        assert_near(combined(scores, masks, 0.5)[0], expected, 1e-4)
        means = patch_means(cells, shift, pixels.shape[2:], described)
        coarse = expected.reshape(8, 8, 8, 8).mean((1, 3))
        assert_near(combined(scores, means, 0.5)[0], coarse, 1e-4)
        ours = xk.explain("rise", model, pixels, tokens, masks=200, centred=False, seed=5)[0].values
        assert abs(ours.mean() - coarse.mean()) < 0.012  # two standard deviations over seeds
    for index in (0, 7):
        key = f"i0_t0__mask{index}"
        if key in stored:
            cells, shift = torch.tensor(stored["i0_t0__grid"]).float(), torch.tensor(stored["i0_t0__shift_xy"]).long()
            assert_near(enlarged(*mask_ways(cells, shift, (64, 64)))[index], stored[key], 1e-6)


def test_rise_converges_and_centring_takes_noise_off_not_the_map(clip, pair):
    pixels, tokens = pair[0][:1], pair[1][:1]
    maps = {
        centred: [
            xk.explain("rise", clip, pixels, tokens, masks=300, centred=centred, seed=s)[0].values.ravel()
            for s in (0, 1)
        ]
        for centred in (True, False)
    }
    between = {centred: np.corrcoef(*both)[0, 1] for centred, both in maps.items()}
    assert between[True] > 0.7 and between[True] > between[False]
    cells, shift = draw_cells(300, 8, (64, 64), 0.5, seed=0)
    masks = enlarged(*mask_ways(cells, shift, (64, 64)))
    scores = scores_of_images(clip, pixels, tokens, masks[None])
    covered = patch_means(cells, shift, (64, 64), tower(clip, "image")).mean(0) / 0.5 * scores.mean()
    np.testing.assert_allclose(maps[False][0] - maps[True][0], covered.flatten(), atol=1e-6)
    assert masks.mean() == pytest.approx(0.5, abs=0.02) and (masks.amin(), masks.amax()) == (0, 1)
    assert {tuple(s) for s in shift.tolist()} <= {(a, b) for a in range(8) for b in range(8)}


def test_rise_of_words_is_its_formula(clip, pair):
    pixels, tokens = pair[0][:1], clip.tokens(["a red ring"])
    heat = xk.explain("rise", clip, pixels, tokens, of="text", masks=400, centred=False, p=0.3, fill="removed")[0]
    every = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]).bool()
    scores = scores_of_texts(clip, pixels, tokens, every[None], "removed")[0]
    chance = torch.where(every, 0.3, 0.7).prod(1)
    expected = (scores * chance) @ every.float() / 0.3  # the mean cosine, given that the word is kept
    np.testing.assert_allclose(heat, expected, atol=0.15)
    assert np.corrcoef(heat, expected)[0, 1] > 0.9


@pytest.mark.parametrize("side", ["image", "text"])
def test_m2ib_gives_the_authors_numbers(golden, side):
    model, group = golden
    stored, pairs = group("m2ib", f"hf__nonoise__{side}_raw")
    part = slice(1, -1) if side == "text" else slice(None)  # the authors keep start and end
    many = 0
    for key, pixels, tokens in pairs:
        for name, options, within in (
            ("nonoise", {"noise": False}, 5e-4),
            ("seed0", {"seed": 0}, 1e-3),
            ("seed1", {"seed": 1}, 1e-3),
        ):
            expected = stored[f"{key}__hf__{name}__{side}_raw"]
            ours = xk.explain("m2ib", model, pixels, tokens, of=side, reference=True, **options)[0]
            np.testing.assert_allclose(ours, expected[part], rtol=0, atol=within * expected.max(), err_msg=(key, name))
        if (mean := f"{key}__hf__manyseeds__{side}_raw_mean") in stored:
            ours = xk.explain("m2ib", model, pixels, tokens, of=side, seed=7)[0].values
            assert np.corrcoef(ours.ravel(), stored[mean][part].ravel())[0, 1] > 0.9
            many += 1
    assert many


def test_m2ib_reference_is_one_step_earlier(clip, pair):
    maps = [
        xk.explain("m2ib", clip, *pair, copies=2, **options).values
        for options in ({"steps": 3}, {"steps": 4, "reference": True}, {"steps": 4})
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert np.abs(maps[0] - maps[2]).max() > 0.01 * maps[0].max()


def test_m2ib_runs_the_blocks_above_only(clip, pair):
    """What the blocks below give no longer counts, and what they gave before gives the true embedding."""
    pixels = pair[0]
    blocks = tower(clip, "image").blocks
    caught = []
    handle = blocks[1].register_forward_hook(lambda module, args, result: caught.append(result))
    true = clip.encode_image(pixels)
    handle.remove()
    with starting_after(clip, "image", 1, caught[0]):
        torch.testing.assert_close(clip.encode_image(torch.zeros_like(pixels)), true)
    with pytest.raises(ZeroDivisionError), starting_after(clip, "image", 1, caught[0]):
        raise ZeroDivisionError
    assert not any("forward" in vars(block) for block in blocks)
    torch.testing.assert_close(clip.encode_image(pixels), true)


def test_edges_are_where_the_image_changes(clip):
    image = np.zeros((1, 64, 64, 3), np.uint8)
    assert np.abs(xk.explain("edge", clip, image, "a red ring")).max() == 0
    image[:, :, 36:, 1] = 255  # a green half: the edge is in the fifth column of patches
    heat = xk.explain("edge", clip, image, "a red ring")[0].values
    assert np.abs(heat[:, [0, 1, 2, 3, 5, 6, 7]]).max() < 1e-5
    np.testing.assert_allclose(
        heat[:, 4], 2 * 4 * 0.587 / 8, rtol=1e-4
    )  # two of eight pixels, each with slope 4 * 0.587
    turned = xk.explain("edge", clip, image.transpose(0, 2, 1, 3), "a red ring")[0].values
    np.testing.assert_allclose(turned, heat.T, atol=1e-6)


def test_osp_is_orthogonal_matching_pursuit():
    draw = torch.Generator().manual_seed(0)
    dictionary = torch.nn.functional.normalize(torch.randn(20, 16, generator=draw), dim=1)
    text = torch.nn.functional.normalize(torch.randn(5, 16, generator=draw), dim=1)
    allowed = torch.ones(5, 20, dtype=torch.bool)
    for atoms in (1, 3, 6):
        weights = orthogonal_mp(dictionary.double().T.numpy(), text.double().T.numpy(), n_nonzero_coefs=atoms)
        rest = text.double().numpy() - (dictionary.double().T.numpy() @ weights).T
        expected = rest / np.linalg.norm(rest, axis=1, keepdims=True)
        np.testing.assert_allclose(residual(text, dictionary, allowed, atoms), expected, atol=1e-6)
    allowed[:, :10] = False
    rest = residual(text, dictionary, allowed, 10)
    np.testing.assert_allclose(rest @ dictionary[10:].double().T, 0, atol=1e-6)
    assert (rest @ dictionary[:10].double().T).abs().max() > 0.1
    spanned = torch.nn.functional.normalize(dictionary[:2].sum(0, keepdim=True), dim=1)
    torch.testing.assert_close(residual(spanned, dictionary[:2], allowed[:1, :2] | True, 2), spanned.double())


def test_osp_explains_the_projected_text(clip, scenes):
    calls = (scenes.image, scenes.caption)
    plain = xk.explain("grad_eclip", clip, *calls)
    for nothing in ({"atoms": 0}, {"max_similarity": -1.0}, {"distractors": ["a red photo"], "max_similarity": -0.99}):
        assert_near(xk.explain("osp", clip, *calls, **nothing), plain.values, 1e-5)
    projected = xk.explain("osp", clip, *calls)
    assert np.abs(projected - plain).max() > 0.01 * np.abs(plain).max()
    signed = xk.explain("osp", clip, *calls, base="saliency", options={"signed": True})
    assert (signed.values < 0).any()


def test_distractors_are_encoded_once_as_long_as_the_text_tower_stays(clip, scenes, monkeypatch):
    own, encoded = copied(clip), []
    monkeypatch.setattr(type(own.model), "encode_text", counted(type(own.model).encode_text, encoded))
    calls, many = (own, scenes.image[:2], scenes.caption[:2]), len(planted_captions(own))
    first = xk.explain("osp", *calls)
    np.testing.assert_array_equal(xk.explain("osp", *calls), first)
    assert encoded.count(many) == 1
    with torch.no_grad():
        own.model.visual.conv1.weight.mul_(1.5)
        other = xk.explain("osp", *calls)
        assert encoded.count(many) == 1 and np.abs(other - first).max() > 0
        own.model.token_embedding.weight.copy_(own.model.token_embedding.weight.flip(0))
    changed = xk.explain("osp", *calls)
    assert encoded.count(many) == 2
    vars(own).pop("_distractors")
    np.testing.assert_array_equal(xk.explain("osp", *calls), changed)


def counted(function, sizes):
    """The function, which notes how many texts it gets."""

    def count(model, texts, *args, **options):
        sizes.append(len(texts))
        return function(model, texts, *args, **options)

    return count


def test_what_the_prompt_says_itself_is_no_distractor(clip):
    texts = ["two red rings", "a blue cross above a red ring", "a green square"]
    tokens = clip.tokens(texts)
    assert prompts(clip, tokens) == texts
    assert content_words(texts[0]) == {"two", "red", "ring"}
    captions = ["a red ring", "a red cross", "a green square"]
    dictionary = clip.encode_text(clip.tokens(captions))
    projected = behind(clip, captions, atoms=3, max_similarity=1.0)
    left = projected.encode_text(tokens) @ dictionary.T
    is_distractor = torch.tensor([[False, True, True], [False, False, True], [True, True, False]])
    np.testing.assert_allclose(left[is_distractor], 0, atol=1e-5)
    assert left[~is_distractor].abs().min() > 1e-3
    torch.testing.assert_close(projected.encode_text(tokens).norm(dim=1), torch.ones(3))


def test_osp_with_the_tokenizer_of_clip():
    ids = torch.zeros(1, 77, dtype=torch.long)
    ids[0, :4] = torch.tensor([510, 320, 400, 511])
    assert isinstance(prompts(golden_model("a4"), ids)[0], str)


def test_dropped_words(clip):
    tokens = clip.tokens(["a red ring", "a blue cross above a ring"])
    keep = torch.tensor([[1, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 1]]).bool()
    closed = perturbed_texts(clip, tokens, keep, "removed")
    assert torch.equal(closed, clip.tokens(["a ring", "blue cross ring"]))
    padded = perturbed_texts(clip, tokens, keep)
    assert torch.equal(padded, torch.where(padded == 0, 0, tokens))
    assert (padded == 0).sum(1).tolist() == [(tokens[0] == 0).sum() + 1, (tokens[1] == 0).sum() + 3]
    assert padded[0, 2] == 0 and padded[1, 1] == 0


def test_scores_of_perturbed_images(clip, pair):
    pixels, tokens = pair
    keep = torch.rand(3, 5, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    fill = filled(clip, pixels, "mean")
    scores = scores_of_images(clip, pixels, tokens, keep, fill)
    for size in (1, 4, 100):
        by_call = scores_of_images(clip, pixels, tokens, lambda s, v: keep[s, v], fill, versions=5, batch_size=size)
        torch.testing.assert_close(by_call, scores, atol=1e-6, rtol=0)
    one = perturbed_images(clip, pixels[1:2], keep[1:2, 2], fill[1:2])
    assert scores[1, 2].item() == pytest.approx(clip.similarity(one, tokens[1:2]).item(), abs=1e-6)
    torch.testing.assert_close(scores_of_images(clip, pixels, tokens, keep.float(), fill), scores, atol=1e-6, rtol=0)
    half = perturbed_images(clip, pixels, torch.full((3, 64, 64), 0.25), fill)
    torch.testing.assert_close(half, 0.25 * pixels + 0.75 * fill)
    shared = scores_of_images(clip, pixels, tokens, keep[:1], fill)
    torch.testing.assert_close(shared[0], scores[0], atol=1e-6, rtol=0)
    assert to_patches(torch.ones(2, 64, 64), tower(clip, "image")).eq(64).all()


def test_distractors_are_captions_of_the_scenes_that_the_model_can_read(clip):
    scenes = xk.draw_scenes(2000, seed=0, captions="object", size=32)
    spoken = {caption for caption in scenes.caption.values if len(caption.split()) == 3}  # without a size
    assert spoken == set(planted_captions(clip)) and any(caption.startswith("an ") for caption in spoken)
