"""The world of coloured shapes: where the objects of a scene stand and what they are, as plain arrays, and how they look.

Every array has one row a scene and one column an object slot; slots beyond a scene's object count
are unused (``exists`` is false there). Positions and radii are in pixels, x to the right, y down.
"""

from dataclasses import dataclass

import numpy as np

IMAGE_SIZE = 64
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
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
SIZES = ("small", "large")
RELATIONS = ("left of", "right of", "above", "below")
BACKGROUNDS = ("plain", "gradient", "textured")
MARK_SIZE = 6  # pixels; the planted shortcut is a checkered square in the lower right corner
MAX_OBJECTS = 12

# Radius of a large object by the number of objects in the scene; a small one has 0.55 of it. Up to four
# objects every large radius exceeds every small one, so the size words are absolute there.
LARGE_RADIUS = np.array([13, 12, 10.5, 9.5, 8.5, 8, 7.5, 7, 6.7, 6.4, 6.1, 5.8])
SMALL_FACTOR = 0.55
MIDLINE_MARGIN = 7.0  # related objects stay this many pixels off the midline that separates them
CANDIDATES = 128  # positions tried at once for each object


@dataclass(frozen=True)
class Layout:
    """Objects of n scenes, K slots each: attributes as indices into COLOURS, SHAPES, SIZES."""

    colour: np.ndarray  # (n, K) int
    shape: np.ndarray  # (n, K) int
    size: np.ndarray  # (n, K) int
    x: np.ndarray  # (n, K) float, centre
    y: np.ndarray  # (n, K) float, centre
    radius: np.ndarray  # (n, K) float
    exists: np.ndarray  # (n, K) bool

    def rows(self, index: np.ndarray | slice) -> "Layout":
        """Some of the scenes."""
        return Layout(**{name: value[index] for name, value in vars(self).items()})


def sample_layout(
    rng: np.random.Generator,
    count: np.ndarray,
    relation: np.ndarray,
    group: np.ndarray,
    similar: float,
    swappable: bool = False,
    margin: float = MIDLINE_MARGIN,
) -> Layout:
    """Draw objects that do not overlap.

    count (n,): objects a scene. relation (n,): index into RELATIONS that object 0 has to object 1, -1 for
    none; related objects lie in opposite halves of the image along the relation's axis, their centres at least
    ``margin`` pixels off the midline. group (n,): how
    many of the first objects share colour and shape (1 for none). similar: 0 draws the other objects
    freely, 1 makes each share its colour or its shape with object 0 or 1 as long as such combinations
    last. No two objects outside a group share both, and objects 0 and 1 differ in both. swappable: no
    other object looks like object 0 or 1 with their colours exchanged.
    """
    slots = int(count.max())
    colour, shape = _sample_attributes(rng, len(count), slots, group, similar, swappable)
    size = rng.integers(0, len(SIZES), (len(count), slots))
    large = LARGE_RADIUS[count - 1][:, None] * rng.uniform(0.95, 1.05, size.shape)
    radius = np.where(size == SIZES.index("large"), large, SMALL_FACTOR * large)
    exists = np.arange(slots) < count[:, None]
    x, y = _place(rng, radius, exists, relation, margin)
    return Layout(colour, shape, size, x, y, radius, exists)


def _sample_attributes(rng, n, slots, group, similar, swappable):
    """Combinations of colour and shape without repetition, as two index arrays (n, slots)."""
    colours = rng.permuted(np.tile(np.arange(len(COLOURS)), (n, 1)), axis=1)[:, :2]
    shapes = rng.permuted(np.tile(np.arange(len(SHAPES)), (n, 1)), axis=1)[:, :2]
    all_colours, all_shapes = np.divmod(np.arange(len(COLOURS) * len(SHAPES)), len(SHAPES))
    key = rng.random((n, all_colours.size))
    shared = (all_colours == colours[:, :, None]).any(1) | (all_shapes == shapes[:, :, None]).any(1)
    key = np.where(shared, key * (1 - similar), key)
    np.put_along_axis(key, colours * len(SHAPES) + shapes, np.array([-2.0, -1.0]), axis=1)
    if swappable:
        np.put_along_axis(key, colours[:, ::-1] * len(SHAPES) + shapes, 2.0, axis=1)
    order = np.argsort(key, axis=1)[:, :slots]
    order = np.where(np.arange(slots) < group[:, None], order[:, :1], order)
    return all_colours[order], all_shapes[order]


