"""The earlier words of an answer as a bar chart: what a word is compared with, and whose maps are subtracted from its own."""

import numpy as np
from PIL import Image, ImageDraw

from ..drawing import BLUE, ORANGE, png
from ..drawn import Panel
from .lettering import font
from .told import Told, readable

WEIGHED_BY = {  # the weightings that METHODS use
    None: "The logit lens subtracts nothing; seen is what the earlier words say about this one",
    "relevance": "Weights by relevance (TAM): what the earlier word's state says about this one",
    "irrelevance": "Weights by 1 - rank overlap (ARC): how differently the two words go on",
}
MOST_BARS = 18  # earlier words in the chart; more can't be read
LONGEST = 14  # letters of a word in the chart
WIDTH, HEAD, ROWS, FOOT = 380, 26, 330, 42  # pixels: the picture's width; below each other legend, bars and axis
LEFT, RIGHT = 120, 366  # pixels: where the bars begin, and where the longest may end
THICKEST = 26  # pixels of a bar, where they are few
FINE = 2  # pixels of the picture for one of these, so that lines and letters are sharp


def earlier_words(told: Told, token: int, method: str) -> Panel:
    """Bars of the earlier words with the largest weights for an answer's token under a method, in the order of the text."""
    from ...mllm.steps import PRESETS

    weights = told.weights[method][token]
    earlier = np.flatnonzero(weights > 0)
    largest_first = earlier[np.argsort(-weights[earlier], kind="stable")]
    shown = np.sort(largest_first[:MOST_BARS])
    weighting = PRESETS[method].weighting
    compared = f"Earlier words with which “{told.texts[token]}” is compared"
    title = compared if weighting is None else "Earlier words whose maps are subtracted"
    if not len(shown):
        return Panel(title, _chart([], [], []), "No earlier word has any weight")
    note = WEIGHED_BY[weighting]
    if len(shown) < len(earlier):
        note += f"; the {len(shown)} largest of {len(earlier)}"
    chart = _chart([readable(told.context[place]) for place in shown], weights[shown], shown >= told.first)
    largest = ", ".join(f"“{readable(told.context[place])}” {weights[place]:.0%}" for place in largest_first[:3])
    return Panel(title, chart, f"{note}. Most: {largest}", f"bar chart of earlier words: {largest}")


def _chart(words, shares, of_answer) -> bytes:
    """Horizontal bars, a word each; those of the question and of the answer have different colours."""
    page = Image.new("RGB", (FINE * WIDTH, FINE * (HEAD + ROWS + FOOT)), "white")
    draw, letters, small = ImageDraw.Draw(page), font(FINE * 12), font(FINE * 11)
    bottom, thick = FINE * (HEAD + ROWS), FINE * min(0.8 * ROWS / max(len(words), 1), THICKEST)
    for x, colour, label in ((LEFT - 40, ORANGE, "of the question"), (LEFT + 110, BLUE, "of the answer")):
        draw.rectangle([FINE * x, FINE * 6, FINE * (x + 12), FINE * 18], colour)
        draw.text((FINE * (x + 18), FINE * 12), label, "black", letters, "lm")
    step = _tick(max(shares, default=1))
    most = max(max(shares, default=1), step)
    for share in np.arange(0, most + 1e-9, step):
        x = FINE * (LEFT + (RIGHT - LEFT) * share / most)
        draw.line([(x, FINE * HEAD), (x, bottom + FINE * 4)], "#cccccc", FINE)
        draw.text((x, bottom + FINE * 6), f"{share:.3g}" if most < 0.01 else f"{share:.0%}", "black", small, "ma")
    draw.text((FINE * (LEFT + RIGHT) / 2, bottom + FINE * 22), "share of all weights", "black", letters, "ma")
    for row, (word, share, mine) in enumerate(zip(words, shares, of_answer, strict=True)):
        middle = FINE * (HEAD + ROWS * (row + 0.5) / len(words))
        end = FINE * (LEFT + (RIGHT - LEFT) * float(share) / most)
        draw.rectangle([FINE * LEFT, middle - thick / 2, end, middle + thick / 2], BLUE if mine else ORANGE)
        draw.text((FINE * (LEFT - 6), middle), _shortened(word), "black", letters, "rm")
    draw.line([(FINE * LEFT, FINE * HEAD), (FINE * LEFT, bottom)], "black", FINE)
    return png(np.asarray(page))


def _tick(most: float) -> float:
    """The round number of which at most five steps reach the largest share."""
    size = 10.0 ** np.floor(np.log10(most))
    return next(step * size for step in (0.2, 0.5, 1, 2) if most <= 5 * step * size)


def _shortened(word: str) -> str:
    return word if len(word) <= LONGEST else word[: LONGEST - 1] + "…"
