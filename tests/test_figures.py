"""Figures say what the numbers say: differences on the right side of zero, heat where it is hot, titles that fit."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

import xaikit as xk
from xaikit.measures.intervals import mean_text
from xaikit.plots.measures import VERDICTS
from xaikit.plots.panels import finished, laid_over, panels


def measured(direction):
    """Two explainers over twelve samples: "up" lies one above "base" in each, "same" as often above as below."""
    base = np.linspace(0, 1, 12)
    values = np.stack([base, base + 1, base + np.tile([0.5, -0.5], 6)], 1)
    scores = xr.DataArray(values, {"explainer": ["base", "up", "same"]}, ("sample", "explainer"))
    return xr.Dataset({"score": scores.assign_attrs(score_direction=direction)})


@pytest.mark.parametrize(("direction", "verdict"), [("higher is better", "better"), ("lower is better", "worse")])
def test_a_difference_stands_where_it_is_in_the_colour_of_its_verdict(direction, verdict):
    figure = xk.plots.paired_differences(measured(direction), ["score"], {"up": "base", "same": "base"}, "Differences")
    points = {line.get_ydata()[0]: line for line in figure.axes[0].lines if line.get_marker() not in ("", "None")}
    assert [points[k].get_xdata()[0] for k in (0, 1)] == pytest.approx([1, 0])
    assert [points[k].get_color() for k in (0, 1)] == [VERDICTS[verdict][0], VERDICTS["not told apart"][0]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["up", "same"]


def test_a_leaderboard_has_means_with_their_intervals_and_a_star_for_the_best():
    scores = measured("higher is better")
    best = pd.DataFrame({"score": [True]}, index=["up"])
    cells = [text.get_text() for text in xk.plots.leaderboard(scores, ["score"], best, "Board").axes[0].texts]
    text = {name: mean_text(scores.score.sel(explainer=name).values) for name in ("up", "same")}
    assert cells[0] == f"{text['up']}*" and text["same"] in cells[1:]
    starred = pd.DataFrame({"score": [True]}, index=["same"])  # who is named as the first stands first
    rows = xk.plots.leaderboard(scores, ["score"], starred, "Board").axes[0].get_yticklabels()
    assert [row.get_text() for row in rows] == ["same", "up", "base"]
    alone = xk.plots.leaderboard(scores.isel(sample=[0]), ["score"], best, "One scene").axes[0].texts
    assert alone[0].get_text() == "1.00*"


def test_no_word_of_a_title_stands_alone_in_its_last_line():
    figure, _ = panels(1, 1, width=4)
    title = finished(figure, "Four scenes with the mark, four without it, and two more").get_suptitle()
    assert title == "Four scenes with the mark,\nfour without it, and two more"


def drawn(smooth):
    """The pixels (y, x, rgb) of a grey picture with one hot patch of 4 x 4 over it."""
    heat = np.zeros((4, 4))
    heat[1, 2] = 0.5
    figure, axes = panels(1, 1, width=4, height=4)
    laid_over(axes[0, 0], heat, np.full((64, 64, 3), 128, np.uint8), smooth, largest=0.5)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = axes[0, 0].get_window_extent().extents.round().astype(int)
    plt.close(figure)
    pixels = np.asarray(canvas.buffer_rgba())[::-1][box[1] + 3 : box[3] - 3, box[0] + 3 : box[2] - 3, :3]
    return pixels[::-1].astype(float)


def test_heat_hides_the_picture_where_it_is_hot_alone():
    patches, smooth = drawn(False), drawn(True)
    height, width = patches.shape[:2]
    coloured = {how: np.ptp(pixels, -1) > 25 for how, pixels in (("patches", patches), ("smooth", smooth))}
    rows, cols = np.nonzero(coloured["patches"])
    inside = (rows * 4 // height == 1) & (cols * 4 // width == 2)
    assert inside.mean() > 0.95 and len(rows) / (height * width) == pytest.approx(1 / 16, rel=0.1)
    rows, cols = np.nonzero(coloured["smooth"])
    assert abs(rows.mean() / height - 1.5 / 4) < 0.02 and abs(cols.mean() / width - 2.5 / 4) < 0.02
    assert len(np.unique(smooth.reshape(-1, 3), axis=0)) > 5 * len(np.unique(patches.reshape(-1, 3), axis=0))


def test_attention_of_all_blocks_is_on_one_scale():
    heads = np.zeros((2, 2, 4, 4))
    heads[0, 0, 1, 1], heads[1, 1, 1, 1] = 0.4, 0.1
    figure = xk.plots.blocks(heads, "Attention")
    *maps, bar = figure.axes
    assert len(maps) == 4 and bar.get_ylim() == pytest.approx((0, 0.4))
    opacity = [np.asarray(axis.images[-1].get_array())[..., 3].max() for axis in maps]
    assert opacity[0] > opacity[3] > opacity[1] == opacity[2]  # a quarter of the heat is dimmer, in whichever block


def test_a_long_title_fits_the_figure(scenes, heat):
    figure = xk.plots.compare(scenes, heat, "A title of many words that says what was found, and how sure that is " * 2)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (title,) = (text for text in figure.texts if "many words" in " ".join(text.get_text().split()))
    box = title.get_window_extent(canvas.get_renderer())
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(2, objects=(2, 2))


@pytest.fixture(scope="module")
def heat(scenes):
    values = np.random.default_rng(0).random((2, 1, 4, 4))
    return xr.DataArray(values, {"explainer": ["noise"]}, ("sample", "explainer", "row", "col"))


def test_a_models_curves_are_those_of_its_log_and_what_it_lacks_is_left_out():
    log = pd.DataFrame({"step": [1, 2, 1], "model": ["one", "one", "other"], "recall_at_1": [0.1, 0.6, 0.3]})
    figure = xk.plots.training_curves(log.assign(contrastive=[3.0, 2.0, None]), "Training")
    one, other = figure.axes[:2]
    assert [axis.get_title() for axis in (one, other)] == ["one", "other"]
    lines = {line.get_label(): list(line.get_ydata()) for line in one.lines}
    assert lines == {
        "recall at 1": [0.1, 0.6],
        "attribute swap": [],
        "relation swap": [],
        "chance of a swap": [0.5, 0.5],
    }
    assert {line.get_label(): len(line.get_ydata()) for line in figure.axes[3].lines}["contrastive"] == 0


def test_titles_of_many_models_curves_do_not_touch():
    names = [f"tiny-clip-things-{end}" for end in ("1", "2", "3", "4", "5", "plain")]
    log = pd.DataFrame({"step": 1, "model": names, "recall_at_1": 0.5})
    figure = xk.plots.training_curves(log, "Training")
    assert figure.axes[5].get_title() == "tiny-clip-\nthings-plain"
    figure.draw_without_rendering()
    boxes = [axis.title.get_window_extent() for axis in figure.axes[:6]]
    assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:], strict=False))


def test_colours_of_a_sweeps_differences_go_as_far_to_either_side_of_0():
    table = pd.DataFrame({"alpha": [0.5, 1, 0.5, 1], "blocks": [1, 1, 2, 2], "score": [0.2, -0.1, 0.1, 0.0]})
    drawn = xk.plots.grid_scores(table, "alpha", "blocks", "score", "A sweep", reach=0.5).axes[0].collections[0]
    assert drawn.get_clim() == (-0.5, 0.5)
    table = table.assign(score=table.score + 1)
    drawn = xk.plots.grid_scores(table, "alpha", "blocks", "score", "A sweep").axes[0].collections[0]
    assert drawn.get_clim() == (0.9, 1.2)
