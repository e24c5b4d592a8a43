"""Resonance: how the map of each word changes as picture and prompt refine each other, and what its course is made of."""

import numpy as np
import pandas as pd

from ...plots.concepts import WORDS, drawn_tree, faded, strong_bands
from .. import pixels
from ..jobs import Job
from ..panels import Drawn, Panel, Spot, Word, drawn_truth, iou, legend, long
from ..state import State
from ..workspace import Workspace
from .modes import patterns, plane
from .waves import BANDS, Wave, wave

FRAMES, ACROSS = 12, 6  # pictures of the filmstrip, and in a row of it
FILM, BETWEEN, LETTERS = 760, 4, 13  # pixels: the strip's width, between its pictures, and its letters
TREE_WIDTH = 7  # inches
TREE_NOTE = (
    "What is not of the concept is faded; below it its words and its share of the oscillating energy. A line is as wide as "
    "the information that two concepts of neighbouring bands share. Bands with less than 1 % of the energy aren't drawn."
)


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
    concept, name, course = _chosen_concept(found, state), found.words[state.word], found.maps[:, state.word]
    drawn_plane, modes = plane(workspace, found, state)
    panels = {
        "map": _map(found, state, time, truth),
        "filmstrip": _filmstrip(workspace, found, state, time),
        "plane": drawn_plane,
        **patterns(found, state, truth),
        **_concepts(workspace, found, concept, truth),
    }
    numbers = workspace.kept(("numbers", found, state.word, truth is None), lambda: _numbers(found, state.word, truth))
    words = (Word(each, pressed=at == state.word, label=f"the maps of {each}") for at, each in enumerate(found.words))
    concepts = [] if concept is None else _shown(found)
    low, high = f"the least ({course.min():.3g})", f"the largest ({course.max():.3g})"
    return Drawn(
        panels,
        numbers.copy(),  # which is the user's
        tuple(words),
        choices={"time": (0, last), "filmstrip": _times(found), "plane": modes, "tree": concepts},
        # without numbers on the bar, so that every word has the same
        legend=legend(state.colours, f"heat of “{name}”, from {low} to {high} of its maps", "low", "high"),
        chosen={"time": time, "concept": concept},
    )


# the map and the film


def _map(wave: Wave, state: State, time: int, truth: np.ndarray | None) -> Panel:
    """The word's map at a time over the picture."""
    course, name = wave.maps[:, state.word], wave.words[state.word]
    heat, share = course[time], _share(wave, state.word)[time]
    drawn = pixels.with_edge(
        pixels.with_map(wave.image, share, state.colours, state.opacity, state.upsampling), truth, pixels.TRUE_EDGE
    )
    row, col = np.unravel_index(int(heat.argmax()), heat.shape)
    note = f"t = {time} of {len(course) - 1}, largest heat {heat.max():.3g}"
    if time:
        note += f", step from t = {time - 1}: {np.linalg.norm(heat - course[time - 1]):.2g}"
    if truth is not None:
        note += "; named objects outlined in blue"
    alt = f"map of {name} at iteration {time}, hottest at row {row + 1}, column {col + 1}"
    return Panel(f"“{name}” at t = {time}", pixels.png(drawn), note, alt)


def _filmstrip(workspace: Workspace, wave: Wave, state: State, time: int) -> Panel:
    """Some of the word's maps; the last that isn't after the time is pressed."""
    times, sight = _times(wave), (state.word, state.colours, state.opacity, state.upsampling)
    strip, places = workspace.kept(("filmstrip", wave, *sight), lambda: _strip(wave, *sight))
    pressed = max(each for each in times if each <= time)
    spots = (Spot(*place, _caption(wave, each), each == pressed) for each, place in zip(times, places, strict=True))
    if isinstance(wave.starts, str):
        note = f"No phases: {wave.starts}."
    elif len(wave.starts) == 1:
        note = "All words taken together, their course is of one phase."
    else:
        begins = " and ".join(f"t = {start}" for start in wave.starts[1:])
        note = f"All words taken together, a new phase begins at {begins}: there their course changes most."
    return Panel(f"maps of “{wave.words[state.word]}” over time", strip, note, spots=tuple(spots))


def _strip(wave: Wave, word: int, colours: str, opacity: float, how: str) -> tuple[bytes, list[tuple[float, ...]]]:
    """The word's maps at the times of the filmstrip, below each when it is, and the place of each."""
    width = (FILM - BETWEEN * (ACROSS - 1)) // ACROSS
    size = round(width * wave.image.shape[0] / wave.image.shape[1]), width
    small, shares = pixels.resized(wave.image, size), _share(wave, word)
    frames = []
    for time in _times(wave):
        drawn = pixels.with_map(small, shares[time], colours, opacity, how)
        frames.append(pixels.stacked([drawn, pixels.lettered(_caption(wave, time), width, LETTERS)], 2))
    page, corners = pixels.flowing(frames, FILM, BETWEEN)
    (height, full), (tall, wide) = page.shape[:2], size
    return pixels.png(page), [(x / full, y / height, wide / full, tall / height) for x, y in corners]


def _times(wave: Wave) -> list[int]:
    """The times of the filmstrip, evenly from the first to the last."""
    last = len(wave.maps) - 1
    return np.unique(np.linspace(0, last, min(FRAMES, last + 1)).round()).astype(int).tolist()


def _caption(wave: Wave, time: int) -> str:
    if isinstance(wave.starts, str) or len(wave.starts) == 1:
        return f"t = {time}"
    return f"t = {time}, phase {np.searchsorted(wave.starts, time, side='right')}"


