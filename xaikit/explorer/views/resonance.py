"""Resonance: how the map of each word changes as picture and prompt refine each other, and what its course is made of."""

import numpy as np
import pandas as pd

from ..jobs import Job
from ..panels import Drawn, Panel, Spot, Word, drawn_truth, iou
from ..pixels import TRUE_EDGE, colour_bar, flowing, lettered, png, resized, stacked, upsampled, with_edge, with_map
from ..state import State
from ..workspace import Workspace
from . import patterns
from .waves import Wave, wave

FRAMES, ACROSS = 12, 6  # pictures of the filmstrip, and in a row of it
FILM, BETWEEN, LETTERS = 760, 4, 13  # pixels: the strip's width, between its pictures, and its letters


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
    concept = patterns.chosen_concept(found, state)
    plane, modes_of_spots = patterns.plane(workspace, found, state)
    panels = {
        "map": _map(found, state, time, truth),
        "filmstrip": _filmstrip(workspace, found, state, time),
        "plane": plane,
        **patterns.mode_patterns(found, state, truth),
        "tree": patterns.tree(workspace, found, concept),
        "concept": patterns.concept(found, concept, truth),
    }
    course = found.maps[:, state.word]
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
            f"heat of “{found.words[state.word]}”, from the least ({course.min():.3g}) to the largest ({course.max():.3g}) of its maps",
        ),
        chosen={"time": time, "concept": concept},
    )


def _map(wave: Wave, state: State, time: int, truth: np.ndarray | None) -> Panel:
    """The word's map at a time over the picture."""
    course = wave.maps[:, state.word]
    heat = course[time]
    share = _share(wave, state.word)[time]
    drawn = with_edge(with_map(wave.image, share, state.colours, state.opacity, state.upsampling), truth, TRUE_EDGE)
    row, col = np.unravel_index(int(heat.argmax()), heat.shape)
    note = f"t = {time} of {len(course) - 1}, largest heat {heat.max():.3g}"
    if time:
        note += f", step from t = {time - 1}: {np.linalg.norm(heat - course[time - 1]):.2g}"
    if truth is not None:
        note += "; named objects outlined in blue"
    alt = f"map of {wave.words[state.word]} at iteration {time}, hottest at row {row + 1}, column {col + 1}"
    return Panel(f"“{wave.words[state.word]}” at t = {time}", png(drawn), note, alt)


def _filmstrip(workspace: Workspace, wave: Wave, state: State, time: int) -> Panel:
    """Some of the word's maps; the last that isn't after the time is pressed."""
    times, sight = _times(wave), (state.word, state.colours, state.opacity, state.upsampling)
    strip, places = workspace.kept(("filmstrip", wave, *sight), lambda: _strip(wave, *sight))
    pressed = max(each for each in times if each <= time)
    spots = tuple(
        Spot(*place, _caption(wave, each), each == pressed) for each, place in zip(times, places, strict=True)
    )
    if isinstance(wave.starts, str):
        note = f"No phases: {wave.starts}."
    elif len(wave.starts) == 1:
        note = "All words taken together, their course is of one phase."
    else:
        begins = " and ".join(f"t = {start}" for start in wave.starts[1:])
        note = f"All words taken together, a new phase begins at {begins}: there their course changes most."
    return Panel(f"maps of “{wave.words[state.word]}” over time", strip, note, spots=spots)


def _strip(wave: Wave, word: int, colours: str, opacity: float, how: str) -> tuple[bytes, list[tuple[float, ...]]]:
    """The word's maps at the times of the filmstrip, below each when it is, and the place of each."""
    width = (FILM - BETWEEN * (ACROSS - 1)) // ACROSS
    size = round(width * wave.image.shape[0] / wave.image.shape[1]), width
    small, shares = resized(wave.image, size), _share(wave, word)
    frames = [
        stacked(
            [with_map(small, shares[time], colours, opacity, how), lettered(_caption(wave, time), width, LETTERS)], 2
        )
        for time in _times(wave)
    ]
    page, corners = flowing(frames, FILM, BETWEEN)
    (height, full), (tall, wide) = page.shape[:2], size
    return png(page), [(x / full, y / height, wide / full, tall / height) for x, y in corners]


def _times(wave: Wave) -> list[int]:
    """The times of the filmstrip, evenly from the first to the last."""
    last = len(wave.maps) - 1
    return [int(time) for time in np.unique(np.linspace(0, last, min(FRAMES, last + 1)).round())]


def _caption(wave: Wave, time: int) -> str:
    if isinstance(wave.starts, str) or len(wave.starts) == 1:
        return f"t = {time}"
    return f"t = {time}, phase {np.searchsorted(wave.starts, time, side='right')}"


def _share(wave: Wave, word: int) -> np.ndarray:
    """The word's maps (time, row, col), from 0 for the least to 1 for the largest of all; 0 where all are alike."""
    course = wave.maps[:, word]
    return (course - course.min()) / (np.ptp(course) or 1)


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
            name: np.array([link[at] for link in links]) for name, at in (("parent", 0), ("mutual_information", 2))
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
