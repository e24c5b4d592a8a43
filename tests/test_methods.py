"""Every method: batches, shapes, errors; Grad-ECLIP against the numbers its authors' code prints; MMEL against
its equations written out."""

from functools import cache
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from small_models import small_clip

import xaikit as xk
from xaikit.clip.score import record_score
from xaikit.explainers.mmel import _network as mmel_network

GOLDEN = Path(__file__).parent / "golden"
SIMILARITY = {"nb": "query_key", "emap_ksim": "projected", "emap_woksim": "none"}
# Fewer passes than by default, for what is asked of all methods here and does not depend on their number.
QUICK = {
    "integrated_gradients": {"steps": 6},
    "kernel_shap": {"samples": 80},
    "m2ib": {"steps": 2, "copies": 2},
    "rise": {"masks": 16},
}
BOTH_SIDES = [(name, side) for name, about in xk.methods().items() for side in about["explains"]]


@pytest.fixture(scope="module")
def clip():
    return xk.load_clip("tiny-clip")


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(9, seed=11)


@pytest.mark.parametrize(("name", "side"), BOTH_SIDES)
def test_a_batch_equals_its_singles_and_repeats_itself(clip, scenes, name, side):
    options = QUICK.get(name, {})
    together = xk.explain(name, clip, scenes.image, scenes.caption, of=side, **options)
    again = xk.explain(name, clip, scenes.image, scenes.caption, of=side, batch_size=4, **options)
    np.testing.assert_allclose(together, again, atol=1e-5 * max(1, np.abs(together).max()))
    assert np.isfinite(together.values).all()
    single = xk.explain(name, clip, scenes.image[3:4], scenes.caption[3:4], of=side, **options)
    together = together.values[3, ..., : single.shape[-1]]
    np.testing.assert_allclose(single.values[0], together, atol=1e-5 * max(1, np.abs(together).max()))


@pytest.mark.parametrize(("name", "side"), BOTH_SIDES)
def test_shapes_and_labels(clip, scenes, name, side):
    heat = xk.explain(name, clip, scenes.image, scenes.caption, of=side, **QUICK.get(name, {}))
    if side == "image":
        assert heat.dims == ("sample", "row", "col") and heat.shape == (9, 8, 8)
    else:
        assert heat.dims == ("sample", "token")
        assert (heat.token_text.values == scenes.token_text.values).all()
        assert (heat.values[scenes.token_text.values == ""] == 0).all()
    assert heat.attrs["source"] and heat.attrs["explainer"] == name


@cache
def golden_model(name):
    open_clip.add_model_config(GOLDEN / f"{name}.json")
    return xk.load_clip(name, pretrained=str(GOLDEN / f"{name}.safetensors"))


@cache
def golden_model_at_80_by_96(name):
    """The released code interpolates position embeddings by plain bicubic, open_clip with antialiasing."""
    small = golden_model(name)
    large = xk.load_clip(name, pretrained=str(GOLDEN / f"{name}.safetensors"), image_size=(80, 96))
    embedding = small.model.visual.positional_embedding
    grid = F.interpolate(embedding[1:].T.reshape(1, -1, 8, 8), size=(10, 12), mode="bicubic", align_corners=False)
    large.model.visual.positional_embedding.data = torch.cat([embedding[:1], grid.flatten(2)[0].T])
    return large


def golden_pair(inputs, key):
    """Model-independent inputs of one golden array: pixels, token ids, and the key's parts."""
    pair, *rest = key.split("__")
    image, text = pair.split("_t")
    pixels = inputs["image_big" if image == "ibig" else f"image{image[1:]}"]
    return torch.tensor(pixels)[None], torch.tensor(inputs["text_ids"])[int(text)][None], image == "ibig", rest


@pytest.mark.parametrize("model", ["a4", "d7"])
def test_grad_eclip_of_the_image_gives_the_authors_numbers(model):
    inputs, golden = np.load(GOLDEN / f"{model}_inputs.npz"), np.load(GOLDEN / f"{model}_gradeclip_image.npz")
    keys = [key for key in golden.files if key.endswith(("__map", "__signed"))]
    assert len(keys) > 30
    for key in keys:
        pixels, tokens, big, (heads, variant, quantity) = golden_pair(inputs, key)
        blocks = int(variant[-1]) if variant.startswith("nb") else 1
        heat = xk.explain(
            "grad_eclip", golden_model_at_80_by_96(model) if big else golden_model(model), pixels, tokens, blocks=blocks,
            similarity=SIMILARITY[variant.split("_n")[0]], reference=heads == "sh", signed=quantity == "signed",
        )  # fmt: skip
        np.testing.assert_allclose(heat[0], golden[key], atol=1e-4 * np.abs(golden[key]).max(), err_msg=key)


