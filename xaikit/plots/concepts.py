"""Figures of concept hierarchies."""

import networkx as nx
import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..resonance.concepts import graph
from .panels import TEXT, bare, finished, outline, panels, wrapped

WIDTH, LEFT, TOP, BOTTOM = 10, 1.15, 0.45, 0.5  # inches
LARGEST, WORDS, GAP = 1.35, 0.5, 0.45  # inches: a thumbnail, the words below it, the room for lines
FADED = 0.25  # what is left of the colours outside a concept, the rest is white
LINE = "#0173b2"  # the first of seaborn's "colorblind"


def concept_tree(concepts: xr.Dataset, sample, image: np.ndarray, title: str) -> Figure:
    """The concepts of one sample as a tree, a band of frequencies a row, from low at the top to high at the bottom.

    concepts : what ``concept_hierarchy`` gives. image : that sample's picture (y, x, rgb), uint8. A node is the picture
    with all but the concept faded; below it its words, and its share of the sample's energy. A line is as wide as
    the mutual information of the concepts that it links. Raises ValueError for an unknown sample.

    Examples
    --------
    >>> course = xk.resonance.resonate(clip, scenes.image[:1], scenes.caption[:1]).trajectory
    >>> concepts = xk.resonance.concept_hierarchy(course)
    >>> figure = xk.plots.concept_tree(concepts, 0, scenes.image.values[0], "Concepts")
    """
    return drawn_tree(graph(concepts, sample), image, title)


def drawn_tree(tree: nx.DiGraph, image: np.ndarray, title: str, width: float = WIDTH) -> Figure:
    """``concept_tree`` of what ``resonance.concepts.graph`` gives, on a page of so many inches.

    The axes of a concept's picture have its node as their ``gid``. Figure and axes never pass through pyplot, so that a
    thread can draw them while a notebook runs.
    """
    bands = int(max(band for _, band in tree.nodes(data="band"))) + 1
    rows = _rows(tree, bands)
    slot = (width - LEFT) / max(map(len, rows))
    side = min(LARGEST, 0.85 * slot)
    step = side + WORDS + GAP
    height = TOP + bands * step - GAP + BOTTOM
    figure = Figure(figsize=(width, height))
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, width), ylim=(0, height))
    page.axis("off")
    edges = np.linspace(0, 0.5, bands + 1)
    place = {}
    for band, nodes in enumerate(rows):
        top = height - TOP - band * step
        name = {0: "low\n", bands - 1: "high\n"}.get(band, "") if bands > 1 else ""
        text = f"{name}{edges[band]:.2f} to {edges[band + 1]:.2f}\ncycles per\niteration"
        page.text(0.12, top - side / 2, text, fontsize=TEXT, va="center")
        for index, node in enumerate(nodes):
            middle = LEFT + (width - LEFT) * (index + 0.5) / len(nodes)
            place[node] = middle, top
            corner = (middle - side / 2) / width, (top - side) / height
            axis = figure.add_axes((*corner, side / width, side / height), gid=str(node))
            _thumbnail(axis, image, tree.nodes[node]["mask"])
            label = wrapped(tree.nodes[node]["label"] or "(no word)", max(8, int(slot * 14)))
            share = f"{100 * tree.nodes[node]['energy']:.3g} % of energy"
            page.text(middle, top - side - 0.05, f"{label}\n{share}", fontsize=TEXT, ha="center", va="top")
    for source, target, shared in tree.edges(data="mutual_information"):
        (x, y), (to_x, to_y) = place[source], place[target]
        start = y - side - WORDS + 0.05
        page.plot([x, to_x], [start, to_y + 0.03], color=LINE, linewidth=_line_width(shared), solid_capstyle="round")
    keys = [
        Line2D([], [], color=LINE, linewidth=_line_width(nats), label=f"{nats:.2g}") for nats in (0, 0.1, 0.3, 0.69)
    ]
    figure.legend(
        handles=keys, title="mutual information of the linked masks (nat)", title_fontsize=TEXT, fontsize=TEXT,
        loc="lower center", ncols=len(keys), frameon=False, borderaxespad=0.1,
    )  # fmt: skip
    return finished(figure, title)


def agreement_bars(agreement: xr.DataArray, title: str) -> Figure:
    """Mean adjusted mutual information with each planted level, and its bootstrap 95 % interval over samples.

    agreement : (sample, level, explainer) and perhaps band, which then has a panel each, low to high; the dimensions may
    stand in any order.

    Examples
    --------
    >>> planted = xk.resonance.planted_hierarchy(scenes, (8, 8))
    >>> found = xk.resonance.agreement(planted.rename(level="band"), planted)
    >>> figure = xk.plots.agreement_bars(found.expand_dims(explainer=["truth"]), "Agreement")
    """
    bands = agreement.sizes.get("band", 1)
    each = agreement if "band" in agreement.dims else agreement.expand_dims("band")
    figure, axes = panels(1, bands, width=max(10 / bands, 3.3) if bands > 1 else 5, height=2.7)
    for band, axis in enumerate(axes[0]):
        frame = each.isel(band=band, drop=True).to_dataframe(name="value").reset_index()
        frame["explainer"] = frame.explainer.astype(str).str.replace("_", " ")
        sns.barplot(
            frame, x="level", y="value", hue="explainer", palette="colorblind", ax=axis,
            n_boot=500, seed=0, errorbar=("ci", 95), err_kws={"linewidth": 1.2}, legend=band == 0,
        )  # fmt: skip
        axis.set(xlabel="planted level", ylabel="adjusted mutual information\n(higher is better)" if band == 0 else "")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
        if bands > 1:
            axis.set_title(
                f"{band / bands / 2:.2f} to {(band + 1) / bands / 2:.2f} cycles per iteration", fontsize=TEXT + 1
            )
    limits = [axis.get_ylim() for axis in axes[0]]
    for axis in axes[0]:
        axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    handles, names = axes[0, 0].get_legend_handles_labels()
    axes[0, 0].get_legend().remove()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=TEXT, frameon=False)
    return finished(figure, title)


def _rows(tree: nx.DiGraph, bands: int) -> list[list[int]]:
    """The nodes of each band, children in the order of their parents, so that lines seldom cross."""
    rows, order = [], {}
    for band in range(bands):
        nodes = [node for node, of in tree.nodes(data="band") if of == band]
        rows.append(
            sorted(nodes, key=lambda node: min((order[p] for p in tree.predecessors(node)), default=len(order)))
        )
        order = {node: index for index, node in enumerate(rows[-1])}
    return rows


def faded(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """An image (y, x, rgb), uint8, pale but for a mask (y, x)."""
    pale = FADED * image + (1 - FADED) * 255
    return np.where(inside[..., None], image, pale).astype(np.uint8)


def _thumbnail(axis, image: np.ndarray, mask: np.ndarray) -> None:
    height, width = image.shape[:2]
    row = np.arange(height) * mask.shape[0] // height
    inside = mask[row][:, np.arange(width) * mask.shape[1] // width]
    bare(axis, faded(image, inside))
    outline(axis, inside, "black")


def _line_width(nats: float) -> float:
    return 0.6 + 8 * nats  # points; two masks share at most log 2 = 0.69 nat
