"""Videos in conversations: against the classes' own processors and models, where their tokens are in space and time, and what is
said of bad ones."""

import re

import numpy as np
import pytest
import torch
import transformers as T
from PIL import Image
from refusals import refused
from small_families import SIGLIP, TEXT, assert_as_the_plain_model, chat, ordinary, said as text, small_family, words
from small_mllms import picture, small_mllm

from xaikit.files.store import open_store, save_store
from xaikit.measures.words import image_shares
from xaikit.mllm.explanation import explain_all_tokens, explain_tokens
from xaikit.mllm.family import Family
from xaikit.mllm.loading import load_mllm
from xaikit.mllm.messages import turns_of
from xaikit.mllm.passes import teacher_forced
from xaikit.mllm.places import without_mixing

pytestmark = [
    pytest.mark.filterwarnings("ignore:the answer to .* was cut:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of transformers' processors
]
# Of four frames of 84 x 112 pixels: the grid and the first and the last frame of each map.
PAIRS, SINGLE = ((0, 1), (2, 3)), ((0, 0), (1, 1), (2, 2), (3, 3))
VIDEOS = {
    "qwen2_vl": ((3, 4), PAIRS), "qwen2_5_vl": ((3, 4), PAIRS), "qwen3_vl": ((3, 4), PAIRS), "qwen3_5": ((3, 4), PAIRS),
    "glm4v": ((3, 4), PAIRS), "llava_onevision": ((2, 2), SINGLE), "internvl": ((2, 2), SINGLE),
    "gemma4": ((7, 9), SINGLE), "smolvlm": ((2, 2), SINGLE), "video_llama_3": ((3, 4), SINGLE),
}  # fmt: skip
MIXED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "llava_onevision", "internvl", "gemma4", "video_llama_3")
METHODS = ["lens", "tam", "attention", "gradient_x_input", "random"]


@pytest.fixture(params=VIDEOS)
def family(request):
    return request.param


def frames(many=4, size=(84, 112)):
    return [picture(*size, seed) for seed in range(many)]


def talk(video=None, *behind, fps=2):
    video = {"type": "video", "video": frames() if video is None else video, "fps": fps}
    return [{"role": "user", "content": [text("describe"), video, *behind, text("what is left ?")]}]


def view_of(mllm, messages=None):
    turns, media = turns_of(talk() if messages is None else messages)
    return mllm.family.view(media, mllm.family.wording.said(turns))


def test_a_video_is_what_the_class_makes_of_it(family):
    mllm = small_family(family)
    view = view_of(mllm)
    assert_as_the_plain_model(mllm, view, ordinary(mllm, talk(), videos=[frames()]))
    grid, times = VIDEOS[family]
    assert view.images[0].places.frames == times and view.grids == (grid,) * len(times)
    assert view.images[0].places.region == pytest.approx((0, 0, 1, 1), abs=5e-3)
    assert len(view.feature_rows.unique()) == len(times) * grid[0] * grid[1]


@pytest.mark.parametrize("family", MIXED)
def test_images_and_videos_stand_in_one_conversation(family):
    mllm, image = small_family(family), picture(56, 56, 9)
    messages = talk(None, {"type": "image", "image": image})
    view = view_of(mllm, messages)
    assert_as_the_plain_model(mllm, view, ordinary(mllm, messages, [image], [frames()]))
    assert [len(seen.places.frames) for seen in view.images] == [len(VIDEOS[family][1]), 1]
    assert view.images[1].places.frames == ((-1, -1),)


@torch.no_grad()
def test_a_marked_place_in_one_frame_moves_its_own_cell_and_a_masked_one_is_gone(family):
    mllm = small_family(family)
    view = view_of(mllm)
    (rows, cols), times = VIDEOS[family]
    cell = len(times) * rows * cols - 2  # of the last map, the cell before the last
    boxes = view.images[0].places.boxes[view.feature_rows]
    top, left, bottom, right = boxes[cell].clamp(0, 1).tolist()
    marked = [frame.copy() for frame in frames()]
    middle = [slice(round((a + 0.2 * (b - a)) * side), round((b - 0.2 * (b - a)) * side))
              for a, b, side in ((top, bottom, 84), (left, right, 112))]  # fmt: skip
    marked[times[-1][0]][tuple(middle)] = np.where(marked[times[-1][0]][tuple(middle)] > 127, 0, 255)
    keep = torch.ones(1, len(boxes))
    keep[0, cell] = 0
    (gone,) = mllm.family.masked([view], keep)
    with without_mixing(mllm.model.base_model):
        found = [mllm.family.encode([one])[0][view.feature_rows] for one in (view, view_of(mllm, talk(marked)), gone)]
    for other in found[1:]:
        assert (other - found[0]).norm(dim=-1).argmax() == cell
    name = view.images[0].pixels
    changed = gone.vision[name] != view.vision[name]
    assert changed.any() and (view.images[0].places.cell_of[changed] == cell).all()


