"""The world of coloured shapes: every object is a colour and a shape."""

import numpy as np

from .layout import COLOURS, FRAME, LEAST, MAX_OBJECTS, RGB, Layout, World, combinations, put_mark

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
PLURALS = ("circles", "squares", "triangles", "diamonds", "crosses", "rings")
SIZES = ("small", "large")
BACKGROUNDS = ("plain", "gradient", "textured")
IMAGE_SIZE = 64  # pixels, unless another size is asked for

# Radius of a large object by the number of objects in the scene; a small one has 0.55 of it. Up to four
# objects every large radius exceeds every small one, so the size words are absolute there.
LARGE_RADIUS = np.array([13, 12, 10.5, 9.5, 8.5, 8, 7.5, 7, 6.7, 6.4, 6.1, 5.8])
SMALL_FACTOR = 0.55


def radii(rng: np.random.Generator, count: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes, as indices into SIZES, and radii, (n, slots) each, of scenes with so many objects (n,)."""
    size = rng.integers(0, len(SIZES), (len(count), slots))
    large = LARGE_RADIUS[count - 1][:, None] * rng.uniform(0.95, 1.05, size.shape)
    return size, np.where(size == SIZES.index("large"), large, SMALL_FACTOR * large)


def sample_attributes(
    rng: np.random.Generator, n: int, slots: int, group: np.ndarray, similar: float, swappable: bool, bound: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Colours and shapes without repetition but in the group, as two index arrays (n, slots); see ``sample_layout``.
    bound: here all objects have a colour."""
    colours = rng.permuted(np.tile(np.arange(len(COLOURS)), (n, 1)), axis=1)[:, :2]
    shapes = rng.permuted(np.tile(np.arange(len(SHAPES)), (n, 1)), axis=1)[:, :2]
    all_colours, all_shapes = np.divmod(np.arange(len(COLOURS) * len(SHAPES)), len(SHAPES))
    key = rng.random((n, all_colours.size))
    shared = (all_colours == colours[:, :, None]).any(1) | (all_shapes == shapes[:, :, None]).any(1)
    key = np.where(shared, key * max(1 - similar, LEAST), key)
    np.put_along_axis(key, colours * len(SHAPES) + shapes, np.array([-2.0, -1.0]), axis=1)
    if swappable:
        np.put_along_axis(key, colours[:, ::-1] * len(SHAPES) + shapes, 2.0, axis=1)
    order = combinations(key, slots, group)
    return all_colours[order], all_shapes[order]


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


def _draws(seed: int, size: int) -> dict[str, np.ndarray]:
    """The random numbers behind one picture's pixels; those that its size changes come last."""
    rng = np.random.default_rng(seed)
    return {
        "kind": rng.integers(0, len(BACKGROUNDS)),
        "grey": rng.uniform(80, 190) + rng.uniform(-14, 14, 3),
        "angle": rng.uniform(0, 2 * np.pi),
        "coarse": rng.normal(0, 16, (9, 9)),
        "shade": rng.uniform(-12, 12, (MAX_OBJECTS, 3)),
        "fine": rng.normal(0, 6, (size, size)),
        "noise": rng.normal(0, 2.5, (size, size)),
    }


def _backgrounds(draws: dict[str, np.ndarray], size: int) -> np.ndarray:
    """Muted plain, gradient or textured backgrounds (n, y, x, rgb)."""
    kind = draws["kind"][:, None, None]
    axis = np.linspace(-0.5, 0.5, size)
    angle = draws["angle"][:, None, None]
    slope = np.cos(angle) * axis + np.sin(angle) * axis[:, None]
    weights = np.maximum(0, 1 - np.abs(np.linspace(0, 8, size)[:, None] - np.arange(9)))  # bilinear
    texture = weights @ draws["coarse"] @ weights.T + draws["fine"]
    pattern = np.select([kind == 1, kind == 2], [70 * slope, texture], 0.0)
    return draws["grey"][:, None, None] + pattern[..., None]


def render(
    layout: Layout, seeds: np.ndarray, style: np.ndarray, size: int, mark: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the scenes, a square of ``size`` pixels each.

    seeds (n,): of each picture's background, shades and noise, which are the same whatever stands in it. style (n,): index
    into the world's styles. mark (n,): whether the scene carries the corner mark. Returns image (n, y, x, rgb) uint8,
    object masks (n, K, y, x) bool of what is visible of each object, and the kinds of background (n,), text.
    """
    n, slots = layout.x.shape
    scale = size / FRAME
    each = [_draws(int(seed), size) for seed in seeds]
    draws = {name: np.stack([draw[name] for draw in each]) for name in each[0]}
    canvas = _backgrounds(draws, size)
    rgb = np.array([RGB[name] for name in COLOURS])[layout.colour] + draws["shade"][:, :slots]
    scene, slot = np.nonzero(layout.exists)
    coverage = np.zeros((n, slots, size, size), np.float32)
    centre = np.arange(size, dtype=np.float32) + 0.5
    column = [getattr(layout, name)[scene, slot].astype(np.float32)[:, None, None] for name in ("x", "y", "radius")]
    x, y, radius = (scale * values for values in column)
    u, v = np.broadcast_arrays((centre - x) / radius, (centre[:, None] - y) / radius)
    distance = _shape_distance(u, v, layout.noun[scene, slot][:, None, None])
    coverage[scene, slot] = np.clip(0.5 - distance * radius, 0, 1)  # one pixel of anti-aliasing
    masks = coverage >= 0.5
    for k in range(slots):  # later objects lie on top
        alpha = coverage[:, k, ..., None]
        canvas = canvas * (1 - alpha) + rgb[:, k, None, None] * alpha
        masks[:, :k] &= ~masks[:, k : k + 1]
    canvas += draws["noise"][..., None]
    put_mark(canvas, masks, mark)
    return np.clip(canvas, 0, 255).astype(np.uint8), masks, np.array(BACKGROUNDS)[draws["kind"]]


WORLD = World(
    name="shapes", nouns=SHAPES, plurals=PLURALS, sizes=SIZES, styles=("plain",), size=IMAGE_SIZE,
    coloured=np.ones(len(SHAPES), bool), category=np.arange(len(SHAPES)), extent=0.84,
    radii=radii, attributes=sample_attributes, render=render,
)  # fmt: skip
