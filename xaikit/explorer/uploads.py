"""Pictures that a user hands over as bytes."""

import io

from PIL import Image

from ..files.images import as_rgb

MOST_PIXELS = 40_000_000
MOST_BYTES = 30_000_000
MOST_ASPECT = 20  # times as long as wide; on a narrower one nothing could be seen


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
            raise ValueError(
                f"{name} has {width} x {height} pixels: no side may be more than {MOST_ASPECT} times as long as the other"
            )
        try:
            opened.load()
        except Exception as error:
            raise _unreadable(name) from error
        return as_rgb(opened, name)


def _unreadable(name: str) -> ValueError:
    return ValueError(f"{name} can't be read as a picture: a PNG, JPEG, WebP, GIF, BMP or TIFF file is needed")
