"""Pictures as arrays of uint8 pixels (y, x, rgb), made quickly and without a figure: maps laid over them, the edges of masks,
words; and PNG."""

import io
import textwrap
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
SHORTEST_SIDE = 320  # pixels of a drawn picture
LONGEST_SIDE = 4 * SHORTEST_SIDE  # of a very narrow one, whose other side is then shorter
EDGE = np.array([255, 255, 255], np.uint8)  # of a map's mask
TRUE_EDGE = np.array([0, 220, 255], np.uint8)  # of the named objects
# Of charts: told apart by colour-blind readers. Source: Okabe and Ito, Color Universal Design, 2008.
BLUE, ORANGE, VERMILION = "#0072b2", "#e69f00", "#d55e00"
BAR = (4, 10, 18)  # pixels of a colour bar: the gap above it, its height, and that of what is said below it


def png(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG, lightly compressed, since it goes no further than the browser."""
    return encoded(pixels, "PNG", compress_level=1)


def encoded(pixels: np.ndarray, kind: str, **options) -> bytes:
    """Pixels as a picture file. kind, options : of Pillow's ``save``."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(picture: bytes) -> np.ndarray:
    """The pixels of a picture file."""
    return np.array(Image.open(io.BytesIO(picture)).convert("RGB"))


def figure_png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as a PNG, of exactly its own size, so that places on it can be computed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def figure_pixels(figure: Figure, dpi: int, low: tuple, high: tuple) -> tuple[np.ndarray, tuple[float, ...]]:
    """A figure's pixels, and where on them the part of its first axes from the point ``low`` to ``high`` lies: left, top, width
    and height."""
    picture = decoded(figure_png(figure, dpi))
    corners = figure.transFigure.inverted().transform(figure.axes[0].transData.transform([low, high]))
    (left, bottom), (right, top) = (corners * picture.shape[1::-1]).tolist()
    return picture, (left, len(picture) - top, right - left, top - bottom)


# pictures and maps


def enlarged(image: np.ndarray) -> np.ndarray:
    """An image at a size for looking, no side longer than ``LONGEST_SIDE``: a small one by a whole factor and without
    smoothing, a large one reduced."""
    short, long = sorted(image.shape[:2])
    if short > 2 * SHORTEST_SIDE or long > LONGEST_SIDE:
        scale = min(SHORTEST_SIDE / short, LONGEST_SIDE / long)
        height, width = (max(round(side * scale), 1) for side in image.shape[:2])
        return resized(image, (height, width))
    if short < SHORTEST_SIDE:
        factor = min(-(-SHORTEST_SIDE // short), LONGEST_SIDE // long)
        return image.repeat(factor, 0).repeat(factor, 1)
    return image


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image smoothly at (height, width) pixels."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.LANCZOS))


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
    """Shares from 0 to 1 as uint8 colours (..., rgb)."""
    return matplotlib.colormaps[colours](np.clip(share, 0, 1), bytes=True)[..., :3]


def laid_over(image: np.ndarray, colour: np.ndarray, opacity: float) -> np.ndarray:
    """uint8 colours (y, x, rgb) over an image of the same size; opacity 0 shows the image, 1 the colours."""
    mixed = image * np.float32(1 - opacity) + colour * np.float32(opacity)
    return (mixed + 0.5).astype(np.uint8)


def with_map(image: np.ndarray, share: np.ndarray, colours: str, opacity: float, how: str) -> np.ndarray:
    """An image with a map of shares (row, col) from 0 to 1 laid over it."""
    return laid_over(image, coloured(upsampled(share, image.shape[:2], how), colours), opacity)


def with_edge(image: np.ndarray, mask: np.ndarray | None, colour: np.ndarray = EDGE, width: int = 2) -> np.ndarray:
    """A copy of the image with the inner edge of a mask (y, x) drawn, on a dark line so that it shows on any ground. None,
    and an empty mask, have no edge."""
    if mask is None or not mask.any():
        return image
    out = image.copy()
    for wide, ink in ((width + 1, 0), (width, colour)):
        # the image's frame counts as inside
        out[mask & ~ndimage.binary_erosion(mask, iterations=wide, border_value=1)] = ink
    return out


# words and colours


@lru_cache
def font(size: int, kind: str = "DejaVuSans") -> ImageFont.FreeTypeFont:
    """The font of matplotlib's figures, which has most alphabets, in pixels. kind : one of that family."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{kind}.ttf", size)


def blank(height: int, width: int) -> np.ndarray:
    """A white page."""
    return np.full((height, width, 3), 255, np.uint8)


@lru_cache
def lettered(text: str, width: int, size: int, kind: str = "DejaVuSans") -> np.ndarray:
    """Text in lines of at most so many pixels; none where there is no text."""
    lines = textwrap.wrap(text, max(int(width / (0.61 * size)), 1))
    page = Image.fromarray(blank(round(1.3 * size) * len(lines), width))
    for row, line in enumerate(lines):
        ImageDraw.Draw(page).text((0, round(1.3 * size) * row), line, "black", font(size, kind))
    return np.asarray(page)


def stacked(parts: list[np.ndarray], gap: int) -> np.ndarray:
    """Pictures below one another, in a page as wide as the widest; those without pixels leave no gap."""
    parts = [part for part in parts if part.size]
    width = max(part.shape[1] for part in parts)
    page = blank(sum(len(part) + gap for part in parts) - gap, width)
    top = 0
    for part in parts:
        page[top : top + len(part), : part.shape[1]] = part
        top += len(part) + gap
    return page


def flowing(parts: list[np.ndarray], width: int, gap: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Pictures in rows of a page of this width, and the upper left corner (x, y) of each."""
    corners, x, y, below = [], 0, 0, 0
    for part in parts:
        if x and x + part.shape[1] > width:
            x, y = 0, below
        corners.append((x, y))
        x, below = x + part.shape[1] + gap, max(below, y + len(part) + gap)
    page = blank(max(below - gap, 0), width)
    for part, (x, y) in zip(parts, corners, strict=True):
        page[y : y + len(part), x : x + part.shape[1]] = part
    return page, corners


def with_bar(image: np.ndarray, colours: str, low: str, high: str, middle: str = "") -> np.ndarray:
    """A picture with a colour bar below it, and what the bar's ends and middle mean."""
    (height, width), (gap, thick, below) = image.shape[:2], BAR
    page = Image.fromarray(np.concatenate([image, blank(sum(BAR), width)]))
    page.paste(Image.fromarray(coloured(np.linspace(0, 1, width)[None].repeat(thick, 0), colours)), (0, height + gap))
    draw = ImageDraw.Draw(page)
    for text, x, anchor in ((low, 0, "la"), (middle, width // 2, "ma"), (high, width, "ra")):
        draw.text((x, height + sum(BAR) - below + 2), text, "black", font(13), anchor)
    return np.asarray(page)


@lru_cache
def colour_bar(colours: str, low: str = "0", high: str = "1") -> bytes:
    """A horizontal colour bar, as a PNG, with what its ends mean below it."""
    return png(with_bar(blank(0, 300), colours, low, high))


def ink_on(colour: np.ndarray) -> str:
    """Black or white, whichever can be read on an rgb colour of 0 to 255 (W3C's relative luminance)."""
    linear = (np.asarray(colour, float) / 255) ** 2.2
    return "#000000" if linear @ (0.2126, 0.7152, 0.0722) > 0.18 else "#ffffff"


def css(colour: np.ndarray) -> str:
    """An rgb colour of 0 to 255 as "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*(int(part) for part in colour[:3]))
