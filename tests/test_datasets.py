"""Sources: by one string, lazy, in shares, told apart, kept inside their folder, with bad samples recorded."""

import re
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from dataset_fixtures import (
    CAPTIONS,
    KINDS,
    SCENES,
    bomb,
    opened,
    picture,
    refused,
    save,
    write_captions,
    write_coco,
    write_folder,
    write_json,
)  # fmt: skip
from PIL import Image

import xaikit as xk
from xaikit.evaluation.inputs import PLANTED, TRUTH
from xaikit.evaluation.metrics import all_metrics
from xaikit.files import images, store
from xaikit.samples.layouts import open_source
from xaikit.samples.source import first_good


@pytest.fixture(params=KINDS)
def source(request, tmp_path):
    return opened(request.param, tmp_path / "data")


def test_planted_scenes_are_the_default():
    source = open_source()
    assert len(source) == 64 and source.layout == "planted" and source.about["kind"] == "captions"
    pairs = open_source("planted", n=4, seed=2, kind="pairs").inputs()
    assert pairs.foil.values[0] == pairs.caption.values[1]
    assert open_source(n=5, kind="classes").classes


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"data": "winogroud:x"},
            "data='winogroud:x': give 'planted', 'photos' or 'LAYOUT:PATH', LAYOUT one of winoground, ",
        ),
        ({"data": "COCO"}, "one of coco, coco-attributes, .*, such as 'coco:data/coco'"),
        ({"data": 5}, "data=5: give 'planted', 'photos' or"),
        ({"data": "coco:"}, "data='coco:': give"),
        ({"n": 0}, "n=0: a whole number of at least 1"),
        ({"kind": "photos"}, "kind='photos': choose from captions, classes, pairs"),
    ],
)
def test_impossible_sources(choice, message):
    with pytest.raises(ValueError, match=message):
        open_source(**choice)


def test_paths_and_splits(tmp_path):
    refused(f"folder:{tmp_path}/none", "there is no folder .*/none$")
    refused(f"folder:{tmp_path}/none#val", "there is no folder .*/none$")
    write_folder(tmp_path / "a#b", 2)
    assert len(open_source(f"folder:{tmp_path}/a#b")) == 2
    refused(f"folder:{tmp_path}/a#b#val", "folder has no splits, but 'val' is asked for: leave '#val' out")
    assert open_source(f"folder:{tmp_path}/a#b", n=1).labels.tolist() == ["00.png"]
    write_coco(tmp_path / "a#b")
    assert open_source(f"coco:{tmp_path}/a#b#val2017").about == {"split": "val2017"}


def test_every_layout_is_lazy(source, monkeypatch):
    """Opening, sizing and telling apart read no image; inputs read those that are asked for, once."""
    decoded = []

    def count(file, label):
        decoded.append(label)
        return picture(0)

    assert len(source) == len(source.labels) and source.digest() and source.blocks()
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: pytest.fail("an image was opened"))
    monkeypatch.setattr("xaikit.samples.tables.decode", count)
    monkeypatch.setattr("xaikit.samples.published.foils.decode", count)
    assert replace(source).digest() == source.digest() and source.head(2).blocks() and not decoded
    source.inputs(slice(0, 1), size=8)
    assert len(decoded) == (2 if source.layout == "svo-probes" else 1)


def test_every_layout_keeps_the_schema_and_the_rows(source):
    whole = source.inputs(size=32)
    store.validate(whole, "inputs")
    assert whole.sample.values.tolist() == source.labels.tolist() and whole.image.shape[1:] == (32, 32, 3)
    about = store.provenance(whole)
    assert about["layout"] == source.layout and "/" not in str(source.about)
    some = source.inputs(slice(1, 2), size=32)
    for name, values in some.items():
        if name != "token_text":
            xr.testing.assert_identical(values.drop_attrs(), whole[name][1:2].drop_attrs())
    xr.testing.assert_identical(source.inputs(size=32), whole)
    assert source.head(2).inputs(size=32).sample.values.tolist() == source.labels[:2].tolist()
    assert source.head(10**6).digest() == source.digest() != source.head(1).digest()
    assert source.head(2).digest() == source.digest(slice(0, 2))


def test_the_digest_changes_with_what_the_tables_say(tmp_path):
    write_folder(tmp_path, 3)
    before = open_source(f"folder:{tmp_path}")
    assert before.digest() == open_source(f"folder:{tmp_path}").digest() and len(before.digest()) == 16
    for row in (["00.png", CAPTIONS[1]], ["02.png", CAPTIONS[0]]):
        write_captions(tmp_path, row, ("01.png", CAPTIONS[1]))
        after = open_source(f"folder:{tmp_path}")
        assert after.digest(slice(0, 1)) != before.digest(slice(0, 1))
        assert after.digest(slice(1, 2)) == before.digest(slice(1, 2))
    named = opened("imagenet", tmp_path / "imagenet")
    assert replace(named, prompts=named.prompts[::-1]).digest() != named.digest()


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "link.png", "inner/x.png", "a\0b", "", "loop", "a" * 5000]
)
def test_names_that_lead_out_are_recorded(tmp_path, name):
    save(tmp_path / "secret.png")
    folder = write_folder(tmp_path / "data", 2)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "inner").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    save(tmp_path / "x.png")
    write_captions(folder, ("00.png", CAPTIONS[0]), (name, CAPTIONS[1]), ("01.png", CAPTIONS[1]))
    inputs = open_source(f"folder:{folder}").inputs(size=64)
    assert (inputs.error == "").values.tolist() == [True, False, True] and not inputs.image[1].any()
    told = inputs.error.values[1]
    assert re.search("leads out of the dataset's folder data|no file|can't be one|is empty|holds a NUL", told)
    assert ("leads out" in told) == (name in ("../secret.png", "/etc/hostname", "link.png", "inner/x.png"))
    assert str(tmp_path) not in told


