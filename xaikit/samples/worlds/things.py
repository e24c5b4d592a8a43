"""The world of things: everyday objects by name, drawn in several styles, on plain, graded, textured and photographed grounds.

The nouns are the rows of ``data/things/things.csv``, the drawings one picture a style beside it (its README names their
makers and licences). Each object is drawn for itself at the size asked for: pictures as a whole are never enlarged.
"""

import math
from functools import cache
from importlib.resources import files as installed_files

import numpy as np
import pandas as pd
from PIL import Image

from ...files.paths import data_folder
from .layout import COLOURS, FRAME, LEAST, MAX_OBJECTS, RGB, Layout, World, combinations, put_mark

STYLES = ("twemoji", "fluent", "flat", "noto")
HELD_OUT = "noto"  # drawn by others, and never seen while the bundled models were trained
SPRITE = 128  # pixels
COLUMNS = 12  # of sprites in a picture of a style
BACKGROUNDS = ("plain", "gradient", "textured", "photograph")
PHOTOGRAPHS = {
    "skimage.data": ("brick.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png"),
    "sklearn.datasets": ("images/china.jpg", "images/flower.jpg"),
}  # none of them shows one of the nouns clearly
COLOURED = 0.25  # share of the scenes whose objects have colours of ``COLOURS``, where they can take one
TURN = math.radians(12)  # the most that an object is turned, either way
# Side of an object, as a share of the picture's, by the number of objects in the scene.
SMALLEST_SIDE = np.array([0.3, 0.28, 0.25, 0.22, 0.2, 0.19, 0.18, 0.17, 0.165, 0.16, 0.155, 0.15])
LARGEST_SIDE = np.array([0.6, 0.46, 0.38, 0.34, 0.3, 0.28, 0.26, 0.24, 0.22, 0.21, 0.2, 0.19])


@cache
def table() -> pd.DataFrame:
    """A row a noun: noun, plural ("" for one that isn't counted), category, whether it can be tinted."""
    read = pd.read_csv(data_folder() / "things" / "things.csv", keep_default_na=False)
    return read.astype({"tinted": bool})


@cache
def categories() -> np.ndarray:
    """The category of each noun, as a number (nouns,)."""
    return table().category.astype("category").cat.codes.to_numpy()


