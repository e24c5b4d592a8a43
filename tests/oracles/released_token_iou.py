"""The evaluation of token maps that the authors of TAM released, to compare with their numbers, faults included.

Source: Li et al., Token Activation Map, 2025, released code. For new work see ``token_iou``.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from xaikit.measures.token_iou import TokenIou
from xaikit.measures.words import Lemmatiser, Tagger, Word, base_forms, group_words, word_kind

LEVELS = 256
MAPS_AT_ONCE = 16  # bounds the memory: they are enlarged to the size of the mask
_ONE = 2048  # what OpenCV's weights of 11 bits call 1
FUNCTION, OTHER = -2, -3


def released_token_iou(
    maps: np.ndarray,
    tokens: Sequence[str],
    mask: np.ndarray | None,
    categories: Mapping[str, int],
    tagger: Tagger | None = None,
    lemmatiser: Lemmatiser | None = None,
) -> TokenIou:
    """IoU, precision and recall of object words and IoU of function words, as lists, of one answer.

    maps uint8 (m, rows, cols), one a generated token, the end token's included; tokens the same ones as text; mask uint8
    (y, x) of class labels, None where its file is missing; categories as name to label. Equal to the released numbers
    with its tagger and lemmatiser (of nltk); without a tagger nouns in no category don't enter the threshold.

    Faults that are kept: the last category wins that shares a word with the noun; nothing is counted where there are more
    or fewer tokens than maps; a word without ground truth whose label is the previous word's melts the last two entries,
    whosever they are; function words are judged at the grid's resolution by a threshold found at the mask's.
    """
    if maps.dtype != np.uint8 or maps.ndim != 3:
        raise ValueError(f"{maps.dtype} maps of shape {maps.shape}: uint8 (tokens, rows, cols) are needed")
    if mask is not None and (mask.dtype != np.uint8 or mask.ndim != 2):
        raise ValueError(f"{mask.dtype} mask of shape {mask.shape}: uint8 (y, x) of labels is needed")
    if len(tokens) != len(maps):
        return TokenIou([], [], [], [])
    mask = np.zeros(maps.shape[1:], np.uint8) if mask is None else mask
    words = group_words(tokens)
    labels = [_label(word.text, categories, tagger, lemmatiser) for word in words]
    per_token = np.zeros(len(maps), int)
    for word, label in zip(words, labels, strict=True):
        per_token[word.tokens] = label
    threshold, inside, hot, true = _counts(maps, mask, per_token)
    with np.errstate(invalid="ignore"):  # an empty prediction has no precision
        measures = np.stack([inside / (hot + true - inside), inside / hot, inside / true])
    entries: list[np.ndarray] = []
    thresholds = []
    for i, (word, label) in enumerate(zip(words, labels, strict=True)):
        if label > 0 or label == -1:
            thresholds.append(threshold[word.tokens].max())
        if label > 0:
            if true[word.first] > 0:
                entries.append(measures[:, word.first + int(measures[0, word.tokens].argmax())])
            if len(entries) > 1 and labels[i - 1] == label:
                last, before = entries.pop(), entries.pop()
                entries.append(last if last[0] > before[0] else before)
    object_iou, precision, recall = np.array(entries).reshape(-1, 3).T.tolist()
    return TokenIou(object_iou, _function_iou(maps, words, labels, thresholds), precision, recall)


def _label(word: str, categories: Mapping[str, int], tagger: Tagger | None, lemmatiser: Lemmatiser | None) -> int:
    kind = word_kind(word, tagger)
    if kind == "function":
        return FUNCTION
    if kind == "noun":
        return released_label(word, categories, lemmatiser)
    label = -1 if tagger else released_label(word, categories, lemmatiser)  # untagged words may be nouns of a category
    return OTHER if label == -1 else label


def _function_iou(maps: np.ndarray, words: list[Word], labels: list[int], thresholds: list[float]) -> list[float]:
    if not thresholds:
        return []
    below = (maps < sum(thresholds) / len(thresholds)).sum((1, 2)) / maps[0].size
    own = [below[word.tokens].tolist() for word, label in zip(words, labels, strict=True) if label == FUNCTION]
    return [sum(shares) / len(shares) for shares in own]


def _counts(maps: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Threshold, and numbers of pixels hot on the object, hot, and of the object, of each token of a noun, (4, m)."""
    counts = np.zeros((4, len(maps)))
    nouns = np.flatnonzero((labels > 0) | (labels == -1))
    for start in range(0, len(nouns), MAPS_AT_ONCE):
        some = nouns[start : start + MAPS_AT_ONCE]
        large = resized(maps[some], mask.shape)
        threshold = histogram_otsu(large)
        hot, true = large > threshold[:, None, None], mask == labels[some, None, None]
        counts[:, some] = threshold, (hot & true).sum((1, 2)), hot.sum((1, 2)), true.sum((1, 2))
    return counts


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 maps (m, rows, cols) at the size (y, x), to the last bit as OpenCV's bilinear ``resize`` gives them: pixel
    centres at halves, edges repeated, weights of 11 bits, sums cut to 4 and 16 bits less."""
    rows, cols = maps.shape[1:]
    if (rows, cols) == tuple(size):
        return maps
    values = maps.astype(np.int32)
    down, across = _steps(rows, size[0]), _steps(cols, size[1])
    wide = values[:, :, np.clip(across[0], 0, cols - 1)] * _weights(1 - across[1])
    wide += values[:, :, np.clip(across[0] + 1, 0, cols - 1)] * _weights(across[1])
    wide >>= 4
    upper = wide[:, np.clip(down[0], 0, rows - 1)] * _weights(1 - down[1])[:, None] >> 16
    lower = wide[:, np.clip(down[0] + 1, 0, rows - 1)] * _weights(down[1])[:, None] >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _steps(cells: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel the cell at or before its centre, and how far (0 to 1) it is from there to the next."""
    place = ((np.arange(pixels) + 0.5) * (1 / (pixels / cells)) - 0.5).astype(np.float32)
    cell = np.floor(place).astype(int)
    return cell, place - cell.astype(np.float32)


