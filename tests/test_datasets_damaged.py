"""A folder in another layout, or with a damaged table, is refused in one sentence that names what is wrong and where."""

import csv
import io
import json
import subprocess
import sys

import pytest
from dataset_fixtures import SVO_HEADER, refused, svo_row, write_dataset, write_folder, write_json

from xaikit.samples import tables
from xaikit.samples.layouts import open_source
from xaikit.samples.tables import LayoutError

EMPTY = {
    "coco": r"neither annotations/captions_val2017.json \(or .*\) nor dataset_coco.json in .*cocodataset.org",
    "conceptual-captions": (
        "neither Train_GCC-training.tsv nor Validation_GCC-1.1.0-Validation.tsv in .*ai.google.com"
    ),
    "imagenet": "no folder val, train or ILSVRC/Data/CLS-LOC/val, nor one named as n01440764, in .*image-net.org",
    "winoground": r"neither a \*.parquet file nor examples.jsonl in .* or its folder data: .*huggingface.co",
    "svo-probes": "no svo_probes.csv in .*github.com",
    "coco-attributes": "no cocottributes.json in .*github.com.*cocodataset.org",
    "folder": "no captions.csv in .*: write a table with the columns image and caption",
}


@pytest.mark.parametrize("layout", EMPTY)
def test_an_empty_folder_says_what_is_needed_and_where_it_is(tmp_path, layout):
    refused(f"{layout}:{tmp_path}", EMPTY[layout])


@pytest.mark.parametrize(
    ("kind", "missing", "message"),
    [
        ("svo-probes", "images", "no folder images in"),
        ("winoground", "images", "no folder images beside .*examples.jsonl: unpack images.zip there"),
        (
            "kaggle",
            "LOC_val_solution.csv",
            "has no folders named as n01440764, nor has .* a LOC_val_solution.csv for it",
        ),
        (
            "coco-attributes",
            "annotations",
            "neither annotations/instances_val2014.json nor annotations/instances_train2014",
        ),
    ],
)
def test_folders_without_what_is_needed(tmp_path, kind, missing, message):
    layout = write_dataset(kind, tmp_path)
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    refused(f"{layout}:{tmp_path}", message)


def test_class_folders_without_images(tmp_path):
    (tmp_path / "val/n01440764").mkdir(parents=True)
    refused(f"imagenet:{tmp_path}", "no images in the class folders of")


IMAGE, NOTE = {"id": 1, "file_name": "x.jpg"}, {"image_id": 1, "caption": "a ring"}
CAPTIONS_FILE = "annotations/captions_val2017.json"


def of_coco(*notes, images=(IMAGE,)):
    return {"images": [*images], "annotations": [*notes]}


def note(**change):
    return {**NOTE, **change}


CLASSES, INDEX, TABLE = "classnames.txt", "imagenet_class_index.json", "captions.csv"
TSV, SOLUTION = "Validation_GCC-1.1.0-Validation.tsv", "LOC_val_solution.csv"
ANSWERS = "ImageId,PredictionString\n"


def of_probes(*rows, header=SVO_HEADER):
    table = io.StringIO()
    csv.writer(table).writerows([header, *rows])
    return table.getvalue()


