"""A folder in another layout, or with a damaged table, is refused in one sentence that names what is wrong and where."""

import json
import subprocess
import sys

import pytest
from dataset_fixtures import (
    SVO_HEADER,
    svo_row,
    write_coco,
    write_coco_attributes,
    write_conceptual_captions,
    write_folder,
    write_imagenet,
    write_json,
    write_kaggle,
    write_karpathy,
    write_svo_probes,
    write_table,
    write_winoground,
)

from xaikit.samples import tables
from xaikit.samples.layouts import open_source
from xaikit.samples.tables import LayoutError


def refused(layout, folder, message):
    with pytest.raises(LayoutError, match=message) as caught:
        open_source(f"{layout}:{folder}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("coco", r"neither annotations/captions_val2017.json \(or .*\) nor dataset_coco.json in .*cocodataset.org"),
        (
            "conceptual-captions",
            "neither Train_GCC-training.tsv nor Validation_GCC-1.1.0-Validation.tsv in .*ai.google.com",
        ),
        ("imagenet", "no folder val, train or ILSVRC/Data/CLS-LOC/val, nor one named as n01440764, in .*image-net.org"),
        ("winoground", r"neither a \*.parquet file nor examples.jsonl in .* or its folder data: .*huggingface.co"),
        ("svo-probes", "no svo_probes.csv in .*github.com"),
        ("coco-attributes", "no cocottributes.json in .*github.com.*cocodataset.org"),
        ("folder", "no captions.csv in .*: write a table with the columns image and caption"),
    ],
)
def test_an_empty_folder_says_what_is_needed_and_where_it_is(tmp_path, layout, message):
    refused(layout, tmp_path, message)


def test_folders_without_images(tmp_path):
    write_svo_probes(tmp_path)
    (tmp_path / "images").rename(tmp_path / "pictures")
    refused("svo-probes", tmp_path, "no folder images in")
    write_winoground(tmp_path / "w", "jsonl")
    (tmp_path / "w/images").rename(tmp_path / "w/pictures")
    refused("winoground", tmp_path / "w", "no folder images beside .*examples.jsonl: unpack images.zip there")
    (tmp_path / "i/val/n01440764").mkdir(parents=True)
    refused("imagenet", tmp_path / "i", "no images in the class folders of")
    write_kaggle(tmp_path / "k")
    (tmp_path / "k/LOC_val_solution.csv").unlink()
    refused("imagenet", tmp_path / "k", "has no folders named as n01440764, nor has .* a LOC_val_solution.csv for it")
    write_coco_attributes(tmp_path / "a")
    (tmp_path / "a/annotations/instances_val2014.json").unlink()
    refused(
        "coco-attributes",
        tmp_path / "a",
        "neither annotations/instances_val2014.json nor annotations/instances_train2014",
    )


IMAGE, NOTE = {"id": 1, "file_name": "x.jpg"}, {"image_id": 1, "caption": "a ring"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "captions_val2017.json isn't JSON"),
        ("[" * 100_000, "isn't JSON of a dataset: it is nested too deeply"),
        (b"\xff\xfe\x00", "isn't UTF-8 text"),
        ([], "'images' is missing or null, but a list is needed"),
        ({"images": [IMAGE], "annotations": {}}, "'annotations' is {}, but a list"),
        (
            {"images": [IMAGE, {"id": 2}], "annotations": [NOTE]},
            "image 1 has file_name=missing or null, but text is needed",
        ),
        ({"images": [IMAGE, 7], "annotations": [NOTE]}, "image 1 has id=missing"),
        ({"images": [IMAGE, IMAGE], "annotations": [NOTE]}, "the images 0 and 1 have the same id 1"),
        (
            {"images": [IMAGE], "annotations": [NOTE, {**NOTE, "caption": 5}]},
            "annotation 1 has caption=5, but text is needed",
        ),
        ({"images": [IMAGE], "annotations": [{**NOTE, "image_id": "1"}]}, "image_id='1', but a whole number"),
        (
            {"images": [IMAGE], "annotations": [{**NOTE, "caption": "half \ud800"}]},
            r"caption='half \\ud800', but text is needed",
        ),
        ({"images": [IMAGE], "annotations": [{**NOTE, "image_id": True}]}, "image_id=True, but a whole number"),
        ({"images": [IMAGE], "annotations": [{**NOTE, "image_id": 2**70}]}, "image_id=1180591620717411303424, but"),
        (
            {"images": [IMAGE], "annotations": [NOTE, {**NOTE, "image_id": 3}]},
            "is of the image 3, which isn't among the images",
        ),
    ],
)
def test_damaged_captions_of_coco(tmp_path, content, message):
    path = write_coco(tmp_path) / "annotations/captions_val2017.json"
    content = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("coco", tmp_path, message)


