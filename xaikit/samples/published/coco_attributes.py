"""COCO Attributes: objects of COCO 2014 with those of 204 attributes that people saw in them.

Patterson and Hays, COCO Attributes: Attributes for People, Animals, and Objects, 2016.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ..pictures import Pictures
from ..tables import LayoutError, check_unique, choose_split, entries, picture_in, read_json, records
from .coco import image_folder

FILE = "cocottributes.json"
PUBLISHED = ("cocottributes_eccv_version.jbl", "cocottributes_eccv_version.pkl", "cocottributes_py3.jbl")
HOW = (
    "get the attributes from genp/cocottributes at github.com, and the instances and images of train2014 and val2014 at"
    " cocodataset.org, 'Download'"
)
CONVERT = (
    "import json, joblib, pathlib; told = json.dumps(joblib.load('{}'), default=lambda value: value.tolist());"
    " pathlib.Path('" + FILE + "').write_text(told)"
)
PRESENT = 0.5  # mean vote from which on an object has an attribute
NAMED = 3  # attributes in a caption


def open_coco_attributes(folder: Path, split: str | None = None) -> Pictures:
    """Annotated objects as samples, labelled by the number that the dataset gives them, in its order.

    folder : holds ``cocottributes.json``, ``annotations/instances_SPLIT.json``, and the images in ``SPLIT`` (or
        ``images/SPLIT``).
    split : "val2014" or "train2014"; val2014 by default, where it has its instances here.

    The caption names the object with its three strongest attributes, "a photo of a furry, brown dog"; ``attributes`` are all
    of which the mean vote is at least 0.5, the strongest first, of several alike the one with the lowest number. The object's
    mask is its bounding box.

    The dataset is published as a pickle, which can run any code when it is loaded: it is never loaded here. Its owner
    converts it once; the error says how.
    """
    path = folder / FILE
    if not path.is_file():
        raise LayoutError(_missing(folder))
    found = [name for name in ("val2014", "train2014") if (folder / _instances(name)).is_file()]
    if not found:
        raise LayoutError(f"there is neither {_instances('val2014')} nor {_instances('train2014')} in {folder}: {HOW}")
    split = choose_split("coco-attributes", folder, found, split, ("val2014",))
    labels, annotations, votes, names = _attributes(path, split)
    objects = _objects(folder / _instances(split), annotations)
    at = image_folder(folder, split)
    ranked = [_strongest(vote, names) for vote in votes]
    table = pd.DataFrame(
        {
            "image": f"{at}/" + objects.file_name.to_numpy(object),
            "caption": [_caption(most, name) for most, name in zip(ranked, objects.object_name, strict=True)],
            "image_id": objects.image_id.to_numpy(),
            "attributes": [", ".join(most) for most in ranked],
            "object_name": objects.object_name.to_numpy(object),
            "box": objects.bbox.to_numpy(),
        }
    )
    return Pictures("coco-attributes", labels, about={"split": split}, table=table, read=picture_in(folder, (at,)))


def _instances(split: str) -> str:
    return f"annotations/instances_{split}.json"


def _missing(folder: Path) -> str:
    pickle = next((name for name in PUBLISHED if (folder / name).is_file()), None)
    if pickle is None:
        return f"there is no {FILE} in {folder}: {HOW}"
    return (
        f"there is {pickle} but no {FILE} in {folder}: a pickle can run any code, so it is never loaded here; if you trust it,"
        f' convert it once, where joblib is installed, with: python -c "{CONVERT.format(pickle)}"'
    )


def _attributes(path: Path, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Of a split: labels (n,), ids of COCO's annotations (n,), votes (n, attributes), and the attributes' names."""
    value = read_json(path)
    listed = records(path, entries(path, value, "attributes", list), "attribute", {"id": int, "name": str}, unique="id")
    names = listed.sort_values("id").name.to_list()  # the order of the votes
    splits, ids, vectors = (entries(path, value, name, dict) for name in ("split", "patch_id_to_ann_id", "ann_vecs"))
    labels = [label for label, where in splits.items() if where == split]
    if not labels:
        raise LayoutError(f"{path} has no object of the split {split}")
    for label in labels:
        if (
            type(ids.get(label)) is not int
            or not isinstance(vectors.get(label), list)
            or len(vectors[label]) != len(names)
        ):
            raise LayoutError(
                f"{path}: the object {label} lacks its number in patch_id_to_ann_id or its {len(names)} votes in ann_vecs"
            )
    try:
        votes = np.array([vectors[label] for label in labels], float)
    except (TypeError, ValueError):
        votes = np.array(np.nan)
    if not (votes.ndim == 2 and (votes >= 0).all() and (votes <= 1).all()):
        raise LayoutError(f"{path}: the votes in ann_vecs must be numbers from 0 to 1, and some aren't")
    return np.array(labels, object), np.array([ids[label] for label in labels]), votes, names


def _objects(path: Path, annotations: np.ndarray) -> pd.DataFrame:
    """File, box, image and category of these annotations, in their order."""
    value = read_json(path, {"segmentation"})
    columns = {"id": int, "image_id": int, "category_id": int, "bbox": list}
    wanted = {*annotations.tolist()}
    chosen = [
        row for row in entries(path, value, "annotations", list) if isinstance(row, dict) and row.get("id") in wanted
    ]
    objects = records(path, chosen, "chosen annotation", columns, unique="id").set_index("id")
    if len(objects) < len(wanted):
        raise LayoutError(f"{path} has no annotation {min(wanted - {*objects.index})}, of which there are attributes")
    for number, box in objects.bbox.items():
        if len(box) != 4 or not all(type(side) in (int, float) and np.isfinite(side) for side in box):
            raise LayoutError(f"{path}: the annotation {number} has bbox={str(box)[:60]}, but four numbers are needed")
    found = {"images": ("image_id", "file_name"), "categories": ("category_id", "object_name")}
    for key, (by, name) in found.items():
        told = "file_name" if key == "images" else "name"
        rows = records(path, entries(path, value, key, list), key, {"id": int, told: str})
        check_unique(path, rows.id, key, "id", range(len(rows)))
        objects[name] = objects[by].map(rows.set_index("id")[told])
        if objects[name].isna().any():
            raise LayoutError(f"{path}: {by} {objects[by][objects[name].isna()].iloc[0]} isn't among the {key}")
    return objects.loc[annotations]


def _strongest(votes: np.ndarray, names: list[str]) -> list[str]:
    order = np.argsort(-votes, kind="stable")
    return [names[place] for place in order if votes[place] >= PRESENT]


def _caption(attributes: list[str], name: str) -> str:
    """Of an attribute with two names, "watching / looking", the first."""
    said = ", ".join(attribute.partition("/")[0].strip() for attribute in attributes[:NAMED])
    thing = f"{said} {name}".strip()
    return f"a photo of {_article(thing)} {thing}"


def _article(words: str) -> str:
    """Unlike the planted scenes' words, these may start with a u: an unhappy, but a useful or a uniform one."""
    vowel = words[0].lower() in "aeio" or (
        words[0].lower() == "u" and not words.lower().startswith(("us", "uni", "ut"))
    )
    return "an" if vowel else "a"
