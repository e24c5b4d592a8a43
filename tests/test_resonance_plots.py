"""Figures of resonance show the numbers they are given: read back from what is drawn, for datasets made by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from refusals import refused
from scipy import stats

from xaikit import plots
from xaikit.plots.concepts import FADED

NAN = np.nan
FREQUENCY = np.arange(1, 11) / 21


def drawn(figure, title):
    """The figure, once all of it was laid out without a warning (which would be an error here)."""
    figure.draw_without_rendering()
    assert figure.get_suptitle() == title and not plt.get_fignums()
    return figure


def ticks(axis):
    """What stands below and beside the panel."""
    return [[label.get_text() for label in labels] for labels in (axis.get_xticklabels(), axis.get_yticklabels())]


def entries(legend):
    return [text.get_text() for text in legend.get_texts()]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def spectra(seed, samples, nulls=("weights", "captions")):
    rng = np.random.default_rng(seed)
    share, null = rng.uniform(0.01, 1, (samples, 10)), rng.uniform(0.01, 1, (len(nulls), 40, 10))
    at = ("null", "draw", "frequency")
    coords = {"frequency": FREQUENCY, "null": list(nulls)}
    return xr.Dataset({"energy_share": (("sample", "frequency"), share), "null_share": (at, null)}, coords)


def test_spectrum_bands_draws_means_and_quantiles():
    made = {"none": spectra(0, 5), "attention": spectra(1, 7)}
    made["none"]["energy_share"] = 0.01 * made["none"].energy_share  # below the nulls
    made["attention"].energy_share[:, 5] += 2
    figure = drawn(plots.spectrum_bands(made, "Spectra"), "Spectra")
    assert [axis.get_title() for axis in figure.axes] == ["none, 5 scenes", "attention, 7 scenes"]
    names = [f"{null}, middle 95 % of draws" for null in ("shuffled weights", "shuffled captions")]
    names += ["the model and its captions, mean with 95 % interval"]
    names += ["a peak above both nulls"]
    assert set(entries(figure.legends[0])) == {*names} and not any(axis.get_legend() for axis in figure.axes)
    rings = [[line for line in axis.lines if line.get_markersize() > 10] for axis in figure.axes]
    rings = [[float(x) for line in found for x in line.get_xdata()] for found in rings]
    assert rings == [[], [pytest.approx(FREQUENCY[5])]]  # the one frequency above both nulls and its neighbours
    for axis, one in zip(figure.axes, made.values(), strict=True):
        assert axis.get_yscale() == "log" and axis.get_xlabel() == "frequency (cycles per iteration)"
        line = next(line for line in axis.lines if len(line.get_xdata()))
        np.testing.assert_allclose(line.get_xydata(), np.stack([FREQUENCY, one.energy_share.mean("sample")], 1))
        weights, captions, interval = axis.collections
        for band, null in ((weights, "weights"), (captions, "captions")):
            low, high = np.quantile(one.null_share.sel(null=null), [0.025, 0.975], axis=0)
            corners = {(round(x, 9), round(y, 9)) for x, y in band.get_paths()[0].vertices}
            expected = {(round(x, 9), round(y, 9)) for y in (low, high) for x, y in zip(FREQUENCY, y, strict=True)}
            assert expected <= corners and len(corners) <= len(expected) + 2
        ends, share = stats.ttest_1samp(one.energy_share, 0).confidence_interval(), one.energy_share.values
        low, high = (np.clip(end, share.min(0), share.max(0)) for end in ends)
        reached = np.array(interval.get_segments())[..., 1]
        np.testing.assert_allclose(reached, np.stack([low, high], 1))
    # where both bands lie over one another their outlines still tell them apart
    assert to_rgb(weights.get_edgecolor()[0, :3]) != to_rgb(captions.get_edgecolor()[0, :3])
    assert weights.get_linestyle() != captions.get_linestyle()


def test_spectrum_bands_of_one_null_and_one_scene():
    figure = drawn(plots.spectrum_bands({"none": spectra(2, 1, ("captions",))}, "One"), "One")
    named = [entry.split(",")[0] for entry in entries(figure.legends[0])]
    assert named == ["shuffled captions", "the model and its captions"]


def test_eigenvalue_plane_counts_what_it_draws():
    values = np.full((3, 2, 4), NAN, complex)
    values[0] = [[0.9, -0.4, 0.2, 0], [0.5, 0.3, 0.1, NAN]]
    values[1] = [[0.6 + 0.5j, 0.6 - 0.5j, 0.3, NAN], [-2.5, 1.2j, -1.2j, 0.4 + 1e-9j]]
    made = xr.DataArray(values, {"coupling": ["none", "attention", "encoder"]}, ("coupling", "sample", "eigenvalue"))
    figure = drawn(plots.eigenvalue_plane(made, "Eigenvalues"), "Eigenvalues")
    assert [axis.get_title() for axis in figure.axes] == [
        "none\n7 multipliers, 0 pairs, largest size 0.90",
        "attention\n7 multipliers, 2 pairs, largest size 2.50,\n1 outside the frame",
        "encoder\n0 multipliers, 0 pairs",
    ]
    for axis, one in zip(figure.axes, values, strict=True):
        there = one[np.isfinite(one)]
        pair = np.abs(there.imag) > 1e-6
        real, pairs = (np.asarray(points.get_offsets()).reshape(-1, 2) for points in axis.collections)
        np.testing.assert_allclose(real, np.stack([there.real, there.imag], 1)[~pair])
        np.testing.assert_allclose(pairs, np.stack([there.real, there.imag], 1)[pair])
        circle = axis.lines[0].get_xydata()
        np.testing.assert_allclose(np.hypot(*circle.T), 1)
        assert axis.get_xlim() == axis.get_ylim() == (-1.6, 1.6) and axis.get_aspect() == 1
    assert entries(figure.legends[0]) == ["real", "complex pair"]
    assert not any(axis.get_legend() for axis in figure.axes)  # it would lie over points
    assert figure.axes[0].get_ylabel() == "imaginary part" and figure.axes[0].get_xlabel() == "real part"
    near = plots.eigenvalue_plane(made[:1], "Near").axes[0]
    assert near.get_xlim() == (-1.15, 1.15)  # the circle is always to be seen


def test_regime_maps_has_a_number_in_its_place():
    alphas, temperatures = [0.5, 1.0, 1.8], [0.2, 2.0]
    rng = np.random.default_rng(0)
    rows = [(a, t, *rng.uniform(size=3).round(2)) for a in alphas for t in temperatures]
    table = pd.DataFrame(rows, columns=["alpha", "temperature", "settled", "cycling", "single_patch"])
    other = table.assign(settled=0.25, cycling=0.5, single_patch=1.0).sample(frac=1, random_state=0)
    figure = drawn(plots.regime_maps({"attention": table, "encoder": other}, "Regimes"), "Regimes")
    maps, bars = figure.axes[:6], figure.axes[6:]
    outcomes = {"settled": "settled", "cycling": "in a cycle", "single_patch": "more than half on one patch"}
    assert [axis.get_title() for axis in maps] == [
        f"{name}: {label}" for name in ("attention", "encoder") for label in outcomes.values()
    ]
    for axis, (name, column) in zip(maps, ((n, c) for n in ("attention", "encoder") for c in outcomes), strict=True):
        assert ticks(axis) == [["0.2", "2.0"], ["1.8", "1.0", "0.5"]]  # alpha rises upwards
        source = {"attention": table, "encoder": other}[name].set_index(["alpha", "temperature"])[column]
        expected = [f"{source[a, t]:.2f}" for a in reversed(alphas) for t in temperatures]
        assert texts(axis) == expected
        assert axis.collections[0].get_clim() == (0, 1) and axis.get_xlabel() == "temperature"
    assert [axis.get_ylabel() for axis in maps] == ["alpha", "", ""] * 2
    assert [bar.get_ylabel() for bar in bars] == ["share of words"] * 2


def modes():
    """Two samples of two tokens: three modes, one, none, and four, in this order."""
    at = ("sample", "token", "mode")
    rng = np.random.default_rng(3)
    pattern = rng.normal(size=(2, 2, 4, 6, 6)) + 1j * rng.normal(size=(2, 2, 4, 6, 6))
    pattern[0, 0, 1] = np.exp(0.7j)  # one angle everywhere
    pattern[0, 0, 1, 0, 0] = 0.05  # faint
    amplitude = np.array([[[3.0, 2, 0.5, 0], [1, 0, 0, 0]], [[0, 0, 0, 0], [4, 3, 2, 1]]])
    gone = amplitude == 0
    frequency, growth = (np.where(gone, NAN, rng.uniform(0, 0.5, gone.shape).round(3)) for _ in range(2))
    pattern[gone] = 0
    each = {"amplitude": amplitude, "frequency": frequency, "growth": -growth}
    made = {name: (at, values) for name, values in each.items()}
    return xr.Dataset(made | {"pattern": ((*at, "row", "col"), pattern)})


def test_mode_maps_show_size_and_angle_of_the_modes_there_are():
    made = modes()
    for (sample, token), count in {(0, 0): 3, (0, 1): 1, (1, 1): 4}.items():
        figure = drawn(plots.mode_maps(made, "Modes", sample, token), "Modes")
        assert len(figure.axes) == 2 * count + 2
        one = made.isel(sample=sample, token=token)
        peak = np.abs(one.pattern[:count]).max()
        for k in range(count):
            above, below = figure.axes[k], figure.axes[count + k]
            mode = one.isel(mode=k)
            left = f"× {np.exp(mode.growth.item()):.2f} an iteration\namplitude {mode.amplitude.item():.3g}"
            assert above.get_title() == f"mode {k + 1}: {mode.frequency.item():.3f} cycles an iteration\n{left}"
            size, angle = np.abs(mode.pattern.values), np.angle(mode.pattern.values)
            np.testing.assert_allclose(above.images[0].get_array(), size)
            assert above.images[0].get_clim() == (0, peak) and below.images[0].get_clim() == (-np.pi, np.pi)
            shown = np.ma.filled(below.images[0].get_array(), NAN)
            np.testing.assert_allclose(shown, np.where(size >= 0.1 * size.max(), angle, NAN))
        assert [axis.get_ylabel() for axis in figure.axes[-2:]] == ["|U|", "angle (radian)"]
    assert len(plots.mode_maps(made, "Modes", 1, 1, count=2).axes) == 2 * 2 + 2
    still = made.assign(frequency=0 * made.frequency)  # what doesn't turn has no angle worth a picture
    figure = plots.mode_maps(still, "Modes", 1, 1)
    assert len(figure.axes) == 4 + 1 and figure.axes[0].get_title().startswith("mode 1: no frequency\n")
    clear = np.ma.filled(plots.mode_maps(made, "Modes", 0, 0).axes[4].images[0].get_array(), NAN)
    assert np.isnan(clear[0, 0]) and np.isnan(clear).sum() == 1
    refused("token 0 of sample 1 has no mode", plots.mode_maps, made, "Modes", 1, 0)


TIME = np.arange(21)


def course():
    """One sample's trajectory of three words and its phases, 0 to 5, 6 to 17 and 18 to 20."""
    rng = np.random.default_rng(4)
    maps = rng.uniform(size=(21, 3, 8, 8))
    maps[:, 1] *= 7
    maps[0, 1, 0, 0] = -3
    words = {"token_text": ("token", ["red", "ring", "square"])}
    trajectory = xr.DataArray(maps, words, ("time", "token", "row", "col"))
    curves = {"step_size": np.append(NAN, rng.uniform(1, 2, 20)), "entropy": rng.uniform(3, 4, 21)}
    phases = xr.Dataset({name: ("time", curve) for name, curve in curves.items()})
    phases["boundary"] = "phase", [0, 6, 18, -1]
    return trajectory, phases, rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_filmstrip_shows_maps_phases_and_spectra():
    trajectory, phases, image = course()
    times, tokens = (0, 5, 6, 17, 20), (2, 1)
    figure = drawn(plots.filmstrip(image, trajectory, phases, "Film", times, tokens), "Film")
    films = np.array(figure.axes[:10]).reshape(2, 5)
    assert [axis.get_title() for axis in films[0]] == [f"t = {time}" for time in times]
    assert [row[0].get_ylabel() for row in films] == ["square", "ring"]
    colours = [to_rgb(axis.spines["left"].get_edgecolor()) for axis in films[0]]
    assert colours[0] == colours[1] != colours[2] == colours[3] != colours[4] != colours[0]
    for row, token in zip(films, tokens, strict=True):
        heat = trajectory.values[:, token]
        least, largest = heat.min(), heat.max()
        for axis, time in zip(row, times, strict=True):
            scene, map_ = axis.images
            # of heat over colours a bright thing would look hot
            np.testing.assert_array_equal(np.ptp(scene.get_array(), -1), 0)
            assert np.corrcoef(scene.get_array()[..., 0].ravel(), image.mean(-1).ravel())[0, 1] > 0.8
            np.testing.assert_allclose(map_.get_array(), np.sqrt((heat[time] - least) / (largest - least)), atol=1e-6)
    [in_colour] = next(axis for axis in figure.axes if axis.get_title() == "the scene").images
    np.testing.assert_array_equal(in_colour.get_array(), image)
    curve, spectrum, step = (
        next(axis for axis in figure.axes if axis.get_ylabel() == label)
        for label in ("step size", "mean amplitude", "entropy (nat)")
    )
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), phases.step_size)
    np.testing.assert_array_equal(step.lines[0].get_ydata(), phases.entropy)
    assert texts(curve) == ["phase 1", "phase 2", "phase 3"]
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in curve.patches]
    np.testing.assert_allclose(spans, [(-0.5, 5.5), (5.5, 17.5), (17.5, 20.5)])
    span_colours = [to_rgb(patch.get_facecolor()) for patch in curve.patches]
    assert span_colours == [colours[0], colours[2], colours[4]]
    assert entries(step.get_legend()) == ["step size (left)", "spatial entropy (right)", "of an even map (right)"]
    # From 0 to more than the most there can be: near-evenness is seen as such.
    most = np.log(trajectory[0, 0].size)
    assert step.get_ylim()[0] == 0 and step.get_ylim()[1] > most == pytest.approx(step.lines[1].get_ydata()[0])
    # The last phase has 3 maps, too few for a spectrum.
    assert entries(spectrum.get_legend()) == ["whole course", "phase 1", "phase 2"]
    np.testing.assert_allclose(spectrum.lines[0].get_xdata(), FREQUENCY)
    np.testing.assert_allclose(spectrum.lines[1].get_xdata(), np.arange(1, 4) / 6)
    assert [to_rgb(line.get_color()) for line in spectrum.lines[1:]] == span_colours[:2]


