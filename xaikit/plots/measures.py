"""Figures of measurements."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

from ..metrics.intervals import oriented
from .panels import TEXT, finished, panels, wrapped


def training_curves(log: pd.DataFrame, title: str) -> Figure:
    """Retrieval and swap accuracy, and the losses, against the training step. log: step, model, figures."""
    accuracy, losses = ["recall_at_1", "attribute_swap", "relation_swap"], ["contrastive", "patch_heads", "pooled_head"]
    figure, axes = panels(1, 2, width=4.8, height=3)
    for axis, columns, label in zip(
        axes[0], (accuracy, losses), ("accuracy on fresh scenes", "loss (log scale)"), strict=True
    ):
        long = log.melt(["step", "model"], columns, "figure", "value")
        sns.lineplot(long, x="step", y="value", hue="figure", style="model", palette="colorblind", ax=axis)
        axis.set(xlabel="training step", ylabel=label)
        axis.legend(fontsize=TEXT - 1)
    axes[0, 0].set_ylim(0, 1.02)
    axes[0, 1].set_yscale("log")
    return finished(figure, title)


def curves(evaluation: xr.Dataset, title: str) -> Figure:
    """Deletion and insertion curves, mean over samples with its bootstrap 95 % band."""
    figure, axes = panels(1, 2, width=4.6, height=3.2)
    for axis, kind in zip(axes[0], ("deletion", "insertion"), strict=True):
        frame = (
            evaluation[f"{kind}_curve"]
            .assign_coords(fraction=evaluation.fraction)
            .to_dataframe(name="cosine")
            .reset_index()
        )
        frame["explainer"] = frame.explainer.str.replace("_", " ")
        sns.lineplot(
            frame, x="fraction", y="cosine", hue="explainer", style="explainer", palette="colorblind", ax=axis,
            dashes=True, n_boot=500, seed=0, errorbar=("ci", 95), legend=kind == "insertion",
        )  # fmt: skip
        better = "lower is better" if kind == "deletion" else "higher is better"
        axis.set(
            title=f"{kind} ({better})", xlabel="share of patches, hottest first", ylabel="cosine of image and caption"
        )
    axes[0, 1].legend(fontsize=TEXT, loc="lower right")
    return finished(figure, title)


def metric_points(evaluation: xr.Dataset, metrics: list[str], title: str, cols: int = 3) -> Figure:
    """Mean and bootstrap 95 % interval of each metric, an explainer a row."""
    rows = -(-len(metrics) // cols)
    height = 0.9 + 0.24 * evaluation.sizes["explainer"]
    figure, axes = plt.subplots(
        rows, cols, figsize=(10, rows * height + 0.5), squeeze=False, layout="constrained", sharey=True
    )
    for axis, metric in zip(axes.flat, metrics, strict=False):
        values = evaluation[metric]
        frame = values.to_dataframe(name="value").reset_index()
        sns.pointplot(
            frame, x="value", y="explainer", hue="explainer", palette="colorblind", ax=axis, linestyle="none",
            markersize=5, err_kws={"linewidth": 1.5},
            n_boot=500, seed=0, errorbar=("ci", 95), legend=False,
        )  # fmt: skip
        axis.set(xlabel=f"{metric.replace('_', ' ')}\n({values.attrs.get('score_direction', '')})", ylabel="")
        axis.grid(axis="x", alpha=0.3)
    for axis in axes.flat[len(metrics) :]:
        axis.remove()
    return finished(figure, title)


def grid_scores(table: pd.DataFrame, x: str, y: str, value: str, title: str) -> Figure:
    """A heat map of a sweep's best score over two of its choices."""
    wide = table.pivot_table(index=y, columns=x, values=value, aggfunc="max")
    figure, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
    sns.heatmap(wide, annot=True, fmt=".3f", cmap="viridis", cbar_kws={"label": value.replace("_", " ")}, ax=axis)
    axis.set(xlabel=x, ylabel=y)
    return finished(figure, title)


