"""From random numbers to scenes: layouts and true statements about them, then pictures, masks and words as a dataset.

Scenes with a clear reading order can be described as a whole: two objects along the axis that separates them more, three and
more from left to right.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..files.checks import check_names, check_number, check_whole
from ..files.store import annotate
from .captions import KINDS, NUMBERS, Statement, captions_need, sentence, state, words
from .source import as_inputs
from .worlds.shapes import (
    BACKGROUNDS,
    COLOURS,
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
READING_MARGIN = 6.0  # pixels by which one axis must separate two objects more than the other, and neighbours of a list
DRAWN_AT_ONCE = 4  # layouts drawn for each one that is wanted: most have no clear reading order
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


def describable(
    rng: np.random.Generator, n: int, objects: tuple[int, int], similar: float, share: np.ndarray | None = None
) -> tuple[Layout, np.ndarray]:
    """Draw n layouts with a clear reading order, their objects in that order, and the relation (n,) that the first two
    would be described by, an index into ``RELATIONS``. share: how often each number of objects is drawn."""
    count = rng.choice(np.arange(objects[0], objects[1] + 1), n, p=share)
    together: dict[str, np.ndarray] = {}
    missing = np.arange(n)
    while len(missing):
        tried = np.repeat(missing, DRAWN_AT_ONCE)
        none = np.full(len(tried), -1)
        drawn = sample_layout(rng, count[tried], none, np.ones(len(tried), int), similar)
        drawn = _widened(_in_reading_order(drawn), objects[1])
        clear = np.flatnonzero(_reads_clearly(drawn))
        scene, first = np.unique(tried[clear], return_index=True)
        for name, values in vars(drawn).items():
            together.setdefault(name, np.empty((n, objects[1]), values.dtype))[scene] = values[clear[first]]
        missing = np.setdiff1d(missing, scene)
    layout = Layout(**together)
    return layout, _relation(layout)


def _gaps(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """How far the second object lies from the first, across and down."""
    if layout.x.shape[1] < 2:
        return np.zeros(len(layout.x)), np.zeros(len(layout.x))
    return layout.x[:, 1] - layout.x[:, 0], layout.y[:, 1] - layout.y[:, 0]


def _relation(layout: Layout) -> np.ndarray:
    across, down = _gaps(layout)
    return np.where(np.abs(across) > np.abs(down), RELATIONS.index("left of"), RELATIONS.index("above"))


def _in_reading_order(layout: Layout) -> Layout:
    """The same scenes with their objects numbered from left to right, or from top to bottom where two are so related."""
    two = layout.exists.sum(1) == 2
    downwards = two & (_relation(layout) == RELATIONS.index("above"))
    key = np.where(downwards[:, None], layout.y, layout.x)
    order = np.argsort(np.where(layout.exists, key, np.inf), axis=1, kind="stable")
    return Layout(**{name: np.take_along_axis(value, order, 1) for name, value in vars(layout).items()})


def _reads_clearly(layout: Layout) -> np.ndarray:
    """Whether the reading order of each scene (in order already) is beyond doubt."""
    across, down = map(np.abs, _gaps(layout))
    count = layout.exists.sum(1)
    neighbours = layout.exists[:, 1:]
    apart = (np.where(neighbours, np.diff(layout.x, axis=1), np.inf) >= READING_MARGIN).all(1)
    return np.select([count == 1, count == 2], [True, np.abs(across - down) >= READING_MARGIN], apart)


def _widened(layout: Layout, slots: int) -> Layout:
    """The same with so many slots, the added ones empty: layouts that were drawn together may have fewer."""
    missing = slots - layout.exists.shape[1]
    fill = {"x": -1e3, "y": -1e3}
    return Layout(
        **{k: np.pad(v, ((0, 0), (0, missing)), constant_values=fill.get(k, 0)) for k, v in vars(layout).items()}
    )


def assemble(
    layout: Layout,
    said: Statement,
    kinds: list[str],
    mark: np.ndarray,
    seed: int,
    parameters: dict,
    verb: Sequence[str] = (),
) -> xr.Dataset:
    """Draw the scenes of these statements and gather them with their truth, as a dataset of the ``inputs`` schema."""
    texts, owners = words(said, verb)
    n, length = len(kinds), max(map(len, texts))
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
    first_named = (said.object[:, :, None] == slots).any(1)  # of several alike
    named = there & np.take_along_axis(first_named, group, axis=1)
    values = {
        "image": image,
        "caption": [sentence(text) for text in texts],
        "token_text": [text + [""] * (length - len(text)) for text in texts],
        "token_object": [who + [-1] * (length - len(who)) for who in owners],
        "object_mask": mask,
        "object_name": np.where(there, name[code], ""),
        "object_group": np.where(there, group, -1),
        "object_named": named,
        "object_x": np.where(there, layout.x, np.nan),
        "object_y": np.where(there, layout.y, np.nan),
        "object_radius": np.where(there, layout.radius, np.nan),
        "relation": [RELATIONS[r] if r >= 0 else "" for r in said.relation],
        "caption_kind": kinds,
        "background": [BACKGROUNDS[b] for b in background],
        "mark": mark,
    }
    data = as_inputs(values, sample=np.arange(n), object=slots)
    return annotate(data, seed=seed, parameters=parameters)
