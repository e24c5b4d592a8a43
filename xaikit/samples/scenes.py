"""Planted scenes: drawn images whose truth is known.

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
from .assembly import LAYOUT, MARK, SIZED_UP_TO, Drawing, assemble, check_scenes, compose, describable, stream
from .captions import IS, KINDS, Statement, describe, sentence, state, words
from .source import joined
from .worlds.layout import COLOURS, Layout
from .worlds.shapes import SMALL_FACTOR

PAIRS = ("relation", "attribute", "subject", "object", "absent", "count")
FEWEST_COUNTED = 3  # objects, in the fuller scene of a pair that differs in how many there are
MOST_DESCRIBED = SIZED_UP_TO  # objects: their sizes are told
SUITES = {
    "single": "one small object on its own",
    "relation": "two related objects among objects that are like them",
    "attribute": "two objects, and two more with their colours exchanged",
    "clutter": "one or two named objects among 3 to 12",
    "shortcut": "a red object, and the corner mark that stands for red in the shortcut model",
    "absent": "an object that is there, and a foil that names one that is not",
    "word": "a single word as the prompt, a noun or a colour; everything that it is true of is named",
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
    **drawing,
) -> xr.Dataset:
    """Draw captioned scenes with their truth.

    Parameters
    ----------
    n : number of scenes (an image and a caption each).
    seed : the same seed gives the same scenes, to the last pixel.
    objects : fewest and most objects a scene, 1 to 12; objects shrink as they get many.
    captions : kinds of caption to choose from: "object" (one object), "relation" (left of, right of,
        above, below), "list" (two or three objects with attributes), "count".
    similar : 0 to 1, how much objects that the caption does not name (distractors) share something with those it names:
        of shapes the colour or the shape, of things the category, such as animals.
    shortcut : None for no corner mark, else the probability that a scene whose caption names
        ``shortcut_colour`` carries the mark, and one minus that for all others.
    conflict : with ``shortcut``, turn the mark round: on scenes without the colour, off those with it.
    drawing : how all is drawn, the same of every function that draws scenes:
        - world : "shapes" (coloured shapes, sizes told) or "things" (143 everyday nouns, some of them tinted).
        - size : pixels a side, 32 to 512, None for the world's own (64 of shapes, 96 of things). A scene is the same at
          any size, and is drawn at it: give that of the model, ``clip.image_size[0]``.
        - styles : the ways of drawing to choose from, None for all: of things "twemoji", "fluent", "flat", and "noto",
          which the bundled models have never seen.
        - smallest : the least larger side of an object in pixels, such as two patches of the model, ``2 * 32``; sizes
          ("small") aren't told then.
        - template : a text around the caption, such as "a photo of {}".

    Returns
    -------
    Dataset of the ``inputs`` schema: image, caption, tokens with the object each names, a mask an object
    (visible pixels), attributes, centres and radii, which objects are named, the relation, the mark.

    Raises ValueError when a choice is impossible (too many objects or too large ones, unknown world, style, caption kind or
    colour).

    Examples
    --------
    >>> scenes = xk.draw_scenes(4, objects=(2, 3))
    >>> print(scenes.caption.values[0])
    two orange triangles
    >>> scenes.object_mask.dims
    ('sample', 'object', 'y', 'x')
    """
    how = Drawing.of(drawing)
    kinds = (captions,) if isinstance(captions, str) else tuple(captions)
    layout, said, kind = compose(how, stream(seed, LAYOUT), n, objects, kinds, similar)
    mark = np.zeros(n, bool)
    if shortcut is not None:
        check_choices(shortcut_colour=(shortcut_colour, COLOURS))
        check_number(0, 1, "probability", shortcut=shortcut)
        mark = draw_mark(stream(seed, MARK), said, shortcut_colour, shortcut, conflict)
    parameters = dict(
        n=n, seed=seed, objects=list(objects), captions=list(kinds), similar=similar, shortcut=shortcut,
        shortcut_colour=shortcut_colour, conflict=conflict,
    )  # fmt: skip
    return assemble(how, layout, said, [KINDS[k] for k in kind], mark, seed, parameters)


def draw_pairs(
    kind: str, n: int = 32, seed: int = 0, objects: tuple[int, int] | None = None, similar: float = 0.5, **drawing
) -> xr.Dataset:
    """Draw scenes, each with a true caption and a false one (``foil``) that differs in one respect.

    Parameters
    ----------
    kind : "relation" (the two named objects change places), "attribute" (they exchange colours), "subject"
        or "object" (one of the two is replaced by an object that is not there), "absent" (the foil names
        one object that is not in the scene), "count" (there is one more of the same, or one fewer).
    objects : fewest and most a scene, None for (2, 4), of counts (3, 4).
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
    how = Drawing.of(drawing)
    kinds = {"absent": ("object",), "count": ("count",)}.get(kind, ("relation",))
    rng = stream(seed, LAYOUT)
    objects = objects or ((3, 4) if kind == "count" else (2, 4))
    options = {"attribute": {"bound": True}, "count": {"fewest": FEWEST_COUNTED}}.get(kind, {})
    check_scenes(n, objects, kinds, similar)
    if kind == "count" and objects[0] < FEWEST_COUNTED:
        least = f"a pair of kind 'count' needs at least {FEWEST_COUNTED} objects"
        raise ValueError(f"objects={objects}: {least}, of two one fewer is one, and 'a dog' holds of two dogs, too")
    layout, said, _ = compose(how, rng, n, objects, kinds, similar, sized=0.0, swappable=True, **options)
    layout, said, other, foil = _counterpart(rng, kind, how, layout, said)
    parameters = dict(kind=kind, n=n, seed=seed, objects=list(objects), similar=similar)
    true = assemble(how, layout, said, [kind] * n, np.zeros(n, bool), seed, parameters)
    texts = [sentence(text) for text in words(foil, how.made, template=how.template)[0]]
    if kind == "absent":
        return annotate(true.assign(foil=("sample", texts), pair=("sample", np.arange(n))))
    false = assemble(how, other, foil, [kind] * n, np.zeros(n, bool), seed, parameters)
    both = joined([true, false])
    order = np.arange(2 * n).reshape(2, n).T.ravel()
    both = both.assign(foil=("sample", texts + list(true.caption.values)), pair=("sample", np.tile(np.arange(n), 2)))
    both = both.isel(sample=order).assign_coords(sample=np.arange(2 * n))
    return annotate(both)


