"""Images and what is said about them, as a model gets them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .places import Places

Picture = str | Path | Image.Image | np.ndarray
ENLARGEMENTS = ("interpolate", "crops")
Answers = Sequence[Sequence[int]]  # token ids
Key = tuple[float, str]  # scale and enlargement
NATIVE: Key = (1.0, "interpolate")
Grid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Seen:
    """One image of a view: the position in its ``ids`` of each of the image's tokens (t,), where in the image these are, and
    the pixels, with what else the vision tower takes."""

    tokens: Tensor
    places: Places
    vision: dict[str, Tensor]

    @property
    def shape(self) -> tuple:
        """What images that go through the vision tower in one batch have in common."""
        sizes = tuple((name, tuple(values.shape)) for name, values in sorted(self.vision.items()))
        return self.places.grid, sizes


@dataclass(frozen=True, eq=False)
class View:
    """An image and a prompt, or a conversation about several images, at one scale; all tensors are on the CPU.

    Cells are those image tokens that tile an image, a grid of (rows, cols), in row-major order, whatever their order in the
    sequence. ids : (L0,) input ids, image placeholders expanded, up to and including the assistant's header. kinds : what else
    the class wants to know of each of them, (L0,). images : in the order of the conversation. prompt_positions : (p,)
    positions of the tokens that user and assistant said. scale : side of the images in the model, relative to their native one.
    """

    ids: Tensor
    kinds: dict[str, Tensor]
    images: tuple[Seen, ...]
    prompt_positions: Tensor
    scale: float

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Rows and columns of each image's cells."""
        return tuple(seen.places.grid for seen in self.images)

    @property
    def grid(self) -> Grid:
        """Rows and columns of the cells; several images' cells are one row, image by image, see ``apart``."""
        if len(self.images) == 1:
            return self.grids[0]
        return 1, sum(rows * cols for rows, cols in self.grids)

    @property
    def tokens(self) -> Tensor:
        """(t,) position in ``ids`` of each image token."""
        return torch.cat([seen.tokens for seen in self.images])

    @property
    def feature_rows(self) -> Tensor:
        """(cells,) row of each cell in this view's entry of what ``encode`` returns."""
        found, before = [], 0
        for seen in self.images:
            found.append(seen.places.order + before)
            before += len(seen.tokens)
        return torch.cat(found)

    @property
    def image_positions(self) -> Tensor:
        """(cells,) position in ``ids`` of each cell."""
        return self.tokens[self.feature_rows]

    # of the first image, the only one but in conversations

    @property
    def places(self) -> Places:
        """Where the image's tokens are."""
        return self.images[0].places

    @property
    def vision(self) -> dict[str, Tensor]:
        """The image's pixels, and what else the vision tower takes."""
        return self.images[0].vision

    @property
    def region(self) -> tuple[float, float, float, float]:
        """Top, left, bottom, right of what the grid covers, in fractions of the image; beyond 0 to 1 where it is padded."""
        return self.places.region


def apart(maps: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
    """Each image's maps (n, T, rows, cols), of those of all cells, (n, T, *grid of a view with these grids)."""
    if len(grids) == 1:
        return [maps]
    parts = maps.flatten(2).split([rows * cols for rows, cols in grids], 2)
    return [part.unflatten(2, grid) for part, grid in zip(parts, grids, strict=True)]


def together(maps: Sequence[Tensor]) -> Tensor:
    """What ``apart`` took apart."""
    return maps[0] if len(maps) == 1 else torch.cat([each.flatten(2) for each in maps], 2)[:, :, None]
