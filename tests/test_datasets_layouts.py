"""Each published layout gives the samples that are in it: labels, captions, groups, classes, foils, masks."""

import numpy as np
import pytest
from dataset_fixtures import (
    BOX,
    CAPTIONS,
    SCENES,
    SVO_HEADER,
    WNIDS,
    opened,
    refused,
    save,
    svo_row,
    write_class_names,
    write_coco,
    write_coco_attributes,
    write_conceptual_captions,
    write_folder,
    write_imagenet,
    write_svo_probes,
    write_table,
)  # fmt: skip
from PIL import Image

from xaikit.samples.layouts import open_source


def shows(inputs, *scenes, name="image", within=12):
    """Whether the images are these scenes, up to what JPEG does."""
    difference = inputs[name].values.astype(int) - SCENES.image.values[list(scenes)].astype(int)
    return np.abs(difference).mean((1, 2, 3)).max() < within


def captions(source):
    return source.inputs(size=64).caption.values.tolist()


def test_coco_puts_the_captions_of_an_image_together(tmp_path, clip):
    source = opened("coco", tmp_path)
    assert source.labels.tolist() == ["139-0", "139-1", "42-0", "42-1"]
    assert source.labels.dtype == object and source.about == {"split": "val2017"}
    inputs = source.inputs(clip=clip)
    assert inputs.caption.values.tolist() == [CAPTIONS[k] for k in (0, 2, 1, 3)]
    assert inputs.image_id.values.tolist() == [139, 139, 42, 42]
    assert shows(inputs, 0, 0, 1, 1) and not inputs.error.any()
    assert inputs.token_text.values[0].tolist()[: len(CAPTIONS[0].split())] == CAPTIONS[0].replace(",", " ,").split()


def test_coco_in_a_folder_of_images_that_is_a_link(tmp_path):
    source = opened("coco", tmp_path / "coco")
    (tmp_path / "coco/val2017").rename(tmp_path / "elsewhere")
    refused(f"coco:{tmp_path / 'coco'}", r"no folder val2017 \(or images/val2017\) of images in .*cocodataset.org")
    (tmp_path / "coco/images").mkdir()
    (tmp_path / "coco/images/val2017").symlink_to(tmp_path / "elsewhere")
    inputs = open_source(f"coco:{tmp_path / 'coco'}").inputs(size=64)
    assert shows(inputs, 0, 0, 1, 1) and not inputs.error.any() and len(source) == 4


def test_karpathys_splits(tmp_path):
    source = opened("karpathy", tmp_path)
    assert source.labels.tolist() == ["391895-0", "391895-1", "5-0", "5-1"]
    assert captions(source) == [CAPTIONS[k] for k in (0, 4, 3, 7)]
    restval = open_source(f"coco:{tmp_path}#karpathy-restval")
    assert restval.labels.tolist() == ["483108-0", "483108-1"] and shows(restval.inputs(size=64), 2, 2)
    refused(f"coco:{tmp_path}#test", "no split 'test' of coco: there is karpathy-train, karpathy-restval")
    refused(f"coco:{tmp_path}#karpathy-train", "no image of the split karpathy-train")


def test_several_splits_without_a_usual_one(tmp_path):
    notes = write_coco(tmp_path) / "annotations"
    (notes / "captions_val2017.json").rename(notes / "captions_train2017.json")
    (tmp_path / "val2017").rename(tmp_path / "train2017")
    assert open_source(f"coco:{tmp_path}").about == {"split": "train2017"}
    (notes / "captions_train2014.json").write_text("{}")
    refused(f"coco:{tmp_path}", "several splits of coco, train2014, train2017: name one, as in 'coco:PATH#train2014'")


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("convention", ["img2dataset", "row", "row_crc", "crc"])
def test_conceptual_captions_as_each_tool_names_the_images(tmp_path, convention, header):
    source = opened("conceptual-captions", tmp_path, convention=convention, header=header)
    assert source.labels.tolist() == [*"012345"] and source.about == {"split": "validation"}
    inputs = source.inputs(size=64)
    assert inputs.caption.values.tolist() == CAPTIONS[:6]
    at = "images" if convention == "img2dataset" else "validation"
    told = [f"the image of row {row} isn't in {at}: it wasn't downloaded" if row in (2, 4) else "" for row in range(6)]
    assert inputs.error.values.tolist() == told
    assert shows(inputs.isel(sample=[0, 1, 3, 5]), 0, 1, 3, 5) and not inputs.image[[2, 4]].any()


