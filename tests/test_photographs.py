"""Photographs with captions instead of planted scenes: what is known of them decides what is drawn and measured."""

import numpy as np
import pytest
from PIL import Image

import xaikit as xk
from xaikit import evaluation, plots


@pytest.fixture(scope="module", params=["photos", "boxes", "captions"])
def source(request, tmp_path_factory):
    """The photographs by name; a folder with captions and boxes; one with captions alone."""
    if request.param == "photos":
        return "photos"
    folder = tmp_path_factory.mktemp(request.param)
    boxed = request.param == "boxes"
    rows = ["image,caption" + ",box,object" * boxed]
    for index in range(3):
        picture = np.zeros((40, 60, 3), np.uint8)
        picture[10:30, 20:40, index] = 255
        Image.fromarray(picture).save(folder / f"{index}.png")
        rows.append(f"{index}.png,a square" + ",20 10 20 20,square" * boxed)
    (folder / "captions.csv").write_text("\n".join(rows))
    return f"folder:{folder}"


@pytest.mark.parametrize("n", [1, 2])
def test_photographs_are_opened_drawn_and_measured_from_one_on(clip, source, n):
    scenes = xk.open_inputs("none", source, n)
    assert scenes.sizes["sample"] == n and ("object_mask" in scenes) == ("captions" not in source)
    heat = xk.explain(["centre", "edge"], clip, scenes.image, "a red ring")
    assert len(plots.gallery(scenes, "Photographs", outlines=True).axes) == n
    assert len(plots.compare(scenes, heat, "Maps").axes) == 3 * n + 1
    words = xk.explain(["grad_eclip"], clip, scenes.image, "a red ring", of="text")
    assert len(plots.words(words, "Words").axes) == n
    metrics = evaluation.measurable(scenes, ["energy", "deletion_auc", "effect_correlation"])
    assert metrics == (["energy"] if "object_mask" in scenes else []) + ["deletion_auc"]
    asked = scenes.assign(caption=("sample", ["a red ring"] * n))
    measured = xk.evaluate(heat, clip, asked, steps=2, metrics=metrics)
    assert len(plots.metric_points(measured, ["energy", "deletion_auc"], "Measured").axes) == len(metrics)


def test_every_photograph_is_read():
    assert not xk.open_source("photos").inputs(size=64).error.astype(bool).any()


def test_boxes_lie_on_their_objects(source):
    scenes = xk.open_source(source).inputs(size=64)
    assert (scenes.error == "").all()
    if "boxes" in source:
        bright = scenes.image.max("rgb").values > 128
        assert (scenes.object_mask.values[:, 0] != bright).mean() < 0.02


def test_a_box_that_is_none_is_named_with_its_line(tmp_path):
    (tmp_path / "captions.csv").write_text("image,caption,box\na.png,a cat,20 10 20")
    with pytest.raises(ValueError, match="line 2 has box='20 10 20', but 'left top width height' in pixels is needed"):
        xk.open_source(f"folder:{tmp_path}")


def test_planted_scenes_stand_in_where_all_is_measured_against_their_truth(source):
    with pytest.warns(UserWarning, match=f"data='{source}' gives has no planted truth, .*: 2 planted scenes are drawn"):
        scenes = xk.open_inputs("none", source, 2, None, {"world": "shapes", "size": 48, "seed": 3})
    assert scenes.sizes["y"] == 48 and {"token_object", "relation", "scene_seed"} <= {*scenes}
    assert "inputs_digest" in scenes.attrs["provenance"]


def test_the_explorer_shows_photographs(source):
    scenes = xk.open_inputs("none", source, 2)
    scenes["caption"] = scenes.caption.copy(data=["a red ring"] * 2)  # the words of the model
    app = xk.explore(scenes, model="tiny-clip", methods=["centre"])
    wanted = "named objects outlined" if "object_mask" in scenes else "no truth is known of this picture"
    assert wanted in app.notes.note["scene 0"]
    app.set(tab="words", method="grad_eclip", words=[1])
    assert app.picture is not None


def test_a_row_without_a_box_is_a_bad_sample(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text("image,caption,box\na.png,a cat,10 10 10 10\na.png,a dog, \n")
    found = xk.open_source(f"folder:{tmp_path}").inputs()
    assert found.error.values.tolist() == ["", "the box is empty: 'left top width height' in pixels is needed"]
    assert found.object_mask[0].any()
