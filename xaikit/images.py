"""Read an image from whatever a user has, or say what is wrong with it."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 200_000_000  # beyond that a file is more likely a mistake than a picture


def read_image(image: str | Path | Image.Image | np.ndarray, index: int = 0) -> Image.Image:
    """An RGB PIL image from a path, a PIL image or a uint8 array (H, W, 3).

    Raises ValueError, or FileNotFoundError, in one sentence that names the image (by path or ``index``).
    """
    if isinstance(image, Image.Image):
        return as_rgb(image, f"image {index}")
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            raise FileNotFoundError(f"image {index}: there is no file {path}")
        try:
            with Image.open(path) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise ValueError(
                        f"image {index}: {path} has {opened.width} x {opened.height} pixels, more than can be a picture"
                    )
                return as_rgb(opened, f"image {index}: {path}")
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"image {index}: {path} can't be read as an image ({error})") from error
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"image {index} has shape {array.shape}: an RGB image is (height, width, 3)")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ValueError(f"image {index} holds NaN or infinite values: all must be finite")
    if array.dtype != np.uint8:
        raise ValueError(f"image {index} has type {array.dtype}: pixels are uint8, 0 to 255")
    return Image.fromarray(array)


def as_rgb(image: Image.Image, label: str) -> Image.Image:
    """An 8-bit picture of any kind as RGB, turned as its EXIF note says, on white where it is transparent (what a file holds
    there is never seen). Raises ValueError for another kind (16 bit, floating point), which would be clipped silently, or an
    empty one; ``label`` names it."""
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise ValueError(f"{label} has mode {image.mode!r}: an 8-bit picture is needed, such as RGB or L")
    if 0 in image.size:
        raise ValueError(f"{label} has {image.width} x {image.height} pixels: at least one is needed")
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        seen = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return upright.convert("RGB")
