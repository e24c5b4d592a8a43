"""From arrays to the dataset: pixels, words, and the truth about both."""

import numpy as np
import xarray as xr

from .. import store
from .captions import Statement, sentence, words
from .layout import COLOURS, IMAGE_SIZE, RELATIONS, SHAPES, SIZES, Layout
from .raster import BACKGROUNDS, render

RENDER_BATCH = 128  # scenes drawn at once: bounds the memory
# Each concern has its own random stream, so that adding a mark, say, changes nothing else in a scene.
LAYOUT, PIXELS, MARK = range(3)


def stream(seed: int, concern: int) -> np.random.Generator:
    """The random numbers of one concern (LAYOUT, PIXELS or MARK). Raises ValueError for a negative seed, or no number."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed={seed!r}: a whole number of at least 0 is needed")
    return np.random.default_rng((seed, concern))


def assemble(
    layout: Layout, said: Statement, kinds: list[str], mark: np.ndarray, seed: int, parameters: dict
) -> xr.Dataset:
    """Draw the scenes of these statements and gather them with their truth, as a dataset of the ``inputs`` schema."""
    texts, owners = words(said)
    named = (said.object[:, :, None] == np.arange(layout.exists.shape[1])).any(1)
    relations = [RELATIONS[r] if r >= 0 else "" for r in said.relation]
    return gather(layout, texts, owners, named, relations, kinds, mark, seed, parameters)


def gather(
    layout: Layout,
    texts: list[list[str]],
    owners: list[list[int]],
    first_named: np.ndarray,
    relations: list[str],
    kinds: list[str],
    mark: np.ndarray,
    seed: int,
    parameters: dict,
) -> xr.Dataset:
    """Draw the scenes and gather them with their captions' words, the object that each word names, and whether a caption
    names an object (n, objects), the first of several alike."""
    n = len(kinds)
    length = max(map(len, texts))
    rng = stream(seed, PIXELS)
    parts = [slice(i, i + RENDER_BATCH) for i in range(0, n, RENDER_BATCH)]
    drawn = [render(layout.rows(p), rng, mark[p]) for p in parts]
    image, mask, background = (np.concatenate(column) for column in zip(*drawn, strict=True))
    there = layout.exists
    combination = np.where(there, layout.colour * len(SHAPES) + layout.shape, -1 - np.arange(there.shape[1]))
    group = (combination[:, :, None] == combination[:, None, :]).argmax(2)
    name = np.array([f"{size} {colour} {shape}" for size in SIZES for colour in COLOURS for shape in SHAPES])
    code = (layout.size * len(COLOURS) + layout.colour) * len(SHAPES) + layout.shape
    slots = np.arange(there.shape[1])
    named = there & np.take_along_axis(first_named, group, axis=1)
    at = ("sample", "object")
    data = xr.Dataset(
        {
            "image": (("sample", "y", "x", "rgb"), image),
            "caption": ("sample", [sentence(text) for text in texts]),
            "token_text": (("sample", "token"), [text + [""] * (length - len(text)) for text in texts]),
            "token_object": (("sample", "token"), [who + [-1] * (length - len(who)) for who in owners]),
            "object_mask": ((*at, "y", "x"), mask),
            "object_name": (at, np.where(there, name[code], "")),
            "object_group": (at, np.where(there, group, -1)),
            "object_named": (at, named),
            "object_x": (at, np.where(there, layout.x, np.nan)),
            "object_y": (at, np.where(there, layout.y, np.nan)),
            "object_radius": (at, np.where(there, layout.radius, np.nan)),
            "relation": ("sample", list(relations)),
            "caption_kind": ("sample", list(kinds)),
            "background": ("sample", [BACKGROUNDS[b] for b in background]),
            "mark": ("sample", mark),
        },
        coords={
            "sample": np.arange(n), "object": slots, "token": np.arange(length),
            "y": np.arange(IMAGE_SIZE), "x": np.arange(IMAGE_SIZE), "rgb": ["red", "green", "blue"],
        },
    )  # fmt: skip
    return store.annotate(data, seed=seed, parameters=parameters)
