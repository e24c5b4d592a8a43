"""A picture on which places can be pressed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets

from ..drawn import Panel

HERE = Path(__file__).parent
EMPTY = Panel("", b"")


class Picture(anywidget.AnyWidget):
    """A panel: title, picture, note, and the spots on it as buttons.

    press : called with the place in order of a spot that is shown; a press that comes too late is none. seen : called once a
    browser shows the picture, and for each further place where it does.
    """

    _esm = HERE / "picture.js"
    _css = HERE / "explorer.css"
    title = traitlets.Unicode().tag(sync=True)
    png = traitlets.Bytes().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    spots = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, press: Callable[[int], None] | None = None, seen: Callable[[], None] | None = None, **traits):
        super().__init__(**traits)
        self.press = press or (lambda place: None)
        self.seen = seen or (lambda: None)
        self.on_msg(self._told)

    def show(self, panel: Panel | None) -> None:
        """Show a panel; None hides the picture."""
        panel = panel or EMPTY
        with self.hold_sync():  # the picture and what stands beside it change together
            self.title, self.png, self.note = panel.title, panel.png, panel.note
            self.alt = panel.alt or panel.title
            self.spots = [dataclasses.asdict(spot) for spot in panel.spots]

    def _told(self, _, content: dict, buffers: list) -> None:
        if "spot" in content:
            if 0 <= content["spot"] < len(self.spots):
                self.press(content["spot"])
        else:
            self.seen()
