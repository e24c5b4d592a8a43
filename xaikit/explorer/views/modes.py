"""Dynamic modes as pictures: eigenvalues on the complex plane, and the pattern of the mode that is chosen."""

import numpy as np
from PIL import Image, ImageDraw

from ..drawing import BLUE, ORANGE, TRUE_EDGE, coloured, laid_over, png, relative, upsampled, with_edge
from ..drawn import Panel, Spot
from ..state import State
from ..workspace import Workspace
from .lettering import font, with_bar
from .waves import MODES, Wave

WIDTH, SIDE, LEFT, TOP, ROW = 380, 322, 46, 24, 22  # pixels of the plane
TABLE = TOP + SIDE + 46
HEIGHT = TABLE + ROW * (MODES + 1) + 4
FINE = 2  # pixels of the picture for one of these, so that lines and letters are sharp
FRAME = 1.6  # eigenvalues further out are drawn on the frame
REAL = 1e-6  # of an eigenvalue's size: the imaginary part below which it counts as real
FAINT = 0.1  # of the largest |U|: what has less has no angle worth looking at
GREY = 153
NO_PROOF = (
    "Modes also describe how a course settles, so a complex pair doesn't prove an oscillation; xaikit.resonance.fixed_points "
    "computes whether there is one."
)


def plane(workspace: Workspace, wave: Wave, state: State) -> tuple[Panel, list[int]]:
    """The eigenvalues of the word's modes on the complex plane, and below it what each mode does; the mode of each spot.

    Raises ValueError for a mode that the word doesn't have.
    """
    found = wave.modes_of(state.word)
    count = 0 if isinstance(found, str) else found.sizes["mode"]
    if state.mode >= max(count, 1):
        has = f"the modes 0 to {count - 1}" if count else "none"
        raise ValueError(f"mode={state.mode}: the word {wave.words[state.word]!r} has {has}")
    title = f"modes of “{wave.words[state.word]}”"
    if isinstance(found, str):
        return Panel(title, plane_png((), ()), f"No modes: {found}."), []
    eigenvalues = tuple(complex(value) for value in found.eigenvalue.values)
    rows = tuple(
        (f"{float(one.frequency):.3f}", f"{float(one.growth):+z.3f}", f"{float(one.energy):.3g}")
        for one in (found.isel(mode=index) for index in range(count))
    )
    spots, of = _spots(eigenvalues, rows, state.mode)
    frequency, growth, energy = rows[state.mode]
    kind = "a complex pair" if _is_pair(eigenvalues[state.mode]) else "a real eigenvalue"
    note = (
        f"Mode {state.mode + 1} of {count}, {kind}: frequency {frequency} cycles per iteration, growth {growth} per "
        f"iteration, energy {energy}. {NO_PROOF}"
    )
    alt = "eigenvalues of the dynamic modes on the complex plane, with the unit circle"
    drawn = workspace.kept(("plane", eigenvalues, rows), lambda: plane_png(eigenvalues, rows))
    return Panel(title, drawn, note, alt, spots), of


def patterns(wave: Wave, state: State, truth: np.ndarray | None) -> dict[str, Panel]:
    """Size and angle of the chosen mode's spatial pattern; truth (y, x) is outlined."""
    found = wave.modes_of(state.word)
    if isinstance(found, str):
        return {"mode size": Panel("no mode", png(wave.image), f"No modes: {found}.")}
    pattern = found.pattern.isel(mode=state.mode).values
    size, name = np.abs(pattern), f"mode {state.mode + 1}"
    shape = wave.image.shape[:2]
    large = np.clip(upsampled(relative(size), shape, state.upsampling), 0, 1)
    over = laid_over(wave.image, coloured(large, state.colours), state.opacity)
    over = over if truth is None else with_edge(over, truth, TRUE_EDGE)
    # neither smoothed, since an angle jumps from π to -π, nor mixed with the picture, whose colours mean something else
    angle = coloured(upsampled(np.angle(pattern) / (2 * np.pi) + 0.5, shape), "twilight")
    clear = upsampled(size >= FAINT * size.max(), shape) > 0.5
    angle = np.where(clear[..., None], angle, np.uint8(GREY))
    angle = angle if truth is None else with_edge(angle, truth, TRUE_EDGE)
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