def test_conceptual_captions_of_another_order_are_noticed(tmp_path):
    write_conceptual_captions(tmp_path / "a", "img2dataset")
    (tmp_path / "a/images/00000/000000001.txt").write_text('"another" caption')
    (tmp_path / "a/images/00001/000000003.txt").write_text(CAPTIONS[3].replace(" ", ' "') + "\n")
    inputs = open_source(f"conceptual-captions:{tmp_path / 'a'}").inputs()
    told = inputs.error.values[1]
    assert "images" not in told and "downloaded with another caption than that of row 1" in told
    assert (inputs.error == "").values.tolist() == [True, False, False, True, False, True]
    write_conceptual_captions(tmp_path / "b", "row_crc")
    next((tmp_path / "b/validation").glob("0_*")).rename(tmp_path / "b/validation/0_123")
    told = open_source(f"conceptual-captions:{tmp_path / 'b'}").inputs(slice(0, 2)).error.values.tolist()
    assert told == ["the image 0_123 is of another address than that of row 0", ""]


def test_conceptual_captions_with_both_tables(tmp_path):
    write_conceptual_captions(tmp_path, "img2dataset")
    (tmp_path / "Train_GCC-training.tsv").write_text(f"{CAPTIONS[0]}\thttp://example.org\n")
    refused(
        f"conceptual-captions:{tmp_path}#train",
        r"no images in .* \(looked for in training, train\): get the table at ai.google",
    )
    (tmp_path / "images").rename(tmp_path / "val")
    assert len(open_source(f"conceptual-captions:{tmp_path}")) == 6
    save(tmp_path / "train/00000/000000000.jpg", 7)
    source = open_source(f"conceptual-captions:{tmp_path}#train")
    assert len(source) == 1 and shows(source.inputs(size=64), 7)


@pytest.mark.parametrize("names", ["LOC_synset_mapping.txt", "classnames.txt", "imagenet_class_index.json"])
def test_imagenet_in_a_folder_a_class(tmp_path, names, clip):
    write_imagenet(tmp_path, names)
    source = open_source(f"imagenet:{tmp_path}")
    assert source.classes == ("red circle", "blue square", "green ring")
    assert source.prompts[0] == "a photo of a red circle."
    assert source.labels.tolist() == [f"ILSVRC2012_val_{k:08}" for k in range(1, 7)]
    inputs = source.inputs(clip=None, size=64)
    assert inputs.class_index.values.tolist() == [0, 1, 2, 0, 1, 2] and shows(inputs, *range(6))
    assert inputs.caption.values.tolist() == [source.prompts[k] for k in inputs.class_index.values]
    inner = open_source(f"imagenet:{tmp_path / 'val'}")
    assert inner.labels.tolist() == source.labels.tolist() and inner.classes == source.classes
    read = source.inputs(clip=clip)  # the bundled model has words alone, and reads over a full stop
    assert (read.error == "").all() and read.token_text.values[0].tolist() == ["a", "photo", "of", "a", "red", "circle"]
    assert clip.tokens("a red circle.").equal(clip.tokens("a red circle"))


def test_imagenet_of_kaggle(tmp_path):
    source = opened("kaggle", tmp_path)
    inputs = source.inputs(size=64)
    assert source.labels.tolist() == ["ILSVRC2012_val_00000001", "ILSVRC2012_val_00000002"]
    assert inputs.class_index.values.tolist() == [2, 1] and shows(inputs, 1, 0)


@pytest.mark.parametrize("kind", ["winoground", "parquet"])
def test_winoground_is_two_samples_an_example(tmp_path, kind, clip):
    source = opened(kind, tmp_path)
    assert source.labels.tolist() == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]
    inputs = source.inputs(clip=clip)
    one, other = "a red ring above a blue cross", "a blue cross above a red ring"
    assert inputs.caption.values.tolist() == [one, other] * 3 and inputs.foil.values.tolist() == [other, one] * 3
    assert inputs.pair.values.tolist() == [0, 0, 1, 1, 2, 2]
    assert shows(inputs, *range(6), within=1e-9 + 1) and not inputs.error.any()


