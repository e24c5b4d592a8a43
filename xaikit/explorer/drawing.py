"""Arrays to PNG bytes, quickly: maps laid over pictures, mask edges, colour bars. No figure is made."""

import io
from functools import lru_cache

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
SHORTEST_SIDE = 320  # pixels of a drawn picture
LONGEST_SIDE = 4 * SHORTEST_SIDE  # of a very narrow one, whose other side is then shorter
EDGE = np.array([255, 255, 255], np.uint8)  # of a map's mask
TRUE_EDGE = np.array([0, 220, 255], np.uint8)  # of the named objects
# Of charts: told apart by colour-blind readers. Source: Okabe and Ito, Color Universal Design, 2008.
BLUE, ORANGE, VERMILION, GREY = "#0072b2", "#e69f00", "#d55e00", "#666666"


def png(pixels: np.ndarray) -> bytes:
    """uint8 pixels (y, x, rgb) as a PNG, lightly compressed, since it goes no further than the browser."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def figure_png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as a PNG, of exactly its own size, so that places on it can be computed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def enlarged(image: np.ndarray) -> np.ndarray:
    """uint8 pixels (y, x, rgb) at a size for looking, no side longer than ``LONGEST_SIDE``: small images by whole factors and
    without smoothing, large ones reduced."""
    short, long = sorted(image.shape[:2])
    if short > 2 * SHORTEST_SIDE or long > LONGEST_SIDE:
        scale = min(SHORTEST_SIDE / short, LONGEST_SIDE / long)
        height, width = (max(round(side * scale), 1) for side in image.shape[:2])
        return np.asarray(Image.fromarray(image).resize((width, height), Image.LANCZOS))
    if short < SHORTEST_SIDE:
        factor = min(-(-SHORTEST_SIDE // short), LONGEST_SIDE // long)
        return image.repeat(factor, 0).repeat(factor, 1)
    return image


def upsampled(heat: np.ndarray, size: tuple[int, int], how: str = "nearest") -> np.ndarray:
    """A map (row, col) at (height, width) pixels, float32. how : of ``FILTERS``; bicubic may overshoot the map's range."""
    large = Image.fromarray(np.ascontiguousarray(heat, np.float32)).resize(size[::-1], FILTERS[how])
    return np.asarray(large)


def relative(heat: np.ndarray) -> np.ndarray:
    """A map's positive part as a share of its largest value, 0 where nothing is positive."""
    positive = np.maximum(np.asarray(heat, np.float32), 0)
    peak = positive.max(initial=0)
    return positive / peak if peak > 0 else positive


def coloured(share: np.ndarray, colours: str = "magma") -> np.ndarray:
    """Shares (y, x) from 0 to 1 as uint8 colours (y, x, rgb)."""
    return matplotlib.colormaps[colours](np.clip(share, 0, 1), bytes=True)[..., :3]


def laid_over(image: np.ndarray, colour: np.ndarray, opacity: float) -> np.ndarray:
    """uint8 colours (y, x, rgb) over an image of the same size; opacity 0 shows the image, 1 the colours."""
    mixed = image * np.float32(1 - opacity) + colour * np.float32(opacity)
    return (mixed + 0.5).astype(np.uint8)


def with_edge(image: np.ndarray, mask: np.ndarray, colour: np.ndarray = EDGE, width: int = 2) -> np.ndarray:
    """A copy of the image with the inner edge of a mask (y, x) drawn, on a dark line so that it shows on any ground."""
    if not mask.any():
        return image
    out = image.copy()
    out[_border(mask, width + 1)] = 0
    out[_border(mask, width)] = colour
    return out


def _border(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask that are at most ``width`` from one outside of it (the image's frame counts as inside)."""
    inner = mask.copy()
    for _ in range(width):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


@lru_cache
def colour_bar(colours: str, low: str = "0", high: str = "1", width: int = 240) -> bytes:
    """A horizontal colour bar, as a PNG, with what its ends mean beside it."""
    figure = Figure(figsize=(width / 100 * 1.5, 0.3))
    axis = figure.add_axes((0.12, 0.3, 0.76, 0.5))
    axis.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=colours)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.text(-0.02, 0.5, low, transform=axis.transAxes, ha="right", va="center", fontsize=9)
    axis.text(1.02, 0.5, high, transform=axis.transAxes, ha="left", va="center", fontsize=9)
    return figure_png(figure)


def ink_on(colour: np.ndarray) -> str:
    """Black or white, whichever can be read on an rgb colour of 0 to 255 (W3C's relative luminance)."""
    linear = (np.asarray(colour, float) / 255) ** 2.2
    return "#000000" if linear @ (0.2126, 0.7152, 0.0722) > 0.18 else "#ffffff"


def css(colour: np.ndarray) -> str:
    """An rgb colour of 0 to 255 as "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*(int(part) for part in colour[:3]))