def test_the_filmstrips_spectrum_has_a_planted_peak_in_its_phase_alone():
    trajectory, phases, image = course()
    made = trajectory * 0 + 1
    made[6:18] += np.cos(2 * np.pi * 3 * (TIME[6:18] - 11.5) / 12)[:, None, None, None]
    spectrum = plots.filmstrip(image, made, phases, "Film", (0,), (0, 1)).axes
    spectrum = next(axis for axis in spectrum if axis.get_ylabel() == "mean amplitude")
    first, second = (line.get_ydata() for line in spectrum.lines[1:])
    np.testing.assert_allclose(first, 0, atol=1e-9)
    np.testing.assert_allclose(second, [0, 0, 1, 0, 0, 0], atol=1e-9)
    single = phases.assign(boundary=("phase", [0, -1, -1, -1]))
    axes = plots.filmstrip(image, made, single, "Film", (0, 20), (0,)).axes
    spectrum = next(axis for axis in axes if axis.get_ylabel() == "mean amplitude")
    assert entries(spectrum.get_legend()) == ["whole course"]


def test_the_filmstrip_names_what_it_lacks():
    trajectory, phases, image = course()
    refused("times=21: .* times 0 to 20", plots.filmstrip, image, trajectory, phases, "Film", times=(0, 21))
    refused("tokens=-1: .* 0 to 2", plots.filmstrip, image, trajectory, phases, "Film", tokens=(-1,))
    several = trajectory.expand_dims("sample")
    refused("of several samples: give that of one", plots.filmstrip, image, several, phases, "Film")
    short = plots.filmstrip(image, trajectory.isel(time=slice(11)), phases.isel(time=slice(11)), "Film")
    assert [axis.get_title() for axis in short.axes[:5]] == [f"t = {time}" for time in (0, 1, 2, 5, 10)]


