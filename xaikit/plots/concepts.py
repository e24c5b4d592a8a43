"""Figures of what resonance finds in images: the concepts as a tree, their agreement with the planted ones, and what removing
the patches of a map does."""

from functools import partial

import networkx as nx
import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..files.names import spelled
from ..measures.intervals import interval_text, mean_interval
from .panels import TEXT, bare, finished, grid, interval_ends, outline, panels, wrapped

WIDTH, LEFT, TOP, BOTTOM = 10, 1.15, 0.45, 0.5  # inches
LARGEST, WORDS, GAP = 1.35, 0.5, 0.45  # inches: a thumbnail, the words below it, the room for lines
FADED = 0.25  # what is left of the colours outside a concept, the rest is white
NAMES = {"mode": "dominant mode", "resonance": "resonance energy", "end": "last map", "grad_eclip": "Grad-ECLIP"}
LINE = "#0173b2"  # the first of seaborn's "colorblind"


def concept_tree(concepts: xr.Dataset, sample, image: np.ndarray, title: str) -> Figure:
    """The concepts of one sample as a tree, a band of frequencies a row, from low at the top to high at the bottom; bands
    with less than 1 % of the energy are left out.

    concepts : what ``concept_hierarchy`` gives. image : that sample's picture (y, x, rgb), uint8. A node is the picture
    with all but the concept faded; below it its words, and its share of the sample's energy. A line is as wide as
    the mutual information of the concepts that it links. Raises ValueError for an unknown sample.

    Examples
    --------
    >>> course = xk.resonance.resonate(clip, scenes.image[:1], scenes.caption[:1]).trajectory
    >>> concepts = xk.resonance.concept_hierarchy(course)
    >>> figure = xk.plots.concept_tree(concepts, 0, scenes.image.values[0], "Concepts")
    """
    tree = graph(concepts, sample)
    return drawn_tree(tree, image, title, bands=strong_bands(tree))


def graph(concepts: xr.Dataset, sample) -> nx.DiGraph:
    """The concepts of one sample as nodes, with the dataset's variables as attributes, and its links as edges from the
    lower band to the upper one, with ``mutual_information`` and ``normalised_information``.

    Nodes have the numbers that ``link_source`` and ``link_target`` use. Raises ValueError for an unknown sample.
    """
    there = concepts.sample.values == sample
    if not there.any():
        raise ValueError(f"sample={sample!r}: the concepts are of samples {np.unique(concepts.sample.values).tolist()}")
    drawn = nx.DiGraph()
    for node in np.flatnonzero(there):
        one = concepts.isel(concept=node)
        scalars = {name: one[name].item() for name in ("sample", "band", "label", "energy", "silhouette")}
        drawn.add_node(int(node), mask=one["mask"].values, **scalars)
    for edge in np.flatnonzero(there[concepts.link_source.values]):
        one = concepts.isel(link=edge)
        shared = {name: one[name].item() for name in ("mutual_information", "normalised_information")}
        drawn.add_edge(one.link_source.item(), one.link_target.item(), **shared)
    return drawn


def strong_bands(tree: nx.DiGraph, least: float = 0.01) -> list[int] | None:
    """The bands with at least this share of the energy, None where none has, so that all are drawn."""
    share = {}
    for _, one in tree.nodes(data=True):
        share[one["band"]] = share.get(one["band"], 0.0) + one["energy"]
    return [int(band) for band in sorted(share) if share[band] >= least] or None


def drawn_tree(
    tree: nx.DiGraph, image: np.ndarray, title: str, width: float = WIDTH, bands: list[int] | None = None
) -> Figure:
    """``concept_tree`` of what ``graph`` gives, on a page of so many inches. bands : those that are drawn, None for all.

    The axes of a concept's picture have its node as their ``gid``. Figure and axes never pass through pyplot, so that a
    thread can draw them while a notebook runs.
    """
    every = int(max(band for _, band in tree.nodes(data="band"))) + 1
    rows = {band: nodes for band, nodes in enumerate(_rows(tree, every)) if bands is None or band in bands}
    slot = (width - LEFT) / max(map(len, rows.values()))
    side = min(LARGEST, 0.85 * slot)
    step = side + WORDS + GAP
    shown = {node for nodes in rows.values() for node in nodes}
    links = [link for link in tree.edges(data="mutual_information") if {*link[:2]} <= shown]
    height = TOP + len(rows) * step - GAP + (BOTTOM if links else 0)
    figure = Figure(figsize=(width, height))
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, width), ylim=(0, height))
    page.axis("off")
    edges = np.linspace(0, 0.5, every + 1)
    place = {}
    for row, (band, nodes) in enumerate(rows.items()):
        top = height - TOP - row * step
        name = {0: "low\n", every - 1: "high\n"}.get(band, "") if every > 1 else ""
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
    for source, target, shared in links:
        (x, y), (to_x, to_y) = place[source], place[target]
        start = y - side - WORDS + 0.05
        page.plot([x, to_x], [start, to_y + 0.03], color=LINE, linewidth=_line_width(shared), solid_capstyle="round")
    if not links:
        return finished(figure, title)
    widths = {f"{nats:.2g}": _line_width(nats) for nats in (0, 0.1, 0.3, 0.69)}
    figure.legend(
        handles=[Line2D([], [], color=LINE, linewidth=width, label=label) for label, width in widths.items()],
        title="mutual information of the linked masks (nat)", title_fontsize=TEXT, fontsize=TEXT,
        loc="lower center", ncols=len(widths), frameon=False, borderaxespad=0.1,
    )  # fmt: skip
    return finished(figure, title)


