"""Small datasets in the layouts in which the published ones come, with drawn scenes for photographs."""

import csv
import io
import json
import struct
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

import xaikit as xk
from xaikit.samples.tables import LayoutError

SCENES = xk.draw_scenes(12, seed=3, objects=(2, 3))
CAPTIONS = [str(caption) for caption in SCENES.caption.values]
WNIDS = {"n01440764": "red circle", "n01443537": "blue square", "n01484850": "green ring"}


def picture(index):
    return Image.fromarray(SCENES.image.values[index % 12])


def save(path, index=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(index).save(path, **options)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def png(index):
    content = io.BytesIO()
    picture(index).save(content, "PNG")
    return content.getvalue()


def bomb(width=60_000, height=60_000):
    """A PNG of a few bytes whose header tells of so many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, data)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + b"\0\0\0\0IEND\xaeB`\x82"


def write_coco(folder):
    """val2017: images 139 and 42 with two captions each, in turns; the annotations are of 139 first."""
    images = [{"id": 42, "file_name": "000000000042.jpg"}, {"id": 139, "file_name": "000000000139.jpg"}]
    order = (139, 42, 139, 42)
    notes = [{"id": 900 - k, "image_id": image, "caption": CAPTIONS[k]} for k, image in enumerate(order)]
    write_json(folder / "annotations/captions_val2017.json", {"images": images, "annotations": notes})
    save(folder / "val2017/000000000042.jpg", 1, quality=95)
    save(folder / "val2017/000000000139.jpg", 0, quality=95)
    return folder


def write_karpathy(folder):
    images = []
    parts = {391895: "val2014 test", 60623: "val2014 val", 483108: "train2014 restval", 5: "val2014 test"}
    for index, (number, part) in enumerate(parts.items()):
        where, split = part.split()
        name = f"COCO_{where}_{number:012}.jpg"
        save(folder / where / name, index)
        said = [{"raw": f" {CAPTIONS[index]} ", "tokens": ["a"]}, {"raw": CAPTIONS[index + 4], "tokens": ["b"]}]
        images.append({"filepath": where, "filename": name, "split": split, "cocoid": number, "sentences": said})
    write_json(folder / "dataset_coco.json", {"images": images, "dataset": "coco"})
    return folder


def write_conceptual_captions(folder, convention, n=6, header=False):
    """The validation table of n rows, of which rows 2 and 4 were never downloaded."""
    addresses = [f"http://example.org/{row}.jpg?é" for row in range(n)]
    lines = ["caption\turl"] * header + [f"{CAPTIONS[row]}\t{addresses[row]}" for row in range(n)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Validation_GCC-1.1.0-Validation.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for row in sorted({*range(n)} - {2, 4}):
        crc = zlib.crc32(addresses[row].encode())
        name = {
            "img2dataset": f"images/{row // 3:05}/{row:09}.jpg",
            "row": f"validation/{row}.png",
            "row_crc": f"validation/{row}_{crc}",
            "crc": f"validation/{crc}",
        }[convention]
        save(folder / name, row, format="PNG" if convention != "img2dataset" else "JPEG")
        if convention == "img2dataset":
            (folder / name).with_suffix(".txt").write_text(CAPTIONS[row])
            (folder / name).with_suffix(".json").write_text("{}")
    return folder


def write_imagenet(folder, names="LOC_synset_mapping.txt"):
    """val of three classes, two images each, numbered so that the classes take turns."""
    for index in range(6):
        number = [*WNIDS][index % 3]
        save(folder / f"val/{number}/ILSVRC2012_val_{index + 1:08}.JPEG", index, format="JPEG")
    if names:
        write_class_names(folder / names)
    return folder


def write_class_names(path):
    if path.suffix == ".json":
        listed = [[number, name.replace(" ", "_")] for number, name in WNIDS.items()]
        path.write_text(json.dumps(dict(enumerate(listed))))
    else:
        path.write_text("".join(f"{number} {name}, some other name\n" for number, name in reversed(WNIDS.items())))


def write_kaggle(folder):
    name = "ILSVRC2012_val_0000000"
    rows = [(f"{name}2", "n01443537 1 2 3 4 n01443537 5 6 7 8 "), (f"{name}1", "n01484850 1 2 3 4 ")]
    for index, (name, _) in enumerate(rows):
        save(folder / f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG", index, format="JPEG")
    write_table(folder / "LOC_val_solution.csv", ["ImageId", "PredictionString"], rows)
    write_class_names(folder / "LOC_synset_mapping.txt")
    return folder


def write_table(path, header, rows, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([header, *rows])


def write_captions(folder, *rows):
    write_table(folder / "captions.csv", ["image", "caption"], rows)


def write_winoground(folder, kind):
    """Three examples: a caption and the same words in another order, images 2k and 2k + 1."""
    said = {"caption_0": "a red ring above a blue cross", "caption_1": "a blue cross above a red ring"}
    examples = [{"id": k, **said, "tag": "Object", "num_main_preds": 1} for k in range(3)]
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "jsonl":
        for k, example in enumerate(examples):
            example |= {f"image_{side}": f"ex_{k}_img_{side}" for side in (0, 1)}
            for side in (0, 1):
                save(folder / f"images/ex_{k}_img_{side}.png", 2 * k + side)
        (folder / "examples.jsonl").write_text("".join(json.dumps(example) + "\n" for example in examples))
    else:
        import pyarrow
        from pyarrow import parquet

        for k, example in enumerate(examples):
            example |= {f"image_{side}": {"bytes": png(2 * k + side), "path": None} for side in (0, 1)}
        (folder / "data").mkdir()
        table = pyarrow.Table.from_pylist(examples)
        parquet.write_table(table, folder / "data/test-00000-of-00001.parquet", row_group_size=2)
    return folder


SVO_HEADER = (
    "sentence,pos_triplet,neg_triplet,pos_url,neg_url,pos_image_id,neg_image_id,subj_neg,verb_neg,obj_neg".split(",")
)


def svo_row(index, positive, negative, *differs):
    return [CAPTIONS[index], "a,b,c", "a,d,c", "http://x", "http://y", positive, negative, *differs]


def write_svo_probes(folder):
    rows = [
        svo_row(place, *images, *(str(part == differs) for part in range(3)))
        for place, (images, differs) in enumerate([((7, 8), 1), ((9, 7), 0), ((9, 8), 2)])
    ]
    write_table(folder / "svo_probes.csv", SVO_HEADER, rows)
    for index, name in enumerate(("7.jpg", "8.png", "9.jpeg")):
        save(folder / "images" / name, index)
    return folder


BOX = (20.0, 10.0, 30.0, 60.0)  # left, top, width, height


def write_coco_attributes(folder):
    """Three objects, two of val2014; the first image is 160 x 100, black, with the object's box in white."""
    names = ["brown", "furry", "watching / looking", "unhappy"]
    attributes = [{"id": 97 + k, "name": name} for k, name in enumerate(names)][::-1]
    vectors = {"11": [0.6, 0.9, 0.6, 0.2], "12": [0.1, 0, 0.2, 0.5], "13": [0, 0, 0, 0]}
    ids = {"11": 501, "12": 502, "13": 503}
    splits = {"11": "val2014", "12": "val2014", "13": "train2014"}
    value = {"ann_vecs": vectors, "patch_id_to_ann_id": ids, "attributes": attributes, "split": splits}
    write_json(folder / "cocottributes.json", value)
    where = "COCO_val2014_000000000007.png"
    notes = [
        {"id": 502, "image_id": 8, "category_id": 2, "bbox": [0, 0, 64, 64], "segmentation": [[1, 2, 3, 4]]},
        {"id": 501, "image_id": 7, "category_id": 1, "bbox": BOX, "segmentation": {"counts": [1]}},
        {"id": 777, "image_id": 8, "category_id": 9},
    ]
    images = [{"id": 7, "file_name": where}, {"id": 8, "file_name": "COCO_val2014_000000000008.png"}]
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "umbrella"}]
    value = {"images": images, "annotations": notes, "categories": categories}
    write_json(folder / "annotations/instances_val2014.json", value)
    drawn = np.zeros((100, 160, 3), np.uint8)
    drawn[10:70, 20:50] = 255
    (folder / "val2014").mkdir()
    Image.fromarray(drawn).save(folder / "val2014" / where)
    save(folder / "val2014/COCO_val2014_000000000008.png", 1)
    return folder


