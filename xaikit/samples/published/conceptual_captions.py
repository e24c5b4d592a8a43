"""Conceptual Captions: tables of captions and addresses, and the images that a download tool has saved.

Sharma et al., Conceptual Captions: A Cleaned, Hypernymed, Image Alt-text Dataset, 2018.
"""

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ..source import Pictures
from ..tables import SUFFIXES, LayoutError, PicturesIn, choose_split, layout, read_text

HOW = (
    "get the table at ai.google.com/research/ConceptualCaptions, 'Download', and the images with img2dataset or a script that"
    " names them by row or by CRC-32"
)
TABLES = {"train": "Train_GCC-training.tsv", "validation": "Validation_GCC-1.1.0-Validation.tsv"}
NAME = re.compile(r"([0-9]{1,18})(_[0-9]{1,10})?(\.[A-Za-z]{3,4})?")  # of a row or a CRC, before a CRC and a suffix
FOLDERS = {"train": ("training", "train"), "validation": ("validation", "val")}


@layout(HOW)
def conceptual_captions(folder: Path, split: str | None = None) -> Pictures:
    """A sample a row of the table, labelled by the row's number from 0, whether its image was downloaded or not.

    folder : holds ``Train_GCC-training.tsv`` or ``Validation_GCC-1.1.0-Validation.tsv`` (caption, tab, address; a header
        "caption, tab, url" may come first) and a folder of images: "training" or "train", "validation" or "val"; where
        there is only one table also "images", or the folder itself.
    split : "train" or "validation"; by default the only one that is there, or validation.

    An image has the name that img2dataset gives it, ``00012/000123456.jpg`` with the row's number, written with 10000 (or
    another power of ten) samples a shard; or ``ROW.jpg``; or, without a suffix, ``ROW_CRC`` or ``CRC`` with the CRC-32 of
    the address. The caption that img2dataset leaves beside an image, and a name's CRC, must be those of the row.
    """
    found = [name for name, table in TABLES.items() if (folder / table).is_file()]
    if not found:
        raise LayoutError(f"there is neither {' nor '.join(TABLES.values())} in {folder}: {HOW}")
    split = choose_split("conceptual-captions", folder, found, split, ("validation",))
    table = _read(folder / TABLES[split])
    table["image"] = np.arange(len(table))
    read = _Downloaded(folder, FOLDERS[split] + (("images", "") if len(found) == 1 else ()), table)
    return Pictures.of("conceptual-captions", table.assign(label=table.image.astype(str)), read, split)


def _read(path: Path) -> pd.DataFrame:
    lines = read_text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    if lines[0] == "caption\turl" or lines == [""]:  # a header, or nothing at all
        del lines[0]
    parts = [line.rpartition("\t") for line in lines]
    table = pd.DataFrame([(said, url) for said, _, url in parts], columns=["caption", "url"], dtype="str")
    without = np.array([not (tab and url) for _, tab, url in parts], bool)
    if without.any():
        raise LayoutError(f"{path}: row {int(without.argmax())} (the first is 0) has no address after a tab")
    several = "the row has more than a caption, a tab and an address: a tab can't be part of a caption"
    return table.assign(problem=table.caption.str.contains("\t", regex=False).map({True: several, False: ""}))


class _Downloaded:
    """From a row's number to its image; the folders are listed once, when the first image is asked for."""

    def __init__(self, folder: Path, candidates: tuple[str, ...], table: pd.DataFrame):
        self.folder, self.table = folder, table
        self.at = next((name for name in candidates if (folder / name).is_dir()), None)
        if self.at is None or not next(_names(folder / self.at), None):
            told = ", ".join(name or "the folder itself" for name in candidates)
            raise LayoutError(f"there are no images in {folder} (looked for in {told}): {HOW}")
        self.rows = None

    def __call__(self, entry: object) -> Image.Image:
        row, name = int(entry), self._name(int(entry))
        if name is None:
            raise FileNotFoundError(
                f"the image of row {row} isn't in {self.at or self.folder.name}: it wasn't downloaded"
            )
        stem = name.rpartition("/")[2].partition(".")[0]
        if "_" in stem and stem != f"{row}_{self._address(row)}":
            raise ValueError(f"the image {name} is of another address than that of row {row}")
        picture = self.read(name)
        self._check_caption(name, row)
        return picture

    def stamp(self, entry: object) -> tuple[int, int] | None:
        """What changes when the row's image does; None where there is none."""
        name = self._name(int(entry))
        return None if name is None else self.read.stamp(name)

    def _name(self, row: int) -> str | None:
        """Of several (.jpg and .png) the first in the alphabet."""
        if self.rows is None:
            self._list()
        address = self._address(row)
        named = self.rows.loc[row:row].to_list() or self.checks.loc[address:address].to_list()
        return min(named, default=None)

    def _address(self, row: int) -> int:
        return zlib.crc32(self.table.url.iloc[row].encode())

    def _list(self) -> None:
        names = pd.Series([*_names(self.folder / self.at)], dtype="str")
        names.index = names.str.extract("(?:^|/)([0-9]+)[^/]*$")[0].astype("int64")
        names = names.sort_index()
        bare = ~names.str.contains("[._]").to_numpy()  # neither a suffix nor a row before it: a CRC alone
        self.rows, self.checks = names[~bare], names[bare]
        self.read = PicturesIn(self.folder / self.at, names.str.rpartition("/")[0].unique())

    def _check_caption(self, name: str, row: int) -> None:
        """A table that was downloaded in another order, or in shards of another size, would give wrong captions silently."""
        beside = (self.folder / self.at / name).with_suffix(".txt")
        if not beside.is_file() or beside.stat().st_size > 100_000:
            return
        said = beside.read_text(encoding="utf-8", errors="replace")
        if _letters(said) != _letters(self.table.caption.iloc[row]):
            raise ValueError(f"the image {name} was downloaded with another caption than that of row {row}")


def _names(folder: Path) -> Iterator[str]:
    """The image files of a folder and of the folders in it, without looking at any."""
    with os.scandir(folder) as entries:
        for entry in entries:
            found = NAME.fullmatch(entry.name)
            if found and not found[3] and entry.is_dir():
                with os.scandir(entry) as inner:
                    yield from (f"{entry.name}/{each.name}" for each in inner if _is_image(NAME.fullmatch(each.name)))
            elif found and (not found[3] or _is_image(found)):
                yield entry.name


def _is_image(found: re.Match | None) -> bool:
    return found is not None and (found[3] or "").lower() in SUFFIXES


def _letters(caption: str) -> str:
    return "".join(letter for letter in caption if letter.isalnum())