def concepts():
    """Sample 7: a concept in the low band, two in the middle, three in the high one; sample 8: one."""
    masks = np.zeros((7, 8, 8), bool)
    for mask, (top, bottom) in zip(masks, [(0, 8), (0, 4), (4, 8), (0, 2), (2, 4), (4, 6), (6, 8)], strict=True):
        mask[top:bottom, :4] = True
    at = "concept"
    return xr.Dataset(
        {
            "sample": (at, [7, 7, 7, 7, 7, 7, 8]),
            "band": (at, [0, 1, 1, 2, 2, 2, 0]),
            "mask": ((at, "row", "col"), masks),
            "label": (at, ["ring square", "ring", "square", "", "red", "blue", "elsewhere"]),
            "energy": (at, [0.5, 0.2, 0.125, 0.1, 0.05, 0.025, 1.0]),
            "silhouette": (at, [NAN, 0.5, 0.5, 0.4, 0.4, 0.4, NAN]),
            "link_source": ("link", [0, 0, 1, 2, 2]),
            "link_target": ("link", [1, 2, 3, 4, 5]),
            "mutual_information": ("link", [0.3, 0.2, 0.1, 0.05, 0.4]),
            "normalised_information": ("link", [0.5] * 5),
        }
    )


def test_the_tree_has_its_concepts_in_place_and_lines_as_wide_as_their_information():
    made = concepts()
    image = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    figure = drawn(plots.concept_tree(made, 7, image, "Tree"), "Tree")
    page, *nodes = figure.axes
    labels = [text.get_text() for text in page.texts]
    assert [text for text in labels if "cycles" in text] == [
        "low\n0.00 to 0.17\ncycles per\niteration", "0.17 to 0.33\ncycles per\niteration",
        "high\n0.33 to 0.50\ncycles per\niteration",
    ]  # fmt: skip
    shares = {"ring square": "50", "ring": "20", "square": "12.5", "(no word)": "10", "red": "5", "blue": "2.5"}
    below = {text.get_text(): text.get_position()[0] for text in page.texts if "energy" in text.get_text()}
    assert set(below) == {f"{label}\n{share} % of energy" for label, share in shares.items()}
    # Each picture stands above its words and keeps its colours inside the concept alone.
    width = figure.get_figwidth()
    assert len(nodes) == 6
    for node, (axis, label) in enumerate(zip(nodes, shares, strict=True)):
        box = axis.get_position()
        assert (box.x0 + box.x1) / 2 * width == pytest.approx(below[f"{label}\n{shares[label]} % of energy"])
        inside = np.kron(made["mask"].values[node], np.ones((8, 8), bool))
        shown = axis.images[0].get_array()
        np.testing.assert_array_equal(shown[inside], image[inside])
        np.testing.assert_allclose(shown[~inside], FADED * image[~inside] + (1 - FADED) * 255, atol=1)
    tops = [round(axis.get_position().y1, 6) for axis in nodes]
    assert tops[0] > tops[1] == tops[2] > tops[3] == tops[4] == tops[5]
    middles = [sum(axis.get_position().intervalx) / 2 * width for axis in nodes]
    for line, link in zip(page.lines, range(5), strict=True):
        ends = [made.link_source.values[link], made.link_target.values[link]]
        np.testing.assert_allclose(line.get_xdata(), [middles[end] for end in ends])
    wide = [line.get_linewidth() for line in page.lines]
    shared = made.mutual_information.values
    np.testing.assert_allclose(np.diff(wide) / np.diff(shared), np.diff(wide)[0] / np.diff(shared)[0])
    keys = figure.legends[0]
    key = dict(zip(entries(keys), (line.get_linewidth() for line in keys.get_lines()), strict=True))
    assert key["0.1"] == pytest.approx(wide[2]) and key["0.3"] == pytest.approx(wide[0])
    assert "nat" in keys.get_title().get_text()


