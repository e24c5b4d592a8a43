"""COCO: images with five captions each, of 2014 and 2017 and in Karpathy's split of 2014; and objects with their attributes.

Lin et al., Microsoft COCO: Common Objects in Context, 2014. Karpathy and Fei-Fei, Deep Visual-Semantic Alignments, 2015.
Patterson and Hays, COCO Attributes: Attributes for People, Animals, and Objects, 2016.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..source import Pictures
from ..tables import (
    LayoutError,
    PicturesIn,
    check_unique,
    choose_split,
    entries,
    layout,
    read_json,
    records,
)

HOW = (
    "get the captions and images of val2017 or another split at cocodataset.org, 'Download', and Karpathy's"
    " dataset_coco.json from his page on deep visual-semantic alignments"
)
KARPATHY = "dataset_coco.json"
KARPATHY_SPLITS = ("train", "restval", "val", "test")
USUAL = ("val2017", "val2014", "karpathy-test")

ATTRIBUTES = "cocottributes.json"
PICKLES = ("cocottributes_eccv_version.jbl", "cocottributes_eccv_version.pkl", "cocottributes_py3.jbl")
HOW_ATTRIBUTES = (
    "get the attributes from genp/cocottributes at github.com, and the instances and images of train2014 and val2014 at"
    " cocodataset.org, 'Download'"
)
CONVERT = (
    "import json, joblib, pathlib; told = json.dumps(joblib.load('{}'), default=lambda value: value.tolist());"
    " pathlib.Path('" + ATTRIBUTES + "').write_text(told)"
)
PRESENT = 0.5  # mean vote from which on an object has an attribute
NAMED = 3  # attributes in a caption


@layout(HOW)
def coco(folder: Path, split: str | None = None) -> Pictures:
    """Captions of one split as samples, labelled by the image's id and the caption's place among that image's, "139-0".

    folder : holds ``annotations/captions_SPLIT.json`` and the folder ``SPLIT`` (or ``images/SPLIT``) of images, such as
        val2017 or train2014, or ``dataset_coco.json``, there or among the annotations, with val2014 and train2014.
    split : a year's split, or "karpathy-train", "karpathy-restval", "karpathy-val" or "karpathy-test"; by default val2017,
        then val2014, then karpathy-test.

    The captions of an image are in a row, in their order in the file, the images in order of their first one.
    """
    notes = folder / "annotations"
    named = (re.fullmatch(r"captions_(\w+)\.json", path.name) for path in (notes.iterdir() if notes.is_dir() else ()))
    years = sorted(found[1] for found in named if found)
    karpathy = next((path for path in (folder / KARPATHY, notes / KARPATHY) if path.is_file()), None)
    found = [*years, *(f"karpathy-{name}" for name in KARPATHY_SPLITS if karpathy)]
    if not found:
        looked = f"annotations/captions_val2017.json (or another split's) nor {KARPATHY}"
        raise LayoutError(f"there is neither {looked} in {folder}: {HOW}")
    split = choose_split("coco", folder, found, split, USUAL)
    ids, files, captions, at = (
        _of_a_year(folder, notes, split) if split in years else _of_karpathy(folder, karpathy, split)
    )
    ids = ids.reset_index(drop=True)
    label = ids.astype(str) + "-" + ids.groupby(ids).cumcount().astype(str)
    captions = captions.str.strip().to_numpy()
    table = pd.DataFrame({"label": label, "image": files.to_numpy(), "caption": captions, "image_id": ids})
    return Pictures.of("coco", table, PicturesIn(folder, at), split)


def _of_a_year(folder: Path, notes: Path, split: str) -> tuple[pd.Series, pd.Series, pd.Series, list[str]]:
    """Of each caption the image's id and file, the caption, and the folders of images."""
    path = notes / f"captions_{split}.json"
    value = read_json(path)
    images = _listed(path, value, "images", "image", {"file_name": str})
    captions = records(path, entries(path, value, "annotations", list), "annotation", {"image_id": int, "caption": str})
    place, first_seen = pd.factorize(captions.image_id)
    unknown = ~np.isin(first_seen, images.index)
    if unknown.any():
        raise LayoutError(
            f"{path}: an annotation is of the image {first_seen[unknown][0]}, which isn't among the images"
        )
    captions = captions.iloc[np.argsort(place, kind="stable")]
    at = _image_folder(folder, split)
    return captions.image_id, f"{at}/" + images.file_name[captions.image_id], captions.caption, [at]