def _counterpart(rng, kind: str, how: Drawing, layout: Layout, said: Statement):
    """Layouts and true statements of both halves of a pair: what is said of one is false of the other."""
    if kind == "count":
        return _fewer(rng, layout, said)
    colour, noun = layout.colour.copy(), layout.noun.copy()
    pair = [0, 1]
    if kind in ("relation", "attribute"):
        colour[:, pair] = colour[:, pair[::-1]]
    if kind == "relation":
        noun[:, pair] = noun[:, pair[::-1]]
    if kind in ("subject", "object", "absent"):
        slot = 1 if kind == "object" else 0
        colour[:, slot], noun[:, slot] = _newcomer(rng, how, layout, slot)
    changed = replace(layout, colour=colour, noun=noun)
    return layout, said, changed, state(changed, (said.noun >= 0).sum(1), said.relation, said.number)


def _newcomer(rng, how: Drawing, layout: Layout, slot: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour and noun (n,) of something that isn't in the scene: coloured if what stands in the slot is."""
    colours, nouns = len(COLOURS), len(how.made.nouns)
    key = rng.random((len(layout.noun), colours, nouns))
    there = layout.colour[..., None, None], layout.noun[..., None, None]
    coloured = (layout.colour[:, slot] >= 0)[:, None, None]
    same_colour = there[0] == np.arange(colours)[:, None]
    # Said without a colour, a noun fits objects of any.
    alike = (there[1] == np.arange(nouns)) & ((there[0] < 0) | ~coloured[:, None] | same_colour)
    key[alike.any(1)] = 2.0
    key[np.broadcast_to(coloured & ~how.made.coloured, key.shape)] = 2.0
    colour, noun = np.divmod(key.reshape(len(key), -1).argmin(1), nouns)
    return np.where(coloured[:, 0, 0], colour, -1), noun


def _fewer(rng, layout: Layout, said: Statement):
    """The counted objects, and the same without the last of them, either first."""
    n = len(said.number)
    last = np.arange(layout.exists.shape[1]) == (said.number - 1)[:, None]
    without = rng.random(n) < 0.5
    halves = []
    for taken in (without, ~without):
        left = replace(layout, exists=layout.exists & ~(taken[:, None] & last))
        halves += [left, state(left, 1, number=said.number - taken)]
    return halves


def draw_descriptions(
    n: int = 32, seed: int = 0, objects: tuple[int, int] = (2, 2), similar: float = 0.5, **drawing
) -> xr.Dataset:
    """Draw scenes whose caption describes all objects in reading order; objects are numbered in that order.

    Sizes are told unless ``smallest`` is given: objects at the least width are all alike.
    n, seed: as in ``draw_scenes``. objects: fewest and most a scene, 1 to 4. similar: 0 to 1, how much a third and
    a fourth object are like one of the first two. drawing: as in ``draw_scenes``.

    Returns a dataset of the ``inputs`` schema, its words' objects included. Raises ValueError for an impossible choice.

    Examples
    --------
    >>> xk.draw_descriptions(2).caption.values.tolist()
    ['a small blue diamond is left of a large orange cross', 'a large cyan diamond is left of a large orange ring']
    """
    how = Drawing.of(drawing)
    check_scenes(n, objects, ("object",), similar)
    how.check_room(objects[1])
    if objects[1] > MOST_DESCRIBED:
        raise ValueError(f"objects={objects}: at most {MOST_DESCRIBED} are described, sizes are told apart up to there")
    layout, relation = describable(how, stream(seed, LAYOUT), n, objects, similar)
    parameters = dict(n=n, seed=seed, objects=list(objects), similar=similar)
    said = describe(layout, relation, sized=how.least_radius == 0)
    return assemble(how, layout, said, ["description"] * n, np.zeros(n, bool), seed, parameters, IS)


def draw_suite(name: str, n: int = 32, seed: int = 0, mark: bool = True, **drawing) -> xr.Dataset:
    """Draw n scenes of one suite.

    name: one of ``SUITES``. The scenes of "absent" carry a ``foil`` that names an object that is not there. mark:
    whether the scenes of "shortcut" show the corner mark; without it they are the same to the last pixel elsewhere.
    drawing: as in ``draw_scenes``.

    Returns a dataset of the ``inputs`` schema, as ``draw_scenes``. Raises ValueError for an unknown suite, or n < 1.

    Examples
    --------
    >>> xk.draw_suite("word", 2).caption.values.tolist()
    ['purple', 'cross']
    """
    check_choices(name=(name, tuple(SUITES)))
    if name == "absent":
        return draw_pairs("absent", n, seed, objects=(2, 4), similar=1.0, **drawing)
    how = Drawing.of(drawing)
    layout, said, _ = compose(how, stream(seed, LAYOUT), n, **_COMPOSED[name])
    if name in _CHANGED:
        layout, said = _CHANGED[name](layout, said)
        layout = replace(layout, radius=np.maximum(layout.radius, how.least_radius))
    marked = np.full(n, name == "shortcut" and mark)
    return assemble(how, layout, said, [name] * n, marked, seed, {"suite": name, "n": n, "seed": seed, "mark": mark})


def _small(layout: Layout, said: Statement) -> tuple[Layout, Statement]:
    small = np.minimum(layout.size, 0)  # the first of the sizes, where there are any
    radius = np.where(layout.size == 0, layout.radius, SMALL_FACTOR * layout.radius)
    return replace(layout, size=small, radius=radius), said


def _exchanged(layout: Layout, said: Statement) -> tuple[Layout, Statement]:
    """The last two objects have the first two's colours and nouns the other way round."""
    colour, noun = layout.colour.copy(), layout.noun.copy()
    colour[:, 2:], noun[:, 2:] = colour[:, [1, 0]], noun[:, [0, 1]]
    layout = replace(layout, colour=colour, noun=noun)
    return layout, state(layout, named=2)


def _first_red(layout: Layout, said: Statement) -> tuple[Layout, Statement]:
    """Red and the first object's colour are exchanged throughout each scene, so that the first is the red one."""
    red, own = COLOURS.index("red"), layout.colour[:, :1]
    colour = np.select([layout.colour == own, layout.colour == red], [red, own], layout.colour)
    return replace(layout, colour=colour), replace(said, colour=np.where(said.noun >= 0, red, -1))


def _one_word(layout: Layout, said: Statement) -> tuple[Layout, Statement]:
    """Of the first object the colour alone (even samples), if it has one, or the noun alone."""
    by_colour = (np.arange(len(said.noun))[:, None] % 2 == 0) & (layout.colour[:, :1] >= 0)
    colour, noun = np.where(by_colour, said.colour, -1), np.where(by_colour, -1, said.noun)
    return layout, replace(said, colour=colour, noun=noun, number=np.zeros_like(said.number))


_COMPOSED = {
    "single": dict(objects=(1, 1), kinds=("object",), sized=0.0),
    "relation": dict(objects=(3, 4), kinds=("relation",), similar=1.0, sized=0.0),
    "attribute": dict(objects=(4, 4), kinds=("list",), bound=True),
    "clutter": dict(objects=(3, 12), kinds=("object", "relation"), sized=0.0),
    "shortcut": dict(objects=(1, 3), kinds=("object",), sized=0.0, bound=True),
    "word": dict(objects=(3, 6), kinds=("object",), similar=1.0, sized=0.0),
}
_CHANGED = {"single": _small, "attribute": _exchanged, "shortcut": _first_red, "word": _one_word}
