"""Obj-IoU, Func-IoU and F1-IoU: whether object words light their objects while function words stay dark.

Source: Li et al., Token Activation Map, 2025, whose measures Liang et al. (MSEA and ARC), 2025, report too. By default the
released evaluation is corrected and maps stay on their grid.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd

from .estimates import RESAMPLES
from .localisation import WHOLE, region_coverage
from .maps import otsu_threshold
from .words import Lemmatiser, Tagger, Word, category_labels, group_words, word_kind

RESAMPLES_AT_ONCE = 100  # bounds the memory
Entries = Sequence[Sequence[float]] | np.ndarray  # of each sample those of its words; NaN is no entry


class TokenIou(NamedTuple):
    """Of one answer: IoU, precision and recall of each object it names, and IoU of each function word."""

    object_iou: list[float]
    function_iou: list[float]
    precision: list[float]
    recall: list[float]


def token_iou(
    maps: np.ndarray,
    tokens: Sequence[str],
    mask: np.ndarray | None,
    categories: Mapping[str, int] | None = None,
    labels: np.ndarray | None = None,
    tagger: Tagger | None = None,
    lemmatiser: Lemmatiser | None = None,
    region: np.ndarray | tuple = WHOLE,
) -> TokenIou:
    """Measure the maps of one answer's tokens against a mask of class labels.

    Parameters
    ----------
    maps : (m, rows, cols), at least 0.
    tokens : the m tokens as text, those that begin a word with a space or "▁" before it.
    mask : (y, x) whole numbers, the label of the object that each pixel shows, 0 for none.
    categories : the label of each name; or instead labels (m,), where the truth is known what a token names: the
        object's label, 0 or less for none.
    tagger : a word to its Penn Treebank tag, such as nltk's for isolated words. Without one function words are those of
        closed classes, and only nouns that name a category enter the threshold.
    lemmatiser : a noun to its lemma; without one common plurals are undone.
    region : top, left, bottom and right of what the maps cover, from 0 to 1 of the image; only this part counts.

    Returns an entry a mention of an object that is visible in the region. A mention is a run of words with one label, such as
    "hot dog"; its IoU is that of the best of its tokens' maps, cut at Otsu's threshold, with the share of each cell that
    the object takes up. The foreground begins at the mean over all nouns of the highest threshold of their tokens; the IoU
    of a function word is the share of cells that aren't above that, mean over its tokens. Without nouns there is none.

    Raises ValueError for other shapes and types, for maps that are not one a token, negative or not finite, and for both or
    none of categories and labels.
    """
    if (categories is None) == (labels is None):
        raise ValueError("give either categories, name to label, or labels, of each token: one of both is needed")
    _check(maps, tokens, mask, labels)
    maps = maps.astype(float)
    words = group_words(tokens)
    kinds = [word_kind(word.text, tagger) for word in words]
    if labels is None:
        named = _by_category(words, kinds, categories, tagger is not None, lemmatiser)
    else:
        named = [max(0, int(np.max(labels[word.tokens]))) for word in words]
    present = sorted({label for label in named if label > 0})
    masks = np.stack([mask == label for label in present])[None] if present else np.zeros((1, 0, *mask.shape), bool)
    covered = dict(zip(present, region_coverage(masks, maps.shape[1:], region)[0], strict=True))
    threshold = otsu_threshold(maps)
    hot = maps > threshold[:, None, None]
    entries, thresholds = [], []
    for label, run in _runs(named):
        if label > 0:
            mention = slice(words[run[0]].first, words[run[-1]].last + 1)
            thresholds.append(threshold[mention].max())
            if covered[label].sum() > 0:
                entries.append(_best(hot[mention], covered[label]))
        else:
            thresholds += [threshold[words[i].tokens].max() for i in run if kinds[i] == "noun"]
    functions = [i for i, kind in enumerate(kinds) if kind == "function" and named[i] == 0]
    dark = (maps <= np.mean(thresholds)).mean((1, 2)) if thresholds else np.empty(0)
    function_iou = [float(dark[words[i].tokens].mean()) for i in functions] if thresholds else []
    object_iou, precision, recall = np.array(entries).reshape(-1, 3).T.tolist()
    return TokenIou(object_iou, function_iou, precision, recall)


def _by_category(
    words: list[Word], kinds: list[str], categories: Mapping[str, int], tagged: bool, lemmatiser: Lemmatiser | None
) -> list[int]:
    """The label of each word, 0 for none: never of function words, and where words are tagged of none without a noun,
    so that "orange" in "an orange cat" is no fruit."""
    labels = category_labels([word.text for word in words], categories, lemmatiser)
    labels = [0 if kind == "function" else label for kind, label in zip(kinds, labels, strict=True)]
    for _, run in _runs(labels):
        if tagged and "noun" not in (kinds[i] for i in run):
            for i in run:
                labels[i] = 0
    return labels


def _runs(labels: list[int]) -> list[tuple[int, list[int]]]:
    """Each run of equal labels, and the places of its words."""
    return [(label, list(run)) for label, run in groupby(range(len(labels)), key=labels.__getitem__)]


def _best(hot: np.ndarray, covered: np.ndarray) -> tuple[float, float, float]:
    """IoU, precision and recall of the map with the largest IoU; a map with nothing above its threshold has 0 of all."""
    inside, area = (hot * covered).sum((1, 2)), hot.sum((1, 2))
    iou = inside / (area + covered.sum() - inside)
    best = iou.argmax()
    return float(iou[best]), float(inside[best] / max(area[best], 1)), float(inside[best] / covered.sum())


def _check(maps: np.ndarray, tokens: Sequence[str], mask: np.ndarray | None, labels: np.ndarray | None) -> None:
    if maps.ndim != 3 or maps.dtype.kind not in "fiu" or not np.isfinite(maps).all() or (maps < 0).any():
        raise ValueError(f"maps of shape {maps.shape}: (tokens, rows, cols) of finite values from 0 on are needed")
    if maps.shape[1] * maps.shape[2] < 2:
        raise ValueError(f"maps of shape {maps.shape}: a grid of at least two cells is needed to find a threshold")
    if len(tokens) != len(maps):
        raise ValueError(f"{len(tokens)} tokens but {len(maps)} maps: a map a token is needed, the end token left out")
    if mask is None or mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise ValueError("the mask isn't (y, x) of whole numbers: the label of each pixel's object is needed")
    if labels is not None and (np.shape(labels) != (len(maps),) or np.asarray(labels).dtype.kind not in "iu"):
        raise ValueError(
            f"labels of shape {np.shape(labels)}: a whole number for each of the {len(maps)} tokens is needed"
        )


def f1_iou(object_iou: float | np.ndarray, function_iou: float | np.ndarray) -> float | np.ndarray:
    """Harmonic mean of the two means, Obj-IoU and Func-IoU; 0 where both are 0."""
    total = np.asarray(object_iou) + function_iou
    return 2 * np.asarray(object_iou) * function_iou / np.where(total == 0, 1, total)


def f1_difference(
    first: tuple[Entries, Entries], second: tuple[Entries, Entries], seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """F1-IoU of the first explainer minus that of the second on the same samples, with its interval as in
    ``token_iou_summary``; both are computed on the same draws. Each explainer: entries of object words, entries of function words."""
    means, drawn = _resampled([*first, *second], seed, level)
    value, draws = (f1_iou(*each[:2]) - f1_iou(*each[2:]) for each in (means, drawn.T))
    return float(value), *_ends(draws, level)


def token_iou_summary(object_iou: Entries, function_iou: Entries, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
    """Rows obj_iou, func_iou and f1_iou of a data set; columns mean, and low and high of a percentile-bootstrap interval.

    object_iou, function_iou: of each of n samples the entries of its words, as lists or (n, words) with NaN for none.
    Samples are drawn again; each time both means over the entries of all samples, and F1 of these, are computed anew.
    """
    means, drawn = _resampled([object_iou, function_iou], seed, level)
    rows = [*zip(means, drawn.T, strict=True), (f1_iou(*means), f1_iou(*drawn.T))]
    table = [(float(mean), *_ends(draws, level)) for mean, draws in rows]
    return pd.DataFrame(table, ["obj_iou", "func_iou", "f1_iou"], ["mean", "low", "high"])


def _ends(draws: np.ndarray, level: float) -> list[float]:
    """Draws in which no sample has an entry don't count; the ends are NaN where there are only such."""
    draws = draws[np.isfinite(draws)]
    return np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]).tolist() if len(draws) else [np.nan, np.nan]


def _resampled(entries: list[Entries], seed: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Means over the entries of all samples, (kinds,), and of each draw of samples, (draws, kinds); NaN for no entry."""
    sizes = {len(of_samples) for of_samples in entries}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"entries of {', '.join(str(len(e)) for e in entries)} samples: the same samples are needed")
    n = sizes.pop()
    sums = np.array([[np.nansum(values) for values in kind] for kind in entries]).T
    counts = np.array([[np.isfinite(values).sum() for values in kind] for kind in entries]).T
    rng, draws = np.random.default_rng(seed), []
    for start in range(0, _draws(level), RESAMPLES_AT_ONCE):
        chosen = rng.integers(n, size=(min(RESAMPLES_AT_ONCE, _draws(level) - start), n))
        draws.append(_ratio(sums[chosen].sum(1), counts[chosen].sum(1)))
    return _ratio(sums.sum(0), counts.sum(0)), np.concatenate(draws)


def _draws(level: float) -> int:
    """How many draws an interval of this level needs, so that some twenty lie beyond each of its ends."""
    return max(RESAMPLES, round(40 / (1 - level)))


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
