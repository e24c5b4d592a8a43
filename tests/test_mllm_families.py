"""One adapter for many classes of models, each with its real processor: what the model alone computes, and where its image
tokens are."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from refusals import refused
from small_families import asked, assert_as_the_plain_model, made, ordinary, small_family
from small_mllms import picture

from xaikit.mllm.conversations import written
from xaikit.mllm.explanation import explain_all_tokens
from xaikit.mllm.family import Family
from xaikit.mllm.loading import load_mllm
from xaikit.mllm.memory import Sizes
from xaikit.mllm.passes import Batch, attended
from xaikit.mllm.places import without_mixing

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of transformers' processors

SIZES = [(90, 150), (150, 70)]
PROMPTS = ["what is left of a red circle ?", "describe the scene"]
WHOLE = (0, 0, 1, 1)
# Of images of both sizes, height x width, the cells and the part of the image that they cover, from what the classes' own
# processors do: resizing, cropping, tiling and padding worked out by hand.
PLACES = {
    "llava": ((4, 4), (0, 18 / 93, 1, 74 / 93), (4, 4), (32 / 120, 0, 88 / 120, 1)),
    "llava_siglip": ((4, 4), WHOLE, (4, 4), WHOLE),
    "pixtral": ((5, 8), WHOLE, (8, 4), WHOLE),
    "mistral3": ((3, 4), WHOLE, (4, 2), WHOLE),
    "llava_next": ((4, 8), (6 / 68, 0, 62 / 68, 1), (8, 4), (0, -1 / 53, 1, 55 / 53)),
    "llava_onevision": ((8, 12), (-5 / 101, 0, 107 / 101, 1), (12, 6), (0, -2 / 79, 1, 82 / 79)),
    "qwen2_vl": ((3, 5), WHOLE, (5, 2), WHOLE),
    "qwen2_5_vl": ((3, 5), WHOLE, (5, 2), WHOLE),
    "qwen3_vl": ((3, 5), WHOLE, (5, 2), WHOLE),
    "qwen3_5": ((3, 5), WHOLE, (5, 2), WHOLE),
    "glm4v": ((3, 5), WHOLE, (5, 2), WHOLE),
    "video_llama_3": ((6, 10), WHOLE, (11, 5), WHOLE),
    "internvl": ((4, 6), WHOLE, (4, 2), WHOLE),
    "gemma3": ((2, 2), WHOLE, (2, 2), WHOLE),
    "gemma4": ((6, 10), WHOLE, (12, 5), WHOLE),
    "idefics3": ((4, 4), WHOLE, (4, 2), WHOLE),
    "smolvlm": ((4, 4), WHOLE, (4, 2), WHOLE),
    "paligemma": ((4, 4), WHOLE, (4, 4), WHOLE),
    "aya_vision": ((4, 6), WHOLE, (4, 2), WHOLE),
    "deepseek_vl": ((4, 4), (-11 / 34, 0, 45 / 34, 1), (4, 4), (0, -15 / 26, 1, 41 / 26)),
    "ovis2": ((2, 2), WHOLE, (2, 2), WHOLE),
    "vip_llava": ((4, 4), (0, 18 / 93, 1, 74 / 93), (4, 4), (32 / 120, 0, 88 / 120, 1)),
}
LARGER = (
    "llava",
    "llava_siglip",
    "pixtral",
    "mistral3",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_5",
    "glm4v",
    "video_llama_3",
    "internvl",
)


@pytest.fixture(params=PLACES)
def family(request):
    return request.param


def pictures():
    return [picture(*size, seed) for seed, size in enumerate(SIZES)]


def views_of(mllm, **options):
    return [mllm.family.view(image, prompt, **options) for image, prompt in zip(pictures(), PROMPTS, strict=True)]


def test_logits_and_answers_are_those_of_the_plain_model(family):
    mllm = small_family(family)
    for image, prompt, view in zip(pictures(), PROMPTS, views_of(mllm), strict=True):
        assert assert_as_the_plain_model(mllm, view, ordinary(mllm, asked(prompt), [image]))
        assert mllm.tokenizer.decode(view.ids[view.prompt_positions]) == prompt


def windowed():
    """A model that keeps few keys as it writes."""
    model, processor = made("gemma3")
    model.config.text_config.sliding_window = 8
    for layer in model.get_decoder().layers:
        layer.self_attn.sliding_window = 8
    return load_mllm((model, processor))


@torch.no_grad()
@pytest.mark.parametrize("family", [*PLACES, "windowed"])
def test_what_is_seen_of_attention_as_a_model_writes_is_what_a_pass_sees(family):
    """Watching changes no bit of what is written; and prompts of different lengths stand behind padding there."""
    mllm = windowed() if family == "windowed" else small_family(family)
    views, keeps = views_of(mllm), ("rows", "matrices")
    (answers, plain), (same, kept) = (written(mllm, views, 6, watched) for watched in ((), keeps))
    assert answers == same and torch.equal(plain.hidden, kept.hidden) and not plain.holds(keeps) and kept.holds(keeps)
    found = attended(mllm, Batch(views, keeps), answers)
    assert len({len(view.ids) for view in views}) == 2 and len(kept.matrices) == len(found.matrices)
    for sample, (view, answer) in enumerate(zip(views, answers, strict=True)):
        length = len(view.ids) + len(answer)
        of_writing, of_pass = (
            [each.rows[place, :, : len(answer)], *(layer[place, : length - 1] for layer in each.matrices)]
            for each, place in ((kept.of([sample]), 0), (found, sample))
        )
        for ours, theirs in zip(of_writing, of_pass, strict=True):
            torch.testing.assert_close(ours[..., :length], theirs[..., :length], atol=1e-4, rtol=1e-3)


def test_cells_are_where_the_processor_puts_them(family):
    first, second = PLACES[family][:2], PLACES[family][2:]
    for view, (grid, region) in zip(views_of(small_family(family)), (first, second), strict=True):
        assert view.grid == grid and view.region == pytest.approx(region, abs=5e-3)
        assert view.feature_rows.unique().numel() == grid[0] * grid[1]
        cells = view.places.boxes[view.feature_rows].view(*grid, 4)
        seen = cells.isnan().any(-1)  # cells of mere padding have no box
        top, left, bottom, right = region
        height, width = (bottom - top) / grid[0], (right - left) / grid[1]
        row, col = torch.meshgrid(*map(torch.arange, grid), indexing="ij")
        expected = torch.stack(
            [top + height * row, left + width * col, top + height * (row + 1), left + width * (col + 1)], -1
        )
        torch.testing.assert_close(cells[~seen], expected[~seen].float(), atol=0.03, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "scale", "enlargement"),
    [
        *((name, 1, "interpolate") for name in PLACES),
        *((name, 3, "interpolate") for name in ("llava", "qwen2_vl", "qwen2_5_vl", "internvl")),
        *((name, 3, "crops") for name in ("llava", "internvl")),
    ],
)
def test_a_marked_place_moves_its_own_cell_and_a_masked_one_is_gone(family, scale, enlargement):
    mllm, as_seen = small_family(family), (PROMPTS[0], scale, enlargement)
    for image in pictures():
        view = mllm.family.view(image, *as_seen)
        rows, cols = view.grid
        boxes = view.places.boxes[view.feature_rows]
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((middles > 0) & (middles < 1)).all(1).nonzero()[:, 0].tolist()
        marked = [inside[0], inside[len(inside) // 2], inside[-1]]
        with without_mixing(mllm.model.base_model):
            plain = mllm.family.encode([view])[0][view.feature_rows]
        for cell in marked:
            array = image.copy()
            top, left, bottom, right = boxes[cell].clamp(0, 1).tolist()
            middle = [slice(round((a + 0.2 * (b - a)) * side), round((b - 0.2 * (b - a)) * side))
                      for a, b, side in ((top, bottom, len(image)), (left, right, image.shape[1]))]  # fmt: skip
            array[tuple(middle)] = np.where(array[tuple(middle)] > 127, 0, 255)
            with without_mixing(mllm.model.base_model):
                moved = mllm.family.encode([mllm.family.view(array, *as_seen)])[0][view.feature_rows]
            assert (moved - plain).norm(dim=-1).argmax() == cell, (cell, view.grid)
        keep = torch.ones(len(marked) + 2, rows * cols)
        keep[-1] = 0
        keep[range(len(marked)), marked] = 0
        *versions, whole, none = mllm.family.masked([view] * len(keep), keep)
        pixels = view.vision["pixel_values"]
        assert torch.equal(whole.vision["pixel_values"], pixels)
        for cell, version in zip(marked, versions, strict=True):
            changed = version.vision["pixel_values"] != pixels
            assert (view.places.cell_of[changed] == cell).all() and changed.any()
        (fill,) = none.vision["pixel_values"][view.places.cell_of >= 0].unique()
        assert pixels.min() >= 0 or abs(fill) <= 1e-6, "the mean colour"
        assert torch.isfinite(mllm.family.encode([none])[0]).all()


def test_where_layers_differ_memory_is_that_of_the_largest():
    assert Sizes.of(small_family("gemma4").model).key_width == 2 * 24  # local layers have heads of 12
    config = transformers.Dots3NoteConfig()  # half of the heads in most layers
    sizes = Sizes.of(SimpleNamespace(config=config, dtype=torch.float32))
    assert sizes.heads == 128 and sizes.key_width == 128 * 256


def test_a_batch_gives_what_singles_give(family):
    mllm = small_family(family)
    methods = ["lens", "tam", "attention", "gradient_x_input"]
    answers = ["a red circle", "now"]
    whole = explain_all_tokens(mllm, pictures(), PROMPTS, methods, answers)
    for sample, given in enumerate(zip(pictures(), PROMPTS, answers, strict=True)):
        one = explain_all_tokens(mllm, given[0], given[1], methods, given[2])
        rows, cols = one.grid.values[0]
        ours = whole.token_heat.values[sample, :, : one.sizes["answer_token"], :rows, :cols]
        scale = np.abs(one.token_heat.values[0]).max((1, 2, 3), keepdims=True)
        assert (scale > 0).any()
        scale = np.maximum(scale, 1e-6)
        gap = np.abs(ours - one.token_heat.values[0]) / scale
        assert gap[:-1].max() < 2e-4 and gap[-1].max() < 5e-3  # gradients of random weights lose digits
        np.testing.assert_allclose(
            whole.log_probability.values[sample, :, : one.sizes["answer_token"]],
            one.log_probability.values[0],
            atol=2e-4,
        )


@torch.no_grad()
def test_places_are_found_in_half_precision_too(family):
    mllm = small_family(family)
    half = load_mllm((copy.deepcopy(mllm.model).bfloat16(), mllm.processor))
    for view, other in zip(views_of(mllm), views_of(half), strict=True):
        assert view.grid == other.grid and view.region == other.region
        assert torch.equal(view.places.cell_of, other.places.cell_of) and torch.equal(
            view.feature_rows, other.feature_rows
        )


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v", "video_llama_3"])
def test_what_a_family_says_of_its_patches_is_what_the_tower_does(family):
    own = small_family(family).family
    for view in views_of(small_family(family)):
        found, expected = own.owned(view.vision), Family.owned(own, view.vision)
        assert found[1] == expected[1] and torch.equal(found[0], expected[0])


@pytest.mark.parametrize("family", LARGER)
def test_images_can_be_enlarged(family):
    mllm = small_family(family)
    for view, larger in zip(views_of(mllm), views_of(mllm, scale=2.0), strict=True):
        assert larger.grid[0] > 1.5 * view.grid[0] and larger.grid[1] > 1.5 * view.grid[1]
        assert larger.region == pytest.approx(view.region, abs=0.01)
        assert len(mllm.family.encode([larger])[0]) == len(larger.tokens)


def test_finding_the_places_of_a_new_size_runs_one_layer_of_the_tower():
    mllm, calls = small_family("pixtral"), []
    layers = [module for name, module in mllm.model.named_modules() if "vision" in name and name.endswith("attention")]
    hooks = [layer.register_forward_hook(lambda *_: calls.append(1)) for layer in layers]
    try:
        view = mllm.family.view(picture(77, 99), "now")
        assert len(layers) == 2 and len(calls) == 1
        mllm.family.encode([view])
        assert len(calls) == 1 + 2
    finally:
        for hook in hooks:
            hook.remove()


def test_of_an_image_no_larger_than_its_thumbnail_the_tiles_are_the_cells():
    mllm, image = small_family("llava_onevision"), picture(56, 56)
    view = mllm.family.view(image, "now")
    assert view.grid == (4, 4) and len(view.tokens) == 36  # the thumbnail, the tile, and a newline a row
    assert view.feature_rows.tolist() == [16 + 5 * row + col for row in range(4) for col in range(4)]
    (gone,) = mllm.family.masked([view], torch.zeros(1, 16))
    assert len(gone.vision["pixel_values"].unique()) == 1


def test_possible_scales_are_those_with_a_grid_of_their_own(family):
    own, image = small_family(family).family, pictures()[0]
    found = own.possible_scales(image, [1.0, 2.0, 1.0001])
    grids = {own.view(image, "now", scale).grid for scale in found}
    assert found[0] == 1 and 1.0001 not in found and len(grids) == len(found)
    assert 2 in found or family not in LARGER
    refused("enlargement='crop': choose from", own.possible_scales, image, [1.0, 2.0], "crop")
    refused("scale=-1: a number above 0", own.possible_scales, image, [1.0, -1])


def test_what_has_one_size_says_so(family):
    if family in LARGER:
        return
    found = small_family(family).family
    refused(r"scale=1.3: .* brings an image to the same \d+ x \d+ tokens at any scale; use scale 1", found.view,
            picture(60, 60), "now", 1.3)  # fmt: skip


def test_rollout_of_layers_without_attention_is_refused(monkeypatch):
    mllm = small_family("qwen3_5")
    monkeypatch.setattr(mllm.model.base_model, "forward", None)
    refused(
        "rollout: 1 of the 2 layers of .* are linear_attention, without weights", explain_all_tokens, mllm, pictures()[0],
        "now", ["rollout"], "a red circle",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mllama", "reads images by cross-attention: no token of its input stands for a place"),
        ("idefics2", "tokens mix distant places, as those of resamplers do"),
    ],
)
def test_classes_that_cannot_be_explained_say_why(name, message):
    def explain():
        mllm = small_family(name)
        explain_all_tokens(mllm, pictures()[0], "now", ["lens"], "a red circle")

    refused(message, explain)
