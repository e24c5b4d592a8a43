"""A dataset as a source of samples: how many there are, which belong to a share "i/k", and what each holds.

Of pictures in files a table says what is known of each; bounding boxes become masks of what the model gets.
"""

import hashlib
import json
import re
import unicodedata
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image, ImageChops, ImageOps

from ..files.checks import check_whole
from ..files.schema import SCHEMA
from ..files.store import annotate

BLOCK = 32  # samples computed and stored together
PADDING = {  # of captions that are shorter, and of scenes that have fewer objects, than others
    "token_text": "", "token_object": -1, "object_name": "", "object_group": -1, "object_named": False, "object_mask": False,
}  # fmt: skip
KNOWN = {"foil": str, "attributes": str, "pair": int, "class_index": int, "image_id": int}  # of columns of a table
PROMPT = "a photo of a {}."  # of a class
BEYOND = 1.0  # pixel: annotations round
NO_WIDTH = dict.fromkeys(
    map(ord, "\u00ad\u200b\u2060\ufeff")
)  # soft hyphen, zero-width space, word joiner, byte order mark
SHOWN = 3  # reasons of samples that are left out, in a warning; the provenance has all


class Reader(Protocol):
    """What a source asks of a model: how large it takes an image, what it sees of one, and what it reads of a caption."""

    image_size: tuple[int, int]

    def seen(self, image: Image.Image) -> np.ndarray: ...

    def token_strings(self, texts: Sequence[str]) -> list[list[str]]: ...


@dataclass(frozen=True)
class Block:
    """``BLOCK`` samples in a row, the last block perhaps fewer: its number, and the rows of the source."""

    number: int
    rows: slice


def parse_shard(shard: str | None) -> tuple[int, int]:
    """i and k of "i/k", 1 <= i <= k; (1, 1) for None. Raises ValueError for anything else."""
    if shard is None:
        return 1, 1
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", shard) if isinstance(shard, str) else None
    share, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= share <= of:
        raise ValueError(f"shard={shard!r}: a share such as '3/16' is needed, from '1/16' to '16/16'")
    return share, of


def in_names(shard: str | None) -> str:
    """What tells the files of a share apart: ".3-of-16" for "3/16", nothing for None."""
    return "" if shard is None else "." + shard.replace("/", "-of-")


def blocks_of(n: int, shard: str | None = None) -> list[Block]:
    """The blocks of n samples that belong to a share: of k shares the i-th takes every k-th block, from the i-th on.

    Which samples a block holds depends on their places alone, so shares of any division agree on them, and samples that
    are added at the end move no other. Where there are more shares than blocks, those beyond take one that another takes as
    well, so that each has something to compute, or to find done.
    """
    share, of = parse_shard(shard)
    starts = range(0, n, BLOCK)
    first = (share - 1) % len(starts)
    return [Block(k, slice(starts[k], min(starts[k] + BLOCK, n))) for k in range(first, len(starts), of)]


@dataclass(frozen=True, eq=False)
class Source(ABC):
    """n samples in a fixed order.

    layout : the kind of dataset, such as "coco".
    labels : the samples' names (n,), text, each only once.
    classes, prompts : names of the classes, and the prompt of each, where the dataset has any.
    about : what made the source, for the provenance: plain values only, no path of a machine.
    """

    layout: str
    labels: np.ndarray
    classes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    about: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        if not len(self.labels):
            raise ValueError(f"the {self.layout} dataset holds no sample")
        again = pd.Series(self.labels, dtype=object).duplicated().to_numpy()  # by hashing: fast for millions, too
        if again.any():
            raise ValueError(f"the {self.layout} dataset has the sample {self.labels[again][0]!r} more than once")

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, n: int | None) -> "Source":
        """The first n samples, all for None or where there are fewer."""
        if n is None:
            return self
        check_whole(1, n=n)
        return replace(self, labels=self.labels[:n])

    def blocks(self, shard: str | None = None) -> list[Block]:
        """The blocks of samples that belong to a share "i/k", all for None; see ``blocks_of``."""
        return blocks_of(len(self), shard)

    @abstractmethod
    def digest(self, rows: slice = slice(None)) -> str:
        """16 hexadecimal digits that tell these samples from others, without reading an image."""

    @abstractmethod
    def inputs(self, rows: slice = slice(None), clip: Reader | None = None, size: int = 224) -> xr.Dataset:
        """These samples as a dataset of the ``inputs`` schema; nothing else is read.

        clip : images are as this model gets them, resized and cropped, and a caption that it can't take is an error too.
            Without it they are cropped to the square in their middle and resized to ``size`` pixels.

        The coordinate ``error`` holds the reason of each bad sample, whose image is black, and "" for a good one. Beside
        image and caption a layout gives what it knows: ``image_id`` (which samples show the same image), ``class_index``
        (place among ``classes``), ``foil`` (a caption that is false of the image), ``pair`` (samples that are each other's
        foil), ``foil_image`` (an image of which the caption is false), ``attributes``, and the objects' masks.
        """

    def is_good(self, row: int, clip: Reader | None = None) -> bool:
        """Whether a sample can be used, without the cost of a dataset: to see whether a bad one has been mended."""
        return self.inputs(slice(row, row + 1), clip).error.item() == ""


