"""From random numbers to scenes: layouts and true statements about them, then pictures, masks and words as a dataset."""

import numpy as np
import xarray as xr

from ..files.checks import check_names, check_number, check_whole
from ..files.store import annotate
from .captions import KINDS, NUMBERS, Statement, captions_need, sentence, state, words
from .worlds.shapes import (
    BACKGROUNDS,
    COLOURS,
    IMAGE_SIZE,
    MAX_OBJECTS,
    MIDLINE_MARGIN,
    RELATIONS,
    SHAPES,
    SIZES,
    Layout,
    render,
    sample_layout,
)

SIZED_UP_TO = 4  # objects; in fuller scenes "large" objects are smaller than "small" ones elsewhere
RENDER_BATCH = 128  # scenes drawn at once: bounds the memory
# Each concern has its own random stream, so that adding a mark, say, changes nothing else in a scene.
LAYOUT, PIXELS, MARK = range(3)


def check_scenes(n: int, objects: tuple[int, int], kinds: tuple[str, ...], similar: float) -> None:
    """Refuse impossible requests in one sentence each."""
    check_whole(1, n=n)
    try:
        low, high = objects
    except TypeError:
        raise ValueError(f"objects={objects!r}: give (fewest, most), such as (2, 4)") from None
    if not 1 <= low <= high <= MAX_OBJECTS:
        raise ValueError(f"objects={objects}: give (fewest, most) with 1 <= fewest <= most <= {MAX_OBJECTS}")
    check_names(KINDS, captions=kinds)
    impossible = [kind for kind in kinds if captions_need(kind) > low]
    if len(impossible) == len(kinds):
        raise ValueError(f"objects={objects}: a caption of kind {impossible[0]!r} needs at least 2 objects a scene")
    check_number(0, 1, "share", similar=similar)


def compose(
    rng: np.random.Generator,
    n: int,
    objects: tuple[int, int] = (1, 4),
    kinds: tuple[str, ...] = KINDS,
    similar: float = 0.5,
    sized: float = 0.5,
    swappable: bool = False,
    relation_weight: float = 1.0,
    margin: float = MIDLINE_MARGIN,
) -> tuple[Layout, Statement, np.ndarray]:
    """Draw n layouts, a true statement about each, and the statement's kind (n,) as an index into KINDS.

    sized: probability that a caption uses size words, in scenes where these are unambiguous.
    swappable: see ``sample_layout``. relation_weight: how often relations are stated, against each other kind.
    margin: pixels that related objects stay off the midline between them.
    """
    check_scenes(n, objects, kinds, similar)
    count = rng.integers(objects[0], objects[1] + 1, n)
    feasible = np.array(
        [[k in kinds and count_ >= captions_need(k) for k in KINDS] for count_ in range(MAX_OBJECTS + 1)]
    )
    weight = np.where(np.array(KINDS) == "relation", relation_weight, 1.0)
    kind = np.where(feasible[count], rng.random((n, len(KINDS))) ** (1 / weight), -1).argmax(1)
    relation = np.where(kind == KINDS.index("relation"), rng.integers(0, len(RELATIONS), n), -1)
    most = np.minimum(count, len(NUMBERS) + 1)
    number = np.where(kind == KINDS.index("count"), rng.integers(2, np.maximum(most, 2) + 1), 1)
    layout = sample_layout(rng, count, relation, group=number, similar=similar, swappable=swappable, margin=margin)
    listed = np.where(count >= 3, rng.integers(2, 4, n), 2)
    named = np.select([kind == KINDS.index("relation"), kind == KINDS.index("list")], [2, listed], 1)
    says_size = (rng.random(n) < sized) & (count <= SIZED_UP_TO) & (number == 1)
    return layout, state(layout, named, relation, number, says_size), kind


def stream(seed: int, concern: int) -> np.random.Generator:
    """The random numbers of one concern (LAYOUT, PIXELS or MARK). Raises ValueError for a negative seed, or no number."""
    check_whole(0, seed=seed)
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
    return annotate(data, seed=seed, parameters=parameters)
