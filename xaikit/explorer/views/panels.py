"""What several views show: a map over a picture, and how its mask agrees with the planted truth."""

import dataclasses

import numpy as np

from ..drawing import TRUE_EDGE, coloured, laid_over, png, relative, upsampled, with_edge
from ..drawn import Panel
from ..state import State

LEGEND = (
    "heat as a share of each map's largest, below 0 as 0; white: the edge of the mask; blue: that of the named objects"
)


def map_panel(state: State, title: str, heat: np.ndarray, image: np.ndarray, truth: np.ndarray | None = None) -> Panel:
    """A map (row, col) laid over an enlarged image, its mask's edge, and how the mask agrees with the truth (y, x).

    The mask is what has heat above 0 and at least ``threshold`` of the map's largest, on the upsampled map as it is drawn.
    """
    large = np.clip(upsampled(relative(heat), image.shape[:2], state.upsampling), 0, 1)
    drawn, agrees, inside = over_picture(state, large, image, truth)
    peak = float(np.max(heat))
    note = (f"largest heat {peak:.3g}" if peak > 0 else "no heat above 0") + agrees
    if state.mask:
        note += f", mask {inside.mean():.0%} of the picture"
    row, col = np.unravel_index(int(np.argmax(heat)), heat.shape)
    where = f"hottest at row {row + 1} of {heat.shape[0]}, column {col + 1} of {heat.shape[1]}"
    return Panel(title.replace("_", " "), png(drawn), note, f"heat by {title} over the picture, {where}")


def over_picture(
    state: State, large: np.ndarray, image: np.ndarray, truth: np.ndarray | None = None, seen: np.ndarray | None = None
) -> tuple[np.ndarray, str, np.ndarray]:
    """A map of shares (y, x) laid over an image where it is ``seen`` (everywhere for None), with the edges of the truth and of
    its mask; its IoU with the truth, to be appended to a note; and the mask."""
    inside = (large >= state.threshold) & (large > 0)
    drawn, where = image.copy(), ... if seen is None else seen
    drawn[where] = laid_over(image[where], coloured(large[where], state.colours), state.opacity)
    agrees = ""
    if truth is not None:
        agrees = f", IoU {iou(inside, truth):.2f}"
        drawn = with_edge(drawn, truth, TRUE_EDGE)
    return (with_edge(drawn, inside) if state.mask else drawn), agrees, inside


def drawn_truth(mask: np.ndarray | None, image: np.ndarray) -> np.ndarray | None:
    """A mask (row, col) at the size of an enlarged image, bool (y, x); None stays None."""
    return None if mask is None else upsampled(mask, image.shape[:2]) > 0.5


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0


def with_similarity(panel: Panel, similarity: float | None) -> Panel:
    """The panel with the cosine similarity of the picture with its prompt in the note, where it is known."""
    if similarity is None:
        return panel
    note = f"cosine similarity with the prompt {similarity:.3f}"
    return dataclasses.replace(panel, note=f"{note}; {panel.note}" if panel.note else note)
