"""What all figures share: panels, titles, outlines, one scale."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

HEAT = "magma"
CELL = 1.9  # inches, one small panel
TEXT = 8


def finished(figure: Figure, title: str) -> Figure:
    """Title the figure and take it out of pyplot's hands, so that a notebook shows it once."""
    figure.suptitle(title, fontsize=11)
    plt.close(figure)
    return figure


def panels(rows: int, cols: int, width: float = CELL, height: float = CELL):
    """A figure and its grid of axes, each ``width`` by ``height`` inches."""
    return plt.subplots(rows, cols, figsize=(cols * width, rows * height + 0.5), squeeze=False, layout="constrained")


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


def fitted(heat: np.ndarray) -> np.ndarray:
    """Divided by the largest value, so that maps of different units share one scale."""
    peak = np.abs(heat).max()
    return heat / peak if peak > 0 else heat