def test_maps_of_each_frame(family):
    mllm = small_family(family)
    found = explain_all_tokens(mllm, messages=talk(), methods=METHODS, answer="a red circle")
    (rows, cols), times = VIDEOS[family]
    assert found.token_heat.dims == ("sample", "explainer", "image", "answer_token", "row", "col")
    assert (found.grid.values[0] == (rows, cols)).all() and found.sizes["image"] == len(times)
    assert list(zip(found.first_frame.values[0], found.last_frame.values[0], strict=True)) == list(times)
    view = view_of(mllm)
    told = mllm.tokenizer("a red circle", add_special_tokens=False).input_ids
    at = teacher_forced(mllm, [view], [told]).hidden[0, view.image_positions]
    lens = mllm.logits(at)[:, told].relu().T.reshape(3, len(times), rows, cols)
    ours = found.token_heat.sel(explainer="lens")[0].transpose("answer_token", ...)
    np.testing.assert_allclose(ours, lens, atol=1e-4, rtol=1e-4)
    assert image_shares(found, explainer="attention").shape == (3, len(times))


def test_a_batch_gives_what_singles_give_whatever_is_seen(tmp_path, monkeypatch):
    mllm, image = small_family("qwen2_vl"), {"type": "image", "image": picture(84, 112, 7)}
    talks = [talk(), [{"role": "user", "content": [image, image, text("now")]}], talk(frames(3))]
    options = {"methods": METHODS, "answer": "a red circle"}
    whole = explain_all_tokens(mllm, messages=talks, **options)
    assert whole.last_frame.values.tolist() == [[1, 3], [-1, -1], [1, 2]]
    for sample, messages in enumerate(talks):
        one = explain_all_tokens(mllm, messages=messages, **options).token_heat.values[0]
        rows, cols = one.shape[-2:]
        np.testing.assert_allclose(whole.token_heat.values[sample, ..., :rows, :cols], one, atol=1e-4, rtol=1e-3)
    monkeypatch.setenv("XAIKIT_RUNS", str(tmp_path))
    save_store(whole, "one", "talks", "conversations")
    assert open_store("one", "talks", "conversations").first_frame.equals(whole.first_frame)


def test_patches_of_frames_are_seen_at_other_scales_and_tiles_are_not():
    for name in ("qwen2_5_vl", "qwen3_vl"):
        found = explain_tokens(small_family(name), messages=talk(), method="msea", scales=(1, 2), answer="a red circle")
        assert found.grid.values[0].tolist() == [[6, 8]] * 2
    refused(
        "scale=2.0: .* to the same 2 x 2 tokens at any scale; use scale 1", explain_tokens, small_family("internvl"),
        messages=talk(), method="msea", scales=(1, 2), answer="now",
    )  # fmt: skip


def test_a_limit_of_pixels_is_each_frames():
    mllm = small_family("qwen3_vl")
    least = load_mllm((mllm.model, mllm.processor), max_pixels=56 * 56)
    assert view_of(least).grids == ((2, 2), (2, 2))


@torch.no_grad()
def test_tokens_that_blend_two_patches_are_where_their_middle_is():
    tokenizer = words({"image_token": "<image>", "video_token": "<video>"})
    config = T.LlavaOnevisionConfig(
        vision_config=T.SiglipVisionConfig(**SIGLIP | {"image_size": 98}),
        text_config=T.Qwen2Config(vocab_size=len(tokenizer), **TEXT), image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id, image_grid_pinpoints=[[98, 98]],
    )  # fmt: skip
    size = {"height": 98, "width": 98}
    processor = T.LlavaOnevisionProcessor(
        T.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[98, 98]]), tokenizer,
        T.LlavaOnevisionVideoProcessor(size=size), num_image_tokens=49, vision_feature_select_strategy="full",
        chat_template=chat("<image>\n", "<video>\n"),
    )  # fmt: skip
    torch.manual_seed(0)
    mllm = load_mllm((T.LlavaOnevisionForConditionalGeneration(config), processor))
    view = view_of(mllm)
    assert view.grids == ((4, 4),) * 4 and view.images[0].places.region == pytest.approx((0, 0, 1, 1), abs=0.01)
    refused("mix distant places", Family.owned, mllm.family, view.vision)
    (gone,) = mllm.family.masked([view], torch.ones(1, 64).index_fill(1, torch.tensor([22]), 0))
    with without_mixing(mllm.model.base_model):
        plain, changed = (each[view.feature_rows] for each in mllm.family.encode([view, gone]))
    assert (plain - changed).norm(dim=-1).argmax() == 22
    assert (view.images[0].places.cell_of < 0).float().mean() < 0.03


