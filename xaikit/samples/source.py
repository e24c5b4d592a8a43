"""A dataset as a source of samples: how many there are, which belong to a share "i/k", and what each holds."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

from ..files.checks import check_whole
from ..files.store import annotate

BLOCK = 32  # samples computed and stored together


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

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start


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

    The provenance's ``left_out`` holds the reason of each bad one among them, by its label. Raises ValueError for n below 1,
    and for a source without any good sample.

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
    fill = {"token_text": "", "token_object": -1}
    together = xr.concat(found, "sample", join="outer", fill_value=fill, combine_attrs="override").drop_vars("error")
    return annotate(together, "inputs", left_out=left_out)