def plane_png(eigenvalues: tuple[complex, ...], rows: tuple[tuple[str, ...], ...]) -> bytes:
    """The unit circle with numbered eigenvalues, and a table of the modes' frequency, growth and energy below."""
    page = Image.new("RGB", (FINE * WIDTH, FINE * HEIGHT), "white")
    draw, reach, letters, small = ImageDraw.Draw(page), _reach(eigenvalues), font(FINE * 13), font(FINE * 12)

    def at(place: complex) -> tuple[float, float]:
        return tuple(FINE * pixel for pixel in _pixel(place, reach))

    draw.line([at(-reach), at(reach)], "#999999", FINE)
    draw.line([at(-1j * reach), at(1j * reach)], "#dddddd", FINE)
    for tick in (-1, -0.5, 0, 0.5, 1):
        for place, (x, y), anchor in ((complex(tick, -reach), (0, 5), "ma"), (complex(-reach, tick), (-5, 0), "rm")):
            end = at(place)[0] + FINE * x, at(place)[1] + FINE * y
            draw.line([at(place), end], "black", FINE)
            draw.text((end[0] + x, end[1] + y), f"{tick:g}", "black", small, anchor)
    draw.rectangle([at(complex(-reach, reach)), at(complex(reach, -reach))], outline="black", width=FINE)
    draw.ellipse([at(-1 + 1j), at(1 - 1j)], outline="black", width=FINE * 3 // 2)
    draw.text((at(0)[0], FINE * (TOP + SIDE + 38)), "real part", "black", small, "ms")
    draw.text((FINE * LEFT, FINE * (TOP - 5)), "imaginary part", "black", small, "ls")
    for index, (label, pair) in enumerate((("real", False), ("complex pair", True))):
        x, y = FINE * (LEFT + 14), FINE * (TOP + SIDE - 32 + 18 * index)
        _dot(draw, (x, y), pair)
        draw.text((x + FINE * 12, y), label, "black", small, "lm")
    points = sorted(_points(eigenvalues), key=lambda point: point[1].real)
    real = [mode for mode, _ in points if not _is_pair(eigenvalues[mode])]
    for mode, place in points:
        # on the real axis at different heights, so that neighbours' numbers can be told apart; else towards that axis
        up = 16 * (1 + real.index(mode) % 4) if mode in real else -16 * np.sign(place.imag)
        (x, y), away = at(place), -FINE * up
        draw.line([(x, y), (x, y + 0.6 * away)], "#777777", FINE // 2)
        draw.text((x, y + away), str(mode + 1), "black", letters, "mm", stroke_width=FINE * 2, stroke_fill="white")
    for mode, place in points:
        _dot(draw, at(place), _is_pair(eigenvalues[mode]))
    heads = ("mode", "frequency", "growth", "energy")
    for index, row in enumerate([heads, *((str(mode + 1), *row) for mode, row in enumerate(rows))]):
        y = FINE * (TABLE + ROW * (index + 0.5))
        for text, x in zip(row, (56, 160, 258, 366), strict=True):
            draw.text((FINE * x, y), text, "black" if index else "#555555", letters, "rm")
    return png(np.asarray(page))


def _dot(draw: ImageDraw.ImageDraw, middle: tuple[float, float], pair: bool) -> None:
    """A diamond for a pair, else a disc."""
    (x, y), size = middle, FINE * 5
    if pair:
        draw.polygon([(x - size, y), (x, y - size), (x + size, y), (x, y + size)], ORANGE, "white")
    else:
        draw.ellipse([x - size, y - size, x + size, y + size], BLUE, "white")


def _spots(eigenvalues: tuple[complex, ...], rows: tuple, chosen: int) -> tuple[tuple[Spot, ...], list[int]]:
    """A spot for each row of the table and then for each point, and the mode of each."""
    labels = [
        f"mode {mode + 1}: {frequency} cycles per iteration, growth {growth}, energy {energy}"
        for mode, (frequency, growth, energy) in enumerate(rows)
    ]
    spots, of = [], []
    for mode, label in enumerate(labels):
        top = TABLE + ROW * (mode + 1)
        spots.append(Spot(0.02, top / HEIGHT, 0.96, ROW / HEIGHT, label, mode == chosen))
        of.append(mode)
    points, reach = _points(eigenvalues), _reach(eigenvalues)
    for mode, place in points:
        others = [abs(place - other) for _, other in points if abs(place - other) > 0]
        half = np.clip(min(others, default=1) / 2 * SIDE / (2 * reach), 5, 10)  # so that neighbours hardly overlap
        x, y = _pixel(place, reach)
        size = 2 * half / WIDTH, 2 * half / HEIGHT
        spots.append(Spot((x - half) / WIDTH, (y - half) / HEIGHT, *size, labels[mode], mode == chosen))
        of.append(mode)
    return tuple(spots), of


def _points(eigenvalues: tuple[complex, ...]) -> list[tuple[int, complex]]:
    """Each mode's place on the plane, both of a conjugate pair; on the frame where it lies outside."""
    reach = _reach(eigenvalues)
    inside = [complex(np.clip(z.real, -reach, reach), np.clip(z.imag, -reach, reach)) for z in eigenvalues]
    return [
        (mode, place)
        for mode, z in enumerate(inside)
        for place in ((z, z.conjugate()) if _is_pair(eigenvalues[mode]) else (z,))
    ]


def _pixel(place: complex, reach: float) -> tuple[float, float]:
    scale = SIDE / (2 * reach)
    return LEFT + scale * (place.real + reach), TOP + scale * (reach - place.imag)


def _reach(eigenvalues: tuple[complex, ...]) -> float:
    return float(np.clip(1.1 * max(map(abs, eigenvalues), default=0), 1.2, FRAME))


def _is_pair(eigenvalue: complex) -> bool:
    return abs(eigenvalue.imag) > REAL * max(abs(eigenvalue), 1)