# By the kind of dataset and the file in it: what is written there, and what is said.
DAMAGED = {
    ("coco", CAPTIONS_FILE): [
        ('{"images": [', "captions_val2017.json isn't JSON"),
        ("[" * 100_000, "isn't JSON of a dataset: it is nested too deeply"),
        (b"\xff\xfe\x00", "isn't UTF-8 text"),
        ([], "'images' is missing or null, but a list is needed"),
        ({"images": [IMAGE], "annotations": {}}, "'annotations' is {}, but a list"),
        (of_coco(NOTE, images=(IMAGE, {"id": 2})), "image 1 has file_name=missing or null, but text is needed"),
        (of_coco(NOTE, images=(IMAGE, 7)), "image 1 has id=missing"),
        (of_coco(NOTE, images=(IMAGE, IMAGE)), "the images 0 and 1 have the same id 1"),
        (of_coco(NOTE, note(caption=5)), "annotation 1 has caption=5, but text is needed"),
        (of_coco(note(image_id="1")), "image_id='1', but a whole number"),
        (of_coco(note(caption="half \ud800")), r"caption='half \\ud800', but text is needed"),
        (of_coco(note(image_id=True)), "image_id=True, but a whole number"),
        (of_coco(note(image_id=2**70)), "image_id=1180591620717411303424, but"),
        (of_coco(NOTE, note(image_id=3)), "is of the image 3, which isn't among the images"),
        (of_coco(), "the coco dataset holds no sample"),
    ],
    ("conceptual-captions", TSV): [
        ("a caption without an address\n", r"row 0 \(the first is 0\) has no address after a tab"),
        ("one\thttp://x\ntwo\n", r"row 1 \(the first is 0\) has no address after a tab"),
        ("", "the conceptual-captions dataset holds no sample"),
    ],
    ("imagenet", CLASSES): [
        ("n01440764 tench\nn1 x\n", "entry 2, n1 x, is no class's number and name"),
        ("n01440764\n", "entry 1, n01440764 , is no class's number"),
        ("n01440764 a\nn01440764 b\n", "names a class twice"),
        ("\n", "names no class"),
    ],
    ("imagenet", INDEX): [
        ("{", "isn't JSON"),
        ({"0": ["n01440764", 5]}, r'an entry such as \["n01440764", "tench"\] is needed'),
    ],
    ("kaggle", SOLUTION): [
        (
            f"{ANSWERS}a,n01443537 1 2 3 4\nb,dog 1 2 3 4\n",
            "line 3 has PredictionString='dog 1 2 3 4': a class such as n01440764 comes first",
        ),
        (f"{ANSWERS}a,n01443537 \nb,n01443537\na,n01443537\n", "the lines 2 and 4 have the same ImageId a"),
        (
            "ImageId,Answer\n",
            "LOC_val_solution.csv has no column PredictionString: its header is ImageId, Answer",
        ),
    ],
    ("svo-probes", "svo_probes.csv"): [
        (of_probes(svo_row(0, 7, 8, "True", "no", "False")), "line 2 has verb_neg='no', but True or False is needed"),
        (
            of_probes(*(svo_row(0, number, 8, "True", "False", "False") for number in (7, "x7"))),
            "line 3 has pos_image_id='x7', but a whole number is needed",
        ),
        (
            of_probes(svo_row(0, 7, 8, "True", "False"), header=SVO_HEADER[:-1]),
            "svo_probes.csv has no column obj_neg: its header is sentence, pos_triplet",
        ),
    ],
    ("folder", TABLE): [
        ("", "captions.csv has no column image or file or filepath: its header is empty"),
        ("image,text\na.png,x\n", "has no column caption or title: its header is image, text"),
        ("image,caption\n00.png,x\n01.png,one, two\n", "line 3 has 3 columns, but the header 2"),
        ("image,caption\n00.png\n", "line 2 has 1 columns, but the header 2"),
        ('image,caption\n00.png,"x\n', "line 2 can't be read as a table"),
        ("image,caption,image\n", "the header names a column twice: image, caption, image"),
        ("image,caption,pair\n00.png,x,1\n01.png,y,one\n", "line 3 has pair='one', but a whole number is needed"),
        (
            "image,caption,box\na.png,a cat,20 10 20",
            "line 2 has box='20 10 20', but 'left top width height' in pixels is needed",
        ),
        (
            "image,caption,box,mask\na.png,a cat,1 1 2 2,b.png\n",
            "has both columns box and mask: one of them says where the object is",
        ),
    ],
}


@pytest.mark.parametrize(
    ("kind", "file", "content", "message"),
    [(*where, *damage) for where, damages in DAMAGED.items() for damage in damages],
)
def test_damaged_tables(tmp_path, kind, file, content, message):
    layout = write_dataset(kind, tmp_path, **({"names": file} if kind == "imagenet" else {}))
    content = content if isinstance(content, str | bytes) else json.dumps(content)
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(f"{layout}:{tmp_path}", message, ValueError if "holds no sample" in message else LayoutError)


def test_damaged_examples_of_winoground(tmp_path):
    write_dataset("winoground", tmp_path)
    path = tmp_path / "examples.jsonl"
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], "{"]))
    refused(f"winoground:{tmp_path}", "line 2 isn't JSON")
    path.write_text("\n".join([lines[0], lines[1], lines[0]]))
    refused(f"winoground:{tmp_path}", "the lines 1 and 3 have the same id 0")
    path.write_text(lines[0].replace("ex_0_img_1", "../../secret"))
    told = open_source(f"winoground:{tmp_path}").inputs().error.values.tolist()
    assert told[0] == "" and "leads out of the dataset's folder" in told[1]


