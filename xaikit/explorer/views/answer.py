"""Answer: what a multimodal LLM says about the picture, where it looks for each word, and which words are subtracted."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from ..drawing import (
    TRUE_EDGE,
    colour_bar,
    coloured,
    css,
    enlarged,
    figure_png,
    ink_on,
    laid_over,
    png,
    relative,
    upsampled,
    with_edge,
)
from ..drawn import Drawn, Panel, Word
from ..jobs import Job
from ..state import State
from ..subject import Subject
from ..workspace import Workspace
from .compare import iou

METHODS = {(False, False): "lens", (True, False): "msea", (False, True): "arc", (True, True): "msea+arc"}  # MSEA, ARC
TITLES = {"lens": "logit lens", "msea": "MSEA", "arc": "ARC", "msea+arc": "MSEA and ARC"}
WEIGHED_BY = {  # the weightings that METHODS use
    None: "The logit lens subtracts nothing; seen is what the earlier words say about this one",
    "relevance": "Weights by relevance (TAM): what the earlier word's state says about this one",
    "irrelevance": "Weights by 1 - rank overlap (ARC): how differently the two words go on",
}
MOST_BARS = 18  # earlier words in the chart; more can't be read
OF_ANSWER, OF_QUESTION = "#0072b2", "#e69f00"


@dataclass(frozen=True)
class Told:
    """An answer of T tokens and its C context tokens (the question's, then its own), explained by all of ``METHODS``.

    spelled, context : the tokens' texts, with a blank before those that start a word. maps : by method (T, rows, cols), at
    least 0. region : top, left, bottom and right of what they cover, as shares of the picture's height and width.
    log_probability : (T,), in nat. weights : by method (T, C), how much of each earlier token's map is subtracted as a share
    of all, 0 for the token itself, those after it, and those of its spelling.
    """

    answer: str
    ended: bool
    spelled: tuple[str, ...]
    context: tuple[str, ...]
    maps: dict[str, np.ndarray]
    region: tuple[float, float, float, float]
    log_probability: np.ndarray
    weights: dict[str, np.ndarray]

    @property
    def texts(self) -> list[str]:
        """The answer's tokens as they can be read."""
        return [_readable(text) for text in self.spelled]

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
    subject = workspace.uncropped(state)
    told = answered(workspace, state, job)
    objects = _objects(told, subject.scene)
    token = _token(state, told, objects)
    method = METHODS[state.msea, state.arc]
    peaks = told.maps[method].max((1, 2))
    panels = {
        **_pictures(workspace, state, subject, told, objects, token, method),
        "context": _context(told, token, method),
    }
    names = [_name(subject.scene, index) for index in objects]
    share = relative(peaks)
    words = tuple(
        Word(text, css(colour), ink_on(colour), place == token, _said(text, name, peak, likely))
        for place, (text, name, colour, peak, likely) in enumerate(
            zip(told.texts, names, coloured(share, state.colours), peaks, told.log_probability, strict=True)
        )
    )
    return Drawn(
        panels,
        _numbers(told, token, method),
        words,
        {"answer": _verdict(state, told, subject.scene, objects)},
        {"token": (0, len(words) - 1)},
        (
            colour_bar(state.colours),
            "map: heat as a share of its largest; words: each one's largest heat as a share of the answer's largest",
        ),
        chosen={"token": token},
    )


def answered(workspace: Workspace, state: State, job: Job | None = None) -> Told:
    """What the state's multimodal LLM says to its question about its picture, explained by all of ``METHODS``.

    All of them come from the same passes, so that switching between them needs nothing new. Raises as ``explain_all_tokens``
    and ``load_mllm``, with the prompt called a question.
    """
    source = workspace.uncropped(state)
    key = ("answer", state.multimodal_model, state.device, source.key, state.question)
    return workspace.cached(key, lambda job: _explained(workspace, state, source, job), job)


def _explained(workspace: Workspace, state: State, subject: Subject, job: Job) -> Told:
    mllm = workspace.mllm(state, job)
    from ...mllm import explain_all_tokens

    job.at("answering, and explaining each word of the answer")
    with job.watching(*mllm.model.model.language_model.layers):
        try:
            found = explain_all_tokens(mllm, [subject.source], state.question, list(METHODS.values()))
        except ValueError as error:
            raise ValueError(_about_question(str(error))) from error
    one = found.isel(sample=0)
    count = int((one.answer_id.values >= 0).sum())
    context = _cut(one.context_text.values)
    weights = {name: _weights(one, name, count, len(context)) for name in METHODS.values()}
    return Told(
        answer=str(one.answer.item()),
        ended=bool(one.ended),
        spelled=tuple(map(str, one.answer_text.values[:count])),
        context=tuple(context),
        maps={name: one.token_heat.sel(explainer=name).values[:count] for name in METHODS.values()},
        region=tuple(one.region.values.tolist()),
        log_probability=one.log_probability.values[0, :count],
        weights=weights,
    )


def _weights(one: xr.Dataset, method: str, count: int, contexts: int) -> np.ndarray:
    """``Told.weights`` of a method; those of relevance for the logit lens, which subtracts nothing."""
    import torch

    from ...mllm import PRESETS
    from ...mllm.interference import context_weights

    text = one.context_text.values[:contexts]
    own = np.arange(contexts - count, contexts)  # the answer's tokens are the last
    before = np.arange(contexts) < own[:, None]
    allowed = before & (text[own][:, None] != text)
    overlap = np.nan_to_num(one.rank_overlap.sel(explainer=method).values[:count, :contexts])
    relevance, overlap, allowed = (
        torch.from_numpy(values) for values in (one.relevance.values[:count, :contexts], overlap, allowed)
    )
    found = context_weights(PRESETS[method].weighting or "relevance", relevance, overlap, allowed).numpy()
    total = found.sum(1, keepdims=True)
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0)


