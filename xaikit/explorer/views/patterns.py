"""What the course of a word or of a prompt is made of, as pictures: dynamic modes on the complex plane with the pattern of the
chosen one, and the concept hierarchy as a tree with the mask of the chosen one."""

import numpy as np
import pandas as pd

from ..panels import Panel, Spot, iou, place_on
from ..pixels import TRUE_EDGE, coloured, figure_png, png, relative, upsampled, with_bar, with_edge, with_map
from ..state import State
from ..workspace import Workspace
from .waves import BANDS, Wave

FAINT, GREY = 0.1, 153  # of the largest |U|: what has less has no angle worth looking at, and is grey
POINT = 0.045, 0.1  # inches: half the side of a point's spot, at least and at most
TREE_WIDTH = 7  # inches
NO_PROOF = (
    "Modes also describe how a course settles, so a complex pair doesn't prove an oscillation; xaikit.resonance.fixed_points "
    "computes whether there is one."
)
TREE_NOTE = (
    "What is not of the concept is faded; beside it its words and its share of the oscillating energy. A line is as wide as "
    "the information that two concepts of neighbouring bands share."
)


def plane(workspace: Workspace, wave: Wave, state: State) -> tuple[Panel, list[int]]:
    """The eigenvalues of the word's modes on the complex plane, and below it what each mode does; the mode of each spot.

    Raises ValueError for a mode that the word doesn't have.
    """
    from ...plots.resonance import is_pair

    found = wave.modes_of(state.word)
    count = 0 if isinstance(found, str) else found.sizes["mode"]
    if state.mode >= max(count, 1):
        has = f"the modes 0 to {count - 1}" if count else "none"
        raise ValueError(f"mode={state.mode}: the word {wave.words[state.word]!r} has {has}")
    title = f"modes of “{wave.words[state.word]}”"
    if not count:
        drawn, _ = workspace.kept(("plane",), lambda: _drawn_plane((), ()))
        return Panel(title, drawn, f"No modes: {found}."), []
    eigenvalues = tuple(found.eigenvalue.values.tolist())
    names = ("frequency", "growth", "energy")
    rows = tuple(
        (f"{frequency:.3f}", f"{growth:+z.3f}", f"{energy:.3g}")
        for frequency, growth, energy in zip(*(found[name].values for name in names), strict=True)
    )
    drawn, places = workspace.kept(("plane", eigenvalues, rows), lambda: _drawn_plane(eigenvalues, rows))
    labels = [
        f"mode {mode + 1}: {frequency} cycles per iteration, growth {growth}, energy {energy}"
        for mode, (frequency, growth, energy) in enumerate(rows)
    ]
    spots = tuple(Spot(*place, labels[mode], mode == state.mode) for mode, place in places)
    frequency, growth, energy = rows[state.mode]
    kind = "a complex pair" if is_pair(eigenvalues[state.mode]) else "a real eigenvalue"
    note = (
        f"Mode {state.mode + 1} of {count}, {kind}: frequency {frequency} cycles per iteration, growth {growth} per "
        f"iteration, energy {energy}. {NO_PROOF}"
    )
    alt = "eigenvalues of the dynamic modes on the complex plane, with the unit circle"
    return Panel(title, drawn, note, alt, spots), [mode for mode, _ in places]


def _drawn_plane(eigenvalues: tuple[complex, ...], rows: tuple) -> tuple[bytes, list[tuple[int, tuple]]]:
    """The figure's PNG, and the modes with their places on it: a row of the table each, and then their points."""
    from ...plots.resonance import numbered_plane

    table = pd.DataFrame(rows, columns=["frequency", "growth", "energy"])
    figure = numbered_plane(np.array(eigenvalues, complex), table)
    plane, page = figure.axes
    places = [(mode, place_on(page, (0.02, mode + 1), (0.98, mode + 2))) for mode in range(len(rows))]
    offsets = [(int(drawn.get_gid()), *at.tolist()) for drawn in plane.collections for at in drawn.get_offsets()]
    points = sorted(offsets, key=lambda point: (point[0], -point[2]))  # the upper one of a pair first
    inch = np.ptp(plane.get_xlim()) / (plane.get_position().width * figure.get_figwidth())
    for mode, x, y in points:
        others = [np.hypot(x - to_x, y - to_y) for _, to_x, to_y in points if (x, y) != (to_x, to_y)]
        half = inch * np.clip(min(others, default=1) / 2 / inch, *POINT)  # so that neighbours hardly overlap
        places.append((mode, place_on(plane, (x - half, y - half), (x + half, y + half))))
    return figure_png(figure, 150), places