def first_good(source: Source, n: int, clip: Reader | None = None) -> xr.Dataset:
    """The first n good samples, or as many as there are, as a dataset of the ``inputs`` schema.

    The provenance's ``left_out`` holds the reason of each bad one among them, by its label, and a warning tells of them. Raises
    ValueError for n below 1, and for a source without any good sample.

    Examples
    --------
    >>> xk.samples.first_good(xk.open_source("planted"), 3).sizes["sample"]
    3
    """
    check_whole(1, n=n)
    found, left_out, wanted = [], {}, n
    for block in source.blocks():
        inputs = source.inputs(block.rows, clip)
        errors = inputs.error.values.astype(str)
        good = np.flatnonzero(errors == "")[:wanted]
        seen = errors[: good[-1] + 1] if len(good) == wanted else errors
        left_out |= {str(inputs.sample.values[place]): str(seen[place]) for place in np.flatnonzero(seen != "")}
        found.append(inputs.isel(sample=good))
        wanted -= len(good)
        if not wanted:
            break
    if wanted == n:
        label, reason = next(iter(left_out.items()))
        raise ValueError(f"the {source.layout} dataset holds no good sample; the first one, {label}: {reason}")
    if left_out:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in [*left_out.items()][:SHOWN])
        more = f"; and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
        warnings.warn(
            f"{len(left_out)} samples of the {source.layout} dataset can't be used and are left out: {reasons}{more}",
            stacklevel=2,
        )
    return annotate(joined(found).drop_vars("error"), "inputs", left_out=left_out)


