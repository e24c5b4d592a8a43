"""Answer: what a multimodal LLM says about the picture, where it looks for each word, and which words are subtracted."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from ..jobs import Job
from ..panels import Drawn, Panel, drawn_truth, over_picture, shaded_words
from ..pixels import BLUE, ORANGE, TRUE_EDGE, blank, colour_bar, enlarged, font, png, relative, upsampled, with_edge
from ..state import State
from ..subject import Subject
from ..workspace import Workspace
from .token_maps import METHODS, Answer, answer, readable

TITLES = {"lens": "logit lens", "msea": "MSEA", "arc": "ARC", "msea+arc": "MSEA and ARC"}
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


def draw(workspace: Workspace, state: State, job: Job | None = None) -> Drawn:
    """The answer's tokens as words, coloured by each map's largest heat; the picture with the object outlined that the
    pressed token names, the token's map over it, and a chart of the earlier words whose maps are subtracted from it.

    ``numbers`` has a row for each patch of each token's map (``part`` "heat", the upper left patch is 0, 0) and for each
    earlier token of the pressed one (``part`` "weight").
    """
    subject = workspace.uncropped(state)
    found = answer(workspace, state, job)
    objects = _objects(found, subject.scene)
    token = _token(state, found, objects)
    method = METHODS[state.msea, state.arc]
    peaks = found.maps[method].max((1, 2))
    panels = {
        **_pictures(workspace, state, subject, found, objects, token, method),
        "context": _earlier_words(found, token, method),
    }
    names = [_name(subject.scene, index) for index in objects]
    labels = map(_label, found.texts, names, peaks, found.log_probability)
    words = shaded_words(found.texts, relative(peaks), state.colours, [token], labels)
    return Drawn(
        panels,
        _numbers(found, token, method),
        words,
        {"answer": _verdict(state, found, subject.scene, objects)},
        legend=(
            colour_bar(state.colours),
            "map: heat as a share of its largest; words: each one's largest heat as a share of the answer's largest; "
            "white: the edge of the mask; blue: that of the object that the word names",
        ),
        chosen={"token": token},
    )


def _pictures(
    workspace: Workspace, state: State, subject: Subject, found: Answer, objects: np.ndarray, token: int, method: str
) -> dict[str, Panel]:
    """The picture itself, and the pressed token's map on the part of it that the map covers."""
    heat, text, index = found.maps[method][token], found.texts[token], objects[token]
    image = workspace.kept(("enlarged", subject.key), lambda: enlarged(subject.image))
    title = state.image or f"scene {state.sample}"
    truth, note = None, f"“{text}” names no object of the scene"
    if subject.scene is None:
        note = "no truth is known of this picture"
    elif index >= 0:
        truth = drawn_truth(subject.scene.object_mask.values[index], image)
        note = f"“{text}” names the {_name(subject.scene, index)}, outlined in blue"
    large, seen = _placed(relative(heat), found.region, image.shape[:2], state.upsampling)
    drawn, agrees, inside = over_picture(state, large, image, truth, seen)
    peak, most = float(heat.max()), float(found.maps[method].max())
    about = f"largest heat {peak:.2g}, {peak / most:.0%} of the answer's largest" if peak > 0 else "no heat above 0"
    about += f"{agrees}, mask {inside.mean():.0%} of the picture"
    if not seen.all():
        about += "; the model doesn't see the rest"
    heading = f"“{text}” by {TITLES[method]}"
    return {
        "image": Panel(
            title, png(with_edge(image, truth, TRUE_EDGE)), note, f"the picture that is asked about; {note}"
        ),
        "map": Panel(heading, png(drawn), about, f"heat of {heading} over the picture: {about}"),
    }