def _pictures(
    workspace: Workspace, state: State, subject: Subject, told: Told, objects: np.ndarray, token: int, method: str
) -> dict[str, Panel]:
    """The picture itself, and the pressed token's map on the part of it that the map covers."""
    heat, text, index = told.maps[method][token], told.texts[token], objects[token]
    image = workspace.kept(("enlarged", subject.key), lambda: enlarged(subject.image))
    title = state.image or f"scene {state.sample}"
    truth, note = None, f"“{text}” names no object of the scene"
    if subject.scene is None:
        note = "no truth is known of this picture"
    elif index >= 0:
        truth = upsampled(subject.scene.object_mask.values[index], image.shape[:2]) > 0.5
        note = f"“{text}” names the {_name(subject.scene, index)}, outlined in blue"
    large, seen = _placed(relative(heat), told.region, image.shape[:2], state.upsampling)
    inside = (large >= state.threshold) & (large > 0)
    drawn = image.copy()
    drawn[seen] = laid_over(image[seen], coloured(large[seen], state.colours), state.opacity)
    peak, most = float(heat.max()), float(told.maps[method].max())
    about = f"largest heat {peak:.2g}, {peak / most:.0%} of the answer's largest" if peak > 0 else "no heat above 0"
    if truth is not None:
        about += f", IoU {iou(inside, truth):.2f}"
        drawn = with_edge(drawn, truth, TRUE_EDGE)
    if state.mask:
        drawn = with_edge(drawn, inside)
    about += f", mask {inside.mean():.0%} of the picture"
    if not seen.all():
        about += "; the model doesn't see the rest"
    plain = image if truth is None else with_edge(image, truth, TRUE_EDGE)
    heading = f"“{text}” by {TITLES[method]}"
    return {
        "image": Panel(title, png(plain), note, f"the picture that is asked about; {note}"),
        "map": Panel(heading, png(drawn), about, f"heat of {heading} over the picture: {about}"),
    }