def joined(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Inputs one after another, short captions and scenes of few objects padded."""
    return xr.concat(parts, "sample", join="outer", fill_value=PADDING, combine_attrs="override")


def as_inputs(values: Mapping[str, object], **coords: object) -> xr.Dataset:
    """Variables of the ``inputs`` schema as a dataset, with the places of words, pixels and colours beside other coordinates."""
    ds = xr.Dataset({name: (SCHEMA["inputs"][name].dims, value) for name, value in values.items()})
    places = {dim: np.arange(ds.sizes[dim]) for dim in ("token", "y", "x")}
    return ds.assign_coords({**coords, **places, "rgb": ["red", "green", "blue"]})


def hexadecimal(values: object) -> str:
    """The first 16 digits of a SHA-256 over plain values."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def box_mask(box: Sequence[float], size: tuple[int, int], seen: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Which pixels (y, x) of a resized and cropped image show a box: those of which it takes up more than half.

    box : (left, top, width, height) in pixels of the image as it was, which had this size (width, height).
    seen : what was done to the image, from an RGB picture to uint8 (y, x, 3).

    The box is painted white on black and, to tell it from any colour of a margin that ``seen`` adds, black on white. Raises
    ValueError for a box that isn't inside the image, which then isn't the one that was annotated, or is given in shares of it.
    """
    left, top, wide, high = box
    right, bottom = left + wide, top + high
    told = f"the box {', '.join(f'{value:g}' for value in box)} (left, top, width, height)"
    if max(box) <= 1 < min(size):
        raise ValueError(f"{told} is less than a pixel: shares of the image's sides are none, pixels are needed")
    if min(wide, high) <= 0 or min(left, top) < -BEYOND or right > size[0] + BEYOND or bottom > size[1] + BEYOND:
        raise ValueError(
            f"{told} isn't inside the image of {size[0]} x {size[1]} pixels: it was annotated on another image, or on this one in"
            " another size"
        )
    painted = Image.new("RGB", size)
    x, y = round(max(left, 0)), round(max(top, 0))
    painted.paste((255, 255, 255), (x, y, max(round(right), x + 1), max(round(bottom), y + 1)))  # at least one pixel
    return _seen_white(painted, seen)


def _seen_white(painted: Image.Image, seen: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Which pixels (y, x) of what ``seen`` makes of a picture in black and white are white by more than half."""
    return seen(painted)[..., 0] > seen(ImageChops.invert(painted))[..., 0]


def drawn_mask(mask: Image.Image, picture: Image.Image, seen: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Which pixels (y, x) of a resized and cropped image show what its mask (black and white, as ``seen`` takes it) does.
    Raises ValueError for one of another size, or of a picture that may have been turned since."""
    turned = picture.info.get("turned", 1)
    if turned != 1 and (turned < 5 or picture.width == picture.height):  # else the size tells
        raise ValueError("its EXIF note turns the image: whether its mask was drawn before or after isn't known")
    if mask.size != picture.size:
        raise ValueError(
            f"the mask has {mask.width} x {mask.height} pixels, but its image {picture.width} x {picture.height}"
        )
    return _seen_white(mask, seen)


def _storable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column ``problem``, and without NULs in texts, which end there for a store: each is that row's problem."""
    table = table.assign(problem=table.get("problem", ""))
    names = table.columns.difference(["image", "foil_image", "mask", "problem"])
    for name in (name for name in names if table[name].dtype.kind in "OUT"):
        held = table[name].map(lambda text: isinstance(text, str) and "\0" in text)
        if held.any():
            what = "its name" if name == "label" else f"its {name.replace('_', ' ')}"
            table.loc[held, "problem"] = f"{what} holds a NUL character, which can't be part of a text"
            table.loc[held, name] = table.loc[held, name].str.replace("\0", "\ufffd")
    return table


def cleaned(names: pd.Series) -> pd.Series:
    """Names without blanks around them, with one between words, without characters of no width, and with each letter one
    character: those that look alike are."""
    return names.map(lambda name: unicodedata.normalize("NFC", " ".join(name.translate(NO_WIDTH).split())))


def _box_on(picture: Image.Image, box: Sequence[float], size: tuple[int | None, int | None]) -> Sequence[float]:
    """A box that was annotated on a picture of this size (width, height; None where it isn't known), on the picture as it is,
    which may be another in size alone. Raises ValueError for one that is turned, or of other proportions."""
    known, turned = all(type(side) is int and side > 0 for side in size), picture.info.get("turned", 1)
    if turned != 1 and (turned < 5 or not known or size[0] == size[1]):  # else the size tells
        raise ValueError("its EXIF note turns the image: whether its box was annotated before or after isn't known")
    if not known:
        return box
    across, down = (now / then for now, then in zip(picture.size, size, strict=True))
    if abs(across - down) * max(size) > max(BEYOND, across, down):  # more than rounding to whole pixels
        raise ValueError(
            f"the image has {picture.width} x {picture.height} pixels, but its box was annotated on {size[0]} x {size[1]}"
        )
    return [side * scale for side, scale in zip(box, (across, down, across, down), strict=True)]


@dataclass(frozen=True, eq=False)
class Pictures(Source):
    """Samples whose images lie in files.

    table : a row a sample, in the order of the labels. The columns ``image`` (what ``read`` takes) and ``caption`` are
        always there; others are ``image_id``, ``class_index``, ``foil``, ``pair``, ``foil_image``, ``attributes``, and
        ``box`` ((left, top, width, height)) with ``box_size`` (width, height) of the image on which it was annotated and
        ``object_name`` of the one object that the caption names; or ``mask`` (what ``read.mask`` takes) instead of the box.
    read : from an entry of ``image`` (or ``foil_image``) to an RGB picture; raises ValueError or OSError, in one sentence,
        for a bad one.
    """

    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    read: Callable[[object], Image.Image] = field(kw_only=True)

    @classmethod
    def of(
        cls, layout: str, table: pd.DataFrame, read: Callable, split: str | None = None, classes: Sequence[str] = ()
    ) -> "Pictures":
        """From a table with the samples' names in the column ``label``; a class's prompt is "a photo of a NAME.".

        A row whose ``problem`` isn't "" is a bad sample for that reason, and so is one with a text that no store can hold.
        """
        table = _storable(table)
        labels, about = table.label.to_numpy(object), {} if split is None else {"split": split}
        prompts = tuple(PROMPT.format(name) for name in classes)
        return cls(layout, labels, tuple(classes), prompts, about, table.drop(columns="label"), read=read)

    def digest(self, rows: slice = slice(None)) -> str:
        """16 hexadecimal digits over all that the table says of these samples; an image counts by its name, and by the size
        and time of its file, where ``read`` has a ``stamp`` to tell them."""
        table, stamp = self._rows(rows), getattr(self.read, "stamp", None)
        values = {name: table[name].tolist() for name in sorted(table)}
        if stamp is not None:
            values["stamps"] = [
                stamp(entry) for name in ("image", "foil_image", "mask") if name in table for entry in table[name]
            ]
        return hexadecimal([self.layout, self.prompts, [str(label) for label in self.labels[rows]], values])

    def inputs(self, rows: slice = slice(None), clip: Reader | None = None, size: int = 224) -> xr.Dataset:
        check_whole(1, size=size)
        table, labels = self._rows(rows), self.labels[rows].astype(str)
        (height, width), n = clip.image_size if clip else (size, size), len(table)
        shown = {name: np.zeros((n, height, width, 3), np.uint8) for name in ("image", "foil_image") if name in table}
        if "box" in table or "mask" in table:
            shown["object_mask"] = np.zeros((n, 1, height, width), bool)
        read = lru_cache(maxsize=1)(self.read)  # captions of one image follow one another
        texts, errors = [[] for _ in range(n)], [""] * n
        for place, row in enumerate(table.to_dict("records")):
            try:
                texts[place], arrays = self._sample(row, read, clip, size)
                for name, values in arrays.items():
                    shown[name][place] = values
            except (ValueError, OSError) as error:
                errors[place] = _reason(error)
        length = max([1, *map(len, texts)])
        values = {**shown, "caption": table.caption.to_numpy(str)}
        values["token_text"] = np.array([[*text, *[""] * (length - len(text))] for text in texts], str)
        values |= {name: table[name].to_numpy(kind) for name, kind in KNOWN.items() if name in table}
        if "object_name" in table:
            values["object_name"] = table.object_name.to_numpy(str)[:, None]
            values["object_named"] = np.ones((n, 1), bool)
        ds = as_inputs(values, sample=labels).assign_coords(error=("sample", errors))
        return annotate(ds, "inputs", layout=self.layout, **self.about)

    def is_good(self, row: int, clip: Reader | None = None) -> bool:
        try:
            self._sample(self._rows(slice(row, row + 1)).to_dict("records")[0], self.read, clip, 8)
        except (ValueError, OSError):
            return False
        return True

    def _sample(
        self, row: dict, read: Callable[[object], Image.Image], clip: Reader | None, size: int
    ) -> tuple[Sequence[str], dict[str, np.ndarray]]:
        """Words, and images with the object's mask, if it has one. Raises ValueError or OSError for a bad sample."""

        def seen(image: Image.Image) -> np.ndarray:
            return clip.seen(image) if clip else np.asarray(ImageOps.fit(image, (size, size)))

        if row.get("problem"):
            raise ValueError(row["problem"])
        words = _words(row["caption"], clip)
        picture = read(row["image"])
        arrays = {"image": seen(picture)}
        if "foil_image" in row:
            try:
                arrays["foil_image"] = seen(self.read(row["foil_image"]))
            except (ValueError, OSError) as error:
                raise ValueError(f"of the foil: {error}") from error
        if "box" in row:
            arrays["object_mask"] = box_mask(
                _box_on(picture, row["box"], row.get("box_size", (None, None))), picture.size, seen
            )
        elif "mask" in row:
            arrays["object_mask"] = drawn_mask(self.read.mask(row["mask"]), picture, seen)
        return words, arrays

    def _rows(self, rows: slice) -> pd.DataFrame:
        return self.table.iloc[: len(self)].iloc[rows]


def _words(caption: str, clip: Reader | None) -> Sequence[str]:
    """The caption's own tokens, its words where there is no model. Raises ValueError for one that the model can't take."""
    if not caption.strip():
        raise ValueError("the caption is empty: a caption of at least one word is needed")
    return clip.token_strings([caption])[0] if clip else caption.split()


def _reason(error: Exception) -> str:
    """One line, in the words of a sample by itself: neither "image 0" nor "text 0"."""
    return " ".join(str(error).replace("\0", "\ufffd").split()).replace("text 0 ", "caption ", 1)
