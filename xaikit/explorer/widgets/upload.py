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
    which isn't sent at all, one that the browser can't read, and one of which a part is missing.
    """

    _esm = HERE / "upload.js"
    _css = HERE / "explorer.css"
    text = traitlets.Unicode("upload a picture").tag(sync=True)
    most_bytes = traitlets.Int(MOST_BYTES).tag(sync=True)

    def __init__(self, take: Callable[[str, bytes], None], fail: Callable[[ValueError], None], **traits):
        super().__init__(**traits)
        self.take, self.fail = take, fail
        self._parts: dict[str, list[bytes]] = {}  # by the file's id, since several browsers may send at a time
        self.on_msg(self._told)

    def _told(self, _, content: dict, buffers: list) -> None:
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
