"""Data is read by its names, never by its place alone, and what a table or a file doesn't fit costs its own sample."""

import json
import os

import numpy as np
import pytest
import torch
import xarray as xr
from dataset_fixtures import write_conceptual_captions, write_folder, write_imagenet
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageDraw, ImageOps
from refusals import refused

import xaikit as xk
from xaikit.evaluation import protocols
from xaikit.evaluation.retrieval import paired_similarity
from xaikit.samples.tables import PicturesIn

SCENES = xk.draw_scenes(4, seed=0, objects=(2, 3))


@given(
    dims=st.permutations(["sample", "y", "x", "rgb"]),
    order=st.permutations(range(4)),
    colours=st.permutations(range(3)),
)
@settings(max_examples=12, deadline=None)
def test_maps_follow_names_of_dimensions_colours_and_samples(clip, dims, order, colours):
    """Whatever order images, their colours and their captions stand in, a sample's map is its own."""
    wanted = xk.explain("grad_eclip", clip, SCENES.image, SCENES.caption)
    images = SCENES.image.isel(rgb=list(colours)).transpose(*dims)
    unnamed = SCENES.caption[list(order)].to_series().rename_axis(None)
    for texts in (SCENES.caption[list(order)], SCENES.caption[list(order)].to_series(), unnamed):
        found = xk.explain("grad_eclip", clip, images, texts)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    found = xk.explain("grad_eclip", clip, images.isel(sample=list(order)), SCENES.caption)
    np.testing.assert_allclose(found.sel(sample=wanted.sample), wanted, atol=1e-5)


def unexplained(clip, images, texts, says):
    refused(says, xk.explain, "edge", clip, images, texts)


def test_names_of_others_are_refused(clip):
    images, captions = SCENES.image, SCENES.caption
    other, twice = (captions.assign_coords(sample=[first, 1, 2, 3]) for first in (7, 1))
    unexplained(clip, images, other, "the texts are of the samples 7, 1, 2, ..., but the images of 0, 1, 2, ...")
    unexplained(clip, images, twice, "but the images of 0, 1, 2, ...")
    renamed = images.rename(rgb="channel")
    unexplained(clip, renamed, captions, r"the images have the dimensions .*: sample, y, x, rgb are needed")
    refused("sample, y, x, rgb are needed", clip.pixels, renamed)
    bare = xr.DataArray(images.values)  # without names there is only the place
    np.testing.assert_array_equal(clip.pixels(bare), clip.pixels(images))
    forward = paired_similarity(clip, images, captions)
    np.testing.assert_allclose(paired_similarity(clip, images.T, captions[::-1]), forward, atol=1e-6)


BOX = (20, 12, 60, 40)  # left, top, width, height, on a picture of 160 x 120


def write_boxes(root, files, size=(160, 120)):
    """A dataset with BOX on every picture, which is red just there, each saved as it is told."""
    drawn = Image.new("RGB", (160, 120), "gray")
    ImageDraw.Draw(drawn).rectangle((20, 12, 79, 51), fill="red")
    (root / "annotations").mkdir(parents=True)
    (root / "val2014").mkdir()
    for k, change in enumerate(files):
        picture, orientation = change(drawn)
        note = Image.Exif()
        note[0x0112] = orientation
        picture.save(root / "val2014" / f"{k}.png", exif=note)
    n, sizes = range(len(files)), {} if size is None else {"width": size[0], "height": size[1]}
    value = {
        "categories": [{"id": 1, "name": "dog"}],
        "images": [{"id": k, "file_name": f"{k}.png", **sizes} for k in n],
    }
    value["annotations"] = [{"id": 9 + k, "image_id": k, "category_id": 1, "bbox": BOX} for k in n]
    (root / "annotations/instances_val2014.json").write_text(json.dumps(value))
    value = {"attributes": [{"id": 1, "name": "red"}], "split": {str(k): "val2014" for k in n}}
    value |= {"patch_id_to_ann_id": {str(k): 9 + k for k in n}, "ann_vecs": {str(k): [1.0] for k in n}}
    (root / "cocottributes.json").write_text(json.dumps(value))
    return xk.open_source(f"coco-attributes:{root}").inputs()


