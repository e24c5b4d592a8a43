"""The concept hierarchy as pictures: its tree, whose nodes can be pressed, and the concept that is chosen."""

import textwrap

import networkx as nx
import numpy as np
from PIL import Image, ImageDraw

from ..drawing import BLUE, EDGE, TRUE_EDGE, png, upsampled, with_edge
from ..drawn import Panel, Spot
from ..state import State
from ..workspace import Workspace
from .lettering import font
from .panels import iou
from .waves import BANDS, Wave

WIDTH, HEAD, FOOT, SLOT, THUMB, GAP = 760, 44, 30, 86, 72, 7  # pixels
FINE = 2  # pixels of the picture for one of these, so that lines and letters are sharp
LETTERS = 13  # in a line of a concept's words
FADED = 0.25  # what is left of the colours outside a concept, the rest is white


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
    """The concepts, a band of frequencies a column from low to high, linked by the information that they share."""
    if chosen is None:
        return None
    height, places = _layout(wave.tree)
    spots = []
    for node, (x, y) in places.items():
        label = f"concept {node}: {_words(wave, node)}, {band_name(wave, node)}, {_share(wave, node)} of the energy"
        wide = WIDTH / BANDS - 60
        spots.append(Spot(x / WIDTH, y / height, wide / WIDTH, THUMB / height, label, node == chosen))
    note = (
        "What is not of the concept is faded; beside it its words and its share of the oscillating energy. A line is as wide as "
        "the information that two concepts of neighbouring bands share."
    )
    alt = f"{len(places)} concepts in {BANDS} bands of frequencies, linked from low to high"
    drawn = workspace.kept(("tree", wave), lambda: tree_png(wave))
    return Panel("concepts by band of frequencies", drawn, note, alt, tuple(spots))


def concept(wave: Wave, chosen: int | None, truth: np.ndarray | None) -> Panel:
    """The chosen concept's mask on the picture, and how it agrees with the truth (y, x)."""
    if chosen is None:
        return Panel("no concepts", png(wave.image), f"No concepts: {wave.tree}.")
    inside = upsampled(wave.tree.nodes[chosen]["mask"], wave.image.shape[:2]) > 0.5
    drawn = _faded(wave.image, inside)
    parents = [f"linked to concept {parent} of the band below" for parent in wave.tree.predecessors(chosen)]
    note = ", ".join([band_name(wave, chosen), f"{_share(wave, chosen)} of the energy", *parents])
    if truth is not None:
        drawn = with_edge(drawn, truth, TRUE_EDGE)
        note += f", IoU with the named objects (outlined in blue) {iou(inside, truth):.2f}"
    return Panel(f"concept {chosen}: {_words(wave, chosen)}", png(with_edge(drawn, inside, EDGE)), note)


def band_name(wave: Wave, node: int) -> str:
    """The band of a concept in words."""
    band = wave.tree.nodes[node]["band"]
    return f"{band / BANDS / 2:.2f} to {(band + 1) / BANDS / 2:.2f} cycles per iteration"


def tree_png(wave: Wave) -> bytes:
    """The tree without what is pressed on it."""
    height, places = _layout(wave.tree)
    page = Image.new("RGB", (FINE * WIDTH, FINE * height), "white")
    draw, text, small = ImageDraw.Draw(page), font(FINE * 13), font(FINE * 12)
    ends = {}
    for node, (x, y) in places.items():
        mask = wave.tree.nodes[node]["mask"]
        inside = upsampled(mask, wave.image.shape[:2]) > 0.5
        thumb = Image.fromarray(with_edge(_faded(wave.image, inside), inside, np.zeros(3, np.uint8), 4))
        page.paste(thumb.resize((FINE * THUMB, FINE * THUMB), Image.LANCZOS), (FINE * x, FINE * y))
        lines = [*textwrap.wrap(_words(wave, node), LETTERS)[:3], _share(wave, node)]
        at, middle = FINE * (x + THUMB + GAP), FINE * (y + THUMB // 2)
        draw.multiline_text((at, middle), "\n".join(lines), "black", text, "lm", spacing=FINE * 3)
        ends[node] = at + max(text.getlength(line) for line in lines) + FINE * GAP, middle
    for source, target, shared in wave.tree.edges(data="mutual_information"):
        x, y = places[target]
        end = FINE * (x - 3), FINE * (y + THUMB // 2)
        draw.line([ends[source], end], BLUE, round(FINE * _line_width(shared)))
    for band in range(BANDS):
        kind = {0: "low: ", BANDS - 1: "high: "}.get(band, "")
        about = f"{kind}{band / BANDS / 2:.2f} to {(band + 1) / BANDS / 2:.2f}\ncycles per iteration"
        draw.multiline_text((FINE * _left(band), FINE * 2), about, "black", small, spacing=FINE * 2)
    x, y = FINE * 8, FINE * (height - FOOT // 2)
    draw.text((x, y), "mutual information (nat):", "black", small, "lm")
    x += small.getlength("mutual information (nat):")
    for shared in (0, 0.1, 0.3, 0.69):
        draw.line([(x + FINE * 16, y), (x + FINE * 50, y)], BLUE, round(FINE * _line_width(shared)))
        draw.text((x + FINE * 56, y), f"{shared:g}", "black", small, "lm")
        x += FINE * 90
    return png(np.asarray(page))


def _layout(tree: nx.DiGraph) -> tuple[int, dict[int, tuple[int, int]]]:
    """The picture's height, and the upper left corner of each concept, children in the order of their parents."""
    columns, order = [], {}
    for band in range(BANDS):
        nodes = [node for node, of in tree.nodes(data="band") if of == band]
        columns.append(sorted(nodes, key=lambda node: min((order[up] for up in tree.predecessors(node)), default=99)))
        order = {node: index for index, node in enumerate(columns[-1])}
    most = max(map(len, columns))
    places = {}
    for band, nodes in enumerate(columns):
        first = HEAD + SLOT * (most - len(nodes)) // 2
        places |= {node: (_left(band), first + SLOT * index) for index, node in enumerate(nodes)}
    return HEAD + SLOT * most + FOOT, dict(sorted(places.items()))


def _left(band: int) -> int:
    return 8 + band * WIDTH // BANDS


def _words(wave: Wave, node: int) -> str:
    return wave.tree.nodes[node]["label"] or "(no word)"


def _share(wave: Wave, node: int) -> str:
    return f"{100 * wave.tree.nodes[node]['energy']:.2g} %"


def _faded(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    faded = FADED * image + (1 - FADED) * 255
    return np.where(inside[..., None], image, faded).astype(np.uint8)


def _line_width(nats: float) -> float:
    return 1 + 16 * nats  # pixels; two masks share at most log 2 = 0.69 nat