def _placed(
    share: np.ndarray, region: tuple[float, float, float, float], size: tuple[int, int], how: str
) -> tuple[np.ndarray, np.ndarray]:
    """A map of shares (row, col) on a picture of a size (height, width), 0 where it doesn't reach, and where it does."""
    edges = np.round(np.array(region) * np.tile(size, 2)).astype(int)
    top, left, bottom, right = edges.tolist()
    covering = np.clip(upsampled(share, (bottom - top, right - left), how), 0, 1)
    large, seen = np.zeros(size, np.float32), np.zeros(size, bool)
    rows, cols = slice(max(top, 0), min(bottom, size[0])), slice(max(left, 0), min(right, size[1]))
    large[rows, cols] = covering[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    seen[rows, cols] = True
    return large, seen


def _context(told: Told, token: int, method: str) -> Panel:
    from ...mllm import PRESETS

    weights = told.weights[method][token]
    earlier = np.flatnonzero(weights > 0)
    shown = np.sort(earlier[np.argsort(-weights[earlier], kind="stable")][:MOST_BARS])
    weighting = PRESETS[method].weighting
    said = f"what “{told.texts[token]}” is compared with" if weighting is None else "whose maps are subtracted"
    note = WEIGHED_BY[weighting]
    if len(shown) < len(earlier):
        note += f"; the {len(shown)} largest of {len(earlier)}"
    if not len(shown):
        return Panel(f"Earlier words: {said}", _chart((), (), ()), "No earlier word has any weight")
    chart = _chart(
        tuple(_readable(told.context[place]) for place in shown),
        tuple(weights[shown].round(4).tolist()),
        tuple((shown >= told.first).tolist()),
    )
    most = earlier[np.argsort(-weights[earlier], kind="stable")[:3]]
    largest = ", ".join(f"“{_readable(told.context[place])}” {weights[place]:.0%}" for place in most)
    return Panel(f"Earlier words: {said}", chart, f"{note}. Most: {largest}", f"bar chart of earlier words: {largest}")


@lru_cache(256)
def _chart(words: tuple[str, ...], shares: tuple[float, ...], of_answer: tuple[bool, ...]) -> bytes:
    """Horizontal bars, a word each, in the order of the text."""
    figure = Figure(figsize=(3.8, 3.8), layout="constrained")
    axis = figure.subplots()
    for belongs, colour, label in ((False, OF_QUESTION, "of the question"), (True, OF_ANSWER, "of the answer")):
        places = [place for place, mine in enumerate(of_answer) if mine is belongs]
        if places:
            axis.barh(places, [shares[place] for place in places], color=colour, label=label)
    # the same word may come twice, so that words can't be the places themselves
    axis.set_yticks(range(len(words)), [_shortened(word) for word in words], fontsize=9, parse_math=False)
    axis.set_ylim(max(len(words), 6) - 0.4, -0.6)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.tick_params(axis="x", labelsize=9)
    axis.set_xlabel("share of all weights", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    if words:
        figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure_png(figure)


def _numbers(told: Told, token: int, method: str) -> pd.DataFrame:
    maps = told.maps[method]
    place, row, col = (index.ravel() for index in np.indices(maps.shape))
    texts = np.array(told.texts, object)
    heat = pd.DataFrame(
        {"part": "heat", "token": place, "text": texts[place], "row": row, "col": col, "value": maps.ravel()}
    )
    earlier = np.arange(told.first + token)
    weight = pd.DataFrame(
        {
            "part": "weight", "token": token, "text": told.texts[token], "context": earlier,
            "context_text": [_readable(told.context[place]) for place in earlier], "value": told.weights[method][token, earlier],
        }
    )  # fmt: skip
    whole = {name: "Int64" for name in ("row", "col", "context")}  # missing where the other part has none
    return pd.concat([heat, weight], ignore_index=True).astype(whole)


def _objects(told: Told, scene: xr.Dataset | None) -> np.ndarray:
    """The object (T,) that each token names, -1 for none."""
    if scene is None or scene.object_mask.shape[1:] != scene.image.shape[:2]:
        return np.full(len(told.texts), -1)
    from ...metrics.token_words import name_tokens

    return name_tokens(np.array([told.spelled]), scene.expand_dims("sample")).token_object.values[0]


def _token(state: State, told: Told, objects: np.ndarray) -> int:
    """The pressed token; else the first that names an object, or the first of all."""
    if state.token is None:
        return int(np.argmax(objects >= 0))
    if state.token >= len(told.texts):
        raise ValueError(f"token={state.token}: the answer has the tokens 0 to {len(told.texts) - 1}")
    return state.token


def _verdict(state: State, told: Told, scene: xr.Dataset | None, objects: np.ndarray) -> str:
    """What the model said, and how much of what is there it named."""
    text = f"{state.multimodal_model} answers: “{told.answer}”"
    if not told.ended:
        text += f" (cut off after {len(told.texts)} tokens)"
    if scene is None:
        return f"{text}."
    there = int((scene.object_group.values >= 0).sum())
    return f"{text}. It names {len(set(objects[objects >= 0].tolist()))} of the {there} objects that are there."


def _name(scene: xr.Dataset | None, index: int) -> str:
    return "" if scene is None or index < 0 else str(scene.object_name.values[index])


def _said(text: str, name: str, peak: float, likely: float) -> str:
    names = f"names the {name}, " if name else ""
    return f"{text}: {names}largest heat {peak:.2g}, probability {np.exp(likely):.0%}"


def _about_question(text: str) -> str:
    """An error of the library in the words of this view: one picture, and a question instead of a prompt."""
    text = text.removeprefix("no sample can be explained; the first one: ").removeprefix("sample 0: ")
    text = text.removeprefix("scale=1.0: ").replace(
        "a smaller scale or a shorter", "a shorter"
    )  # there is no such control
    if text.startswith("the prompt ("):  # what follows is the user's own text, and stays
        return text.replace("the prompt", "the question", 1)
    return text.replace("prompt", "question")


def _cut(texts: np.ndarray) -> list[str]:
    """The texts up to the last that isn't padding."""
    return [str(text) for text in texts[: np.flatnonzero(texts != "").max(initial=-1) + 1]]


def _readable(text: str) -> str:
    """A token without the blank that starts a word; blanks and line breaks alone are spelled out."""
    return text.strip() or repr(text)[1:-1].replace(" ", "\u2423")


def _shortened(word: str, most: int = 14) -> str:
    return word if len(word) <= most else word[: most - 1] + "…"