CHANGES = {
    "as annotated": (lambda image: (image, 1), ""),
    "half": (lambda image: (image.resize((80, 60)), 1), ""),
    "double": (lambda image: (image.resize((320, 240)), 1), ""),
    "odd size": (lambda image: (image.resize((111, 83)), 1), ""),
    "cut": (lambda image: (image.crop((0, 0, 120, 120)), 1), "but its box was annotated on 160 x 120"),
    "squeezed": (lambda image: (image.resize((160, 100)), 1), "but its box was annotated on 160 x 120"),
    "on its side": (
        lambda image: (image.rotate(90, expand=True), 1),
        "has 120 x 160 pixels, but its box was annotated",
    ),
    **{
        f"note {k}": (lambda image, k=k: (image, k), "its EXIF note turns the image" if k < 5 else "has 120 x 160")
        for k in range(2, 9)
    },
    "upright by its note": (lambda image: (image.rotate(90, expand=True), 6), ""),
}


def test_boxes_lie_on_their_object_or_their_sample_is_bad(tmp_path):
    found = write_boxes(tmp_path, [change for change, _ in CHANGES.values()])
    for k, (name, (_, says)) in enumerate(CHANGES.items()):
        reason = str(found.error.values[k])
        assert says in reason if says else reason == "", (name, reason)
        red = (found.image.values[k][..., 0] > 180) & (found.image.values[k][..., 1] < 90)
        mask = found.object_mask.values[k, 0]
        assert says or (red & mask).sum() / (red | mask).sum() > 0.9, name


@pytest.mark.parametrize("box", ["0.1 0.2 0.5 0.4", "0 0 1 1"])
def test_a_box_in_shares_of_its_image_is_a_bad_sample(tmp_path, box):
    write_folder(tmp_path, 1)
    (tmp_path / "captions.csv").write_text(f"image,caption,object,box\n00.png,a dog,dog,{box}\n")
    assert "is less than a pixel: shares" in str(xk.open_source(f"folder:{tmp_path}").inputs().error.values[0])


def test_pixels_that_were_never_normalised_are_refused(clip):
    pixels = torch.from_numpy(SCENES.image.values).permute(0, 3, 1, 2).float()
    one = torch.cat([clip.pixels(SCENES.image[:1]), pixels[1:2]])
    unexplained(clip, pixels, SCENES.caption, "image 0 holds pixels up to 2")
    refused("image 1 holds pixels up to 1", clip.similarity, one, SCENES.caption[:2])
    found = xk.explain("edge", clip, one, list(SCENES.caption.values[:2]), errors="record")
    assert [bool(reason) for reason in found.error.values] == [False, True]


def test_boxes_without_a_size_are_taken_as_they_are(tmp_path):
    found = write_boxes(tmp_path, [lambda image: (image, 1), lambda image: (image, 6)], size=None)
    assert found.error.values[0] == "" and "EXIF" in found.error.values[1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_note_counts_for_a_picture_as_it_was_opened(clip, tmp_path, orientation):
    rng = np.random.default_rng(0)
    stored, note = Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)), Image.Exif()
    note[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=note)
    upright = clip.pixels([np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))])
    for image in (
        tmp_path / "a.png",
        Image.open(tmp_path / "a.png"),
        ImageOps.exif_transpose(Image.open(tmp_path / "a.png")),
    ):
        np.testing.assert_array_equal(clip.pixels([image]), upright)
    for turn in range(7):  # whatever its user does, a picture in memory is taken as it looks
        turned = Image.open(tmp_path / "a.png").transpose(Image.Transpose(turn))
        np.testing.assert_array_equal(clip.pixels([turned]), clip.pixels([np.asarray(turned)]))