def test_the_tree_leaves_out_bands_without_energy():
    made = concepts()
    made.energy[3:6] = 0.003  # together below 1 %
    page, *nodes = plots.concept_tree(made, 7, np.zeros((64, 64, 3), np.uint8), "Tree").axes
    assert len(nodes) == 3 and len(page.lines) == 2
    assert [text for text in texts(page) if "cycles" in text] == [
        "low\n0.00 to 0.17\ncycles per\niteration", "0.17 to 0.33\ncycles per\niteration",
    ]  # fmt: skip
    made.energy[:] = 0.003  # of which all are drawn
    assert len(plots.concept_tree(made, 7, np.zeros((64, 64, 3), np.uint8), "Tree").axes) == 1 + 6


def test_the_tree_of_another_sample_is_its_own():
    image = np.zeros((64, 64, 3), np.uint8)
    figure = drawn(plots.concept_tree(concepts(), 8, image, "Small"), "Small")
    page, *nodes = figure.axes
    assert len(nodes) == 1 and not page.lines
    assert texts(page) == ["0.00 to 0.50\ncycles per\niteration", "elsewhere\n100 % of energy"]
    refused("sample=9: the concepts are of samples", plots.concept_tree, concepts(), 9, image, "None")


def test_agreement_bars_are_as_high_as_the_means():
    rng = np.random.default_rng(6)
    coords = {"level": ["scene", "object", "part"], "explainer": ["srm", "patch_features"]}
    scores = xr.DataArray(rng.uniform(size=(9, 3, 2, 2)), coords, ("sample", "level", "explainer", "band"))
    figure = drawn(plots.agreement_bars(scores.transpose("band", ..., "sample"), "Agreement"), "Agreement")
    assert [axis.get_title() for axis in figure.axes] == [
        "0.00 to 0.25 cycles per iteration", "0.25 to 0.50 cycles per iteration",
    ]  # fmt: skip
    assert entries(figure.legends[0]) == ["SRM", "patch features"]
    for band, axis in enumerate(figure.axes):
        heights = [[bar.get_height() for bar in bars] for bars in axis.containers]
        np.testing.assert_allclose(heights, scores[..., band].mean("sample").values.T)
        assert ticks(axis)[0] == ["scene", "object", "part"] and axis.get_xlabel() == "planted level"
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    figure = drawn(plots.agreement_bars(scores[..., 0], "One"), "One")
    assert [axis.get_title() for axis in figure.axes] == [""] and len(figure.axes[0].containers) == 2


