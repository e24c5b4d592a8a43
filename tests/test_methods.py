"""Every method: batches, shapes, errors; Grad-ECLIP against the numbers its authors' code prints; MMEL against
its equations written out."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_models import MODELS, assert_near, golden_cases
from refusals import refused

import xaikit as xk
from xaikit.clip.score import computed_once, other_embedding, record_score
from xaikit.clip.towers import tower
from xaikit.explainers import registry
from xaikit.explainers.mmel import _network as mmel_network

SIMILARITY = {"nb": "query_key", "emap_ksim": "projected", "emap_woksim": "none"}
# Fewer passes than by default, for what is asked of all methods here and does not depend on their number.
QUICK = {
    "integrated_gradients": {"steps": 6},
    "kernel_shap": {"samples": 80},
    "m2ib": {"steps": 2, "copies": 2},
    "rise": {"masks": 16},
}
# Not the controls, nor what is tried elsewhere: what another method explains, and resonance.
ELSEWHERE = {"centre", "edge", "random", "osp", "srm", "srm_displacement", "srm_fixed_point"}
BOTH_SIDES = [(name, side) for name, about in xk.methods().items() for side in about["explains"]]


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(5, seed=11)


@pytest.fixture(scope="module")
def maps_of(clip, scenes):
    """The maps of all scenes by a method, once for all tests."""
    return cache(
        lambda name, side: xk.explain(name, clip, scenes.image, scenes.caption, of=side, **QUICK.get(name, {}))
    )


@pytest.mark.parametrize(("name", "side"), BOTH_SIDES)
def test_a_batch_equals_its_singles_and_repeats_itself(clip, scenes, maps_of, name, side):
    options, together = QUICK.get(name, {}), maps_of(name, side)
    again = xk.explain(name, clip, scenes.image, scenes.caption, of=side, batch_size=4, **options)
    np.testing.assert_allclose(together, again, atol=3e-5 * max(1, np.abs(together).max()))
    assert np.isfinite(together.values).all()
    single = xk.explain(name, clip, scenes.image[3:4], scenes.caption[3:4], of=side, **options)
    together = together.values[3, ..., : single.shape[-1]]
    np.testing.assert_allclose(single.values[0], together, atol=3e-5 * max(1, np.abs(together).max()))


@pytest.mark.parametrize(("name", "side"), BOTH_SIDES)
def test_shapes_and_labels(scenes, maps_of, name, side):
    heat = maps_of(name, side)
    if side == "image":
        assert heat.dims == ("sample", "row", "col") and heat.shape == (5, 8, 8)
    else:
        assert heat.dims == ("sample", "token")
        assert (heat.token_text.values == scenes.token_text.values).all()
        assert (heat.values[scenes.token_text.values == ""] == 0).all()
    assert heat.attrs["source"] and heat.attrs["explainer"] == name


@MODELS
def test_grad_eclip_of_the_image_gives_the_authors_numbers(model):
    maps = golden_cases(model, "gradeclip_image", lambda key: key.endswith(("__map", "__signed")), 31)
    for golden, key, case, (heads, variant, quantity) in maps:
        heat = xk.explain(
            "grad_eclip", *case, blocks=int(variant[-1]) if variant.startswith("nb") else 1,
            similarity=SIMILARITY[variant.split("_n")[0]], reference=heads == "sh", signed=quantity == "signed",
        )  # fmt: skip
        assert_near(heat[0], golden, key=key)


@MODELS
def test_grad_eclip_of_the_text_gives_the_authors_numbers(model):
    wanted = lambda key: key.endswith(("__map", "__unnorm")) and "_n" in key  # noqa: E731
    for golden, key, case, (heads, variant, quantity) in golden_cases(model, "gradeclip_text", wanted, 31):
        heat = xk.explain(
            "grad_eclip", *case, of="text", blocks=int(variant[-1]), similarity=SIMILARITY[variant.split("_n")[0]],
            context="context", rectify="sum", normalise=quantity == "map", heads="one" if heads == "sh" else "all",
        )  # fmt: skip
        assert_near(heat[0], golden, key=key)


def test_the_true_cosine_is_explained_unless_asked_otherwise():
    [(golden, _, case, _)] = golden_cases("a4", "gradeclip_image", "i0_t0__mh__cosine".__eq__)
    clip, pixels, tokens = case
    assert clip.similarity(pixels, tokens)[0, 0].item() == pytest.approx(float(golden), abs=1e-5)
    heads = [block.attn.num_heads for block in clip.model.visual.transformer.resblocks]
    xk.explain("grad_eclip", clip, pixels, tokens, reference=True)
    assert [block.attn.num_heads for block in clip.model.visual.transformer.resblocks] == heads


def test_a_text_map_without_a_positive_word_is_zero_not_nan(clip, scenes, monkeypatch):
    from xaikit.explainers import grad_eclip

    monkeypatch.setattr(grad_eclip, "contributions", lambda layer, *rest: -torch.ones(layer.joined_k.shape[:2]))
    heat = xk.explain("grad_eclip", clip, scenes.image, scenes.caption, of="text", normalise=True)
    assert (heat == 0).all()


def mmel_written_out(clip, pixels, tokens, alpha, beta, temperature, theta, scale_factors):
    """Equations 1 to 9 for one image, literally, with scaling by multiplication and a standardised level. Equation 8 sums
    over all blocks."""
    given = {"similarity": "query_key_and_patches", "blocks": None}
    base = torch.tensor(xk.explain("grad_eclip", clip, pixels, tokens, **given).values)
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
    ours = xk.explain(
        "mmel", clip, pixels, tokens, of="text", scales=(0.75,), transform=transform, levels=1, blocks=1, beta=0.0
    )
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


@cache
def tiny_clip_in(precision):
    return xk.load_clip("tiny-clip", precision=precision)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize(("name", "side"), BOTH_SIDES)
def test_half_precision_stays_near(scenes, maps_of, precision, name, side):
    half, few = tiny_clip_in(precision), scenes.isel(sample=slice(2))
    ours = xk.explain(name, half, few.image, few.caption, of=side, **QUICK.get(name, {})).values
    full = maps_of(name, side).values[:2, ..., : ours.shape[-1]]
    assert np.isfinite(ours).all()
    if name != "random":  # noise is drawn from the pixels, which differ in their last bits
        assert np.corrcoef(ours.ravel(), full.ravel())[0, 1] > 0.9


def test_mmel_without_enhancement_is_grad_eclip(clip, scenes):
    for side in ("image", "text"):
        plain = xk.explain("grad_eclip", clip, scenes.image, scenes.caption, of=side, blocks=None)
        mmel = xk.explain("mmel", clip, scenes.image, scenes.caption, of=side, alpha=0.0, similarity="query_key")
        np.testing.assert_allclose(mmel, plain, atol=1e-6)


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


def test_random_follows_its_seed(clip, scenes):
    first, again, other = (xk.explain("random", clip, scenes.image, scenes.caption, seed=s).values for s in (0, 0, 1))
    assert (first == again).all() and abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.2
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize(("method", "side"), [each for each in BOTH_SIDES if each[0] not in ELSEWHERE])
def test_nothing_is_left_on_the_model(clip, scenes, method, side, monkeypatch):
    """Also where the model fails under a method, at the third pass where there are several."""
    pair, modules, calls = (scenes.image[:3], scenes.caption[:3]), list(clip.model.modules()), []

    def left():
        hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
        gradients = sum(weight.grad is not None or weight.requires_grad for weight in clip.model.parameters())
        heads = [attention.num_heads for attention in tower(clip, side).attentions]
        return hooks, gradients, torch.is_grad_enabled(), heads, [set(vars(module)) for module in modules]

    def fails(*args):
        calls.append(args)
        if len(calls) == (3 if method in QUICK else 1):
            raise ZeroDivisionError

    before = left()
    options = {"reference": True} if method in ("gradcam", "attention_eclip") else QUICK.get(method, {})
    xk.explain(method, clip, *pair, of=side, **options)
    assert left() == before and before[:2] == (0, 0)
    for module in ("clip.perturbation", "explainers.input_gradients"):
        monkeypatch.setattr(f"xaikit.{module}.at_once", lambda device: 4)
    handle = tower(clip, side).blocks[-1].mlp.register_forward_hook(fails)
    with pytest.raises(ZeroDivisionError):
        xk.explain(method, clip, *pair, of=side, **options)
    handle.remove()
    assert left() == before


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"method": "gradeclip"}, "unknown method 'gradeclip': the nearest known ones are grad_eclip"),
        ({"of": "audio"}, "of='audio'"),
        (
            {"method": "centre", "of": "text"},
            "of='text': centre explains the image only; the text is explained by .*mmel",
        ),
        ({"gamma": 1}, "unknown option 'gamma' of grad_eclip: it takes blocks"),
        ({"blocks": 9}, "blocks=9: give how many last blocks to use, 1 to 4"),
        ({"similarity": "dot"}, "similarity='dot': choose from"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"errors": "ignore"}, "errors='ignore'"),
        ({"texts": ["a red ring", "a blue ring"]}, "5 images but 2 texts"),
        ({"texts": ""}, "is empty"),
        ({"method": "mmel", "scaling": "shrink"}, "scaling='shrink'"),
        ({"method": "mmel", "temperature": 0.0}, "temperature=0.0"),
        ({"method": "mmel", "alpha": float("nan")}, "alpha=nan"),
        ({"method": "mmel", "theta": 1000}, "theta=1000"),
        ({"method": "mmel", "similarity": "dot"}, "similarity='dot'"),
        ({"texts": torch.zeros(5, 6, dtype=torch.long)}, r"token ids of shape \(5, 6\)"),
        ({"texts": torch.full((5, 20), 999)}, "from 999 to 999"),
        ({"method": "mmel", "scales": (2.0,)}, r"scales=\(2.0,\)"),
    ],
)
def test_bad_arguments(clip, scenes, choice, message):
    call = {"method": "grad_eclip", "images": scenes.image, "texts": scenes.caption, **choice}
    refused(message, xk.explain, call.pop("method"), clip, call.pop("images"), call.pop("texts"), **call)


@pytest.fixture
def idle(clip, monkeypatch):
    """No tower of the model may run."""
    for side in ("image", "text"):
        monkeypatch.setattr(clip.model, f"encode_{side}", lambda *args, **kwargs: pytest.fail("the model was run"))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("attention_eclip", {"weight": "key"}, "weight='key': choose from query_key, attention, none"),
        ("attention_eclip", {"blocks": 0}, "blocks=0: give how many"),
        ("attention_flow", {"blocks": 9}, "blocks=9: give how many last blocks to use, 1 to 4"),
        ("chefer", {"blocks": 1.5}, "blocks=1.5: give how many"),
        ("gradcam", {"at": "layer"}, "at='layer': choose from block, norm"),
        ("gradcam", {"average": "mean"}, "average='mean': choose from content, all"),
        ("legrad", {"pooling": "max"}, "pooling='max': choose from"),
        ("legrad", {"pooling": "mean", "of": "text"}, "pooling='mean': the text tower's mean"),
        (
            "clip_surgery",
            {"reference": True},
            "reference=True: the released code operates on exactly 6 blocks, not on 4",
        ),
        ("clip_surgery", {"blocks": 5}, "blocks=5: give how many last blocks to use, 1 to 4"),
        ("clip_surgery", {"candidates": ["a mauve ring"]}, "the word 'mauve'"),
        ("clip_surgery", {"candidates": []}, "no text was given"),
        ("maskclip", {"of": "text"}, "maskclip explains the image only"),
        ("integrated_gradients", {"fill": "pink"}, "fill='pink': choose from zero, mean"),
        ("integrated_gradients", {"fill": "removed", "of": "text"}, "fill='removed': choose from padding, zero"),
        ("kernel_shap", {"fill": "padding"}, "fill='padding': for the image choose from zero"),
        ("kernel_shap", {"fill": "blur", "of": "text"}, "fill='blur': for the text choose from padding, removed"),
        ("rise", {"p": 1.0}, "p=1.0: a probability above 0 and below 1 is needed"),
        ("rise", {"fill": "pink"}, "fill='pink'"),
        ("m2ib", {"block": 4}, "block=4: a whole number from 0 to 3 is needed"),
        ("m2ib", {"beta": 0}, "beta=0: a number above 0"),
        ("m2ib", {"rate": float("nan")}, "rate=nan: a number above 0, up to 100 is needed"),
        ("osp", {"base": "osp"}, "base='osp': choose the method"),
        ("osp", {"base": "gradeclip"}, "unknown method 'gradeclip'"),
        ("osp", {"options": {"gamma": 1}}, "unknown option 'gamma' of grad_eclip"),
        ("osp", {"max_similarity": 2}, "max_similarity=2"),
        ("osp", {"distractors": "a red ring"}, "distractors='a red ring': a list"),
        ("osp", {"distractors": []}, "a list of captions"),
        ("osp", {"distractors": ["a mauve ring"]}, "'mauve' is outside"),
    ],
)
def test_bad_options_are_refused_before_any_work(clip, scenes, idle, method, options, message):
    refused(message, xk.explain, method, clip, scenes.image, scenes.caption, **options)


@pytest.mark.parametrize("value", [None, "a", True, 1.5, float("nan"), -1])
@pytest.mark.parametrize(
    ("method", "name", "wanted"),
    [
        ("integrated_gradients", "seed", "of at least 0"),
        ("integrated_gradients", "steps", "from 1 to 1000"),
        ("kernel_shap", "samples", "of at least 2"),
        ("kernel_shap", "seed", "of at least 0"),
        ("m2ib", "copies", "from 1 to 1000"),
        ("m2ib", "seed", "of at least 0"),
        ("m2ib", "steps", "from 1 to 1000"),
        ("mmel", "seed", "of at least 0"),
        ("osp", "atoms", "of at least 0"),
        ("random", "seed", "of at least 0"),
        ("rise", "grid", "of at least 1"),
        ("rise", "masks", "of at least 1"),
        ("rise", "seed", "of at least 0"),
    ],
)
def test_whole_numbers_are_needed(clip, scenes, idle, method, name, wanted, value):
    if (name, value) != ("samples", None):  # four a player
        message = f"{name}={value!r}: a whole number {wanted} is needed"
        refused(message, xk.explain, method, clip, scenes.image, scenes.caption, **{name: value})


def test_a_seed_may_be_numpys(clip, scenes):
    for method in ("kernel_shap", "m2ib", "mmel", "random", "rise"):
        maps = [
            xk.explain(method, clip, scenes.image[:3], scenes.caption[:3], **QUICK.get(method, {}), seed=seed)
            for seed in (3, np.int64(3))
        ]
        np.testing.assert_array_equal(*maps)


def test_bad_samples_are_recorded_and_the_rest_explained(clip, scenes, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    images = [*scenes.image.values[:3], tmp_path / "broken.png"]
    texts = ["a red ring", "", "a mauve ring", "a blue ring"]
    heat = xk.explain("grad_eclip", clip, images, texts, errors="record")
    reasons = [str(reason) for reason in heat.error.values]
    assert reasons[0] == "" and "is empty" in reasons[1] and "'mauve'" in reasons[2] and "broken.png" in reasons[3]
    assert heat[0].max() > 0 and (heat[1:] == 0).all()
    refused("text 1 .* is empty", xk.explain, "grad_eclip", clip, images[:3], texts[:3])


@pytest.fixture
def runs(monkeypatch):
    """How many images, and how many texts without a recording, a model has encoded since it was cleared."""
    counted = {"encode_image": [], "embed_text": []}
    for name, batches in counted.items():
        encode = getattr(xk.clip.Clip, name)
        monkeypatch.setattr(
            xk.clip.Clip, name, lambda self, given, b=batches, e=encode: b.append(len(given)) or e(self, given)
        )
    return counted


def test_a_method_with_many_options_records_once_a_batch(clip, runs):
    scenes, counted = xk.draw_scenes(3, seed=5), runs["encode_image"]
    ways = {
        f"{alpha} {blocks}": ("mmel", {"alpha": alpha, "levels": blocks})
        for blocks in (None, 1)
        for alpha in (0.0, 2.0, 8.0)
    }
    together = xk.explain(ways, clip, scenes.image, scenes.caption, batch_size=2)
    assert counted == [2, 1]  # all blocks are explained, whatever the levels: one recording a batch
    counted.clear()
    alone = [
        xk.explain("mmel", clip, scenes.image, scenes.caption, batch_size=2, **options) for _, options in ways.values()
    ]
    assert len(counted) == 2 * len(ways)
    np.testing.assert_array_equal(together, np.stack(alone, 1))


@pytest.mark.parametrize("of, other", [("image", "embed_text"), ("text", "encode_image")])
def test_methods_that_record_encode_the_other_side_once_a_batch_and_find_what_each_finds_alone(clip, runs, of, other):
    scenes = xk.draw_scenes(3, seed=5)
    ways = {
        "first": "mmel",
        "one head": ("grad_eclip", {"reference": True}),
        "between": "grad_eclip",
        "by attention": "attention_eclip",
        "by attention, one head": ("attention_eclip", {"reference": True}),
        "again": ("mmel", {"alpha": 8.0}),
        **{name: name for name in ("chefer", "rollout", "raw_attention", "gradcam", "legrad", "saliency", "m2ib")},
    }
    together = xk.explain(ways, clip, scenes.image, scenes.caption, of=of, batch_size=2)
    assert runs[other] == [2, 1]
    for label, way in ways.items():
        name, options = (way, {}) if isinstance(way, str) else way
        alone = xk.explain(name, clip, scenes.image, scenes.caption, of=of, batch_size=2, **options)
        np.testing.assert_array_equal(together.sel(explainer=label), alone, err_msg=label)


def test_what_is_kept_for_many_methods_is_forgotten_afterwards_and_by_whoever_changes_something(clip, runs):
    scenes = xk.draw_scenes(2, seed=5)
    pixels, tokens = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    for _ in range(2):
        with computed_once():
            first = other_embedding(clip, pixels, tokens, "image")
            assert other_embedding(clip, pixels, tokens, "image") is first
            assert other_embedding(clip, pixels, tokens.clone(), "image") is not first
    assert runs["embed_text"] == [2] * 4
    other_embedding(clip, pixels, tokens, "image")
    other_embedding(clip, pixels, tokens, "image")
    assert runs["embed_text"] == [2] * 6


def test_a_recording_that_two_methods_need_is_made_once(clip, runs):
    scenes = xk.draw_scenes(2, seed=5)
    xk.explain(["grad_eclip", "attention_eclip"], clip, scenes.image, scenes.caption)
    assert runs["encode_image"] == [2]
    xk.explain({"one": "grad_eclip", "other": ("grad_eclip", {"blocks": 2})}, clip, scenes.image, scenes.caption)
    assert runs["encode_image"] == [2] * 3


@pytest.mark.parametrize(
    ("of", "gives", "said"),
    [
        ("image", torch.zeros(3, 8), r"gave the shape \(3, 8\): \(3, 8, 8\), \(samples, rows, cols\), is needed"),
        ("image", np.zeros((3, 8, 8)), "gave an object of type ndarray: the type Tensor \\(samples, rows, cols\\) is needed"),
        ("text", torch.zeros(3, 20), r"gave the shape \(3, 20\): \(3, 2\), \(samples, content tokens\), is needed"),
    ],
)  # fmt: skip
def test_what_a_method_of_ones_own_must_give(clip, monkeypatch, of, gives, said):
    monkeypatch.setattr(registry.METHODS, "_entries", registry.METHODS.all())

    @registry.method(sides=("image", "text"), source="here")
    def mine(clip, pixels, tokens, *, of):
        return gives

    refused(f"the method 'mine' {said}", xk.explain, "mine", clip, xk.draw_scenes(3).image, "red ring", of=of)