def test_results_are_of_the_files_that_are_there_and_stay_as_they_were_opened(clip, tmp_path):
    write_folder(tmp_path / "data", 3)

    def explained(method="edge"):
        return xk.explain_source(method, clip, xk.open_source(f"folder:{tmp_path / 'data'}"), tmp_path / "maps")

    first = explained()
    other = explained("centre")  # into the same folder, while the first is open
    assert (
        first.explainer.item() == "edge"
        and first.heat.values.std(0).max() > 0
        and other.heat.values.std(0).max() < 1e-6
    )
    was = first.heat.values.copy()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "data/01.png")
    again = explained().load()
    assert (again.heat.values[0] == was[0]).all() and (again.heat.values[1] != was[1]).any()
    np.testing.assert_array_equal(first.heat.values, was)
    (tmp_path / "data/02.png").write_bytes(b"")
    assert explained().error.values.astype(bool).tolist() == [False, False, True]


@given(order=st.permutations(range(9)))
@settings(max_examples=8, deadline=None)
def test_pairs_count_wherever_they_stand_and_what_is_none_says_so(clip, tmp_path_factory, order):
    """Four pairs and one without a partner, in any order of the table."""
    root = tmp_path_factory.mktemp("pairs")
    for k in range(4):
        Image.fromarray(SCENES.image.values[k]).save(root / f"{k}.png")
    rows = [f'{k % 4}.png,"{SCENES.caption.values[k % 4]}",{k // 2}' for k in range(9)]
    (root / "captions.csv").write_text("image,caption,pair\n" + "\n".join(rows[k] for k in order))
    source = xk.open_source(f"folder:{root}")
    found = protocols.winoground(clip, source, ["edge"], root / "parts").load()
    finite = np.isfinite(found.similarity.values)
    assert finite.sum() == 8 and (finite == (found.error.values == "")).all()
    assert str(found.error.values[~finite][0]) == "of pair 4 there are 1 samples: two make a pair"
    cut = protocols.winoground(clip, source.head(3), ["edge"], root / "cut").load()
    assert np.isfinite(cut.similarity.values).sum() == 2
    assert "left out: its partner is bad, or isn't among the samples" in str(cut.error.values)
    assert protocols.winoground(clip, source.head(3), ["edge"], root / "cut").identical(cut)  # and isn't computed again


@pytest.mark.parametrize(
    ("cells", "classes", "bad"),
    [
        (("dog", "dog ", "\u00a0dog", "cat"), ("cat", "dog"), ()),
        (("hot  dog", "hot dog", " hot\u2003dog ", "cat"), ("cat", "hot dog"), ()),
        (("caf\u00e9", "cafe\u0301", "cat", "cat"), ("caf\u00e9", "cat"), ()),
        (("dog", "", "  ", "cat"), ("cat", "dog"), (1, 2)),
        (("dog", "dog\u200b", "\ufeffdog", "do\u00adg"), ("dog",), ()),
        (("dog", "\u200b", "cat", "cat"), ("cat", "dog"), (1,)),
    ],
)
def test_names_that_look_alike_are_one_class_and_an_empty_one_none(tmp_path, cells, classes, bad):
    write_folder(tmp_path, 4)
    rows = "".join(f"{k:02}.png,a photo,{cell}\n" for k, cell in enumerate(cells))
    (tmp_path / "captions.csv").write_text("image,caption,class\n" + rows, encoding="utf-8")
    source = xk.open_source(f"folder:{tmp_path}")
    errors = source.inputs().error.values
    assert sorted(source.classes) == sorted(classes)
    assert tuple(np.flatnonzero(errors != "")) == bad and all("the class is empty" in errors[k] for k in bad)


@pytest.mark.parametrize("column", ["image", "caption", "foil", "class"])
def test_a_nul_costs_its_own_row_in_every_column(tmp_path, clip, column):
    write_folder(tmp_path / "data", 3)
    rows = [
        {"image": f"{k:02}.png", "caption": "a red circle", "foil": "a blue circle", "class": "dog"} for k in range(3)
    ]
    rows[1][column] = "a\0b" if column != "image" else "01\0.png"
    text = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)])
    (tmp_path / "data/captions.csv").write_bytes(text.encode())
    source = xk.open_source(f"folder:{tmp_path / 'data'}")
    found = xk.explain_source("edge", clip, source, tmp_path / "maps")
    if column != "class":  # which no store holds
        assert found.error.values.astype(bool).tolist() == [False, True, False]
    xk.files.write(source.inputs(), tmp_path / "inputs.nc", "inputs")


