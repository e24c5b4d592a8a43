"""The widget of ``beside``: controls, and below them the figure or the table that follows them."""

from collections.abc import Callable
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets
from ipywidgets import HTML, Layout, VBox

from .panels import Panel, Table, Word, shaded_words
from .shown import Option, Shown
from .widgets import ASSETS, Alert, Picture, TableView, Words


class Controls(anywidget.AnyWidget):
    """Sliders, lists and text fields in a row, each with its name. change : called with a control's place and what was chosen: the
    place of a value, or a text."""

    _esm = ASSETS / "controls.js"
    _css = ASSETS / "explorer.css"
    controls = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, change: Callable[[int, int | str], None]):
        super().__init__()
        self.change = change
        self.on_msg(self._heard)

    def show(self, options: list[Option], values: list[Any]) -> None:
        """Show these options at these values."""
        about = zip(options, values, strict=True)
        self.controls = [_control(option, value) for option, value in about]

    def _heard(self, _, content: dict, buffers: list) -> None:
        try:
            self.change(content["control"], content["value"])
        finally:
            self.send({"done": True})  # a slider that is dragged waits for it, so that wishes don't pile up


class Beside(VBox):
    """What is drawn of a few choices, and their controls. ``set`` chooses from code; ``result`` is what was drawn."""

    def __init__(self, shown: Shown):
        self.shown = shown
        self.rowed = [option for option in shown.options.values() if option.kind in ("slider", "list", "text")]
        self.controls, self.error, self.page = Controls(self._chosen), Alert(), HTML()
        self.picture = Picture()
        pressed = [option for option in shown.options.values() if option.kind in ("words", "table")]
        self.pressed = {option.name: self._pressable(option) for option in pressed}
        self.order: dict[str, tuple[str, bool] | None] = dict.fromkeys(self.pressed)
        parts = [self.controls, *self.pressed.values(), self.error, self.page, self.picture]
        super().__init__(parts, layout=Layout(width="100%"))
        self.add_class("xaikit-beside")
        self._show()

    def __repr__(self) -> str:
        return repr(self.shown)

    def _repr_mimebundle_(self, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, about = self.shown._repr_mimebundle_()
        return super()._repr_mimebundle_(**how) | data, about

    @property
    def result(self) -> Any:
        """The figure or the table that is shown."""
        return self.shown.result

    def set(self, **values: Any) -> "Beside":
        """Choose other values by name. Raises what ``draw`` raises; then what was shown stays."""
        self.shown.set(**values)
        self._show()
        return self

    def tell(self, **values: Any) -> None:
        """Choose other values, or say in one sentence why not."""
        try:
            self.set(**values)
        except Exception as error:  # whatever a reader's own function raises
            self.error.say(error)

    def _chosen(self, control: int, value: int | str) -> None:
        option = self.rowed[control]
        self.tell(**{option.name: value if option.kind == "text" else option.values[value]})

    def _show(self) -> None:
        shown = self.shown
        self.controls.show(self.rowed, [shown.values[option.name] for option in self.rowed])
        for name, widget in self.pressed.items():
            widget.show(self._buttons(shown.options[name], shown.values[name]))
        self.error.value = ""
        self.page.value = shown.result.to_html() if isinstance(shown.result, pd.DataFrame) else ""
        self.picture.show(Panel("", shown.picture(), alt=shown.alt))

    # words and tables to press

    def _pressable(self, option: Option) -> Words | TableView:
        name = option.name
        if option.kind == "words":
            return Words(lambda place: self.tell(**{name: place}), label=name)
        return TableView(
            lambda column: self._sort(option, column),
            lambda row, column: self.tell(**{name: _cell(option.given, row, column)}),
            lambda: self._sort(option, None),
        )

    def _sort(self, option: Option, column: str | None) -> None:
        before = self.order[option.name]
        again = before is not None and before[0] == column
        self.order[option.name] = None if column is None else (column, not (again and before[1]))
        self._show()

    def _buttons(self, option: Option, value: Any) -> tuple[Word, ...] | Table:
        if option.kind == "words":
            share, labels = np.clip(option.given.to_numpy(float), 0, 1), [f"{share:.2f}" for share in option.given]
            return shaded_words(option.labels, share, "magma", (value,), labels)
        table, sort = option.given, self.order[option.name]
        if sort:
            column = next(each for each in table.columns if str(each) == sort[0])
            table = table.sort_values(column, ascending=not sort[1], kind="stable")
        rows = tuple((str(row), tuple(map(_word, table.loc[row]))) for row in table.index)
        by, falling = sort or (None, True)
        pressed = str(value[0]), str(value[1])
        return Table(str(table.index.name or ""), tuple(map(str, table.columns)), rows, by, falling, pressed)


def _control(option: Option, value: Any) -> dict[str, Any]:
    """What the page must know of a control: a text is its own value, of others it is a place."""
    at = value if option.kind == "text" else option.place(value)
    return {"name": option.name.replace("_", " "), "kind": option.kind, "labels": option.labels, "value": at}


def _cell(table: pd.DataFrame, row: str, column: str) -> tuple[Any, Any]:
    """The names of a row and a column, by what is written there."""
    return next(own for own in table.index if str(own) == row), next(own for own in table.columns if str(own) == column)


def _word(value: Any) -> Word:
    return Word(f"{value:.3g}" if isinstance(value, float) else str(value))
