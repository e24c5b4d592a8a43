"""Methods are ranked on scenes that the model recognises: what foils are, and what is left of scores."""

import numpy as np
import pytest
import xarray as xr
from refusals import refused

import xaikit as xk
from xaikit import evaluation
from xaikit.evaluation import cost
from xaikit.evaluation.ability import foils


@pytest.mark.parametrize("drawing", [{}, {"world": "things"}, {"world": "things", "template": "a photo of {}."}])
def test_each_foil_exchanges_one_named_object_for_what_is_not_there(drawing):
    scenes = xk.draw_scenes(24, seed=3, objects=(1, 4), **drawing)
    for scene, found in zip((scenes.isel(sample=[k]) for k in range(24)), foils(scenes), strict=True):
        assert len(found) == scene.object_named.sum() and len({*found}) == len(found)
        for text in found:  # read again, it is false of its scene: it names one object fewer, or other ones
            words = np.array([text.replace(",", " ,").split()])
            named = {*xk.samples.name_objects(words, scene).token_object.values[0].tolist()} - {-1}
            own = {*scene.token_object.values[0].tolist()} - {-1, -2}
            assert named < own
            assert text.startswith(drawing.get("template", "{}").split("{")[0])


@pytest.mark.parametrize("drawing", [{}, {"world": "things"}, {"world": "things", "template": "a photo of {}"}])
def test_the_foil_of_a_single_word_is_another_that_is_true_of_nothing_there(drawing):
    scenes = xk.draw_suite("word", 24, seed=3, **drawing)
    for caption, (foil,), names in zip(scenes.caption.values, foils(scenes), scenes.object_name.values, strict=True):
        one, other = ({*text.split()} for text in (str(caption), foil))
        assert other - one and caption.startswith(foil[:10]) == bool(drawing.get("template"))
        assert not any({*name.split()} >= other - one for name in names if name)


@pytest.mark.parametrize("suite", xk.samples.SUITES)
def test_every_suite_has_foils(clip, suite):
    found = evaluation.recognised(clip, xk.draw_suite(suite, 6))
    assert found.mean() > found.chance >= 1 / 3


def test_a_scene_is_recognised_by_its_caption_against_all_foils(clip):
    scenes = xk.draw_scenes(8, seed=1)
    found = evaluation.recognised(clip, scenes, batch_size=3)
    assert found.all() and found.attrs["chance"] == np.mean([1 / (1 + len(each)) for each in foils(scenes)])
    # Another scene's picture under the caption, and a foil of its own that is the caption: neither is recognised.
    turned = scenes.assign(image=scenes.image.copy(data=scenes.image.values[::-1]))
    assert not evaluation.recognised(clip, turned).all()
    assert not evaluation.recognised(clip, scenes.assign(foil=scenes.caption)).any()
    pairs = xk.draw_pairs("attribute", 4)
    own, other = (clip.similarity(pairs.image, list(texts.values)).diagonal() for texts in (pairs.caption, pairs.foil))
    assert evaluation.recognised(clip, pairs).values.tolist() == (own > other).tolist()
    refused("planted", evaluation.recognised, clip, scenes[["image", "caption", "token_text"]])


@pytest.mark.parametrize(
    ("known", "ranked"), [([True] * 3 + [False], False), ([True] * 4, True), ([True] * 19 + [False], True)]
)
def test_only_recognised_scenes_are_ranked_and_none_where_their_share_may_be_chance(known, ranked):
    values = np.arange(2.0 * len(known)).reshape(-1, 2)
    scores = xr.Dataset(
        {
            "energy": (("sample", "explainer"), values, {"score_direction": "higher is better"}),
            "fraction": ("step", [0.0, 1.0]),
            "recognised": ("sample", known, {"chance": 0.5}),
        }
    )
    found = evaluation.of_recognised(scores)
    np.testing.assert_array_equal(found.energy, np.where(np.array(known)[:, None] & ranked, values, np.nan))
    assert found.energy.attrs == scores.energy.attrs and found.fraction.identical(scores.fraction)
    assert found.recognised.any() == ranked and scores.energy.notnull().all()
    assert evaluation.of_recognised(scores.drop_vars("recognised")).energy.notnull().all()


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((100,), "5 seconds: 100 pictures at 50.0 ms"),
        ((6000,), "5 minutes: 6,000 pictures at 50.0 ms"),
        ((3000, 3000), "5 minutes: 3,000 pictures at 50.0 ms, 3,000 texts at 50.0 ms"),
        # 5 seconds of pictures, 16 of shuffles: each takes four times as long as that of a quarter of the weights
        ((100, 0, 10), "21 seconds: 100 pictures at 50.0 ms, 10 shuffles of all weights at 1600.0 ms"),
    ],
)
def test_how_long_work_takes_is_said_before_it_where_nothing_is_compared(capsys, monkeypatch, counts, said):
    clip = xk.load_clip("tiny-clip", precision="bf16")  # an estimate is of the model's own precision
    monkeypatch.setattr(cost, "SOME_WEIGHTS", sum(weight.numel() for weight in clip.model.parameters()) // 4)
    monkeypatch.setattr(cost, "_seconds", lambda run, device: (run(), 0.4)[1])  # of a batch of eight
    cost.say_estimate(clip, *counts)
    assert capsys.readouterr() == ("", f"About {said}\n")


def test_a_scene_without_a_foil_is_refused(clip):
    scenes = xk.draw_scenes(2)
    scenes["caption"] = ("sample", ["a photo", scenes.caption.values[1]])
    refused("scene 0 .'a photo'. has no foil", evaluation.recognised, clip, scenes)
