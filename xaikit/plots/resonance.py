"""Figures of resonance trajectories: spectra, eigenvalues, modes, and the paper's figure 1 made from data."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure

from .panels import HEAT, TEXT, bare, finished, greyed, heated, interval_ends, panels, wrapped

NULL_LABELS = {"weights": "shuffled weights", "captions": "shuffled captions"}
SHORTEST = 5  # points from which on a phase has a spectrum worth drawing
FAINT = 0.1  # of the largest |U|: what has less has no angle worth looking at
FRAME = 1.6  # eigenvalues further out are only counted
REAL = 1e-6  # of an eigenvalue's size: the imaginary part below which it counts as real
COLOURS = sns.color_palette("colorblind")  # real eigenvalues, complex pairs
BESIDE = {"fontsize": TEXT + 1, "loc": "center left", "bbox_to_anchor": (1.09, 0.5), "frameon": False}  # a legend
Span = tuple[int, int, str, tuple[float, ...]]  # of a phase: its first time, that after its last, its name and colour
EIGENVALUES = (("real", COLOURS[0], "o"), ("complex pair", COLOURS[1], "D"))


def spectrum_bands(spectra: dict[str, xr.Dataset], title: str) -> Figure:
    """Each frequency's share of the oscillating energy, mean over samples with its 95 % interval, beside the middle
    95 % of what each null gives, in its outlines, with a ring around a peak above both nulls; a panel a name.

    spectra : of ``null_spectra_of``.

    Examples
    --------
    >>> found = xk.resonance.null_spectra_of(clip, scenes.image, scenes.caption, {"attention": {"draws": 2}})
    >>> figure = xk.plots.spectrum_bands(found, "Spectra")
    """
    from ..resonance.spectra import peaks  # only here: figures of stored results don't wait for torch

    looks = dict(zip(NULL_LABELS, zip(sns.color_palette("colorblind")[1:3], ("--", "-"), strict=True), strict=True))
    figure, axes = panels(1, len(spectra), width=max(3.3, 6.0 / len(spectra)), height=3.2, sharey=True)
    for axis, (name, one) in zip(axes[0], spectra.items(), strict=True):
        found = peaks(one)
        for null in one.null.values:
            colour, line = looks[str(null)]
            outlined = {"facecolor": (*colour, 0.2), "edgecolor": colour, "linestyle": line, "linewidth": 1.2}
            label = f"{NULL_LABELS[str(null)]}, middle 95 % of draws"
            axis.fill_between("frequency", f"{null}_low", f"{null}_high", data=found, label=label, **outlined)
        frame = one.energy_share.to_dataframe().reset_index()
        sns.lineplot(
            frame, x="frequency", y="energy_share", ax=axis, color="black", marker="o", markersize=4,
            label="the model and its captions, mean with 95 % interval", err_style="bars",
            errorbar=lambda shares: np.clip(interval_ends(shares), shares.min(), shares.max()),
        )  # fmt: skip
        found = found[found.peak]
        axis.plot(found.frequency, found.energy_share, "o", markersize=14, markerfacecolor="none",
                  markeredgecolor="#d55e00", markeredgewidth=2, label="a peak above both nulls" if len(found) else None)  # fmt: skip
        axis.set(xlabel="frequency (cycles per iteration)", ylabel="", xlim=(0, 0.51))
        axis.set_title(f"{name}, {one.sizes['sample']} scenes", fontsize=TEXT + 2)
        axis.grid(alpha=0.3)
        axis.get_legend().remove()
    axes[0, 0].set(ylabel="share of the energy", yscale="log")  # not before: seaborn means on the axis' own scale
    shown = {"loc": "outside lower center", "ncols": 4, "fontsize": TEXT + 1, "frameon": False}
    entries = dict(entry for axis in axes[0] for entry in zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(entries.values(), entries.keys(), **shown)
    return finished(figure, title)


def eigenvalue_plane(eigenvalues: xr.DataArray, title: str) -> Figure:
    """Eigenvalues on the complex plane, with the unit circle and the real axis, one panel a coupling.

    eigenvalues : complex, over ``coupling`` and whatever else; NaN is left out. On the circle nothing decays; off the
    real axis it oscillates; left of 0 it alternates. Those far outside the circle are counted, not drawn.

    Examples
    --------
    >>> found = xk.resonance.fixed_points(clip, scenes.image, scenes.caption)
    >>> figure = xk.plots.eigenvalue_plane(found.jacobian_eigenvalue, "Multipliers")
    """
    names = [str(name) for name in eigenvalues.coupling.values]
    figure, axes = panels(1, len(names), width=3.2, height=3.3)
    everything = np.abs(eigenvalues.values[np.isfinite(eigenvalues.values)])
    reach = np.clip(1.1 * everything.max(initial=0), 1.15, FRAME)
    for axis, name in zip(axes[0], names, strict=True):
        values = eigenvalues.sel(coupling=name).values.ravel()
        values = values[np.isfinite(values)]
        pair = is_pair(values)
        _bare_plane(axis, reach)
        for (label, colour, marker), some in zip(EIGENVALUES, (values[~pair], values[pair]), strict=True):
            point = {"s": 14, "alpha": 0.6, "linewidths": 0}
            axis.scatter(some.real, some.imag, color=colour, marker=marker, label=label, **point)
        outside = int((np.maximum(np.abs(values.real), np.abs(values.imag)) > reach).sum())
        largest = f", largest size {np.abs(values).max():.2f}" if values.size else ""
        text = f"{name}\n{values.size} multipliers, {(values[pair].imag > 0).sum()} pairs{largest}"
        axis.set_title(text + (f",\n{outside} outside the frame" if outside else ""), fontsize=TEXT + 1)
    axes[0, 0].set_ylabel("imaginary part")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=TEXT + 1, frameon=False)
    return finished(figure, title)


def plane_frame(reach: float) -> Figure:
    """The complex plane from -reach to reach and what its marks mean, without any: they are put on the picture later.

    Nothing passes through pyplot, so that a thread can draw while a notebook runs.
    """
    width, side, left, below = 3.8, 3.2, 0.5, 0.5  # inches
    height = 0.3 + side + below
    figure = Figure(figsize=(width, height))
    plane = figure.add_axes((left / width, below / height, side / width, side / height))
    _bare_plane(plane, reach)
    plane.set(ylabel="imaginary part", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    for label, colour, marker in EIGENVALUES:
        plane.plot([], [], marker, color=colour, markeredgecolor="white", label=label)
    plane.legend(fontsize=TEXT + 1, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderpad=0)
    return figure


def is_pair(eigenvalues: np.ndarray) -> np.ndarray:
    """Which eigenvalues have an imaginary part that is more than rounding, and so are one of a conjugate pair."""
    return np.abs(np.imag(eigenvalues)) > REAL * np.maximum(np.abs(eigenvalues), 1)


def _bare_plane(axis, reach: float) -> None:
    """The complex plane within a frame, with the unit circle and both axes."""
    around = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(around), np.sin(around), color="black", linewidth=1)
    axis.axhline(0, color="0.6", linewidth=0.8)
    axis.axvline(0, color="0.85", linewidth=0.8)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="real part")
    axis.tick_params(labelsize=TEXT)


def regime_maps(regimes: dict[str, pd.DataFrame], title: str) -> Figure:
    """What becomes of the maps by alpha and temperature: shares of words that settle, cycle, or end on one patch, a column
    each; a row a name. regimes : tables of ``stability.regimes``, by name, such as the coupling.

    Examples
    --------
    >>> table = xk.resonance.regimes(clip, scenes.image, scenes.caption, alphas=[0.5, 1.5], temperatures=[0.1, 0.7])
    >>> figure = xk.plots.regime_maps({"attention": table}, "Regimes")
    """
    outcomes = {"settled": "settled", "cycling": "in a cycle", "single_patch": "more than half on one patch"}
    figure, axes = panels(len(regimes), len(outcomes), width=4.0, height=2.6)
    for row, (name, table) in zip(axes, regimes.items(), strict=True):
        for axis, (column, label) in zip(row, outcomes.items(), strict=True):
            wide = table.pivot(index="alpha", columns="temperature", values=column).iloc[::-1]
            sns.heatmap(
                wide, vmin=0, vmax=1, cmap="viridis", annot=True, fmt=".2f", annot_kws={"fontsize": TEXT + 1}, ax=axis,
                cbar=axis is row[-1], cbar_kws={"label": "share of words"},
            )  # fmt: skip
            axis.set_title(f"{name}: {label}", fontsize=TEXT + 3)
            axis.set(xlabel="temperature", ylabel="alpha" if axis is row[0] else "")
    return finished(figure, title)


def mode_maps(modes: xr.Dataset, title: str, sample: int = 0, token: int = 0, count: int = 4) -> Figure:
    """Size and angle of the first modes' spatial patterns for one token of one sample, and what an iteration leaves of each.

    modes : of ``dynamic_modes``. Above: |U|; below, of modes with a frequency: its angle, grey where |U| is faint. One angle,
    or two that differ by a half turn, is a standing wave; an angle that turns over the map is a travelling one.

    Examples
    --------
    >>> course = xk.resonance.resonate(clip, scenes.image[:1], scenes.caption[:1]).trajectory
    >>> figure = xk.plots.mode_maps(xk.resonance.dynamic_modes(course, rank=2), "Modes")
    """
    one = modes.isel(sample=sample, token=token)
    count = min(count, int((one.amplitude > 0).sum()))
    if count == 0:
        raise ValueError(f"token {token} of sample {sample} has no mode: its maps are all 0")
    turning = one.frequency.values[:count] != 0
    figure, axes = panels(1 + turning.any(), count, width=2.1, height=2.1)
    peak = max(float(np.abs(one.pattern[:count]).max()), 1e-12)
    for k in range(count):
        mode = one.isel(mode=k)
        size, angle = np.abs(mode.pattern.values), np.angle(mode.pattern.values)
        for axis in axes[:, k]:
            bare(axis)
        if turning.any():
            axes[1, k].set_visible(turning[k])
        drawn = axes[0, k].imshow(size, cmap="viridis", vmin=0, vmax=peak)
        if turning[k]:
            axes[1, k].set_facecolor("0.6")
            clear = np.where(size >= FAINT * size.max(), angle, np.nan)
            axes[1, k].imshow(clear, cmap="twilight", vmin=-np.pi, vmax=np.pi)
        turns = f"{mode.frequency.item():.3f} cycles an iteration" if turning[k] else "no frequency"
        left = f"× {np.exp(mode.growth.item()):.2f} an iteration\namplitude {mode.amplitude.item():.3g}"
        text = f"mode {k + 1}: {turns}\n{left}"
        axes[0, k].set_title(text, fontsize=TEXT)
    axes[0, 0].set_ylabel("size |U|", fontsize=TEXT)
    figure.colorbar(drawn, ax=list(axes[0]), shrink=0.8, label="|U|")
    if not turning.any():
        return finished(figure, title)
    axes[1, turning.argmax()].set_ylabel("angle of U", fontsize=TEXT)
    bar = figure.colorbar(
        ScalarMappable(Normalize(-np.pi, np.pi), "twilight"), ax=list(axes[1]), shrink=0.8, label="angle (radian)"
    )
    bar.set_ticks([-np.pi, 0, np.pi], labels=["-π", "0", "π"])
    return finished(figure, title)


def filmstrip(
    image: np.ndarray,
    trajectory: xr.DataArray,
    phases: xr.Dataset,
    title: str,
    times: Sequence[int] | None = None,
    tokens: tuple[int, ...] = (0, 1),
) -> Figure:
    """The paper's figure 1 from data: the image, maps over it at some iterations, the phases with the curves that they come
    from, and the spectrum of each phase.

    image (y, x, rgb); trajectory (time, token, row, col) of one sample; phases : of ``phases``, the same sample. times :
    None for some of 0 to 20. tokens : a row of maps each, all of a row on one scale from its least to its largest value
    (of square roots, so that faint beginnings show). A phase of fewer than 5 maps has no spectrum.

    Examples
    --------
    >>> course = xk.resonance.resonate(clip, scenes.image, scenes.caption).trajectory
    >>> phases = xk.resonance.phases(course)
    >>> figure = xk.plots.filmstrip(scenes.image.values[0], course[0], phases.isel(sample=0), "From data")
    """
    if "sample" in trajectory.dims:
        raise ValueError("the trajectory is of several samples: give that of one, such as trajectory.isel(sample=0)")
    if times is None:
        times = [time for time in (0, 1, 2, 5, 10, 15, 20) if time < trajectory.sizes["time"]]
    starts = [int(start) for start in phases.boundary.values if start >= 0]
    points = trajectory.sizes["time"]
    for dim, wanted in (("time", times), ("token", tokens)):
        beyond = [each for each in wanted if not 0 <= each < trajectory.sizes[dim]]
        if beyond:
            raise ValueError(f"{dim}s={beyond[0]}: the trajectory has {dim}s 0 to {trajectory.sizes[dim] - 1}")
    palette = sns.color_palette("colorblind")[1:]
    each = enumerate(zip(starts, [*starts[1:], points], strict=True))
    spans = [(start, end, f"phase {index + 1}", palette[index]) for index, (start, end) in each]
    rows, height = len(tokens), 10 / (len(times) + 1)
    figure = plt.figure(figsize=(10, 0.8 * rows * height + 4.8), layout="constrained")
    sizes = {"height_ratios": [height] * rows + [1.9, 1.9], "width_ratios": [1] * (len(times) + 1) + [2.4]}
    grid = figure.add_gridspec(rows + 2, len(times) + 2, **sizes)
    scale = PowerNorm(0.5, 0, 1)
    films = [[figure.add_subplot(grid[row, 1 + col]) for col in range(len(times))] for row in range(rows)]
    for axes, token in zip(films, tokens, strict=True):
        heat = trajectory.isel(token=token).values
        least, span = heat.min(), np.ptp(heat) or 1.0
        for axis, time in zip(axes, times, strict=True):
            bare(axis, greyed(image))
            hot = scale((heat[time] - least) / span)
            heated(axis, hot, image.shape[:2], 0.8 * hot)
            phase = int(np.searchsorted(starts, time, side="right")) - 1
            for spine in axis.spines.values():
                spine.set(color=palette[phase], linewidth=2.5)
        word = str(trajectory.token_text.values[token]) if "token_text" in trajectory.coords else f"token {token}"
        axes[0].set_ylabel(wrapped(word, 12), fontsize=TEXT + 2)
    for axis, time in zip(films[0], times, strict=True):
        axis.set_title(f"t = {time}", fontsize=TEXT + 2)
    scene = figure.add_subplot(grid[0, 0])
    bare(scene, image)
    scene.set_title("the scene", fontsize=TEXT + 2)
    key = figure.add_subplot(grid[:rows, -1])
    key.axis("off")
    bar = key.inset_axes((0.1, 0.05, 0.1, 0.9))
    figure.colorbar(
        ScalarMappable(scale, HEAT), cax=bar, label="map, from least to largest\nof the row (square-root scale)"
    )
    patches = trajectory.sizes["row"] * trajectory.sizes["col"]
    _course(figure.add_subplot(grid[rows, :-1]), phases, spans, np.log(patches))
    shown = trajectory.isel(token=list(tokens)).values
    _spectra(figure.add_subplot(grid[rows + 1, :-1]), shown, spans)
    return finished(figure, title)


def _course(axis, phases: xr.Dataset, spans: list[Span], most: float) -> None:
    """Step size and entropy, from 0 to the most that there can be, over the phases, as spans."""
    time = np.arange(phases.sizes["time"])
    for start, end, label, colour in spans:
        # the step to the first map of a phase is the phase's own
        left, right = (start - 0.5 if start else -0.5), end - 0.5
        axis.axvspan(left, right, color=colour, alpha=0.2, linewidth=0)
        axis.text((left + right) / 2, 0.97, label, transform=axis.get_xaxis_transform(),
                  ha="center", va="top", fontsize=TEXT, fontweight="bold", color=colour)  # fmt: skip
    axis.plot(time, phases.step_size, color="black", marker="o", markersize=3, label="step size (left)")
    top = 1.25 * float(phases.step_size.max()) or 1.0
    axis.set(xlabel="iteration t", ylabel="step size", xlim=(-0.5, len(time) - 0.5), ylim=(0, top))
    axis.xaxis.get_major_locator().set_params(integer=True)
    other = axis.twinx()
    other.plot(time, phases.entropy, color="C0", linestyle="--", label="spatial entropy (right)")
    other.axhline(most, color="C0", linewidth=0.8, linestyle=":", label="of an even map (right)")
    other.set_ylabel("entropy (nat)", color="C0")
    other.set_ylim(0, 1.25 * most)
    lines = [*axis.get_lines(), *other.get_lines()]
    other.legend(lines, [line.get_label() for line in lines], **BESIDE).set_in_layout(False)


def _spectra(axis, maps: np.ndarray, spans: list[Span]) -> None:
    """Mean amplitude over tokens and patches of maps (time, ...), of the whole course and of each phase."""
    import torch  # only here: figures of stored results don't wait for it

    from ..resonance.spectra import fourier

    parts = [span for span in spans if span[1] - span[0] >= SHORTEST] if len(spans) > 1 else []
    for start, end, label, colour in [(0, len(maps), "whole course", "black"), *parts]:
        values = torch.from_numpy(maps[start:end].astype(np.float64))
        found = fourier(values, 0, window="boxcar").abs().flatten(1).mean(1)[1:]
        frequency = np.arange(1, len(found) + 1) / (end - start)
        axis.plot(frequency, found, color=colour, marker="o", markersize=4, label=label)
    axis.set(xlabel="frequency (cycles per iteration)", ylabel="mean amplitude", xlim=(0, 0.51))
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(**BESIDE).set_in_layout(False)