def write_folder(folder, n=12, header=("image", "caption"), separator=","):
    for index in range(n):
        save(folder / f"{index:02}.png", index)
    rows = [(f"{index:02}.png", CAPTIONS[index % 12]) for index in range(n)]
    write_table(folder / "captions.csv", header, rows, separator)
    return folder


KINDS = {  # one of each layout, and of those that come in two forms the other
    "coco": write_coco,
    "karpathy": write_karpathy,
    "conceptual-captions": partial(write_conceptual_captions, convention="img2dataset"),
    "imagenet": write_imagenet,
    "kaggle": write_kaggle,
    "winoground": partial(write_winoground, kind="jsonl"),
    "parquet": partial(write_winoground, kind="parquet"),
    "svo-probes": write_svo_probes,
    "coco-attributes": write_coco_attributes,
    "folder": write_folder,
}


def write_dataset(kind, folder, **options):
    """Write a dataset of a kind, and return the name of its layout."""
    KINDS[kind](folder, **options)
    return {"karpathy": "coco", "kaggle": "imagenet", "parquet": "winoground"}.get(kind, kind)


def opened(kind, folder, **options):
    """A dataset of a kind, written and opened."""
    return xk.open_source(f"{write_dataset(kind, folder, **options)}:{folder}")


def refused(data, message, error=LayoutError):
    """That a dataset "LAYOUT:PATH" can't be opened, for this reason, in one line."""
    with pytest.raises(error, match=message) as caught:
        xk.open_source(data)
    assert "\n" not in str(caught.value)
