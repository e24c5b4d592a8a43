"""Words in a row, each a button."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets

from ..drawn import Word

HERE = Path(__file__).parent


class Words(anywidget.AnyWidget):
    """Words as buttons, coloured as they are given. press : called with the place of a word that is shown; a press that comes
    too late is none."""

    _esm = HERE / "words.js"
    _css = HERE / "explorer.css"
    words = traitlets.List(traitlets.Dict()).tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)

    def __init__(self, press: Callable[[int], None] | None = None, **traits):
        super().__init__(**traits)
        self.press = press or (lambda place: None)
        self.on_msg(self._pressed)

    def show(self, words: tuple[Word, ...]) -> None:
        """Show these words."""
        self.words = [dataclasses.asdict(word) for word in words]

    def _pressed(self, _, content: dict, buffers: list) -> None:
        if 0 <= content["word"] < len(self.words):
            self.press(content["word"])