def test_damaged_parquet_of_winoground(tmp_path):
    import pyarrow
    from pyarrow import parquet

    write_dataset("parquet", tmp_path)
    path = tmp_path / "data/test-00000-of-00001.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.drop_columns(["caption_1", "image_0"]), path)
    refused(f"winoground:{tmp_path}", "has no column caption_1, image_0")
    empty = table.to_pylist()
    empty[1]["image_0"] = {"bytes": None, "path": "ex_1_img_0.png"}
    empty[2]["image_1"]["bytes"] = b"no picture"
    parquet.write_table(pyarrow.Table.from_pylist(empty), path)
    told = open_source(f"winoground:{tmp_path}").inputs().error.values.tolist()
    assert [bool(reason) for reason in told] == [False, False, True, False, False, True]
    assert told[2].startswith(f"row 1 of {path.name} holds no image_0")
    assert told[5].startswith(f"the image_1 in row 2 of {path.name} can't be read as an image") and "0x" not in told[5]
    parquet.write_table(pyarrow.concat_tables([table, table]), path)
    refused(f"winoground:{tmp_path}", "the examples 0 and 3 have the same id 0")
    path.write_bytes(b"PAR1 and nothing else")
    refused(f"winoground:{tmp_path}", "can't be read as a parquet file")


ATTRIBUTES, INSTANCES = (
    ("coco-attributes", "cocottributes.json"),
    ("coco-attributes", "annotations/instances_val2014.json"),
)
KARPATHY = ("karpathy", "dataset_coco.json")


@pytest.mark.parametrize(
    ("file", "keys", "to", "message"),
    [
        (ATTRIBUTES, ("attributes", 1, "name"), 5, "attribute 1 has name=5, but text is needed"),
        (ATTRIBUTES, ("ann_vecs", "11"), [1], "the object 11 lacks .* its 4 votes in ann_vecs"),
        (ATTRIBUTES, ("ann_vecs", "11", 0), 1.5, "the votes in ann_vecs must be numbers from 0 to 1"),
        (ATTRIBUTES, ("ann_vecs", "11", 0), "x", "the votes in ann_vecs must be numbers from 0 to 1"),
        (ATTRIBUTES, ("ann_vecs", "11", 0), float("nan"), "the votes in ann_vecs must be numbers"),
        (ATTRIBUTES, ("patch_id_to_ann_id", "12"), 999, "instances_val2014.json has no annotation 999"),
        (ATTRIBUTES, ("split",), {}, "has no object of the split val2014"),
        (ATTRIBUTES, ("split",), [], r"'split' is \[\], but an object is needed"),
        (INSTANCES, ("annotations", 0, "bbox"), [1, 2, 3], r"the annotation 502 has bbox=\[1, 2, 3\], but four numbers"),
        (INSTANCES, ("annotations", 0, "bbox"), [1, 2, 3, "4"], "but four numbers are needed"),
        (INSTANCES, ("annotations", 1, "image_id"), 3, "image_id 3 isn't among the images"),
        (INSTANCES, ("annotations", 1, "category_id"), 3, "category_id 3 isn't among the categories"),
        (INSTANCES, ("images", 1, "id"), 7, "the images 0 and 1 have the same id 7"),
        (
            KARPATHY, ("images", 0, "sentences", 1), {"tokens": []},
            "sentence of karpathy-test, 1 has raw=missing or null, but text is needed",
        ),
    ],
)  # fmt: skip
def test_damaged_json(tmp_path, file, keys, to, message):
    layout = write_dataset(file[0], tmp_path)
    inner = value = json.loads((tmp_path / file[1]).read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    write_json(tmp_path / file[1], value)
    refused(f"{layout}:{tmp_path}", message)


@pytest.mark.parametrize("name", ["cocottributes_eccv_version.jbl", "cocottributes_eccv_version.pkl"])
def test_a_pickle_is_never_loaded_but_the_error_says_how_to_convert_it(tmp_path, name, monkeypatch):
    import pickle

    import joblib

    for module, function in ((joblib, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(module, function, lambda *args, **kwargs: pytest.fail("a pickle was loaded"))
    write_dataset("coco-attributes", tmp_path)
    (tmp_path / "cocottributes.json").rename(tmp_path / name)
    never = "never loaded here; if you trust it, convert it once.*python -c"
    refused(f"coco-attributes:{tmp_path}", f"there is {name} but no cocottributes.json in .*{never}")


def test_the_command_that_converts_gives_what_is_read(tmp_path):
    """Run in a folder with a stand-in for joblib, which gives numbers as keys and arrays as vectors, as the real file does."""
    write_dataset("coco-attributes", tmp_path)
    before = open_source(f"coco-attributes:{tmp_path}").digest()
    (tmp_path / "cocottributes.json").rename(tmp_path / "cocottributes_py3.jbl")
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


def test_a_table_of_gigabytes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MOST_BYTES", 100)
    write_dataset("coco", tmp_path)
    refused(f"coco:{tmp_path}", "captions_val2017.json has .* GB, more than any table that is published")
    refused(f"folder:{write_folder(tmp_path, 9)}", "captions.csv has .* GB, more than any")
