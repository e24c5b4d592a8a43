"""Figures of the papers' protocols."""

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

from .panels import TEXT, finished, panels

MARKERS = "osD^vPX*"


def protocol_curves(measured: xr.Dataset, title: str, xlabel: str, ylabel: str, cols: int = 4) -> Figure:
    """Each mean curve of ``protocols.measured`` in a panel, an explainer a line.

    Raises ValueError for results without curves.
    """
    suffix = " curve"
    names = [name for name in measured.data_vars if str(name).endswith(suffix)]
    if not names:
        raise ValueError("the results have no curves: those of classification and retrieval have")
    cols = min(cols, len(names))
    rows = -(-len(names) // cols)
    figure, axes = panels(rows, cols, width=2.5, height=2.4)
    explainers = measured.explainer.values.astype(str)
    colours = dict(zip(explainers, sns.color_palette("colorblind", len(explainers)), strict=True))
    shares = measured.fraction.values
    for axis, name in zip(axes.flat, names, strict=False):
        for index, explainer in enumerate(explainers):
            axis.plot(
                shares, measured[name].sel(explainer=explainer), color=colours[explainer], linewidth=1.2,
                marker=MARKERS[index % len(MARKERS)], markersize=3, label=explainer.replace("_", " "),
            )  # fmt: skip
        arrow = {"lower is better": "\u2193", "higher is better": "\u2191"}[measured[name].attrs["score_direction"]]
        axis.set_title(f"{str(name).removesuffix(suffix)} {arrow}", fontsize=TEXT + 1)
        axis.set(xlim=(0, 1), ylim=(-0.02, 1.02), xticks=np.linspace(0, 1, 3))
        axis.tick_params(labelsize=TEXT)
        axis.grid(alpha=0.3)
        axis.label_outer()
    for axis in axes.flat[len(names) :]:
        axis.remove()
    figure.supxlabel(xlabel, fontsize=TEXT + 1)
    figure.supylabel(ylabel, fontsize=TEXT + 1)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=TEXT, frameon=False)
    return finished(figure, title)
