"""Resonance: how the map of each word changes as picture and prompt refine each other, and what its course is made of."""

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from ..drawing import TRUE_EDGE, colour_bar, coloured, laid_over, png, upsampled, with_edge
from ..drawn import Drawn, Panel, Spot, Word
from ..jobs import Job
from ..state import State
from ..workspace import Workspace
from . import hierarchy, modes
from .lettering import font
from .panels import drawn_truth, iou
from .waves import Wave, wave

FRAMES, ACROSS = 12, 6  # pictures of the filmstrip, and in a row of it
FILM, BETWEEN, CAPTION = 760, 4, 20  # pixels: the strip's width, between its pictures, below each


def draw(workspace: Workspace, state: State, job: Job | None = None) -> Drawn:
    """The ``map`` of the word at the time, the ``filmstrip`` of its maps, the ``plane`` of its modes' eigenvalues, ``mode
    size`` and ``mode angle``, the ``tree`` of concepts and the ``concept``.

    What can be pressed on a panel stands in ``choices``, spot by spot: the times of the filmstrip, the modes of the plane,
    the concepts of the tree. ``numbers`` has the rows of all panels, told apart by ``panel``. Raises ValueError for a word,
    time, mode or concept that isn't there.
    """
    found = wave(workspace, state, job)
    last = len(found.maps) - 1
    if state.word >= len(found.words):
        raise ValueError(f"word={state.word}: the prompt has the words 0 to {len(found.words) - 1}")
    time = last if state.time is None else state.time
    if time > last:
        raise ValueError(f"time={time}: the maps are those of the iterations 0 to {last}")
    truth = drawn_truth(workspace.subject(state, job).named, found.image)
    concept = hierarchy.chosen_concept(found, state)
    plane, modes_of_spots = modes.plane(workspace, found, state)
    panels = {
        "map": _map(found, state, time, truth),
        "filmstrip": _filmstrip(workspace, found, state, time),
        "plane": plane,
        **modes.patterns(found, state, truth),
        "tree": hierarchy.tree(workspace, found, concept),
        "concept": hierarchy.concept(found, concept, truth),
    }
    least, largest = _scale(found, state.word)
    choices = {
        "time": (0, last),
        "filmstrip": _times(found),
        "plane": modes_of_spots,
        "tree": [] if concept is None else list(found.tree),
    }
    words = tuple(
        Word(text, pressed=place == state.word, label=f"the maps of {text}") for place, text in enumerate(found.words)
    )
    return Drawn(
        {name: panel for name, panel in panels.items() if panel is not None},
        _with_iou(workspace.kept(("numbers", found, state.word), lambda: _numbers(found, state.word)), found, truth),
        words,
        choices=choices,
        legend=(
            colour_bar(state.colours, "low", "high"),  # without numbers, so that every word has the same
            f"heat of “{found.words[state.word]}”, from the least ({least:.3g}) to the largest ({largest:.3g}) of its maps",
        ),
        chosen={
            name: value
            for name, value in (("time", time), ("concept", concept))
            if getattr(state, name) is None and value is not None
        },
    )


def _map(wave: Wave, state: State, time: int, truth: np.ndarray | None) -> Panel:
    """The word's map at a time over the picture."""
    course, shape = wave.maps[:, state.word], wave.image.shape[:2]
    heat = course[time]
    share = np.clip(upsampled(_share(wave, state.word)[time], shape, state.upsampling), 0, 1)
    drawn = laid_over(wave.image, coloured(share, state.colours), state.opacity)
    row, col = np.unravel_index(int(heat.argmax()), heat.shape)
    note = f"t = {time} of {len(course) - 1}, largest heat {heat.max():.3g}"
    if time:
        note += f", step from t = {time - 1}: {np.linalg.norm(heat - course[time - 1]):.2g}"
    if truth is not None:
        drawn = with_edge(drawn, truth, TRUE_EDGE)
        note += "; named objects outlined in blue"
    alt = f"map of {wave.words[state.word]} at iteration {time}, hottest at row {row + 1}, column {col + 1}"
    return Panel(f"“{wave.words[state.word]}” at t = {time}", png(drawn), note, alt)


def _filmstrip(workspace: Workspace, wave: Wave, state: State, time: int) -> Panel:
    """Some of the word's maps; the last that isn't after the time is pressed."""
    times, (width, height) = _times(wave), _frame(wave)
    sight = state.word, state.opacity, state.colours, state.upsampling
    strip = workspace.kept(("filmstrip", wave, *sight), lambda: strip_png(wave, *sight))
    full = _size(wave)
    pressed = max(each for each in times if each <= time)
    spots = [
        Spot(x / full[0], y / full[1], width / full[0], height / full[1], _caption(wave, each), each == pressed)
        for each, (x, y) in zip(times, _corners(wave), strict=True)
    ]
    if isinstance(wave.starts, str):
        note = f"No phases: {wave.starts}."
    elif len(wave.starts) == 1:
        note = "All words taken together, their course is of one phase."
    else:
        begins = " and ".join(f"t = {start}" for start in wave.starts[1:])
        note = f"All words taken together, a new phase begins at {begins}: there their course changes most."
    return Panel(f"maps of “{wave.words[state.word]}” over time", strip, note, spots=tuple(spots))


