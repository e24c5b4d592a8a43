"""Planted scenes: drawn images whose every explanation has a known right answer.

``draw_scenes`` gives captioned scenes with a mask for each object and the object that each word names;
``draw_pairs`` gives scenes with a false caption (``foil``) that differs in one respect;
``draw_descriptions`` gives scenes with a whole description, as a language model would give it;
``draw_suite`` gives scenes that each ask one question of an explanation, hard enough to tell methods apart.
"""

from dataclasses import replace

import numpy as np
import xarray as xr

from ..files.checks import check_choices, check_number
from ..files.store import annotate
from .assembly import LAYOUT, MARK, SIZED_UP_TO, assemble, check_scenes, compose, describable, stream
from .captions import IS, KINDS, Statement, describe, sentence, state, words
from .source import joined
from .worlds.shapes import COLOURS, SHAPES, SIZES, SMALL_FACTOR, Layout

PAIRS = ("relation", "attribute", "subject", "object", "absent")
MOST_DESCRIBED = SIZED_UP_TO  # objects: their sizes are told
SUITES = {
    "single": "one small object on its own",
    "relation": "two related objects among objects that share their colours or shapes",
    "attribute": "two objects, and two more with the same colours and shapes exchanged",
    "clutter": "one or two named objects among 3 to 12",
    "shortcut": "a red object, and the corner mark that stands for red in the shortcut model",
    "absent": "an object that is there, and a foil that names one that is not",
    "word": "a single colour or shape as the prompt; everything that has it is named",
}


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

    Examples
    --------
    >>> scenes = xk.draw_scenes(4, objects=(2, 3))
    >>> print(scenes.caption.values[0])
    two orange triangles
    >>> scenes.object_mask.dims
    ('sample', 'object', 'y', 'x')
    """
    kinds = (captions,) if isinstance(captions, str) else tuple(captions)
    layout, said, kind = compose(stream(seed, LAYOUT), n, objects, kinds, similar)
    mark = np.zeros(n, bool)
    if shortcut is not None:
        check_choices(shortcut_colour=(shortcut_colour, COLOURS))
        check_number(0, 1, "probability", shortcut=shortcut)
        mark = draw_mark(stream(seed, MARK), said, shortcut_colour, shortcut, conflict)
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

    Examples
    --------
    >>> one = xk.draw_pairs("relation", 4).isel(sample=0)
    >>> one.caption.item(), one.foil.item()
    ('an orange triangle left of a pink circle', 'a pink circle left of an orange triangle')
    """
    check_choices(kind=(kind, PAIRS))
    kinds = ("object",) if kind == "absent" else ("relation",)
    rng = stream(seed, LAYOUT)
    layout, said, _ = compose(rng, n, objects, kinds, similar, sized=0.0, swappable=True)
    other, foil = _counterpart(rng, kind, layout, said)
    parameters = dict(kind=kind, n=n, seed=seed, objects=list(objects), similar=similar)
    true = assemble(layout, said, [kind] * n, np.zeros(n, bool), seed, parameters)
    texts = [sentence(text) for text in words(foil)[0]]
    if kind == "absent":
        return annotate(true.assign(foil=("sample", texts), pair=("sample", np.arange(n))))
    false = assemble(other, foil, [kind] * n, np.zeros(n, bool), seed, parameters)
    both = joined([true, false])
    order = np.arange(2 * n).reshape(2, n).T.ravel()
    both = both.assign(foil=("sample", texts + list(true.caption.values)), pair=("sample", np.tile(np.arange(n), 2)))
    both = both.isel(sample=order).assign_coords(sample=np.arange(2 * n))
    return annotate(both)


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
        key = rng.random((len(colour), len(COLOURS) * len(SHAPES)))
        np.put_along_axis(key, layout.colour * len(SHAPES) + layout.shape, 2.0, axis=1)  # what is there comes last
        colour[:, slot], shape[:, slot] = np.divmod(key.argmin(1), len(SHAPES))
    changed = replace(layout, colour=colour, shape=shape)
    return changed, state(changed, (said.colour >= 0).sum(1), said.relation, said.number)


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
    parameters = dict(n=n, seed=seed, objects=list(objects), similar=similar)
    said = describe(layout, relation)
    return assemble(layout, said, ["description"] * n, np.zeros(n, bool), seed, parameters, IS)


