"""What all figures share: panels, titles, pictures with maps and outlines, one scale."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter

from ..measures.intervals import score_interval

HEAT = "magma"
CELL = 1.9  # inches, one small panel
TEXT = 8
ARROWS = {"lower is better": "\u2193", "higher is better": "\u2191"}


def finished(figure: Figure, title: str) -> Figure:
    """Title the figure and take it out of pyplot's hands, so that a notebook shows it once. Dollar signs in texts are just that:
    only matplotlib's own numbers on axes are typeset as mathematics."""
    figure.suptitle(title, fontsize=11)
    axes = [axis for each in figure.findobj(Axes) for axis in (each.xaxis, each.yaxis)]
    own = [axis for axis in axes if isinstance(axis.get_major_formatter(), ScalarFormatter | LogFormatter)]
    numbers = {text for axis in own for text in (*axis.get_ticklabels(which="both"), axis.get_offset_text())}
    for text in {*figure.findobj(Text)} - numbers:
        text.set_parse_math(False)
    plt.close(figure)
    return figure


def interval_ends(values: np.ndarray, whole: float | None = None) -> tuple[float, float]:
    """Where the interval of a mean of values (n,) ends, as seaborn asks for it; whole : as in ``score_interval``."""
    return score_interval(np.asarray(values), whole)[1:]


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
    """The text in lines of about ``width`` letters."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def outline(axis, mask: np.ndarray, colour: str = "white") -> None:
    """The edge of a mask (y, x)."""
    if mask.any():
        axis.contour(mask, levels=[0.5], colors=colour, linewidths=1.0)


def heated(
    axis, heat: np.ndarray, size: tuple[int, int], alpha: float | np.ndarray = 1.0, interpolation: str = "nearest"
):
    """A map (row, col), 0 to 1, over the whole of a picture of this size (y, x)."""
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    return axis.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=alpha, extent=extent, interpolation=interpolation)


def fitted(heat: np.ndarray) -> np.ndarray:
    """Divided by the largest value, so that maps of different units share one scale."""
    peak = np.abs(heat).max()
    return heat / peak if peak > 0 else heat
