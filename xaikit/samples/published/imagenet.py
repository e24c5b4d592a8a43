"""ImageNet's thousand classes: images in a folder a class, or Kaggle's flat folder of validation images.

Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015.
"""

import os
import re
from pathlib import Path

import pandas as pd

from ..source import PROMPT, Pictures, cleaned
from ..tables import (
    LayoutError,
    PicturesIn,
    check_lines,
    check_unique,
    choose_split,
    column,
    image_names,
    layout,
    read_json,
    read_rows,
    read_text,
)

HOW = (
    "get the validation images at image-net.org, 'Download', sorted into a folder a class by its number, or the archive of"
    " kaggle.com, 'ImageNet Object Localization Challenge'"
)
CLASS = re.compile(r"n[0-9]{8}")
KAGGLE = "ILSVRC/Data/CLS-LOC"
SOLUTION = "LOC_val_solution.csv"
NAMES = ("LOC_synset_mapping.txt", "classnames.txt", "imagenet_class_index.json")


@layout(HOW)
def imagenet(folder: Path, split: str | None = None) -> Pictures:
    """Images as samples, each with its class's prompt, "a photo of a NAME.", as caption, labelled and sorted by file, with its
    folder and ending ("n01440764/art_0.jpg") where files of several folders have one name.

    folder : holds ``val/n01440764/*.JPEG`` (or train, or the class folders themselves), or Kaggle's
        ``ILSVRC/Data/CLS-LOC/val/*.JPEG`` with ``LOC_val_solution.csv``.
    split : "val" or "train"; val by default.

    The names of the classes are those of ``LOC_synset_mapping.txt`` or ``classnames.txt`` (a line a class: number, name,
    maybe others behind commas) or ``imagenet_class_index.json``, in the folder or the one above; all that are named there are
    classes, in the order of their numbers, which is the published one. Where there is none, but a folder for each of the
    published thousand, they are open_clip's.
    """
    found = {name: at for name in ("val", "train") for at in (name, f"{KAGGLE}/{name}") if (folder / at).is_dir()}
    if not found and _class_folders(folder):
        found = {"val": ""}
    if not found:
        raise LayoutError(
            f"there is no folder val, train or {KAGGLE}/val, nor one named as n01440764, in {folder}: {HOW}"
        )
    split = choose_split("imagenet", folder, [*found], split, ("val",))
    at = found[split]
    numbers = _class_folders(folder / at)
    table, links = _by_folder(folder, at, numbers) if numbers else _flat(folder, at)
    names = _class_names(folder, numbers)
    place = {number: index for index, number in enumerate(names)}
    unknown = [number for number in table["class"].unique() if number not in place]
    if unknown:
        raise LayoutError(
            f"the class {unknown[0]} of {folder / at} isn't in the file of class names: the names of all are needed"
        )
    table["class_index"] = table.pop("class").map(place)
    names = dict(zip(names, cleaned(pd.Series(names.values(), dtype="str")), strict=True))
    prompts = [PROMPT.format(name) for name in names.values()]
    table["caption"] = [prompts[index] for index in table.class_index]
    return Pictures.of("imagenet", table, PicturesIn(folder, links), split, [*names.values()])


def _class_folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if CLASS.fullmatch(entry.name) and entry.is_dir())


def _by_folder(folder: Path, at: str, numbers: list[str]) -> tuple[pd.DataFrame, list[str]]:
    links = [f"{at}/{number}".lstrip("/") for number in numbers]
    listed = [image_names(folder / link) for link in links]
    times = [len(files) for files in listed]
    if not sum(times):
        raise LayoutError(f"there are no images in the class folders of {folder / at}: {HOW}")
    files = pd.Series([file for each in listed for file in each], dtype="str")
    classes = pd.Series(numbers, dtype="str").repeat(times).to_numpy()
    label = files.str.rpartition(".")[0]
    table = pd.DataFrame(
        {
            "label": classes + "/" + files if label.duplicated().any() else label,
            "image": pd.Series(links, dtype="str").repeat(times).to_numpy() + "/" + files,
            "class": classes,
        }
    )
    return table.sort_values("label", kind="stable", ignore_index=True), links


def _flat(folder: Path, at: str) -> tuple[pd.DataFrame, list[str]]:
    path = folder / SOLUTION
    if not path.is_file() or not at.endswith("val"):
        raise LayoutError(
            f"{folder / at} has no folders named as n01440764, nor has {folder} a {SOLUTION} for it: {HOW}"
        )
    rows = read_rows(path)
    label, answer = column(path, rows, "ImageId"), column(path, rows, "PredictionString")
    check_unique(path, label, "lines", "ImageId", rows.index)
    check_lines(path, answer, CLASS.pattern + r"( [\s\S]*)?", ": a class such as n01440764 comes first")
    number = answer.str.partition(" ")[0]
    table = pd.DataFrame({"label": label, "image": f"{at}/" + label + ".JPEG", "class": number})
    return table.sort_values("label", kind="stable", ignore_index=True), [at]


def _class_names(folder: Path, numbers: list[str]) -> dict[str, str]:
    """The classes' numbers and names, in the numbers' order."""
    for path in (above / name for above in (folder, folder.parent) for name in NAMES):
        if path.is_file():
            return _names_in(path)
    if len(numbers) == 1000 and numbers == _published():
        from open_clip import IMAGENET_CLASSNAMES  # only here, since it takes seconds

        return dict(zip(numbers, IMAGENET_CLASSNAMES, strict=True))
    raise LayoutError(
        f"there are {len(numbers) or 'no'} class folders in {folder}, not ImageNet's 1000, so the classes' names are needed: put"
        f" {', '.join(NAMES[:-1])} or {NAMES[-1]} there"
    )


def _published() -> list[str]:
    """The thousand classes' numbers."""
    from timm.data import ImageNetInfo

    return sorted(ImageNetInfo("imagenet-1k").label_names())


def _names_in(path: Path) -> dict[str, str]:
    pairs = []
    if path.suffix == ".json":
        value = read_json(path)
        for pair in value.values() if isinstance(value, dict) else ():
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise LayoutError(f'{path}: an entry such as ["n01440764", "tench"] is needed, not {str(pair)[:60]}')
            pairs.append((pair[0], pair[1].replace("_", " ")))
    else:
        for line in filter(None, map(str.strip, read_text(path).split("\n"))):
            number, _, names = line.partition(" ")
            pairs.append((number, names.partition(",")[0].strip()))
    for place, (number, name) in enumerate(pairs, 1):
        if not CLASS.fullmatch(number) or not name:
            raise LayoutError(
                f"{path}: entry {place}, {number} {name}, is no class's number and name such as n01440764 tench"
            )
    if len(dict(pairs)) < len(pairs) or not pairs:
        raise LayoutError(
            f"{path} names {'a class twice' if pairs else 'no class'}: each number and its name once is needed"
        )
    return dict(sorted(pairs))