def _of_karpathy(folder: Path, path: Path, split: str) -> tuple[pd.Series, pd.Series, pd.Series, list[str]]:
    columns = {"cocoid": int, "filepath": str, "filename": str, "split": str, "sentences": list}
    listed = entries(path, read_json(path, {"tokens"}), "images", list)
    images = records(path, listed, "image", columns, unique="cocoid")
    images = images[images.split == split.removeprefix("karpathy-")]
    if not len(images):
        raise LayoutError(f"{path} has no image of the split {split}")
    at = {}
    for name in images.filepath.unique():
        if not re.fullmatch(r"\w+", name):
            raise LayoutError(f"{path}: the filepath {name!r} is no plain name of a folder such as 'val2014'")
        at[name] = _image_folder(folder, name)
    each = [sentence for said in images.sentences for sentence in said]
    captions = records(path, each, f"sentence of {split},", {"raw": str}).raw
    times = images.sentences.map(len)
    files = images.filepath.map(at) + "/" + images.filename
    return images.cocoid.repeat(times), files.repeat(times), captions, [*at.values()]


def _listed(path: Path, value: object, key: str, what: str, columns: dict[str, type]) -> pd.DataFrame:
    """A list of JSON objects by their ids."""
    return records(path, entries(path, value, key, list), what, {"id": int, **columns}, unique="id").set_index("id")


def _image_folder(folder: Path, split: str) -> str:
    found = next((name for name in (split, f"images/{split}") if (folder / name).is_dir()), None)
    if found is None:
        raise LayoutError(f"there is no folder {split} (or images/{split}) of images in {folder}: {HOW}")
    return found


@layout(HOW_ATTRIBUTES)
def coco_attributes(folder: Path, split: str | None = None) -> Pictures:
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
    path = folder / ATTRIBUTES
    if not path.is_file():
        raise LayoutError(_missing(folder))
    instances = {name: f"annotations/instances_{name}.json" for name in ("val2014", "train2014")}
    found = [name for name, file in instances.items() if (folder / file).is_file()]
    if not found:
        raise LayoutError(f"there is neither {' nor '.join(instances.values())} in {folder}: {HOW_ATTRIBUTES}")
    split = choose_split("coco-attributes", folder, found, split, ("val2014",))
    labels, annotations, votes, names = _attributes(path, split)
    objects = _objects(folder / instances[split], annotations)
    at = _image_folder(folder, split)
    strongest = np.argsort(-votes, axis=1, kind="stable")
    ranked = [[names[k] for k in order if vote[k] >= PRESENT] for order, vote in zip(strongest, votes, strict=True)]
    table = pd.DataFrame(
        {
            "label": labels,
            "image": f"{at}/" + objects.file_name.to_numpy(object),
            "caption": [_caption(most, name) for most, name in zip(ranked, objects.object_name, strict=True)],
            "image_id": objects.image_id.to_numpy(),
            "attributes": [", ".join(most) for most in ranked],
            "object_name": objects.object_name.to_numpy(object),
            "box": objects.bbox.to_numpy(),
            "box_size": objects["size"].to_numpy(),
        }
    )
    return Pictures.of("coco-attributes", table, PicturesIn(folder, (at,)), split)


