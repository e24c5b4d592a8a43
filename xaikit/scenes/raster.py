"""Pixels and masks from a layout."""

import numpy as np

from .layout import COLOURS, IMAGE_SIZE, Layout

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
BACKGROUNDS = ("plain", "gradient", "textured")
MARK_SIZE = 6  # pixels; the planted shortcut is a checkered square in the lower right corner


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
