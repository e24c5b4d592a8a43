"""The view Perturb against the library's own curves, closed forms and pictures made directly."""

import json
import re

import numpy as np
import open_clip
import pytest
import torch

from xaikit.clip.perturbation import filled, perturbed_images, scores_of_images
from xaikit.evaluation.faithfulness import deletion_insertion
from xaikit.explorer import views
from xaikit.explorer.jobs import Cancelled, Job, Missing
from xaikit.explorer.state import State
from xaikit.explorer.tabs import PerturbTab

from .conftest import every_control_followed, followed, passes, pixels

STATE = State(tab="perturb")
ORANGE, BLUE = (213, 94, 0), (0, 114, 178)
draw = views.view("perturb")
WIDE = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 96, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def inputs(workspace, clip, state):
    scene = workspace.scene(state)
    return clip.pixels([scene.image.values]), clip.tokens([str(scene.caption.item())])


def scored(workspace, clip, state, keep):
    """Directly, in one pass of the model."""
    seen, tokens = inputs(workspace, clip, state)
    keep = torch.from_numpy(keep)[None, None]
    return float(scores_of_images(clip, seen, tokens, keep, filled(clip, seen, state.fill))[0, 0])


@pytest.mark.parametrize(("method", "fill"), [("grad_eclip", "mean"), ("maskclip", "random")])
def test_curves_are_those_of_the_metric(workspace, clip, method, fill):
    state = STATE.but(method=method, fill=fill)
    heat = workspace.heat(state, method, Job())
    known = deletion_insertion(clip, heat[None, None], *inputs(workspace, clip, state), steps=heat.size, fill=fill)
    for perturbation, curve in zip(("deletion", "insertion"), known[1:], strict=True):
        drawn = draw(workspace, state.but(perturbation=perturbation), Job())
        np.testing.assert_allclose(drawn.numbers.similarity, curve[0, 0], atol=2e-6)
        np.testing.assert_allclose(drawn.numbers.share, known[0], atol=1e-7)
    coarse = deletion_insertion(clip, heat[None, None], *inputs(workspace, clip, state), steps=16, fill=fill)
    for perturbation, curve in zip(("deletion", "insertion"), coarse[1:], strict=True):
        drawn = draw(workspace, state.but(perturbation=perturbation))
        area = float(np.trapezoid(curve[0, 0], coarse[0]))
        chance = float(np.trapezoid(drawn.numbers.random.dropna().values, coarse[0]))
        told = f"Area under the curve {area:.3f}, of random orders {chance:.3f} at the same 17 points"
        assert told in drawn.panels["curve"].note


@pytest.mark.parametrize("fill", ["zero", "blur"])
def test_deletion_and_insertion_end_where_the_other_begins(workspace, clip, fill):
    state = STATE.but(fill=fill)
    gone = draw(workspace, state, Job()).numbers
    come = draw(workspace, state.but(perturbation="insertion"), Job()).numbers
    bare = scored(workspace, clip, state, np.zeros((8, 8), bool))
    for column in ("similarity", "random"):
        assert gone[column].notna().sum() == {"similarity": 65, "random": 17}[column]
        ends = [(numbers[column].iloc[0], numbers[column].iloc[-1]) for numbers in (gone, come)]
        whole = scored(workspace, clip, state, np.ones((8, 8), bool))
        np.testing.assert_allclose(ends, [(whole, bare), (bare, whole)], atol=2e-6)


def test_random_orders_are_the_same_for_every_method(workspace):
    one, other = (draw(workspace, STATE.but(method=name), Job()).numbers for name in ("grad_eclip", "edge"))
    assert one.random.equals(other.random) and not np.allclose(one.similarity, other.similarity)


