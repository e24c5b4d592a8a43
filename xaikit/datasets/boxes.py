"""Bounding boxes as masks, laid where the image's pixels come to lie."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageChops

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
