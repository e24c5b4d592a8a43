"""Photographs with captions instead of planted scenes: what is known of them decides what is drawn and measured."""

import numpy as np
import pytest
from PIL import Image
from refusals import refused

import xaikit as xk
from xaikit import evaluation, plots


@pytest.fixture(scope="module", params=["photos", "boxes", "masks", "captions"])
def source(request, tmp_path_factory):
    """The photographs by name; folders with captions and boxes, or masks; one with captions alone."""
    if request.param == "photos":
        return "photos"
    folder = tmp_path_factory.mktemp(request.param)
    header, entry = {
        "boxes": (",box,object", ",20 10 20 20,square"),
        "masks": (",mask,object", ",{}-mask.png,square"),
        "captions": ("", ""),
    }[request.param]
    rows = ["image,caption" + header]
    for index in range(3):
        picture = np.zeros((40, 60, 3), np.uint8)
        picture[10:30, 20:40, index] = 255
        Image.fromarray(picture).save(folder / f"{index}.png")
        Image.fromarray(picture.max(-1) // (255, 1, 2)[index]).save(folder / f"{index}-mask.png")  # 1, 255, 127
        rows.append(f"{index}.png,a square" + entry.format(index))
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
    if "boxes" in source or "masks" in source:
        bright = scenes.image.max("rgb").values > 128
        assert (scenes.object_mask.values[:, 0] != bright).mean() < 0.02


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


MASKS = {  # entry of the column: what is said, where it is no mask of its picture
    "": "the mask is empty: the name of a picture is needed",
    "none.png": "there is no file none.png",
    "../out.png": "the file name 'out.png' leads out of the dataset's folder|leads out",
    "small.png": "the mask has 20 x 15 pixels, but its image 40 x 30",
    "black.png": "the mask black.png has the values 0: a mask has one beside 0, where the object is",
    "classes.png": "the mask classes.png has the values 0, 1, 2: a mask has one beside 0",
    "colour.png": "the mask colour.png has mode 'RGB': a mask is grey, of two colours, or has a palette",
    "text.png": "the mask text.png can't be read as an image",
}


@pytest.mark.parametrize("entry", MASKS)
def test_what_is_no_mask_of_its_picture_is_a_bad_sample(tmp_path, entry):
    grey = np.zeros((30, 40), np.uint8)
    Image.fromarray(grey).save(tmp_path / "black.png")
    grey[5:, 10:20], grey[20:, 10:20] = 1, 2
    Image.fromarray(grey).save(tmp_path / "classes.png")
    Image.fromarray(grey.clip(0, 1)).save(tmp_path / "right.png")
    Image.fromarray(grey.clip(0, 1)[:15, :20]).save(tmp_path / "small.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "colour.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "captions.csv").write_text(
        f"image,caption,mask\ncolour.png,a cat,right.png\ncolour.png,a dog,{entry}\n"
    )
    found = xk.open_source(f"folder:{tmp_path}").inputs()
    good, bad = found.error.values
    assert good == "" and found.object_mask[0].any() and not found.object_mask[1].any()
    assert any(said in bad for said in MASKS[entry].split("|"))


@pytest.mark.parametrize("kind", ["1", "P", "I;16"])
def test_masks_of_two_colours_with_a_palette_or_16_bits_are_read(tmp_path, kind):
    shown = np.zeros((30, 40), np.uint8)
    shown[5:25, 10:20] = 1
    mask = Image.fromarray(shown.astype(np.uint16 if kind == "I;16" else bool if kind == "1" else np.uint8))
    if kind == "P":
        mask.putpalette([255, 255, 255, 0, 0, 0])  # the object is painted black: its index counts
    mask.save(tmp_path / "mask.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text("image,caption,mask\na.png,a cat,mask.png\n")
    found = xk.open_source(f"folder:{tmp_path}").inputs(size=30)
    assert found.error.item() == ""
    np.testing.assert_array_equal(found.object_mask[0, 0], shown[:, 5:35])


def test_a_mask_that_was_replaced_makes_another_sample(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    Image.new("L", (40, 30), 1).save(tmp_path / "mask.png")
    (tmp_path / "captions.csv").write_text("image,caption,mask\na.png,a cat,mask.png\n")
    before = xk.open_source(f"folder:{tmp_path}").digest()
    half = np.zeros((30, 40), np.uint8)
    half[:, :20] = 255
    Image.fromarray(half).save(tmp_path / "mask.png")
    assert xk.open_source(f"folder:{tmp_path}").digest() != before


def test_bad_samples_are_no_black_pictures(clip, tmp_path):
    """In a folder of which one picture is fine, one is no picture, and one is missing."""
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    (tmp_path / "captions.csv").write_text("image,caption\n" + "".join(f"{name}.png,a red ring\n" for name in "abc"))
    own = xk.open_source(f"folder:{tmp_path}").inputs(clip=clip)
    heat = xk.explain("centre", clip, own.image.values, "a red ring").assign_coords(sample=own.sample)
    for call, *given in ((xk.explain, "centre", clip, own.image, own.caption), (xk.evaluate, heat, clip, own)):
        refused(r"2 of 3 samples can't be used, such as b.png: .*; leave them out by", call, *given)
    found = xk.explain("centre", clip, own.image, own.caption, errors="record")
    assert [bool(reason) for reason in found.error.values] == [False, True, True]
    assert found.error.values[1] == own.error.values[1]
    good = own.isel(sample=own.error == "")
    heat = xk.explain("centre", clip, good.image, good.caption)
    assert xk.evaluate(heat, clip, good, metrics="deletion_auc").sizes["sample"] == 1