def _placed(
    share: np.ndarray, region: tuple[float, float, float, float], size: tuple[int, int], how: str
) -> tuple[np.ndarray, np.ndarray]:
    """A map of shares (row, col) on a picture of a size (height, width), 0 where it doesn't reach, and where it does."""
    edges = np.round(np.array(region) * np.tile(size, 2)).astype(int)
    top, left, bottom, right = edges.tolist()
    bottom, right = (
        max(bottom, top + 1),
        max(right, left + 1),
    )  # of a very narrow picture it may cover less than a pixel
    covering = np.clip(upsampled(share, (bottom - top, right - left), how), 0, 1)
    large, seen = np.zeros(size, np.float32), np.zeros(size, bool)
    rows, cols = slice(max(top, 0), min(bottom, size[0])), slice(max(left, 0), min(right, size[1]))
    large[rows, cols] = covering[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    seen[rows, cols] = True
    return large, seen


def _numbers(found: Answer, token: int, method: str) -> pd.DataFrame:
    maps = found.maps[method]
    place, row, col = (index.ravel() for index in np.indices(maps.shape))
    texts = np.array(found.texts, object)
    heat = pd.DataFrame(
        {"part": "heat", "token": place, "text": texts[place], "row": row, "col": col, "value": maps.ravel()}
    )
    earlier = np.arange(found.first + token)
    weight = pd.DataFrame(
        {
            "part": "weight", "token": token, "text": found.texts[token], "context": earlier,
            "context_text": [readable(found.context[place]) for place in earlier], "value": found.weights[method][token, earlier],
        }
    )  # fmt: skip
    whole = {name: "Int64" for name in ("row", "col", "context")}  # missing where the other part has none
    return pd.concat([heat, weight], ignore_index=True).astype(whole)


def _objects(found: Answer, scene: xr.Dataset | None) -> np.ndarray:
    """The object (T,) that each token names, -1 for none."""
    if scene is None or scene.object_mask.shape[1:] != scene.image.shape[:2]:
        return np.full(len(found.texts), -1)
    from ...measures.words import name_tokens

    return name_tokens(np.array([found.spelled]), scene.expand_dims("sample")).token_object.values[0]


def _token(state: State, found: Answer, objects: np.ndarray) -> int:
    """The pressed token; else the first that names an object, or the first of all."""
    if state.token is None:
        return int(np.argmax(objects >= 0))
    if state.token >= len(found.texts):
        raise ValueError(f"token={state.token}: the answer has the tokens 0 to {len(found.texts) - 1}")
    return state.token


def _verdict(state: State, found: Answer, scene: xr.Dataset | None, objects: np.ndarray) -> str:
    """What the model said, and how much of what is there it named."""
    text = f"{state.multimodal_model} answers: “{found.text}”"
    if not found.ended:
        text += f" (cut off after {len(found.texts)} tokens)"
    if scene is None:
        return f"{text}."
    there = int((scene.object_group.values >= 0).sum())
    return f"{text}. It names {len(set(objects[objects >= 0].tolist()))} of the {there} objects that are there."


def _name(scene: xr.Dataset | None, index: int) -> str:
    return "" if scene is None or index < 0 else str(scene.object_name.values[index])


def _label(text: str, name: str, peak: float, likely: float) -> str:
    names = f"names the {name}, " if name else ""
    return f"{text}: {names}largest heat {peak:.2g}, probability {np.exp(likely):.0%}"


def _earlier_words(found: Answer, token: int, method: str) -> Panel:
    """Bars of the earlier words with the largest weights for an answer's token under a method, in the order of the text."""
    from ...mllm import PRESETS

    weights = found.weights[method][token]
    earlier = np.flatnonzero(weights > 0)
    largest_first = earlier[np.argsort(-weights[earlier], kind="stable")]
    shown = np.sort(largest_first[:MOST_BARS])
    weighting = PRESETS[method].weighting
    compared = f"Earlier words with which “{found.texts[token]}” is compared"
    title = compared if weighting is None else "Earlier words whose maps are subtracted"
    if not len(shown):
        return Panel(title, _chart([], [], []), "No earlier word has any weight")
    note = WEIGHED_BY[weighting]
    if len(shown) < len(earlier):
        note += f"; the {len(shown)} largest of {len(earlier)}"
    chart = _chart([readable(found.context[place]) for place in shown], weights[shown], shown >= found.first)
    largest = ", ".join(f"“{readable(found.context[place])}” {weights[place]:.0%}" for place in largest_first[:3])
    return Panel(title, chart, f"{note}. Most: {largest}", f"bar chart of earlier words: {largest}")


def _chart(words, shares, of_answer) -> bytes:
    """Horizontal bars, a word each; those of the question and of the answer have different colours."""
    page = Image.fromarray(blank(FINE * (HEAD + ROWS + FOOT), FINE * WIDTH))
    draw, letters, small = ImageDraw.Draw(page), font(FINE * 12), font(FINE * 11)
    bottom, thick = FINE * (HEAD + ROWS), FINE * min(0.8 * ROWS / max(len(words), 1), THICKEST)
    for x, colour, label in ((LEFT - 40, ORANGE, "of the question"), (LEFT + 110, BLUE, "of the answer")):
        draw.rectangle([FINE * x, FINE * 6, FINE * (x + 12), FINE * 18], colour)
        draw.text((FINE * (x + 18), FINE * 12), label, "black", letters, "lm")
    ticks = MaxNLocator(5).tick_values(0, max(shares, default=1))
    most = max(max(shares, default=1), ticks[1])
    for share in ticks[ticks <= most]:
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


def _shortened(word: str) -> str:
    return word if len(word) <= LONGEST else word[: LONGEST - 1] + "…"
