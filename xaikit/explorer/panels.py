"""What a view draws, without any widget: pictures with what can be pressed on them, words, sentences and numbers; and the
picture that most views share, a map over what it explains."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from .pixels import TRUE_EDGE, colour_bar, coloured, css, ink_on, laid_over, png, relative, upsampled, with_edge
from .state import State

LEGEND = (
    "heat as a share of each map's largest, below 0 as 0; white: the edge of the mask; blue: that of the named objects"
)


@dataclass(frozen=True)
class Spot:
    """A place on a picture that can be pressed: its upper left corner and size as shares of the picture's, and what it
    is called. pressed : whether it is shown as chosen."""

    x: float
    y: float
    width: float
    height: float
    label: str
    pressed: bool = False


@dataclass(frozen=True)
class Panel:
    """A picture (PNG) with a title above and a sentence or more (plain text) below it.

    alt : what it shows, for those who can't see it; None for the title. spots : what can be pressed on it, in order.
    """

    title: str
    png: bytes
    note: str = ""
    alt: str | None = None
    spots: tuple[Spot, ...] = ()


@dataclass(frozen=True)
class Word:
    """A word, or a table's cell, that can be pressed; its background and ink are "#rrggbb", the label is what is said of it."""

    text: str
    colour: str = "#ffffff"
    ink: str = "#000000"
    pressed: bool = False
    label: str = ""


def shaded_words(texts, share: np.ndarray, colours: str, pressed, labels) -> tuple[Word, ...]:
    """Words in the colours of their shares from 0 to 1; pressed : the places of those that are."""
    return tuple(
        Word(text, css(colour), ink_on(colour), place in pressed, label)
        for place, (text, colour, label) in enumerate(zip(texts, coloured(share, colours), labels, strict=True))
    )


@dataclass(frozen=True)
class Table:
    """Rows of cells, which can be pressed, under columns, each row with a name. sort : the column it is sorted by, None for none; pressed :
    (row name, column name) of the chosen cell, None for none; labels : what is said of each column, none for nothing."""

    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Word, ...]], ...]
    sort: str | None = None
    descending: bool = True
    pressed: tuple[str, str] | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drawn:
    """What a view shows at one state.

    panels : pictures by their place in the view, in the order in which an export shows them. words : to press.
    sentences : text by its place in the view. numbers : what the pictures show, as a table. choices : what controls can be
    set to, by the name of the choice (the range (low, high) of a number, or the list of values). legend : as ``legend``
    makes it. chosen : what was shown for choices that stand at None where nothing was chosen.
    """

    panels: dict[str, Panel]
    numbers: pd.DataFrame
    words: tuple[Word, ...] = ()
    sentences: dict[str, str] = field(default_factory=dict)
    choices: dict[str, object] = field(default_factory=dict)
    legend: Panel | None = None
    table: Table | None = None
    chosen: dict[str, object] = field(default_factory=dict)


def legend(colours: str, says: str, low: str = "0", high: str = "1") -> Panel:
    """A colour bar, with what its ends mean below it and what it says beside it."""
    return Panel("", colour_bar(colours, low, high), says, f"colour bar: {says}")


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
    return Panel(title, png(drawn), note, f"heat by {title} over the picture, {where}")


def over_picture(
    state: State, large: np.ndarray, image: np.ndarray, truth: np.ndarray | None = None, seen: np.ndarray | None = None
) -> tuple[np.ndarray, str, np.ndarray]:
    """A map of shares (y, x) laid over an image where it is ``seen`` (everywhere for None), with the edges of the truth and of
    its mask; its IoU with the truth, to be appended to a note; and the mask."""
    inside = (large >= state.threshold) & (large > 0)
    drawn, where = image.copy(), ... if seen is None else seen
    drawn[where] = laid_over(image[where], coloured(large[where], state.colours), state.opacity)
    drawn = with_edge(with_edge(drawn, truth, TRUE_EDGE), inside if state.mask else None)
    return drawn, "" if truth is None else f", IoU {iou(inside, truth):.2f}", inside


def drawn_truth(mask: np.ndarray | None, image: np.ndarray) -> np.ndarray | None:
    """A mask (row, col) at the size of an enlarged image, bool (y, x); None stays None."""
    return None if mask is None else upsampled(mask, image.shape[:2]) > 0.5


def long(dims: tuple[str, ...], **values: np.ndarray) -> pd.DataFrame:
    """A row for each entry of arrays of the same shape, with its place."""
    return xr.Dataset({name: (dims, array) for name, array in values.items()}).to_dataframe([*dims]).reset_index()


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
