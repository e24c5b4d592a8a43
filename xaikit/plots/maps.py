"""Pictures: scenes with maps and outlines, words, and a scene whose resonance was suppressed."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from ..files.names import spelled
from ..measures.intervals import oriented
from ..measures.maps import checked
from .panels import CELL, HEAT, TEXT, bare, finished, fitted, grid, heated, laid_over, outline, panels, wrapped


def gallery(scenes: xr.Dataset, title: str, n: int = 8, cols: int = 4, outlines: bool = False) -> Figure:
    """The first n scenes with their captions (and foils in a second line, where there are any); with
    ``outlines`` the named objects in white, the others in black.

    Examples
    --------
    >>> len(xk.plots.gallery(scenes, "Scenes").axes)
    4
    """
    n = min(n, scenes.sizes["sample"])
    figure, axes = grid(n, cols, height=CELL * (1.45 if "foil" in scenes else 1.25))
    for index, axis in enumerate(axes):
        one = scenes.isel(sample=index)
        bare(axis, one.image.values)
        text = wrapped(str(one.caption.item()))
        axis.set_title(text + (f"\nnot: {wrapped(str(one.foil.item()))}" if "foil" in one else ""), fontsize=TEXT)
        if outlines and "object_mask" in one:
            for mask, named in zip(one.object_mask.values, one.object_named.values, strict=True):
                outline(axis, mask, "white" if named else "black")
    return finished(figure, title)


def compare(scenes: xr.Dataset, heat: xr.DataArray, title: str, samples: tuple[int, ...] = (0, 1, 2)) -> Figure:
    """Scenes beside one map an explainer (sample, explainer, row, col), each over its own maximum and laid over the picture
    in grey, with the named objects outlined.

    Examples
    --------
    >>> heat = xk.explain_all(clip, scenes.image, scenes.caption, ["srm", "centre"]).heat
    >>> figure = xk.plots.compare(scenes, heat, "Two explainers")
    """
    heat = checked(heat, scenes)
    explainers = [str(name) for name in heat.explainer.values]
    samples = [index for index in samples if index < scenes.sizes["sample"]]
    figure, axes = panels(len(samples), 1 + len(explainers), height=CELL * 1.12)
    for row, index in zip(axes, samples, strict=True):
        one = scenes.isel(sample=index)
        bare(row[0], one.image.values)
        row[0].set_title(wrapped(str(one.caption.item())), fontsize=TEXT)
        for axis, name in zip(row[1:], explainers, strict=True):
            values = fitted(heat.isel(sample=index).sel(explainer=name).values)
            drawn = laid_over(axis, values, one.image.values)
            outline(axis, _named(one))
            axis.set_title(spelled(name), fontsize=TEXT)
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="heat / largest heat\nof the map")
    return finished(figure, title)


def _named(scene: xr.Dataset) -> np.ndarray:
    """Where the named objects of one scene are (y, x); nowhere in a photograph that nobody has annotated."""
    if "object_mask" not in scene:
        return np.zeros(scene.image.shape[:2], bool)
    return (scene.object_mask & scene.object_named).any("object").values


def overlay(image: np.ndarray, heat: np.ndarray, title: str = "") -> Figure:
    """An image (y, x, rgb), its map (row, col), and the map laid over the image.

    Examples
    --------
    >>> heat = xk.explain("grad_eclip", clip, scenes.image, scenes.caption)
    >>> figure = xk.plots.overlay(scenes.image.values[0], heat[0], "Where it looks")
    """
    heat = fitted(np.asarray(heat))
    figure, axes = panels(1, 3, width=2.6, height=2.4)
    left, middle, right = axes[0]
    bare(left, image)
    left.set_title("image", fontsize=TEXT)
    bare(middle)
    drawn = heated(middle, heat, image.shape[:2])
    middle.set_title("heat on the patch grid", fontsize=TEXT)
    laid_over(right, heat, image)
    right.set_title("laid over", fontsize=TEXT)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="heat / largest heat")
    return finished(figure, title)


def blocks(heads: np.ndarray, title: str, image: np.ndarray | None = None) -> Figure:
    """Attention of the class token to each patch, blocks down and heads across: (block, head, row, col), all on
    one scale. image : (y, x, rgb) that the maps are laid over, smoothly; without one the grid of patches is shown as it is.

    Examples
    --------
    >>> figure = xk.plots.blocks(np.random.default_rng(0).random((2, 4, 8, 8)), "Attention")
    """
    figure, axes = panels(*heads.shape[:2], width=1.5, height=1.5)
    for block, row in enumerate(axes):
        for head, axis in enumerate(row):
            picture = np.zeros((*heads.shape[2:], 3)) if image is None else image
            drawn = laid_over(axis, heads[block, head], picture, image is not None, heads.max())
            axis.set_title(f"head {head}" if block == 0 else "", fontsize=TEXT)
        row[0].set_ylabel(f"block {block}", fontsize=TEXT)
    figure.colorbar(drawn, ax=axes, shrink=0.5, label="attention")
    return finished(figure, title)


def words(word_heat: xr.DataArray, title: str, samples: tuple[int, ...] = (0, 1, 2)) -> Figure:
    """Heat of each word (sample, explainer, token) as bars, an explainer a colour, a sample a panel.

    Examples
    --------
    >>> heat = xk.explain_all(clip, scenes.image, scenes.caption, ["grad_eclip"], of="text").word_heat
    >>> figure = xk.plots.words(heat, "Words")
    """
    samples = [index for index in samples if index < word_heat.sizes["sample"]]
    figure, axes = panels(len(samples), 1, width=8, height=1.6, sharey=True)
    names = [str(name) for name in word_heat.explainer.values]
    for axis, index in zip(axes[:, 0], samples, strict=True):
        one = word_heat.isel(sample=index)
        text = [str(word) for word in one.token_text.values if str(word)]
        values = pd.DataFrame({name: fitted(one.sel(explainer=name).values[: len(text)]) for name in names})
        values = values.rename(columns=spelled).rename_axis("place").reset_index()
        values = values.melt("place", var_name="explainer", value_name="heat")
        first = axis is axes[0, 0]
        sns.barplot(values, x="place", y="heat", hue="explainer", palette="colorblind", ax=axis, legend=first)
        axis.set(xlabel="", ylabel="heat / largest")
        axis.set_xticks(range(len(text)), text, fontsize=TEXT)
    axes[-1, 0].set_xlabel("word of the caption")
    axes[0, 0].legend(ncols=len(names), fontsize=TEXT, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    return finished(figure, title)


def extremes(scenes: xr.Dataset, heat: xr.DataArray, score: xr.DataArray, title: str, cols: int = 2) -> Figure:
    """For each explainer its best scene (left) and its worst (right) by a score (sample, explainer), the map laid over
    the image in grey, the named objects outlined; ``cols`` explainers side by side.

    Examples
    --------
    >>> heat = xk.explain_all(clip, scenes.image, scenes.caption, ["srm", "centre"]).heat
    >>> figure = xk.plots.extremes(scenes, heat, heat.max(("row", "col")), "Best and worst")
    """
    explainers = [str(name) for name in heat.explainer.values]
    empty = [name for name in explainers if not np.isfinite(score.sel(explainer=name)).any()]
    if empty:
        raise ValueError(f"the score {score.name} has no finite value of {empty[0]}: choose another score")
    figure, axes = grid(2 * len(explainers), 2 * cols, width=1.8, height=2.1)
    for index, name in enumerate(explainers):
        values = oriented(score).sel(explainer=name).values
        pair = axes[2 * index : 2 * index + 2]
        for axis, which in zip(pair, (np.nanargmax(values), np.nanargmin(values)), strict=True):
            one = scenes.isel(sample=int(which))
            hot = fitted(np.maximum(heat.isel(sample=int(which)).sel(explainer=name).values, 0))
            scale = laid_over(axis, hot, one.image.values)
            outline(axis, _named(one))
            number = f"{score.sel(explainer=name).values[which]:.2f}"
            axis.set_title(f"{wrapped(str(one.caption.item()), 22)}\n{number}", fontsize=TEXT - 1)
        pair[0].set_ylabel(spelled(name), fontsize=TEXT)
    figure.colorbar(scale, ax=axes, shrink=0.4, label="heat / largest heat of the map")
    return finished(figure, title)


def suppression(suppressed: xr.Dataset, title: str, sample: int = 0) -> Figure:
    """One scene before and after the attack, and after each control of the same size: images, what was added, resonance maps
    (colours by their square roots, so that what is left shows); and, over all samples, the mode's energy and the similarity.

    suppressed : of ``suppress_resonance``. sample : by its place.

    Examples
    --------
    >>> found = xk.resonance.suppress_resonance(clip, scenes.image[:2], scenes.caption[:2], updates=2)
    >>> figure = xk.plots.suppression(found, "Suppressed")
    """
    states = [str(state) for state in suppressed.state.values]
    palette = sns.color_palette("colorblind")
    colours = dict(zip(states, (palette[0], palette[3], palette[2], palette[4], "0.35"), strict=False))
    one = suppressed.isel(sample=sample)
    clean = one.image.sel(state="clean").values
    largest = float(one["size"].max()) or 1.0
    peak = float(one.resonance_map.max()) or 1.0
    shown = len(states)
    figure = plt.figure(figsize=(1 + 1.8 * shown, 8.8), layout="constrained")
    pictures, curves = figure.add_gridspec(2, 1, height_ratios=[3.3, 1])
    cells = pictures.subgridspec(3, shown + 1, width_ratios=[*[1] * shown, 0.07])
    below = curves.subgridspec(1, 3)
    labels = "image", f"change,\n{0.5 / largest:.0f} times", "resonance map"
    for col, state in enumerate(states):
        now = one.sel(state=state)
        top, middle, bottom = (figure.add_subplot(cells[row, col]) for row in range(3))
        bare(top, now.image.values)
        top.set_title(f"{state}\nsimilarity {now.similarity.item():.2f}", fontsize=TEXT + 1, color=colours[state])
        bare(middle, 0.5 + (now.image.values - clean) / (2 * largest))
        middle.set_title(f"largest change {now['size'].item() * 255:.1f} / 255", fontsize=TEXT)
        bare(bottom)
        drawn = bottom.imshow(now.resonance_map.values, cmap=HEAT, norm=PowerNorm(0.5, 0, peak))
        numbers = f"mode's energy {now.energy.item():.3g}\nrank correlation {now.rank_correlation.item():.2f}"
        bottom.set_title(numbers, fontsize=TEXT)
        for axis, label in zip((top, middle, bottom), labels if col == 0 else ("", "", ""), strict=True):
            axis.set_ylabel(label, fontsize=TEXT + 1)
    bar = figure.colorbar(drawn, cax=figure.add_subplot(cells[2, shown]))
    bar.set_label("resonance energy, all\nfrequencies (square-root scale)", fontsize=TEXT)
    bar.ax.tick_params(labelsize=TEXT)
    relative = (suppressed.energy / suppressed.energy.sel(state="clean")).values
    course = suppressed.course / suppressed.course.isel(update=0)
    _descent(figure.add_subplot(below[0]), course.values, colours["suppressed"])
    _slopes(figure.add_subplot(below[1]), relative, sample, states, colours, "energy of the\nmode / clean", True)
    last = figure.add_subplot(below[2])
    _slopes(last, suppressed.similarity.values, sample, states, colours, "similarity", False)
    shared = {"loc": "outside lower center", "ncols": 2, "fontsize": TEXT, "frameon": False}
    figure.legend(*last.get_legend_handles_labels(), **shared)
    return finished(figure, title)


def _descent(axis, course: np.ndarray, colour) -> None:
    """Lowest relative energy so far (sample, update): each sample, and the median."""
    axis.plot(course.T, color=colour, alpha=0.2, linewidth=0.8)
    axis.plot(np.median(course, 0), color=colour, linewidth=2, label="median")
    axis.set(xlabel="update", ylabel="energy of the\nmode / clean", yscale="log")
    axis.tick_params(labelsize=TEXT)
    axis.yaxis.label.set_size(TEXT)
    axis.set_title(f"descent, {len(course)} samples", fontsize=TEXT + 1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=TEXT - 1)


def _slopes(axis, values: np.ndarray, sample: int, states: list[str], colours: dict, label: str, log: bool) -> None:
    """A line a sample over the states, the shown sample dashed, and each state's median with its quartiles."""
    place = np.arange(len(states))
    axis.plot(place, values.T, color="0.6", alpha=0.35, linewidth=0.7)
    axis.plot(place, values[sample], color="black", linestyle="--", linewidth=1.2, label="the scene shown")
    for x, state in enumerate(states):
        low, middle, high = np.quantile(values[:, x], [0.25, 0.5, 0.75])
        axis.errorbar(
            x, middle, [[middle - low], [high - middle]], fmt="o", color=colours[state], markersize=7, linewidth=2.5,
            capsize=4, zorder=3, label="median and quartiles" if x == 0 else None,
        )  # fmt: skip
    axis.set_xticks(place, [wrapped(state, 10) for state in states], fontsize=TEXT)
    axis.set_ylabel(label, fontsize=TEXT)
    axis.tick_params(labelsize=TEXT)
    if log:
        axis.set_yscale("log")
    axis.margins(x=0.15)
    axis.grid(axis="y", alpha=0.3)
