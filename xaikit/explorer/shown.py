"""What can be chosen, and what is drawn of what was: nothing here knows of a widget."""

import base64
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files.checks import check_options
from .pixels import encoded, png

DPI = 90  # of a figure's picture
JPEG = {"quality": 85, "optimize": True}
SEVERAL = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD  # *args and **kwargs, which may be empty
KINDS = {str: "text", pd.Series: "words", pd.DataFrame: "table"}  # of controls; anything else is a slider or a list


@dataclass(frozen=True, eq=False)
class Option:
    """A choice: its name, what its control is ("slider", "list", "text", "words" or "table"), what it is made of, and the
    values that can be chosen by the labels that stand for them (none of a text)."""

    name: str
    kind: str
    given: Any
    values: tuple = ()
    labels: tuple[str, ...] = ()

    def checked(self, value: Any) -> Any:
        """The value. Raises ValueError for one that can't be chosen."""
        if self.kind == "text" or any(value is known or value == known for known in self.values):
            return value
        raise ValueError(f"{self.name}={value!r}: choose from {', '.join(self.labels)}")

    def place(self, value: Any) -> int:
        """Which of the values it is."""
        return next(place for place, known in enumerate(self.values) if known is value or known == value)

    def label(self, value: Any) -> str:
        """What stands for a value."""
        return value if self.kind == "text" else self.labels[self.place(value)]


def option_of(name: str, given: Any) -> Option:
    """What can be chosen, by what was given. Raises ValueError for nothing to choose from."""
    kind = next((own for known, own in KINDS.items() if isinstance(given, known)), None)
    if kind == "text":
        return Option(name, kind, given)
    if kind == "words":
        values, labels = range(len(given)), map(str, given.index)
    elif kind == "table":
        values = [(row, column) for row in given.index for column in given.columns]
        labels = (f"{row}, {column}" for row, column in values)
    else:
        named = given if isinstance(given, Mapping) else {_label(value): value for value in given}
        values, labels = named.values(), map(str, named)
    values, labels = tuple(values), tuple(labels)
    if not values:
        raise ValueError(f"{name} has nothing to choose from: give at least one value")
    by_slider = not isinstance(given, Mapping) and all(type(value) in (int, float) for value in values)
    return Option(name, kind or ("slider" if by_slider else "list"), given, values, labels)


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class Shown:
    """What is drawn of the values that are chosen; as a cell's last value a picture or a table that nobody can change, with the
    reason ``why`` behind its words. Raises ValueError for an option that ``draw`` doesn't take, one without values, and one
    that ``draw`` needs and isn't given."""

    why = ""

    def __init__(self, draw: Callable[..., Figure | pd.DataFrame], options: Mapping[str, Any]):
        name, taken = getattr(draw, "__name__", "draw"), inspect.signature(draw).parameters
        if not any(each.kind is each.VAR_KEYWORD for each in taken.values()):
            check_options(name, options, list(taken))
        needed = [each for each in taken.values() if each.default is each.empty and each.kind not in SEVERAL]
        if missing := next((each.name for each in needed if each.name not in options), None):
            raise ValueError(
                f"{name} needs {missing}: give what can be chosen for it ({missing}=...), or a default of its own"
            )
        self.draw, self.options = draw, {name: option_of(name, given) for name, given in options.items()}
        self.values = {}
        for name, option in self.options.items():
            default = taken[name].default if name in taken else inspect.Parameter.empty
            first = option.given if option.kind == "text" else option.values[0]
            self.values[name] = default if default in option.values else first
        self.set()

    def set(self, **values: Any) -> None:
        """Draw other values; what was chosen before stays when they can't be drawn."""
        check_options("the widget", values, list(self.options))
        chosen = self.values | {name: self.options[name].checked(value) for name, value in values.items()}
        result = self.draw(**chosen)
        if not isinstance(result, Figure | pd.DataFrame):
            name = getattr(self.draw, "__name__", "the function")
            raise ValueError(f"{name} returned {result!r:.40}: it must return a figure or a DataFrame")
        self.result, self.values = result, chosen

    def __repr__(self) -> str:
        return f"shown: {self.chosen}{self.why}"

    @property
    def chosen(self) -> str:
        """What was chosen, in words."""
        return ", ".join(f"{name} {self.options[name].label(value)}" for name, value in self.values.items())

    @property
    def alt(self) -> str:
        """What the figure shows, in words: its title, and those of its panels."""
        if not isinstance(self.result, Figure):
            return repr(self)
        titles = [self.result.get_suptitle(), *(axis.get_title() for axis in self.result.axes)]
        said = dict.fromkeys(" ".join(title.split()) for title in titles if title.strip())
        return f"{'; '.join(said)} ({self.chosen})"

    def picture(self, kind: str = "png") -> bytes:
        """The figure as a picture file, "png" or "jpeg"; none of a table."""
        if not isinstance(self.result, Figure):
            return b""
        self.result.set_dpi(DPI)
        canvas = FigureCanvasAgg(self.result)
        canvas.draw()  # once: savefig draws a figure whose layout is constrained twice
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        return png(pixels) if kind == "png" else encoded(pixels, "JPEG", **JPEG)

    def _repr_mimebundle_(self, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a page shows of it without a kernel, and the words for those who can't see that."""
        if isinstance(self.result, Figure):
            data = {"image/jpeg": base64.b64encode(self.picture("jpeg")).decode(), "text/plain": repr(self)}
            return data, {"image/jpeg": {"alt": self.alt}}
        return {"text/html": self.result.to_html(), "text/plain": f"{self!r}\n{self.result}"}, {}
