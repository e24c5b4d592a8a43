"""What all figures share: panels, titles, pictures with maps and outlines, one scale."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter
from PIL import Image

from ..measures.intervals import mean_interval

HEAT = "magma"
LEAST, MOST = 0.1, 0.85  # opacity of a map over a picture where it is coldest and hottest
FINER = 2  # a smooth map over a picture has so many pixels for one of the picture's
CELL = 1.9  # inches, one small panel
TEXT = 8
LETTERS = 11  # of a title, an inch
ARROWS = {"lower is better": "\u2193", "higher is better": "\u2191"}


def finished(figure: Figure, title: str) -> Figure:
    """Title the figure and take it out of pyplot's hands, so that a notebook shows it once. Dollar signs in texts are just that:
    only matplotlib's own numbers on axes are typeset as mathematics."""
    room = int(LETTERS * figure.get_size_inches()[0])
    figure.suptitle("\n".join(_balanced(line, room) for line in title.splitlines()), fontsize=11)
    axes = [axis for each in figure.findobj(Axes) for axis in (each.xaxis, each.yaxis)]
    own = [axis for axis in axes if isinstance(axis.get_major_formatter(), ScalarFormatter | LogFormatter)]
    numbers = {text for axis in own for text in (*axis.get_ticklabels(which="both"), axis.get_offset_text())}
    for text in {*figure.findobj(Text)} - numbers:
        text.set_parse_math(False)
    plt.close(figure)
    return figure


def interval_ends(values: np.ndarray, limits: tuple[float, float] | None = None) -> tuple[float, float]:
    """Where the interval of a mean of values (n,) ends, as seaborn asks for it; limits : as in ``mean_interval``."""
    return mean_interval(np.asarray(values), limits=limits)[1:]


def panels(rows: int, cols: int, width: float = CELL, height: float = CELL, **shared):
    """A figure and its grid of axes, each ``width`` by ``height`` inches. shared : axes, as in ``plt.subplots``."""
    size = (cols * width, rows * height + 0.5)
    return plt.subplots(rows, cols, figsize=size, squeeze=False, layout="constrained", **shared)


def grid(count: int, cols: int, **size):
    """A figure and ``count`` axes, so many in a row."""
    figure, axes = panels(-(-count // cols), cols, **size)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def bare(axis, image=None) -> None:
    """No ticks, and the image where one is given."""
    axis.set_xticks([])
    axis.set_yticks([])
    if image is not None:
        axis.imshow(image)


def wrapped(text: str, width: int = 24) -> str:
    """The text in lines of about ``width`` letters, no word of it broken."""
    return fill(" ".join(text.split()), width + 1, break_long_words=False, break_on_hyphens=False)


def _balanced(text: str, width: int) -> str:
    """The text in as few lines as ``wrapped`` needs, of much the same length, so that no word stands alone in the last."""
    lines = wrapped(text, width).count("\n")
    return next(each for own in range(width + 1) if (each := wrapped(text, own)).count("\n") <= lines)


def outline(axis, mask: np.ndarray, colour: str = "white") -> None:
    """The edge of a mask (y, x)."""
    if mask.any():
        axis.contour(mask, levels=[0.5], colors=colour, linewidths=1.0)


def greyed(image: np.ndarray) -> np.ndarray:
    """A picture (y, x, rgb) as the dim grey one, 0 to 1, on which heat is the only colour.

    Source: luminance as in ITU-R BT.601.
    """
    grey = image @ np.array([0.299, 0.587, 0.114]) / 255
    return np.repeat(0.75 * grey[..., None], 3, axis=-1)


def heated(axis, heat: np.ndarray, size: tuple[int, int], alpha: float | np.ndarray = 1.0):
    """A map (row, col), 0 to 1, over the whole of a picture of this size (y, x), patch by patch."""
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    return axis.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=alpha, extent=extent, interpolation="nearest")


def laid_over(axis, heat: np.ndarray, image: np.ndarray, smooth: bool = True, largest: float = 1.0) -> ScalarMappable:
    """A picture (y, x, rgb) in grey, and over it a map (row, col) from 0 to ``largest``, which hides the more of it the hotter
    it is. smooth : False for the grid of patches as it is. Returns what a colour bar is made of.
    """
    bare(axis, greyed(image))
    how = Image.BICUBIC if smooth else Image.NEAREST
    size = tuple(FINER * side for side in image.shape[1::-1])
    share = np.asarray(Image.fromarray(np.ascontiguousarray(heat / largest, np.float32)).resize(size, how)).clip(0, 1)
    scale = ScalarMappable(Normalize(0, largest), HEAT)
    colour = scale.to_rgba(share * largest)
    colour[..., 3] = LEAST + (MOST - LEAST) * share
    axis.imshow(colour, extent=(-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5))
    return scale


def fitted(heat: np.ndarray) -> np.ndarray:
    """Divided by the largest value, so that maps of different units share one scale."""
    peak = np.abs(heat).max()
    return heat / peak if peak > 0 else heat
