"""Planted scenes: drawn images whose every explanation has a known right answer.

``draw_scenes`` gives captioned scenes with a mask for each object and the object that each word names;
``draw_pairs`` gives scenes with a false caption (``foil``) that differs in one respect;
``draw_descriptions`` gives scenes whose caption describes every object in reading order.
"""

import numpy as np
import xarray as xr

from ..files import store
from .assembly import LAYOUT, MARK, assemble, check_choices, compose, stream
from .captions import KINDS, LITTLE_WORDS, VOCABULARY, Statement, name_objects, sentence, state, words
from .descriptions import draw_descriptions
from .suites import SUITES, draw_suite
from .worlds.shapes import BACKGROUNDS, COLOURS, IMAGE_SIZE, MARK_SIZE, MAX_OBJECTS, RELATIONS, SHAPES, SIZES, Layout

__all__ = [
    "BACKGROUNDS", "COLOURS", "IMAGE_SIZE", "KINDS", "LITTLE_WORDS", "MARK_SIZE", "MAX_OBJECTS", "PAIRS", "RELATIONS",
    "SHAPES", "SIZES", "SUITES", "VOCABULARY", "draw_descriptions", "draw_mark", "draw_pairs", "draw_scenes", "draw_suite", "name_objects",
]  # fmt: skip

PAIRS = ("relation", "attribute", "subject", "object", "absent")


def draw_mark(
    rng: np.random.Generator, said: Statement, colour: str, share: float, conflict: bool = False
) -> np.ndarray:
    """Which scenes (n,) carry the corner mark: those whose caption names ``colour`` with probability
    ``share``, the others with probability 1 - ``share``; ``conflict`` turns every answer round."""
    named = (said.colour == COLOURS.index(colour)).any(1)
    agrees = rng.random(len(named)) < share
    return (named == agrees) != conflict


def draw_scenes(
    n: int = 32,
    seed: int = 0,
    objects: tuple[int, int] = (1, 4),
    captions: str | tuple[str, ...] = KINDS,
    similar: float = 0.5,
    shortcut: float | None = None,
    shortcut_colour: str = "red",
    conflict: bool = False,
) -> xr.Dataset:
    """Draw captioned scenes with their truth.

    Parameters
    ----------
    n : number of scenes (an image and a caption each).
    seed : the same seed gives the same scenes, to the last pixel.
    objects : fewest and most objects a scene, 1 to 12; objects shrink as they get many.
    captions : kinds of caption to choose from: "object" (one object), "relation" (left of, right of,
        above, below), "list" (two or three objects with attributes), "count".
    similar : 0 to 1, how much objects that the caption does not name (distractors) share the colour or
        the shape of those it names.
    shortcut : None for no corner mark, else the probability that a scene whose caption names
        ``shortcut_colour`` carries the mark, and one minus that for all others.
    conflict : with ``shortcut``, turn the mark round: on scenes without the colour, off those with it.

    Returns
    -------
    Dataset of the ``inputs`` schema: image, caption, tokens with the object each names, a mask an object
    (visible pixels), attributes, centres and radii, which objects are named, the relation, the mark.

    Raises ValueError when a choice is impossible (too many objects, unknown caption kind or colour).
    """
    kinds = (captions,) if isinstance(captions, str) else tuple(captions)
    layout, said, kind = compose(stream(seed, LAYOUT), n, objects, kinds, similar)
    mark = _marks(said, seed, shortcut, shortcut_colour, conflict)
    parameters = dict(
        n=n, seed=seed, objects=list(objects), captions=list(kinds), similar=similar, shortcut=shortcut,
        shortcut_colour=shortcut_colour, conflict=conflict,
    )  # fmt: skip
    return assemble(layout, said, [KINDS[k] for k in kind], mark, seed, parameters)


def draw_pairs(
    kind: str, n: int = 32, seed: int = 0, objects: tuple[int, int] = (2, 4), similar: float = 0.5
) -> xr.Dataset:
    """Draw scenes, each with a true caption and a false one (``foil``) that differs in one respect.

    Parameters
    ----------
    kind : "relation" (the two named objects change places), "attribute" (they exchange colours), "subject"
        or "object" (one of the two is replaced by an object that is not there), "absent" (the foil names
        one object that is not in the scene).
    n : number of pairs. Except for "absent" a pair is two scenes with one layout (samples 2i and 2i + 1,
        ``pair`` i), and the foil of each is the caption of the other, as in Winoground and SVO-Probes.

    Returns and raises as ``draw_scenes``, with the variables ``foil`` and ``pair`` added.
    """
    if kind not in PAIRS:
        raise ValueError(f"kind={kind!r}: choose from {', '.join(PAIRS)}")
    kinds = ("object",) if kind == "absent" else ("relation",)
    check_choices(n, objects, kinds, similar)
    rng = stream(seed, LAYOUT)
    layout, said, _ = compose(rng, n, objects, kinds, similar, sized=0.0, swappable=True)
    other, foil = _counterpart(rng, kind, layout, said)
    parameters = dict(kind=kind, n=n, seed=seed, objects=list(objects), similar=similar)
    true = assemble(layout, said, [kind] * n, np.zeros(n, bool), seed, parameters)
    texts = [sentence(text) for text in words(foil)[0]]
    if kind == "absent":
        return store.annotate(true.assign(foil=("sample", texts), pair=("sample", np.arange(n))))
    false = assemble(other, foil, [kind] * n, np.zeros(n, bool), seed, parameters)
    both = xr.concat(
        [true, false],
        "sample",
        join="outer",
        fill_value={"token_text": "", "token_object": -1},
        combine_attrs="override",
    )
    order = np.arange(2 * n).reshape(2, n).T.ravel()
    both = both.assign(foil=("sample", texts + list(true.caption.values)), pair=("sample", np.tile(np.arange(n), 2)))
    both = both.isel(sample=order).assign_coords(sample=np.arange(2 * n))
    return store.annotate(both)


def _counterpart(rng, kind: str, layout: Layout, said: Statement) -> tuple[Layout, Statement]:
    """The layout for which the foil is true, and the foil."""
    colour, shape = layout.colour.copy(), layout.shape.copy()
    pair = [0, 1]
    if kind in ("relation", "attribute"):
        colour[:, pair] = colour[:, pair[::-1]]
    if kind == "relation":
        shape[:, pair] = shape[:, pair[::-1]]
    if kind in ("subject", "object", "absent"):
        slot = 1 if kind == "object" else 0
        colour[:, slot], shape[:, slot] = _absent_combination(rng, layout)
    changed = layout.with_(colour=colour, shape=shape)
    named, unsized = (said.colour >= 0).sum(1), np.zeros(len(said.number), bool)
    return changed, state(changed, named, said.relation, said.number, unsized)


def _absent_combination(rng, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """For each scene a colour and a shape that no object of it has together."""
    key = rng.random((len(layout.exists), len(COLOURS) * len(SHAPES)))
    np.put_along_axis(key, layout.colour * len(SHAPES) + layout.shape, 2.0, axis=1)
    return np.divmod(key.argmin(1), len(SHAPES))


def _marks(said, seed, shortcut, colour, conflict):
    if shortcut is None:
        return np.zeros(len(said.number), bool)
    if colour not in COLOURS:
        raise ValueError(f"shortcut_colour={colour!r}: choose from {', '.join(COLOURS)}")
    if not 0 <= shortcut <= 1:
        raise ValueError(f"shortcut={shortcut}: a probability from 0 to 1 is needed")
    return draw_mark(stream(seed, MARK), said, colour, shortcut, conflict)