def mode_patterns(wave: Wave, state: State, truth: np.ndarray | None) -> dict[str, Panel]:
    """Size and angle of the chosen mode's spatial pattern; truth (y, x) is outlined."""
    found = wave.modes_of(state.word)
    if isinstance(found, str):
        return {"mode size": Panel("no mode", png(wave.image), f"No modes: {found}.")}
    pattern = found.pattern.isel(mode=state.mode).values
    size, name, shape = np.abs(pattern), f"mode {state.mode + 1}", wave.image.shape[:2]
    over = with_map(wave.image, relative(size), state.colours, state.opacity, state.upsampling)
    # neither smoothed, since an angle jumps from π to -π, nor mixed with the picture, whose colours mean something else
    angle = coloured(upsampled(np.angle(pattern) / (2 * np.pi) + 0.5, shape), "twilight")
    clear = upsampled(size >= FAINT * size.max(), shape) > 0.5
    angle = np.where(clear[..., None], angle, np.uint8(GREY))
    over, angle = (with_edge(picture, truth, TRUE_EDGE) for picture in (over, angle))
    row, col = np.unravel_index(int(size.argmax()), size.shape)
    return {
        "mode size": Panel(
            f"{name}: size |U|",
            png(with_bar(over, state.colours, "0", f"{size.max():.2g}")),
            f"Where the mode acts: most at row {row + 1}, column {col + 1} of {size.shape[0]} × {size.shape[1]} patches.",
        ),
        "mode angle": Panel(
            f"{name}: angle of U",
            png(with_bar(angle, "twilight", "-π", "π", "0")),
            "One angle, or two a half turn apart: a standing wave; an angle that turns over the picture: a travelling one. "
            f"Grey: |U| below {FAINT:.0%} of its largest.",
        ),
    }


def chosen_concept(wave: Wave, state: State) -> int | None:
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


def tree(workspace: Workspace, wave: Wave, chosen: int | None) -> Panel | None:
    """The concepts, a band of frequencies a row from low to high, linked by the information that they share."""
    if chosen is None:
        return None
    drawn, places = workspace.kept(("tree", wave), lambda: _drawn_tree(wave))
    spots = tuple(
        Spot(*places[node], f"concept {node}: {', '.join(_about(wave, node))}", node == chosen) for node in wave.tree
    )
    alt = f"{len(spots)} concepts in {BANDS} bands of frequencies, linked from low to high"
    return Panel("concepts by band of frequencies", drawn, TREE_NOTE, alt, spots)


def _drawn_tree(wave: Wave) -> tuple[bytes, dict[int, tuple]]:
    """The figure's PNG, and the place of each concept on it: its picture and the words below."""
    from ...plots.concepts import WORDS, drawn_tree

    figure = drawn_tree(wave.tree, wave.image, "", TREE_WIDTH)
    words, places = WORDS / figure.get_figheight(), {}
    for axis in figure.axes[1:]:
        box = axis.get_position(original=True)
        places[int(axis.get_gid())] = (box.x0, 1 - box.y1, box.width, box.height + words)
    return figure_png(figure, 160), places


def concept(wave: Wave, chosen: int | None, truth: np.ndarray | None) -> Panel:
    """The chosen concept's mask on the picture, and how it agrees with the truth (y, x)."""
    from ...plots.concepts import faded

    if chosen is None:
        return Panel("no concepts", png(wave.image), f"No concepts: {wave.tree}.")
    inside = upsampled(wave.tree.nodes[chosen]["mask"], wave.image.shape[:2]) > 0.5
    drawn = with_edge(with_edge(faded(wave.image, inside), truth, TRUE_EDGE), inside)
    words, *about = _about(wave, chosen)
    about += [f"linked to concept {parent} of the band below" for parent in wave.tree.predecessors(chosen)]
    if truth is not None:
        about.append(f"IoU with the named objects (outlined in blue) {iou(inside, truth):.2f}")
    return Panel(f"concept {chosen}: {words}", png(drawn), ", ".join(about))


def _about(wave: Wave, node: int) -> tuple[str, str, str]:
    """A concept's words, its band and its share of the energy."""
    about = wave.tree.nodes[node]
    band = f"{about['band'] / BANDS / 2:.2f} to {(about['band'] + 1) / BANDS / 2:.2f} cycles per iteration"
    return about["label"] or "(no word)", band, f"{100 * about['energy']:.2g} % of the energy"
