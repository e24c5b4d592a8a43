"""Figure of an ablation: what each setting does to a measure."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from .panels import TEXT, finished, wrapped


def settings_points(table: pd.DataFrame, title: str, default: str | None = None) -> Figure:
    """Means with their intervals, a setting a line: what is varied down, measures across.

    table : columns ``setting``, ``group`` (what is varied), ``mean``, ``low`` and ``high``, and ``measure`` where there are several.
    default : the setting whose mean is drawn as a dashed line. Raises ValueError for missing columns, an empty table, and
    a default that isn't one setting of each measure.
    """
    missing = [name for name in ("setting", "group", "mean", "low", "high") if name not in table]
    if missing or table.empty:
        raise ValueError(
            f"the table lacks {', '.join(missing) or 'rows'}: setting, group, mean, low and high are needed"
        )
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
        len(groups), len(measures), figsize=(1.6 + 2.7 * len(measures), 1.1 + 0.24 * sum(counts) + 0.2 * len(groups)),
        squeeze=False, layout="constrained", sharex="col", sharey="row", gridspec_kw={"height_ratios": counts},
    )  # fmt: skip
    palette = sns.color_palette("colorblind", len(groups))
    for row, group, names, colour in zip(axes, groups, settings, palette, strict=True):
        for axis, measure in zip(row, measures, strict=True):
            part = table[(table.group == group) & (table.measure == measure)]
            place = [names.index(name) for name in part.setting]
            axis.hlines(place, part.low, part.high, color=colour, linewidth=2)
            axis.plot(part["mean"], place, "o", color=colour, markersize=5)
            if measure in lines:
                axis.axvline(lines[measure], color="black", linestyle="--", linewidth=1)
            axis.grid(axis="x", alpha=0.3)
            axis.tick_params(labelsize=TEXT)
        row[0].set(ylim=(len(names) - 0.5, -0.5))
        row[0].set_yticks(range(len(names)), [str(name) for name in names], fontsize=TEXT)
        row[0].set_ylabel(
            wrapped(str(group).replace("_", " "), 12), fontsize=TEXT + 1, rotation=0, ha="right", va="center"
        )
    figure.align_ylabels(axes[:, 0])
    for axis, measure in zip(axes[-1], measures, strict=True):
        axis.set_xlabel(str(measure).replace("_", " "))
    return finished(figure, title)
