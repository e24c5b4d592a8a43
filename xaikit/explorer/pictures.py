"""A user's own pictures: uploaded ones by their names, and files."""

import hashlib
import threading
from pathlib import Path, PurePath

from PIL import Image

from .cache import Cache
from .uploads import read_upload

PICTURES = 8  # kept; each can take 100 megabytes


class Pictures:
    """The pictures that were handed over last, and the files that were read last."""

    def __init__(self):
        reading = threading.RLock()
        self._uploads, self._files = Cache(PICTURES, reading), Cache(PICTURES, reading)
        self._digests: dict[str, str] = {}  # of uploads by name, also of those that are no longer kept

    def upload(self, name: str, content: bytes) -> str:
        """Take a picture's bytes; from then on it is known by the name that is returned, another one where another picture
        has that name. Raises ValueError for no picture."""
        picture, digest = read_upload(name, content), hashlib.sha256(content).hexdigest()
        path, number = PurePath(name), 2
        while self._digests.get(name, digest) != digest:
            name, number = f"{path.stem} ({number}){path.suffix}", number + 1
        self._digests[name] = digest
        self._uploads.drop(name)
        self._uploads.kept(name, lambda: picture)
        return name

    def uploaded(self, name: str | None) -> bool:
        """Whether a picture of this name was handed over."""
        return name in self._digests

    def __getitem__(self, name: str) -> Image.Image:
        """An uploaded picture, or a file as it is now. Raises ValueError for no picture, or an upload that is no longer kept,
        FileNotFoundError for a missing file."""
        from ..files.images import read_image

        try:
            return self._uploads[name]
        except KeyError:
            if self.uploaded(name):
                raise ValueError(
                    f"{name} is no longer kept, only the last {PICTURES} uploads are: upload it again"
                ) from None
        path = Path(name)
        about = path.stat() if path.is_file() else None
        try:
            return self._files.kept((name, about and (about.st_mtime_ns, about.st_size)), lambda: read_image(path))
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(str(error).removeprefix("image 0: ")) from error