def test_winogrounds_images_are_read_a_row_group_at_a_time(tmp_path, monkeypatch):
    from pyarrow.parquet import ParquetFile

    source = opened("parquet", tmp_path)
    read, groups = ParquetFile.read_row_group, []
    monkeypatch.setattr(
        ParquetFile, "read_row_group", lambda self, group, **k: groups.append(group) or read(self, group, **k)
    )
    source.inputs(slice(0, 4), size=64)
    assert groups == [0]
    source.inputs(slice(4, 6), size=64)
    assert groups == [0, 1]


def test_svo_probes_give_the_negative_image(tmp_path, clip):
    source = opened("svo-probes", tmp_path)
    inputs = source.inputs(clip=clip)
    assert inputs.sample.values.tolist() == [*"012"] and inputs.caption.values.tolist() == CAPTIONS[:3]
    assert shows(inputs, 0, 2, 2) and shows(inputs, 1, 0, 1, name="foil_image")
    assert inputs.attributes.values.tolist() == ["verb", "subject", "object"]
    assert inputs.image_id.values.tolist() == [7, 9, 9] and not inputs.error.any()


def test_a_bad_foil_makes_a_bad_sample(tmp_path):
    write_svo_probes(tmp_path)
    (tmp_path / "images/8.png").write_bytes(b"no picture")
    inputs = open_source(f"svo-probes:{tmp_path}").inputs(size=64)
    assert (inputs.error == "").values.tolist() == [False, True, False]
    assert str(inputs.error.values[0]).startswith("of the foil: the image images/8.png can't be read as an image")
    assert not inputs.image[0].any() and not inputs.foil_image[0].any() and inputs.foil_image[1].any()


def test_svo_probes_that_differ_in_several(tmp_path):
    write_svo_probes(tmp_path)
    rows = [svo_row(0, 7, 8, "TRUE", "false", "True"), svo_row(0, 7, 33, "False", "False", "False")]
    write_table(tmp_path / "svo_probes.csv", SVO_HEADER, rows)
    inputs = open_source(f"svo-probes:{tmp_path}").inputs(size=64)
    assert inputs.attributes.values.tolist() == ["subject, object", ""]
    assert inputs.error.values.tolist() == ["", "of the foil: there is no file images/33"]


def test_coco_attributes_name_the_strongest(tmp_path):
    source = opened("coco-attributes", tmp_path)
    assert source.labels.tolist() == ["11", "12"] and source.about == {"split": "val2014"}
    inputs = source.inputs(size=50)
    # Numbered 97 brown, 98 furry, 99 watching, 100 unhappy, which is the order of the votes 0.6, 0.9, 0.6, 0.2.
    assert inputs.attributes.values.tolist() == ["furry, brown, watching / looking", "unhappy"]
    assert inputs.caption.values.tolist() == [
        "a photo of a furry, brown, watching dog",
        "a photo of an unhappy umbrella",
    ]
    assert inputs.object_name.values.tolist() == [["dog"], ["umbrella"]] and inputs.object_named.all()
    assert inputs.image_id.values.tolist() == [7, 8] and not inputs.error.any()


def check_mask_lies_on_its_rectangle(inputs):
    """The image shows a white rectangle on black, and its mask is just what is more than half white."""
    white = inputs.image.values[0].mean(-1) > 127.5
    np.testing.assert_array_equal(inputs.object_mask.values[0, 0], white)
    assert 20 < white.sum() < white.size / 2


