"""Figures from datasets, nothing else. Every function returns the figure and leaves no state behind."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

HEAT = "magma"
CELL = 1.9  # inches, one small panel
TEXT = 8


def _close(figure: Figure, title: str) -> Figure:
    """Title the figure and take it out of pyplot's hands, so that a notebook shows it once."""
    figure.suptitle(title, fontsize=11)
    plt.close(figure)
    return figure


def _panels(rows: int, cols: int, width: float = CELL, height: float = CELL):
    return plt.subplots(rows, cols, figsize=(cols * width, rows * height + 0.5), squeeze=False, layout="constrained")


def _bare(axis, image=None) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    if image is not None:
        axis.imshow(image)


def _wrapped(text: str, width: int = 24) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _outline(axis, mask: np.ndarray, colour: str = "white") -> None:
    if mask.any():
        axis.contour(mask, levels=[0.5], colors=colour, linewidths=1.0)


def gallery(scenes: xr.Dataset, title: str, n: int = 8, cols: int = 4, outlines: bool = False) -> Figure:
    """The first n scenes with their captions (and foils in a second line, where there are any); with
    ``outlines`` the named objects in white, the others in black."""
    n = min(n, scenes.sizes["sample"])
    figure, axes = _panels(-(-n // cols), cols, height=CELL * (1.45 if "foil" in scenes else 1.25))
    for index, axis in enumerate(axes.flat):
        if index >= n:
            axis.remove()
            continue
        one = scenes.isel(sample=index)
        _bare(axis, one.image.values)
        text = _wrapped(str(one.caption.item()))
        axis.set_title(text + (f"\nnot: {_wrapped(str(one.foil.item()))}" if "foil" in one else ""), fontsize=TEXT)
        if outlines:
            for mask, named in zip(one.object_mask.values, one.object_named.values, strict=True):
                _outline(axis, mask, "white" if named else "black")
    return _close(figure, title)


def _fitted(heat: np.ndarray) -> np.ndarray:
    """Divided by the largest value, so that maps of different units share one scale."""
    peak = np.abs(heat).max()
    return heat / peak if peak > 0 else heat


def compare(scenes: xr.Dataset, heat: xr.DataArray, title: str, samples: tuple[int, ...] = (0, 1, 2)) -> Figure:
    """Scenes beside one map an explainer (sample, explainer, row, col), each over its own maximum, with the
    named objects outlined."""
    explainers = [str(name) for name in heat.explainer.values]
    figure, axes = _panels(len(samples), 1 + len(explainers), height=CELL * 1.12)
    drawn = None
    for row, index in zip(axes, samples, strict=True):
        one = scenes.isel(sample=index)
        named = (one.object_mask & one.object_named).any("object").values
        _bare(row[0], one.image.values)
        row[0].set_title(_wrapped(str(one.caption.item())), fontsize=TEXT)
        for axis, name in zip(row[1:], explainers, strict=True):
            drawn = _map(axis, heat.isel(sample=index).sel(explainer=name).values, one.image.shape[:2])
            _outline(axis, named)
            axis.set_title(name.replace("_", " "), fontsize=TEXT)
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="heat / largest heat of the map")
    return _close(figure, title)


def _map(axis, heat: np.ndarray, size: tuple[int, int]):
    _bare(axis)
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    return axis.imshow(_fitted(heat), cmap=HEAT, vmin=0, vmax=1, extent=extent, interpolation="nearest")


def overlay(image: np.ndarray, heat: np.ndarray, title: str = "") -> Figure:
    """An image (y, x, rgb), its map (row, col), and the map laid over the image."""
    heat = np.asarray(heat)
    figure, axes = _panels(1, 3, width=2.6, height=2.4)
    left, middle, right = axes[0]
    _bare(left, image)
    left.set_title("image", fontsize=TEXT)
    drawn = _map(middle, heat, image.shape[:2])
    middle.set_title("heat on the patch grid", fontsize=TEXT)
    _bare(right, image)
    extent = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    right.imshow(_fitted(heat), cmap=HEAT, vmin=0, vmax=1, alpha=0.6, extent=extent, interpolation="bicubic")
    right.set_title("laid over", fontsize=TEXT)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="heat / largest heat")
    return _close(figure, title)