@pytest.mark.parametrize("perturbation", ["deletion", "insertion"])
def test_the_picture_is_what_the_model_gets(workspace, clip, perturbation):
    state = STATE.but(perturbation=perturbation, share=0.3, masked=(0, 9, 63), method="edge")
    drawn = draw(workspace, state, Job())
    heat = workspace.heat(state, "edge")
    assert len(np.unique(heat)) == 64, "the order must be certain"
    hot = heat >= np.sort(heat.ravel())[-19]  # 0.3 of 64 patches, rounded
    keep = hot if perturbation == "insertion" else ~hot
    keep.ravel()[[0, 9, 63]] = False
    seen, _ = inputs(workspace, clip, state)
    given = perturbed_images(clip, seen, torch.from_numpy(keep)[None], filled(clip, seen, state.fill))[0]
    mean, std = (torch.tensor(getattr(clip.model.visual, name)).view(3, 1, 1) for name in ("image_mean", "image_std"))
    wanted = (255 * (given * std + mean)).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels(drawn.panels["picture"])[::5, ::5], wanted)
    assert "19 of 64 patches (30%)" in drawn.panels["picture"].note
    now = scored(workspace, clip, state, keep)
    assert f"{now:.3f} with the {perturbation} as well" in drawn.sentences["masked"]


def test_masked_patches_are_scored_beside_the_whole_picture(workspace, clip):
    masked = (26, 27, 34, 35)
    drawn = draw(workspace, STATE.but(masked=masked), Job())
    whole, without = scored(workspace, clip, STATE, np.ones((8, 8), bool)), np.ones((8, 8), bool)
    without.ravel()[list(masked)] = False
    score = scored(workspace, clip, STATE, without)
    assert f"4 patches masked by hand: similarity {score:.3f}" in drawn.sentences["masked"]
    assert f"{score - whole:+.3f} from the whole picture's {whole:.3f}" in drawn.sentences["masked"]
    assert [place for place, spot in enumerate(drawn.panels["picture"].spots) if spot.pressed] == list(masked)
    heat = workspace.heat(STATE, STATE.method)
    spot = drawn.panels["picture"].spots[26]
    assert spot.label == f"row 4, column 3: heat {heat[3, 2]:.3g}, masked by hand"
    assert (spot.x, spot.y, spot.width, spot.height) == (2 / 8, 3 / 8, 1 / 8, 1 / 8)


def test_a_change_that_rounds_to_nothing_has_no_minus(workspace, clip):
    seen, tokens = inputs(workspace, clip, STATE)
    keep = torch.ones(1, 65, 64, dtype=torch.bool)
    keep[0, torch.arange(64), torch.arange(64)] = False
    scores = scores_of_images(clip, seen, tokens, keep.view(1, 65, 8, 8), filled(clip, seen, STATE.fill))[0]
    changed = scores[:64] - scores[64]
    patch = int(((changed < -5e-5) & (changed > -4.5e-4)).nonzero()[0])
    said = draw(workspace, STATE.but(masked=(patch,)), Job()).sentences["masked"]
    assert f"{changed[patch]:+.3f}" == "-0.000" and "without it, +0.000 from" in said


def test_as_many_pictures_at_once_as_asked_for(workspace, clip):
    state = STATE.but(batch_size=24, fill="black")
    workspace.heat(state, state.method, Job())
    with passes(clip.model.visual) as sizes:
        draw(workspace, state, Job())
    assert max(sizes) == 24 and sum(sizes) == 65 + 5 * 17


def test_the_marker_stands_on_the_curve(workspace):
    def coloured(share, colour):
        chart = pixels(draw(workspace, STATE.but(share=share), Job()).panels["curve"]).astype(int)
        rows, cols = np.nonzero(np.abs(chart[150:] - colour).sum(-1) < 30)  # the legend is above
        return cols, rows

    cols, rows = coloured(0.3, BLUE)
    left, right = cols.min(), cols.max()  # where the curve begins and ends
    centres = {share: [places.mean() for places in coloured(share, ORANGE)] for share in (0, 0.5, 0.625, 1)}
    for share, (x, y) in centres.items():
        assert abs(x - (left + share * (right - left))) < 3  # pixels, of 760
        on_curve = rows[np.abs(cols - x) < 3]
        assert on_curve.min() - 3 < y < on_curve.max() + 3