def _missing(folder: Path) -> str:
    pickle = next((name for name in PICKLES if (folder / name).is_file()), None)
    if pickle is None:
        return f"there is no {ATTRIBUTES} in {folder}: {HOW_ATTRIBUTES}"
    return (
        f"there is {pickle} but no {ATTRIBUTES} in {folder}: a pickle can run any code, so it is never loaded here; if you"
        f' trust it, convert it once, where joblib is installed, with: python -c "{CONVERT.format(pickle)}"'
    )


def _attributes(path: Path, split: str) -> tuple[list[str], list[int], np.ndarray, list[str]]:
    """Of a split: labels (n,), ids of COCO's annotations (n,), votes (n, attributes), and the attributes' names."""
    value = read_json(path)
    names = _listed(path, value, "attributes", "attribute", {"name": str}).sort_index().name.to_list()  # as the votes
    splits, ids, vectors = (entries(path, value, name, dict) for name in ("split", "patch_id_to_ann_id", "ann_vecs"))
    labels = [label for label, where in splits.items() if where == split]
    if not labels:
        raise LayoutError(f"{path} has no object of the split {split}")
    for label in labels:
        vote = vectors.get(label)
        if type(ids.get(label)) is not int or not isinstance(vote, list) or len(vote) != len(names):
            raise LayoutError(
                f"{path}: the object {label} lacks its number in patch_id_to_ann_id or its {len(names)} votes in ann_vecs"
            )
    try:
        votes = np.array([vectors[label] for label in labels], float)
    except (TypeError, ValueError):
        votes = np.array(np.nan)
    if not (votes.ndim == 2 and (votes >= 0).all() and (votes <= 1).all()):
        raise LayoutError(f"{path}: the votes in ann_vecs must be numbers from 0 to 1, and some aren't")
    return labels, [ids[label] for label in labels], votes, names


def _objects(path: Path, annotations: list[int]) -> pd.DataFrame:
    """File, box, image and category of these annotations, in their order."""
    value = read_json(path, {"segmentation"})
    columns = {"id": int, "image_id": int, "category_id": int, "bbox": list}
    wanted = {*annotations}
    chosen = [
        row for row in entries(path, value, "annotations", list) if isinstance(row, dict) and row.get("id") in wanted
    ]
    objects = records(path, chosen, "chosen annotation", columns, unique="id").set_index("id")
    if len(objects) < len(wanted):
        raise LayoutError(f"{path} has no annotation {min(wanted - {*objects.index})}, of which there are attributes")
    for number, box in objects.bbox.items():
        if len(box) != 4 or not all(type(side) in (int, float) and np.isfinite(side) for side in box):
            raise LayoutError(f"{path}: the annotation {number} has bbox={str(box)[:60]}, but four numbers are needed")
    for key, by, name in (("images", "image_id", "file_name"), ("categories", "category_id", "name")):
        rows = records(path, entries(path, value, key, list), key, {"id": int, name: str})
        check_unique(path, rows.id, key, "id", range(len(rows)))
        objects[name] = objects[by].map(rows.set_index("id")[name])
        if objects[name].isna().any():
            raise LayoutError(f"{path}: {by} {objects[by][objects[name].isna()].iloc[0]} isn't among the {key}")
    sizes = {row["id"]: (row.get("width"), row.get("height")) for row in value["images"]}
    objects["size"] = objects.image_id.map(sizes)
    return objects.rename(columns={"name": "object_name"}).loc[annotations]


def _caption(attributes: list[str], name: str) -> str:
    """Of an attribute with two names, "watching / looking", the first."""
    said = ", ".join(attribute.partition("/")[0].strip() for attribute in attributes[:NAMED])
    thing = f"{said} {name}".strip()
    return f"a photo of {_article(thing)} {thing}"


def _article(words: str) -> str:
    """Unlike the planted scenes' words, these may start with a u: an unhappy, but a useful or a uniform one."""
    lower = words.lower()
    vowel = lower[0] in "aeio" or (lower[0] == "u" and not lower.startswith(("us", "uni", "ut")))
    return "an" if vowel else "a"
