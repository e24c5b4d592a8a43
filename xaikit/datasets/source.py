"""A source: samples in a fixed order, each an image with a caption, as many as a dataset has; read only when asked for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from ..checks import check_whole
from .shards import Block, blocks_of

if TYPE_CHECKING:
    from ..clip import Clip


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
    def inputs(self, rows: slice = slice(None), clip: "Clip | None" = None, size: int = 224) -> xr.Dataset:
        """These samples as a dataset of the ``inputs`` schema; nothing else is read.

        clip : images are as this model gets them, resized and cropped, and a caption that it can't take is an error too.
            Without it they are cropped to the square in their middle and resized to ``size`` pixels.

        The coordinate ``error`` holds the reason of each bad sample, whose image is black, and "" for a good one. Beside
        image and caption a layout gives what it knows: ``image_id`` (which samples show the same image), ``class_index``
        (place among ``classes``), ``foil`` (a caption that is false of the image), ``pair`` (samples that are each other's
        foil), ``foil_image`` (an image of which the caption is false), ``attributes``, and the objects' masks.
        """

    def is_good(self, row: int, clip: "Clip | None" = None) -> bool:
        """Whether a sample can be used, without the cost of a dataset: to see whether a bad one has been mended."""
        return self.inputs(slice(row, row + 1), clip).error.item() == ""
