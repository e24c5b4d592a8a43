"""COCO captions: images with five captions each, as published in 2014 and 2017, and in Karpathy's split of 2014.

Lin et al., Microsoft COCO: Common Objects in Context, 2014. Karpathy and Fei-Fei, Deep Visual-Semantic Alignments, 2015.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..pictures import Pictures
from ..tables import LayoutError, choose_split, entries, first_folder, picture_in, read_json, records

HOW = (
    "get the captions and images of val2017 or another split at cocodataset.org, 'Download', and Karpathy's"
    " dataset_coco.json from his page on deep visual-semantic alignments"
)
KARPATHY = "dataset_coco.json"
KARPATHY_SPLITS = ("train", "restval", "val", "test")
USUAL = ("val2017", "val2014", "karpathy-test")
IMAGES = {"id": int, "file_name": str}
CAPTIONS = {"image_id": int, "caption": str}


def open_coco(folder: Path, split: str | None = None) -> Pictures:
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
    table, folders = _of_a_year(folder, notes, split) if split in years else _of_karpathy(folder, karpathy, split)
    labels = table.pop("label").to_numpy(object)
    return Pictures("coco", labels, about={"split": split}, table=table, read=picture_in(folder, folders))


def image_folder(folder: Path, split: str) -> str:
    """The name of the folder that holds a split's images. Raises LayoutError if there is none."""
    found = first_folder(folder, (split, f"images/{split}"))
    if found is None:
        raise LayoutError(f"there is no folder {split} (or images/{split}) of images in {folder}: {HOW}")
    return found


def _of_a_year(folder: Path, notes: Path, split: str) -> tuple[pd.DataFrame, list[str]]:
    path = notes / f"captions_{split}.json"
    value = read_json(path)
    images = records(path, entries(path, value, "images", list), "image", IMAGES, unique="id").set_index("id")
    captions = records(path, entries(path, value, "annotations", list), "annotation", CAPTIONS)
    place, first_seen = pd.factorize(captions.image_id)
    unknown = ~np.isin(first_seen, images.index)
    if unknown.any():
        raise LayoutError(
            f"{path}: an annotation is of the image {first_seen[unknown][0]}, which isn't among the images"
        )
    captions = captions.iloc[np.argsort(place, kind="stable")]
    at = image_folder(folder, split)
    return _table(captions.image_id, f"{at}/" + images.file_name[captions.image_id], captions.caption), [at]


def _of_karpathy(folder: Path, path: Path, split: str) -> tuple[pd.DataFrame, list[str]]:
    columns = {"cocoid": int, "filepath": str, "filename": str, "split": str, "sentences": list}
    images = records(
        path, entries(path, read_json(path, {"tokens"}), "images", list), "image", columns, unique="cocoid"
    )
    images = images[images.split == split.removeprefix("karpathy-")]
    if not len(images):
        raise LayoutError(f"{path} has no image of the split {split}")
    at = {name: _folder_of_images(folder, path, name) for name in images.filepath.unique()}
    each = [sentence for said in images.sentences for sentence in said]
    sentences = records(path, each, f"sentence of {split},", {"raw": str})
    times = images.sentences.map(len)
    files = images.filepath.map(at) + "/" + images.filename
    return _table(images.cocoid.repeat(times), files.repeat(times), sentences.raw), [*at.values()]


def _folder_of_images(folder: Path, path: Path, name: str) -> str:
    if not re.fullmatch(r"\w+", name):
        raise LayoutError(f"{path}: the filepath {name!r} is no plain name of a folder such as 'val2014'")
    return image_folder(folder, name)


def _table(ids: pd.Series, files: pd.Series, captions: pd.Series) -> pd.DataFrame:
    ids = ids.reset_index(drop=True)
    label = ids.astype(str) + "-" + ids.groupby(ids).cumcount().astype(str)
    return pd.DataFrame(
        {"label": label, "image": files.to_numpy(), "caption": captions.str.strip().to_numpy(), "image_id": ids}
    )
