"""Images and what is said about them, as a model gets them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..files.checks import check_number
from ..files.images import read_image
from .places import Places


@dataclass(frozen=True, eq=False)
class Video:
    """Frames (height, width, 3) of one size, all of which the model sees; ``fps``, how many a second, None for what its class
    takes where nobody says."""

    frames: tuple[Image.Image, ...]
    fps: float | None = None

    @classmethod
    def of(cls, frames: Any, fps: Any = None, label: str = "the video") -> "Video":
        """The video of an array (frames, height, width, 3) or a list of images; ValueError, naming it, where it is none."""
        if isinstance(frames, cls):
            return frames
        if frames is None or isinstance(frames, str | Path) or not (hasattr(frames, "__len__") and len(frames)):
            raise ValueError(
                f"{label} is {frames!r:.40}: give its frames, at least one, as a list of images or an array (frames, height,"
                " width, 3)"
            )
        try:
            found = tuple(read_image(frame, index) for index, frame in enumerate(frames))
        except ValueError as error:
            raise ValueError(f"of {label} {error}") from error
        for index, frame in enumerate(found):
            if frame.size != found[0].size:
                sizes = " and ".join(f"{one.width} x {one.height}" for one in (found[0], frame))
                raise ValueError(
                    f"frames 0 and {index} of {label} have {sizes} pixels: all frames of a video have one size"
                )
        if fps is not None:
            check_number(0, open_low=True, fps=fps)
        return cls(found, fps)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as of an image."""
        return self.frames[0].size

    @property
    def width(self) -> int:
        """Pixels along a row."""
        return self.size[0]

    @property
    def height(self) -> int:
        """Pixels along a column."""
        return self.size[1]

    def resize(self, size: Sequence[int], resample: Image.Resampling) -> "Video":
        """Each frame resized, as an image is."""
        return Video(tuple(frame.resize(size, resample) for frame in self.frames), self.fps)


Picture = str | Path | Image.Image | np.ndarray
Medium = Image.Image | Video  # what an input is about, and gives maps of
ENLARGEMENTS = ("interpolate", "crops")
Answers = Sequence[Sequence[int]]  # token ids
Key = tuple[float, str]  # scale and enlargement
NATIVE: Key = (1.0, "interpolate")
Grid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Seen:
    """One image or video of a view: the position in its ``ids`` of each of its tokens (t,), where in it these are, and the
    pixels, with what else the vision tower takes."""

    tokens: Tensor
    places: Places
    vision: dict[str, Tensor]

    @property
    def pixels(self) -> str:
        """The name of the pixels in ``vision``."""
        return pixels_of(self.vision)

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
        """Rows and columns of the cells of each image, and of what a video's tokens see at a time."""
        return tuple(seen.places.grid for seen in self.images for _ in seen.places.frames)

    @property
    def grid(self) -> Grid:
        """Rows and columns of the cells; several images' cells are one row, image by image, see ``apart``."""
        if len(self.grids) == 1:
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


def pixels_of(vision: Mapping[str, Any]) -> str:
    """The name of the pixels among what a vision tower takes."""
    return "pixel_values_videos" if "pixel_values_videos" in vision else "pixel_values"


def apart(maps: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
    """Each image's maps (n, T, rows, cols), of those of all cells, (n, T, *grid of a view with these grids)."""
    if len(grids) == 1:
        return [maps]
    parts = maps.flatten(2).split([rows * cols for rows, cols in grids], 2)
    return [part.unflatten(2, grid) for part, grid in zip(parts, grids, strict=True)]


def together(maps: Sequence[Tensor]) -> Tensor:
    """What ``apart`` took apart."""
    return maps[0] if len(maps) == 1 else torch.cat([each.flatten(2) for each in maps], 2)[:, :, None]
