"""What ipywidgets lacks: pictures, words and tables whose parts are buttons, by mouse and by keyboard; large uploads."""

import dataclasses
import html
from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets
from ipywidgets import HTML

from ..files.checks import one_line
from .panels import Panel, Table, Word
from .sources import MOST_BYTES, check_bytes

ASSETS = Path(__file__).parent / "assets"
EMPTY = Panel("", b"")


def _nothing(*about) -> None:
    """What a press does that nobody listens to."""


class Picture(anywidget.AnyWidget):
    """A panel: title, picture, note, and the spots on it as buttons.

    press : called with the place in order of a spot that is shown; a press that comes too late is none. seen : called once a
    browser shows the picture, and for each further place where it does.
    """

    _esm = ASSETS / "picture.js"
    _css = ASSETS / "explorer.css"
    title = traitlets.Unicode().tag(sync=True)
    png = traitlets.Bytes().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    spots = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, press: Callable[[int], None] = _nothing, seen: Callable[[], None] = _nothing, **traits):
        super().__init__(**traits)
        self.press, self.seen = press, seen
        self.on_msg(self._heard)

    def show(self, panel: Panel | None) -> None:
        """Show a panel; None hides the picture."""
        panel = panel or EMPTY
        with self.hold_sync():  # the picture and what stands beside it change together
            self.title, self.png, self.note = panel.title, panel.png, panel.note
            self.alt = panel.alt or panel.title
            self.spots = [dataclasses.asdict(spot) for spot in panel.spots]

    def _heard(self, _, content: dict, buffers: list) -> None:
        if "spot" not in content:
            self.seen()
        elif 0 <= content["spot"] < len(self.spots):
            self.press(content["spot"])


class Names(anywidget.AnyWidget):
    """Nothing to see: it names the sliders and the film's buttons of the explorer around it for screen readers, which ipywidgets
    doesn't."""

    _esm = ASSETS / "names.js"


class Sentences(HTML):
    """Plain text, a line each."""

    def say(self, *sentences: str) -> None:
        """Show these sentences, whatever is in them."""
        self.value = "<br>".join(html.escape(sentence, quote=False) for sentence in sentences)


class Alert(HTML):
    """What went wrong, said at once by screen readers."""

    def __init__(self):
        super().__init__()
        self.add_class("xaikit-error")

    def say(self, error: Exception, more: str = "") -> None:
        """Show an error in one sentence, with its kind where it is none that is meant to be read."""
        said = one_line(error.args[0] if isinstance(error, KeyError) and error.args else error) or type(error).__name__
        if not isinstance(error, ValueError | OSError | LookupError):
            said = f"{type(error).__name__}: {said}"
        self.value = f'<span role="alert">⚠ {html.escape(said + more, quote=False)}</span>'


class Words(anywidget.AnyWidget):
    """Words in a row, each a button, coloured as they are given. press : called with the place of a word that is shown."""

    _esm = ASSETS / "words.js"
    _css = ASSETS / "explorer.css"
    words = traitlets.List(traitlets.Dict()).tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)

    def __init__(self, press: Callable[[int], None] = _nothing, **traits):
        super().__init__(**traits)
        self.press = press
        self.on_msg(self._heard)

    def show(self, words: tuple[Word, ...]) -> None:
        """Show these words."""
        self.words = [dataclasses.asdict(word) for word in words]

    def _heard(self, _, content: dict, buffers: list) -> None:
        if 0 <= content["word"] < len(self.words):
            self.press(content["word"])


class TableView(anywidget.AnyWidget):
    """A table. press_column : called with a column's name; press_cell : with a row's and a column's; press_corner : with none."""

    _esm = ASSETS / "table.js"
    _css = ASSETS / "explorer.css"
    table = traitlets.Dict().tag(sync=True)

    def __init__(
        self, press_column: Callable[[str], None], press_cell: Callable[[str, str], None], press_corner: Callable[[], None]
    ):  # fmt: skip
        super().__init__()
        self.press_column, self.press_cell, self.press_corner = press_column, press_cell, press_corner
        self.on_msg(self._heard)

    def show(self, table: Table | None) -> None:
        """Show a table; None empties it."""
        self.table = dataclasses.asdict(table) if table else {}

    def _heard(self, _, content: dict, buffers: list) -> None:
        if "row" in content:
            self.press_cell(content["row"], content["column"])
        elif "column" in content:
            self.press_column(content["column"])
        else:
            self.press_corner()


class Upload(anywidget.AnyWidget):
    """A button for a picture's file, which arrives in parts, as ipywidgets' own takes files of up to 10 MB only.

    take : called with the file's name and its bytes. fail : called with a ValueError for a file of more than ``most_bytes``,
    which isn't sent at all, one that the browser can't read, and one of which a part is missing.
    """

    _esm = ASSETS / "upload.js"
    _css = ASSETS / "explorer.css"
    text = traitlets.Unicode("upload a picture").tag(sync=True)
    most_bytes = traitlets.Int(MOST_BYTES).tag(sync=True)

    def __init__(self, take: Callable[[str, bytes], None], fail: Callable[[ValueError], None], **traits):
        super().__init__(**traits)
        self.take, self.fail = take, fail
        self._parts: dict[str, list[bytes]] = {}  # by the file's id, since several browsers may send at a time
        self.on_msg(self._heard)

    def _heard(self, _, content: dict, buffers: list) -> None:
        try:
            whole = self._with_part(content, buffers)
        except ValueError as error:
            self._parts.pop(content.get("id", ""), None)
            self.fail(error)
        else:
            if whole is not None:
                self.take(content["name"], whole)

    def _with_part(self, content: dict, buffers: list) -> bytes | None:
        """The whole file once its last part is there, None before."""
        name, file = content["name"], content.get("id", "")
        check_bytes(name, content["size"])
        if content.get("part") == 0:
            self._parts[file] = []
        parts = self._parts.setdefault(file, [])
        if not buffers or content.get("part") != len(parts):  # a browser that can't read the file sends neither
            raise ValueError(f"{name} couldn't be read to its end: choose the file again")
        parts.append(bytes(buffers[0]))
        return b"".join(self._parts.pop(file)) if len(parts) == content["parts"] else None
