"""Pictures in files as a source: a table says what is known of each; bounding boxes become masks of what the model gets."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image, ImageChops, ImageOps

from ..files.checks import check_whole
from ..files.store import annotate
from .source import Reader, Source

KNOWN = {"foil": str, "attributes": str, "pair": int, "class_index": int, "image_id": int}  # of columns of the table
BEYOND = 1.0  # pixel: annotations round


def box_mask(box: Sequence[float], size: tuple[int, int], seen: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Which pixels (y, x) of a resized and cropped image show a box: those of which it takes up more than half.

    box : (left, top, width, height) in pixels of the image as it was, which had this size (width, height).
    seen : what was done to the image, from an RGB picture to uint8 (y, x, 3).

    The box is painted white on black and, to tell it from any colour of a margin that ``seen`` adds, black on white. Raises
    ValueError for a box that isn't inside the image, which then isn't the one that was annotated.
    """
    left, top, wide, high = box
    if (
        wide <= 0
        or high <= 0
        or min(left, top) < -BEYOND
        or left + wide > size[0] + BEYOND
        or top + high > size[1] + BEYOND
    ):
        raise ValueError(
            f"the box {', '.join(f'{value:g}' for value in box)} (left, top, width, height) isn't inside the image of"
            f" {size[0]} x {size[1]} pixels: it was annotated on another image, or on this one in another size"
        )
    painted = Image.new("RGB", size)
    first, last = (round(max(left, 0)), round(max(top, 0))), (round(left + wide), round(top + high))
    corner = tuple(max(end, start + 1) for start, end in zip(first, last, strict=True))  # at least one pixel
    painted.paste((255, 255, 255), (*first, *corner))
    return seen(painted)[..., 0] > seen(ImageChops.invert(painted))[..., 0]


@dataclass(frozen=True, eq=False)
class Pictures(Source):
    """Samples whose images lie in files.

    table : a row a sample, in the order of the labels. The columns ``image`` (what ``read`` takes) and ``caption`` are
        always there; others are ``image_id``, ``class_index``, ``foil``, ``pair``, ``foil_image``, ``attributes``, and
        ``box`` ((left, top, width, height) in pixels of the file) with ``object_name`` of the one object that the caption
        names.
    read : from an entry of ``image`` (or ``foil_image``) to an RGB picture; raises ValueError or OSError, in one sentence,
        for a bad one.
    """

    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    read: Callable[[object], Image.Image] = field(kw_only=True)

    def digest(self, rows: slice = slice(None)) -> str:
        """16 hexadecimal digits over all that the table says of these samples: an image counts by its name only."""
        table = self._rows(rows)
        values = {name: table[name].tolist() for name in sorted(table)}
        told = [self.layout, self.prompts, [str(label) for label in self.labels[rows]], values]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def inputs(self, rows: slice = slice(None), clip: Reader | None = None, size: int = 224) -> xr.Dataset:
        check_whole(1, size=size)
        table = self._rows(rows)
        height, width = clip.image_size if clip else (size, size)
        names = ["image", *({"foil_image"} & {*table})]
        shown = {name: np.zeros((len(table), height, width, 3), np.uint8) for name in names}
        mask = np.zeros((len(table), 1, height, width), bool)
        read = lru_cache(maxsize=1)(self.read)  # captions of one image follow one another
        texts, reasons = [], []
        for place, row in enumerate(table.to_dict("records")):
            try:
                words, images, own_mask = self._sample(row, read, clip, size)
                for name, image in images.items():
                    shown[name][place] = image
                if own_mask is not None:
                    mask[place, 0] = own_mask
                texts.append(words)
                reasons.append("")
            except (ValueError, OSError) as error:
                texts.append([])
                reasons.append(_reason(error))
        ds = _dataset(self.labels[rows], shown, [*map(str, table.caption)], texts, reasons)
        for name in [name for name in KNOWN if name in table]:
            ds[name] = ("sample", table[name].to_numpy(KNOWN[name]))
        if "box" in table:
            ds["object_mask"] = (("sample", "object", "y", "x"), mask)
            ds["object_name"] = (("sample", "object"), table.object_name.to_numpy(str)[:, None])
            ds["object_named"] = (("sample", "object"), np.ones((len(table), 1), bool))
        return annotate(ds, "inputs", layout=self.layout, **self.about)

    def is_good(self, row: int, clip: Reader | None = None) -> bool:
        try:
            self._sample(self._rows(slice(row, row + 1)).to_dict("records")[0], self.read, clip, 8)
        except (ValueError, OSError):
            return False
        return True

    def _sample(
        self, row: dict, read: Callable[[object], Image.Image], clip: Reader | None, size: int
    ) -> tuple[list[str], dict[str, np.ndarray], np.ndarray | None]:
        """Words, images and the object's mask, if it has one. Raises ValueError or OSError for a bad sample."""
        words = _words(row["caption"], clip)
        picture = read(row["image"])
        images = {"image": _seen(picture, clip, size)}
        if "foil_image" in row:
            images["foil_image"] = _foil(self.read, row["foil_image"], clip, size)
        if "box" not in row:
            return words, images, None
        return words, images, box_mask(row["box"], picture.size, lambda image: _seen(image, clip, size))

    def _rows(self, rows: slice) -> pd.DataFrame:
        return self.table.iloc[: len(self)].iloc[rows]


def _dataset(
    labels: np.ndarray, shown: dict[str, np.ndarray], captions: list[str], texts: list[list[str]], reasons: list[str]
) -> xr.Dataset:
    """Images (sample, y, x, rgb), captions and their words, with the coordinates that planted scenes have."""
    words = np.full((len(texts), max([1, *map(len, texts)])), "", dtype=object)
    for place, text in enumerate(texts):
        words[place, : len(text)] = text
    height, width = shown["image"].shape[1:3]
    return xr.Dataset(
        {
            **{name: (("sample", "y", "x", "rgb"), values) for name, values in shown.items()},
            "caption": ("sample", np.array(captions, str)),
            "token_text": (("sample", "token"), words.astype(str)),
        },
        {
            "sample": labels.astype(str), "error": ("sample", np.array(reasons, str)), "token": np.arange(words.shape[1]),
            "y": np.arange(height), "x": np.arange(width), "rgb": ["red", "green", "blue"],
        },
    )  # fmt: skip


def _seen(image: Image.Image, clip: Reader | None, size: int) -> np.ndarray:
    return clip.seen(image) if clip else np.asarray(ImageOps.fit(image, (size, size)))


def _foil(read: Callable, entry: object, clip: Reader | None, size: int) -> np.ndarray:
    try:
        return _seen(read(entry), clip, size)
    except (ValueError, OSError) as error:
        raise ValueError(f"of the foil: {error}") from error


def _words(caption: str, clip: Reader | None) -> Sequence[str]:
    """The caption's own tokens, its words where there is no model. Raises ValueError for one that the model can't take."""
    if not caption.strip():
        raise ValueError("the caption is empty: a caption of at least one word is needed")
    return clip.token_strings([caption])[0] if clip else caption.split()


def _reason(error: Exception) -> str:
    """One line, in the words of a sample by itself: neither "image 0" nor "text 0"."""
    return " ".join(str(error).split()).replace("text 0 ", "caption ", 1)
