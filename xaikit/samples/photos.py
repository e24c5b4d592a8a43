"""A few photographs for a first look, with captions and boxes of our own: pictures that scikit-image and scikit-learn install."""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from PIL import Image

from ..files.images import decode
from .source import Pictures

# Picture, caption, the object that it names first, and its box (left, top, width, height) in pixels of the file.
PHOTOS = (
    ("skimage/data/motorcycle_left.png", "a red motorcycle in a garage", "motorcycle", (100, 80, 580, 370)),
    ("skimage/data/coffee.png", "a cup of coffee on a red saucer", "cup", (172, 15, 235, 225)),
    ("sklearn/datasets/images/flower.jpg", "an orange flower in front of green leaves", "flower", (165, 82, 280, 278)),
    ("skimage/data/rocket.jpg", "a white rocket before its start at night", "rocket", (303, 125, 36, 290)),
    ("sklearn/datasets/images/china.jpg", "a pagoda above trees at a lake", "pagoda", (60, 25, 310, 375)),
    ("skimage/data/astronaut.png", "a woman in an orange space suit", "woman", (22, 12, 340, 500)),
    ("skimage/data/camera.png", "a man with a camera on a tripod", "man", (0, 62, 330, 450)),
    ("skimage/data/chelsea.png", "a cat with green eyes", "cat", (30, 0, 380, 300)),
)


def photos() -> Pictures:
    """The photographs as a source, whose ``object_mask`` is the box of the object that each caption names.

    Examples
    --------
    >>> source = xk.open_source("photos", 2)
    >>> source.inputs(size=64).caption.values.tolist()
    ['a red motorcycle in a garage', 'a cup of coffee on a red saucer']
    """
    table = pd.DataFrame(PHOTOS, columns=["image", "caption", "object_name", "box"])
    table["label"] = table.image.map(lambda name: Path(name).stem)
    return Pictures.of("photos", table, _read)


def _read(name: str) -> Image.Image:
    package, _, inner = str(name).partition("/")
    return decode(Path(find_spec(package).submodule_search_locations[0]) / inner, f"the picture {name}")
