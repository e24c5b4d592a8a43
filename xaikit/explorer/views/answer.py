"""Answer: what a multimodal LLM says about the picture, where it looks for each word, and which words are subtracted."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from ...measures.words import name_tokens, readable
from ..jobs import Job
from ..panels import Drawn, Panel, drawn_truth, legend, over_picture, shaded_words
from ..pixels import BLUE, ORANGE, TRUE_EDGE, blank, enlarged, font, png, relative, upsampled, with_edge
from ..sources import Subject
from ..state import State
from ..workspace import Workspace

METHODS = {(False, False): "lens", (True, False): "msea", (False, True): "arc", (True, True): "msea+arc"}  # MSEA, ARC
NATIVE = [name for (scaled, _), name in METHODS.items() if not scaled]  # which any model can be explained by
TITLES = {"lens": "logit lens", "msea": "MSEA", "arc": "ARC", "msea+arc": "MSEA and ARC"}
WEIGHED_BY = {  # the weightings that METHODS use
    None: "The logit lens subtracts nothing; seen is what the earlier words say about this one",
    "relevance": "Weights by relevance (TAM): what the earlier word's state says about this one",
    "irrelevance": "Weights by 1 - rank overlap (ARC): how differently the two words go on",
}
LEGEND = (
    "map: heat as a share of its largest; words: each one's largest heat as a share of the answer's largest; white: the edge "
    "of the mask; blue: that of the object that the word names"
)
MOST_BARS, LONGEST = 18, 14  # earlier words in the chart, and letters of one; more can't be read
# pixels: the chart's width; below each other legend, bars and axis
WIDTH, HEAD, ROWS, FOOT = 380, 26, 330, 42
LEFT, RIGHT, THICKEST = 120, 366, 26  # pixels: where the bars begin and the longest may end; a bar, where they are few
FINE = 2  # pixels of the picture for one of these, so that lines and letters are sharp


@dataclass(frozen=True)
class Answer:
    """An answer of T tokens and its C context tokens (the question's, then its own), explained by all of ``METHODS``, or by those
    of the picture's own size where the model can't take it at others; ``lacking`` says why.

    spelled, context : the tokens' texts, with a blank before those that start a word. maps : by method (T, rows, cols), at
    least 0. region : top, left, bottom and right of what they cover, as shares of the picture's height and width.
    log_probability : (T,), in nat. weights : by method (T, C), how much of each earlier token's map is subtracted as a share
    of all, 0 for the token itself, those after it, and those of its spelling.
    """

    text: str
    ended: bool
    spelled: tuple[str, ...]
    context: tuple[str, ...]
    maps: dict[str, np.ndarray]
    region: tuple[float, float, float, float]
    log_probability: np.ndarray
    weights: dict[str, np.ndarray]
    lacking: str = ""

    @property
    def texts(self) -> list[str]:
        """The answer's tokens as they can be read."""
        return [readable(text) for text in self.spelled]

    @property
    def first(self) -> int:
        """The place of the answer's first token in the context."""
        return len(self.context) - len(self.spelled)


def draw(workspace: Workspace, state: State, job: Job | None = None) -> Drawn:
    """The answer's tokens as words, coloured by each map's largest heat; the picture with the object outlined that the
    pressed token names, the token's map over it, and a chart of the earlier words whose maps are subtracted from it.

    ``numbers`` has a row for each patch of each token's map (``part`` "heat", the upper left patch is 0, 0) and for each
    earlier token of the pressed one (``part`` "weight").
    """
    subject, found = workspace.uncropped(state), answer(workspace, state, job)
    scene, method = subject.scene, METHODS[state.msea and not found.lacking, state.arc]
    objects = np.full(len(found.texts), -1)
    if scene is not None and scene.object_mask.shape[1:] == scene.image.shape[:2]:
        objects = name_tokens(np.array([found.spelled]), scene.expand_dims("sample")).token_object.values[0]
    if state.token is not None and state.token >= len(found.texts):
        raise ValueError(f"token={state.token}: the answer has the tokens 0 to {len(found.texts) - 1}")
    token = int(np.argmax(objects >= 0)) if state.token is None else state.token  # 0 where none names an object
    peaks = found.maps[method].max((1, 2))
    names = ["" if index < 0 else str(scene.object_name.values[index]) for index in objects]
    labels = [
        f"{text}: {f'names the {name}, ' if name else ''}largest heat {peak:.2g}, probability {np.exp(likely):.0%}"
        for text, name, peak, likely in zip(found.texts, names, peaks, found.log_probability, strict=True)
    ]
    said = f"{state.multimodal_model} answers: “{found.text}”"
    said += "" if found.ended else f" (cut off after {len(found.texts)} tokens)"
    if scene is not None and scene.sizes["object"]:
        there = int((scene.object_group.values >= 0).sum())
        said += f". It names {len({*objects[objects >= 0].tolist()})} of the {there} objects that are there"
    said += f". MSEA can't be shown: {found.lacking}" if found.lacking else ""
    truth = None if objects[token] < 0 else scene.object_mask.values[objects[token]]
    pictures = _pictures(workspace, state, subject, found, token, method, names[token], truth)
    return Drawn(
        pictures | {"context": _earlier_words(found, token, method)},
        _numbers(found, token, method),
        shaded_words(found.texts, relative(peaks), state.colours, [token], labels),
        {"answer": f"{said}."},
        legend=legend(state.colours, LEGEND),
        chosen={"token": token},
    )


# what the model says


def answer(workspace: Workspace, state: State, job: Job | None = None) -> Answer:
    """What the state's multimodal LLM says to its question about its picture, explained by all of ``METHODS`` that can.

    All of them come from the same passes, so that switching between them needs nothing new. Raises as ``explain_all_tokens``
    and ``load_mllm``, with the prompt called a question.
    """
    source = workspace.uncropped(state)
    key = ("answer", state.multimodal_model, state.device, source.key, state.question)
    return workspace.cached(key, lambda job: _explained(workspace, state, source, job), job)


def _explained(workspace: Workspace, state: State, subject: Subject, job: Job) -> Answer:
    mllm = workspace.mllm(state, job)
    from ...mllm import explain_all_tokens

    job.at("answering, and explaining each word of the answer")
    lacking = ""
    for names in (list(METHODS.values()), NATIVE):
        try:
            with job.watching(*mllm.decoder.layers), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a cut answer, which the picture of it says
                found = explain_all_tokens(mllm, [subject.source], state.question, names)
                break
        except ValueError as error:
            told = _about_question(str(error))
            if names is NATIVE:
                raise ValueError(told) from error
            lacking = told.partition("; use ")[0]  # the scales aren't chosen here
    one = found.isel(sample=0)
    count = int((one.answer_id.values >= 0).sum())
    texts = one.context_text.values
    context = texts[: np.flatnonzero(texts != "").max(initial=-1) + 1]  # up to the last that isn't padding
    return Answer(
        text=str(one.answer.item()),
        ended=bool(one.ended),
        spelled=tuple(map(str, one.answer_text.values[:count])),
        context=tuple(map(str, context)),
        maps={name: one.token_heat.sel(explainer=name).values[:count] for name in names},
        region=tuple(one.region.values.tolist()),
        log_probability=one.log_probability.values[0, :count],
        weights={name: _weights(one, name, count, len(context)) for name in names},
        lacking=lacking,
    )


def _weights(one: xr.Dataset, method: str, count: int, contexts: int) -> np.ndarray:
    """``Answer.weights`` of a method; those of relevance for the logit lens, which subtracts nothing."""
    import torch

    from ...mllm import PRESETS
    from ...mllm.numerics import context_weights

    text = one.context_text.values[:contexts]
    own = np.arange(contexts - count, contexts)  # the answer's tokens are the last
    allowed = (np.arange(contexts) < own[:, None]) & (text[own][:, None] != text)
    overlap = np.nan_to_num(one.rank_overlap.sel(explainer=method).values[:count, :contexts])
    given = map(torch.from_numpy, (one.relevance.values[:count, :contexts], overlap, allowed))
    found = context_weights(PRESETS[method].weighting or "relevance", *given).numpy()
    total = found.sum(1, keepdims=True)
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0)


