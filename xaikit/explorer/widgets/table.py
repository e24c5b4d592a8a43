"""A table whose column heads sort and whose cells can be pressed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets

from ..drawn import Table

HERE = Path(__file__).parent


class TableView(anywidget.AnyWidget):
    """A table. press_column : called with a column's name; press_cell : with a row's and a column's name; press_corner : with
    nothing."""

    _esm = HERE / "table.js"
    _css = HERE / "explorer.css"
    table = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        press_column: Callable[[str], None] | None = None,
        press_cell: Callable[[str, str], None] | None = None,
        press_corner: Callable[[], None] | None = None,
    ):
        super().__init__()
        self.press_column = press_column or (lambda column: None)
        self.press_cell = press_cell or (lambda row, column: None)
        self.press_corner = press_corner or (lambda: None)
        self.on_msg(self._pressed)

    def show(self, table: Table | None) -> None:
        """Show a table; None empties it."""
        self.table = dataclasses.asdict(table) if table else {}

    def _pressed(self, _, content: dict, buffers: list) -> None:
        if "row" in content:
            self.press_cell(content["row"], content["column"])
        elif "column" in content:
            self.press_column(content["column"])
        else:
            self.press_corner()
