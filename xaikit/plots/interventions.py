"""Figures of interventions: what removing patches does, and an image whose mode was taken out."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

from ..measures.intervals import mean_interval
from .panels import HEAT, TEXT, bare, finished, grid, wrapped

NAMES = {"mode": "dominant mode", "resonance": "all that oscillates", "end": "last map", "grad_eclip": "Grad-ECLIP"}


def ablation_points(ablated: dict[str, xr.Dataset], title: str, seed: int = 0) -> Figure:
    """Change of the similarity without the patches of each map, beside that without matched random ones: means with
    their bootstrap 95 % intervals over samples, each sample a faint point; below each pair their paired difference.

    ablated : datasets of ``ablate_modes`` by name (of the coupling, say), a panel each, two in a row.

    Examples
    --------
    >>> found = xk.resonance.ablate_modes(clip, scenes.image, scenes.caption, draws=2)
    >>> figure = xk.plots.ablation_points({"attention": found}, "Removed")
    """
    names = list(ablated)
    cols = min(2, len(names))
    figure, axes = grid(len(names), cols, width=5 if cols == 2 else 6, height=3.2)
    chosen, control = sns.color_palette("colorblind")[3], "0.35"
    spread = np.random.default_rng(seed)
    values = [ds[name].values for ds in ablated.values() for name in ("change", "random_change")]
    low, high = min(v.min() for v in values), max(0.05, *(v.max() for v in values))
    reach = high - low
    for axis, name in zip(axes, names, strict=True):
        ds = ablated[name]
        axis.axhline(0, color="black", linewidth=0.8)
        pairs = (
            ("change", -0.18, chosen, "o", "patches of the map"),
            ("random_change", 0.18, control, "s", "random, matched"),
        )
        for place in range(ds.sizes["ablation"]):
            one = ds.isel(ablation=place)
            columns = []
            for variable, shift, colour, marker, label in pairs:
                each = one[variable].values if variable == "change" else one[variable].mean("draw").values
                columns.append(each)
                around = place + shift + spread.uniform(-0.09, 0.09, len(each))
                axis.scatter(around, each, s=9, color=colour, alpha=0.25, linewidths=0)
                mean, bottom, top = mean_interval(each, seed)
                axis.errorbar(
                    place + shift, mean, [[mean - bottom], [top - mean]], fmt=marker, color=colour, markersize=6,
                    linewidth=2, capsize=3, label=label if place == 0 else None,
                )  # fmt: skip
            mean, bottom, top = mean_interval(columns[0] - columns[1], seed)
            axis.text(
                place,
                low - 0.04 * reach,
                f"{mean:+.3f}\n[{bottom:+.3f}, {top:+.3f}]",
                ha="center",
                va="top",
                fontsize=TEXT - 1,
            )
        labels = [wrapped(NAMES.get(str(a), str(a)), 11) for a in ds.ablation.values]
        axis.set_xticks(range(len(labels)), labels, fontsize=TEXT)
        axis.set(xlim=(-0.6, len(labels) - 0.4), ylim=(low - 0.2 * reach, high + 0.15 * reach))
        axis.set_title(name, fontsize=TEXT + 2)
        axis.set_xlabel("map that chooses the patches (numbers: paired difference, 95 % interval)", fontsize=TEXT)
        axis.grid(axis="y", alpha=0.3)
        axis.set_ylabel("change of the cosine similarity", fontsize=TEXT + 1)
    axes[0].legend(fontsize=TEXT, loc="upper left", ncols=2)
    return finished(figure, title)


def suppression(suppressed: xr.Dataset, title: str, sample: int = 0) -> Figure:
    """One scene before, after, and after noise of the same size: images, what was added, resonance maps; and, over all
    samples, the mode's energy and the similarity.

    suppressed : of ``suppress_resonance``. sample : by its place.

    Examples
    --------
    >>> found = xk.resonance.suppress_resonance(clip, scenes.image[:2], scenes.caption[:2], updates=2)
    >>> figure = xk.plots.suppression(found, "Suppressed")
    """
    states = [str(state) for state in suppressed.state.values]
    palette = sns.color_palette("colorblind")
    colours = dict(zip(states, (palette[0], palette[3], "0.35"), strict=True))
    one = suppressed.isel(sample=sample)
    clean = one.image.sel(state="clean").values
    largest = float(one["size"].max()) or 1.0
    peak = float(one.resonance_map.max()) or 1.0
    figure = plt.figure(figsize=(10, 6.2), layout="constrained")
    grid = figure.add_gridspec(3, 5, width_ratios=[1, 1, 1, 0.08, 1.9])
    drawn = []
    for col, state in enumerate(states):
        now = one.sel(state=state)
        top, middle, bottom = (figure.add_subplot(grid[row, col]) for row in range(3))
        bare(top, now.image.values)
        top.set_title(f"{state}\nsimilarity {now.similarity.item():.2f}", fontsize=TEXT + 1, color=colours[state])
        bare(middle, 0.5 + (now.image.values - clean) / (2 * largest))
        middle.set_title(f"largest change {now['size'].item() * 255:.1f} / 255", fontsize=TEXT)
        bare(bottom)
        drawn.append(bottom.imshow(now.resonance_map.values, cmap=HEAT, vmin=0, vmax=peak))
        bottom.set_title(
            f"energy of the mode {now.energy.item():.3g}\nrank correlation {now.rank_correlation.item():.2f}",
            fontsize=TEXT,
        )
        if col == 0:
            for axis, label in (
                (top, "image"),
                (middle, f"change,\n{0.5 / largest:.0f} times"),
                (bottom, "resonance map"),
            ):
                axis.set_ylabel(label, fontsize=TEXT + 1)
    figure.colorbar(drawn[-1], cax=figure.add_subplot(grid[2, 3]), label="energy of all that oscillates")
    relative = (suppressed.energy / suppressed.energy.sel(state="clean")).values
    course = suppressed.course / suppressed.course.isel(update=0)
    _descent(figure.add_subplot(grid[0, 4]), course.values, colours["suppressed"])
    _slopes(figure.add_subplot(grid[1, 4]), relative, sample, states, colours, "energy of the mode / clean", True)
    _slopes(figure.add_subplot(grid[2, 4]), suppressed.similarity.values, sample, states, colours, "similarity", False)
    return finished(figure, title)


def _descent(axis, course: np.ndarray, colour) -> None:
    """Lowest relative energy so far (sample, update): each sample, and the median."""
    axis.plot(course.T, color=colour, alpha=0.2, linewidth=0.8)
    axis.plot(np.median(course, 0), color=colour, linewidth=2, label="median")
    axis.set(xlabel="update", ylabel="energy of the mode / clean", yscale="log")
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
    axis.set_xticks(place, states, fontsize=TEXT)
    axis.set_ylabel(label, fontsize=TEXT)
    axis.tick_params(labelsize=TEXT)
    if log:
        axis.set_yscale("log")
    axis.margins(x=0.15)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=TEXT - 1)
