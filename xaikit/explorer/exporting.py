"""What a view shows as files: a PNG, a CSV and the line of code that shows it again."""

import base64
import io
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from .drawn import Drawn, Panel

WIDTH, HEIGHT = 13.0, 2.25  # inches: of the whole picture, and of one in it
MARGIN, LINE = 0.2, 0.17
TITLE_LINES, NOTE_LINES = 2, 3
NAME = "xaikit-{tab}"


def view_png(code: str, drawn: Drawn) -> bytes:
    """All pictures of a view in one, with their titles and notes, its sentences, words, legend and table, below the line that
    shows it again."""
    said = [line for text in (code, *drawn.sentences.values()) for line in textwrap.wrap(text, 118)]
    places, depth = _places([panel for panel in drawn.panels.values() if panel.png])
    table = LINE * 1.3 * (len(drawn.table.rows) + 2) if drawn.table else 0.0
    words = 0.5 if drawn.words else 0.0
    top = LINE * len(said) + MARGIN + 0.1
    legend = 0.4 if drawn.legend else 0.0
    figure = Figure(figsize=(WIDTH, top + words + depth + legend + table + MARGIN))
    height = figure.get_figheight()
    figure.text(MARGIN / WIDTH, 1 - MARGIN / height, "\n".join(said), fontsize=8, family="monospace", va="top")
    if words:
        _words(
            figure.add_axes((MARGIN / WIDTH, 1 - (top + words) / height, 1 - 2 * MARGIN / WIDTH, words / height)), drawn
        )
    for panel, picture, x, y, wide, high in places:
        y += top + words
        axis = figure.add_axes((x / WIDTH, 1 - (y + high) / height, wide / WIDTH, high / height))
        axis.imshow(picture, aspect="auto")
        across = int(wide * 15)
        axis.set_title("\n".join(textwrap.wrap(panel.title, across)[:TITLE_LINES]), fontsize=9)
        note = "\n".join(textwrap.wrap(panel.note, int(wide * 17))[:NOTE_LINES])
        axis.text(0.5, -0.06 / high, note, transform=axis.transAxes, ha="center", va="top", fontsize=7.5)
        axis.set_axis_off()
    if drawn.legend:
        png, text = drawn.legend
        under = top + words + depth + legend
        axis = figure.add_axes((MARGIN / WIDTH, 1 - under / height, 3.2 / WIDTH, 0.27 / height))
        axis.imshow(np.asarray(Image.open(io.BytesIO(png))))
        axis.set_axis_off()
        figure.text(3.6 / WIDTH, 1 - (under - 0.13) / height, text, fontsize=8, va="center")
    if drawn.table:
        _table(figure.add_axes((0.16, MARGIN / height, 0.83, table / height)), drawn)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", pad_inches=MARGIN)
    return buffer.getvalue()


def _places(panels: list[Panel]) -> tuple[list[tuple], float]:
    """Where each picture goes, in inches: (panel, pixels, x, y, width, height), flowing in rows; and the depth of all rows."""
    places, x, y, deepest = [], MARGIN, 0.0, 0.0
    for panel in panels:
        picture = np.asarray(Image.open(io.BytesIO(panel.png)))
        wide = HEIGHT * picture.shape[1] / picture.shape[0]
        wide = min(wide, WIDTH - 2 * MARGIN)
        high = wide * picture.shape[0] / picture.shape[1]
        if x + wide > WIDTH - MARGIN + 1e-6 and x > MARGIN:
            x, y, deepest = MARGIN, y + deepest, 0.0
        places.append((panel, picture, x, y + LINE * (TITLE_LINES + 0.5), wide, high))
        x += max(wide, 1.6) + 0.25
        deepest = max(deepest, high + LINE * (TITLE_LINES + NOTE_LINES + 1))
    return places, y + deepest


def numbers_csv(drawn: Drawn) -> bytes:
    """The numbers behind a view, in full."""
    return drawn.numbers.to_csv(index=False).encode()


def save(tab: str, code: str, drawn: Drawn, folder: str | Path = ".") -> list[Path]:
    """Write a view's PNG, CSV and line of code into a folder, and return the files. Raises FileNotFoundError for no folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to export to")
    name = NAME.format(tab=tab)
    script = f"import xaikit as xk\n\n{code}\n".encode()
    files = {".png": view_png(code, drawn), ".csv": numbers_csv(drawn), ".py": script}
    for ending, content in files.items():
        (folder / (name + ending)).write_bytes(content)
    return [folder / (name + ending) for ending in files]


def links(tab: str, code: str, drawn: Drawn) -> str:
    """HTML with a link to each file, which hold them."""
    name = NAME.format(tab=tab)
    files = {
        "picture (PNG)": (f"{name}.png", "image/png", view_png(code, drawn)),
        "numbers (CSV)": (f"{name}.csv", "text/csv", numbers_csv(drawn)),
    }
    return " &nbsp; ".join(
        f'<a download="{file}" href="data:{kind};base64,{base64.b64encode(content).decode()}">{text}</a>'
        for text, (file, kind, content) in files.items()
    )


def _words(axis, drawn: Drawn) -> None:
    axis.set_axis_off()
    axis.set_xlim(0, 12.5 * (WIDTH - 2 * MARGIN))  # letters
    at = 0.0
    for word in drawn.words:
        box = {"facecolor": word.colour, "edgecolor": "#e69f00" if word.pressed else "#777777", "boxstyle": "round"}
        box["linewidth"] = 3 if word.pressed else 1
        axis.text(at, 0.5, word.text, color=word.ink, va="center", fontsize=9, bbox=box)
        at += len(word.text) + 2.5


def _table(axis, drawn: Drawn) -> None:
    axis.set_axis_off()
    table = axis.table(
        [[cell.text for cell in cells] for _, cells in drawn.table.rows],
        cellColours=[[cell.colour for cell in cells] for _, cells in drawn.table.rows],
        rowLabels=[name for name, _ in drawn.table.rows],
        colLabels=["\n".join(textwrap.wrap(name.replace("_", " "), 12)) for name in drawn.table.columns],
        bbox=(0, 0, 1, 1),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    for (line, column), cell in table.get_celld().items():
        if line > 0 and column >= 0:
            cell.get_text().set_color(drawn.table.rows[line - 1][1][column].ink)