def ablated(seed, ablations):
    rng = np.random.default_rng(seed)
    change, random = rng.normal(-0.3, 0.1, (8, len(ablations))), rng.normal(-0.1, 0.1, (8, len(ablations), 5))
    made = {"change": (("sample", "ablation"), change), "random_change": (("sample", "ablation", "draw"), random)}
    return xr.Dataset(made, {"ablation": list(ablations)})


def test_ablation_points_has_samples_means_and_paired_differences():
    names = ("mode", "resonance", "grad_eclip")
    made = {coupling: ablated(seed, names) for seed, coupling in enumerate(("none", "attention", "encoder"))}
    figure = drawn(plots.ablation_points(made, "Removed"), "Removed")
    assert [axis.get_title() for axis in figure.axes] == list(made)  # the fourth place stays empty
    assert entries(figure.axes[0].get_legend()) == ["patches of the map", "random, matched"]
    for axis, one in zip(figure.axes, made.values(), strict=True):
        assert ticks(axis)[0] == ["dominant\nmode", "resonance\nenergy", "Grad-ECLIP"]
        chosen, random = one.change.values, one.random_change.mean("draw").values
        points = [collection.get_offsets() for collection in axis.collections if len(collection.get_offsets()) == 8]
        for place, (own, other) in enumerate(zip(chosen.T, random.T, strict=True)):
            np.testing.assert_allclose(points[2 * place][:, 1], own)
            np.testing.assert_allclose(points[2 * place + 1][:, 1], other)
            assert (points[2 * place][:, 0] < place).all() and (points[2 * place + 1][:, 0] > place).all()
            left, right = (axis.containers[2 * place + k].lines[0].get_xydata()[0] for k in (0, 1))
            np.testing.assert_allclose((left[1], right[1]), (own.mean(), other.mean()))
            difference = own - other
            mean, interval = texts(axis)[place].split("\n")
            low, high = (float(end) for end in interval.strip("[]").split(","))
            assert mean == f"{difference.mean():+.3f}"
            np.testing.assert_allclose((low, high), stats.ttest_1samp(difference, 0).confidence_interval(), atol=5e-4)
        bottom, top = axis.get_ylim()
        assert bottom < min(one.change.min(), one.random_change.min())
        assert top > max(one.change.max(), one.random_change.max())