def test_tables_without_any_caption(tmp_path):
    write_json(write_coco(tmp_path) / "annotations/captions_val2017.json", {"images": [IMAGE], "annotations": []})
    with pytest.raises(ValueError, match="the coco dataset holds no sample"):
        open_source(f"coco:{tmp_path}")
    (write_conceptual_captions(tmp_path, "row") / "Validation_GCC-1.1.0-Validation.tsv").write_text("")
    with pytest.raises(ValueError, match="the conceptual-captions dataset holds no sample"):
        open_source(f"conceptual-captions:{tmp_path}")


def test_damaged_sentences_of_karpathy(tmp_path):
    path = write_karpathy(tmp_path) / "dataset_coco.json"
    value = json.loads(path.read_text())
    value["images"][0]["sentences"][1] = {"tokens": []}
    write_json(path, value)
    refused("coco", tmp_path, "sentence of karpathy-test, 1 has raw=missing or null, but text is needed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a caption without an address\n", "can't be read as captions|row 0 .* has no address after a tab"),
        ("one\thttp://x\ntwo\n", r"row 1 \(the first is 0\) has no address after a tab"),
    ],
)
def test_damaged_conceptual_captions(tmp_path, content, message):
    write_conceptual_captions(tmp_path, "row")
    (tmp_path / "Validation_GCC-1.1.0-Validation.tsv").write_text(content)
    refused("conceptual-captions", tmp_path, message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classnames.txt", "n01440764 tench\nn1 x\n", "entry 2, n1 x, is no class's number and name"),
        ("classnames.txt", "n01440764\n", "entry 1, n01440764 , is no class's number"),
        ("classnames.txt", "n01440764 a\nn01440764 b\n", "names a class twice"),
        ("classnames.txt", "\n", "names no class"),
        ("imagenet_class_index.json", "{", "isn't JSON"),
        (
            "imagenet_class_index.json",
            '{"0": ["n01440764", 5]}',
            r'an entry such as \["n01440764", "tench"\] is needed',
        ),
    ],
)
def test_damaged_names_of_classes(tmp_path, name, content, message):
    write_imagenet(tmp_path, name)
    (tmp_path / name).write_text(content)
    refused("imagenet", tmp_path, message)


def test_damaged_solution_of_kaggle(tmp_path):
    path = write_kaggle(tmp_path) / "LOC_val_solution.csv"
    write_table(path, ["ImageId", "PredictionString"], [("a", "n01443537 1 2 3 4"), ("b", "dog 1 2 3 4")])
    refused("imagenet", tmp_path, "line 3 has PredictionString='dog 1 2 3 4': a class such as n01440764 comes first")
    write_table(path, ["ImageId", "PredictionString"], [("a", "n01443537 "), ("b", "n01443537"), ("a", "n01443537")])
    refused("imagenet", tmp_path, "the lines 2 and 4 have the same ImageId a")
    write_table(path, ["ImageId", "Answer"], [])
    refused("imagenet", tmp_path, "LOC_val_solution.csv has no column PredictionString: its header is ImageId, Answer")


