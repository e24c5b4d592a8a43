"""``explain_tokens``: against the plain models' logits and a slow reading of the equations, and what it says of bad input."""

import copy
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from refusals import refused
from small_families import asked, ordinary
from small_mllms import CLASSES, picture, small_mllm
from torch.nn import functional

from xaikit.files.paths import data_folder
from xaikit.files.store import provenance
from xaikit.mllm import conversations
from xaikit.mllm.explanation import explain_all_tokens, explain_tokens, token_methods
from xaikit.mllm.loading import load_mllm
from xaikit.mllm.memory import Sizes
from xaikit.mllm.methods import REGISTRY, attention, grad_cam, gradient_x_input, rollout, token_method
from xaikit.mllm.numerics import rank_gaussian_filter, released_tam
from xaikit.mllm.passes import attended, teacher_forced
from xaikit.mllm.steps import PRESETS, Steps, steps_of
from xaikit.samples.scenes import draw_descriptions

pytestmark = pytest.mark.filterwarnings("ignore:the answer to .* was cut:UserWarning")
PROMPTS = ["describe the scene .", "what is left of the small red circle ?", "now"]
REQUESTS = ["describe the picture", "what is this", "list the objects in the photo"]
ANSWERS = ["a red circle", "a small blue square left of a triangle", "green"]
TOLD = "a small red circle is left of a large blue square"
SCALES = (1.0, 1.5, 2.0)
NAN = float("nan")


@pytest.fixture(params=CLASSES)
def mllm(request):
    return small_mllm(request.param)


@pytest.fixture(scope="module")
def scenes():
    return draw_descriptions(3, seed=1)


def pictures():
    """Of mixed sizes, which give mixed grids where the class takes any size."""
    return [picture(*size, seed) for seed, size in enumerate([(80, 120), (130, 70), (90, 90)])]


def plain(model, image, prompt, answer):
    """Everything from the class's own processor and one forward pass with all logits: ids, logits, positions."""
    own = ordinary(model, asked(prompt), [image])
    words, told = (model.processor.tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, answer))
    start = own["input_ids"].shape[1]
    added = torch.tensor([told])
    own["input_ids"] = torch.cat([own["input_ids"], added], 1)
    own["attention_mask"] = torch.ones_like(own["input_ids"])
    if "mm_token_type_ids" in own:
        own["mm_token_type_ids"] = torch.cat([own["mm_token_type_ids"], torch.zeros_like(added)], 1)
    with torch.no_grad():
        logits = model.model(**own).logits[0]
    ids = own["input_ids"][0]
    image_at = (ids == model.model.config.image_token_id).nonzero()[:, 0]
    after = int(image_at.max()) + 1
    first = next(i for i in range(after, start) if ids[i : i + len(words)].tolist() == words)
    prompt_at = torch.arange(first, first + len(words))
    emitting = torch.cat([prompt_at, torch.arange(start - 1, len(ids) - 1)])
    context = torch.cat([ids[prompt_at], ids[start:]])
    return SimpleNamespace(
        ids=ids, logits=logits, start=start, image=image_at, prompt=prompt_at, emitting=emitting,
        previous=torch.cat([prompt_at - 1, emitting[len(words) :]]), context=context, words=len(words), told=told,
    )  # fmt: skip


def overlap_by_definition(first, second, persistence, normalised):
    """Rank-biased overlap of two rankings, equation (15) depth by depth."""
    depths = range(1, len(first) + 1)
    total = sum(persistence ** (d - 1) * len(set(first[:d]) & set(second[:d])) / d for d in depths)
    return (1 - persistence) * total / (1 - persistence ** len(first) if normalised else 1)


def slowly(found, grid, steps):
    """The answer's maps at scale 1 and the overlaps, token by token, as equations (1) to (7) and (14) to (16) read."""
    logits = found.logits.double().numpy()
    maps = np.maximum(logits[found.image][:, found.context].T, 0).reshape(-1, *grid)
    relevance = np.maximum(logits[found.emitting][:, found.context].T, 0)  # (target, context)
    ranking_at = found.emitting if steps.positions == "emitting" else found.previous
    tops = [np.argsort(-logits[at], kind="stable")[: steps.k].tolist() for at in ranking_at]
    share = (steps.persistence, steps.normalised)
    overlap = np.array([[overlap_by_definition(a, b, *share) for b in tops] for a in tops])
    told = []
    for t in range(found.words, len(found.context)):
        earlier = [
            k for k in range(t)
            if found.context[k] != found.context[t] and (steps.prompt_context or k >= found.words)
        ]  # fmt: skip
        own = maps[t]
        if steps.weighting and earlier:
            r, rho, lit = relevance[t, earlier], overlap[t, earlier], maps[earlier]
            weights = {
                "relevance": r, "irrelevance": 1 - rho, "damped": r * (1 - rho), "agreement": rho,
                "damped_fixed": r * (1 - rho), "incoherent": r * (rho < steps.threshold),
            }[steps.weighting]  # fmt: skip
            fitted = r if steps.weighting == "damped_fixed" else weights
            estimate = np.tensordot(fitted / (fitted.sum() + 1e-8), lit, 1)
            square = (estimate**2).sum()
            scale = ((own * estimate).sum() / square if square else 0) if steps.least_squares else 1
            taken = np.tensordot(weights / (fitted.sum() + 1e-8), lit, 1)
            own = np.maximum(own - scale * taken, 0)
        if steps.joint:
            before = [relevance[t, k] for k in range(t) if steps.prompt_context or k >= found.words]
            low, high = min([own.min(), *before]), max([own.max(), *before])
            own = (own - low) / (high - low) if high > low else 0 * own
        told.append(own)
    told = torch.tensor(np.array(told))
    return (rank_gaussian_filter(told, steps.filter) if steps.filter else told).numpy(), overlap[found.words :]


def check_same(one, whole, sample, atol=2e-5):
    """What one sample alone gives is what it gives among others, which have longer texts and other grids."""
    tokens, context = one.sizes["answer_token"], one.sizes["context_token"]
    rows, cols = one.grid.values[0]
    ours = whole.isel(sample=sample)
    inside = np.zeros(ours.token_heat.shape, bool)
    inside[..., :tokens, :rows, :cols] = True
    np.testing.assert_allclose(ours.token_heat.values[inside], one.token_heat.values.ravel(), atol=atol, rtol=1e-3)
    assert not ours.token_heat.values[~inside].any()
    for name, empty in (("relevance", 0), ("rank_overlap", np.nan)):
        values = ours[name].values
        np.testing.assert_allclose(values[..., :tokens, :context], one[name].values[0], atol=2e-5, rtol=1e-3)
        np.testing.assert_array_equal(values[..., tokens:, :], empty)
        np.testing.assert_array_equal(values[..., context:], empty)
    likely = ours.log_probability.values
    np.testing.assert_allclose(likely[:, :tokens], one.log_probability.values[0], atol=2e-4, rtol=1e-3)
    assert not likely[:, tokens:].any()
    for name, length in (("answer_text", tokens), ("context_text", context)):
        assert ours[name].values[:length].tolist() == one[name].values[0].tolist()
        assert not any(ours[name].values[length:])
    for name in ("prompt", "answer", "grid", "region"):
        assert ours[name].values.tolist() == one[name].values[0].tolist(), name


def test_lens_relevance_and_likelihood_are_columns_of_the_plain_models_logits(mllm):
    found = explain_tokens(mllm, pictures(), PROMPTS, "lens", ANSWERS)
    for sample, given in enumerate(zip(pictures(), PROMPTS, ANSWERS, strict=True)):
        truth = plain(mllm, *given)
        rows, cols = found.grid.values[sample]
        a, context = len(truth.told), len(truth.context)
        assert rows * cols == len(truth.image)
        heat = found.token_heat.values[sample, :a, :rows, :cols]
        expected = truth.logits[truth.image][:, truth.told].relu().T.reshape(a, rows, cols)
        np.testing.assert_allclose(heat, expected, atol=1e-4)
        expected = truth.logits[truth.emitting][:, truth.told].relu().T
        np.testing.assert_allclose(found.relevance.values[sample, :a, :context], expected, atol=1e-4)
        expected = truth.logits.log_softmax(-1)[torch.arange(truth.start - 1, len(truth.ids) - 1), truth.told]
        np.testing.assert_allclose(found.log_probability.values[sample, 0, :a], expected, atol=1e-4)
        words = [*given[1].split(), *given[2].split()]
        assert [text.strip() for text in found.context_text.values[sample, :context]] == words
        assert found.answer.values[sample] == given[2]
    assert np.isnan(found.rank_overlap).all()
    assert (len({tuple(grid) for grid in found.grid.values}) > 1) == ("Qwen" in type(mllm.model).__name__)


