"""What a caption or a description says, as arrays and as words; and which objects a text's words name."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr

from ..files.models import vocabulary_of
from ..files.paths import data_folder, find_named
from .worlds import WORLDS, find_world
from .worlds.layout import COLOURS, MAX_OBJECTS, RELATIONS, Layout, World

NEEDED = {"object": 1, "relation": 2, "list": 2, "count": 2}  # the fewest objects of a caption of each kind
KINDS = tuple(NEEDED)
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

RELATION_WORDS = {word for relation in RELATIONS for word in relation.split()} - set(FUNCTION_WORDS)
NONE, PADDING = -1, -2
SIZE_WORDS = ("small", "large")
IS = ("is",)  # between the two objects of a description


@cache
def vocabulary(world: str) -> tuple[str, ...]:
    """Every word that a caption, a description or a question about a world's scenes can have, each once, lower case."""
    made = find_world(world)
    named = [word for name in (*made.nouns, *made.plurals) for word in name.split()]
    places = ("left", "right", "above", "below")
    others = ("photo", "picture", "the", "is", "with", "object", "mark")
    return tuple(dict.fromkeys([*LITTLE_WORDS, *made.sizes, *COLOURS, *named, *places, *NUMBERS, *others]))


def world_by_words(known: Collection[str]) -> str:
    """The world whose words a vocabulary is made of; "things" for any other, as that of a model that reads any text.

    Examples
    --------
    >>> world_by_words(vocabulary("shapes"))
    'shapes'
    """
    return next((world for world in sorted(WORLDS) if {*vocabulary(world)} <= {*known}), "things")


def world_of_model(model: str) -> str:
    """The world that a bundled model, or that of a folder, was trained on, by its name; "things" for any other.

    Examples
    --------
    >>> world_of_model("tiny-clip")
    'shapes'
    """
    found = find_named(model, ("local-dir",), data_folder(), Path.cwd())
    return world_by_words(vocabulary_of(found.path) if found else ())


@dataclass(frozen=True)
class Statement:
    """What n captions say. -1 stands for "not said" (attributes, relation) and "no such slot" (object)."""

    colour: np.ndarray  # (n, slots)
    noun: np.ndarray  # (n, slots)
    size: np.ndarray  # (n, slots)
    object: np.ndarray  # (n, slots): which object of the scene the slot names, the first of several
    relation: np.ndarray  # (n,): of slot 0 to slot 1, index into RELATIONS
    number: np.ndarray  # (n,): how many objects slot 0 names; 1 for singular captions, 0 for a word without an article

    def names(self, layout: Layout) -> np.ndarray:
        """Which objects (n, K) the captions speak of: those that have the colour and the noun of a slot, as far as said."""
        used = (self.object >= 0)[:, :, None]
        for said, own in ((self.colour, layout.colour), (self.noun, layout.noun)):
            used = used & ((said[:, :, None] < 0) | (said[:, :, None] == own[:, None]))
        return layout.exists & used.any(1)


def state(
    layout: Layout,
    named: np.ndarray | int,
    relation: np.ndarray | int = -1,
    number: np.ndarray | int = 1,
    sized: np.ndarray | bool = False,
    slots: int = SLOTS,
) -> Statement:
    """Captions that name the first ``named`` (n,) objects of each scene, with sizes where ``sized`` (n,)."""
    n, objects = layout.noun.shape
    named, relation, number, sized = (np.broadcast_to(value, n) for value in (named, relation, number, sized))
    used = np.arange(slots) < named[:, None]
    index = np.minimum(np.arange(slots), objects - 1)
    colour, noun, size = (np.where(used, getattr(layout, name)[:, index], -1) for name in ("colour", "noun", "size"))
    size = np.where(sized[:, None], size, -1)
    return Statement(colour, noun, size, np.where(used, np.arange(slots), -1), relation, number)


def words(
    said: Statement, world: World, verb: Sequence[str] = (), template: str = "{}"
) -> tuple[list[list[str]], list[list[int]]]:
    """The words of each caption, and for each word the scene's object that it names (-1 for none). verb : before a relation."""
    texts, owners = [], []
    before, _, after = (part.split() for part in template.partition("{}"))
    for colour, noun, size, owner, relation, number in zip(
        said.colour, said.noun, said.size, said.object, said.relation, said.number, strict=True
    ):
        text, names = list(before), [-1] * len(before)
        used = np.flatnonzero(owner >= 0)
        for slot in used:
            if slot:
                join = ["and" if slot == used[-1] else ","]
                join = [*verb, *RELATIONS[relation].split()] if relation >= 0 else join
                text += join
                names += [-1] * len(join)
            first, phrase = noun_phrase(world, noun[slot], colour[slot], size[slot], number)
            text += [*first, *phrase]
            names += [owner[slot] if number > 1 else -1] * len(first) + [owner[slot]] * len(phrase)
        texts.append([*text, *after])
        owners.append([*names, *[-1] * len(after)])
    return texts, owners


def noun_phrase(
    world: World, noun: int, colour: int = -1, size: int = -1, number: int = 1
) -> tuple[list[str], list[str]]:
    """The article or number, if any, and the words that name an object (or so many alike, or 0 for the words alone)."""
    said = [world.sizes[size]] if size >= 0 else []
    said += [COLOURS[colour]] if colour >= 0 else []
    if number > 1:
        return [NUMBERS[number - 2]], [*said, *world.plurals[noun].split()]
    said += world.nouns[noun].split() if noun >= 0 else []
    return [article(said[0])] if number and world.plurals[noun] else [], said