def test_a_share_or_another_sight_of_the_map_needs_no_model(workspace, clip):
    masked = STATE.but(masked=(1, 40))  # which no other test masks
    text = draw(workspace, STATE, Job()).legend.note
    assert "white: the edge of the mask" in text and "blue: that of the named objects" in text
    with passes(clip.model.visual) as seen:
        for share in (0, 0.01, 0.5, 1):
            draw(workspace, STATE.but(share=share, colours="gray"))
        assert not seen
        with pytest.raises(Missing):
            draw(workspace, masked)
        draw(workspace, masked, Job())
        assert len(seen) == 2  # with the patches masked by hand alone, and with the share as well
        draw(workspace, masked)
    assert len(seen) == 2


def test_the_chart_is_drawn_once_for_all_shares(workspace, monkeypatch):
    first = draw(workspace, STATE.but(share=0.1), Job())
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", None)  # so that another figure would raise
    second = draw(workspace, STATE.but(share=0.9))
    assert first.panels["curve"].png != second.panels["curve"].png


def test_cancelled_at_the_next_pass_of_the_model(workspace, clip):
    state, stopped = STATE.but(sample=2), []
    workspace.heat(state, state.method, Job())
    job = Job(lambda what, done, total: job.cancel() if "random" in what else None)
    with passes(clip.model.visual, lambda seen: stopped.append(job._stop.is_set())), pytest.raises(Cancelled):
        draw(workspace, state, job)
    assert stopped and not any(stopped)


def test_many_patches_are_asked_after_in_steps(tmp_path, workspace):
    (tmp_path / "small-wide.json").write_text(json.dumps(WIDE))
    open_clip.add_model_config(tmp_path / "small-wide.json")
    state = STATE.but(model="small-wide", share=0.2)  # 29 of 144 patches; a step is 2.25 of them
    drawn = draw(workspace, state.but(method="edge"), Job())
    numbers = drawn.numbers
    assert len(numbers) == 65 and numbers.patches.iloc[-1] == 144
    assert numbers.patches[numbers.random.notna()].tolist() == numbers.patches[::4].tolist()
    assert 29 in numbers.patches.values and "interpolated" not in drawn.panels["curve"].note
    between = draw(workspace, state.but(method="edge", share=30 / 144), Job()).panels["curve"].note
    assert 30 not in numbers.patches.values and "interpolated between steps" in between
    now = float(re.search(r"now (-?[\d.]+)", between)[1])
    around = numbers.similarity[numbers.patches.isin([29, 32])]
    assert around.min() - 5e-4 <= now <= around.max() + 5e-4
    clip = workspace.clip(state)
    heat = workspace.heat(state, "edge")
    at_29 = (heat.ravel().argsort(stable=True).argsort() < 144 - 29).reshape(heat.shape)
    exact = scored(workspace, clip, state, at_29)
    np.testing.assert_allclose(numbers.similarity[numbers.patches == 29].item(), exact, atol=2e-6)


def test_a_flat_map_says_that_its_order_means_nothing(workspace, monkeypatch):
    monkeypatch.setattr(workspace, "heat", lambda state, method, job=None: np.zeros((8, 8), np.float32))
    assert "flat" in draw(workspace, STATE, Job()).panels["curve"].note


def press(picture, place):
    picture._handle_custom_msg({"spot": place}, [])


def test_controls_choose_what_is_shown(workspace):
    tab, _ = every_control_followed(PerturbTab, STATE, lambda state: draw(workspace, state, Job()), method="edge")
    assert {"edge", "rise"} <= {*tab.controls["method"].options}


def test_patches_are_masked_and_seen_again(workspace):
    tab, wishes, _ = followed(PerturbTab, STATE, lambda state: draw(workspace, state, Job()))
    before = tab["picture"].png
    assert tab.release.disabled and "No patch" in tab.said.value
    press(tab["picture"], 20)
    press(tab["picture"], 5)
    assert wishes == [{"masked": (20,)}, {"masked": (5, 20)}]
    assert [place for place, spot in enumerate(tab["picture"].spots) if spot["pressed"]] == [5, 20]
    assert tab["picture"].png == draw(workspace, STATE.but(masked=(5, 20))).panels["picture"].png != before
    press(tab["picture"], 20)
    assert wishes[-1] == {"masked": (5,)} and "1 patch masked by hand" in tab.said.value
    tab.release.click()
    assert wishes[-1] == {"masked": ()} and tab["picture"].png == before and tab.release.disabled
