"""Token maps against planted truth: each word's own object is known, so no tagger and no labels are needed."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..files.schema import HIGHER, LOWER, NEITHER
from ..files.store import annotate
from ..samples.worlds import find_world
from ..samples.worlds.layout import COLOURS
from ..samples.worlds.shapes import PLURALS, SHAPES, SIZES
from .localisation import WHOLE, check_region, energy, iou_otsu, pointing_game, region_coverage
from .maps import fragments, otsu_threshold, right_above_wrong, spread
from .token_iou import f1_iou

KINDS = ("object", "relation", "function", "")
CLASSES = {"size": SIZES, "colour": COLOURS, "shape": (*SHAPES, *PLURALS)}  # and the nouns of things
CELLS_AT_ONCE = 2**22  # bounds the memory
MEASURES = {  # of each word: what it is, its units and its direction
    "own_iou": ("IoU of a word's map at Otsu's threshold with its own object", "1", HIGHER),
    "own_share": ("share of a word's heat on its own object", "1", HIGHER),
    "peak_on_own": ("whether a word's hottest cell lies on its own object", "1", HIGHER),
    "blank": ("whether a word's map has no heat at all", "1", LOWER),
    "leakage": ("share of a word's heat on other objects", "1", LOWER),
    "leakage_earlier": ("share of a word's heat on objects that the answer named before", "1", LOWER),
    "leakage_later": ("share of a word's heat on objects that the answer names later", "1", LOWER),
    "fragments": ("connected parts of a word's map above Otsu's threshold", "1", NEITHER),
    "spread": ("entropy of a word's map", "nat", NEITHER),
    "object_fragments": ("connected parts of its own object's coverage above Otsu's threshold", "1", NEITHER),
    "object_spread": ("entropy of its own object's coverage", "nat", NEITHER),
    "function_iou": ("share of a function word's map not above the mean threshold of object words", "1", HIGHER),
    "total_heat": ("sum of a word's map", "1", NEITHER),
}
OF_ANSWERS = {  # and of each answer besides
    "function_heat": ("heat of function words relative to object words", LOWER),
    "function_share": ("heat of function words over that of function and object words", LOWER),
    "answer_f1": ("harmonic mean of an answer's own two IoUs", HIGHER),
}


def planted_word_scores(
    token_heat: np.ndarray,
    token_object: np.ndarray,
    token_kind: np.ndarray,
    object_mask: np.ndarray,
    region: np.ndarray | tuple = WHOLE,
    explainers: Sequence[str] | None = None,
) -> xr.Dataset:
    """Measure the map of each answer token, ``MEASURES`` as variables (sample, explainer, token).

    Parameters
    ----------
    token_heat : (n, explainers, tokens, rows, cols), at least 0, padded with zeros.
    token_object : (n, tokens), index of the object that a token names, -1 none, -2 padding.
    token_kind : (n, tokens), "object" for the words of an object, "relation", "function", "" for padding and the rest.
    object_mask : (n, objects, y, x) bool, visible pixels of each object; brought to the grid by area.
    region : (4,) or (n, 4), top, left, bottom and right of what the maps cover, from 0 to 1 of the image; only this part
        counts.
    explainers : their names, by default their numbers.

    Returns ``own_iou`` to ``object_spread`` of object words that are visible in the region, leakage only where there is
    another object to leak to; ``function_iou`` of function words, in answers with object words; ``total_heat`` of all; NaN
    elsewhere. An object is earlier or later by the first token that names it; objects never named count in ``leakage``
    only. A map without heat is ``blank``, has no leakage and no fragments (NaN), a share and an IoU of 0, a peak at chance,
    and the spread of a flat map; a function word's has an IoU of 1.

    Raises ValueError for arrays that don't fit together, heat that is negative or not finite, unknown kinds, and object
    words without an object.
    Source: the measures of ``localisation``, by word; Func-IoU of Li et al., Token Activation Map, 2025, corrected.
    """
    _check(token_heat, token_object, token_kind, object_mask)
    n, count, tokens, rows, cols = token_heat.shape
    region = check_region(region, n)
    names = [str(i) for i in range(count)] if explainers is None else [str(name) for name in explainers]
    if len(names) != count:
        raise ValueError(f"{len(names)} names of explainers for {count} of them")
    step = max(1, CELLS_AT_ONCE // max(token_heat[:1].size, 1))
    parts = []
    for start in range(0, n, step):
        part = slice(start, start + step)
        covered = region_coverage(object_mask[part], (rows, cols), region[part])
        parts.append(_scores(token_heat[part].astype(float), token_object[part], token_kind[part], covered))
    out = xr.Dataset(coords={"sample": np.arange(n), "explainer": names})
    for name, (meaning, units, direction) in MEASURES.items():
        about = {"long_name": meaning, "units": units, "score_direction": direction}
        out[name] = ("sample", "explainer", "token"), np.concatenate([part[name] for part in parts]), about
    return out.assign_coords(kind=(("sample", "token"), token_kind.astype(str)))


def _scores(heat: np.ndarray, token_object: np.ndarray, kind: np.ndarray, covered: np.ndarray) -> dict[str, np.ndarray]:
    """The measures of some samples; covered (n, objects, rows, cols). All are (n, explainers, tokens)."""
    index = np.maximum(token_object, 0)
    own = np.take_along_axis(covered, index[..., None, None], 1)
    is_object, is_function = kind == "object", kind == "function"
    visible = (is_object & (own.sum((-2, -1)) > 0))[:, None]
    blank = (heat <= 0).all((-2, -1))
    measured = {
        "blank": blank,
        "own_iou": iou_otsu(heat, own[:, None]),
        "own_share": energy(heat, own[:, None]),
        "peak_on_own": pointing_game(heat, own[:, None]),
        "fragments": np.where(blank, np.nan, fragments(heat)),
        "spread": spread(heat),
        "object_fragments": fragments(own)[:, None],
        "object_spread": spread(own)[:, None],
    }
    out = {name: np.where(visible, values, np.nan) for name, values in measured.items()}
    for name, others in _others(token_object, covered.sum((-2, -1)) > 0).items():
        elsewhere = np.einsum("nto,norc->ntrc", others.astype(float), covered)
        leaks = visible & others.any(-1)[:, None] & ~blank
        out[name] = np.where(leaks, energy(heat, elsewhere[:, None]), np.nan)
    foreground = (otsu_threshold(heat) * is_object[:, None]).sum(-1) / np.maximum(is_object.sum(-1), 1)[:, None]
    dark = (heat <= foreground[..., None, None, None]).mean((-2, -1))
    out["function_iou"] = np.where(is_function[:, None] & is_object.any(-1)[:, None, None], dark, np.nan)
    out["total_heat"] = np.where((token_object > -2)[:, None], heat.sum((-2, -1)), np.nan)
    return {name: np.broadcast_to(values, heat.shape[:3]) for name, values in out.items()}


def _others(token_object: np.ndarray, visible: np.ndarray) -> dict[str, np.ndarray]:
    """Which visible objects other than its own each token could leak to, (n, tokens, objects): all, and by naming."""
    tokens, objects = token_object.shape[1], visible.shape[1]
    names = token_object[..., None] == np.arange(objects)
    first = np.where(names.any(1), names.argmax(1), tokens)[:, None]  # of objects never named: after all tokens
    place = np.arange(tokens)[:, None]
    others = visible[:, None] & ~names
    return {
        "leakage": others,
        "leakage_earlier": others & (first < place),
        "leakage_later": others & (first > place) & (first < tokens),
    }


def word_classes(token_text: np.ndarray) -> np.ndarray:
    """Class of each token of any shape: "size", "colour", "shape" or "thing" of a scene's object, "" for other words."""
    text = np.char.strip(np.char.lower(token_text.astype(str)), " ▁")
    things = find_world("things")
    nouns = {word for name in (*things.nouns, *things.plurals) for word in name.split()}
    known = {**CLASSES, "thing": nouns}
    return np.select([np.isin(text, list(words)) for words in known.values()], list(map(np.array, known)), np.array(""))


