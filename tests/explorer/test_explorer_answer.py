"""The view Answer: a multimodal LLM's words, where it looks for each, and what is subtracted; and its tab."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageColor
from small_families import small_family

import xaikit as xk
from xaikit.explorer.jobs import Job, Missing
from xaikit.explorer.pixels import (
    BLUE,
    ORANGE,
    TRUE_EDGE,
    coloured,
    enlarged,
    laid_over,
    relative,
    upsampled,
    with_edge,
)
from xaikit.explorer.state import State
from xaikit.explorer.tabs import AnswerTab
from xaikit.explorer.views.answer import METHODS, draw
from xaikit.explorer.workspace import Workspace

from .conftest import cancelled_at_the_third, cpu_seconds, every_control_followed, pixels

SCENE = 1


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_descriptions(n=3, seed=2)


@pytest.fixture(scope="module")
def workspace(scenes):
    return Workspace(scenes)


@pytest.fixture(scope="module")
def truth(workspace, scenes):
    """What the library itself says, a dataset of the one sample."""
    mllm = workspace.mllm(State(), Job())
    found = xk.explain_all_tokens(mllm, [scenes.image.values[SCENE]], "describe the picture", list(METHODS.values()))
    return found.isel(sample=0)


@pytest.fixture(scope="module")
def state():
    return State(tab="answer", sample=SCENE, upsampling="nearest", mask=False)


@pytest.fixture(scope="module")
def drawn(workspace, state):
    return draw(workspace, state, Job())


def heat_of(drawn, token):
    rows = drawn.numbers[(drawn.numbers.part == "heat") & (drawn.numbers.token == token)]
    return rows.value.values.reshape(int(rows.row.max()) + 1, -1)


def weights_of(drawn):
    rows = drawn.numbers[drawn.numbers.part == "weight"]
    return dict(zip(rows.context, rows.value, strict=True))


def test_the_bundled_model_describes_the_scene(drawn, scenes):
    caption = str(scenes.caption.values[SCENE])
    assert f"tiny-llava answers: “{caption}”. It names 2 of the 2 objects" in drawn.sentences["answer"]
    assert [word.text for word in drawn.words] == caption.split()


def test_maps_of_every_token_and_method_are_the_librarys_own(workspace, state, drawn, truth):
    for (msea, arc), name in METHODS.items():
        shown = draw(workspace, state.but(msea=msea, arc=arc))  # without a job: nothing is left to compute
        for token in range(len(shown.words)):
            expected = truth.token_heat.sel(explainer=name).values[token]
            np.testing.assert_allclose(heat_of(shown, token), expected, rtol=1e-4, atol=1e-5)


def test_the_first_word_of_an_object_is_chosen_and_that_object_outlined(drawn, scenes, state):
    token = drawn.chosen["token"]
    assert drawn.words[token].text == scenes.object_name.values[SCENE, 0].split()[0]
    assert [word.pressed for word in drawn.words].index(True) == token
    image = enlarged(scenes.image.values[SCENE])
    mask = upsampled(scenes.object_mask.values[SCENE, 0], image.shape[:2]) > 0.5
    assert (pixels(drawn.panels["image"]) == with_edge(image, mask, TRUE_EDGE)).all()
    assert f"names the {scenes.object_name.values[SCENE, 0]}" in drawn.panels["image"].note


def test_opacity_goes_from_the_picture_to_the_colours(workspace, state, drawn, scenes):
    token = next(place for place, word in enumerate(drawn.words) if word.text in ("is", "a"))  # names no object
    image = enlarged(scenes.image.values[SCENE])
    colours = coloured(upsampled(relative(heat_of(drawn, token)), image.shape[:2]), "viridis")
    for opacity in (0.0, 0.3, 1.0):
        panel = draw(workspace, state.but(token=token, opacity=opacity, colours="viridis")).panels["map"]
        assert (pixels(panel) == laid_over(image, colours, opacity)).all()
        assert "IoU" not in panel.note


@pytest.mark.parametrize("threshold", [0.05, 0.5])
def test_iou_is_that_of_the_mask_with_the_words_own_object(workspace, state, scenes, threshold):
    shown = draw(workspace, state.but(threshold=threshold))
    heat = heat_of(shown, shown.chosen["token"])
    side = scenes.sizes["y"] // heat.shape[0]
    inside = np.kron(heat >= threshold * heat.max(), np.ones((side, side), bool))
    own = scenes.object_mask.values[SCENE, 0]
    assert f"IoU {(inside & own).sum() / (inside | own).sum():.2f}," in shown.panels["map"].note
    assert f"mask {inside.mean():.0%}" in shown.panels["map"].note


def test_words_are_coloured_by_the_largest_heat_of_their_maps(drawn, truth):
    peaks = truth.token_heat.sel(explainer="msea+arc").values.max((1, 2))[: len(drawn.words)]
    expected = coloured(peaks / peaks.max(), "magma").astype(int)
    shown = [[int(word.colour[at : at + 2], 16) for at in (1, 3, 5)] for word in drawn.words]
    assert np.abs(np.array(shown) - expected).max() <= 3
    hottest = int(np.argmax(peaks))
    assert f"largest heat {peaks[hottest]:.2g}" in drawn.words[hottest].label


def test_weights_say_what_arc_and_tam_subtract(workspace, state, drawn, truth):
    token = max(place for place, word in enumerate(drawn.words) if word.text == "a")
    asked = int((truth.context_text.values != "").sum()) - len(drawn.words)
    texts = truth.context_text.values[: asked + token]
    differs = texts != truth.answer_text.values[token]
    assert not differs.all()  # there is an earlier "a", which is left out
    rho = truth.rank_overlap.sel(explainer="arc").values[token, : asked + token]
    relevance = truth.relevance.values[token, : asked + token]
    for msea, arc, weights in ((True, True, 1 - rho), (False, True, 1 - rho), (True, False, relevance)):
        expected = np.where(differs, weights, 0)
        shown = draw(workspace, state.but(token=token, msea=msea, arc=arc))
        found = weights_of(shown)
        assert list(found) == list(range(asked + token))
        np.testing.assert_allclose(list(found.values()), expected / expected.sum(), atol=1e-5)
        most = texts[int(np.argmax(expected))].strip()
        assert f"Most: “{most}”" in shown.panels["context"].note
    assert "subtracts nothing" in draw(workspace, state.but(msea=False, arc=False)).panels["context"].note


def test_bars_are_as_long_as_the_weights(workspace, state, drawn):
    token = len(drawn.words) - 1
    shown = draw(workspace, state.but(token=token))
    chart = pixels(shown.panels["context"])[60:]  # below the legend
    question, answer = ((chart == ImageColor.getrgb(colour)).all(-1).sum(1) for colour in (ORANGE, BLUE))
    lengths = [max(group) for any_, group in itertools.groupby(question + answer, key=bool) if any_]
    weights = np.array([weight for weight in weights_of(shown).values() if weight > 0])
    assert len(lengths) == len(weights)
    np.testing.assert_allclose(np.array(lengths) / max(lengths), weights / weights.max(), atol=0.01)
    assert ((question > 0).nonzero()[0].max() < (answer > 0).nonzero()[0].min()) and (question > 0).any()


def test_another_word_is_shown_quickly(workspace, state, drawn):
    tokens = range(len(drawn.words))  # each for the first time
    took = [cpu_seconds(draw, workspace, state.but(token=token, opacity=0.33)) for token in tokens]
    assert np.median(took) < 0.1  # a figure takes longer


def test_a_picture_needs_no_prompt_and_no_clip(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    fresh, state = Workspace(), State(tab="answer", image=str(tmp_path / "noise.png"), opacity=0.0, mask=False)
    shown = draw(fresh, state, Job())
    assert (pixels(shown.panels["map"]) == enlarged(noise)).all()
    assert shown.panels["image"].note == "no truth is known of this picture"
    assert shown.chosen == {"token": 0}
    with pytest.raises(Missing):
        fresh.clip(state)


def test_the_map_lies_on_the_part_that_the_model_sees(workspace, tmp_path):
    """The bundled model crops its pictures to the middle square."""
    wide = np.random.default_rng(0).integers(0, 256, (320, 640, 3), dtype=np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    state = State(tab="answer", image=str(tmp_path / "wide.png"), opacity=1.0, mask=False)
    shown = draw(workspace, state, Job())
    hottest = int(shown.numbers[shown.numbers.part == "heat"].sort_values("value").token.iloc[-1])
    shown = draw(workspace, state.but(token=hottest))
    drawn = pixels(shown.panels["map"])
    assert (drawn[:, :160] == wide[:, :160]).all() and (drawn[:, 480:] == wide[:, 480:]).all()
    heat = heat_of(shown, hottest)
    assert heat.max() > 0
    assert (drawn[:, 160:480] == coloured(upsampled(relative(heat), (320, 320)), "magma")).all()
    assert "the model doesn't see the rest" in shown.panels["map"].note


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of transformers' processors
@pytest.mark.filterwarnings("ignore:the answer to sample 0 was cut:UserWarning")
@pytest.mark.parametrize("name", ["paligemma", "idefics3", "llava_next", "llava_onevision"])
def test_models_of_one_input_size_are_explained_without_msea(scenes, monkeypatch, name):
    workspace, mllm = Workspace(scenes), small_family(name)
    monkeypatch.setattr(workspace, "mllm", lambda state, job=None: mllm)
    shown = draw(
        workspace, State(tab="answer", sample=SCENE, question="describe the scene", msea=True, arc=True), Job()
    )
    assert "by ARC" in shown.panels["map"].title
    assert "MSEA can't be shown: scale=" in shown.sentences["answer"]
    assert shown.sentences["answer"].endswith("at any scale.")
    found = xk.explain_tokens(mllm, scenes.image.values[SCENE], "describe the scene", "arc").token_heat.values[0]
    token = shown.chosen["token"]
    np.testing.assert_allclose(heat_of(shown, token), found[token], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"question": "where is the dragon"}, r"the question \('where is the dragon'\): the word 'dragon' is outside"),
        ({"question": "a prompt"}, r"the question \('a prompt'\): the word 'prompt' is outside"),
        ({"question": " "}, r"the question \(' '\) is empty or no text: at least one word is needed$"),
        ({"question": "describe the picture " * 160}, "^question and image have .* use a shorter question$"),
        ({"token": 99}, "token=99: the answer has the tokens 0 to"),
        ({"sample": 3}, "sample=3: the scenes are 0 to 2"),
        ({"multimodal_model": "tiny-lava"}, "tiny-lava"),
    ],
)
def test_what_cant_be_answered_is_said_in_a_sentence(workspace, state, changes, told):
    with pytest.raises(ValueError, match=told) as error:
        draw(workspace, state.but(**changes), Job())
    assert "\n" not in str(error.value) and "sample 0" not in str(error.value)


def test_an_answer_can_be_cancelled_while_it_is_written(workspace, state):
    layer = workspace.mllm(state).model.model.language_model.layers[0]
    other = state.but(question="name all objects")
    cancelled_at_the_third(layer, lambda job: draw(workspace, other, job))  # of some twenty


def test_controls_and_words_choose_what_is_shown(workspace, state):
    question = "name all objects"
    tab, now = every_control_followed(AnswerTab, state, lambda state: draw(workspace, state, Job()), question=question)
    assert not tab.controls["question"].continuous_update
    tab.words.press(4)
    assert now[0].token == 4 and tab.words.words[4]["pressed"]