@pytest.mark.parametrize("model", ["a4", "d7"])
def test_grad_eclip_of_the_text_gives_the_authors_numbers(model):
    inputs, golden = np.load(GOLDEN / f"{model}_inputs.npz"), np.load(GOLDEN / f"{model}_gradeclip_text.npz")
    keys = [key for key in golden.files if key.endswith(("__map", "__unnorm")) and "_n" in key]
    assert len(keys) > 30
    for key in keys:
        pixels, tokens, _, (heads, variant, quantity) = golden_pair(inputs, key)
        heat = xk.explain(
            "grad_eclip", golden_model(model), pixels, tokens, of="text", blocks=int(variant[-1]),
            similarity=SIMILARITY[variant.split("_n")[0]], context="context", rectify="sum", normalise=quantity == "map",
            heads="one" if heads == "sh" else "all",
        )  # fmt: skip
        np.testing.assert_allclose(heat[0], golden[key], atol=1e-4 * np.abs(golden[key]).max(), err_msg=key)


@pytest.mark.parametrize("model", ["a4", "d7"])
def test_attention_controls_give_the_authors_numbers(model):
    inputs, golden = np.load(GOLDEN / f"{model}_inputs.npz"), np.load(GOLDEN / f"{model}_baselines.npz")
    tokens = torch.tensor(inputs["text_ids"])[:1]
    for image in [name[5:] for name in inputs.files if name.startswith("image") and name[5:].isdigit()]:
        pixels = torch.tensor(inputs[f"image{image}"])[None]
        heat = xk.explain("raw_attention", golden_model(model), pixels, tokens)
        np.testing.assert_allclose(heat[0], golden[f"i{image}__mh__selfattn__map"], atol=1e-5)
    rollouts = [key for key in golden.files if "rollout" in key and key.startswith("i") and golden[key].ndim == 2]
    for key in rollouts:
        pixels = torch.tensor(inputs[f"image{key[1]}"])[None] if key[1].isdigit() else None
        if pixels is not None:
            heat = xk.explain("rollout", golden_model(model), pixels, tokens, blocks=1 if "last" in key else None)
            np.testing.assert_allclose(heat[0], golden[key], atol=1e-5, err_msg=key)


def test_the_true_cosine_is_explained_unless_asked_otherwise():
    golden, inputs = np.load(GOLDEN / "a4_gradeclip_image.npz"), np.load(GOLDEN / "a4_inputs.npz")
    clip = golden_model("a4")
    pixels, tokens, *_ = golden_pair(inputs, "i0_t0__mh__cosine")
    assert clip.similarity(pixels, tokens)[0, 0].item() == pytest.approx(float(golden["i0_t0__mh__cosine"]), abs=1e-5)
    heads = [block.attn.num_heads for block in clip.model.visual.transformer.resblocks]
    xk.explain("grad_eclip", clip, pixels, tokens, reference=True)
    assert [block.attn.num_heads for block in clip.model.visual.transformer.resblocks] == heads


def test_a_text_map_without_a_positive_word_is_zero_not_nan(clip, scenes, monkeypatch):
    from xaikit.explainers import grad_eclip

    monkeypatch.setattr(grad_eclip, "contributions", lambda layer, *rest: -torch.ones(layer.joined_k.shape[:2]))
    heat = xk.explain("grad_eclip", clip, scenes.image, scenes.caption, of="text", normalise=True)
    assert (heat == 0).all()


def mmel_written_out(clip, pixels, tokens, alpha, beta, temperature, theta, scale_factors):
    """Equations 1 to 9 for one image, literally, with scaling by multiplication and a standardised level."""
    base = torch.tensor(xk.explain("grad_eclip", clip, pixels, tokens, similarity="query_key_and_patches").values)
    tape, _ = record_score(clip, pixels, tokens, "image", None, gradients=False)
    level = torch.zeros(64)
    for s in scale_factors:
        for layer in tape.layers:
            x = F.normalize(F.layer_norm(layer.joined_q[0, 1:] * s, (layer.joined_q.shape[-1],)), dim=-1)
            attention = F.softplus(torch.tensor(theta)) * (x @ x.T / x.shape[-1] ** 0.5 / temperature).softmax(-1)
            level = level + attention.mean(0)
    level = (level - level.mean()) / level.std(unbiased=False)
    raised = base[0] * (1 + alpha * level.sigmoid().view(8, 8))
    return (raised + beta * base[0]) / (1 + beta)


