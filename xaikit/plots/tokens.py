"""Figures of a multimodal LLM's answer, token by token: maps over the image, and the context of each token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from PIL.Image import Image

from ..files.checks import check_choices, check_names, check_whole
from ..files.images import read_image
from ..files.names import spelled
from ..measures.maps import by_explainer
from ..measures.words import name_tokens, readable
from .panels import HEAT, LETTERS, TEXT, bare, finished, outline, wrapped

PER_ROW = 7  # panels of a strip
WIDTH = 1.4  # inches, a panel; seven fit into a notebook
BACKDROP = 0.45  # brightness of the image under a map: cold cells leave it dark, as they are in the colour map
MOST_TOKENS = 6  # shown of an answer whose objects aren't known
OVERLAP, RELEVANCE = "rank_overlap", "relevance"


@dataclass
class _Answer:
    """One sample: its image (y, x, rgb), its maps (explainer, token, row, col) without padding, the tokens' texts, the object
    of each token (-1 none), the masks, and where the maps lie on the image."""

    image: np.ndarray
    heat: np.ndarray
    texts: list[str]
    objects: np.ndarray
    masks: np.ndarray
    extent: tuple[float, float, float, float]

    def own(self, token: int) -> np.ndarray:
        """The mask of the object that a token names, empty for none."""
        index = self.objects[token]
        return self.masks[index] if index >= 0 else np.zeros((0, 0), bool)


def token_strip(
    answers: xr.Dataset,
    scenes: xr.Dataset | Sequence | np.ndarray,
    sample: int = 0,
    explainer: str | None = None,
    words: Sequence[str | int] | None = None,
    title: str | None = None,
) -> Figure:
    """The image, and over it the map of each token of the answer, all maps on one scale: what is dim has little heat.
    Colours go by the square root of the heat, so that faint maps are seen beside a hot one.

    Parameters
    ----------
    answers : of ``explain_tokens`` or ``explain_all_tokens``.
    scenes : of the ``inputs`` schema, or all the images, in any form that ``explain_tokens`` takes. The object of the scene that
        a token names is outlined.
    sample : by its place. explainer : which maps; None where there is only one.
    words : the tokens to show, by place or by text (its first place); None for all.

    Raises ValueError for a sample, an explainer or a word that there isn't, and for another number of images.
    """
    answers = by_explainer(answers)
    known = answers.explainer.values.tolist()
    name = _chosen(explainer, known)
    one = _answer(answers, scenes, sample)
    heat = one.heat[known.index(name)]
    places = range(len(one.texts)) if words is None else _places(one, words)
    norm = PowerNorm(0.5, 0, heat.max() or 1.0)
    rows = -(-(1 + len(places)) // PER_ROW)
    figure, axes = _panels(one, rows, -(-(1 + len(places)) // rows), titles=rows)
    first, *others = axes.flat
    bare(first, one.image)
    for mask in one.masks[sorted({index for index in one.objects if index >= 0})]:
        outline(first, mask)
    first.set_title("image", fontsize=TEXT + 2, pad=3, style="italic")
    for axis in others[len(places) :]:
        axis.remove()
    for axis, place in zip(others, places, strict=False):
        _map(axis, one, heat[place], norm)
        outline(axis, one.own(place))
        axis.set_title(readable(one.texts[place]), fontsize=TEXT + 2, pad=3)
    _bar(figure, [first, *others[: len(places)]], norm, f"heat by {spelled(name)} (to the power 0.5)")
    title = f"The map of each token by {name}, all on one scale" if title is None else title
    return finished(figure, title)


def scales_side_by_side(
    answers: xr.Dataset,
    scenes: xr.Dataset | Sequence | np.ndarray,
    sample: int = 0,
    tokens: Sequence[str | int] | None = None,
    explainers: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Some tokens down; across, the image and the maps of one token, on one scale a row, with its own object outlined.

    answers : whose explainers are the scales, such as "1.0" and "1.5", and their mean. tokens : as ``words`` of
    ``token_strip``; None for the last word of each phrase that names an object, or the first 6. explainers : None for all.
    The rest, and what is raised, as in ``token_strip``.
    """
    answers = _of_explainers(answers, explainers)
    one = _answer(answers, scenes, sample)
    places = _telling(one) if tokens is None else _places(one, tokens)
    rows = [(wrapped(readable(one.texts[place]), 10), one, place) for place in places]
    title = "The same tokens at each scale, a row on one scale of heat" if title is None else title
    return _table(answers, rows, title, "row")


