"""What a view draws, without any widget: pictures with what can be pressed on them, words, sentences and numbers."""

from dataclasses import dataclass, field

import pandas as pd


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
    """A word that can be pressed: its text, its background and ink ("#rrggbb"), whether it is pressed, what is said of it."""

    text: str
    colour: str = "#ffffff"
    ink: str = "#000000"
    pressed: bool = False
    label: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and its colours as in ``Word``."""

    text: str
    colour: str = "#ffffff"
    ink: str = "#000000"


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns, each row with a name. sort : the column it is sorted by, None for none; pressed :
    (row name, column name) of the chosen cell, None for none; labels : what is said of each column, none for nothing."""

    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    sort: str | None = None
    descending: bool = True
    pressed: tuple[str, str] | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drawn:
    """What a view shows at one state.

    panels : pictures by their place in the view, in the order in which an export shows them. words : to press.
    sentences : text by its place in the view. numbers : what the pictures show, as a table. choices : what controls can be
    set to, by the name of the choice (the range (low, high) of a number, or the list of values). legend : a PNG colour
    bar and what it says. chosen : choices that stood at None and what was shown for them.
    """

    panels: dict[str, Panel]
    numbers: pd.DataFrame
    words: tuple[Word, ...] = ()
    sentences: dict[str, str] = field(default_factory=dict)
    choices: dict[str, object] = field(default_factory=dict)
    legend: tuple[bytes, str] | None = None
    table: Table | None = None
    chosen: dict[str, object] = field(default_factory=dict)