@pytest.mark.parametrize("choice", [(2.0, 2.0, 0.1, 1.0), (1.0, 0.0, 0.05, -1.0)])
def test_mmel_is_its_equations(clip, scenes, choice):
    alpha, beta, temperature, theta = choice
    pixels, tokens = clip.pixels(scenes.image[:1]), clip.tokens(scenes.caption[:1])
    ours = xk.explain(
        "mmel", clip, pixels, tokens, alpha=alpha, beta=beta, temperature=temperature, theta=theta, scaling="multiply"
    )
    expected = mmel_written_out(clip, pixels, tokens, *choice, (1.0, 0.75, 0.5))
    np.testing.assert_allclose(ours[0], expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def importance_resampled(x, size, coarse, transform, temperature):
    """Literal eq. 1 and 3 to 7 on a coarser grid for a length that does not divide: average, transform, attend, spread."""
    edges = np.linspace(0, size, coarse + 1)
    down = np.array(
        [
            [max(0, min(b, j + 1) - max(a, j)) / (b - a) for j in range(size)]
            for a, b in zip(edges, edges[1:], strict=False)
        ]
    )
    down = torch.tensor(down, dtype=torch.float32)
    y = F.normalize(F.layer_norm(transform(down @ x), (x.shape[-1],)), dim=-1)
    attention = (y @ y.T / x.shape[-1] ** 0.5 / temperature).softmax(-1)
    return down.T @ attention.mean(0)


@pytest.mark.parametrize("transform", ["identity", "random"])
def test_mmel_resamples_before_it_transforms(clip, transform):
    """The text side of two prompts of 7 and 9 words at scale 0.75, against the equations written out."""
    scenes = xk.draw_scenes(1, seed=3)
    texts = ["a red ring above a blue cross", "a small red ring and a small blue cross"]
    pixels = clip.pixels(scenes.image)[[0, 0]]
    tokens = clip.tokens(texts)
    ours = xk.explain("mmel", clip, pixels, tokens, of="text", scales=(0.75,), transform=transform, levels=1, beta=0.0)
    base = xk.explain("grad_eclip", clip, pixels, tokens, of="text", similarity="query_key_and_patches").values
    tape, _ = record_score(clip, pixels, tokens, "text", [-1], gradients=False)
    network = (lambda x: x) if transform == "identity" else (lambda x: mmel_network(x, 0))
    for index, text in enumerate(texts):
        words = len(text.split())
        level = importance_resampled(tape[-1].joined_q[index, 1 : words + 1], words, round(0.75 * words), network, 0.1)
        level = (level - level.mean()) / level.std(unbiased=False)
        expected = base[index, :words] * (1 + 2 * level.sigmoid().numpy())
        np.testing.assert_allclose(ours[index, :words], expected, rtol=2e-3, atol=1e-6)
        assert base[index].max() > 0


def test_only_a_slope_of_theta_survives_standardising(clip, scenes):
    maps = [
        xk.explain("mmel", clip, scenes.image, scenes.caption, theta_slope=slope, theta=theta).values
        for slope, theta in ((0, 1), (0, -2), (2, 1))
    ]
    assert (
        np.abs(maps[0] - maps[1]).max() < 1e-5 * maps[0].max() < 1e-3 * maps[0].max() < np.abs(maps[0] - maps[2]).max()
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize(("name", "side"), BOTH_SIDES)
def test_half_precision_stays_near(clip, scenes, precision, name, side):
    half = xk.load_clip("tiny-clip", precision=precision)
    few = scenes.isel(sample=slice(3))
    ours, full = (
        xk.explain(name, model, few.image, few.caption, of=side, **QUICK.get(name, {})).values for model in (half, clip)
    )
    assert np.isfinite(ours).all()
    if name != "random":  # noise is drawn from the pixels, which differ in their last bits
        assert np.corrcoef(ours.ravel(), full.ravel())[0, 1] > 0.9


def test_mmel_without_enhancement_is_grad_eclip(clip, scenes):
    for side in ("image", "text"):
        plain = xk.explain("grad_eclip", clip, scenes.image, scenes.caption, of=side)
        mmel = xk.explain("mmel", clip, scenes.image, scenes.caption, of=side, alpha=0.0, similarity="query_key")
        np.testing.assert_allclose(mmel, plain, atol=1e-6)


def test_mmel_lies_between_its_bounds(clip, scenes):
    """The factor is in (1, 1 + alpha), so no zero patch becomes warm."""
    base = xk.explain("grad_eclip", clip, scenes.image, scenes.caption, similarity="query_key_and_patches").values
    raised = xk.explain("mmel", clip, scenes.image, scenes.caption, beta=0.0).values
    assert (raised >= base - 1e-7).all() and (raised <= 3 * base + 1e-7).all() and (raised[base == 0] == 0).all()


def test_multiplying_by_a_scale_does_nothing_and_resampling_does(clip, scenes):
    maps = {
        scaling: [
            xk.explain("mmel", clip, scenes.image, scenes.caption, scaling=scaling, scales=(s,), beta=0.0).values
            for s in (1.0, 0.5)
        ]
        for scaling in ("multiply", "resample")
    }
    change = {k: np.abs(a - b).max() / a.max() for k, (a, b) in maps.items()}
    assert change["multiply"] < 1e-3 < 1e-2 < change["resample"]


def test_rollout_of_one_block_is_half_identity(clip, scenes):
    rolled = xk.explain("rollout", clip, scenes.image, scenes.caption, blocks=1)
    raw = xk.explain("raw_attention", clip, scenes.image, scenes.caption)
    np.testing.assert_allclose(rolled, raw / 2, atol=1e-6)


def test_random_follows_its_seed(clip, scenes):
    first, again, other = (xk.explain("random", clip, scenes.image, scenes.caption, seed=s).values for s in (0, 0, 1))
    assert (first == again).all() and abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.2
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("family", ["small-siglip", "small-eva02", "small-coca", "small-custom-blocks"])
def test_other_families_are_explained(family, tmp_path_factory):
    clip = small_clip(family, tmp_path_factory.getbasetemp())
    pixels = torch.randn(2, 3, *clip.image_size, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[1, 5, 9, 63, *[0] * 8], [1, 7, 63, *[0] * 9]])
    for method in ("grad_eclip", "mmel", "raw_attention", "rollout"):
        heat = xk.explain(method, clip, pixels, tokens)
        assert np.isfinite(heat.values).all() and heat.shape[1:] == xk.explain("centre", clip, pixels, tokens).shape[1:]
        assert heat.values.std() > 0
    if family in ("small-siglip", "small-coca"):
        with pytest.raises(ValueError, match="blocks=2: .* pools by attention"):
            xk.explain("grad_eclip", clip, pixels, tokens, blocks=2)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"method": "gradeclip"}, "unknown method 'gradeclip': the nearest known ones are grad_eclip"),
        ({"of": "audio"}, "of='audio'"),
        ({"method": "centre", "of": "text"}, "of='text': centre explains the image only"),
        ({"gamma": 1}, "unknown option 'gamma' of grad_eclip: it takes blocks"),
        ({"blocks": 9}, "blocks=9: give how many last blocks to use, 1 to 4"),
        ({"similarity": "dot"}, "similarity='dot': choose from"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"errors": "ignore"}, "errors='ignore'"),
        ({"texts": ["a red ring", "a blue ring"]}, "9 images but 2 texts"),
        ({"texts": ""}, "is empty"),
        ({"method": "mmel", "scaling": "shrink"}, "scaling='shrink'"),
        ({"method": "mmel", "temperature": 0.0}, "temperature=0.0"),
        ({"method": "mmel", "alpha": float("nan")}, "alpha=nan"),
        ({"method": "mmel", "theta": 1000}, "theta=1000"),
        ({"method": "mmel", "similarity": "dot"}, "similarity='dot'"),
        ({"texts": torch.zeros(9, 5, dtype=torch.long)}, r"token ids of shape \(9, 5\)"),
        ({"texts": torch.full((9, 20), 999)}, "from 999 to 999"),
        ({"method": "mmel", "scales": (2.0,)}, r"scales=\(2.0,\)"),
    ],
)
def test_bad_arguments(clip, scenes, choice, message):
    call = {"method": "grad_eclip", "images": scenes.image, "texts": scenes.caption, **choice}
    with pytest.raises(ValueError, match=message):
        xk.explain(call.pop("method"), clip, call.pop("images"), call.pop("texts"), **call)


def test_bad_samples_are_recorded_and_the_rest_explained(clip, scenes, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    images = [*scenes.image.values[:3], tmp_path / "broken.png"]
    texts = ["a red ring", "", "a mauve ring", "a blue ring"]
    heat = xk.explain("grad_eclip", clip, images, texts, errors="record")
    reasons = [str(reason) for reason in heat.error.values]
    assert reasons[0] == "" and "is empty" in reasons[1] and "'mauve'" in reasons[2] and "broken.png" in reasons[3]
    assert heat[0].max() > 0 and (heat[1:] == 0).all()
    with pytest.raises(ValueError, match="text 1 .* is empty"):
        xk.explain("grad_eclip", clip, images[:3], texts[:3])
