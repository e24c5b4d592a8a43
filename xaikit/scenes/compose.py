"""Scenes and their captions drawn together, still as arrays."""

import numpy as np

from .captions import KINDS, NUMBERS, Statement, captions_need, state
from .layout import MAX_OBJECTS, MIDLINE_MARGIN, RELATIONS, Layout, sample_layout

SIZED_UP_TO = 4  # objects; in fuller scenes "large" objects are smaller than "small" ones elsewhere


def check_choices(n: int, objects: tuple[int, int], kinds: tuple[str, ...], similar: float) -> None:
    """Refuse impossible requests in one sentence each."""
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
        raise ValueError(f"n={n!r}: a whole number of scenes, at least 1, must be drawn")
    try:
        low, high = objects
    except TypeError:
        raise ValueError(f"objects={objects!r}: give (fewest, most), such as (2, 4)") from None
    if not 1 <= low <= high <= MAX_OBJECTS:
        raise ValueError(f"objects={objects}: give (fewest, most) with 1 <= fewest <= most <= {MAX_OBJECTS}")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(f"captions={list(kinds)}: choose from {', '.join(KINDS)}")
    impossible = [kind for kind in kinds if captions_need(kind) > low]
    if len(impossible) == len(kinds):
        raise ValueError(f"objects={objects}: a caption of kind {impossible[0]!r} needs at least 2 objects a scene")
    if not 0 <= similar <= 1:
        raise ValueError(f"similar={similar}: a share from 0 to 1 is needed")


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
    check_choices(n, objects, kinds, similar)
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
