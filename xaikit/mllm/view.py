"""An image and a prompt as a model gets them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from .places import Places

Picture = str | Path | Image.Image | np.ndarray
ENLARGEMENTS = ("interpolate", "crops")
Answers = Sequence[Sequence[int]]  # token ids
Key = tuple[float, str]  # scale and enlargement
NATIVE: Key = (1.0, "interpolate")


@dataclass(frozen=True, eq=False)
class View:
    """An image and a prompt at one scale; all tensors are on the CPU.

    Cells are those image tokens that tile the image, a ``grid`` (rows, cols), in row-major order, whatever their order in the
    sequence. ids : (L0,) input ids, image placeholders expanded, up to and including the assistant's header. kinds : what else
    the class wants to know of each of them, (L0,). tokens : (t,) position in ``ids`` of each image token. places : where in
    the image these are. prompt_positions : (p,) positions of the user's own prompt tokens. vision : pixels of this one
    image, and what else the vision tower takes. scale : side of the image in the model, relative to its native one.
    """

    ids: Tensor
    kinds: dict[str, Tensor]
    tokens: Tensor
    places: Places
    prompt_positions: Tensor
    vision: dict[str, Tensor]
    scale: float

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the cells."""
        return self.places.grid

    @property
    def region(self) -> tuple[float, float, float, float]:
        """Top, left, bottom, right of what the grid covers, in fractions of the image; beyond 0 to 1 where it is padded."""
        return self.places.region

    @property
    def feature_rows(self) -> Tensor:
        """(rows * cols,) row of each cell in this view's entry of what ``encode`` returns."""
        return self.places.order

    @property
    def image_positions(self) -> Tensor:
        """(rows * cols,) position in ``ids`` of each cell."""
        return self.tokens[self.places.order]

    @property
    def shape(self) -> tuple:
        """What views that go through the vision tower in one batch have in common."""
        return tuple((name, tuple(values.shape)) for name, values in sorted(self.vision.items()))
