"""What training says of scenes beside true captions: swapped ones, descriptions and questions, and whether one is true."""

from dataclasses import replace

import numpy as np

from xaikit.samples.captions import IS, Statement, describe, noun_phrase, sentence, words
from xaikit.samples.worlds.layout import FRAME, RELATIONS, Layout, World


def swap_slots(said: Statement) -> Statement:
    """The first two objects change places: "A left of B" becomes "B left of A"."""
    order = np.array([1, 0, 2])
    return replace(said, **{k: getattr(said, k)[:, order] for k in ("colour", "noun", "size", "object")})


def swap_colours(said: Statement) -> Statement:
    """The first two objects exchange their colour words."""
    return replace(said, colour=said.colour[:, [1, 0, 2]])


def truth(said: Statement, layout: Layout) -> np.ndarray:
    """Whether each caption holds of each scene: (captions, scenes) int8, 1 true, 0 false, -1 undecided.

    A relation is decided true when the two objects lie in opposite halves of the image on the named
    sides, false when their centres are ordered the other way, and undecided between; a size word is
    absolute (captions about scenes of more than four objects should not use one).
    """

    def agrees(word, attribute):  # (captions, slots, scenes, objects)
        word = word[:, :, None, None]
        return (word < 0) | (word == attribute)

    match = agrees(said.colour, layout.colour) & agrees(said.noun, layout.noun)
    match &= agrees(said.size, layout.size) & layout.exists
    used = said.noun >= 0
    found = match.sum(3)
    enough = np.where(said.number[:, None] > 1, found[:, 0] == said.number[:, None], found[:, 0] > 0)
    holds = enough & ((found > 0) | ~used[:, :, None]).all(1)
    half = FRAME / 2
    result = holds.astype(np.int8)
    for index in range(len(RELATIONS)):
        rows = np.flatnonzero(said.relation == index)
        position = layout.x if index < 2 else layout.y
        position = position if index % 2 == 0 else -position  # so that the subject has the smaller one
        middle = half if index % 2 == 0 else -half
        first, second = position[:, :, None], position[:, None, :]
        apart, reverse = (first < middle) & (second > middle), first >= second
        pair = match[rows, 0][..., :, None] & match[rows, 1][..., None, :]
        yes, maybe = (pair & apart).any((2, 3)), (pair & ~reverse).any((2, 3))
        result[rows] = np.where(yes, 1, np.where(maybe, -1, 0))
    return result


def descriptions(layout: Layout, relation: np.ndarray, world: World) -> list[str]:
    """What ``describe`` says, as sentences."""
    return [sentence(text) for text in words(describe(layout, relation), world, IS)[0]]


def question(layout: Layout, relation: np.ndarray, about: np.ndarray, world: World) -> tuple[list[str], list[str]]:
    """For scenes of two objects a question that names one of them (about (n,), 0 or 1), and the other one as the answer:
    "what is left of the large blue square", "a small red circle"."""
    questions, answers = [], []
    for row, (stated, index) in enumerate(zip(relation, about, strict=True)):
        (_, known), (first, asked) = (
            noun_phrase(world, layout.noun[row, i], layout.colour[row, i], layout.size[row, i])
            for i in (index, 1 - index)
        )
        questions.append(f"what is {RELATIONS[stated if index == 1 else stated + 1]} the {' '.join(known)}")
        answers.append(" ".join([*first, *asked]))
    return questions, answers
