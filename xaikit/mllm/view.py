"""One image and prompt at one scale, as a multimodal language model gets them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from .model import Mllm


@dataclass(frozen=True)
class View:
    """An image and a prompt at one scale; all tensors are on the CPU.

    Cells are the image tokens of the grid in row-major order, whatever their order in the sequence.
    """

    ids: Tensor
    """(L0,) input ids, image placeholders expanded, up to and including the assistant's header."""
    image_positions: Tensor
    """(rows * cols,) position in ``ids`` of each cell."""
    grid: tuple[int, int]
    """Rows and columns of cells."""
    prompt_positions: Tensor
    """(p,) positions of the user's own prompt tokens, between the image and the assistant's header."""
    region: tuple[float, float, float, float]
    """Top, left, bottom, right of what the grid covers, in fractions of the image; beyond 0 to 1 where the
    processor pads the image."""
    vision: dict[str, Tensor]
    """Pixels of this one image, as the vision tower takes them."""
    scale: float
    """Side of the image in the model, relative to its native one."""

    @property
    def feature_rows(self) -> Tensor:
        """(rows * cols,) row of each cell in this view's entry of what ``encode`` returns."""
        return self.image_positions - self.image_positions.min()


def distinct_views(
    mllm: "Mllm",
    image: str | Path | Image.Image | np.ndarray,
    prompt: str,
    scales: Sequence[float] = (1.0,),
    enlargement: str = "interpolate",
) -> list[View]:
    """The views of an image and a prompt at all scales, in the order of ``scales``.

    Raises ValueError where two scales give the same grid, which would count that one twice, and whatever
    ``Family.view`` raises.
    """
    if len(scales) == 0:
        raise ValueError("no scale was given: at least one is needed, such as 1.0")
    views, seen = [], {}
    for scale in scales:
        view = mllm.family.view(image, prompt, scale, enlargement)
        if view.grid in seen:
            rows, cols = view.grid
            raise ValueError(
                f"scales {seen[view.grid]} and {scale} both give a grid of {rows} x {cols} image tokens for this image:"
                " leave one out or move them further apart"
            )
        seen[view.grid] = scale
        views.append(view)
    return views
