"""Which object of a scene each word of a free text names, for answers that a model wrote."""

import numpy as np
import xarray as xr

from ..metrics.words import FUNCTION_WORDS
from .layout import COLOURS, RELATIONS, SHAPES, SIZES

ATTRIBUTES = {word: kind for kind, known in enumerate((SIZES, COLOURS, SHAPES)) for word in known}
RELATION_WORDS = {word for relation in RELATIONS for word in relation.split()} - set(FUNCTION_WORDS)
NONE, PADDING = -1, -2


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
    """
    texts = np.char.lower(np.char.strip(np.asarray(token_text).astype(str)))
    if texts.ndim != 2 or len(texts) != scenes.sizes["sample"]:
        raise ValueError(
            f"words of shape {texts.shape}: (samples, tokens) of the {scenes.sizes['sample']} scenes is needed"
        )
    objects = np.full(texts.shape, NONE)
    objects[texts == ""] = PADDING
    kinds = np.full(texts.shape, "", dtype="U8")
    kinds[np.isin(texts, list(FUNCTION_WORDS))] = "function"
    kinds[np.isin(texts, list(RELATION_WORDS))] = "relation"
    for row, (words, names) in enumerate(zip(texts, scenes.object_name.values, strict=True)):
        known = [set(str(name).split()) for name in names]
        named: list[int] = []
        start = None
        for place, word in enumerate(words):
            if word not in ATTRIBUTES:
                start = None
                continue
            start = place if start is None else start
            if word in SHAPES:
                phrase = words[start : place + 1]
                found = _object(phrase, known, named)
                named.append(found)
                objects[row, start : place + 1] = found
                kinds[row, start : place + 1] = "" if found == NONE else "object"
                start = None
    dims = ("sample", "token")
    return xr.Dataset({"token_object": (dims, objects), "token_kind": (dims, kinds)}, {"sample": scenes.sample})


def _object(phrase: np.ndarray, known: list[set[str]], named: list[int]) -> int:
    """The object that a phrase names, or NONE."""
    needed = {word for word in phrase if word not in SIZES}
    agreeing = [index for index, words in enumerate(known) if needed <= words]
    if not agreeing:
        return NONE
    return max(agreeing, key=lambda index: (len(known[index] & set(phrase)), index not in named, -index))
