"""Answer: what a multimodal LLM says about the picture, where it looks for each word, and which words are subtracted."""

import numpy as np
import pandas as pd
import xarray as xr

from ..drawing import TRUE_EDGE, colour_bar, coloured, css, enlarged, ink_on, png, relative, upsampled, with_edge
from ..drawn import Drawn, Panel, Word
from ..jobs import Job
from ..state import State
from ..subject import Subject
from ..workspace import Workspace
from .earlier_words import earlier_words
from .panels import drawn_truth, over_picture
from .told import METHODS, Told, answered, readable

TITLES = {"lens": "logit lens", "msea": "MSEA", "arc": "ARC", "msea+arc": "MSEA and ARC"}


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
        "context": earlier_words(told, token, method),
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
        legend=(
            colour_bar(state.colours),
            "map: heat as a share of its largest; words: each one's largest heat as a share of the answer's largest; "
            "white: the edge of the mask; blue: that of the object that the word names",
        ),
        chosen={"token": token},
    )


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
        truth = drawn_truth(subject.scene.object_mask.values[index], image)
        note = f"“{text}” names the {_name(subject.scene, index)}, outlined in blue"
    large, seen = _placed(relative(heat), told.region, image.shape[:2], state.upsampling)
    drawn, agrees, inside = over_picture(state, large, image, truth, seen)
    peak, most = float(heat.max()), float(told.maps[method].max())
    about = f"largest heat {peak:.2g}, {peak / most:.0%} of the answer's largest" if peak > 0 else "no heat above 0"
    about += f"{agrees}, mask {inside.mean():.0%} of the picture"
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
            "context_text": [readable(told.context[place]) for place in earlier], "value": told.weights[method][token, earlier],
        }
    )  # fmt: skip
    whole = {name: "Int64" for name in ("row", "col", "context")}  # missing where the other part has none
    return pd.concat([heat, weight], ignore_index=True).astype(whole)


def _objects(told: Told, scene: xr.Dataset | None) -> np.ndarray:
    """The object (T,) that each token names, -1 for none."""
    if scene is None or scene.object_mask.shape[1:] != scene.image.shape[:2]:
        return np.full(len(told.texts), -1)
    from ...measures.words import name_tokens

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
