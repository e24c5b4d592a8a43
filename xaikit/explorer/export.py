"""What a view shows as files: a PNG, a CSV and the line of code that shows it again."""

import base64
import html
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..files.store import write
from .panels import Drawn, Panel, Table, Word
from .pixels import decoded, encoded, flowing, font, lettered, resized, stacked
from .state import State
from .workspace import Workspace

WIDTH, GAP = 1400, 16  # pixels: of the whole picture, and between two in it
SIDE, LARGE = 320, 500  # pixels: the shorter side of a picture in it; from which on a picture is drawn twice as large
TEXT, MONO, BOLD = 14, "DejaVuSansMono", "DejaVuSans-Bold"
PRESSED, UNPRESSED, CELL = ("#e69f00", 3), ("#777777", 1), ("#dddddd", 1)  # edges of words and of cells
FIRST, OTHER = 220, 96  # pixels: a table's columns
JPEG = 0.7  # of the PNG's size; with little loss a fifth of its bytes
SCENES = "xaikit-scenes.nc"


def view_picture(code: str, drawn: Drawn, kind: str = "png") -> bytes:
    """All pictures of a view in one, with their titles and notes, its sentences, words, legend and table, below the line that
    shows it again. kind : "png" or "jpeg", which takes a fifth of the room."""
    lines = [lettered(text, WIDTH, TEXT, MONO) for text in (code, *drawn.sentences.values())]
    words = [_boxed(word) for word in drawn.words]
    panels = [_titled(panel) for panel in drawn.panels.values() if panel.png]
    parts = [*lines, flowing(words, WIDTH, 6)[0], flowing(panels, WIDTH, GAP)[0]]
    if drawn.legend:
        bar = decoded(drawn.legend.png)
        parts.append(flowing([bar, lettered(drawn.legend.note, WIDTH - bar.shape[1] - GAP, TEXT)], WIDTH, GAP)[0])
    if drawn.table:
        parts.append(_table(drawn.table))
    page = np.pad(stacked(parts, GAP // 2), ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
    if kind == "png":
        return encoded(page, "PNG")
    return encoded(resized(page, tuple(round(JPEG * side) for side in page.shape[:2])), "JPEG", quality=50)


def _titled(panel: Panel) -> np.ndarray:
    """A panel's picture at its size in a page, its title above and its note below."""
    picture = decoded(panel.png)
    size = np.array(picture.shape[:2])
    scale = 0.5 if size.min() > LARGE else min(1, SIDE / size.min())
    height, width = np.maximum((size * min(scale, WIDTH / size.max())).round().astype(int), 1)
    room = max(width, SIDE)
    title, note = lettered(panel.title, room, TEXT, BOLD), lettered(panel.note, room, TEXT - 1)
    return stacked([title, resized(picture, (height, width)), note], 4)


def _boxed(word: Word, width: int | None = None, lines: int = 1) -> np.ndarray:
    """A word in a box of its own width, or a table's cell in the middle of one of another."""
    edge, thick = CELL if width else PRESSED if word.pressed else UNPRESSED
    letters = font(TEXT - (width is not None))
    width = width or int(letters.getlength(word.text)) + 20
    page = Image.new("RGB", (width, 10 + 18 * lines), word.colour)
    draw = ImageDraw.Draw(page)
    draw.rectangle([0, 0, page.width - 1, page.height - 1], outline=edge, width=thick)
    draw.multiline_text((page.width / 2, page.height / 2), word.text, word.ink, letters, "mm", align="center")
    return np.asarray(page)


def _table(table: Table) -> np.ndarray:
    """A line of boxes a row; of long names the last letters are left out, the heads are wrapped."""
    heads = [name.replace("_", "\n") for name in table.columns]
    lines = max((head.count("\n") for head in heads), default=0) + 1

    def row(name: str, cells: Iterable[Word], lines: int = 1) -> np.ndarray:
        first = Word(name if len(name) < 28 else f"{name[:26]}…")
        return np.concatenate([_boxed(first, FIRST, lines), *(_boxed(cell, OTHER, lines) for cell in cells)], 1)

    return stacked([row("", map(Word, heads), lines), *(row(name, cells) for name, cells in table.rows)], 0)


def save(workspace: Workspace, state: State, code: str, drawn: Drawn, folder: str | Path = ".") -> list[Path]:
    """Write a view's PNG, CSV and script into a folder, with what the script needs, and return the files.

    The folder is made if it isn't there yet; raises FileExistsError for a file of that name.
    """
    folder = Path(folder)
    if folder.is_file():
        raise FileExistsError(f"{folder} is a file: give a folder to export to")
    folder.mkdir(parents=True, exist_ok=True)
    name, given = _name(state), ""
    files = _picture_and_numbers(state, code, drawn)
    if workspace.pictures.uploaded(state.image):
        own = f"{name}-picture.png"
        files[own] = encoded(np.asarray(workspace.picture(state)), "PNG")
        code = code.replace(f"image={state.image!r}", f"image={own!r}")
    if workspace.given:
        given = f"scenes = xk.files.store.read({SCENES!r}, 'inputs')\n"
        write(workspace.scenes(state), folder / SCENES, "inputs")
    files[f"{name}.py"] = f"import xaikit as xk\n\n{given}{code}\n".encode()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return [folder / file for file in [*files, *([SCENES] if workspace.given else [])]]


def links(workspace: Workspace, state: State, code: str, drawn: Drawn) -> str:
    """HTML with a link to each file, whose bytes are in it, and what else the line of code needs."""
    kinds = {".png": ("picture (PNG)", "image/png"), ".csv": ("numbers (CSV)", "text/csv")}
    found = []
    for file, content in _picture_and_numbers(state, code, drawn).items():
        text, kind = kinds[Path(file).suffix]
        data = base64.b64encode(content).decode()
        found.append(f'<a download="{file}" href="data:{kind};base64,{data}">{text}</a>')
    if workspace.pictures.uploaded(state.image):
        found.append(html.escape(f"the line needs {state.image} beside it"))
    if workspace.given:
        found.append("the line needs your scenes, by the name scenes")
    return " &nbsp; ".join(found)


def _picture_and_numbers(state: State, code: str, drawn: Drawn) -> dict[str, bytes]:
    """The two files of every export, by name."""
    numbers = drawn.numbers.to_csv(index=False).encode()
    return {f"{_name(state)}.png": view_picture(code, drawn), f"{_name(state)}.csv": numbers}


def _name(state: State) -> str:
    """A file's name without its ending, from the view and the picture: letters, figures, dots and dashes only."""
    of = f"scene{state.sample}" if state.image is None else Path(state.image).stem
    if state.tab == "runs":
        of = Path(state.run or "run").name
    return f"xaikit-{state.tab}-{re.sub(r'[^A-Za-z0-9.]+', '-', of).strip('-.') or 'picture'}"
