"""A button to hand over a picture."""

from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets

from ..uploads import MOST_BYTES, check_bytes

HERE = Path(__file__).parent


class Upload(anywidget.AnyWidget):
    """A button for a picture's file, which arrives in parts, as ipywidgets' own takes files of up to 10 MB only.

    take : called with the file's name and its bytes. fail : called with a ValueError for a file of more than ``most_bytes``,
    which isn't sent at all.
    """

    _esm = HERE / "upload.js"
    _css = HERE / "explorer.css"
    text = traitlets.Unicode("upload a picture").tag(sync=True)
    most_bytes = traitlets.Int(MOST_BYTES).tag(sync=True)

    def __init__(self, take: Callable[[str, bytes], None], fail: Callable[[ValueError], None], **traits):
        super().__init__(**traits)
        self.take, self.fail = take, fail
        self._parts = bytearray()
        self.on_msg(self._told)

    def _told(self, _, content: dict, buffers: list) -> None:
        try:
            check_bytes(content["name"], content["size"])
        except ValueError as error:
            self.fail(error)
            return
        if content["part"] == 0:
            self._parts = bytearray()
        self._parts += buffers[0]
        if content["part"] == content["parts"] - 1:
            whole, self._parts = bytes(self._parts), bytearray()
            self.take(content["name"], whole)