def _about_question(text: str) -> str:
    """An error of the library in the words of this view: one picture, no control of the scale, a question instead of a prompt."""
    for start in ("no sample can be explained; the first one: ", "sample 0: ", "scale=1.0: "):
        text = text.removeprefix(start)
    text = text.replace("a smaller scale, such as scales=(1,), or a shorter", "a shorter")
    # what follows a prompt in brackets is the user's own text, and stays
    return text.replace("prompt", "question", 1 if text.startswith("the prompt (") else -1)


# pictures and numbers


def _pictures(
    workspace: Workspace, state: State, subject: Subject, found: Answer, token: int, method: str, name: str,
    truth: np.ndarray | None,
) -> dict[str, Panel]:  # fmt: skip
    """The picture itself, and the pressed token's map on the part of it that the map covers. name, truth : of the object that
    the token names."""
    heat, text = found.maps[method][token], found.texts[token]
    image = workspace.kept(("enlarged", subject.key), lambda: enlarged(subject.image))
    truth = drawn_truth(truth, image)
    note = f"“{text}” names the {name}, outlined in blue" if name else f"“{text}” names no object of the scene"
    if subject.scene is None:
        note = "no truth is known of this picture"
    large, seen = _placed(relative(heat), found.region, image.shape[:2], state.upsampling)
    drawn, agrees, inside = over_picture(state, large, image, truth, seen)
    peak, most = float(heat.max()), float(found.maps[method].max())
    about = f"largest heat {peak:.2g}, {peak / most:.0%} of the answer's largest" if peak > 0 else "no heat above 0"
    about += f"{agrees}, mask {inside.mean():.0%} of the picture"
    about += "" if seen.all() else "; the model doesn't see the rest"
    heading, outlined = f"“{text}” by {TITLES[method]}", png(with_edge(image, truth, TRUE_EDGE))
    alt, title = f"the picture that is asked about; {note}", state.image or f"scene {state.sample}"
    return {
        "image": Panel(title, outlined, note, alt),
        "map": Panel(heading, png(drawn), about, f"heat of {heading} over the picture: {about}"),
    }