def token_cases(
    answers: xr.Dataset,
    scenes: xr.Dataset | Sequence | np.ndarray,
    cases: Mapping[str, tuple[int, str | int]],
    explainers: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """One token of one sample down for each case, such as a success and a failure; across, the image and the map by each
    explainer, each over its own peak since units differ, with the token's own object outlined.

    cases : a label to a sample, by its place, and a token, by place or by text. The rest, and what is raised, as in
    ``scales_side_by_side``; ValueError for no case.
    """
    if not cases:
        raise ValueError("cases={}: give at least one, a label to a sample and a token")
    answers = _of_explainers(answers, explainers)
    rows = []
    for label, (sample, token) in cases.items():
        one = _answer(answers, scenes, sample)
        (place,) = _places(one, [token])
        rows.append((f"{label}\n{readable(one.texts[place])}", one, place))
    title = f"{', '.join(cases)}: one word each, every map over its own peak" if title is None else title
    return _table(answers, rows, title, "map")


def _of_explainers(answers: xr.Dataset, explainers: Sequence[str] | None) -> xr.Dataset:
    """The answers with the maps of these explainers, None for all."""
    answers = by_explainer(answers)
    if explainers is None:
        return answers
    check_names(answers.explainer.values.tolist(), explainers=explainers)
    return answers.sel(explainer=list(explainers))


def _table(answers: xr.Dataset, rows: list[tuple[str, _Answer, int]], title: str, scaled: str) -> Figure:
    """Rows of a label, an answer and the place of a token: the image, and the token's map by each explainer, all maps of a
    "row" on one scale, or every "map" on its own."""
    names = answers.explainer.values.tolist()
    figure, axes = _panels(rows[0][1], len(rows), 1 + len(names), titles=2)
    for (label, one, place), (first, *others) in zip(rows, axes, strict=True):
        bare(first, one.image)
        first.set_ylabel(label, fontsize=TEXT + 1)
        heat = one.heat[:, place]
        peaks = np.broadcast_to(heat.max(None if scaled == "row" else (1, 2)), len(names))
        for axis, values, peak in zip(others, heat, peaks, strict=True):
            _map(axis, one, values, Normalize(0, peak or 1.0))
        for axis in (first, *others):
            outline(axis, one.own(place))
    for axis, name in zip(axes[0], ["image", *names], strict=True):
        axis.set_title(wrapped(spelled(name), 12), fontsize=TEXT + 2, pad=3)
    _bar(figure, list(axes.flat), Normalize(0, 1), f"heat / largest heat of the {scaled}")
    return finished(figure, title)


def context_matrix(
    answers: xr.Dataset, sample: int = 0, what: str = RELEVANCE, explainer: str | None = None, title: str | None = None
) -> Figure:
    """How much each earlier token (across; the prompt's, then the answer's) has to do with each token of the answer (down).

    what : "relevance", the logit of the token at the state of the earlier one, at least 0; or "rank_overlap", of both states'
    likeliest next tokens. explainer : whose ranks are compared; None where there is only one that compares any. A token
    itself and what follows it are no context and stay blank.

    Raises ValueError for a sample or an explainer that there isn't, for one that compares no ranks, and another ``what``.
    """
    check_choices(what=(what, (RELEVANCE, OVERLAP)))
    answers = by_explainer(answers)
    answer = _texts(answers, sample)
    context = _cut(answers.context_text.values[sample])
    values, name = answers[what].isel(sample=sample), None
    if what == OVERLAP:
        able = values.explainer[values.notnull().any(("answer_token", "context_token"))].values.tolist()
        name = _chosen(explainer, able, "compare ranks")
        values = values.sel(explainer=name)
    prompt = len(context) - len(answer)
    context = context[:-1]  # the last token is nothing's context
    shown = values.values[: len(answer), : len(context)].astype(float)
    later = np.arange(len(context)) >= prompt + np.arange(len(answer))[:, None]
    shown[later] = np.nan
    cell = np.clip(9 / len(context), 0.15, 0.27)
    size = (max(4.5, cell * len(context) + 2.2), max(2.5, cell * len(answer) + 1.6))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    peak = 1.0 if what == OVERLAP else (np.nanmax(shown, initial=0) or 1.0)
    colours = mpl.colormaps["viridis"].with_extremes(bad="white")
    drawn = axis.imshow(shown, cmap=colours, vmin=0, vmax=peak, interpolation="nearest", aspect="equal")
    axis.axvline(prompt - 0.5, color="black", linewidth=1.5)
    for start, end, part in ((0, prompt, "prompt"), (prompt, len(context), "answer")):
        if start < end:
            axis.text((start + end - 1) / 2, -0.7, part, ha="center", va="bottom", fontsize=TEXT + 1)
    axis.set_xticks(range(len(context)), [readable(word) for word in context], rotation=90, fontsize=TEXT)
    axis.set_yticks(range(len(answer)), [readable(word) for word in answer], fontsize=TEXT)
    axis.set(xlabel="context token", ylabel="token of the answer")
    unit = "relevance (logit)" if what == RELEVANCE else "rank-biased overlap"
    figure.colorbar(drawn, ax=axis, shrink=0.8, label=unit)
    if title is None:
        title = "Relevance of earlier tokens" if what == RELEVANCE else f"Rank overlap with earlier tokens ({name})"
    return finished(figure, title)


def _answer(answers: xr.Dataset, scenes, sample: int) -> _Answer:
    texts = _texts(answers, sample)
    n = answers.sizes["sample"]
    truth = scenes if isinstance(scenes, xr.Dataset) else None
    images = scenes.image if truth is not None else scenes
    images = images.values if isinstance(images, xr.DataArray) else images
    if isinstance(images, str | Path | Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
        images = [images]
    if len(images) != n:
        raise ValueError(f"{n} answers but {len(images)} images: give the images that were explained, all of them")
    image = np.asarray(read_image(images[sample], sample))
    own, masks = np.full(len(texts), -1), np.zeros((0, *image.shape[:2]), bool)
    if truth is not None and "object_mask" in truth:
        masks = truth.object_mask.values[sample]
        if len(masks) and "object_name" in truth:
            own = name_tokens(np.array([texts]), truth.isel(sample=[sample])).token_object.values[0]
    top, left, bottom, right = answers.region.values[sample] * np.tile(image.shape[:2], 2) - 0.5
    rows, cols = answers.grid.values[sample]
    heat = answers.token_heat.values[sample, :, : len(texts), :rows, :cols]
    return _Answer(image, heat, texts, own, masks, (left, right, bottom, top))


def _texts(answers: xr.Dataset, sample: int) -> list[str]:
    """The tokens of a sample's answer, after checking that there is such a sample and that it has any."""
    check_whole(0, answers.sizes["sample"] - 1, sample=sample)
    texts = _cut(answers.answer_text.values[sample])
    if not texts:
        reason = f" ({answers.error.values[sample]})" if "error" in answers.coords else ""
        raise ValueError(f"sample={sample}: it has no answer to show{reason}")
    return texts


def _cut(texts: np.ndarray) -> list[str]:
    """The texts up to the last that isn't padding."""
    return [str(text) for text in texts[: np.flatnonzero(texts != "").max(initial=-1) + 1]]


def _chosen(explainer: str | None, known: list[str], able: str = "are there") -> str:
    if explainer is None and len(known) == 1:
        return known[0]
    if explainer not in known:
        raise ValueError(f"explainer={explainer!r}: choose one of those that {able}, {', '.join(known) or 'none here'}")
    return explainer


def _places(one: _Answer, wanted: Sequence[str | int]) -> list[int]:
    """The places of tokens given by place or by text."""
    if isinstance(wanted, str) or len(wanted) == 0:
        raise ValueError(f"tokens={wanted!r}: give a list of them, at least one")
    words = [text.strip() for text in one.texts]
    places = []
    for token in wanted:
        if isinstance(token, Integral) and 0 <= token < len(words):
            places.append(int(token))
        elif isinstance(token, str) and token.strip() in words:
            places.append(words.index(token.strip()))
        else:
            raise ValueError(f"token {token!r}: the answer has tokens 0 to {len(words) - 1}: {' '.join(words)}")
    return places


def _telling(one: _Answer) -> list[int]:
    """The last token of each run of tokens that name one object; where no object is known the first few tokens."""
    after = np.append(one.objects[1:], -1)
    places = np.flatnonzero((one.objects >= 0) & (one.objects != after))
    return places.tolist() or list(range(len(one.texts)))[:MOST_TOKENS]


def _panels(one: _Answer, rows: int, cols: int, titles: int):
    """Panels of the image's shape, with room for so many lines of titles, and for a colour bar."""
    height = WIDTH * float(np.clip(one.image.shape[0] / one.image.shape[1], 0.3, 3))
    size = (cols * (WIDTH + 0.04) + 1.1, rows * (height + 0.05) + 0.25 * titles + 0.4)
    figure, axes = plt.subplots(rows, cols, figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    return figure, axes


def _map(axis, one: _Answer, heat: np.ndarray, norm: Normalize) -> None:
    """A map over the darkened image, exactly where its grid lies."""
    height, width = one.image.shape[:2]
    bare(axis)
    axis.imshow(one.image.mean(-1) / 255 * BACKDROP, cmap="gray", vmin=0, vmax=1)
    opacity = np.clip(0.3 + np.asarray(norm(heat)), 0, 1)
    axis.imshow(heat, cmap=HEAT, norm=norm, alpha=opacity, extent=one.extent, interpolation="nearest")
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    if not heat.any():  # else it would look like a plot that failed
        axis.text(0.5, 0.05, "no heat", color="0.75", fontsize=TEXT, ha="center", transform=axis.transAxes)


def _bar(figure: Figure, axes: list, norm: Normalize, label: str) -> None:
    # of its own, since that of a map drawn half through would be pale; as wide on a tall figure as on a flat one
    length = min(0.9, 2.5 / figure.get_figheight())
    aspect = length * figure.get_figheight() / 0.12
    label = wrapped(label, int(1.2 * LETTERS * length * figure.get_figheight()))
    figure.colorbar(ScalarMappable(norm, HEAT), ax=axes, shrink=length, aspect=aspect, label=label)