def _place(rng, radius, exists, relation, margin):
    """Centres (n, K) that keep objects inside the image and apart, by batched rejection."""
    n, slots = radius.shape
    x, y = np.full((2, n, slots), -1e3)
    rows = np.arange(n)
    half = IMAGE_SIZE / 2
    for k in range(slots):
        r = radius[:, k : k + 1]
        low = np.stack([r + 0.5, r + 0.5])  # (axis, n, 1)
        high = IMAGE_SIZE - 0.5 - np.stack([r, r])
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


def _shape_distance(u: np.ndarray, v: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Signed distance, in radii, of points (u, v) to the outline of each object; negative inside."""
    au, av = np.abs(u), np.abs(v)
    disc = np.hypot(u, v)
    outlines = [
        lambda: disc - 0.95,
        lambda: np.maximum(au, av) - 0.84,
        lambda: np.maximum(v - 0.75, (2 * au - v - 0.95) / np.sqrt(5)),
        lambda: (au + av - 1.05) / np.sqrt(2),
        lambda: np.minimum(np.maximum(au - 0.95, av - 0.33), np.maximum(au - 0.33, av - 0.95)),
        lambda: np.abs(disc - 0.7) - 0.27,
    ]  # in the order of SHAPES
    return np.select([shape == i for i in range(len(outlines))], [outline() for outline in outlines])


def _backgrounds(rng, n):
    """Muted plain, gradient or textured backgrounds (n, y, x, rgb), and which of the three each one is."""
    kind = rng.integers(0, len(BACKGROUNDS), n)
    grey = rng.uniform(80, 190, (n, 1, 1, 1)) + rng.uniform(-14, 14, (n, 1, 1, 3))
    axis = np.linspace(-0.5, 0.5, IMAGE_SIZE)
    angle = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    slope = np.cos(angle) * axis + np.sin(angle) * axis[:, None]
    coarse = np.arange(9)
    weights = np.maximum(0, 1 - np.abs(np.linspace(0, 8, IMAGE_SIZE)[:, None] - coarse))  # bilinear
    texture = weights @ rng.normal(0, 16, (n, 9, 9)) @ weights.T + rng.normal(0, 6, (n, IMAGE_SIZE, IMAGE_SIZE))
    pattern = np.select([(kind == 1)[:, None, None], (kind == 2)[:, None, None]], [70 * slope, texture], 0.0)
    return grey + pattern[..., None], kind


def render(layout: Layout, rng: np.random.Generator, mark: np.ndarray):
    """Draw the scenes.

    mark (n,): whether the scene carries the corner mark. Returns image (n, y, x, rgb) uint8, object masks
    (n, K, y, x) bool of what is visible of each object, and the background kind (n,).
    """
    n, slots = layout.x.shape
    canvas, background = _backgrounds(rng, n)
    rgb = np.array([RGB[name] for name in COLOURS])[layout.colour] + rng.uniform(-12, 12, (n, slots, 3))
    scene, slot = np.nonzero(layout.exists)
    coverage = np.zeros((n, slots, IMAGE_SIZE, IMAGE_SIZE), np.float32)
    centre = np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5
    column = [getattr(layout, name)[scene, slot].astype(np.float32)[:, None, None] for name in ("x", "y", "radius")]
    x, y, radius = column
    u, v = np.broadcast_arrays((centre - x) / radius, (centre[:, None] - y) / radius)
    distance = _shape_distance(u, v, layout.shape[scene, slot][:, None, None])
    coverage[scene, slot] = np.clip(0.5 - distance * radius, 0, 1)  # one pixel of anti-aliasing
    masks = coverage >= 0.5
    for k in range(slots):  # later objects lie on top
        alpha = coverage[:, k, ..., None]
        canvas = canvas * (1 - alpha) + rgb[:, k, None, None] * alpha
        masks[:, :k] &= ~masks[:, k : k + 1]
    canvas += rng.normal(0, 2.5, canvas.shape[:3])[..., None]
    corner = slice(IMAGE_SIZE - MARK_SIZE, IMAGE_SIZE)
    checker = np.kron(np.indices((3, 3)).sum(0) % 2, np.ones((2, 2)))[..., None] * 255
    canvas[:, corner, corner] = np.where(mark[:, None, None, None], checker, canvas[:, corner, corner])
    masks[:, :, corner, corner] &= ~mark[:, None, None, None]
    return np.clip(canvas, 0, 255).astype(np.uint8), masks, background
