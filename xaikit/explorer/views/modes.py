"""The modes of a word's course, as pictures: their eigenvalues on the complex plane, and the pattern of the chosen one."""

import numpy as np
from PIL import Image, ImageDraw

from ...plots.resonance import COLOURS, FRAME, is_pair, plane_frame
from .. import pixels
from ..panels import Panel, Spot
from ..state import State
from ..workspace import Workspace
from .waves import Wave

FAINT, GREY = 0.1, 153  # of the largest |U|: what has less has no angle worth looking at, and is grey
DPI = 150
LINE, SIGN, POINT = 33, 9, (7, 15)  # pixels: a table's line; half a point; half its spot at least and at most
NO_PROOF = (
    "Modes also describe how a course settles, so a complex pair doesn't prove an oscillation; xaikit.resonance.fixed_points "
    "computes whether there is one."
)


def plane(workspace: Workspace, wave: Wave, state: State) -> tuple[Panel, list[int]]:
    """The eigenvalues of the word's modes on the complex plane, and below it what each mode does; the mode of each spot.

    Raises ValueError for a mode that the word doesn't have.
    """
    found, name = wave.modes_of(state.word), wave.words[state.word]
    count = 0 if isinstance(found, str) else found.sizes["mode"]
    if state.mode >= max(count, 1):
        has = f"the modes 0 to {count - 1}" if count else "none"
        raise ValueError(f"mode={state.mode}: the word {name!r} has {has}")
    title = f"modes of “{name}”"
    if not count:
        return Panel(title, _drawn_plane(workspace, np.array([]), [])[0], f"No modes: {found}."), []
    eigenvalues, numbers = found.eigenvalue.values, (found.frequency, found.growth, found.energy)
    rows = [
        (f"{frequency:.3f}", f"{growth:+z.3f}", f"{energy:.3g}")
        for frequency, growth, energy in zip(*(each.values for each in numbers), strict=True)
    ]
    drawn, places = workspace.kept(("plane", wave, state.word), lambda: _drawn_plane(workspace, eigenvalues, rows))
    label = "mode {}: {} cycles per iteration, growth {}, energy {}"
    spots = (Spot(*place, label.format(mode + 1, *rows[mode]), mode == state.mode) for mode, *place in places)
    frequency, growth, energy = rows[state.mode]
    kind = "a complex pair" if is_pair(eigenvalues[state.mode]) else "a real eigenvalue"
    note = (
        f"Mode {state.mode + 1} of {count}, {kind}: frequency {frequency} cycles per iteration, growth {growth} per "
        f"iteration, energy {energy}. {NO_PROOF}"
    )
    alt = "eigenvalues of the dynamic modes on the complex plane, with the unit circle"
    return Panel(title, drawn, note, alt, tuple(spots)), [mode for mode, *_ in places]