def object_kinds(world: World) -> dict[str, str]:
    """Every kind of object of a world (of shapes colour and shape, of things the noun), and its phrase with the article.

    Examples
    --------
    >>> object_kinds(find_world("shapes"))["orange ring"]
    'an orange ring'
    """
    colours = range(len(COLOURS)) if world.coloured.all() else [-1]
    phrases = [noun_phrase(world, noun, colour) for colour in colours for noun in range(len(world.nouns))]
    return {" ".join(named): " ".join([*first, *named]) for first, named in phrases}


def describe(layout: Layout, relation: np.ndarray, sized: bool = True) -> Statement:
    """All objects, with their sizes if ``sized``; of two also the relation (n,), an index into RELATIONS."""
    count = layout.exists.sum(1)
    return state(layout, count, np.where(count == 2, relation, -1), sized=sized, slots=layout.exists.shape[1])


def article(word: str) -> str:
    """The indefinite article before this word."""
    return "an" if word[0] in "aeiou" else "a"


def sentence(text: list[str]) -> str:
    """The caption as one string."""
    return " ".join(text).replace(" ,", ",").replace(" .", ".")


@dataclass(frozen=True)
class Phrase:
    """A noun phrase in a text: its place among the words, and what it says; number 1 for "a", and for no number."""

    place: slice
    noun: str
    colour: str = ""
    size: str = ""
    number: int = 1

    def names(self, object_name: str) -> bool:
        """Whether an object of this name ("small red circle", "traffic light") is what the phrase speaks of."""
        size, colour, noun = name_parts(object_name)
        return noun == self.noun and self.colour in ("", colour) and self.size in ("", size)


def name_parts(name: str) -> tuple[str, str, str]:
    """Size and colour, "" for none, and noun of an object's name."""
    size, _, rest = name.partition(" ")
    size, rest = (size, rest) if size in SIZE_WORDS else ("", name)
    colour, _, noun = rest.partition(" ")
    return (size, colour, noun) if colour in COLOURS else (size, "", rest)


@cache
def _nouns_by_words(world: str) -> dict[tuple[str, ...], str]:
    """The nouns of a world by their words, in the singular and in the plural."""
    made = find_world(world)
    known = {tuple(name.split()): name for name in made.nouns}
    return known | {
        tuple(several.split()): name for name, several in zip(made.nouns, made.plurals, strict=True) if several
    }


def noun_phrases(text: Sequence[str], world: World) -> list[Phrase]:
    """The noun phrases of a text's words, lower case: a run of sizes and colours up to the noun that ends it, of several
    words perhaps ("hot dog"), the longest that fits."""
    singular = _nouns_by_words(world.name)
    longest = max(map(len, singular))
    found, start, place = [], 0, 0
    while place < len(text):
        spans = range(min(longest, len(text) - place), 0, -1)
        span = next((span for span in spans if tuple(text[place : place + span]) in singular), 0)
        if span:
            said = text[start:place]
            colour, size = (" ".join(word for word in said if word in known) for known in (COLOURS, world.sizes))
            before = text[start - 1] if start else ""
            number = NUMBERS.index(before) + 2 if before in NUMBERS else 1
            noun = singular[tuple(text[place : place + span])]
            found.append(Phrase(slice(start, place + span), noun, colour, size, number))
        place += max(span, 1)
        if span or text[place - 1] not in (*COLOURS, *world.sizes):
            start = place
    return found


def name_objects(token_text: np.ndarray, scenes: xr.Dataset) -> xr.Dataset:
    """Match the words of each text with the objects of its scene.

    token_text : (n, tokens) words, "" after a text's end; blanks around them don't count. scenes : of the ``inputs``
    schema, the same n samples.

    A noun phrase is a run of sizes and colours up to the noun that ends it. It names the object that agrees with most of
    its words, which must be of its noun and its colour; of equals the first that the text hasn't named yet. A phrase that
    no object agrees with so names none: the text is wrong about it.

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
    world = world_of(scenes) if len(texts) else None
    for row, (text, names) in enumerate(zip(texts, scenes.object_name.values.astype(str), strict=True)):
        named: list[int] = []
        for phrase in noun_phrases(text.tolist(), world):
            found = _object(phrase, names, named)
            named.append(found)
            objects[row, phrase.place] = found
            kinds[row, phrase.place] = "" if found == NONE else "object"
    dims = ("sample", "token")
    return xr.Dataset({"token_object": (dims, objects), "token_kind": (dims, kinds)}, {"sample": scenes.sample})


def world_of(scenes: xr.Dataset) -> World:
    """The world that planted scenes belong to. Raises ValueError for scenes of several worlds, or none."""
    if "world" not in scenes and "object_name" in scenes:
        return find_world("shapes")  # stores from before there were others
    names = np.unique(scenes.world.values.astype(str)).tolist() if "world" in scenes else []
    if "world" in scenes and not scenes.sizes["sample"]:
        raise ValueError("there are no scenes: at least one is needed")
    if len(names) != 1:
        raise ValueError(f"scenes of one planted world are needed, these are of {', '.join(names) or 'none'}")
    return find_world(names[0])


def _object(phrase: Phrase, names: Sequence[str], named: list[int]) -> int:
    """The object that a phrase names, or NONE."""
    sizeless = replace(phrase, size="")
    agreeing = [index for index, name in enumerate(names) if name and sizeless.names(name)]
    if not agreeing:
        return NONE
    return max(agreeing, key=lambda index: (phrase.names(names[index]), index not in named, -index))