def score_table(
    table: pd.DataFrame, title: str, label: str, text: pd.DataFrame | None = None, diverging: bool = False
) -> Figure:
    """A table as colours with its numbers: explainers down. text: what stands in each cell instead of the number;
    diverging: from -1 to 1, for correlations."""
    size = (1.6 + 0.95 * table.shape[1], 1.1 + 0.25 * table.shape[0])
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    colours = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1} if diverging else {"cmap": "viridis"}
    annotation = table.map(lambda value: f"{value:.2f}") if text is None else text
    sns.heatmap(
        table, annot=annotation, fmt="", annot_kws={"fontsize": TEXT}, cbar_kws={"label": label}, ax=axis, **colours
    )
    axis.set(xlabel="", ylabel="")
    axis.set_xticks(axis.get_xticks(), [wrapped(str(name).replace("_", " "), 12) for name in table.columns], rotation=0)
    axis.set_yticks(axis.get_yticks(), [str(name).replace("_", " ") for name in table.index], rotation=0)
    axis.tick_params(labelsize=TEXT)
    return finished(figure, title)


def leaderboard(measured: xr.Dataset, metrics: list[str], best: pd.DataFrame, title: str) -> Figure:
    """Explainers down, metrics across: means, coloured from worst (0) to best (1) within each metric, with a star for
    the best and for those not significantly worse. best: explainers x metrics of bool."""
    means = measured[metrics].mean("sample").to_dataframe()[metrics]
    turned = pd.DataFrame({metric: oriented(measured[metric]).mean("sample").to_series() for metric in metrics})
    scaled = (turned - turned.min()) / (turned.max() - turned.min()).replace(0, 1)
    star = best.loc[means.index, metrics].map(lambda first: "*" if first else "")
    arrow = {"lower is better": "\u2193", "higher is better": "\u2191"}
    names = {m: f"{m} {arrow.get(measured[m].attrs.get('score_direction'), '')}" for m in metrics}
    order = scaled.mean(1).sort_values(ascending=False).index
    text = means.map(lambda value: f"{value:.2f}") + star
    return score_table(
        scaled.loc[order].rename(columns=names), title, "worst 0, best 1",
        text.loc[order].rename(columns=names),
    )  # fmt: skip


def cost_and_quality(cost: xr.DataArray, quality: xr.DataArray, title: str, xlabel: str) -> Figure:
    """Each explainer's cost (explainer) against its mean quality (sample, explainer) with a 95 % interval (1.96 standard
    errors), the cost on a logarithmic axis."""
    figure, axis = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    mean = quality.mean("sample")
    error = 1.96 * quality.std("sample", ddof=1) / np.sqrt(quality.count("sample"))
    names = [str(name) for name in quality.explainer.values]
    by_cost = [str(name) for name in cost.sortby(cost).explainer.values]
    for index, name in enumerate(names):
        right = by_cost.index(name) % 2 == 0  # neighbours' names to either side, so that they seldom meet
        at = float(cost.sel(explainer=name)), float(mean.sel(explainer=name))
        colour = sns.color_palette("colorblind")[index % 10]
        axis.errorbar(*at, yerr=float(error.sel(explainer=name)), fmt="o", color=colour, markersize=5, linewidth=1)
        place = {"xytext": (5 if right else -5, 3), "textcoords": "offset points", "ha": "left" if right else "right"}
        axis.annotate(name.replace("_", " "), at, fontsize=TEXT - 1, **place)
    axis.margins(x=0.12)
    axis.set(xscale="log", xlabel=xlabel, ylabel=quality.attrs.get("long_name", str(quality.name)))
    axis.grid(alpha=0.3)
    return finished(figure, title)


def intervals_of(claims: xr.Dataset, bounds: list[float], title: str) -> Figure:
    """What was measured of each claim (claim), with its interval low to high, and the bound that decides as a line."""
    names = [str(name) for name in claims.claim.values]
    figure, axis = plt.subplots(figsize=(6.5, 0.9 + 0.45 * len(names)), layout="constrained")
    for row, (name, bound) in enumerate(zip(names, bounds, strict=True)):
        one = claims.sel(claim=name)
        axis.plot([one.low.item(), one.high.item()], [row, row], color="C0", linewidth=2)
        axis.plot(one.measured.item(), row, "o", color="C0")
        axis.plot([bound, bound], [row - 0.35, row + 0.35], color="black", linestyle="--")
    axis.set(xlabel="measured", ylabel="", ylim=(len(names) - 0.5, -0.5))
    axis.set_yticks(range(len(names)), names, fontsize=TEXT)
    return finished(figure, title)