def suppressed():
    rng = np.random.default_rng(8)
    states = ["clean", "suppressed", "random"]
    image = np.repeat(rng.uniform(0.2, 0.8, (3, 1, 16, 16, 3)), 3, 1)
    image[:, 1] += 4 / 255
    image[:, 2, :8] -= 2 / 255
    at = ("sample", "state")
    energy = rng.uniform(1, 2, (3, 3))
    return xr.Dataset(
        {
            "image": ((*at, "y", "x", "rgb"), image),
            "size": (at, np.tile([0, 4 / 255, 2 / 255], (3, 1))),
            "resonance_map": ((*at, "row", "col"), rng.uniform(size=(3, 3, 4, 4))),
            "similarity": (at, rng.uniform(0.2, 0.4, (3, 3))),
            "energy": (at, energy),
            "rank_correlation": (at, np.array([[1, 0.25, 0.75]] * 3)),
            "course": (("sample", "update"), energy[:, :1] * 0.9 ** np.arange(6)),
        },
        {"state": states},
    )


def test_suppression_shows_the_scene_asked_for():
    made = suppressed()
    figure = drawn(plots.suppression(made, "Suppressed", sample=2), "Suppressed")
    one = made.isel(sample=2)
    for col, state in enumerate(made.state.values):
        now = one.sel(state=state)
        top, middle, bottom = figure.axes[3 * col : 3 * col + 3]
        assert top.get_title() == f"{state}\nsimilarity {now.similarity.item():.2f}"
        assert middle.get_title() == f"largest change {(0, 4, 2)[col]:.1f} / 255"
        rank = (1, 0.25, 0.75)[col]
        assert bottom.get_title() == f"mode's energy {now.energy.item():.3g}\nrank correlation {rank:.2f}"
        np.testing.assert_allclose(top.images[0].get_array(), now.image)
        change = np.asarray(middle.images[0].get_array(), float)
        np.testing.assert_allclose(change[0, 0], (0.5, 1, 0.25)[col], atol=1e-6)
        np.testing.assert_allclose(change[-1, 0], (0.5, 1, 0.5)[col], atol=1e-6)
        np.testing.assert_allclose(bottom.images[0].get_array(), now.resonance_map)
        assert bottom.images[0].get_clim() == (0, one.resonance_map.max())
    labels = [axis.get_ylabel() for axis in figure.axes[:3]]
    assert labels == ["image", f"change,\n{255 / 8:.0f} times", "resonance map"]
    axes = {axis.get_title() or axis.get_ylabel(): axis for axis in figure.axes[9:]}
    descent = axes["descent, 3 samples"]
    np.testing.assert_allclose(descent.lines[0].get_ydata(), 0.9 ** np.arange(6))
    np.testing.assert_allclose(descent.lines[-1].get_ydata(), 0.9 ** np.arange(6))
    relative = (made.energy / made.energy[:, :1].values).values
    for name, values in (("energy of the\nmode / clean", relative), ("similarity", made.similarity.values)):
        axis = axes[name]
        lines = [line.get_ydata() for line in axis.lines]
        np.testing.assert_allclose(lines[:3], values)
        np.testing.assert_allclose(lines[3], values[2])  # the scene shown
        medians = [bars.lines[0].get_ydata()[0] for bars in axis.containers]
        np.testing.assert_allclose(medians, np.median(values, 0))
        assert ticks(axis)[0] == list(made.state.values)
        assert axis.get_legend() is None  # it would lie over the lines
    assert entries(figure.legends[0]) == ["the scene shown", "median and quartiles"]
    assert (
        axes["similarity"].get_position().y1 < figure.axes[2].get_position().y0
    )  # below the pictures, which are larger so
