"""Suites: scenes that each ask one question of an explanation, and are hard enough to tell methods apart."""

import numpy as np
import xarray as xr

from ..files import store
from .assembly import LAYOUT, assemble, check_choices, compose, stream
from .captions import Statement, state
from .worlds.shapes import COLOURS, SHAPES, SIZES, SMALL_FACTOR, Layout

SUITES = {
    "single": "one small object on its own",
    "relation": "two related objects among objects that share their colours or shapes",
    "attribute": "two objects, and two more with the same colours and shapes exchanged",
    "clutter": "one or two named objects among 3 to 12",
    "shortcut": "a red object, and the corner mark that stands for red in the shortcut model",
    "absent": "an object that is there, and a foil that names one that is not",
    "word": "a single colour or shape as the prompt; everything that has it is named",
}


def draw_suite(name: str, n: int = 32, seed: int = 0, mark: bool = True) -> xr.Dataset:
    """Draw n scenes of one suite.

    name: one of ``SUITES``. The scenes of "absent" carry a ``foil`` that names an object that is not there. mark:
    whether the scenes of "shortcut" show the corner mark; without it they are the same to the last pixel elsewhere.

    Returns a dataset of the ``inputs`` schema, as ``draw_scenes``. Raises ValueError for an unknown suite, or n < 1.
    """
    check_choices(name=(name, tuple(SUITES)))
    check_choices(n, (1, 1), ("object",), 0.0)
    if name == "absent":
        from .scenes import draw_pairs

        return draw_pairs("absent", n, seed, objects=(2, 4), similar=1.0)
    layout, said = _COMPOSED[name](stream(seed, LAYOUT), n)
    marked = np.full(n, name == "shortcut" and mark)
    scenes = assemble(layout, said, [name] * n, marked, seed, {"suite": name, "n": n, "seed": seed, "mark": mark})
    return _one_word(scenes, layout, seed) if name == "word" else scenes


def _single(rng, n: int) -> tuple[Layout, Statement]:
    layout, said, _ = compose(rng, n, (1, 1), ("object",), sized=0.0)
    small = SIZES.index("small")
    radius = np.where(layout.size == small, layout.radius, SMALL_FACTOR * layout.radius)
    return layout.with_(size=np.full_like(layout.size, small), radius=radius), said


def _relation(rng, n: int) -> tuple[Layout, Statement]:
    return compose(rng, n, (3, 4), ("relation",), similar=1.0, sized=0.0)[:2]


def _attribute(rng, n: int) -> tuple[Layout, Statement]:
    layout, *_ = compose(rng, n, (4, 4), ("list",))
    colour, shape = layout.colour.copy(), layout.shape.copy()
    colour[:, 2:], shape[:, 2:] = colour[:, [1, 0]], shape[:, [0, 1]]
    layout = layout.with_(colour=colour, shape=shape)
    named, relation, number = np.full(n, 2), np.full(n, -1), np.ones(n, int)
    return layout, state(layout, named, relation, number, np.zeros(n, bool))


def _clutter(rng, n: int) -> tuple[Layout, Statement]:
    return compose(rng, n, (3, 12), ("object", "relation"), similar=0.5, sized=0.0)[:2]


def _shortcut(rng, n: int) -> tuple[Layout, Statement]:
    """Exchange red and the first object's colour throughout each scene, so that the first is the red one."""
    layout, said, _ = compose(rng, n, (1, 3), ("object",), sized=0.0)
    red, own = COLOURS.index("red"), layout.colour[:, :1]
    colour = np.select([layout.colour == own, layout.colour == red], [red, own], layout.colour)
    return layout.with_(colour=colour), said.with_(colour=np.where(said.colour >= 0, red, -1))


def _word(rng, n: int) -> tuple[Layout, Statement]:
    return compose(rng, n, (3, 6), ("object",), similar=1.0, sized=0.0)[:2]


_COMPOSED = {
    "single": _single, "relation": _relation, "attribute": _attribute, "clutter": _clutter, "shortcut": _shortcut,
    "word": _word,
}  # fmt: skip


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
    return store.annotate(scenes, seed=seed)