def _share(wave: Wave, word: int) -> np.ndarray:
    """The word's maps (time, row, col), from 0 for the least to 1 for the largest of all; 0 where all are alike."""
    course = wave.maps[:, word]
    return (course - course.min()) / (np.ptp(course) or 1)


# concepts


def _chosen_concept(wave: Wave, state: State) -> int | None:
    """The state's concept, the strongest where it has none; None where there are none at all.

    Raises ValueError for one that isn't there.
    """
    if isinstance(wave.tree, str):
        if state.concept is not None:
            raise ValueError(f"concept={state.concept}: there are none, since {wave.tree}")
        return None
    if state.concept is None:
        return max(wave.tree.nodes, key=lambda node: wave.tree.nodes[node]["energy"])
    if state.concept not in wave.tree:
        raise ValueError(f"concept={state.concept}: the concepts are 0 to {len(wave.tree) - 1}")
    return state.concept


def _concepts(workspace: Workspace, wave: Wave, chosen: int | None, truth: np.ndarray | None) -> dict[str, Panel]:
    """The tree, a band of frequencies a row, linked by the information that concepts share; the chosen concept's mask on the
    picture, and how it agrees with the truth (y, x)."""
    if chosen is None:
        return {"concept": Panel("no concepts", pixels.png(wave.image), f"No concepts: {wave.tree}.")}
    tree, places = workspace.kept(("tree", wave), lambda: _drawn_tree(wave))
    spots = tuple(
        Spot(*places[node], f"concept {node}: {', '.join(_about(wave, node))}", node == chosen) for node in _shown(wave)
    )
    alt = f"{len(spots)} concepts by their band of frequencies, linked from low to high"
    inside = pixels.upsampled(wave.tree.nodes[chosen]["mask"], wave.image.shape[:2]) > 0.5
    drawn = pixels.with_edge(pixels.with_edge(faded(wave.image, inside), truth, pixels.TRUE_EDGE), inside)
    words, *about = _about(wave, chosen)
    about += [f"linked to concept {parent} of the band below" for parent in wave.tree.predecessors(chosen)]
    if truth is not None:
        about.append(f"IoU with the named objects (outlined in blue) {iou(inside, truth):.2f}")
    return {
        "tree": Panel("concepts by band of frequencies", tree, TREE_NOTE, alt, spots),
        "concept": Panel(f"concept {chosen}: {words}", pixels.png(drawn), ", ".join(about)),
    }


def _shown(wave: Wave) -> list[int]:
    """The concepts that are drawn."""
    bands = strong_bands(wave.tree)
    return [node for node, band in wave.tree.nodes(data="band") if bands is None or band in bands]


def _drawn_tree(wave: Wave) -> tuple[bytes, dict[int, tuple]]:
    """The figure's PNG, and the place of each concept on it: its picture and the words below."""
    figure = drawn_tree(wave.tree, wave.image, "", TREE_WIDTH, strong_bands(wave.tree))
    words, places = WORDS / figure.get_figheight(), {}
    for axis in figure.axes[1:]:
        box = axis.get_position(original=True)
        places[int(axis.get_gid())] = (box.x0, 1 - box.y1, box.width, box.height + words)
    return pixels.figure_png(figure, 160), places


def _about(wave: Wave, node: int) -> tuple[str, str, str]:
    """A concept's words, its band and its share of the energy."""
    about = wave.tree.nodes[node]
    band = f"{about['band'] / BANDS / 2:.2f} to {(about['band'] + 1) / BANDS / 2:.2f} cycles per iteration"
    return about["label"] or "(no word)", band, f"{100 * about['energy']:.2g} % of the energy"


# numbers


def _numbers(wave: Wave, word: int, truth: np.ndarray | None) -> pd.DataFrame:
    """What the panels show, in rows of the panels "map" (all times), "plane", "mode" (all modes), "tree" and "concept" (all
    concepts), with the IoU of each concept and the truth (y, x); columns that a panel doesn't have are empty there."""
    parts = {"map": long(("time", "row", "col"), heat=wave.maps[:, word])}
    found = wave.modes_of(word)
    if not isinstance(found, str):
        eigenvalue, pattern = found.eigenvalue.values, found.pattern.values
        columns = {name: found[name].values for name in ("frequency", "growth", "energy", "amplitude")}
        parts["plane"] = long(("mode",), real=eigenvalue.real, imaginary=eigenvalue.imag, **columns)
        parts["mode"] = long(("mode", "row", "col"), size=np.abs(pattern), angle=np.angle(pattern))
    if not isinstance(wave.tree, str):
        nodes = pd.DataFrame.from_dict(dict(wave.tree.nodes(data=True)), orient="index")
        links = pd.DataFrame(
            wave.tree.edges(data="mutual_information"), columns=["parent", "concept", "mutual_information"]
        )
        links = links.drop_duplicates("concept").set_index("concept").reindex(nodes.index)
        parts["tree"] = nodes[["band", "label", "energy"]].join(links).rename_axis("concept").reset_index()
        parts["concept"] = long(("concept", "row", "col"), inside=np.stack(nodes["mask"].tolist()).astype(int))
    numbers = pd.concat([frame.assign(panel=name) for name, frame in parts.items()], ignore_index=True)
    if "tree" in parts and truth is not None:
        masks = (pixels.upsampled(mask, truth.shape) > 0.5 for mask in nodes["mask"])
        numbers.loc[numbers.panel == "tree", "iou"] = [iou(mask, truth) for mask in masks]
    return numbers