def test_damaged_examples_of_winoground(tmp_path):
    path = write_winoground(tmp_path, "jsonl") / "examples.jsonl"
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], "{"]))
    refused("winoground", tmp_path, "line 2 isn't JSON")
    path.write_text("\n".join([lines[0], lines[1], lines[0]]))
    refused("winoground", tmp_path, "the lines 1 and 3 have the same id 0")
    path.write_text(lines[0].replace("ex_0_img_1", "../../secret"))
    told = open_source(f"winoground:{tmp_path}").inputs().error.values.tolist()
    assert told[0] == "" and "leads out of the dataset's folder" in told[1]


def test_damaged_parquet_of_winoground(tmp_path):
    import pyarrow
    from pyarrow import parquet

    path = write_winoground(tmp_path, "parquet") / "data/test-00000-of-00001.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.drop_columns(["caption_1", "image_0"]), path)
    refused("winoground", tmp_path, "has no column caption_1, image_0")
    empty = table.to_pylist()
    empty[1]["image_0"] = {"bytes": None, "path": "ex_1_img_0.png"}
    empty[2]["image_1"]["bytes"] = b"no picture"
    parquet.write_table(pyarrow.Table.from_pylist(empty), path)
    told = open_source(f"winoground:{tmp_path}").inputs().error.values.tolist()
    assert [bool(reason) for reason in told] == [False, False, True, False, False, True]
    assert told[2].startswith(f"row 1 of {path.name} holds no image_0")
    assert told[5].startswith(f"the image_1 in row 2 of {path.name} can't be read as an image") and "0x" not in told[5]
    parquet.write_table(pyarrow.concat_tables([table, table]), path)
    refused("winoground", tmp_path, "the examples 0 and 3 have the same id 0")
    path.write_bytes(b"PAR1 and nothing else")
    refused("winoground", tmp_path, "can't be read as a parquet file")


def test_damaged_table_of_svo_probes(tmp_path):
    path = write_svo_probes(tmp_path) / "svo_probes.csv"
    write_table(path, SVO_HEADER, [svo_row(0, 7, 8, "True", "no", "False")])
    refused("svo-probes", tmp_path, "line 2 has verb_neg='no', but True or False is needed")
    write_table(
        path, SVO_HEADER, [svo_row(0, 7, 8, "True", "False", "False"), svo_row(0, "x7", 8, "True", "False", "False")]
    )
    refused("svo-probes", tmp_path, "line 3 has pos_image_id='x7', but a whole number is needed")
    write_table(path, SVO_HEADER[:-1], [svo_row(0, 7, 8, "True", "False")])
    refused("svo-probes", tmp_path, "svo_probes.csv has no column obj_neg: its header is sentence, pos_triplet")


def change(folder, file, *keys, to):
    value = json.loads((folder / file).read_text())
    inner = value
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    write_json(folder / file, value)


INSTANCES = "annotations/instances_val2014.json"


@pytest.mark.parametrize(
    ("file", "keys", "to", "message"),
    [
        ("cocottributes.json", ("attributes", 1, "name"), 5, "attribute 1 has name=5, but text is needed"),
        ("cocottributes.json", ("ann_vecs", "11"), [1], "the object 11 lacks .* its 4 votes in ann_vecs"),
        ("cocottributes.json", ("ann_vecs", "11", 0), 1.5, "the votes in ann_vecs must be numbers from 0 to 1"),
        ("cocottributes.json", ("ann_vecs", "11", 0), "x", "the votes in ann_vecs must be numbers from 0 to 1"),
        ("cocottributes.json", ("ann_vecs", "11", 0), float("nan"), "the votes in ann_vecs must be numbers"),
        ("cocottributes.json", ("patch_id_to_ann_id", "12"), 999, "instances_val2014.json has no annotation 999"),
        ("cocottributes.json", ("split",), {}, "has no object of the split val2014"),
        ("cocottributes.json", ("split",), [], r"'split' is \[\], but an object is needed"),
        (
            INSTANCES,
            ("annotations", 0, "bbox"),
            [1, 2, 3],
            r"the annotation 502 has bbox=\[1, 2, 3\], but four numbers",
        ),
        (INSTANCES, ("annotations", 0, "bbox"), [1, 2, 3, "4"], "but four numbers are needed"),
        (INSTANCES, ("annotations", 1, "image_id"), 3, "image_id 3 isn't among the images"),
        (INSTANCES, ("annotations", 1, "category_id"), 3, "category_id 3 isn't among the categories"),
        (INSTANCES, ("images", 1, "id"), 7, "the images 0 and 1 have the same id 7"),
    ],
)
def test_damaged_coco_attributes(tmp_path, file, keys, to, message):
    change(write_coco_attributes(tmp_path), file, *keys, to=to)
    refused("coco-attributes", tmp_path, message)