def blocks(heads: np.ndarray, title: str) -> Figure:
    """Attention of the class token to each patch, blocks down and heads across: (block, head, row, col), on
    one scale a block."""
    figure, axes = _panels(*heads.shape[:2], width=1.5, height=1.5)
    for block, row in enumerate(axes):
        for head, axis in enumerate(row):
            _bare(axis)
            drawn = axis.imshow(heads[block, head], cmap="viridis", vmin=0, vmax=heads[block].max())
            axis.set_title(f"head {head}" if block == 0 else "", fontsize=TEXT)
        row[0].set_ylabel(f"block {block}", fontsize=TEXT)
        figure.colorbar(drawn, ax=row, shrink=0.8, label="attention")
    return _close(figure, title)


def words(word_heat: xr.DataArray, title: str, samples: tuple[int, ...] = (0, 1, 2)) -> Figure:
    """Heat of each word (sample, explainer, token) as bars, an explainer a colour, a sample a panel."""
    figure, axes = _panels(len(samples), 1, width=8, height=1.6)
    names = [str(name) for name in word_heat.explainer.values]
    for axis, index in zip(axes[:, 0], samples, strict=True):
        one = word_heat.isel(sample=index)
        text = [str(word) for word in one.token_text.values if str(word)]
        values = pd.DataFrame(
            [(place, name, value) for name in names
             for place, value in enumerate(_fitted(one.sel(explainer=name).values[: len(text)]))],
            columns=["place", "explainer", "heat"],
        )  # fmt: skip
        sns.barplot(
            values, x="place", y="heat", hue="explainer", palette="colorblind", ax=axis, legend=axis is axes[0, 0]
        )
        axis.set(xlabel="", ylabel="heat / largest")
        axis.set_xticks(range(len(text)), text, fontsize=TEXT)
    axes[-1, 0].set_xlabel("word of the caption")
    axes[0, 0].legend(ncols=len(names), fontsize=TEXT, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    return _close(figure, title)


def training_curves(log: pd.DataFrame, title: str) -> Figure:
    """Retrieval and swap accuracy, and the losses, against the training step. log: step, model, figures."""
    accuracy, losses = ["recall_at_1", "attribute_swap", "relation_swap"], ["contrastive", "patch_heads", "pooled_head"]
    figure, axes = _panels(1, 2, width=4.8, height=3)
    for axis, columns, label in zip(
        axes[0], (accuracy, losses), ("accuracy on fresh scenes", "loss (log scale)"), strict=True
    ):
        long = log.melt(["step", "model"], columns, "figure", "value")
        sns.lineplot(long, x="step", y="value", hue="figure", style="model", palette="colorblind", ax=axis)
        axis.set(xlabel="training step", ylabel=label)
        axis.legend(fontsize=TEXT - 1)
    axes[0, 0].set_ylim(0, 1.02)
    axes[0, 1].set_yscale("log")
    return _close(figure, title)


def curves(evaluation: xr.Dataset, title: str) -> Figure:
    """Deletion and insertion curves, mean over samples with its bootstrap 95 % band."""
    figure, axes = _panels(1, 2, width=4.6, height=3.2)
    for axis, kind in zip(axes[0], ("deletion", "insertion"), strict=True):
        frame = (
            evaluation[f"{kind}_curve"]
            .assign_coords(fraction=evaluation.fraction)
            .to_dataframe(name="cosine")
            .reset_index()
        )
        sns.lineplot(
            frame, x="fraction", y="cosine", hue="explainer", palette="colorblind", ax=axis, n_boot=500, seed=0, errorbar=("ci", 95),
            legend=kind == "insertion",
        )  # fmt: skip
        better = "lower is better" if kind == "deletion" else "higher is better"
        axis.set(
            title=f"{kind} ({better})", xlabel="share of patches, hottest first", ylabel="cosine of image and caption"
        )
    axes[0, 1].legend(fontsize=TEXT, loc="lower right")
    return _close(figure, title)


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
    return _close(figure, title)


def grid_scores(table: pd.DataFrame, x: str, y: str, value: str, title: str) -> Figure:
    """A heat map of a sweep's best score over two of its choices."""
    wide = table.pivot_table(index=y, columns=x, values=value, aggfunc="max")
    figure, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
    sns.heatmap(wide, annot=True, fmt=".3f", cmap="viridis", cbar_kws={"label": value.replace("_", " ")}, ax=axis)
    axis.set(xlabel=x, ylabel=y)
    return _close(figure, title)
