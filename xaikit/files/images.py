"""Read an image from whatever a user has, or say what is wrong with it."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

MOST_PIXELS = 160_000_000  # the largest cameras have 151 million; more is a mistake, or meant to fill the memory
MOST_ASPECT = 3000  # times as long as wide: resized by its short side, a narrower picture would fill the memory
# Those that a decoder within this process reads; for PostScript Pillow would start another program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def read_image(image: str | Path | Image.Image | np.ndarray, index: int = 0) -> Image.Image:
    """An RGB PIL image from a path, a PIL image or a uint8 array (H, W, 3).

    Raises ValueError, or FileNotFoundError, in one sentence that names the image (by path or ``index``).

    Examples
    --------
    >>> xk.files.read_image(np.zeros((48, 64, 3), np.uint8)).size
    (64, 48)
    """
    if isinstance(image, Image.Image):
        with _one_sentence(f"image {index}"):
            return as_rgb(image, f"image {index}")
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            what = f"{path} is a folder, no picture" if path.is_dir() else f"there is no file {path}"
            raise FileNotFoundError(f"image {index}: {what}")
        return decode(path, f"image {index}: {path}")
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"image {index} has shape {array.shape}: an RGB image is (height, width, 3)")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ValueError(f"image {index} holds NaN or infinite values: all must be finite")
    if array.dtype != np.uint8:
        raise ValueError(f"image {index} has type {array.dtype}: pixels are uint8, 0 to 255")
    return Image.fromarray(array)


def decode(
    file: Path | BinaryIO, label: str, most_pixels: int = MOST_PIXELS, most_aspect: int = MOST_ASPECT
) -> Image.Image:
    """The RGB picture in a file. Raises ValueError, in one sentence that starts with ``label`` and says nothing else of where
    the file is, for one that is damaged or of another format, or whose header tells of more than ``most_pixels``, or of a side
    more than ``most_aspect`` times as long as the other."""
    return _opened(file, label, as_rgb, most_pixels, most_aspect)


def decode_mask(file: Path | BinaryIO, label: str) -> Image.Image:
    """The mask in a file as an RGB picture: white where it isn't 0 (of a palette the index counts), black elsewhere.

    Raises ValueError, as ``decode`` does, and for one that has more values than 0 and another, as classes, several objects or
    the noise of JPEG make them, or that shows nothing."""
    return _opened(file, label, _as_mask)


def _as_mask(picture: Image.Image, label: str) -> Image.Image:
    if picture.mode not in ("1", "L", "P", "I;16"):
        raise ValueError(f"{label} has mode {picture.mode!r}: a mask is grey, of two colours, or has a palette")
    values = np.asarray(picture)
    found = np.unique(values)
    if len(found) > 2 or (found > 0).sum() != 1:
        shown = ", ".join(map(str, found[:4].astype(int))) + ", ..." * (len(found) > 4)
        raise ValueError(f"{label} has the values {shown}: a mask has one beside 0, where the object is")
    return Image.fromarray(np.where(values > 0, np.uint8(255), np.uint8(0))).convert("RGB")


def _opened(
    file: Path | BinaryIO,
    label: str,
    read: Callable[[Image.Image, str], Image.Image],
    most_pixels: int = MOST_PIXELS,
    most_aspect: int = MOST_ASPECT,
) -> Image.Image:
    """What ``read`` makes of the picture in a file, once its size is known to be possible."""
    with _one_sentence(label, most_pixels), Image.open(file, formats=FORMATS) as picture:
        width, height = picture.size
        if (pixels := width * height) > most_pixels:
            size = f"{width} x {height} pixels ({pixels / 1e6:.0f} megapixels)"
            raise ValueError(f"{label} has {size}, {_most(most_pixels)}")
        if max(width, height) > most_aspect * min(width, height):
            longest = f"no side may be more than {most_aspect} times as long as the other"
            raise ValueError(f"{label} has {width} x {height} pixels: {longest}")
        return read(picture, label)


@contextlib.contextmanager
def _one_sentence(label: str, most_pixels: int = MOST_PIXELS) -> Iterator[None]:
    """Whatever fails meanwhile is a ValueError in one sentence that starts with ``label``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # either there is a picture, or a reason; the size is checked here
        try:
            yield
        except Image.DecompressionBombError as error:  # which doesn't say the size
            size = f"more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} megapixels"
            raise ValueError(f"{label} has {size}, {_most(most_pixels)}") from error
        except Exception as error:  # each decoder fails in its own way at bytes that aren't as it expects
            if isinstance(error, ValueError) and str(error).startswith(label):
                raise
            raise ValueError(f"{label} can't be read as an image ({_told(error)})") from error


def _most(pixels: int) -> str:
    return f"more than the {pixels / 1e6:.0f} that are taken: make it smaller first"


def _told(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # whose own message holds the file's whole path
        return f"its content is of none of the formats {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def as_rgb(image: Image.Image, label: str) -> Image.Image:
    """An 8-bit picture of any kind as RGB, on white where it is transparent (what a file holds there is never seen).

    One as it was opened is turned as its EXIF note says; that note's number then stands as "turned" in ``info``, 1 for none. One
    that was made of it in memory keeps the note whatever was done to it, and is taken as it stands. Raises ValueError for
    another kind (16 bit, floating point), which would be clipped silently, or an empty one; ``label`` names it."""
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise ValueError(f"{label} has mode {image.mode!r}: an 8-bit picture is needed, such as RGB or L")
    if 0 in image.size:
        raise ValueError(f"{label} has {image.width} x {image.height} pixels: at least one is needed")
    as_opened = isinstance(image, ImageFile.ImageFile)
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) if as_opened else 1
    upright = ImageOps.exif_transpose(image) if as_opened else image
    if upright.has_transparency_data:
        seen = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    upright = upright.convert("RGB")
    upright.info["turned"] = turned
    return upright