def draw_suite(name: str, n: int = 32, seed: int = 0, mark: bool = True) -> xr.Dataset:
    """Draw n scenes of one suite.

    name: one of ``SUITES``. The scenes of "absent" carry a ``foil`` that names an object that is not there. mark:
    whether the scenes of "shortcut" show the corner mark; without it they are the same to the last pixel elsewhere.

    Returns a dataset of the ``inputs`` schema, as ``draw_scenes``. Raises ValueError for an unknown suite, or n < 1.

    Examples
    --------
    >>> xk.draw_suite("word", 2).caption.values.tolist()
    ['purple', 'cross']
    """
    check_choices(name=(name, tuple(SUITES)))
    if name == "absent":
        return draw_pairs("absent", n, seed, objects=(2, 4), similar=1.0)
    layout, said, _ = compose(stream(seed, LAYOUT), n, **_COMPOSED[name])
    if name in _CHANGED:
        layout, said = _CHANGED[name](layout, said)
    marked = np.full(n, name == "shortcut" and mark)
    scenes = assemble(layout, said, [name] * n, marked, seed, {"suite": name, "n": n, "seed": seed, "mark": mark})
    return _one_word(scenes, layout, seed) if name == "word" else scenes


def _small(layout: Layout, said: Statement) -> tuple[Layout, Statement]:
    small = SIZES.index("small")
    radius = np.where(layout.size == small, layout.radius, SMALL_FACTOR * layout.radius)
    return replace(layout, size=np.full_like(layout.size, small), radius=radius), said


def _exchanged(layout: Layout, said: Statement) -> tuple[Layout, Statement]:
    """The last two objects have the first two's colours and shapes the other way round."""
    colour, shape = layout.colour.copy(), layout.shape.copy()
    colour[:, 2:], shape[:, 2:] = colour[:, [1, 0]], shape[:, [0, 1]]
    layout = replace(layout, colour=colour, shape=shape)
    return layout, state(layout, named=2)


def _first_red(layout: Layout, said: Statement) -> tuple[Layout, Statement]:
    """Red and the first object's colour are exchanged throughout each scene, so that the first is the red one."""
    red, own = COLOURS.index("red"), layout.colour[:, :1]
    colour = np.select([layout.colour == own, layout.colour == red], [red, own], layout.colour)
    return replace(layout, colour=colour), replace(said, colour=np.where(said.colour >= 0, red, -1))


_COMPOSED = {
    "single": dict(objects=(1, 1), kinds=("object",), sized=0.0),
    "relation": dict(objects=(3, 4), kinds=("relation",), similar=1.0, sized=0.0),
    "attribute": dict(objects=(4, 4), kinds=("list",)),
    "clutter": dict(objects=(3, 12), kinds=("object", "relation"), sized=0.0),
    "shortcut": dict(objects=(1, 3), kinds=("object",), sized=0.0),
    "word": dict(objects=(3, 6), kinds=("object",), similar=1.0, sized=0.0),
}
_CHANGED = {"single": _small, "attribute": _exchanged, "shortcut": _first_red}


def _one_word(scenes: xr.Dataset, layout: Layout, seed: int) -> xr.Dataset:
    """Ask for the colour (even samples) or the shape (odd ones) of the first object alone."""
    by_colour = np.arange(len(layout.exists)) % 2 == 0
    asked = np.where(by_colour[:, None], layout.colour, layout.shape)
    named = layout.exists & (asked == asked[:, :1])
    word = np.where(by_colour, np.array(COLOURS)[layout.colour[:, 0]], np.array(SHAPES)[layout.shape[:, 0]])
    scenes = scenes.isel(token=slice(1)).assign(
        caption=("sample", word),
        token_text=(("sample", "token"), word[:, None]),
        token_object=(("sample", "token"), np.zeros((len(word), 1), int)),
        object_named=(("sample", "object"), named),
    )
    return annotate(scenes, seed=seed)
