"""What a view shows as files: a PNG, a CSV and the line of code that shows it again."""

import base64
import html
import io
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ..files.store import write
from .drawn import Drawn, Panel, Table, Word
from .state import State
from .workspace import Workspace

WIDTH, HEIGHT = 12.6, 2.35  # inches: of the whole picture, and of one in it
LINE = 0.17  # inches
TITLE_LINES = 2
LETTERS, GAP = 12.0, 2.5  # of a word's line: letters in an inch, and between two words
SCENES = "xaikit-scenes.nc"


def view_picture(code: str, drawn: Drawn, kind: str = "png") -> bytes:
    """All pictures of a view in one, with their titles and notes, its sentences, words, legend and table, below the line that
    shows it again. kind : "png" or "jpeg", which takes a fifth of the room."""
    said = [line for text in (code, *drawn.sentences.values()) for line in textwrap.wrap(text, 118)]
    lines = _in_lines(drawn.words)
    blocks, depth = _blocks([panel for panel in drawn.panels.values() if panel.png])
    heights = {
        "said": LINE * (len(said) + 1),
        "words": 0.36 * len(lines),
        "panels": depth,
        "legend": 0.4 if drawn.legend else 0.0,
        "table": 1.3 * LINE * (len(drawn.table.rows) + 2) if drawn.table else 0.0,
    }
    tops = dict(zip(heights, np.cumsum([0.0, *heights.values()]), strict=False))
    figure = Figure(figsize=(WIDTH, max(sum(heights.values()), 1.0)))
    _say(figure, 0, tops["said"], "\n".join(said), va="top", family="monospace")
    for number, line in enumerate(lines):
        _words(_axes(figure, 0, tops["words"] + 0.36 * number, WIDTH, 0.3), line)
    for block in blocks:
        _draw(figure, block, tops["panels"])
    if drawn.legend:
        png, text = drawn.legend
        _axes(figure, 0, tops["legend"], 3.2, 0.27).imshow(np.asarray(Image.open(io.BytesIO(png))))
        _say(figure, 3.4, tops["legend"] + 0.13, text, va="center")
    if drawn.table:
        _table(_axes(figure, 1.8, tops["table"], WIDTH - 1.8, heights["table"]), drawn.table)
    buffer = io.BytesIO()
    options = {"dpi": 85, "pil_kwargs": {"quality": 70}} if kind == "jpeg" else {"dpi": 110}
    figure.savefig(buffer, format=kind, bbox_inches="tight", pad_inches=0.15, **options)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Block:
    """A picture with its title and note, in inches from the upper left corner of the panels."""

    x: float
    y: float
    width: float
    height: float
    picture: np.ndarray
    title: str
    note: str


def _blocks(panels: list[Panel]) -> tuple[list[_Block], float]:
    """The panels flowing in rows, and how deep these are together."""
    blocks, x, y, deepest = [], 0.0, 0.0, 0.0
    for panel in panels:
        picture = np.asarray(Image.open(io.BytesIO(panel.png)))
        aspect = picture.shape[1] / picture.shape[0]
        width = min(max(HEIGHT * aspect, HEIGHT), WIDTH)
        title, note = (
            textwrap.wrap(text, int(letters * width)) for text, letters in ((panel.title, 15), (panel.note, 17))
        )
        if x + width > WIDTH + 1e-6:
            x, y, deepest = 0.0, y + deepest, 0.0
        above = LINE * (TITLE_LINES + 0.6)
        blocks.append(
            _Block(x, y + above, width, width / aspect, picture, "\n".join(title[:TITLE_LINES]), "\n".join(note))
        )
        deepest = max(deepest, above + width / aspect + LINE * (len(note) + 1))
        x += width + 0.2
    return blocks, y + deepest


def _axes(figure: Figure, x: float, y: float, width: float, height: float):
    """Bare axes at a place in inches from the upper left corner."""
    wide, high = figure.get_size_inches()
    axis = figure.add_axes((x / wide, 1 - (y + height) / high, width / wide, height / high))
    axis.set_axis_off()
    return axis


def _say(figure: Figure, x: float, y: float, text: str, **style) -> None:
    wide, high = figure.get_size_inches()
    figure.text(x / wide, 1 - y / high, text, fontsize=8, parse_math=False, **style)