STEPS = [
    ("lens", {}), ("tam", {}), ("arc", {}), ("tam", {"joint": False, "filter": 0}), ("arc", {"filter": 5}),
    *(("arc", {"weighting": name, "joint": False, "filter": 0, "k": 9}) for name in (
        "irrelevance", "damped", "agreement", "damped_fixed", "incoherent")),
    ("arc", {"weighting": "damped_fixed", "k": 4, "normalised": False, "persistence": 0.7, "filter": 0}),
    ("arc", {"weighting": "incoherent", "threshold": 0.2, "filter": 0}),
    ("arc", {"least_squares": False, "joint": False, "filter": 0}),
    ("arc", {"weighting": "damped_fixed", "least_squares": False, "joint": False, "filter": 0}),
    ("tam", {"least_squares": False, "filter": 0}),
    ("arc", {"positions": "previous", "persistence": 0.5, "filter": 0}),
    ("arc", {"prompt_context": False, "joint": False, "filter": 0}),
]  # fmt: skip


def test_steps_are_the_equations(bundled, scenes):
    methods = {str(number): step for number, step in enumerate(STEPS)}
    found = explain_all_tokens(bundled, scenes.image[:2], "describe the picture", methods, TOLD)
    for sample in range(2):
        truth = plain(bundled, scenes.image.values[sample], "describe the picture", TOLD)
        for number, (name, options) in enumerate(STEPS):
            steps = Steps(**{**vars(PRESETS[name]), **options})
            heat, overlap = slowly(truth, (8, 8), steps)
            np.testing.assert_allclose(found.token_heat.values[sample, number], heat, atol=2e-3, err_msg=str(steps))
            ours = found.rank_overlap.values[sample, number]
            if steps.weighting in (None, "relevance"):
                assert np.isnan(ours).all()
            else:
                np.testing.assert_allclose(ours, overlap, atol=1e-3, err_msg=str(steps))


def test_released_function_on_the_plain_models_logits(bundled, scenes):
    source = data_folder() / "tiny-llava"
    own = SimpleNamespace(
        model=transformers.AutoModelForImageTextToText.from_pretrained(source).eval(),
        processor=transformers.AutoProcessor.from_pretrained(source),
    )
    answers = [TOLD, "a large red ring", "a small cyan cross is above a small pink diamond"]
    found = explain_tokens(bundled, scenes.image, "describe the picture", "tam", answers, tam_compat=True)
    other = explain_tokens(bundled, scenes.image, "describe the picture", "tam", answers)
    for sample, answer in enumerate(answers):
        truth = plain(own, scenes.image.values[sample], "describe the picture", answer)
        expected = released_tam(truth.ids, truth.logits, (8, 8), truth.start, truth.image, truth.prompt)
        heat = 255 * found.token_heat.values[sample, : len(expected)]
        assert expected.any() and heat == pytest.approx(heat.round(), abs=1e-3)
        off = np.abs(heat.round() - expected.numpy())
        assert off.max() <= 1 and (off > 0).mean() < 0.01, "but for where rounding noise crosses a unit"
        assert np.abs(heat / 255 - other.token_heat.values[sample, : len(expected)]).max() > 0.05


def test_what_reduces_to_what(bundled, scenes):
    """The note's conformance test 5 through the public function."""
    tam = {"weighting": "relevance", "joint": True, "filter": 3}
    ways = {
        "tam": "tam", "arc": "arc", "msea": "msea", "msea+arc": "msea+arc", "lens": "lens",
        "msea at 1": ("msea", {"scales": (1,)}), "msea at one": ("msea", {"scales": 1}), "lens as tam": ("lens", tam),
        "arc with relevance": ("arc", {"weighting": "relevance"}),
        "both as tam": ("msea+arc", {"weighting": "relevance", "scales": (1.0,)}),
        "steps": Steps(**tam), "msea+arc at 1": ("msea+arc", {"scales": (1,)}),
        "tam at scales": ("tam", {"scales": SCALES}), "arc at scales": ("arc", {"scales": SCALES}),
        "tam without": ("tam", {"weighting": None, "joint": False, "filter": 0}),
    }  # fmt: skip
    found = explain_all_tokens(bundled, scenes.image, methods=ways).token_heat
    assert found.explainer.values.tolist() == list(ways)
    heat = {name: found.sel(explainer=name).values for name in ways}
    for name in ("msea at 1", "msea at one", "lens as tam", "arc with relevance", "both as tam", "steps"):
        assert np.array_equal(heat[name], heat["tam"]), name
    assert np.array_equal(heat["msea+arc at 1"], heat["arc"]) and np.array_equal(heat["tam without"], heat["lens"])
    assert np.array_equal(heat["tam at scales"], heat["msea"])
    assert np.array_equal(heat["arc at scales"], heat["msea+arc"])
    for first, second in itertools.combinations(PRESETS, 2):
        assert np.abs(heat[first] - heat[second]).max() > 0.01, (first, second)
    for name in ("tam", "msea+arc"):
        single = explain_tokens(bundled, scenes.image, method=name)
        size = single.token_heat.shape[-2:]
        assert size == ((8, 8) if name == "tam" else (16, 16)) and single.token_heat.attrs["explainer"] == name
        resized = functional.interpolate(torch.tensor(single.token_heat.values), (16, 16), mode="bilinear")
        np.testing.assert_allclose(resized, heat[name], atol=1e-5)


def lens_at(mllm, image, scale, answer, enlargement="interpolate"):
    """Raw lens maps of the answer's tokens at a scale (1, a, rows, cols), and the mean log-probability of these."""
    view = mllm.family.view(image, "describe the picture", scale, enlargement)
    ids = mllm.tokenizer(answer, add_special_tokens=False, return_tensors="pt").input_ids[0]
    states = teacher_forced(mllm, [view], [ids.tolist()])
    logits = states.hidden[0] @ mllm.output_weight.T
    maps = logits[view.image_positions][:, ids].relu().T.unflatten(1, view.grid)[None]
    return maps, logits[len(view.ids) - 1 : -1].log_softmax(-1).gather(1, ids[:, None]).mean()


@pytest.mark.parametrize(
    ("enlargement", "scales"),
    [("interpolate", (1, 1.5, 2)), ("interpolate", (2, 1.5)), ("crops", (1, 2)), ("crops", (2,))],
)
@pytest.mark.parametrize("scale_weights", ["equal", "likelihood"])
@pytest.mark.parametrize(("grid", "size"), [("finest", (16, 16)), ("native", (8, 8)), ((5, 9), (5, 9))])
@torch.no_grad()
def test_scales_are_averaged_on_one_grid(bundled, scenes, enlargement, scales, scale_weights, grid, size):
    if grid == "native" and 1 not in scales:
        grid, size = (8, 8), (8, 8)
    image = scenes.image.values[0]
    options = {"scales": scales, "grid": grid, "scale_weights": scale_weights, "enlargement": enlargement}
    found = explain_all_tokens(bundled, image, "describe the picture", {"mean": Steps(**options)}, TOLD)
    found = found.isel(explainer=0)
    parts, likely = zip(*(lens_at(bundled, image, scale, TOLD, enlargement) for scale in scales), strict=True)
    weights = torch.stack(likely if scale_weights == "likelihood" else [torch.ones(())] * len(scales)).softmax(0)
    assert scale_weights == "equal" or len(scales) == 1 or weights.max() - weights.min() > 1e-4
    resized = [functional.interpolate(part, size, mode="bilinear", antialias=True) for part in parts]
    expected = sum(weight * part for weight, part in zip(weights, resized, strict=True))
    np.testing.assert_allclose(found.token_heat, expected, atol=1e-4, rtol=1e-3)
    assert found.grid.values.tolist() == [list(size)] and found.sizes["scale"] == len({1, *scales})
    ours = found.log_probability.mean("answer_token")[0].values
    np.testing.assert_allclose(ours[int(1 not in scales) :], torch.stack(likely), atol=1e-4)