def test_the_mask_of_a_box_lies_on_the_object_without_a_model(tmp_path):
    source = opened("coco-attributes", tmp_path)
    for size in (50, 64, 224):
        check_mask_lies_on_its_rectangle(source.inputs(slice(0, 1), size=size))
    mask = source.inputs(slice(0, 1), size=100).object_mask.values[0, 0]
    expected = np.zeros((100, 100), bool)
    left, top, width, height = map(int, BOX)
    expected[top : top + height, max(left - 30, 0) : left + width - 30] = True  # the middle 100 of 160 columns are left
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_the_mask_of_a_box_lies_on_the_object_as_a_model_sees_it(tmp_path, clip, monkeypatch, mode):
    from open_clip.transform import image_transform

    source = opened("coco-attributes", tmp_path)
    # Its vocabulary has no dog.
    monkeypatch.setattr(type(clip), "token_strings", lambda self, texts: [texts[0].split()])
    transform = image_transform(64, False, (0.5,) * 3, (0.25,) * 3, mode, fill_color=0)
    monkeypatch.setattr(clip, "preprocess", transform)
    inputs = source.inputs(slice(0, 1), clip)
    assert inputs.error.item() == ""
    check_mask_lies_on_its_rectangle(inputs)
    if mode == "longest":  # where nothing was annotated: a margin of any colour is no object
        filled = image_transform(64, False, (0.5,) * 3, (0.25,) * 3, mode, fill_color=255)
        monkeypatch.setattr(clip, "preprocess", filled)
        np.testing.assert_array_equal(source.inputs(slice(0, 1), clip).object_mask, inputs.object_mask)


@pytest.mark.parametrize("size", [(80, 50), (40, 100)])
def test_a_box_of_another_image_is_noticed(tmp_path, size):
    write_coco_attributes(tmp_path)
    Image.new("RGB", size).save(tmp_path / "val2014/COCO_val2014_000000000007.png")
    inputs = open_source(f"coco-attributes:{tmp_path}").inputs()
    assert f"isn't inside the image of {size[0]} x {size[1]} pixels" in inputs.error.values[0]
    assert inputs.error.values[1] == ""
    assert not inputs.object_mask[0].any() and not inputs.image[0].any() and inputs.object_mask[1].all()


@pytest.mark.parametrize(
    ("header", "separator"), [(("image", "caption"), ","), (("filepath", "title"), "\t"), (("file", "caption"), ",")]
)
def test_a_folder_of_ones_own(tmp_path, clip, header, separator):
    inputs = opened("folder", tmp_path, n=4, header=header, separator=separator).inputs(clip=clip)
    assert inputs.sample.values.tolist() == ["00.png", "01.png", "02.png", "03.png"]
    assert inputs.caption.values.tolist() == CAPTIONS[:4] and shows(inputs, 0, 1, 2, 3, within=1)
    assert inputs.image_id.values.tolist() == [0, 1, 2, 3] and not inputs.error.any()


def test_a_folder_with_classes_foils_and_pairs(tmp_path):
    write_folder(tmp_path, 3)
    rows = [("00.png", "one, two", "ring", "x", 4), ("01.png", "b", "cross", "", -1), ("00.png", "c", "ring", "z", 4)]
    write_table(tmp_path / "captions.csv", ["image", "caption", "class", "foil", "pair"], rows)
    source = open_source(f"folder:{tmp_path}")
    assert source.classes == ("cross", "ring") and source.prompts == ("a photo of a cross.", "a photo of a ring.")
    inputs = source.inputs(size=64)
    assert inputs.sample.values.tolist() == ["00.png", "00.png-1", "01.png"] and shows(inputs, 0, 0, 1, within=1)
    assert inputs.caption.values.tolist() == ["one, two", "c", "b"] and inputs.foil.values.tolist() == ["x", "z", ""]
    assert inputs.class_index.values.tolist() == [1, 1, 0] and inputs.pair.values.tolist() == [4, 4, -1]
    assert inputs.image_id.values.tolist() == [0, 0, 1] and not inputs.error.astype(bool).any()


def test_names_of_all_classes_are_needed(tmp_path):
    write_imagenet(tmp_path, None)
    refused(
        f"imagenet:{tmp_path}",
        "3 class folders in .*not ImageNet's 1000.*put LOC_synset_mapping.txt, classnames.txt or",
    )
    write_class_names(tmp_path / "classnames.txt")
    save(tmp_path / "val/n99999999/x.JPEG", format="JPEG")
    refused(f"imagenet:{tmp_path}", "the class n99999999 of .*val isn't in the file of class names")
    assert len(WNIDS) == 3