def test_names_in_the_tables_of_coco_cannot_widen_what_is_read(tmp_path):
    """The folder of the images may be a link; what a name adds to it may not lead out of it."""
    save(tmp_path / "secret.jpg")
    folder = write_coco(tmp_path / "coco")
    names = ["../../secret.jpg", "sub/../../../secret.jpg", str(tmp_path / "secret.jpg"), "000000000139.jpg"]
    listed = [{"id": k, "file_name": name} for k, name in enumerate(names)]
    notes = [{"image_id": k, "caption": "a red ring"} for k in range(4)]
    write_json(folder / "annotations/captions_val2017.json", {"images": listed, "annotations": notes})
    told = open_source(f"coco:{folder}").inputs(size=64).error.values.tolist()
    assert all("leads out of the dataset's folder" in reason for reason in told[:2])
    assert told[2].startswith("there is no file val2017/") and told[3] == ""
    write_json(folder / "dataset_coco.json", {"images": [
        {"cocoid": 1, "filepath": "..", "filename": "secret.jpg", "split": "test", "sentences": [{"raw": "a red ring"}]}
    ]})  # fmt: skip
    refused(f"coco:{folder}#karpathy-test", "the filepath '..' is no plain name of a folder")


def test_bombs_are_refused_by_their_header(tmp_path):
    for content, message in (
        (bomb(), "more than 179 megapixels, more than the 160 that are taken"),
        (bomb(13_000, 13_000), r"13000 x 13000 pixels \(169 megapixels\), more than the 160 that are taken"),
        (bomb(1, 3_001), "1 x 3001 pixels: no side may be more than 3000 times as long as the other"),
        (bomb(10_000, 10_000), "truncated"),  # 100 megapixels are a camera's: only its content is missing
    ):
        (tmp_path / "a.png").write_bytes(content)
        with warnings.catch_warnings(), pytest.raises(ValueError, match=f"image 0: .*a.png .*{message}"):
            warnings.simplefilter("error")
            images.read_image(tmp_path / "a.png")


def test_a_program_is_never_started_for_a_picture(tmp_path, monkeypatch):
    """PostScript under another name would be handed to Ghostscript."""
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: pytest.fail("a program was started"))
    save(tmp_path / "a.eps", format="EPS")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="none of the formats BMP, GIF, JPEG"):
        images.read_image(tmp_path / "a.jpg")


def test_pictures_of_every_kind_are_read(tmp_path):
    picture(0).save(tmp_path / "a.webp", lossless=True)
    for suffix in ("bmp", "png", "tiff", "ppm"):
        picture(0).save(tmp_path / f"a.{suffix}")
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(images.read_image(path), SCENES.image.values[0])


def test_captions_that_a_model_cannot_take(tmp_path, clip):
    folder = write_folder(tmp_path, 3)
    write_captions(folder, ("00.png", " "), ("01.png", "a green dragon"), ("02.png", "a red ring"))
    source = open_source(f"folder:{folder}")
    told = source.inputs(clip=clip).error.values.tolist()
    assert told[0].startswith("the caption is empty") and told[2] == ""
    assert told[1].startswith("caption ('a green dragon'): the word 'dragon' is outside the model's vocabulary")
    assert source.inputs().error.values.tolist()[1] == ""


def test_images_are_cropped_as_the_model_crops_them(tmp_path, clip):
    folder = write_folder(tmp_path, 2)
    Image.fromarray(np.hstack([SCENES.image.values[0]] * 2)).save(folder / "00.png")
    source = open_source(f"folder:{folder}")
    np.testing.assert_array_equal(source.inputs(clip=clip).image[0], clip.seen(folder / "00.png"))
    middle = np.hstack([SCENES.image.values[0]] * 2)[:, 32:96]
    np.testing.assert_array_equal(source.inputs(size=64).image[0], middle)


def test_an_image_with_several_captions_is_read_once(tmp_path, monkeypatch):
    source = opened("coco", tmp_path)
    read = []
    inner = source.read
    counting = replace(source, read=lambda entry: read.append(entry) or inner(entry))
    counting.inputs(size=16)
    assert read == ["val2017/000000000139.jpg", "val2017/000000000042.jpg"]