GRAY = picture(84, 112)[..., 0]
BAD = [
    (talk([]), r"sample 0: the video of message 0 is \[\]: give its frames, at least one"),
    ([{"role": "user", "content": [{"type": "video"}, text("now")]}], "the video of message 0 is None: give its frames"),
    (talk("clip.mp4"), "the video of message 0 is 'clip.mp4': give its frames"),
    (talk([picture(84, 112), picture(84, 110)]), "frames 0 and 1 of .* have 112 x 84 and 110 x 84 pixels: all frames of a video"),
    (talk([picture(84, 112), GRAY]), "of the video of message 0 image 1 has shape"),
    (talk(GRAY), "of the video of message 0 image 0 has shape"),
    (talk(fps=0), "fps=0: a number above 0"),
    (talk(fps="2"), "fps='2': a number above 0"),
    (talk(np.zeros((1, 4, 4, 3), np.float32)), "of the video of message 0 image 0 has type float32"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "message"), BAD)
def test_bad_videos_are_refused_in_one_sentence_before_any_work(monkeypatch, messages, message):
    mllm = small_family("internvl")
    monkeypatch.setattr(mllm.family, "encode", None)
    refused(message, explain_tokens, mllm, messages=messages, method="lens", answer="a red circle")


def test_who_takes_no_video_says_so(monkeypatch):
    for mllm in (small_family("gemma3"), small_mllm("llava")):
        refused("takes no video: give its frames as images, each with maps of its own", explain_tokens, mllm,
                messages=talk(), method="lens", answer="now")  # fmt: skip
    internvl = small_mllm("internvl")
    monkeypatch.setattr(internvl.processor, "chat_template", chat("<IMG_CONTEXT>\n"))  # texts and images alone
    refused("the processor of .* refuses a video of 4 frames of 112 x 84 pixels at scale 1: ", explain_tokens, internvl,
            messages=talk(), method="lens", answer="now")  # fmt: skip


def test_who_marks_images_and_frames_alike_is_given_one_of_both_and_the_others_are_explained():
    mllm, image = small_family("glm4v"), {"type": "image", "image": picture(56, 56, 9)}
    talks = [talk(None, image), talk(), [{"role": "user", "content": [image, image, text("now")]}]]
    options = {"method": "lens", "answer": "a red circle"}
    found = explain_tokens(mllm, messages=talks, errors="record", **options)
    said = "sample 0: Glm4v.* writes the same token for images and for frames of videos, .* give images or videos"
    assert re.match(said, found.error.values[0]) and not any(found.error.values[1:])
    assert found.token_heat[1:].any(("image", "answer_token", "row", "col")).all() and not found.token_heat[0].any()
    refused(said, explain_tokens, mllm, messages=talks, **options)


@pytest.mark.parametrize("family", ["internvl", "llava_onevision"])
def test_videos_that_do_not_stand_together_are_named_with_their_lengths(family):
    second = {"type": "video", "video": frames(2), "fps": 2}
    refused(
        "the processor of .* refuses 2 videos of 4 and 2 frames at scale 1: Unable .*", explain_tokens,
        small_family(family), messages=talk(None, second), method="lens", answer="now",
    )  # fmt: skip
    alike = explain_tokens(
        small_family(family), messages=talk(None, second | {"video": frames()}), method="lens", answer="now"
    )
    assert alike.sizes["image"] == 8


def test_frames_may_be_one_array():
    mllm, options = small_family("internvl"), {"method": "lens", "answer": "a red circle"}
    one = explain_tokens(mllm, messages=talk(np.stack(frames())), **options)
    assert one.equals(explain_tokens(mllm, messages=talk(list(map(Image.fromarray, frames()))), **options))