@pytest.mark.parametrize("name", ["cocottributes_eccv_version.jbl", "cocottributes_eccv_version.pkl"])
def test_a_pickle_is_never_loaded_but_the_error_says_how_to_convert_it(tmp_path, name, monkeypatch):
    import pickle

    import joblib

    for module, function in ((joblib, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(module, function, lambda *args, **kwargs: pytest.fail("a pickle was loaded"))
    (write_coco_attributes(tmp_path) / "cocottributes.json").rename(tmp_path / name)
    message = (
        f"there is {name} but no cocottributes.json in .*never loaded here; if you trust it, convert it once.*python -c"
    )
    refused("coco-attributes", tmp_path, message)


def test_the_command_that_converts_gives_what_is_read(tmp_path):
    """Run in a folder with a stand-in for joblib, which gives numbers as keys and arrays as vectors, as the real file does."""
    path = write_coco_attributes(tmp_path) / "cocottributes.json"
    before = open_source(f"coco-attributes:{tmp_path}").digest()
    path.rename(tmp_path / "cocottributes_py3.jbl")
    (tmp_path / "joblib.py").write_text(JOBLIB)
    with pytest.raises(LayoutError) as caught:
        open_source(f"coco-attributes:{tmp_path}")
    command = str(caught.value).partition('python -c "')[2].removesuffix('"')
    subprocess.run([sys.executable, "-W", "error", "-c", command], cwd=tmp_path, check=True)
    assert open_source(f"coco-attributes:{tmp_path}").digest() == before


JOBLIB = """
import json, pathlib, numpy
def load(name):
    value = json.loads(pathlib.Path(name).read_text())
    numbered = {key: {int(k): v for k, v in value[key].items()} for key in ("split", "patch_id_to_ann_id", "ann_vecs")}
    numbered["ann_vecs"] = {k: numpy.array(v) for k, v in numbered["ann_vecs"].items()}
    return numbered | {"attributes": [{**each, "id": numpy.int64(each["id"])} for each in value["attributes"]]}
"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "captions.csv has no column image or file or filepath: its header is empty"),
        ("image,text\na.png,x\n", "has no column caption or title: its header is image, text"),
        ("image,caption\n00.png,x\n01.png,one, two\n", "line 3 has 3 columns, but the header 2"),
        ("image,caption\n00.png\n", "line 2 has 1 columns, but the header 2"),
        ('image,caption\n00.png,"x\n', "line 2 can't be read as a table"),
        ("image,caption,image\n", "the header names a column twice: image, caption, image"),
        ("image,caption,pair\n00.png,x,1\n01.png,y,one\n", "line 3 has pair='one', but a whole number is needed"),
    ],
)
def test_damaged_captions_of_ones_own(tmp_path, content, message):
    write_folder(tmp_path, 2)
    (tmp_path / "captions.csv").write_text(content)
    refused("folder", tmp_path, message)


def test_a_table_of_gigabytes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MOST_BYTES", 100)
    refused("coco", write_coco(tmp_path), "captions_val2017.json has .* GB, more than any table that is published")
    refused("folder", write_folder(tmp_path, 9), "captions.csv has .* GB, more than any")