def _placed(
    share: np.ndarray, region: tuple[float, float, float, float], size: tuple[int, int], how: str
) -> tuple[np.ndarray, np.ndarray]:
    """A map of shares (row, col) on a picture of a size (height, width), 0 where it doesn't reach, and where it does."""
    top, left, bottom, right = np.round(np.array(region) * np.tile(size, 2)).astype(int).tolist()
    # of a very narrow picture it may cover less than a pixel
    height, width = max(bottom - top, 1), max(right - left, 1)
    covering = np.clip(upsampled(share, (height, width), how), 0, 1)
    large, seen = np.zeros(size, np.float32), np.zeros(size, bool)
    rows, cols = slice(max(top, 0), min(top + height, size[0])), slice(max(left, 0), min(left + width, size[1]))
    large[rows, cols] = covering[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    seen[rows, cols] = True
    return large, seen


def _numbers(found: Answer, token: int, method: str) -> pd.DataFrame:
    maps, earlier = found.maps[method], np.arange(found.first + token)
    place, row, col = (index.ravel() for index in np.indices(maps.shape))
    texts = np.array(found.texts, object)[place]
    heat = {"part": "heat", "token": place, "text": texts, "row": row, "col": col, "value": maps.ravel()}
    weight = {"part": "weight", "token": token, "text": found.texts[token], "context": earlier}
    weight["context_text"] = [readable(found.context[place]) for place in earlier]
    weight["value"] = found.weights[method][token, earlier]
    whole = {name: "Int64" for name in ("row", "col", "context")}  # missing where the other part has none
    return pd.concat([pd.DataFrame(heat), pd.DataFrame(weight)], ignore_index=True).astype(whole)


def _earlier_words(found: Answer, token: int, method: str) -> Panel:
    """Bars of the earlier words with the largest weights for an answer's token under a method, in the order of the text."""
    from ...mllm import PRESETS

    weights, weighting = found.weights[method][token], PRESETS[method].weighting
    earlier = np.flatnonzero(weights > 0)
    largest_first = earlier[np.argsort(-weights[earlier], kind="stable")]
    shown = np.sort(largest_first[:MOST_BARS])
    title = "Earlier words whose maps are subtracted"
    if weighting is None:
        title = f"Earlier words with which “{found.texts[token]}” is compared"
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
        name = word if len(word) <= LONGEST else word[: LONGEST - 1] + "…"
        draw.text((FINE * (LEFT - 6), middle), name, "black", letters, "rm")
    draw.line([(FINE * LEFT, FINE * HEAD), (FINE * LEFT, bottom)], "black", FINE)
    return png(np.asarray(page))
