"""Figures of measurements: curves of training and of faithfulness, means with their intervals, tables as colours."""

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..files.names import spelled
from ..measures.intervals import as_text, difference_in, oriented, score_interval, summary, verdicts
from .panels import ARROWS, TEXT, finished, grid, panels, wrapped

MARKERS = "osD^vPX*"
NARROWEST = 6.5  # inches of a table
VERDICTS = {
    "better": ("#0072b2", "o"),
    "worse": ("#d55e00", "s"),
    "not told apart": ("0.5", "d"),
}  # colours of Okabe and Ito
# Colours of seaborn's "colorblind" for lines side by side: those that are like one another stand far apart in the list.
LINES = [sns.color_palette("colorblind")[place] for place in (0, 3, 2, 4, 9, 8, 7, 1, 5, 6)]


def training_curves(log: pd.DataFrame, title: str) -> Figure:
    """Retrieval and swap accuracy above, the losses below, against the training step, a model a column. log: step, model,
    figures; those that a model's log lacks are left out.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.read_csv(xk.files.data_folder() / "tiny-clip" / "training_log.csv").assign(model="tiny-clip")
    >>> figure = xk.plots.training_curves(log, "Training")
    """
    models = list(dict.fromkeys(log.model))
    rows = (
        ("held-out accuracy", ("recall_at_1", "attribute_swap", "relation_swap"), {"ylim": (0, 1.02)}),
        ("loss (log scale)", ("contrastive", "patch_heads", "pooled_head"), {"yscale": "log"}),
    )
    figure, axes = panels(2, len(models), width=9.6 / len(models), height=2.1, sharex="col", sharey="row")
    for row, (label, columns, limits) in zip(axes, rows, strict=True):
        for axis, model in zip(row, models, strict=True):
            own = log[log.model == model]
            for name, colour, style in zip(columns, sns.color_palette("colorblind"), ("-", "--", ":"), strict=False):
                known = own[["step", name]].dropna() if name in own else pd.DataFrame({"step": [], name: []})
                axis.plot(known.step, known[name], style, color=colour, label=spelled(name))
            axis.set(**limits)
            if "ylim" in limits:
                axis.axhline(0.5, color="0.5", linewidth=1, label="chance of a swap")
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=TEXT)
        row[0].set_ylabel(label, fontsize=TEXT + 1)
        row[-1].legend(fontsize=TEXT, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    room = int(9.6 / len(models) * 10)  # letters of a title
    for top, bottom, model in zip(*axes, models, strict=True):
        top.set_title(fill(model, room), fontsize=TEXT + 1)
        bottom.set_xlabel("training step", fontsize=TEXT + 1)
    return finished(figure, title)


def share_curves(
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
    marks: dict[str, tuple[str, str]],
    xlabel: str,
    ylabel: str,
    limits: tuple[float, float],
) -> Figure:
    """Curves (shares from 0 to 1, values) by name, the last one solid and the others dashed, and a legend above them.

    marks : marker and colour, by name, of what is put on the picture later and explained here already. limits : of the
    values. Nothing passes through pyplot, so that a thread can draw while a notebook runs.
    """
    figure = Figure(figsize=(3.8, 3.4))
    axis = figure.add_axes((0.16, 0.15, 0.81, 0.69))
    *others, last = curves
    for name in others:
        axis.plot(*curves[name], "--", color="0.4", label=name)
    axis.plot(*curves[last], color="#0072b2", label=last)
    for name, (marker, colour) in marks.items():
        axis.plot([], [], marker, color=colour, markeredgecolor="black", label=name)
    axis.set(xlim=(-0.02, 1.02), ylim=limits, xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    handles, labels = axis.get_legend_handles_labels()
    about = {"loc": "upper center", "ncols": 2, "fontsize": TEXT, "frameon": False, "columnspacing": 1}
    figure.legend(handles[::-1], labels[::-1], **about)
    return figure


def metric_points(evaluation: xr.Dataset, metrics: list[str], title: str, cols: int = 3) -> Figure:
    """Mean and 95 % interval of each metric that was measured, an explainer a row.

    Examples
    --------
    >>> heat = xk.explain_all(clip, scenes.image, scenes.caption, ["srm", "centre"])
    >>> measured = heat.heat.max(("row", "col")).to_dataset(name="largest")
    >>> figure = xk.plots.metric_points(measured, ["largest"], "Means")
    """
    metrics = [metric for metric in metrics if metric in evaluation]
    names = evaluation.explainer.values
    figure, axes = _axes_of_metrics(evaluation[metrics], names, cols)
    for axis, metric in zip(axes, metrics, strict=True):
        _intervals(axis, np.arange(len(names)), *_means(evaluation[metric], names), "C0")
    return finished(figure, title)


def paired_differences(
    evaluation: xr.Dataset, metrics: list[str], against: dict[str, str], title: str, cols: int = 3, margin: float = 0.0
) -> Figure:
    """Explainers minus those that they are compared with, paired over samples, for each metric that was measured: mean and
    95 % interval (Student's t), coloured by its ``verdicts``.

    against : for each explainer the one that is subtracted. margin : of what counts as no effect, a grey band about 0. Raises
    ValueError where none of the metrics was measured.

    Examples
    --------
    >>> heat = xk.explain_all(clip, scenes.image, scenes.caption, ["srm", "centre"])
    >>> measured = heat.heat.max(("row", "col")).to_dataset(name="largest")
    >>> figure = xk.plots.paired_differences(measured, ["largest"], {"centre": "srm"}, "The centre minus SRM")
    """
    measured = [metric for metric in metrics if metric in evaluation]
    if not measured:
        raise ValueError(f"metrics={metrics!r}: none was measured; measured were {', '.join(map(str, evaluation))}")
    figure, axes = _axes_of_metrics(evaluation[measured], list(against), min(cols, len(measured)))
    width, height = figure.get_size_inches()
    figure.set_size_inches(
        width, height + 0.3 + 0.2 * title.count("\n")
    )  # for the legend, and each further line of the title
    told = verdicts(evaluation, measured, against)
    for axis, metric in zip(axes, measured, strict=True):
        for place, (pair, verdict) in enumerate(zip(against.items(), told[metric], strict=True)):
            each, (colour, marker) = difference_in(evaluation[metric], *pair), VERDICTS[verdict]
            _intervals(axis, place, each.value, *each.interval(), colour, marker)
        axis.axvline(0, color="black", linewidth=1)
        axis.axvspan(-margin, margin, color="0.9", zorder=0)
    marks = [Line2D([], [], color=colour, marker=marker, label=name) for name, (colour, marker) in VERDICTS.items()]
    figure.legend(
        handles=marks, loc="outside lower center", ncols=len(marks), fontsize=TEXT, frameon=False, title_fontsize=TEXT,
        title="bars: single 95 % intervals; colours: paired t tests, 5 % false discoveries among all of them",
    )  # fmt: skip
    return finished(figure, title)


def grid_scores(table: pd.DataFrame, x: str, y: str, value: str, title: str, reach: float | None = None) -> Figure:
    """A heat map of a sweep's score over two of its choices, the best one over all others.

    reach : of differences, up to which size colours go, from white at 0; None for colours from the least to the largest score.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"alpha": [0.5, 1], "blocks": [1, 1], "score": [0.2, 0.4]})
    >>> figure = xk.plots.grid_scores(table, "alpha", "blocks", "score", "A sweep")
    """
    wide = table.pivot_table(index=y, columns=x, values=value, aggfunc="max")
    label = wrapped(spelled(value), 18) + (",\nthe best over the other choices" if len(table) > wide.size else "")
    figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    colours = {"cmap": "viridis"} if reach is None else {"cmap": "PuOr", "vmin": -reach, "vmax": reach}
    form = ".3f" if reach is None else "+.3f"
    sns.heatmap(wide, annot=True, fmt=form, cbar_kws={"label": label}, ax=axis, **colours)
    axis.set(xlabel=x, ylabel=y)
    return finished(figure, title)


def score_table(
    table: pd.DataFrame, title: str, label: str, text: pd.DataFrame | None = None, diverging: bool = False
) -> Figure:
    """A table as colours with its numbers: explainers down. text: what stands in each cell instead of the number;
    diverging: from -1 to 1, for correlations.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"auroc": [0.7, 0.5]}, index=["srm", "centre"])
    >>> figure = xk.plots.score_table(table, "Scores", "mean")
    """
    annotation = table.map("{:.2f}".format) if text is None else text
    lines = 1 + annotation.map(lambda cell: cell.count("\n")).max(axis=None)
    longest = annotation.map(lambda cell: max(map(len, cell.split("\n")))).max(axis=None)
    width = max(
        NARROWEST, 1.6 + max(0.95, 0.07 * longest) * table.shape[1]
    )  # or a title takes more room than the table
    size = (width, 1.1 + (0.12 + 0.13 * lines) * table.shape[0])
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    colours = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1} if diverging else {"cmap": "viridis"}
    sns.heatmap(
        table, annot=annotation, fmt="", annot_kws={"fontsize": TEXT}, cbar_kws={"label": label}, ax=axis, **colours
    )
    axis.set(xlabel="", ylabel="")
    axis.set_xticks(axis.get_xticks(), [wrapped(spelled(name), 12) for name in table.columns], rotation=0)
    axis.set_yticks(axis.get_yticks(), [spelled(name) for name in table.index], rotation=0)
    axis.tick_params(labelsize=TEXT)
    return finished(figure, title)


def leaderboard(measured: xr.Dataset, metrics: list[str], best: pd.DataFrame, title: str) -> Figure:
    """Explainers down, metrics across: means with their 95 % intervals, coloured from worst (0) to best (1) within each metric,
    with a star where ``best`` is true: explainers x metrics of bool, some explainers perhaps left out. Those with the most stars
    stand first, of equally many those with the best mean colour.

    Examples
    --------
    >>> heat = xk.explain_all(clip, scenes.image, scenes.caption, ["srm", "centre"]).heat
    >>> largest = heat.max(("row", "col")).assign_attrs(score_direction="higher is better")
    >>> measured = largest.to_dataset(name="largest")
    >>> best = measured.mean("sample").to_dataframe()[["largest"]] > 1
    >>> figure = xk.plots.leaderboard(measured, ["largest"], best, "Leaderboard")
    """
    cells = as_text(summary(measured[metrics]), 2)
    turned = pd.DataFrame({metric: oriented(measured[metric]).mean("sample").to_series() for metric in metrics})
    scaled = (turned - turned.min()) / (turned.max() - turned.min()).replace(0, 1)
    star = best.reindex(index=turned.index, columns=metrics, fill_value=False).map(lambda first: "*" if first else "")
    names = {m: f"{m} {ARROWS.get(measured[m].attrs.get('score_direction'), '')}" for m in metrics}
    rank = pd.DataFrame({"stars": star.ne("").sum(axis=1), "mean": scaled.mean(axis=1)})
    order = rank.sort_values(["stars", "mean"], ascending=False).index
    colours, text = (table.loc[order, metrics].rename(columns=names) for table in (scaled, cells + star))
    return score_table(colours, title, "worst 0, best 1", text)


def cost_and_quality(cost: xr.DataArray, quality: xr.DataArray, title: str, xlabel: str) -> Figure:
    """Each explainer's mean quality (sample, explainer) with its 95 % interval, best first, and beside it its cost (explainer),
    on a logarithmic axis.

    Examples
    --------
    >>> heat = xk.explain_all(clip, scenes.image, scenes.caption, ["srm", "centre"])
    >>> figure = xk.plots.cost_and_quality(heat.seconds, heat.heat.max(("row", "col")), "Cost", "seconds a sample")
    """
    mean = quality.mean("sample")
    names = mean.explainer.values[np.argsort(-oriented(quality).mean("sample").values)]
    place, cost = np.arange(len(names)), cost.sel(explainer=names)
    figure, axes = panels(1, 2, width=3.7, height=0.6 + 0.19 * len(names), sharey=True)
    _intervals(axes[0, 0], place, *_means(quality, names), "C0")
    axes[0, 0].set(xlabel=wrapped(quality.attrs.get("long_name", str(quality.name)), 30))
    axes[0, 1].hlines(place, cost.min(), cost, color="0.8", linewidth=1)
    axes[0, 1].plot(cost, place, "D", color="C1", markersize=5)
    axes[0, 1].set(xscale="log", xlabel=wrapped(xlabel, 30))
    axes[0, 1].grid(axis="x", alpha=0.3)
    _rows(axes[0, 0], [spelled(name) for name in names])
    return finished(figure, title)


def intervals_of(claims: xr.Dataset, bounds: list[float], title: str, xlabel: str = "measured") -> Figure:
    """What was measured of each claim (claim), with its interval low to high, and the bound that decides as a line.

    Examples
    --------
    >>> import xarray as xr
    >>> numbers = {name: ("claim", [value]) for name, value in {"measured": 0.2, "low": 0.1, "high": 0.3}.items()}
    >>> figure = xk.plots.intervals_of(xr.Dataset(numbers, {"claim": ["faithful"]}), [0.0], "A claim")
    """
    place = np.arange(claims.sizes["claim"])
    figure, axis = plt.subplots(figsize=(6.5, 0.9 + 0.45 * len(place)), layout="constrained")
    _intervals(axis, place, claims.measured, claims.low, claims.high, "C0")
    axis.vlines(bounds, place - 0.35, place + 0.35, color="black", linestyle="--")
    axis.set_xlabel(xlabel)
    _rows(axis, claims.claim.values)
    return finished(figure, title)


def _axes_of_metrics(evaluation: xr.Dataset, names: Sequence[str], cols: int) -> tuple[Figure, list]:
    """A figure with axes for all metrics of a dataset, each with these names from above."""
    figure, axes = grid(len(evaluation), cols, width=10 / cols, height=0.9 + 0.24 * len(names), sharey=True)
    for axis, (metric, values) in zip(axes, evaluation.items(), strict=True):
        axis.set_xlabel(f"{spelled(metric)}\n({values.attrs.get('score_direction', '')})", fontsize=TEXT + 1)
        _rows(axis, [spelled(name) for name in names])
    return figure, axes


def _means(scores: xr.DataArray, names: Sequence[str]) -> np.ndarray:
    """Mean, low and high end of the explainers of these names (3, names)."""
    return np.transpose([score_interval(scores.sel(explainer=name)) for name in names])


def _intervals(axis, place, mean, low, high, colour, marker: str = "o") -> None:
    """Means as points on their intervals, each at its place from above."""
    axis.hlines(place, low, high, color=colour, linewidth=2)
    axis.plot(mean, place, marker, color=colour, markersize=5)


def _rows(axis, names: Sequence[str]) -> None:
    """The names of places 0, 1, ... from above, and lines to read their values by."""
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks(range(len(names)), [str(name) for name in names])
    axis.tick_params(labelsize=TEXT)
    axis.locator_params(axis="x", nbins=4)
    axis.grid(axis="x", alpha=0.3)


def protocol_curves(measured: xr.Dataset, title: str, xlabel: str, ylabel: str, cols: int = 4) -> Figure:
    """Each mean curve of ``protocols.measured`` in a panel, an explainer a line, noise (``random``) a black dashed one.

    Raises ValueError for results without curves.

    Examples
    --------
    >>> import xarray as xr
    >>> curve = ("explainer", "step"), [[1, 0.5, 0]], {"score_direction": "lower is better"}
    >>> measured = xr.Dataset({"deletion curve": curve, "fraction": ("step", [0, 0.5, 1])}, {"explainer": ["srm"]})
    >>> figure = xk.plots.protocol_curves(measured, "Deletion", "share removed", "share found")
    """
    suffix = " curve"
    names = [name for name in measured.data_vars if str(name).endswith(suffix)]
    if not names:
        raise ValueError("the results have no curves: those of classification and retrieval have")
    figure, axes = grid(len(names), min(cols, len(names)), width=2.5, height=2.4)
    explainers = measured.explainer.values.astype(str)
    others = [name for name in explainers if name != "random"]
    colours = {name: LINES[place % len(LINES)] for place, name in enumerate(others)} | {"random": "black"}
    for axis, name in zip(axes, names, strict=True):
        for index, explainer in enumerate(explainers):
            axis.plot(
                measured.fraction, measured[name].sel(explainer=explainer), color=colours[explainer], linewidth=1.2,
                linestyle="--" if explainer == "random" else "-",
                marker=MARKERS[index % len(MARKERS)], markersize=3, label=spelled(explainer),
            )  # fmt: skip
        arrow = ARROWS[measured[name].attrs["score_direction"]]
        axis.set_title(f"{str(name).removesuffix(suffix)} {arrow}", fontsize=TEXT + 1)
        axis.set(xlim=(0, 1), ylim=(-0.02, 1.02), xticks=np.linspace(0, 1, 3))
        axis.tick_params(labelsize=TEXT)
        axis.grid(alpha=0.3)
        axis.label_outer()
    figure.supxlabel(xlabel, fontsize=TEXT + 1)
    figure.supylabel(wrapped(ylabel, 26 * -(-len(names) // cols)), fontsize=TEXT + 1)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=TEXT, frameon=False)
    return finished(figure, title)


def settings_points(table: pd.DataFrame, title: str, default: str | None = None, one_axis: bool = False) -> Figure:
    """Means with their intervals, a setting a line: what is varied down, measures across. A setting "alpha = 1" of the group "alpha"
    is labelled "1".

    table : columns ``setting``, ``group`` (what is varied), ``mean``, ``low`` and ``high``, and ``measure`` where there are several.
    default : the setting whose mean is drawn as a dashed line. one_axis : the same for all measures, which are of one kind.
    Raises ValueError for missing columns, an empty table, and a default that isn't one setting of each measure.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"setting": "0.5", "group": "alpha", "mean": 0.6, "low": 0.5, "high": 0.7}
    >>> figure = xk.plots.settings_points(pd.DataFrame([row]), "Settings", default="0.5")
    """
    missing = [name for name in ("setting", "group", "mean", "low", "high") if name not in table]
    if missing or table.empty:
        lacks = ", ".join(missing) or "rows"
        raise ValueError(f"the table lacks {lacks}: setting, group, mean, low and high are needed")
    table = table if "measure" in table else table.assign(measure="mean")
    groups, measures = list(dict.fromkeys(table.group)), list(dict.fromkeys(table.measure))
    settings = [list(dict.fromkeys(table.setting[table.group == group])) for group in groups]
    counts = [len(names) for names in settings]
    lines = {}
    for measure in measures if default is not None else ():
        means = table["mean"][(table.measure == measure) & (table.setting == default)].unique()
        if len(means) != 1:
            raise ValueError(f"default={default!r}: it has {len(means)} means of {measure} in the table, one is needed")
        lines[measure] = means[0]
    figure, axes = plt.subplots(
        len(groups), len(measures), figsize=(2.2 + 2.9 * len(measures), 1.1 + 0.24 * sum(counts) + 0.2 * len(groups)),
        squeeze=False, layout="constrained", sharex="all" if one_axis else "col", sharey="row",
        gridspec_kw={"height_ratios": counts},
    )  # fmt: skip
    for row, group, names in zip(axes, groups, settings, strict=True):
        for axis, measure in zip(row, measures, strict=True):
            part = table[(table.group == group) & (table.measure == measure)]
            place = [names.index(name) for name in part.setting]
            _intervals(axis, place, part["mean"], part.low, part.high, "#0072b2")
            if measure in lines:
                axis.axvline(lines[measure], color="black", linestyle="--", linewidth=1)
            _rows(axis, [spelled(str(name).removeprefix(f"{group} = ")) for name in names])
        varied = wrapped(spelled(group), 12)
        row[0].set_ylabel(varied, fontsize=TEXT + 1, rotation=0, ha="right", va="center")
    figure.align_ylabels(axes[:, 0])
    for axis, measure in zip(axes[-1], measures, strict=True):
        axis.set_xlabel(spelled(measure))
    return finished(figure, title)
