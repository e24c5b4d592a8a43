"""Conversations: several turns and images against the classes' own processors and models, and what is said of bad ones."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from refusals import refused
from small_families import assert_as_the_plain_model, ordinary, said as text, small_family
from small_mllms import picture, small_mllm

from xaikit.evaluation.tokens import measure_faithfulness
from xaikit.files.store import open_store, save_store, validate
from xaikit.measures.words import image_shares
from xaikit.mllm.explanation import explain_all_tokens, explain_tokens
from xaikit.mllm.loading import load_mllm
from xaikit.mllm.messages import segments, turns_of
from xaikit.mllm.passes import teacher_forced
from xaikit.mllm.places import without_mixing
from xaikit.mllm.steps import _mean_of_sums
from xaikit.plots.tokens import token_strip

pytestmark = [
    pytest.mark.filterwarnings("ignore:the answer to .* was cut:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of transformers' processors
]
SEVERAL = (
    "llava", "llava_siglip", "pixtral", "mistral3", "llava_next", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v",
    "video_llama_3",
    "internvl", "gemma3", "gemma4", "idefics3", "smolvlm", "aya_vision", "deepseek_vl", "ovis2", "vip_llava", "llava_onevision",
)  # fmt: skip
IMAGE = {"type": "image"}
METHODS = ["lens", "tam", "arc", "attention", "gradient_x_input", "random"]


def pictures():
    return [picture(90, 150, 0), picture(150, 70, 1)]


def talk(*images):
    """A system prompt, text before an image, an answer, and a further image with text behind it."""
    first, second = [IMAGE | ({"image": image} if image is not None else {}) for image in (images or (None, None))]
    return [
        {"role": "system", "content": "now please"},
        {"role": "user", "content": [text("describe the scene"), first]},
        {"role": "assistant", "content": "a red circle"},
        {"role": "user", "content": [second, text("what is left of a circle ?")]},
    ]


def view_of(mllm, **options):
    turns, images = turns_of(talk(), pictures())
    return mllm.family.view(images, mllm.family.wording.said(turns), **options)


@pytest.fixture(params=SEVERAL)
def family(request):
    return request.param


def test_a_conversation_is_what_the_class_makes_of_it(family):
    mllm = small_family(family)
    view = view_of(mllm)
    said = "describe the scene a red circle what is left of a circle ?"
    assert mllm.tokenizer.decode(view.ids[view.prompt_positions]) == said
    assert_as_the_plain_model(mllm, view, ordinary(mllm, talk(), pictures()))


def test_every_image_has_its_own_places(family):
    mllm = small_family(family)
    view = view_of(mllm)
    among = 2 if family == "llava_onevision" else 1  # which shows no tiles of an image among several
    alone = [mllm.family.seen(Image.fromarray(image), among=among)[1] for image in pictures()]
    assert view.grids == tuple(places.grid for places in alone)
    assert view.images[0].tokens.max() < view.images[1].tokens.min()
    cells = [rows * cols for rows, cols in view.grids]
    keep = torch.ones(1, sum(cells))
    keep[0, cells[0] + 1] = 0  # the second cell of the second image
    (masked,) = mllm.family.masked([view], keep)
    with torch.no_grad(), without_mixing(mllm.model.base_model):
        plain, changed = (each[view.feature_rows] for each in mllm.family.encode([view, masked]))
    moved = (plain - changed).norm(dim=-1)
    assert moved.argmax() == cells[0] + 1 and not moved[: cells[0]].any()


def test_what_can_be_seen_among_others_need_not_be_seen_alone():
    """Of an image alone this class shows tiles, in which a strip has no grid."""
    mllm, strip = small_family("llava_onevision"), picture(30, 90)
    options = {"method": "lens", "answer": "a red circle"}
    refused("don't tile a grid of 4 x 8", explain_tokens, mllm, strip, "now", **options)
    found = explain_tokens(mllm, [[strip, pictures()[0]]], messages=talk(), **options)
    assert found.grid.values[0].tolist() == [[2, 4], [4, 4]] and found.token_heat[0].any(("row", "col")).all()
    thin = [[picture(20, 300), pictures()[0]]]  # the other way round
    refused(
        "sample 0: .* 300 x 20 pixels: no part of it is as large",
        explain_tokens,
        mllm,
        thin,
        messages=talk(),
        **options,
    )


@pytest.mark.parametrize("family", ["mistral3", "idefics3"])
def test_less_than_a_token_is_refused_in_a_sentence(family):
    mllm, options = small_family(family), {"method": "lens", "answer": "a red circle"}
    refused("can't be explained on an image of 3 x 3 pixels", explain_tokens, mllm, picture(3, 3), "now", **options)
    both = [[picture(3, 3), pictures()[0]]]
    refused("can't be explained on an image of 3 x 3 pixels", explain_tokens, mllm, both, messages=talk(), **options)


def test_maps_of_each_image(family):
    mllm = small_family(family)
    answers = explain_all_tokens(mllm, [pictures()], messages=talk(), methods=METHODS, answer="a red circle")
    assert answers.token_heat.dims == ("sample", "explainer", "image", "answer_token", "row", "col")
    view = view_of(mllm)
    told = mllm.tokenizer("a red circle", add_special_tokens=False).input_ids
    states = teacher_forced(mllm, [view], [told])
    for place, (seen, (rows, cols)) in enumerate(zip(view.images, view.grids, strict=True)):
        assert answers.grid.values[0, place].tolist() == [rows, cols]
        np.testing.assert_allclose(answers.region.values[0, place], seen.places.region)
        at = states.hidden[0, seen.tokens[seen.places.order]]
        lens = mllm.logits(at)[:, told].relu().T.reshape(3, rows, cols)
        ours = answers.token_heat.sel(explainer="lens").values[0, place, :, :rows, :cols]
        np.testing.assert_allclose(ours, lens, atol=1e-4, rtol=1e-4)
        beyond = answers.token_heat.values[0, :, place].copy()
        beyond[..., :rows, :cols] = 0
        assert not beyond.any()
    heat = answers.token_heat.sum(("image", "row", "col"))
    assert (heat.sel(explainer="attention") < 1).all(), "attention is shared among the images"
    assert (answers.token_heat.sel(explainer="random").sum(("row", "col")).values > 0).all()


def test_a_batch_gives_what_singles_give_however_many_images():
    mllm = small_family("qwen2_vl")
    one = [{"role": "user", "content": [IMAGE, text("now")]}]
    talks, images = [talk(), one, talk()], [pictures(), picture(90, 150, 3), pictures()[::-1]]
    options = {"methods": [*METHODS, "msea+arc"], "answer": "a red circle"}
    options["methods"] = {name: (name, {"k": 20} if "arc" in name else {}) for name in options["methods"]}
    whole = explain_all_tokens(mllm, images, messages=talks, **options)
    assert whole.sizes["image"] == 2 and not whole.token_heat[1, :, 1].any() and not whole.grid[1, 1].any()
    for sample in range(3):
        single = explain_all_tokens(mllm, [images[sample]], messages=talks[sample], **options)
        for place in range(single.sizes["image"]):
            rows, cols = single.grid.values[0, place]
            assert whole.grid.values[sample, place].tolist() == [rows, cols]
            ours = whole.token_heat.values[sample, :, place, :, :rows, :cols]
            np.testing.assert_allclose(
                ours, single.token_heat.values[0, :, place, :, :rows, :cols], atol=1e-4, rtol=1e-3
            )
    alone = explain_all_tokens(mllm, images[1], "now", **options)
    np.testing.assert_allclose(
        whole.token_heat[1, :, 0, :, : alone.sizes["row"], : alone.sizes["col"]], alone.token_heat[0], atol=1e-4
    )


def test_pictures_stand_in_the_messages_or_beside_them():
    mllm, options = small_mllm("llava"), {"method": "lens", "answer": "a red circle"}
    beside = explain_tokens(mllm, [pictures()], messages=talk(), **options)
    inside = explain_tokens(mllm, messages=talk(*pictures()), **options)
    mixed = explain_tokens(mllm, [pictures()[1:]], messages=talk(pictures()[0], None), **options)
    assert beside.equals(inside) and beside.equals(mixed)
    assert beside.prompt.item() == "what is left of a circle ?"
    one = [{"role": "user", "content": [IMAGE, text("now")]}]
    both = explain_tokens(mllm, pictures(), messages=one, **options)  # one conversation for all
    assert both.isel(image=0).token_heat.equals(explain_tokens(mllm, pictures(), "now", **options).token_heat)


def test_conversations_are_stored_and_one_image_of_them_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("XAIKIT_RUNS", str(tmp_path))
    found = explain_all_tokens(
        small_mllm("qwen2_vl"), [pictures()], messages=talk(), methods=["lens"], answer="a red circle"
    )
    validate(found, "conversations")
    save_store(found, "one", "talks", "conversations")
    assert open_store("one", "talks", "conversations").token_heat.equals(found.token_heat)
    token_strip(found.isel(image=1), pictures()[1:])
    refused(
        "answers about several images: choose one, such as answers.isel\\(image=0\\)",
        token_strip,
        found,
        pictures()[:1],
    )
    refused("answers about several images", measure_faithfulness, small_mllm("qwen2_vl"), pictures()[:1], found)


def test_which_image_a_word_looks_at():
    found = explain_all_tokens(
        small_mllm("qwen2_vl"), [pictures()], messages=talk(), methods=["lens", "attention"], answer="a red circle"
    )
    heat = np.zeros_like(found.token_heat.values)
    (rows, cols), (other_rows, other_cols) = found.grid.values[0]
    heat[0, 0, 0, 0, :rows, :cols] = 3
    heat[0, 0, 1, 0, :other_rows, :other_cols] = 1
    heat[0, 0, 1, 1, 0, 0] = 2
    heat[0, 0, 0, 1, 0, 0] = -5
    found["token_heat"] = found.token_heat.dims, heat
    expected = pd.DataFrame({0: [0.75, 0, np.nan], 1: [0.25, 1, np.nan]}, ["a", "red", "circle"])
    pd.testing.assert_frame_equal(
        image_shares(found, explainer="lens"), expected, check_names=False, check_column_type=False
    )
    refused("explainer='tam': choose from lens, attention", image_shares, found, explainer="tam")
    refused("sample=1: a whole number from 0 to 0", image_shares, found, 1, "lens")
    refused("the answers are about one image each", image_shares, found.isel(image=0))


@pytest.mark.parametrize(
    ("texts", "header", "kinds"),  # r for reasoning, a for the answer
    [
        (["a", " ring"], "assistant\n", "aa"),
        (["<think>", " so", "</think>", " ring"], "assistant\n", "rrra"),
        (["<think>", " so"], "assistant\n", "rr"),
        (["so ", "<think>", "why"], "assistant\n", "arr"),
        (["Sure. ", "<think>", "x", "</think>", "a"], "assistant\n", "arrra"),
        ([" so", "</think>", "\n", "ring"], "assistant\n<think>\n", "rraa"),
        ([" so", "</think>", "ring"], "assistant\n", "rra"),  # opened by a template that doesn't say so
        ([" so", " it"], "assistant\n<think>\n", "rr"),
        (["ring"], "<think>\n\n</think>\n\n", "a"),
        (["<", "think", ">", "so", "</", "think", ">ring", " it"], "", "rrrrrraa"),
        (["a ", "<th", "ink>", "x", "</thi", "nk>", "b"], "assistant\n", "arrrrra"),
        (["<|channel>", "thought", "<channel|>", "ring"], "model\n", "rrra"),
    ],
)
def test_reasoning_and_answer_are_told_apart(texts, header, kinds):
    assert segments(texts, header).tolist() == [{"r": "reasoning", "a": "answer"}[kind] for kind in kinds]


def test_an_answer_cut_in_its_reasoning_says_so():
    mllm = small_family("qwen3_vl")
    processor = copy.deepcopy(mllm.processor)
    processor.chat_template += "{% if enable_thinking %} <think>{% endif %}"
    thinking = load_mllm((mllm.model, processor), chat={"enable_thinking": True})
    with pytest.warns(
        UserWarning, match="the answer to sample 0 was cut after 3 tokens, within its reasoning: raise max"
    ):
        found = explain_tokens(thinking, picture(90, 90), "now", "lens", max_new_tokens=3)
    assert (found.segment == "reasoning").all() and not found.ended.any()
    with pytest.warns(UserWarning, match="the answer to sample 0 was cut after 3 tokens: raise max"):
        explain_tokens(mllm, picture(90, 90), "now", "lens", max_new_tokens=3)


BAD = [
    ({"messages": []}, "messages=.*: give a list of messages such as"),
    ({"messages": "what is this"}, "messages='what is this': give a list of messages such as"),
    ({"messages": [["what"]]}, "sample 0: message 0 is 'what': a message is such as"),
    ({"messages": [{"role": "user"}]}, "sample 0: message 0 is .* a message is such as"),
    ({"messages": [{"role": "narrator", "content": "now"}]}, "message 0 has the role 'narrator': choose from system, user"),
    ({"messages": [{"role": "user", "content": 3}]}, "message 0 has the content 3: a text, or a list"),
    ({"messages": [{"role": "user", "content": []}]}, "message 0 has the content"),
    ({"messages": [{"role": "user", "content": [{"type": "sound"}]}]}, "message 0 holds .*'sound'.*: a part is"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "message 0 holds .*: a part is"),
    ({"messages": [{"role": "user", "content": "now"}], "images": None}, "no message names an image by"),
    ({"images": [[*pictures(), picture()]]}, "sample 0: 3 images are given, but the messages name 2 without"),
    ({"images": [pictures()[:1]]}, "sample 0: 1 images are given, but the messages name 2 without"),
    ({"images": None}, "sample 0: 0 images are given, but the messages name 2"),
    ({"images": [[pictures()[0], pictures()[1][..., 0]]]}, "sample 0: image 1 has shape"),
    ({"messages": talk()[:-1], "images": pictures()[:1]}, "the last message is of the role 'assistant': the user's must"),
    ({"messages": [*talk()[:-1], {"role": "user", "content": [IMAGE, text(" ")]}]}, "sample 0: message 3 .* is empty"),
    ({"messages": [{"role": "user", "content": [IMAGE, text("the spoon")]}], "images": picture()}, "'spoon' is outside"),
    ({"messages": [talk(), talk(), talk()], "images": [pictures()] * 2}, "images for 2 samples but 3 conversations"),
    ({"prompts": "now"}, "prompts='now' and messages: the messages hold the prompts"),
    ({"method": "tam", "tam_compat": True}, "tam_compat=True: the released function knows no conversations"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_conversations_are_refused_in_one_sentence_before_any_work(monkeypatch, change, message):
    mllm = small_mllm("llava")
    monkeypatch.setattr(mllm.family, "encode", None)
    given = {"images": [pictures()], "messages": talk(), "method": "lens", "answer": "a red circle"}
    refused(message, explain_tokens, mllm, **given | change)


def test_templates_that_take_less_say_so(monkeypatch):
    mllm = small_mllm("llava")
    given = {"images": [pictures()], "messages": talk(), "method": "lens", "answer": "a red circle"}
    for template, message in (
        ("<image>{% for m in messages %}{% for c in m['content'] if c['type'] == 'text' %} {{ c['text'] }}{% endfor %}"
         "{% endfor %}", "the chat template of .* takes one image only: give no more"),
        ("<image>{{ messages[-1]['content'][-1]['text'] }}", "must write images and texts as they are, in order"),
        ("<image>{{ raise_exception('roles must alternate') }}", "refuses this conversation: roles must alternate"),
    ):  # fmt: skip
        monkeypatch.setattr(mllm.processor, "chat_template", template)
        mllm.family.wording._chat.cache_clear()
        refused(message, explain_tokens, mllm, **given)
    monkeypatch.undo()
    mllm.family.wording._chat.cache_clear()
    refused(
        "has no chat template: it takes what one user says once", explain_tokens, small_family("paligemma"), **given
    )
    one_turn = [{"role": "user", "content": [IMAGE, IMAGE, text("now")]}]
    found = explain_tokens(small_family("paligemma"), **given | {"messages": one_turn})
    assert found.sizes["image"] == 2


def test_a_bad_conversation_is_recorded_and_the_others_explained():
    mllm = small_mllm("llava")
    found = explain_tokens(
        mllm, [pictures(), pictures()[:1]], messages=talk(), method="lens", answer="a red circle", errors="record"
    )
    assert found.error.values[0] == "" and found.error.values[1].startswith("sample 1: 1 images are given")
    assert found.token_heat[0].any() and not found.token_heat[1].any() and not found.grid[1].any()


@pytest.mark.parametrize("grids", [((3, 3), (5, 5)), ((8, 8), (12, 12)), ((2, 5), (7, 3)), ((4, 4), (4, 4))])
def test_the_mean_over_scales_keeps_the_sums(grids):
    draw = torch.Generator().manual_seed(0)
    maps = [torch.rand(6, *grid, generator=draw) for grid in grids]
    corner = torch.zeros(1, *grids[0])
    corner[0, 0, 0] = 1.0
    maps[0] = torch.cat([maps[0], corner, 0 * corner])
    maps[1] = torch.cat([maps[1], torch.ones(2, *grids[1]) / np.prod(grids[1])])
    found = _mean_of_sums([each[None] for each in maps])
    assert found.shape[2:] == max(grids, key=np.prod)
    sums = torch.stack([each.sum((1, 2)) for each in maps]).mean(0)
    torch.testing.assert_close(found[0].sum((1, 2)), sums, rtol=1e-4, atol=1e-5)