def _draw(figure: Figure, block: _Block, top: float) -> None:
    axis = _axes(figure, block.x, block.y + top, block.width, block.height)
    axis.imshow(block.picture, aspect="auto")
    axis.set_title(block.title, fontsize=9, parse_math=False)
    axis.text(
        0.5,
        -0.06 / block.height,
        block.note,
        transform=axis.transAxes,
        ha="center",
        va="top",
        fontsize=7.5,
        parse_math=False,
    )


def numbers_csv(drawn: Drawn) -> bytes:
    """The numbers behind a view, in full."""
    return drawn.numbers.to_csv(index=False).encode()


def save(workspace: Workspace, state: State, code: str, drawn: Drawn, folder: str | Path = ".") -> list[Path]:
    """Write a view's PNG, CSV and script into a folder, with what the script needs, and return the files.

    The folder is made if it isn't there yet; raises FileExistsError for a file of that name.
    """
    folder = Path(folder)
    if folder.is_file():
        raise FileExistsError(f"{folder} is a file: give a folder to export to")
    folder.mkdir(parents=True, exist_ok=True)
    name, given = _name(state), ""
    files = {f"{name}.png": view_picture(code, drawn), f"{name}.csv": numbers_csv(drawn)}
    if workspace.pictures.uploaded(state.image):
        picture = io.BytesIO()
        workspace.picture(state).save(picture, "PNG")
        own = f"{name}-picture.png"
        files[own] = picture.getvalue()
        code = code.replace(f"image={state.image!r}", f"image={own!r}")
    if workspace.given:
        given = f"scenes = xk.store.read({SCENES!r}, 'inputs')\n"
        write(workspace.scenes(state), folder / SCENES, "inputs")
    files[f"{name}.py"] = f"import xaikit as xk\n\n{given}{code}\n".encode()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return [folder / file for file in [*files, *([SCENES] if workspace.given else [])]]


def links(workspace: Workspace, state: State, code: str, drawn: Drawn) -> str:
    """HTML with a link to each file, which hold them, and what else the line of code needs."""
    name = _name(state)
    files = {
        "picture (PNG)": (f"{name}.png", "image/png", view_picture(code, drawn)),
        "numbers (CSV)": (f"{name}.csv", "text/csv", numbers_csv(drawn)),
    }
    found = [
        f'<a download="{file}" href="data:{kind};base64,{base64.b64encode(content).decode()}">{text}</a>'
        for text, (file, kind, content) in files.items()
    ]
    if workspace.pictures.uploaded(state.image):
        found.append(html.escape(f"the line needs {state.image} beside it"))
    if workspace.given:
        found.append("the line needs your scenes, by the name scenes")
    return " &nbsp; ".join(found)


def _name(state: State) -> str:
    """A file's name without its ending, from the view and the picture: letters, figures, dots and dashes only."""
    of = (
        Path(state.run or "run").name
        if state.tab == "runs"
        else Path(state.image).stem
        if state.image
        else f"scene{state.sample}"
    )
    return f"xaikit-{state.tab}-{re.sub(r'[^A-Za-z0-9.]+', '-', of).strip('-.') or 'picture'}"


def _in_lines(words: tuple[Word, ...]) -> list[list[Word]]:
    """The words in lines of a view's width."""
    lines: list[list[Word]] = []
    room = 0.0
    for word in words:
        needed = len(word.text) + GAP
        if needed > room or not lines:
            lines.append([])
            room = LETTERS * WIDTH
        lines[-1].append(word)
        room -= needed
    return lines


def _words(axis, words: list[Word]) -> None:
    axis.set_xlim(0, LETTERS * WIDTH)
    at = 1.0
    for word in words:
        edge = {"edgecolor": "#e69f00", "linewidth": 3} if word.pressed else {"edgecolor": "#777777", "linewidth": 1}
        box = {"facecolor": word.colour, "boxstyle": "round", **edge}
        axis.text(at, 0.5, word.text, color=word.ink, va="center", fontsize=9, bbox=box, parse_math=False)
        at += len(word.text) + GAP


def _table(axis, table: Table) -> None:
    drawn = axis.table(
        [[cell.text for cell in cells] for _, cells in table.rows],
        cellColours=[[cell.colour for cell in cells] for _, cells in table.rows],
        rowLabels=[name for name, _ in table.rows],
        colLabels=["\n".join(textwrap.wrap(name.replace("_", " "), 12)) for name in table.columns],
        bbox=(0, 0, 1, 1),
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7)
    for (line, column), cell in drawn.get_celld().items():
        cell.get_text().set_parse_math(False)
        if line > 0 and column >= 0:
            cell.get_text().set_color(table.rows[line - 1][1][column].ink)