def test_a_nul_in_a_prompt_is_refused(clip):
    unexplained(clip, SCENES.image[:1], "a red\0 circle", "text 0 .* holds a NUL character")


PASSED_OVER = (b"._one.JPEG", b".one.jpg", b"._.png", b".DS_Store", b"Thumbs.db", b"notes.txt", b"\xff\xfe.jpg")


def test_hidden_files_and_names_that_are_no_text_are_no_images(tmp_path):
    write_imagenet(tmp_path / "i")
    write_conceptual_captions(tmp_path / "c", "row")
    sources = f"imagenet:{tmp_path / 'i'}", f"conceptual-captions:{tmp_path / 'c'}"
    before = [xk.open_source(data).inputs() for data in sources]
    for folder in (*(tmp_path / "i/val").iterdir(), tmp_path / "c/validation"):
        for name in PASSED_OVER:
            (folder / os.fsdecode(name)).write_bytes(b"\0\5\26\7")
    for data, was in zip(sources, before, strict=True):
        assert xk.open_source(data).inputs().identical(was)


def test_files_of_one_name_in_class_folders_get_their_folder(tmp_path):
    for k, name in enumerate(("art_0.jpg", "art_0.jpg", "art_0.png")):
        folder = tmp_path / f"val/n0000000{min(k, 1)}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (90 * k, 0, 0)).save(folder / name)
    (tmp_path / "classnames.txt").write_text("n00000000 cat\nn00000001 dog\n")
    source = xk.open_source(f"imagenet:{tmp_path}")
    assert source.labels.tolist() == ["n00000000/art_0.jpg", "n00000001/art_0.jpg", "n00000001/art_0.png"]
    assert source.inputs().class_index.values.tolist() == [0, 1, 1]


def test_a_thousand_folders_have_imagenets_names_only_if_they_are_its(tmp_path):
    from timm.data import ImageNetInfo

    def named(root, numbers):
        for number in numbers:
            (root / "val" / number).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / "val" / numbers[1] / "a.jpg")
        return f"imagenet:{root}"

    source = xk.open_source(named(tmp_path / "its", sorted(ImageNetInfo("imagenet-1k").label_names())))
    assert len(source.classes) == 1000 and source.classes[:2] == ("tench", "goldfish")
    inputs = source.inputs(size=8)
    assert inputs.class_index.item() == 1 and inputs.caption.item() == "a photo of a goldfish."
    refused(
        "not ImageNet's 1000, so the classes' names are needed",
        xk.open_source,
        named(tmp_path / "other", [f"n{k:08}" for k in range(1000)]),
    )


def test_a_row_with_one_column_too_many_is_bad(tmp_path):
    (tmp_path / "validation").mkdir()
    for k in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"validation/{k}.jpg")
    table = "a dog\ton a sofa\thttp://x.org/1\r\na cat\thttp://x.org/2\r\na\tb\tc\thttp://x.org/3\r\n"
    (tmp_path / "Validation_GCC-1.1.0-Validation.tsv").write_bytes(table.encode())
    found = xk.open_source(f"conceptual-captions:{tmp_path}").inputs()
    assert found.error.values.astype(bool).tolist() == [True, False, True] and "a tab" in str(found.error.values[0])


def test_links_of_a_hubs_snapshot_stay_inside_it(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b/snapshots/0123", tmp_path / "models--a--b/blobs"
    for folder in (snapshot / "images", blobs):
        folder.mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(blobs / "f00d", "PNG")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    for name, target in (("one.png", blobs / "f00d"), ("two.png", tmp_path / "secret.png")):
        (snapshot / name).symlink_to(os.path.relpath(target, snapshot))
        (snapshot / "images" / name).symlink_to(os.path.relpath(target, snapshot / "images"))
    for folder in (snapshot, snapshot / "images"):
        assert PicturesIn(folder)("one.png").getpixel((0, 0)) == (255, 0, 0)
        refused("leads out of the dataset's folder", PicturesIn(folder), "two.png")