@pytest.mark.filterwarnings("ignore:.* samples of the folder dataset can't be used")
def test_the_first_good_samples(tmp_path):
    folder = write_folder(tmp_path, 40)
    for broken in (0, 3, 33, 35):
        (folder / f"{broken:02}.png").unlink()
    source = open_source(f"folder:{folder}")
    with pytest.warns(
        UserWarning, match="^4 samples of the folder .* left out: 00.png: there is .*; 03.png: .*; and 1 more$"
    ):
        good = first_good(source, 33)
    assert good.sample.values.tolist() == [f"{k:02}.png" for k in range(37) if k not in (0, 3, 33, 35)]
    told = {f"{k:02}.png": f"there is no file {k:02}.png" for k in (0, 3, 33, 35)}
    assert store.provenance(good)["left_out"] == told and "error" not in good.coords
    assert [*store.provenance(first_good(source, 2))["left_out"]] == ["00.png"]
    assert len(first_good(source, 100).sample) == 36
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no good sample; the first one, 00.png: there is no file 00.png"):
        first_good(source, 1)


@pytest.mark.filterwarnings("ignore:.* samples of the folder dataset can't be used")
def test_a_dataset_as_the_inputs_of_a_run(tmp_path, clip):
    folder = write_folder(tmp_path / "data", 5)
    (folder / "01.png").unlink()
    inputs = xk.open_inputs("no-run", f"folder:{folder}", n=3, clip=clip)
    assert inputs.sample.values.tolist() == ["00.png", "02.png", "03.png"] and inputs.image.shape[1:] == (64, 64, 3)
    about = store.provenance(inputs)
    assert about["inputs_digest"] == store.inputs_digest(inputs) and [*about["left_out"]] == ["01.png"]
    path = store.write(inputs, tmp_path / "kept.nc", "inputs")
    xr.testing.assert_identical(xk.open_inputs("no-run", str(path)), inputs)
    assert xk.open_inputs("no-run", str(path), n=2).sizes["sample"] == 2
    assert xk.open_inputs("no-run", f"folder:{folder}").image.shape[1:] == (224, 224, 3)
    with pytest.raises(ValueError, match="n=0"):
        xk.open_inputs("no-run", str(path), n=0)
    with pytest.raises(ValueError, match="LAYOUT one of folder"):
        xk.open_inputs("no-run", f"foldr:{folder}")


def test_photographs_without_masks_are_explained_and_evaluated(tmp_path, clip):
    source = opened("folder", tmp_path, n=4)
    inputs = source.inputs(clip=clip)
    heat = xk.explain("grad_eclip", clip, inputs.image, inputs.caption)
    planted = SCENES.isel(sample=slice(4)).assign_coords(sample=inputs.sample)
    truth = xk.explain("grad_eclip", clip, planted.image, planted.caption)
    np.testing.assert_allclose(heat, truth, atol=1e-5)
    measured = xk.evaluate(heat, clip, inputs, steps=2)
    everything = xk.evaluate(truth, clip, planted, steps=2)
    localisation = {"pointing_game", "energy", "iou_best", "iou_otsu", "average_precision", "auroc", "smallest_share"}
    localisation |= {"energy_of_possible", "iou_of_possible"}
    interventions = {"effect_correlation", "best_object", "unused_heat"}  # of scenes that can be drawn again
    of_truth = {name for name, one in all_metrics("image").items() if {*one.needs} & {*TRUTH, *PLANTED}}
    assert localisation | interventions <= of_truth == {*everything} - {*measured}
    for name, values in measured.items():
        np.testing.assert_allclose(values, everything[name], atol=1e-4, err_msg=name)
    message = "the metric 'energy' compares maps with the objects' masks, and the scenes have none"
    with pytest.raises(ValueError, match=message):
        xk.evaluate(heat, clip, inputs, metrics=["flat", "energy"])
    words = xk.explain("grad_eclip", clip, inputs.image, inputs.caption, of="text")
    assert "content_share" in xk.evaluate(words, clip, inputs, steps=2)


def test_boxes_are_truth_for_evaluate(tmp_path, clip, monkeypatch):
    # Its vocabulary has no dog.
    monkeypatch.setattr(type(clip), "token_strings", lambda self, texts: [texts[0].split()])
    inputs = opened("coco-attributes", tmp_path).inputs(clip=clip)
    mask = inputs.object_mask.any("object")
    heat = mask.coarsen(y=8, x=8).mean().rename(y="row", x="col").rename("heat")
    measured = xk.evaluate(heat, clip, inputs, metrics=["pointing_game", "energy"])
    assert (measured.pointing_game == 1).all() and (measured.energy > 0.5).all()


def test_a_block_without_a_good_sample_is_black(tmp_path):
    folder = write_folder(tmp_path, 2)
    for path in folder.glob("*.png"):
        path.unlink()
    inputs = open_source(f"folder:{folder}").inputs(size=8)
    assert (inputs.error != "").all() and not inputs.image.any() and inputs.token_text.shape == (2, 1)


def test_importing_the_datasets_needs_neither_torch_nor_parquet():
    code = (
        "import sys, xaikit.samples.layouts as d; d.open_source();"
        "assert not {'torch', 'open_clip', 'pyarrow.parquet'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
