"""What is explained: a picture (a scene, an upload or a file), with the truth where it is known, and a typed prompt."""

import hashlib
import io
import re
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from ..files.images import as_rgb, read_image
from ..samples.captions import PLURALS, name_objects
from .jobs import Cache

SINGULAR = {plural: name for name, plural in PLURALS.items()}
PICTURES = 8  # of the user's own, kept; each can take 100 megabytes
MOST_PIXELS = 40_000_000
MOST_BYTES = 30_000_000
MOST_ASPECT = 20  # times as long as wide; on a narrower one nothing could be seen


@dataclass(frozen=True)
class Subject:
    """What is explained: a picture and a prompt.

    image : as the model sees it, uint8 (y, x, rgb). source : what the model is given. scene : its planted truth, None for
    a picture of one's own. named : which pixels (y, x) belong to objects that the prompt names, None where there is no truth.
    """

    image: np.ndarray
    source: Any
    prompt: str
    scene: xr.Dataset | None = None
    named: np.ndarray | None = None

    @cached_property
    def captioned(self) -> bool:
        """Whether the prompt is the scene's own caption."""
        return self.scene is not None and self.prompt == str(self.scene.caption.item())

    @cached_property
    def key(self) -> str:
        """Tells the picture apart from others."""
        content = self.source.tobytes() if hasattr(self.source, "tobytes") else self.image.tobytes()
        return hashlib.sha256(content + str(self.image.shape).encode()).hexdigest()[:16]


def named_pixels(scene: xr.Dataset, prompt: str) -> np.ndarray | None:
    """The pixels (y, x) of the objects that a prompt names, None where it names none."""
    if prompt == str(scene.caption.item()):
        named = scene.object_named.values
    else:
        words = [SINGULAR.get(word, word) for word in re.findall(r"\w+", prompt.lower())] or [""]
        found = name_objects(np.array([words]), scene.expand_dims("sample")).token_object.values
        group = scene.object_group.values
        # alike in colour and shape, as in the scenes' truth
        named = np.isin(group, group[found[found >= 0]]) & (group >= 0)
    pixels = scene.object_mask.values[named].any(0)
    return pixels if pixels.any() else None


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
        self._uploads.keep(name, picture)
        return name

    def uploaded(self, name: str | None) -> bool:
        """Whether a picture of this name was handed over."""
        return name in self._digests

    def __getitem__(self, name: str) -> Image.Image:
        """An uploaded picture, or a file as it is now. Raises ValueError for no picture, or an upload that is no longer kept,
        FileNotFoundError for a missing file."""
        try:
            return self._uploads[name]
        except KeyError:
            if self.uploaded(name):
                why = f"{name} is no longer kept, only the last {PICTURES} uploads are: upload it again"
                raise ValueError(why) from None
        path = Path(name)
        about = path.stat() if path.is_file() else None
        try:
            return self._files.kept((name, about and (about.st_mtime_ns, about.st_size)), lambda: read_image(path))
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(str(error).removeprefix("image 0: ")) from error


def check_bytes(name: str, size: int) -> None:
    """Raise ValueError for a file of too many bytes."""
    if size > MOST_BYTES:
        raise ValueError(f"{name} has {size / 1e6:.0f} MB: pictures up to {MOST_BYTES / 1e6:.0f} MB are taken")


def read_upload(name: str, content: bytes) -> Image.Image:
    """An RGB picture from a file's bytes, upright, on white where it is transparent.

    Raises ValueError, in one sentence that names the file, for what is no picture, too large a one or too narrow a one; the
    size is read before anything is decoded.
    """
    check_bytes(name, len(content))
    taken = f"pictures up to {MOST_PIXELS / 1e6:.0f} megapixels are taken; make it smaller first"
    try:
        opened = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:  # which doesn't say the size
        raise ValueError(f"{name} has more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} megapixels: {taken}") from error
    except Exception as error:  # each format fails in its own way at what isn't of it
        raise _unreadable(name) from error
    with opened:
        width, height = opened.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"{name} has {width} x {height} pixels ({width * height / 1e6:.0f} megapixels): {taken}")
        if max(width, height) > MOST_ASPECT * min(width, height):
            most = f"no side may be more than {MOST_ASPECT} times as long as the other"
            raise ValueError(f"{name} has {width} x {height} pixels: {most}")
        try:
            opened.load()
        except Exception as error:
            raise _unreadable(name) from error
        return as_rgb(opened, name)


def _unreadable(name: str) -> ValueError:
    return ValueError(f"{name} can't be read as a picture: a PNG, JPEG, WebP, GIF, BMP or TIFF file is needed")


def prompt_ids(clip, prompt: str, words: tuple[int, ...] = ()):
    """Token ids (1, context) of a prompt, or of those of its own tokens at the places ``words``, without a gap.

    Raises ValueError, in one sentence, for a prompt that the model can't read or a word that it doesn't have.
    """
    import torch

    from ..clip.perturbation import perturbed_texts

    tokens = _readable(clip, prompt)
    if not words:
        return tokens
    count = int(clip.content(tokens).sum())
    if max(words) >= count or min(words) < 0:
        raise ValueError(f"words={list(words)}: the prompt has the words 0 to {count - 1}")
    keep = torch.zeros(1, count, dtype=torch.bool)
    keep[0, list(words)] = True
    return perturbed_texts(clip, tokens, keep, "removed")


def prompt_words(clip, prompt: str) -> tuple[str, ...]:
    """A prompt's own tokens as text. Raises as ``prompt_ids``."""
    _readable(clip, prompt)
    return tuple(clip.token_strings([prompt])[0])


def _readable(clip, prompt: str):
    try:
        return clip.tokens([prompt])
    except ValueError as error:
        raise ValueError(str(error).replace("text 0", "the prompt", 1)) from error
