"""Scenes with a whole description: every object with its size, in a fixed reading order, as a language model tells it.

Two objects are told along the axis that separates them more: "a small red circle is left of a large blue square", or
"above". Three and more are listed from left to right. A question about one of two objects has the other as its answer.
"""

import numpy as np
import xarray as xr

from .assembly import LAYOUT, SIZED_UP_TO, check_scenes, gather, stream
from .captions import article, sentence
from .worlds.shapes import COLOURS, SHAPES, SIZES, Layout, sample_layout

MOST_DESCRIBED = SIZED_UP_TO  # objects: their sizes are told
READING_MARGIN = 6.0  # pixels by which one axis must separate two objects more than the other, and neighbours of a list
RELATIONS_TOLD = ("left of", "above")
CONVERSE = {"left of": "right of", "above": "below"}
DRAWN_AT_ONCE = 4  # layouts drawn for each one that is wanted: most have no clear reading order


def draw_descriptions(
    n: int = 32, seed: int = 0, objects: tuple[int, int] = (2, 2), similar: float = 0.5
) -> xr.Dataset:
    """Draw scenes whose caption describes all objects in reading order; objects are numbered in that order.

    n, seed: as in ``draw_scenes``. objects: fewest and most a scene, 1 to 4. similar: 0 to 1, how much a third and
    a fourth object share the colour or the shape of one of the first two, which differ in both.

    Returns a dataset of the ``inputs`` schema, its words' objects included. Raises ValueError for an impossible choice.

    Examples
    --------
    >>> xk.draw_descriptions(2).caption.values.tolist()
    ['a small blue diamond is left of a large orange cross', 'a large cyan diamond is left of a large orange ring']
    """
    check_scenes(n, objects, ("object",), similar)
    if objects[1] > MOST_DESCRIBED:
        raise ValueError(f"objects={objects}: at most {MOST_DESCRIBED} are described, sizes are told apart up to there")
    layout, relation = describable(stream(seed, LAYOUT), n, objects, similar)
    texts, owners = description(layout, relation)
    parameters = dict(n=n, seed=seed, objects=list(objects), similar=similar)
    named = layout.exists
    told = np.where(layout.exists.sum(1) == 2, relation, -1)
    stated = [RELATIONS_TOLD[r] if r >= 0 else "" for r in told]
    return gather(layout, texts, owners, named, stated, ["description"] * n, np.zeros(n, bool), seed, parameters)


def describable(
    rng: np.random.Generator, n: int, objects: tuple[int, int], similar: float, share: np.ndarray | None = None
) -> tuple[Layout, np.ndarray]:
    """Draw n layouts with a clear reading order, their objects in that order, and the relation (n,) that the first two
    would be told by, an index into ``RELATIONS_TOLD``. share: how often each number of objects is drawn."""
    numbers = np.arange(objects[0], objects[1] + 1)
    count = rng.choice(numbers, n, p=share)
    kept: list[Layout] = []
    missing = np.arange(n)
    order = np.empty(n, int)
    found = 0
    while len(missing):
        tried = np.repeat(missing, DRAWN_AT_ONCE)
        none = np.full(len(tried), -1)
        layout = sample_layout(rng, count[tried], none, np.ones(len(tried), int), similar)
        layout = _widened(_in_reading_order(layout), objects[1])
        clear = np.flatnonzero(_reads_clearly(layout))
        scene, first = np.unique(tried[clear], return_index=True)
        kept.append(layout.rows(clear[first]))
        order[scene] = found + np.arange(len(scene))
        found += len(scene)
        missing = np.setdiff1d(missing, scene)
    together = {name: np.concatenate([getattr(part, name) for part in kept])[order] for name in vars(kept[0])}
    layout = Layout(**together)
    return layout, _relation(layout)


def description(layout: Layout, relation: np.ndarray) -> tuple[list[list[str]], list[list[int]]]:
    """The words of each scene's description, and for each word the object that it names (-1 for none)."""
    texts, owners = [], []
    for row, told in enumerate(relation):
        count = int(layout.exists[row].sum())
        text, names = [], []
        for index in range(count):
            if index:
                join = ["is", *RELATIONS_TOLD[told].split()] if count == 2 else ["and" if index == count - 1 else ","]
                text += join
                names += [-1] * len(join)
            phrase = attributes(layout, row, index)
            text += [article(phrase[0]), *phrase]
            names += [-1] + [index] * len(phrase)
        texts.append(text)
        owners.append(names)
    return texts, owners


def question(layout: Layout, relation: np.ndarray, about: np.ndarray) -> tuple[list[str], list[str]]:
    """For scenes of two objects a question that names one of them (about (n,), 0 or 1), and the other one as the answer:
    "what is left of the large blue square", "a small red circle"."""
    questions, answers = [], []
    for row, (told, index) in enumerate(zip(relation, about, strict=True)):
        known, asked = (" ".join(attributes(layout, row, i)) for i in (index, 1 - index))
        relation_word = RELATIONS_TOLD[told] if index == 1 else CONVERSE[RELATIONS_TOLD[told]]
        questions.append(f"what is {relation_word} the {known}")
        answers.append(f"{article(asked)} {asked}")
    return questions, answers


def attributes(layout: Layout, row: int, index: int) -> list[str]:
    """Size, colour and shape of one object, as words."""
    return [SIZES[layout.size[row, index]], COLOURS[layout.colour[row, index]], SHAPES[layout.shape[row, index]]]


def descriptions(layout: Layout, relation: np.ndarray) -> list[str]:
    """The descriptions as sentences."""
    return [sentence(text) for text in description(layout, relation)[0]]


def _gaps(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """How far the second object lies from the first, across and down."""
    if layout.x.shape[1] < 2:
        return np.zeros(len(layout.x)), np.zeros(len(layout.x))
    return layout.x[:, 1] - layout.x[:, 0], layout.y[:, 1] - layout.y[:, 0]


def _relation(layout: Layout) -> np.ndarray:
    across, down = _gaps(layout)
    return np.where(np.abs(across) > np.abs(down), 0, 1)


def _in_reading_order(layout: Layout) -> Layout:
    """The same scenes with their objects numbered from left to right, or from top to bottom where two are so related."""
    two = layout.exists.sum(1) == 2
    downwards = two & (_relation(layout) == 1)
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
    fill = {"exists": False, "x": -1e3, "y": -1e3}
    return Layout(
        **{k: np.pad(v, ((0, 0), (0, missing)), constant_values=fill.get(k, 0)) for k, v in vars(layout).items()}
    )