def answer_means(words: xr.Dataset, token_class: np.ndarray | None = None) -> xr.Dataset:
    """Means of ``planted_word_scores`` over each answer's words, a dataset of the ``evaluation`` schema.

    token_class: (n, tokens), such as ``word_classes`` gives; each class in it gets variables of its own, ``own_iou_colour``
    and so on, over its object words. What ``words`` has (sample, explainer) besides is taken over.

    Returns the variables of ``MEASURES`` but ``total_heat`` (sample, explainer), and two from it: ``function_heat``, the
    mean heat of the answer's function words divided by that of its object words (1 where neither has any, infinite where
    only function words have), and ``function_share``, the same as a share of the sum of both means: 0.5 where they are
    alike or both dark, and always finite, hence the one to average. Both mean something only for maps of one scale, not
    for maps that are each stretched to a range. Also ``answer_f1``, the harmonic mean of the answer's own ``own_iou`` and
    ``function_iou``; F1-IoU is that of the means over all answers (``token_iou_summary``). NaN where an answer has no word
    that a measure is of.
    """
    classes = np.full(words.kind.shape, "") if token_class is None else np.asarray(token_class)
    if classes.shape != words.kind.shape:
        raise ValueError(f"token_class of shape {classes.shape}: {words.kind.shape} as token_kind is needed")
    scores = words[[name for name, values in words.items() if "explainer" in values.dims and name != "total_heat"]]
    of_words = scores[[name for name, values in scores.items() if "token" in values.dims]]
    out = of_words.mean("token", keep_attrs=True).merge(scores.drop_dims("token"))
    for kind in np.unique(classes[classes != ""]):
        some = of_words.drop_vars("function_iou").where(xr.DataArray(classes == kind, dims=("sample", "token")))
        for name, values in some.mean("token", keep_attrs=True).items():
            out[f"{name}_{kind}"] = values.assign_attrs(long_name=f"{values.long_name}, {kind} words")
    function, objects = (words.total_heat.where(words.kind == kind).mean("token") for kind in ("function", "object"))
    both = function + objects
    out["function_heat"] = (function / objects).where(both != 0, 1)
    out["function_share"] = (function / both).where(both != 0, 0.5)
    out["answer_f1"] = f1_iou(out.own_iou, out.function_iou)
    for name, (meaning, direction) in OF_ANSWERS.items():
        out[name] = out[name].assign_attrs(long_name=meaning, units="1", score_direction=direction)
    return annotate(out, "evaluation")