def agreement_bars(agreement: xr.DataArray, title: str) -> Figure:
    """Mean adjusted mutual information with each planted level, and its 95 % interval over samples.

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
        frame["explainer"] = frame.explainer.map(spelled)
        sns.barplot(
            frame, x="level", y="value", hue="explainer", palette="colorblind", ax=axis,
            errorbar=partial(interval_ends, limits=(-1.0, 1.0)), err_kws={"linewidth": 1.2}, legend=band == 0,
        )  # fmt: skip
        axis.set(xlabel="planted level", ylabel="adjusted mutual information\n(higher is better)" if band == 0 else "")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
        if bands > 1:
            low, high = band / bands / 2, (band + 1) / bands / 2
            axis.set_title(f"{low:.2f} to {high:.2f} cycles per iteration", fontsize=TEXT + 1)
    limits = [axis.get_ylim() for axis in axes[0]]
    for axis in axes[0]:
        axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    handles, names = axes[0, 0].get_legend_handles_labels()
    axes[0, 0].get_legend().remove()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=TEXT, frameon=False)
    return finished(figure, title)


def ablation_points(ablated: dict[str, xr.Dataset], title: str) -> Figure:
    """Change of the similarity without the patches of each map, beside that without matched random ones: means with
    their 95 % intervals over samples, each sample a faint point; below each pair their paired difference.

    ablated : datasets of ``ablate_modes`` by name (of the coupling, say), a panel each, two in a row.

    Examples
    --------
    >>> found = xk.resonance.ablate_modes(clip, scenes.image, scenes.caption, draws=2)
    >>> figure = xk.plots.ablation_points({"attention": found}, "Removed")
    """
    cols = min(2, len(ablated))
    figure, axes = grid(len(ablated), cols, width=5 if cols == 2 else 6, height=3.2)
    chosen, control = sns.color_palette("colorblind")[3], "0.35"
    spread = np.random.default_rng(0)
    values = [ds[name].values for ds in ablated.values() for name in ("change", "random_change")]
    low, high = min(v.min() for v in values), max(0.05, *(v.max() for v in values))
    reach = high - low
    for axis, (name, ds) in zip(axes, ablated.items(), strict=True):
        axis.axhline(0, color="black", linewidth=0.8)
        for place in range(ds.sizes["ablation"]):
            one = ds.isel(ablation=place)
            own, other = one.change.values, one.random_change.mean("draw").values
            for each, shift, colour, marker, label in (
                (own, -0.18, chosen, "o", "patches of the map"),
                (other, 0.18, control, "s", "random, matched"),
            ):
                around = place + shift + spread.uniform(-0.09, 0.09, len(each))
                axis.scatter(around, each, s=9, color=colour, alpha=0.25, linewidths=0)
                mean, bottom, top = mean_interval(each)
                axis.errorbar(
                    place + shift, mean, [[mean - bottom], [top - mean]], fmt=marker, color=colour, markersize=6,
                    linewidth=2, capsize=3, label=label if place == 0 else None,
                )  # fmt: skip
            difference = interval_text(*mean_interval(own - other), signed=True).replace(" [", "\n[")
            axis.text(place, low - 0.04 * reach, difference, ha="center", va="top", fontsize=TEXT - 1)
        labels = [wrapped(NAMES.get(str(a), str(a)), 11) for a in ds.ablation.values]
        axis.set_xticks(range(len(labels)), labels, fontsize=TEXT)
        axis.set(xlim=(-0.6, len(labels) - 0.4), ylim=(low - 0.2 * reach, high + 0.15 * reach))
        axis.set_title(name, fontsize=TEXT + 2)
        axis.set_xlabel("map that chooses the patches (numbers: paired difference, 95 % interval)", fontsize=TEXT)
        axis.grid(axis="y", alpha=0.3)
        axis.set_ylabel("change of the cosine similarity", fontsize=TEXT + 1)
    axes[0].legend(fontsize=TEXT, loc="upper left", ncols=2)
    return finished(figure, title)


def _rows(tree: nx.DiGraph, bands: int) -> list[list[int]]:
    """The nodes of each band, children in the order of their parents, so that lines seldom cross."""
    rows, order = [], {}
    for band in range(bands):
        first = {
            node: min((order[parent] for parent in tree.predecessors(node)), default=len(order))
            for node, of in tree.nodes(data="band")
            if of == band
        }
        rows.append(sorted(first, key=first.get))
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