def planted(mllm, bright, dark):
    """The model without attention and layers: a cell shows its own pixels alone. "red" is what a bright cell shows, more
    than a dark one."""
    plain_model = copy.deepcopy(mllm)
    outputs = "o_proj|out_proj|projection_layer|attn.proj|fc2|down_proj"
    ends = re.compile(rf"(layers?|blocks)\.\d+\..*({outputs})\.|position")
    with torch.no_grad():
        for name, weight in plain_model.model.named_parameters():
            if ends.search(name):
                weight.zero_()
        views = [plain_model.family.view(image, "describe the scene") for image in (bright, dark)]
        lit, unlit = (teacher_forced(plain_model, [view], [[5]]).at(view.image_positions[None])[0, 0] for view in views)
        red = plain_model.tokenizer.convert_tokens_to_ids("red")
        plain_model.output_weight[red] = lit - (lit @ unlit) / (unlit @ unlit) * unlit
    return plain_model


@pytest.mark.parametrize(
    ("kind", "enlargement"),
    [("bundled", "interpolate"), ("llava", "crops"), ("internvl", "interpolate"), ("internvl", "crops"),
     ("qwen2_vl", "interpolate")],
)  # fmt: skip
def test_a_moved_object_moves_its_map_alike_at_every_scale(bundled, kind, enlargement):
    """The note's conformance test 6: an object's map is where the object is, at each scale and in their mean."""
    mllm = bundled if kind == "bundled" else small_mllm(kind)
    height, width = (56, 224) if kind == "qwen2_vl" else (112, 112)  # that class takes images as they are
    bright, dark = (np.full((height, width, 3), value, np.uint8) for value in (230, 40))
    mllm = planted(mllm, bright, dark)
    corners = [(0, 0), (0, width // 2), (height // 2, 0), (height // 2, width // 2)]
    images = [dark.copy() for _ in corners]
    for image, (top, left) in zip(images, corners, strict=True):
        image[top : top + height // 2, left : left + width // 2] = 230
    truth = np.array(corners) / (height, width) + 0.25
    middle, most = (1.5, 2) if kind == "bundled" else (2, 3)
    ways = {
        f"{scales} {grid}": Steps(scales=scales, grid=grid, enlargement=enlargement)
        for scales in [(1,), (1, middle), (1, most), (1, middle, most)]
        for grid in ("finest", "native", (6, 10))
    }
    options = {"prompts": "describe the scene", "answer": "red"}
    alike = [[name] for name in ways if "finest" in name]  # of one grid, which one call keeps
    alike += [[name for name in ways if grid in name] for grid in ("native", "(6, 10)")]
    maps = {}
    for names in alike:
        found = explain_all_tokens(mllm, images, methods={name: ways[name] for name in names}, **options).token_heat
        maps |= {name: found.sel(explainer=name).values[:, 0] for name in names}
    assert maps.keys() == ways.keys()
    for name, heat in maps.items():
        rows, cols = (np.arange(size) + 0.5 for size in heat.shape[1:])
        mass = heat.sum((1, 2))
        assert mass.min() > 0 and np.ptp(mass) < 0.15 * mass.max(), name
        place = np.stack([(heat.sum(2) @ rows) / heat.shape[1], (heat.sum(1) @ cols) / heat.shape[2]], 1)
        assert np.abs(place / mass[:, None] - truth).max() < 0.1, name
        top, left = (heat[:, : len(rows) // 2].sum((1, 2)), heat[:, :, : len(cols) // 2].sum((1, 2)))
        assert ((top > mass / 2) == (truth[:, 0] < 0.5)).all() and ((left > mass / 2) == (truth[:, 1] < 0.5)).all()


ALL = {
    **{name: name for name in token_methods()},
    "arc in small": ("arc", {"k": 7, "positions": "previous", "weighting": "damped"}),
    "tam as released": ("tam", {"tam_compat": True}),
    **{name: ("arc", {"weighting": name}) for name in ("agreement", "damped_fixed", "incoherent")},
    "by likelihood": ("msea", {"scale_weights": "likelihood", "scale_normalisation": "range", "grid": "native"}),
}


def all_methods(mllm):
    """Every method, with rankings and scales that small models have."""
    vocabulary, crops = len(mllm.output_weight), "Qwen" not in type(mllm.model).__name__
    ways = {}
    for name, way in ALL.items():
        method, options = way if isinstance(way, tuple) else (way, {})
        if "arc" in method:
            options = {"k": min(50, vocabulary - 3), **options}
        ways[name] = (method, options)
    return ways | ({"in crops": ("msea", {"scales": (1, 2), "enlargement": "crops"})} if crops else {})


def test_a_batch_gives_what_singles_give(mllm):
    images, ways = pictures(), all_methods(mllm)
    whole = explain_all_tokens(mllm, images, PROMPTS, ways, ANSWERS)
    assert whole.sizes["answer_token"] == 8 and list(whole.explainer.values) == list(ways)
    assert np.isfinite(whole.token_heat).all()
    for index in range(3):
        one = explain_all_tokens(mllm, images[index], PROMPTS[index], ways, ANSWERS[index])
        assert one.sizes["answer_token"] == len(ANSWERS[index].split())
        # a uint8 of the released function may be the next one
        check_same(one.drop_sel(explainer="tam as released"), whole.drop_sel(explainer="tam as released"), index, 2e-4)
        check_same(one, whole, index, 1.01 / 255)
    assert whole.equals(explain_all_tokens(mllm, images, PROMPTS, ways, ANSWERS)), "the same again"
    small = explain_all_tokens(mllm, images, PROMPTS, ways, ANSWERS, batch_size=1)
    for index in range(3):
        check_same(small.isel(sample=[index]).pipe(trimmed), whole, index, 1.01 / 255)


def trimmed(one):
    """One sample without what others need."""
    tokens, context = ((one[name].values[0] != "").sum() for name in ("answer_text", "context_text"))
    rows, cols = one.grid.values[0]
    return one.isel(answer_token=slice(tokens), context_token=slice(context), row=slice(rows), col=slice(cols))


def test_written_answers_are_explained_as_given_ones(bundled, scenes):
    images = list(scenes.image.values)
    options = {"methods": {"lens": "lens", "arc": "arc"}, "max_new_tokens": 7}
    found = explain_all_tokens(bundled, images, REQUESTS, **options)
    assert found.equals(explain_all_tokens(bundled, images, REQUESTS, **options)), "the same again"
    assert all(found.answer.values) and (found.answer_text.values != "").sum(1).max() <= 7
    answers = found.answer.values.tolist()
    some = [None, answers[1], None]
    assert explain_all_tokens(bundled, images, REQUESTS, answer=some, **options).answer.equals(found.answer)
    other = explain_all_tokens(bundled, images, REQUESTS, answer=[None, "a red ring", None], **options)
    assert other.answer.values.tolist() == [answers[0], "a red ring", answers[2]]
    for given in zip(images, REQUESTS, answers, strict=True):
        truth = plain(bundled, *given)
        assert truth.logits[truth.start - 1 : -1].argmax(-1).tolist() == truth.told, "each word is the likeliest"
    assert len(set(answers)) > 1


def test_one_pass_serves_the_methods_that_read_attention_and_one_those_that_read_gradients(bundled):
    images, calls = draw_descriptions(2, seed=3, objects=(1, 3)).image, []
    methods = ["lens", "tam", "attention", "rollout", "gradient_x_input", "grad_cam"]
    methods = {name: (name, {"scales": (1, 2)}) for name in methods} | {"max": ("attention", {"head_fusion": "max"})}
    answer = ["a red ring", "two rings"]
    hook = bundled.model.base_model.register_forward_hook(lambda *_: calls.append(1))
    try:
        whole = explain_all_tokens(bundled, images, "describe the picture", methods, answer)
        assert len(calls) == 4, "at each scale one with attention and one with a graph"
    finally:
        hook.remove()
    for label, method in methods.items():
        alone = explain_all_tokens(bundled, images, "describe the picture", {label: method}, answer, grid=(16, 16))
        ours = whole.token_heat.sel(explainer=[label])
        np.testing.assert_allclose(ours, alone.token_heat, rtol=1e-4, atol=1e-6 * float(abs(ours).max()))


def test_what_the_model_wrote_is_not_passed_through_again(bundled):
    """States and attention at scale 1 are those of the writing, of answers that end early and of one that is cut, too."""
    images, calls = draw_descriptions(6, seed=3, objects=(1, 4)).image, []
    hook = bundled.model.base_model.register_forward_hook(lambda *_: calls.append(1))
    options = {"prompts": 2 * REQUESTS, "methods": ["lens", "tam", "arc", "attention", "rollout"]}
    try:
        made = explain_all_tokens(bundled, images, **options, max_new_tokens=11)
        assert len(calls) == 11, "one pass a token, none besides"
        calls.clear()
        given = explain_all_tokens(bundled, images, **options, answer=made.answer)
        assert len(calls) == 1
    finally:
        hook.remove()
    lengths = (made.answer_id >= 0).sum("answer_token").values
    assert lengths.min() < 11 == lengths.max() and made.answer_text.equals(given.answer_text)
    for name in ("token_heat", "relevance", "rank_overlap", "log_probability"):
        np.testing.assert_allclose(made[name], given[name], atol=1e-4, rtol=1e-3, err_msg=name)


def test_writing_is_watched_only_where_that_changes_nothing(bundled):
    eager, calls = load_mllm("tiny-llava", attention="eager"), []
    options = {"images": draw_descriptions(2, seed=3).image, "methods": ["lens", "attention"], "max_new_tokens": 5}
    hook = eager.model.base_model.register_forward_hook(lambda *_: calls.append(1))
    try:
        found = explain_all_tokens(eager, **options)
    finally:
        hook.remove()
    assert len(calls) == 5 + 1
    np.testing.assert_allclose(found.token_heat, explain_all_tokens(bundled, **options).token_heat, atol=1e-4)


def test_samples_keep_their_labels_and_regions(bundled, scenes):
    named = scenes.image.assign_coords(sample=["a", "b", "c"])
    found = explain_tokens(bundled, named, method="lens", answer=TOLD)
    assert found.sample.values.tolist() == ["a", "b", "c"]
    wide = explain_tokens(bundled, [picture(64, 128), picture(64, 64)], method="lens", answer=TOLD)
    assert wide.region.values == pytest.approx(np.array([[0, 0.25, 1, 0.75], [0, 0, 1, 1]]))
    assert wide.edge.values.tolist() == ["top", "left", "bottom", "right"]


# What differs from what, and whether the map of some token has to change.
TWO = (1.0, 2.0)
AGREE = {"weighting": "agreement", "k": 3}
CHANGES = [
    ("msea", {}, {"scales": (1, 1.5)}, True), ("msea", {}, {"scales": (2, 1.5, 1)}, False),
    ("msea", {"scales": TWO}, {"enlargement": "crops"}, True), ("tam", {}, {"enlargement": "crops"}, False),
    ("msea", {}, {"scale_weights": "likelihood"}, True), ("tam", {}, {"scale_weights": "likelihood"}, False),
    ("msea", {}, {"scale_normalisation": "range"}, True), ("msea", {}, {"scale_normalisation": "sum"}, True),
    ("msea", {}, {"grid": "native"}, True), ("msea", {}, {"grid": (9, 9)}, True), ("tam", {}, {"grid": "native"}, False),
    ("tam", {}, {"grid": (8, 8)}, False), ("tam", {}, {"grid": (4, 8)}, True),
    *(("arc", {}, {"weighting": name}, True) for name in
      (None, "relevance", "damped", "agreement", "damped_fixed", "incoherent")),
    ("arc", {}, {"k": 3}, True), ("tam", {}, {"k": 3}, False), ("lens", {}, {"k": 3}, False),
    ("arc", {}, {"persistence": 0.3}, True), ("tam", {}, {"persistence": 0.3}, False),
    ("arc", {"k": 3}, {"normalised": False}, True), ("arc", AGREE, {"normalised": False}, False),
    ("arc", {"weighting": "damped_fixed", "k": 3}, {"normalised": False}, True), ("tam", {}, {"normalised": False}, False),
    ("arc", {"weighting": "damped", "k": 3}, {"normalised": False}, True),
    ("arc", {}, {"positions": "previous"}, True), ("tam", {}, {"positions": "previous"}, False),
    ("arc", {"weighting": "incoherent"}, {"threshold": 0.1}, True), ("arc", {}, {"threshold": 0.1}, False),
    ("arc", {}, {"prompt_context": False}, True), ("tam", {}, {"prompt_context": False}, True),
    ("lens", {}, {"prompt_context": False}, False), ("lens", {"joint": True}, {"prompt_context": False}, True),
    ("arc", {}, {"least_squares": False}, True), ("lens", {}, {"least_squares": False}, False),
    ("arc", {"weighting": "damped", "least_squares": False}, {"weighting": "damped_fixed"}, True),
    ("arc", {}, {"joint": False}, True), ("lens", {}, {"joint": True}, True),
    ("arc", {}, {"filter": 0}, True), ("arc", {}, {"filter": 5}, True), ("lens", {}, {"filter": 1}, False),
    ("tam", {}, {"released": True}, True),
    ("attention", {}, {"head_fusion": "max"}, True), ("random", {}, {"seed": 3}, True),
    ("gradient_x_input", {}, {"signed": True}, True), ("gradient_x_input", {}, {"target": "log_probability"}, True),
    ("grad_cam", {}, {"signed": True}, True), ("grad_cam", {}, {"target": "log_probability"}, True),
]  # fmt: skip


def test_no_option_is_ignored(bundled, scenes):
    tested = {name for _, _, options, changes in CHANGES if changes for name in options}
    assert tested >= {field for field in vars(Steps())}
    ways = {}
    for method, base, options, changes in CHANGES:
        ways[f"{method} {base}"] = (method, base)
        way = (method, base | options) if changes else Steps(**{**vars(PRESETS[method]), **base, **options})
        ways[f"{method} {base} {options}"] = way
    heat = explain_all_tokens(bundled, scenes.image, "describe the picture", ways, TOLD).token_heat
    for method, base, options, changes in CHANGES:
        first, second = (heat.sel(explainer=name).values for name in (f"{method} {base}", f"{method} {base} {options}"))
        share = np.abs(first - second).max() / np.abs(first).max()
        assert share > 1e-3 if changes else share < 1e-5, (method, base, options, share)


@pytest.mark.parametrize("lengths", [(40, 3), (3, 40)])
def test_methods_do_not_disturb_each_other(bundled, scenes, lengths):
    ways = {str(k): ("arc", {"k": k}) for k in lengths}
    together = explain_all_tokens(bundled, scenes.image, methods=ways, answer=TOLD)
    for k in lengths:
        alone = explain_tokens(bundled, scenes.image, method="arc", answer=TOLD, k=k)
        for name in ("token_heat", "rank_overlap"):
            np.testing.assert_array_equal(together[name].sel(explainer=str(k)), alone[name])


def test_competing_methods(bundled, scenes):
    functions = {
        "attention": attention, "rollout": rollout, "gradient_x_input": gradient_x_input, "grad_cam": grad_cam,
    }  # fmt: skip
    names = [*functions, "random", "lens", "msea"]
    found = explain_all_tokens(bundled, scenes.image, "describe the picture", names, TOLD)
    views = [bundled.family.view(image, "describe the picture") for image in scenes.image.values]
    ids = bundled.tokenizer(TOLD, add_special_tokens=False).input_ids
    for name, function in functions.items():
        alone = explain_tokens(bundled, scenes.image, "describe the picture", name, TOLD)
        expected = function(bundled, views, [ids] * 3)
        np.testing.assert_allclose(alone.token_heat, expected, rtol=1e-4, atol=1e-6)
        assert np.isnan(alone.rank_overlap).all() and alone.relevance.equals(found.relevance)
        larger = functional.interpolate(expected, (16, 16), mode="bilinear")
        np.testing.assert_allclose(found.token_heat.sel(explainer=name), larger, rtol=1e-4, atol=1e-6)
    heat = found.token_heat.transpose("explainer", ...).values.reshape(len(names), -1)
    assert np.abs(np.corrcoef(heat) - np.eye(len(names))).max() < 0.99, "no two are the same"
    chance = explain_tokens(bundled, scenes.image, method="random", answer=TOLD).token_heat.values
    assert 0.45 < chance.mean() < 0.55
    chance = chance.reshape(3 * len(ids), -1)
    assert np.abs(np.corrcoef(chance) - np.eye(len(chance))).max() < 0.6, "neither tokens nor samples share a map"


@pytest.mark.parametrize("method", ["attention", "rollout", "gradient_x_input", "grad_cam"])
def test_every_method_sees_several_scales(bundled, scenes, method):
    """The mean of what each scale gives alone, drawn to the finest grid with its sum kept."""
    image, answer = scenes.image[:2], "a red ring"
    ways = {"one": {}, "two": {"scales": 2}, "both": {"scales": (1, 2)}, "tiles": {"scales": 2, "enlargement": "crops"}}
    ways = {label: (method, options) for label, options in ways.items()}
    found = {
        label: explain_all_tokens(bundled, image, methods={label: way}, answer=answer).isel(explainer=0)
        for label, way in ways.items()
    }
    one, two, both, tiles = (torch.from_numpy(each.token_heat.values) for each in found.values())
    assert one.shape[-2:] == (8, 8) and two.shape[-2:] == both.shape[-2:] == tiles.shape[-2:] == (16, 16)
    drawn = functional.interpolate(one, (16, 16), mode="bilinear", align_corners=False) / 4
    torch.testing.assert_close(both, (drawn + two) / 2, atol=1e-6, rtol=1e-4)
    sums = [each.sum((-2, -1)) for each in (one, two, both)]
    torch.testing.assert_close(sums[2], (sums[0] + sums[1]) / 2, atol=1e-5, rtol=1e-3)
    assert not torch.allclose(two, tiles)
    assert found["both"].scale.values.tolist() == [1, 2] and found["both"].log_probability[:, 1].isnull().all()
    views = [bundled.family.view(each, "describe the picture", 2.0) for each in image.values]
    told = [bundled.tokenizer(answer, add_special_tokens=False).input_ids] * 2
    plainly = REGISTRY.all()[method].function(bundled, views, told)
    torch.testing.assert_close(two, plainly, atol=1e-6, rtol=1e-4)
    setting = provenance(found["both"])["parameters"]["both"]
    assert setting == {"method": method, "scales": [1.0, 2.0], "enlargement": "interpolate"}


def test_scales_of_different_methods_may_give_one_grid(bundled, scenes):
    """Only where one method would count a grid twice they may not."""
    ways = {"low": ("lens", {"scales": (1, 1.5)}), "near": ("lens", {"scales": (1, 1.51)})}
    found = explain_all_tokens(bundled, scenes.image[:1], methods=ways, answer=TOLD)
    assert found.scale.values.tolist() == [1, 1.5, 1.51]
    np.testing.assert_array_equal(*found.token_heat.transpose("explainer", ...))


def test_random_maps_are_of_the_sample_alone(bundled, scenes):
    options = {"method": "random", "answer": ["a ring", TOLD, TOLD]}
    whole = explain_tokens(bundled, scenes.image, **options).token_heat.values
    parts = explain_tokens(bundled, scenes.image, batch_size=1, **options).token_heat.values
    turned = explain_tokens(bundled, scenes.image[::-1], method="random", answer=options["answer"][::-1])
    np.testing.assert_array_equal(parts, whole)
    np.testing.assert_array_equal(turned.token_heat.values[::-1], whole)


def test_a_common_grid(bundled, scenes):
    options = {"prompts": "describe the picture", "answer": TOLD}
    native = explain_all_tokens(bundled, scenes.image, methods=["attention", "tam"], **options).token_heat
    assert native.shape[-2:] == (8, 8)
    for grid in ((16, 16), (5, 12)):
        first = explain_all_tokens(bundled, scenes.image, methods=["attention", "tam"], grid=np.array(grid), **options)
        second = explain_all_tokens(bundled, scenes.image, methods=["msea", "attention"], grid=grid, **options)
        assert (first.grid == list(grid)).all() and second.token_heat.shape == first.token_heat.shape
        np.testing.assert_array_equal(*(each.token_heat.sel(explainer="attention") for each in (first, second)))
        for name in ("attention", "tam"):
            maps = torch.tensor(native.sel(explainer=name).values)
            drawn = functional.interpolate(maps, grid, mode="bilinear", align_corners=False, antialias=True)
            np.testing.assert_allclose(first.token_heat.sel(explainer=name), drawn, atol=1e-6)
    qwen = small_mllm("qwen2_vl")
    mixed = explain_all_tokens(qwen, pictures(), PROMPTS, ["lens", "rollout", "attention"], ANSWERS, grid=(4, 6))
    assert (mixed.grid == [4, 6]).all() and mixed.token_heat.shape[-2:] == (4, 6)
    lit = (mixed.token_heat > 0).any(("row", "col"))
    assert lit[:, 1:, 0].all() and lit[:, 0].any()  # some words' lens maps are 0


def test_scales_are_numbers_whatever_the_enlargement(bundled, scenes):
    ways = {"whole": ("msea", {"scales": (1, 2)}), "parts": ("msea", {"scales": (1, 2), "enlargement": "crops"})}
    likely = explain_all_tokens(bundled, scenes.image, "describe the picture", ways, TOLD).log_probability
    assert likely.scale.values.tolist() == [1, 2, 2]
    assert likely.enlargement.values.tolist() == ["interpolate", "interpolate", "crops"]
    for index, way in enumerate(("interpolate", "crops")):
        expected = lens_at(bundled, scenes.image.values[0], 2, TOLD, way)[1]
        np.testing.assert_allclose(likely[0, 1 + index].mean(), expected, atol=1e-4)
    alone = explain_tokens(bundled, scenes.image, "describe the picture", "lens", TOLD).log_probability
    np.testing.assert_allclose(likely.sel(scale=1.0), alone.sel(scale=1.0), atol=1e-5)


def test_answers_say_whether_they_ended(llava, monkeypatch):
    images, prompts = [picture(56, 56, seed) for seed in range(3)], PROMPTS
    settings = llava.model.generation_config
    monkeypatch.setattr(settings, "eos_token_id", llava.family.image_token_id)  # never written
    with pytest.warns(UserWarning, match="the answer to 3 samples, the first of them 0, was cut after 3 tokens"):
        free = explain_tokens(llava, images, prompts, "lens", max_new_tokens=3)
    assert free.ended.dtype == bool and not free.ended.any()
    monkeypatch.setattr(settings, "eos_token_id", int(free.answer_id[0, 2]))
    stops = int(free.answer_id[0, 2]) in free.answer_id.values[1]
    answers = [None, None, "a red circle of green"]
    for longest, first in ((3, True), (2, False)):
        found = explain_tokens(llava, images, prompts, "lens", answers, max_new_tokens=longest)
        assert found.ended.values.tolist() == [first, stops, True]


def test_states_that_are_not_finite_are_refused(llava):
    mllm = copy.deepcopy(llava)
    images, prompts = pictures(), ["describe the scene .", "what is left of the triangle ?", "now"]
    methods = ["lens", "attention", "random"]
    apart = explain_all_tokens(mllm, images[::2], prompts[::2], methods, "a red circle")
    broken = mllm.model.get_input_embeddings().weight
    with torch.no_grad():
        broken[mllm.tokenizer.convert_tokens_to_ids("triangle")] = NAN
    written = explain_tokens(mllm, images, prompts, methods, max_new_tokens=3, errors="record")
    assert "hidden states" in written.error.values[1] and not any(written.error.values[[0, 2]])
    other = explain_tokens(mllm, images[::2], prompts[::2], methods, max_new_tokens=3)
    np.testing.assert_allclose(written.token_heat[[0, 2]], other.token_heat, atol=1e-5)
    for batch_size in (1, 3):
        options = {"answer": "a red circle", "batch_size": batch_size}
        found = explain_all_tokens(mllm, images, prompts, methods, errors="record", **options)
        assert found.error.values[[0, 2]].tolist() == ["", ""]
        assert re.match('sample 1: .* states at scale 1 aren.t finite: .*dtype="float32"', found.error.values[1])
        assert not found.token_heat[1].any() and not found.ended[1]
        np.testing.assert_allclose(found.token_heat[[0, 2]], apart.token_heat, atol=1e-5)
        for method in methods:
            with pytest.raises(ValueError, match="^sample 1: the model's hidden states at scale 1 aren't finite"):
                explain_tokens(mllm, images, prompts, method, **options)
    with pytest.raises(ValueError, match="no sample can be explained; the first one: sample 0: the model's hidden"):
        explain_tokens(mllm, images[0], prompts[1], "lens", "now", errors="record")


def test_maps_that_are_not_finite_are_refused(monkeypatch):
    """As gradients that overflow where the states don't."""
    mllm = small_mllm("llava")
    options = {"prompts": "now", "answer": "a red circle", "methods": {"lens": "lens", "mine": "grad_cam"}}
    whole = explain_all_tokens(mllm, pictures(), **options)

    def overflowing(mllm, views, answers):
        maps = grad_cam(mllm, views, answers)
        kept = [torch.equal(view.vision["pixel_values"], good) for view in views]
        if not all(kept):  # the first of the others, so that one more shows only when this one is gone
            maps[kept.index(False), 1, 0, 0] = torch.inf
        return maps

    good = mllm.family.view(pictures()[2], "now").vision["pixel_values"]
    monkeypatch.setattr(REGISTRY, "_entries", REGISTRY.all())
    token_method("a test")(overflowing)
    options["methods"]["mine"] = "overflowing"
    found = explain_all_tokens(mllm, pictures(), **options, errors="record")
    for sample in (0, 1):
        assert found.error.values[sample].startswith(f"sample {sample}: the model's maps by mine aren't finite")
    assert not found.error.values[2] and not found.token_heat[:2].any()
    np.testing.assert_allclose(found.token_heat[2], whole.token_heat[2], atol=1e-5)


ONE, TWO_SCALES = {"scales": 2}, {"scales": (1, 2)}
USELESS = [
    *(("tam", {name: value}, "a weighting by rank overlap (.*), not 'relevance'") for name, value in
      {"k": 50, "persistence": 0.5, "normalised": False, "positions": "previous"}.items()),
    ("lens", {"k": 3}, "a weighting by rank overlap .*, not None"),
    ("arc", {"weighting": "relevance", "k": 3}, "a weighting by rank overlap .*, not 'relevance'"),
    ("arc", {"threshold": 0.2}, "weighting='incoherent', not 'irrelevance'"),
    ("lens", {"prompt_context": False}, "a weighting or joint=True"), ("lens", {"least_squares": False}, "a weighting"),
    ("tam", {"enlargement": "crops"}, "a scale other than 1"), ("tam", {"scale_weights": "likelihood"}, "several scales"),
    ("arc", {"grid": "finest"}, "several scales"),
    ("tam", {"grid": "native"}, "several scales"),
]  # fmt: skip
USEFUL = [
    ("tam", {"weighting": "damped", "k": 9}), ("arc", {"weighting": "incoherent", "threshold": 0.2}),
    ("lens", {"joint": True, "prompt_context": False}), ("lens", {"weighting": "damped", "least_squares": False}),
    ("tam", ONE | {"enlargement": "crops"}), ("tam", TWO_SCALES | {"grid": "native"}), ("tam", {"grid": (4, 4)}),
    ("lens", TWO_SCALES | {"scale_weights": "likelihood", "scale_normalisation": "sum"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "options", "needed"), USELESS)
def test_options_without_use_are_refused(bundled, monkeypatch, method, options, needed):
    monkeypatch.setattr(bundled.family, "encode", None)
    named = list(options)[-1]
    with pytest.raises(ValueError, match=f"^{named}=.*: it needs {needed}, or it has no use in {method}$"):
        explain_tokens(bundled, picture(64, 64), method=method, **options)
    Steps(**{**vars(PRESETS[method]), **options})


@pytest.mark.parametrize(("method", "options"), USEFUL)
def test_options_with_a_use_are_taken(method, options):
    assert steps_of(method, options) == Steps(**{**vars(PRESETS[method]), **options})


def test_nothing_is_left_on_the_model(mllm):
    def hooks():
        return [len(module._forward_hooks) + len(module._backward_hooks) for module in mllm.model.modules()]

    image = picture()
    kept = image.copy()
    explain_tokens(mllm, image, "now", "attention", "a")  # transformers puts hooks there when attention is first wanted
    before = {name: value.clone() for name, value in mllm.model.state_dict().items()}
    settings, hooked = mllm.model.generation_config.to_dict(), hooks()
    with torch.no_grad():  # gradients are taken whatever the caller's mode is
        explain_all_tokens(mllm, [image], "now", all_methods(mllm), max_new_tokens=3)
    after = mllm.model.state_dict()
    assert list(after) == list(before) and all(torch.equal(value, after[name]) for name, value in before.items())
    assert mllm.model.config.get_text_config()._attn_implementation == "sdpa" and not mllm.model.training
    assert mllm.decoder.config._attn_implementation == "sdpa" and hooks() == hooked
    assert all(weight.grad is None and not weight.requires_grad for weight in mllm.model.parameters())
    assert settings == mllm.model.generation_config.to_dict() and torch.is_grad_enabled()
    assert (image == kept).all()


@pytest.fixture
def bad_samples(tmp_path):
    """Images, prompts and answers, good and bad, and of each bad one what is said about it."""
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"\x89PNG torn")
    good = picture(64, 64)
    return [
        (good, "describe the picture", TOLD, ""),
        (str(torn), "describe the picture", TOLD, "image 1: .*torn.png can't be read"),
        (good[..., 0], "describe the picture", TOLD, r"image 2 has shape \(64, 64\)"),
        (picture(64, 64, 3), "what is this", "a red ring", ""),
        (good, " ", TOLD, "sample 4: the prompt .* is empty"),
        (good, "describe the spoon", TOLD, "sample 5: .*'spoon' is outside"),
        (str(tmp_path / "none.png"), "what is this", TOLD, "image 6: there is no file"),
        (good, "what is this", "a red spoon", "sample 7: the answer .*'spoon' is outside"),
        (good, "what is this", "ring " * 600, "sample 8: an answer of 600 tokens after .* longer than the 512"),
        (good.astype(float), "what is this", TOLD, "image 9 has type float64"),
    ]


def test_bad_samples_are_recorded_and_the_others_explained(bundled, bad_samples, monkeypatch):
    images, prompts, answers, reasons = map(list, zip(*bad_samples, strict=True))
    methods = ["lens", "attention", "arc"]
    found = explain_all_tokens(bundled, images, prompts, methods, answers, errors="record")
    good = [index for index, reason in enumerate(reasons) if not reason]
    for index, reason in enumerate(reasons):
        assert re.match(reason, found.error.values[index]) if reason else not found.error.values[index]
    apart = explain_all_tokens(
        bundled, [images[i] for i in good], [prompts[i] for i in good], methods, [answers[i] for i in good]
    )
    assert "error" not in apart.coords
    assert found.isel(sample=good).drop_vars(["error", "sample"]).equals(apart.drop_vars("sample"))
    bad = found.drop_isel(sample=good)
    assert not any(bad[name].any() for name in ("token_heat", "relevance", "log_probability", "grid"))
    assert np.isnan(bad.rank_overlap).all() and not (bad.answer_text != "").any() and not (bad.answer != "").any()

    def work(*_):
        raise AssertionError("the model was run")

    monkeypatch.setattr(bundled.family, "encode", work)
    monkeypatch.setattr(bundled.model, "forward", work)
    for index in set(range(len(images))) - set(good):
        kind = FileNotFoundError if "no file" in reasons[index] else ValueError
        some = ([fine] * index + [bad] for fine, bad in (
            (images[0], images[index]), ("what is this", prompts[index]), (TOLD, answers[index])))  # fmt: skip
        first, asked, told = some
        with pytest.raises(kind, match="^" + re.escape(found.error.values[index]) + "$"):
            explain_all_tokens(bundled, first, asked, methods, told)
    with pytest.raises(ValueError, match="no sample can be explained; the first one: image 0 .*64, 64"):
        explain_all_tokens(bundled, [images[2]] * 2, methods=methods, errors="record")


def test_answers_that_the_model_cannot_finish(llava, bundled, monkeypatch):
    """The first prompt leaves room for the answer, the second, longer one doesn't."""
    images, prompts = [picture(56, 56)] * 2, ["now", "what is left of the small red circle ?"]
    monkeypatch.setattr(llava.model.generation_config, "eos_token_id", llava.family.image_token_id)  # never written
    free = explain_tokens(llava, images, prompts, "lens", max_new_tokens=40)
    assert (free.answer_text.values != "").all()
    lengths = [len(llava.family.view(images[0], prompt).ids) for prompt in prompts]
    monkeypatch.setattr(llava.family, "context_length", lengths[1] + 3)
    few = lengths[1] - lengths[0] + 3
    limited = explain_tokens(llava, images, prompts, "lens", max_new_tokens=few - 1, errors="record")
    assert not limited.error.values[0]
    assert limited.error.values[1].startswith("sample 1: the answer hasn't ended after 3")
    assert limited.answer_text.values[0].tolist() == free.answer_text.values[0, : few - 1].tolist()
    assert not limited.token_heat[1].any()
    with pytest.raises(ValueError, match="sample 1: the answer hasn't ended after 3 tokens"):
        explain_tokens(llava, images, prompts, "lens", max_new_tokens=few - 1)
    monkeypatch.undo()

    scene = draw_descriptions(2, seed=1).image
    written = explain_tokens(bundled, scene, method="lens")
    view = bundled.family.view(scene.values[0], "describe the picture", 2)
    longest = int((written.answer_text.values != "").sum(1).max())
    monkeypatch.setattr(bundled.family, "context_length", len(view.ids) + longest - 1)
    long = f"sample .: an answer of {longest} tokens after {len(view.ids)} of prompt"
    refused(long, explain_tokens, bundled, scene, method="msea", scales=(1, 2))
    monkeypatch.undo()

    first = int(bundled.tokenizer.convert_tokens_to_ids(str(written.answer_text.values[0, 0]).strip()))
    monkeypatch.setattr(bundled.model.generation_config, "eos_token_id", first)
    with pytest.raises(ValueError, match="sample 0: the model ends its answer before the first word"):
        explain_tokens(bundled, scene[:1], method="lens")
    with pytest.raises(ValueError, match="no sample can be explained; the first one: sample 0: the model ends"):
        explain_tokens(bundled, scene[:1], method="lens", errors="record")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((64, 64), np.uint8)}, "image 0 has shape"),
        ({"images": np.zeros((64, 64, 4), np.uint8)}, r"image 0 has shape \(64, 64, 4\)"),
        ({"images": np.zeros((64, 64, 3))}, "image 0 has type float64"),
        ({"images": Image.new("I;16", (64, 64))}, "image 0 has mode 'I;16'"),
        ({"images": []}, "no image was given"),
        ({"images": None}, "images=None: what a word of an answer owes to an image needs one"),
        ({"prompts": ""}, "sample 0: the prompt .* is empty"),
        ({"prompts": None}, "prompts=None"),
        ({"prompts": ["what is this", "what is this"]}, "1 images but 2 prompts"),
        ({"prompts": "describe the <image>"}, "holds <image>, one of the model's own tokens"),
        ({"prompts": "describe the spoon"}, "sample 0: .*'spoon' is outside"),
        ({"answer": ""}, "sample 0: the answer .* is empty"),
        ({"answer": ["a ring", "a ring"]}, "1 images but 2 answers"),
        ({"answer": "a </s>"}, "holds </s>"),
        ({"answer": "ring " * 600}, "sample 0: an answer of 600 tokens after .* longer than the 512 that tiny-llava"),
        ({"scales": (1, 1.01)}, "sample 0: scales 1.0 and 1.01 both give a grid of 8 x 8"),
        ({"scales": (1, 5)}, "sample 0: scale=5.0: prompt and image have .* tiny-llava takes 512"),
        ({"scales": (1.5, 2), "grid": "native"}, r"grid='native' is that of scale 1, which isn't among the scales"),
        ({"scales": ()}, r"scales=\(\): different ones are needed, at least one"),
        ({"scales": (1, 1.0)}, "scales=.*: different ones"),
        ({"scales": (1, -2)}, "scales=-2: a number above 0"),
        ({"scales": (1, NAN)}, "scales=nan: a number above 0"),
        ({"scales": (1, True)}, "scales=True: a number above 0"),
        ({"scales": None}, "scales=None: a number above 0"),
        ({"scales": "big"}, "scales='big': a number above 0"),
        ({"scales": (1, 1.5), "enlargement": "crops"}, "sample 0: scale=1.5: enlargement='crops' takes whole numbers"),
        ({"enlargement": "zoom"}, "enlargement='zoom': choose from interpolate, crops"),
        ({"scale_weights": "some"}, "scale_weights='some': choose from equal, likelihood"),
        ({"scale_normalisation": "max"}, "scale_normalisation='max': choose from none, range, sum"),
        ({"grid": "largest"}, "grid='largest': choose from finest, native"),
        ({"grid": (3,)}, r"grid=\(3,\): choose from finest, native, or give \(rows, cols\)"),
        ({"grid": 7}, "grid=7: choose from"),
        ({"grid": (0, 4)}, "rows=0: a whole number of at least 1"),
        ({"weighting": "more"}, "weighting='more': choose from relevance, irrelevance, damped"),
        ({"k": 0}, "k=0: a whole number"),
        ({"k": 2.5}, "k=2.5: a whole number"),
        ({"k": 10_000}, "k=10000: a whole number from 1 to"),
        ({"persistence": 0}, "persistence=0: a number above 0 and below 1"),
        ({"persistence": 1}, "persistence=1: a number above 0 and below 1"),
        ({"persistence": NAN}, "persistence=nan: a number above 0 and below 1"),
        ({"persistence": "p"}, "persistence='p': a number above 0 and below 1"),
        ({"threshold": 2}, "threshold=2: a number above 0 and below 1"),
        ({"positions": "next"}, "positions='next': choose from emitting, previous"),
        ({"filter": 2}, "filter=2: .* odd"),
        ({"filter": -1}, "filter=-1: a whole number of at least 0"),
        ({"joint": 1}, "joint=1: True or False"),
        ({"normalised": "no"}, "normalised='no': True or False"),
        ({"method": "tamm"}, "unknown method 'tamm': choose from lens, tam, msea, arc"),
        ({"rbo": 0.9}, "unknown option 'rbo' of msea\\+arc: it takes scales, enlargement"),
        ({"method": "attention", "rbo": 2}, "unknown option 'rbo' of attention: it takes head_fusion"),
        ({"method": "attention", "scales": (1, 0)}, "scales=0: a number above 0"),
        (
            {"method": "attention", "scales": (1, 5)},
            "sample 0: scale=5.0: prompt and image have .* tiny-llava takes 512",
        ),
        (
            {"method": "grad_cam", "scales": 2, "enlargement": "zoom"},
            "enlargement='zoom': choose from interpolate, crops",
        ),
        ({"method": "rollout", "k": 3}, "unknown option 'k' of rollout: it takes none"),
        ({"method": "attention", "head_fusion": "min"}, "head_fusion='min': choose from mean, max"),
        ({"method": "grad_cam", "target": "loss"}, "target='loss': choose from logit, log_probability"),
        ({"method": "random", "seed": -1}, "seed=-1: a whole number of at least 0"),
        ({"tam_compat": True}, "tam_compat=True: the released function knows no choices"),
        ({"method": "tam", "tam_compat": True, "k": 3}, "tam_compat=True: the released function knows no choices"),
        ({"method": "tam", "tam_compat": 1}, "released=1: True or False"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0: a whole number of at least 1"),
        ({"errors": "ignore"}, "errors='ignore': choose from raise, record"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_before_any_work(bundled, monkeypatch, change, message):
    def work(*_):
        raise AssertionError("the model was run")

    monkeypatch.setattr(bundled.family, "encode", work)
    with pytest.raises(ValueError, match=message) as caught:
        explain_tokens(bundled, **{"images": picture(64, 64), **change})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ([], "at least one"), ({}, "at least one"), (3, "give names, or labels with a name and options"),
        (["tam", "tam"], "give a list of different names"), ({"mine": 3}, "'mine' is 3: a label is a text"),
        ({"mine": ("tam", 3)}, "is given a name, or a name and options"), ({"mine": ("tamm", {})}, "unknown method 'tamm'"),
        (["tam", "tamm"], "unknown method 'tamm': choose from lens, tam"),
    ],
)  # fmt: skip
def test_bad_lists_of_methods(bundled, methods, message):
    refused(message, explain_all_tokens, bundled, picture(64, 64), methods=methods)


def test_several_methods_keep_the_explainer_and_one_does_not(bundled, scenes):
    given = {"lens": "lens", "few": ("arc", {"k": 3}), "steps": Steps(joint=True)}
    options = {"prompts": "describe the picture", "answer": TOLD}
    found = explain_tokens(bundled, scenes.image, method=given, **options)
    assert found.explainer.values.tolist() == list(given)
    assert found.equals(explain_all_tokens(bundled, scenes.image, methods=given, **options))
    few = explain_tokens(bundled, scenes.image, method="arc", k=3, **options).token_heat
    np.testing.assert_array_equal(found.token_heat.sel(explainer="few"), few)
    assert explain_all_tokens(bundled, scenes.image, methods="lens", **options).explainer.values.tolist() == ["lens"]
    refused("options k are of no one method", explain_tokens, bundled, scenes.image, method=["lens", "arc"], k=3)
    assert {*PRESETS, "attention", "rollout", "gradient_x_input", "grad_cam", "random"} <= {*token_methods()}
    assert few.attrs["source"]


def test_a_token_method_of_ones_own_is_listed_and_must_give_maps_of_its_answers(bundled, scenes, monkeypatch):
    def mine(mllm, views, answers, *, level: float = 1.0):
        shape = (len(views), max(map(len, answers)), *views[0].grid)
        return torch.full(shape if level < 2 else shape[:2], level)

    monkeypatch.setattr(REGISTRY, "_entries", REGISTRY.all())
    token_method("a test")(mine)
    options = {"scales": (1.0,), "enlargement": "interpolate", "level": 1.0}
    assert token_methods()["mine"] == {"options": options, "source": "a test"}
    said = {"prompts": "describe the picture", "answer": TOLD}
    assert explain_tokens(bundled, scenes.image, method="mine", **said).token_heat.max() == 1
    assert "mine" in explain_all_tokens(bundled, scenes.image, **said).explainer
    needed = r"the method 'mine' gave the shape \(\d+, \d+\): .* \(samples, answer tokens, rows, cols\), is needed"
    refused(needed, explain_tokens, bundled, scenes.image, method="mine", level=2.0, **said)


def test_an_image_is_encoded_once_a_scale_and_memory_makes_batches(bundled, scenes, monkeypatch):
    views = [bundled.family.view(scenes.image.values[0], "describe the picture", scale) for scale in SCALES]
    seen, run = [], bundled.family.run  # which finding the places needs, too
    monkeypatch.setattr(bundled.family, "run", lambda vision: seen.append(len(vision["pixel_values"])) or run(vision))
    methods = {"msea+arc": "msea+arc", "attention": "attention", "grad_cam": "grad_cam", "rollout": "rollout"}
    whole = explain_all_tokens(bundled, scenes.image, methods=methods, max_new_tokens=24)
    assert seen == [3, 3, 3], "written, and explained by all, at three scales"
    sizes, tokens = Sizes.of(bundled.model), 300
    one = sizes.of_sample([100, tokens], 24, ["nothing", "rows", "matrices", "graph"])
    assert one > sizes.of_sample([100, tokens], 24) > sizes.of_sample([100, tokens // 2], 24)
    seen.clear()
    lengths = [len(view.ids) + 24 for view in views]
    del methods["grad_cam"]  # of which a backward pass of more samples has fewer tokens
    room = (1.5 * sizes.of_sample(lengths, 24, ["nothing", "rows", "matrices"]) + sizes.of_logits) / 1e9
    small = explain_all_tokens(bundled, scenes.image, methods=methods, max_new_tokens=24, memory=room)
    assert seen == [1] * 9
    expected = whole.token_heat.sel(explainer=list(methods))
    np.testing.assert_allclose(small.token_heat, expected, atol=2e-4, rtol=1e-3)
    monkeypatch.setattr(bundled.family, "encode", None)
    refused(
        "sample 0: memory=0.001: explaining 3.. tokens takes about .* GB beside the model; give more", explain_all_tokens,
        bundled, scenes.image, methods=methods, memory=0.001,
    )  # fmt: skip
    refused("memory=0: a number above 0", explain_all_tokens, bundled, scenes.image, memory=0)


def test_an_image_is_preprocessed_once_as_long_as_there_is_room_for_its_pixels(bundled, monkeypatch):
    images, made, own = draw_descriptions(5, seed=3).image, [], bundled.family.made
    options = {"images": images, "prompts": "what is this", "method": "msea", "answer": "a red ring", "scales": (1, 2)}
    for scale in options["scales"]:  # which finds the places of this size
        bundled.family.view(images.values[0], "what is this", scale)
    monkeypatch.setattr(bundled.family, "made", lambda *given: made.append(1) or own(*given))
    whole = explain_tokens(bundled, **options)
    assert len(made) == 2 * 5
    made.clear()
    size = images.values[0].size * 4  # bytes of an image's pixels, float32
    monkeypatch.setattr(conversations, "KEPT", 3 * (1 + 4) * size)
    assert explain_tokens(bundled, **options).equals(whole)
    assert len(made) == 2 * (5 + 2)


def test_what_is_kept_of_attention_is_gone_before_a_graph_is_made(bundled, scenes, monkeypatch):
    left = []

    def watching(mllm, views, answers):
        left.append(len(attended(mllm, views, answers).matrices))
        return differentiating(mllm, views, answers)

    def differentiating(mllm, views, answers):
        left.append(len(views.made["attended"].matrices))
        return torch.ones(len(views), max(map(len, answers)), *views[0].grid)

    monkeypatch.setattr(REGISTRY, "_entries", REGISTRY.all())
    token_method("a test", keeps="graph")(differentiating)
    token_method("a test", keeps="matrices")(watching)
    layers = bundled.model.config.text_config.num_hidden_layers
    for answer in (TOLD, None):
        explain_all_tokens(bundled, scenes.image, methods=["differentiating", "watching"], answer=answer)
    assert left == [layers, layers, 0] * 2


@pytest.mark.parametrize("grid", [8, (8,), (8, 0), (8, 8.5), "finest"])
def test_bad_common_grids(bundled, monkeypatch, grid):
    monkeypatch.setattr(bundled.family, "encode", None)
    with pytest.raises(ValueError, match=r"grid=.*: give \(rows, cols\), or None|(rows|cols)=.*: a whole number of at"):
        explain_all_tokens(bundled, picture(64, 64), methods=["lens"], grid=grid)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (
            picture(),
            {"scales": (1, 2), "enlargement": "crops"},
            "sample 0: enlargement='crops': .* can't be given more tiles",
        ),
        (picture(), {"method": "arc", "k": 80}, "k=80: a whole number from 1 to 71 is"),
        ([picture(112, 112), picture(56, 56)], {"scales": (1, 1.2)}, "sample 1: scales 1.0 and 1.2 both .* 2 x 2"),
        (
            picture(2, 500),
            {"method": "lens"},
            "sample 0: .* refuses an image of 500 x 2 pixels .* must be smaller than 200",
        ),
    ],
)
def test_limits_of_other_classes(images, options, message):
    refused(message, explain_tokens, small_mllm("qwen2_vl"), images, "now", **{"method": "msea", **options})
