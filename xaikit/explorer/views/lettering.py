"""Words and colour bars on pictures, without a figure."""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..drawing import coloured


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib's figures, which has most alphabets, in pixels."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def with_bar(image: np.ndarray, colours: str, low: str, high: str, middle: str = "") -> np.ndarray:
    """A picture with a colour bar below it, and what the bar's ends and middle mean."""
    height, width = image.shape[:2]
    page = Image.new("RGB", (width, height + 32), "white")
    page.paste(Image.fromarray(image))
    bar = coloured(np.linspace(0, 1, width)[None].repeat(10, 0), colours)
    page.paste(Image.fromarray(bar), (0, height + 4))
    draw = ImageDraw.Draw(page)
    for text, x, anchor in ((low, 0, "la"), (middle, width // 2, "ma"), (high, width, "ra")):
        draw.text((x, height + 16), text, "black", font(13), anchor)
    return np.asarray(page)