def strip_png(wave: Wave, word: int, opacity: float, colours: str, upsampling: str) -> bytes:
    """The word's maps at the times of the filmstrip, and below each when it is."""
    width, height = _frame(wave)
    small = np.asarray(Image.fromarray(wave.image).resize((width, height), Image.LANCZOS))
    page = Image.new("RGB", _size(wave), "white")
    letters, shares = ImageDraw.Draw(page), _share(wave, word)
    for time, (x, y) in zip(_times(wave), _corners(wave), strict=True):
        share = np.clip(upsampled(shares[time], (height, width), upsampling), 0, 1)
        page.paste(Image.fromarray(laid_over(small, coloured(share, colours), opacity)), (x, y))
        letters.text((x + width // 2, y + height + 2), _caption(wave, time), "black", font(13), "ma")
    return png(np.asarray(page))


def _times(wave: Wave) -> list[int]:
    """The times of the filmstrip, evenly from the first to the last."""
    last = len(wave.maps) - 1
    return [int(time) for time in np.unique(np.linspace(0, last, min(FRAMES, last + 1)).round())]


def _frame(wave: Wave) -> tuple[int, int]:
    """Width and height of a picture of the filmstrip."""
    width = (FILM - BETWEEN * (ACROSS - 1)) // ACROSS
    return width, round(width * wave.image.shape[0] / wave.image.shape[1])


def _size(wave: Wave) -> tuple[int, int]:
    rows = -(-len(_times(wave)) // ACROSS)
    return FILM, rows * (_frame(wave)[1] + CAPTION)


def _corners(wave: Wave) -> list[tuple[int, int]]:
    width, height = _frame(wave)
    places = (divmod(index, ACROSS) for index in range(len(_times(wave))))
    return [(col * (width + BETWEEN), row * (height + CAPTION)) for row, col in places]


def _caption(wave: Wave, time: int) -> str:
    if isinstance(wave.starts, str) or len(wave.starts) == 1:
        return f"t = {time}"
    return f"t = {time}, phase {np.searchsorted(wave.starts, time, side='right')}"


def _scale(wave: Wave, word: int) -> tuple[float, float]:
    course = wave.maps[:, word]
    return float(course.min()), float(course.max())


def _share(wave: Wave, word: int) -> np.ndarray:
    """The word's maps (time, row, col), from 0 for the least to 1 for the largest of all; 0 where all are alike."""
    least, largest = _scale(wave, word)
    return (wave.maps[:, word] - least) / (largest - least or 1)


def _numbers(wave: Wave, word: int) -> pd.DataFrame:
    """What the panels show, in rows of the panels "map" (all times), "plane", "mode" (all modes), "tree" and "concept" (all
    concepts); columns that a panel doesn't have are empty there."""
    course = wave.maps[:, word]
    parts = {"map": _long(("time", "row", "col"), heat=course)}
    found = wave.modes_of(word)
    if not isinstance(found, str):
        names = ("frequency", "growth", "energy", "amplitude")
        eigenvalue, pattern = found.eigenvalue.values, found.pattern.values
        columns = {name: found[name].values for name in names}
        parts["plane"] = _long(("mode",), real=eigenvalue.real, imaginary=eigenvalue.imag, **columns)
        parts["mode"] = _long(("mode", "row", "col"), size=np.abs(pattern), angle=np.angle(pattern))
    if not isinstance(wave.tree, str):
        nodes = [wave.tree.nodes[node] for node in wave.tree]
        masks = np.stack([node["mask"] for node in nodes])
        links = [next(iter(wave.tree.in_edges(node, data="mutual_information")), (np.nan,) * 3) for node in wave.tree]
        about = {name: np.array([node[name] for node in nodes]) for name in ("band", "label", "energy")}
        about |= {
            "parent": np.array([link[0] for link in links]),
            "mutual_information": np.array([link[2] for link in links]),
        }
        parts["tree"] = _long(("concept",), **about)
        parts["concept"] = _long(("concept", "row", "col"), inside=masks.astype(int))
    return pd.concat([frame.assign(panel=name) for name, frame in parts.items()], ignore_index=True)


def _with_iou(numbers: pd.DataFrame, wave: Wave, truth: np.ndarray | None) -> pd.DataFrame:
    """A copy, with the IoU of each concept of "tree" and the truth (y, x), where there is one."""
    numbers = numbers.copy()
    if truth is not None and not isinstance(wave.tree, str):
        masks = (upsampled(wave.tree.nodes[node]["mask"], truth.shape) > 0.5 for node in wave.tree)
        numbers.loc[numbers.panel == "tree", "iou"] = [iou(mask, truth) for mask in masks]
    return numbers


def _long(dims: tuple[str, ...], **values: np.ndarray) -> pd.DataFrame:
    """A row for each entry of arrays of the same shape, with its place."""
    first = next(iter(values.values()))
    places = np.indices(first.shape).reshape(first.ndim, -1)
    return pd.DataFrame(dict(zip(dims, places, strict=True)) | {name: array.ravel() for name, array in values.items()})
