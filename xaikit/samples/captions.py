"""What a caption or a description says, as arrays and as words; and which objects a text's words name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from .worlds.shapes import COLOURS, MAX_OBJECTS, RELATIONS, SHAPES, SIZES, Layout

KINDS = ("object", "relation", "list", "count")
SLOTS = 3  # the most objects one caption names
NUMBERS = ("two", "three", "four", "five", "six")
assert MAX_OBJECTS >= len(NUMBERS) + 1
# Words that name nothing: articles, conjunctions, prepositions, pronouns, forms of "to be", punctuation.
# The relation words of the scenes (left, right, above, below) say something that can be true or false.
FUNCTION_WORDS = frozenset(
    "a an the this that these those and or but nor so yet of to in on at by for with from as into onto it its he she they"
    " his her their there here is are was were be been being am has have had do does did will would can could , . ; : ! ? '"
    ' " - ( )'.split()
)
LITTLE_WORDS = ("a", "an", "of", "and", ",")
PLURALS = {**{name: name + "s" for name in SHAPES}, "cross": "crosses"}
VOCABULARY = (
    *LITTLE_WORDS, *SIZES, *COLOURS, *SHAPES, *PLURALS.values(), "left", "right", "above", "below", *NUMBERS,
    "photo", "picture", "the", "is", "with", "object", "mark",
)  # fmt: skip

RELATION_WORDS = {word for relation in RELATIONS for word in relation.split()} - set(FUNCTION_WORDS)
NONE, PADDING = -1, -2
IS = ("is",)  # between the two objects of a description
NAMING = {*SIZES, *COLOURS, *SHAPES}


@dataclass(frozen=True)
class Statement:
    """What n captions say. -1 stands for "not said" (attributes, relation) and "no such slot" (colour)."""

    colour: np.ndarray  # (n, slots)
    shape: np.ndarray  # (n, slots)
    size: np.ndarray  # (n, slots)
    object: np.ndarray  # (n, slots): which object of the scene the slot names
    relation: np.ndarray  # (n,): of slot 0 to slot 1, index into RELATIONS
    number: np.ndarray  # (n,): how many objects slot 0 names; 1 for singular captions


def state(
    layout: Layout,
    named: np.ndarray | int,
    relation: np.ndarray | int = -1,
    number: np.ndarray | int = 1,
    sized: np.ndarray | bool = False,
    slots: int = SLOTS,
) -> Statement:
    """Captions that name the first ``named`` (n,) objects of each scene, with sizes where ``sized`` (n,)."""
    n, objects = layout.colour.shape
    named, relation, number, sized = (np.broadcast_to(value, n) for value in (named, relation, number, sized))
    used = np.arange(slots) < named[:, None]
    index = np.minimum(np.arange(slots), objects - 1)
    colour, shape, size = (np.where(used, getattr(layout, name)[:, index], -1) for name in ("colour", "shape", "size"))
    size = np.where(sized[:, None], size, -1)
    return Statement(colour, shape, size, np.where(used, np.arange(slots), -1), relation, number)


def words(said: Statement, verb: Sequence[str] = ()) -> tuple[list[list[str]], list[list[int]]]:
    """The words of each caption, and for each word the scene's object that it names (-1 for none). verb : before a relation."""
    texts, owners = [], []
    for colour, shape, size, owner, relation, number in zip(
        said.colour, said.shape, said.size, said.object, said.relation, said.number, strict=True
    ):
        text, names = [], []
        for slot in np.flatnonzero(colour >= 0):
            if slot:
                last = slot == np.flatnonzero(colour >= 0)[-1]
                join = [*verb, *RELATIONS[relation].split()] if relation >= 0 else ["and" if last else ","]
                text += join
                names += [-1] * len(join)
            plural = number > 1
            noun = SHAPES[shape[slot]]
            phrase = [SIZES[size[slot]]] if size[slot] >= 0 else []
            phrase += [COLOURS[colour[slot]], PLURALS[noun] if plural else noun]
            text += [NUMBERS[number - 2] if plural else article(phrase[0]), *phrase]
            names += [owner[slot] if plural else -1] + [owner[slot]] * len(phrase)
        texts.append(text)
        owners.append(names)
    return texts, owners


def describe(layout: Layout, relation: np.ndarray) -> Statement:
    """All objects with their sizes; of two also the relation (n,), an index into RELATIONS."""
    count = layout.exists.sum(1)
    return state(layout, count, np.where(count == 2, relation, -1), sized=True, slots=layout.exists.shape[1])


def article(word: str) -> str:
    """The indefinite article before this word."""
    return "an" if word[0] in "aeio" else "a"


def sentence(text: list[str]) -> str:
    """The caption as one string."""
    return " ".join(text).replace(" ,", ",")


def captions_need(kind: str) -> int:
    """The fewest objects that a caption of this kind needs."""
    return 1 if kind == "object" else 2


def name_objects(token_text: np.ndarray, scenes: xr.Dataset) -> xr.Dataset:
    """Match the words of each text with the objects of its scene.

    token_text : (n, tokens) words, "" after a text's end; blanks around them don't count. scenes : of the ``inputs``
    schema, the same n samples.

    A noun phrase is a run of sizes and colours up to the shape that ends it. It names the object that agrees with most of
    its words, which must have its shape; of equals the first that the text hasn't named yet. A phrase that no object
    agrees with in shape and colour names none: the text is wrong about it.

    Returns ``token_object`` (sample, token), the object's index, -1 for none, -2 for padding, and ``token_kind``: "object"
    for the words of a phrase that names an object, "relation", "function", and "" for padding and any other word, those of
    a phrase that names none among them. Raises ValueError for another number of texts than of scenes.

    Examples
    --------
    >>> named = xk.samples.name_objects(scenes.token_text, scenes)
    >>> named.token_kind.values[2].tolist()
    ['function', 'object', 'object', 'function', 'function', 'object', 'object', '', '']
    """
    texts = np.char.lower(np.char.strip(np.asarray(token_text).astype(str)))
    if texts.ndim != 2 or len(texts) != scenes.sizes["sample"]:
        wanted = f"(samples, tokens) of the {scenes.sizes['sample']} scenes"
        raise ValueError(f"words of shape {texts.shape}: {wanted} is needed")
    objects = np.full(texts.shape, NONE)
    objects[texts == ""] = PADDING
    kinds = np.full(texts.shape, "", dtype="U8")
    kinds[np.isin(texts, list(FUNCTION_WORDS))] = "function"
    kinds[np.isin(texts, list(RELATION_WORDS))] = "relation"
    for row, (words, names) in enumerate(zip(texts, scenes.object_name.values, strict=True)):
        known = [set(str(name).split()) for name in names]
        named: list[int] = []
        start = 0  # of a phrase
        for place, word in enumerate(words):
            if word in SHAPES:
                phrase = slice(start, place + 1)
                found = _object(words[phrase], known, named)
                named.append(found)
                objects[row, phrase] = found
                kinds[row, phrase] = "" if found == NONE else "object"
            if word in SHAPES or word not in NAMING:
                start = place + 1
    dims = ("sample", "token")
    return xr.Dataset({"token_object": (dims, objects), "token_kind": (dims, kinds)}, {"sample": scenes.sample})


def _object(phrase: np.ndarray, known: list[set[str]], named: list[int]) -> int:
    """The object that a phrase names, or NONE."""
    needed = {word for word in phrase if word not in SIZES}
    agreeing = [index for index, words in enumerate(known) if needed <= words]
    if not agreeing:
        return NONE
    return max(agreeing, key=lambda index: (len(known[index] & set(phrase)), index not in named, -index))
