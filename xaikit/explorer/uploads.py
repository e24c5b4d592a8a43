"""Pictures that a user hands over as bytes."""

import io

from PIL import Image

from ..images import as_rgb

MOST_PIXELS = 40_000_000
MOST_BYTES = 30_000_000


def check_bytes(name: str, size: int) -> None:
    """Raise ValueError for a file of too many bytes."""
    if size > MOST_BYTES:
        raise ValueError(f"{name} has {size / 1e6:.0f} MB: pictures up to {MOST_BYTES / 1e6:.0f} MB are taken")


def read_upload(name: str, content: bytes) -> Image.Image:
    """An RGB picture from a file's bytes, upright.

    Raises ValueError, in one sentence that names the file, for what is no picture or too large a one; the size is read
    before anything is decoded.
    """
    check_bytes(name, len(content))
    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(
                    f"{name} has {opened.width} x {opened.height} pixels ({opened.width * opened.height / 1e6:.0f} megapixels):"
                    f" pictures up to {MOST_PIXELS / 1e6:.0f} megapixels are taken; make it smaller first"
                )
            return as_rgb(opened, name)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{name} can't be read as a picture: a PNG, JPEG, WebP, GIF, BMP or TIFF file is needed"
        ) from error