def _check(heat: np.ndarray, token_object: np.ndarray, kind: np.ndarray, mask: np.ndarray) -> None:
    if heat.ndim != 5 or heat.dtype.kind not in "fiu" or heat.size == 0 or heat[0, 0, 0].size < 2:
        raise ValueError(
            f"{heat.dtype} heat of shape {heat.shape}: (n, explainers, tokens, rows, cols), none empty, is needed"
        )
    if not np.isfinite(heat).all() or (heat < 0).any():
        raise ValueError(f"the heat reaches from {heat.min()} to {heat.max()}: finite values from 0 on are needed")
    n, tokens = heat.shape[0], heat.shape[2]
    for name, values in (("token_object", token_object), ("token_kind", kind)):
        if values.shape != (n, tokens):
            raise ValueError(
                f"{name} of shape {values.shape}: ({n}, {tokens}), samples and tokens of the heat, is needed"
            )
    if mask.ndim != 4 or len(mask) != n or mask.dtype != bool or mask.size == 0:
        raise ValueError(f"{mask.dtype} object_mask of shape {mask.shape}: bool ({n}, objects, y, x) is needed")
    unknown = sorted(set(np.unique(kind).tolist()) - set(KINDS))
    if unknown:
        raise ValueError(f"token_kind {unknown[0]!r}: choose from {', '.join(map(repr, KINDS))}")
    wrong = (token_object < -2) | (token_object >= mask.shape[1]) | ((kind == "object") & (token_object < 0))
    if wrong.any():
        sample, token = np.argwhere(wrong)[0]
        raise ValueError(
            f"token {token} of sample {sample} is of kind {str(kind[sample, token])!r} and names object"
            f" {token_object[sample, token]}, but the sample has {mask.shape[1]} objects"
        )


def context_auroc(overlap: np.ndarray, token_object: np.ndarray, token_class: np.ndarray | None = None) -> np.ndarray:
    """How often (n,) two tokens on one object overlap more than two on different objects; ties count half; 0.5 is chance.

    overlap (n, T, T), of each token (row) with each context token before it (column), such as the rank-biased overlap of
    their predictions; token_object (n, T) as in ``planted_word_scores``. Over all pairs of such pairs of a sample; tokens
    on no object don't count. token_class (n, T): such as ``word_classes`` gives; only pairs of tokens of two classes count
    then. One object's words are of different classes, and what comes next depends on the class above all, so that
    without it words of one class, of different objects, overlap most. NaN where a sample lacks pairs of one of both kinds.

    Raises ValueError for shapes that don't fit, and for overlaps of object words that aren't finite.
    """
    n, tokens = token_object.shape
    if overlap.shape != (n, tokens, tokens):
        raise ValueError(f"overlap of shape {overlap.shape}: {(n, tokens, tokens)} is needed for these tokens")
    target, context = np.tril_indices(tokens, -1)
    first, second, value = token_object[:, target], token_object[:, context], overlap[:, target, context]
    counted = (first >= 0) & (second >= 0)
    if token_class is not None:
        counted &= token_class[:, target] != token_class[:, context]
    if not np.isfinite(value[counted]).all():
        raise ValueError("the overlap of some object words is NaN or infinite: it must be finite")
    same = counted & (first == second)
    return right_above_wrong(value, same, counted)