def _drawn_plane(workspace: Workspace, eigenvalues: np.ndarray, rows: list[tuple]) -> tuple[bytes, list[tuple]]:
    """A PNG of eigenvalues, numbered from 1 as the rows of the table below them; and for each spot its mode and its place on
    the picture: the rows, then the points, the upper one of a pair first. What lies outside the frame is drawn on it."""
    reach = float(np.clip(np.ceil(11 * np.abs(eigenvalues).max(initial=0)) / 10, 1.2, FRAME))  # one of few
    frame, (left, top, width, height) = workspace.kept(
        ("frame", reach), lambda: pixels.figure_pixels(plane_frame(reach), DPI, (-reach, -reach), (reach, reach))
    )
    page = Image.fromarray(np.concatenate([frame, pixels.blank(LINE * (len(rows) + 1), frame.shape[1])]))
    mark, letters, spots = ImageDraw.Draw(page), pixels.font(22), []
    for line, (number, *texts) in enumerate([("mode", "frequency", "growth", "energy"), *enumerate(rows, 1)]):
        texts = texts if line == 0 else texts[0]
        y = len(frame) + LINE * line
        for column, text in enumerate((str(number), *texts)):
            mark.text((page.width * (0.15 + 0.27 * column), y + LINE / 2), text, "black", letters, "rm")
        if line:
            spots.append((line - 1, 0.02 * page.width, y, 0.96 * page.width, LINE))
    places, reals = [], 0
    for mode in np.argsort(eigenvalues.real, kind="stable").tolist():
        value, pair = eigenvalues[mode], bool(is_pair(eigenvalues[mode]))
        reals += not pair
        for imaginary in sorted({abs(value.imag), -abs(value.imag)} if pair else {0.0}, reverse=True):
            x, up = (np.clip([value.real, imaginary], -reach, reach) / reach + 1) / 2
            # numbers of neighbours on the real axis at different heights; else away from that axis
            away = 0.055 * height * (np.sign(imaginary) if pair else 1 + (reals - 1) % 4)
            places.append((mode, left + x * width, top + (1 - up) * height, away, pair))
    for _, x, y, away, _ in places:
        mark.line([x, y, x, y - 0.7 * away], "#808080", 1)
    for mode, x, y, away, pair in places:
        colour = tuple(round(255 * part) for part in COLOURS[int(pair)])
        if pair:
            mark.polygon([(x - SIGN, y), (x, y - SIGN), (x + SIGN, y), (x, y + SIGN)], colour, "white", 2)
        else:
            mark.ellipse([x - SIGN, y - SIGN, x + SIGN, y + SIGN], colour, "white", 2)
        mark.text((x, y - away), str(mode + 1), "black", pixels.font(23), "mm")
    for mode, x, y, *_ in sorted(places, key=lambda place: place[0]):
        others = [np.hypot(x - to_x, y - to_y) for _, to_x, to_y, *_ in places if (x, y) != (to_x, to_y)]
        half = float(np.clip(min(others, default=2 * POINT[1]) / 2, *POINT))  # so that neighbours hardly overlap
        spots.append((mode, x - half, y - half, 2 * half, 2 * half))
    whole = np.tile(page.size, 2)
    return pixels.png(np.asarray(page)), [(mode, *(np.array(place) / whole).tolist()) for mode, *place in spots]


def patterns(wave: Wave, state: State, truth: np.ndarray | None) -> dict[str, Panel]:
    """Size and angle of the chosen mode's spatial pattern; truth (y, x) is outlined."""
    found = wave.modes_of(state.word)
    if isinstance(found, str):
        return {"mode size": Panel("no mode", pixels.png(wave.image), f"No modes: {found}.")}
    pattern = found.pattern.isel(mode=state.mode).values
    size, name, shape = np.abs(pattern), f"mode {state.mode + 1}", wave.image.shape[:2]
    over = pixels.with_map(wave.image, pixels.relative(size), state.colours, state.opacity, state.upsampling)
    # neither smoothed, since an angle jumps from π to -π, nor mixed with the picture, whose colours mean something else
    angle = pixels.coloured(pixels.upsampled(np.angle(pattern) / (2 * np.pi) + 0.5, shape), "twilight")
    clear = pixels.upsampled(size >= FAINT * size.max(), shape) > 0.5
    angle = np.where(clear[..., None], angle, np.uint8(GREY))
    over, angle = (pixels.with_edge(picture, truth, pixels.TRUE_EDGE) for picture in (over, angle))
    row, col = np.unravel_index(int(size.argmax()), size.shape)
    where = f"most at row {row + 1}, column {col + 1} of {size.shape[0]} × {size.shape[1]} patches"
    turns = (
        "One angle, or two a half turn apart: a standing wave; an angle that turns over the picture: a travelling one. "
        f"Grey: |U| below {FAINT:.0%} of its largest."
    )
    over = pixels.with_bar(over, state.colours, "0", f"{size.max():.2g}")
    angle = pixels.with_bar(angle, "twilight", "-π", "π", "0")
    return {
        "mode size": Panel(f"{name}: size |U|", pixels.png(over), f"Where the mode acts: {where}."),
        "mode angle": Panel(f"{name}: angle of U", pixels.png(angle), turns),
    }