def _weights(share: np.ndarray) -> np.ndarray:
    return np.rint(share.astype(np.float32) * np.float32(_ONE)).astype(np.int32)


def histogram_otsu(maps: np.ndarray) -> np.ndarray:
    """Otsu's threshold (m,) of uint8 maps (m, y, x), to the last bit OpenCV's: 0 for a constant map.

    Levels are taken one after the other, since rounding decides between levels that no pixel lies between.
    """
    m, pixels = len(maps), maps[0].size if len(maps) else 1
    histogram = np.bincount((maps.reshape(m, -1) + LEVELS * np.arange(m)[:, None]).ravel(), minlength=LEVELS * m)
    histogram = histogram.reshape(m, LEVELS)
    share = histogram * (1 / pixels)
    mean = (histogram @ np.arange(LEVELS)) * (1 / pixels)
    nearly_none = np.finfo(np.float32).eps
    below, mean_below, largest, threshold = np.zeros((4, m))
    for level in range(LEVELS):
        mean_below = mean_below * below
        below = below + share[:, level]
        above = 1 - below
        split = (np.minimum(below, above) >= nearly_none) & (np.maximum(below, above) <= 1 - nearly_none)
        low, high = np.where(split, below, 1), np.where(split, above, 1)
        mean_below = np.where(split, (mean_below + level * share[:, level]) / low, mean_below)
        between = low * high * (mean_below - (mean - low * mean_below) / high) ** 2
        better = split & (between > largest)
        largest, threshold = np.where(better, between, largest), np.where(better, level, threshold)
    return threshold


def released_label(word: str, categories: Mapping[str, int], lemmatiser: Lemmatiser | None = None) -> int:
    """The label of a noun in the released evaluation: that of the last category of which any single word is the noun,
    -1 for none. A "dog" is thus a "hot dog" wherever there is that category."""
    forms = base_forms(word, lemmatiser)
    fitting = [
        label
        for name, label in categories.items()
        if any(forms & base_forms(part, lemmatiser) for part in name.split())
    ]
    return fitting[-1] if fitting else -1