def radii(rng: np.random.Generator, count: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """No sizes to speak of (-1), and radii, (n, slots) each, of scenes with so many objects (n,)."""
    side = rng.uniform(SMALLEST_SIDE[count - 1][:, None], LARGEST_SIDE[count - 1][:, None], (len(count), slots))
    return np.full(side.shape, -1), side * FRAME / 2


def sample_attributes(
    rng: np.random.Generator,
    n: int,
    slots: int,
    group: np.ndarray,
    similar: float,
    swappable: bool,
    bound: bool = False,
    coloured: float = COLOURED,
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (-1 for a thing's own) and nouns without repetition but in the group, as two index arrays (n, slots); see
    ``sample_layout``. bound: objects 0 and 1 have colours, two different ones. coloured: share of the other scenes in which
    all that can take a colour have one."""
    words = table()
    allowed = words.tinted.to_numpy() if bound else np.ones(len(words), bool)
    key = np.where(allowed, rng.random((n, len(words))), 1.0)
    counted = (words.plural != "").to_numpy()
    first = np.where((group > 1)[:, None] & ~counted, 2.0, key).argmin(1)
    np.put_along_axis(key, first[:, None], 2.0, axis=1)
    two = np.stack([first, key.argmin(1)], 1)
    category = categories()
    key = rng.random((n, len(words)))
    key = np.where((category == category[two][:, :, None]).any(1), key * max(1 - similar, LEAST), key)
    np.put_along_axis(key, two, np.array([-2.0, -1.0]), axis=1)
    noun = combinations(key, slots, group)
    colours = rng.permuted(np.tile(np.arange(len(COLOURS)), (n, 1)), axis=1)[:, np.arange(slots) % len(COLOURS)]
    colours = np.where(np.arange(slots) < group[:, None], colours[:, :1], colours)
    shown = bound | (rng.random((n, 1)) < coloured)
    return np.where(shown & words.tinted.to_numpy()[noun], colours, -1), noun


@cache
def _atlas(style: int) -> Image.Image:
    return Image.open(data_folder() / "things" / f"{STYLES[style]}.png").convert("RGBA")


@cache
def _sprite(noun: int, style: int, colour: int, size: int) -> Image.Image:
    """One drawing of so many pixels, its colours multiplied by its opacity, so that it can be resampled."""
    if size < SPRITE:
        return _sprite(noun, style, colour, 2 * size).resize((size, size), Image.Resampling.BOX)
    left, top = noun % COLUMNS * SPRITE, noun // COLUMNS * SPRITE
    drawn = _atlas(style).crop((left, top, left + SPRITE, top + SPRITE))
    return (drawn if colour < 0 else _tinted(drawn, RGB[COLOURS[colour]])).convert("RGBa")


def _tinted(drawn: Image.Image, rgb: tuple[int, int, int]) -> Image.Image:
    """The same drawing in shades of one colour, its darkest parts at 0.4 of it."""
    values = np.asarray(drawn, float)
    grey, seen = values[..., :3] @ [0.299, 0.587, 0.114], values[..., 3] > 127
    low, high = np.quantile(grey[seen], [0.1, 0.9])
    shade = 0.4 + 0.6 * np.clip((grey - low) / max(high - low, 1.0), 0, 1)
    values[..., :3] = shade[..., None] * rgb
    return Image.fromarray(values.astype(np.uint8), "RGBA")


@cache
def _photographs() -> list[Image.Image]:
    folders = {package: installed_files(package) for package in PHOTOGRAPHS}
    names = [(package, name) for package, several in PHOTOGRAPHS.items() for name in several]
    return [Image.open(folders[package] / name).convert("RGB") for package, name in names]


def _background(rng: np.random.Generator, size: int) -> tuple[np.ndarray, str]:
    """One ground (y, x, rgb) from 0 to 255, but for its noise, and its kind."""
    kind = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    base = rng.uniform(80, 215) + rng.uniform(-30, 30, 3)
    slope, coarse, strength = rng.normal(0, 45, (2, 3)), rng.random((7, 7)), rng.uniform(20, 90)
    which, part, place, fade = rng.integers(64), rng.uniform(0.4, 1.0), rng.random(2), rng.uniform(0.3, 0.7)
    ground = np.broadcast_to(base, (size, size, 3))
    if kind == "gradient":
        axis = (np.arange(size) + 0.5) / size - 0.5
        ground = ground + axis[:, None] * slope[0] + axis[:, None, None] * slope[1]
    elif kind == "textured":
        pattern = Image.fromarray((255 * coarse).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
        ground = ground + (np.asarray(pattern, float)[..., None] / 255 - 0.5) * strength
    elif kind == "photograph":
        photograph = _photographs()[which % len(_photographs())]
        side = part * min(photograph.size)
        left, top = place * (np.array(photograph.size) - side)
        box = (left, top, left + side, top + side)
        seen = photograph.resize((size, size), Image.Resampling.BILINEAR, box=box)
        ground = fade * np.asarray(seen, float) + (1 - fade) * ground
    return ground, kind


def _stamped(noun: int, style: int, colour: int, centre, radius: float, turn: float, flip: bool, size: int):
    """One object in the picture, in pixels: the rows and columns that it may reach, its colours and its opacity there."""
    level = SPRITE
    while level > 16 and level / 2 >= 1.5 * radius:
        level //= 2
    cos, sin = math.cos(turn), math.sin(turn)
    reach = radius * (abs(cos) + abs(sin)) + 1
    (left, right), (top, bottom) = (
        (max(0, math.floor(middle - reach)), min(size, math.ceil(middle + reach))) for middle in centre
    )
    step, mirror = level / (2 * radius), -1 if flip else 1
    a, b, d, e = mirror * cos * step, mirror * sin * step, -sin * step, cos * step
    across, down = left - centre[0], top - centre[1]
    affine = (a, b, level / 2 + a * across + b * down, d, e, level / 2 + d * across + e * down)
    drawn = _sprite(noun, style, colour, level).transform(
        (right - left, bottom - top), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    )
    values = np.asarray(drawn, np.float32)
    return (slice(top, bottom), slice(left, right)), values[..., :3], values[..., 3:] / 255


def render(
    layout: Layout, seeds: np.ndarray, style: np.ndarray, size: int, mark: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the scenes, a square of ``size`` pixels each; arguments and results as of ``shapes.render``."""
    n, slots = layout.x.shape
    image = np.empty((n, size, size, 3), np.float32)
    masks = np.zeros((n, slots, size, size), bool)
    kinds = []
    for row, seed in enumerate(seeds):
        rng = np.random.default_rng(int(seed))
        canvas, kind = _background(rng, size)
        canvas = canvas.astype(np.float32)
        flip = rng.random(MAX_OBJECTS) < 0.5
        turn, light = rng.uniform(-TURN, TURN, MAX_OBJECTS), rng.uniform(0.85, 1.1, MAX_OBJECTS)
        for slot in np.flatnonzero(layout.exists[row]):  # later objects lie on top
            centre = layout.x[row, slot] * size / FRAME, layout.y[row, slot] * size / FRAME
            where, colours, opacity = _stamped(
                int(layout.noun[row, slot]), int(style[row]), int(layout.colour[row, slot]), centre,
                layout.radius[row, slot] * size / FRAME, turn[slot], bool(flip[slot]), size,
            )  # fmt: skip
            canvas[where] = canvas[where] * (1 - opacity) + light[slot] * colours
            own = opacity[..., 0] > 0.5
            masks[row, :slot, *where] &= ~own
            masks[row, slot, *where] = own
        image[row] = canvas + rng.normal(0, 2.5, (size, size, 1))
        kinds.append(kind)
    put_mark(image, masks, mark)
    return np.clip(image, 0, 255).astype(np.uint8), masks, np.array(kinds)


WORLD = World(
    name="things", nouns=tuple(table().noun), plurals=tuple(table().plural), sizes=(), styles=STYLES, size=96,
    coloured=table().tinted.to_numpy(), category=categories(), extent=1.0,
    radii=radii, attributes=sample_attributes, render=render,
)  # fmt: skip
