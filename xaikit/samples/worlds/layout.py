"""Where the objects of planted scenes stand and what they are, as plain arrays, whatever world they belong to.

Every array has one row a scene and one column an object slot; slots without an object are unused (``exists`` is false
there). Lengths are in units of 1/64 of the picture's side, x to the right, y down, so that a scene is the same at any size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FRAME = 64.0  # units a side
RGB = {
    "red": (205, 30, 35),
    "green": (40, 150, 50),
    "blue": (35, 70, 205),
    "yellow": (245, 225, 40),
    "orange": (250, 135, 20),
    "purple": (120, 45, 160),
    "pink": (250, 150, 195),
    "cyan": (45, 205, 215),
}
COLOURS = tuple(RGB)
RELATIONS = ("left of", "right of", "above", "below")
MAX_OBJECTS = 12
MARK_SIZE = 6  # units; the planted shortcut is a checkered square in the lower right corner
MIDLINE_MARGIN = 7.0  # related objects stay this far off the midline that separates them
LEAST = 1e-9  # what is left of a key where all distractors shall be alike: among these chance still decides
CANDIDATES = 128  # positions tried at once for each object


@dataclass(frozen=True)
class Layout:
    """Objects of n scenes, K slots each."""

    noun: np.ndarray  # (n, K) int, index into the world's nouns
    colour: np.ndarray  # (n, K) int, index into COLOURS, -1 for a thing's own
    size: np.ndarray  # (n, K) int, index into the world's sizes, -1 where it has none
    x: np.ndarray  # (n, K) float, centre
    y: np.ndarray  # (n, K) float, centre
    radius: np.ndarray  # (n, K) float, half of an object's larger side
    exists: np.ndarray  # (n, K) bool

    def rows(self, index: np.ndarray | slice) -> "Layout":
        """Some of the scenes."""
        return Layout(**{name: value[index] for name, value in vars(self).items()})


@dataclass(frozen=True)
class World:
    """What scenes of a world are made of.

    nouns, plurals : names of its objects, and of several alike; "" for a noun that is never counted and has no article.
    sizes : words for sizes, the smaller first; () where sizes aren't spoken of. styles : ways in which all is drawn.
    size : pixels a side, unless another is asked for. coloured (nouns,) : which objects can take a colour of ``COLOURS``.
    category (nouns,) : nouns of the same are alike; a shape is only like itself. extent : half the larger side of the
    narrowest object of radius 1.
    radii : (count of objects, random numbers (n, K)) to sizes, indices as in a layout, and radii, (n, K) each.
    attributes : draws colours and nouns (n, K); see ``shapes.sample_attributes``.
    render : draws scenes; see ``shapes.render``.
    """

    name: str
    nouns: tuple[str, ...]
    plurals: tuple[str, ...]
    sizes: tuple[str, ...]
    styles: tuple[str, ...]
    size: int
    coloured: np.ndarray
    category: np.ndarray
    extent: float
    radii: Callable
    attributes: Callable
    render: Callable


def sample_layout(
    world: World,
    rng: np.random.Generator,
    count: np.ndarray,
    relation: np.ndarray,
    group: np.ndarray,
    similar: float,
    swappable: bool = False,
    margin: float = MIDLINE_MARGIN,
    smallest: float = 0.0,
    **attributes,
) -> Layout:
    """Draw objects that do not overlap.

    count (n,): objects a scene. relation (n,): index into RELATIONS that object 0 has to object 1, -1 for none; related
    objects lie in opposite halves of the image along the relation's axis, their centres at least ``margin`` off the
    midline. group (n,): how many of the first objects are alike (1 for none). similar: 0 draws the other objects freely,
    1 makes each share something with object 0 or 1 (of shapes the colour or the shape, of things the category) as long as
    such objects last. No two objects outside a group are alike, and objects 0 and 1 differ. swappable: no other object
    looks like object 0 or 1 with their colours exchanged. smallest: no object's larger side is below twice it. attributes: options of the
    world's own.
    """
    slots = int(count.max())
    colour, noun = world.attributes(rng, len(count), slots, group, similar, swappable, **attributes)
    size, radius = world.radii(rng, count, slots)
    if smallest:  # sizes are no longer told apart
        radius, size = np.maximum(radius, smallest / world.extent), np.full_like(size, -1)
    exists = np.arange(slots) < count[:, None]
    x, y = _place(rng, radius, exists, relation, margin)
    return Layout(noun, colour, size, x, y, radius, exists)


def _place(rng, radius, exists, relation, margin):
    """Centres (n, K) that keep objects inside the image and apart, by batched rejection."""
    n, slots = radius.shape
    x, y = np.full((2, n, slots), -1e3)
    rows = np.arange(n)
    half = FRAME / 2
    for k in range(slots):
        r = radius[:, k : k + 1]
        low = np.stack([r + 0.5, r + 0.5])  # (axis, n, 1)
        high = FRAME - 0.5 - np.stack([r, r])
        if k < 2:  # the related pair: object 0 on the near side for "left of" and "above"
            axis, near = relation // 2, (relation % 2 == 0) == (k == 0)
            for a in (0, 1):
                pick = (relation >= 0) & (axis == a)
                high[a] = np.where((pick & near)[:, None], half - margin, high[a])
                low[a] = np.where((pick & ~near)[:, None], half + margin, low[a])
        candidate = low[..., None] + (high - low)[..., None] * rng.random((2, n, 1, CANDIDATES))
        cx, cy = candidate[:, :, 0]
        if k:
            gap = np.hypot(cx[:, None] - x[:, :k, None], cy[:, None] - y[:, :k, None])
            clearance = (gap - radius[:, :k, None] - r[:, None] - 1).min(axis=1)
        else:
            clearance = np.zeros_like(cx)
        # The first free candidate; where the scene is full, the one that overlaps least.
        choice = np.where((clearance >= 0).any(1), (clearance >= 0).argmax(1), clearance.argmax(1))
        x[:, k] = np.where(exists[:, k], cx[rows, choice], -1e3)
        y[:, k] = np.where(exists[:, k], cy[rows, choice], -1e3)
    return x, y


def combinations(key: np.ndarray, slots: int, group: np.ndarray) -> np.ndarray:
    """The first ``slots`` of what is ranked by its key (n, choices), in each scene the first repeated ``group`` times."""
    order = np.argsort(key, axis=1)[:, :slots]
    return np.where(np.arange(slots) < group[:, None], order[:, :1], order)


def corner(size: int) -> slice:
    """The rows, and the columns, of the corner mark in a picture of so many pixels a side."""
    return slice(size - round(MARK_SIZE * size / FRAME), size)


def put_mark(canvas: np.ndarray, masks: np.ndarray, mark: np.ndarray) -> None:
    """Put the corner mark into those pictures (n, y, x, rgb) that carry it, over their objects' masks (n, K, y, x)."""
    place = corner(canvas.shape[1])
    side = place.stop - place.start
    third = np.arange(side) * 3 // side
    checker = (third[:, None] + third) % 2 * 255.0
    canvas[:, place, place] = np.where(mark[:, None, None, None], checker[..., None], canvas[:, place, place])
    masks[:, :, place, place] &= ~mark[:, None, None, None]
