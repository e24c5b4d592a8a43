"""Figures of answers show the maps they are given, where these lie on the image; read back from what is drawn."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image
from refusals import refused

from xaikit import plots

# Sample 0 has 8 tokens on a grid of 3 x 4; sample 1 has 4 tokens on a grid of 2 x 2 over the middle of its image.
ANSWERS = [["a", " small", " red", " ring", " and", " a", " blue", " cross"], [" ring", " $x$", "\n", " "]]
PROMPT = [[" describe", " it"], [" what"]]
EXPLAINERS = ["lens", "tam", "arc"]


def padded(rows, size):
    return np.array([row + [""] * (size - len(row)) for row in rows])


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    heat = rng.uniform(0.1, 1, (2, 3, 8, 3, 4)).astype(np.float32)
    heat[:, 1] *= 100
    heat[0, :, 4] *= 0.01
    heat[1, :, 4:] = heat[1, :, :, 2:] = heat[1, :, :, :, 2:] = 0
    overlap = rng.uniform(0, 1, (2, 3, 8, 10))
    overlap[:, :2] = np.nan
    answer, prompt = ("sample", "answer_token"), ("sample", "context_token")
    context = [first + second for first, second in zip(PROMPT, ANSWERS, strict=True)]
    return xr.Dataset(
        {
            "token_heat": (("sample", "explainer", "answer_token", "row", "col"), heat),
            "relevance": ((*answer, "context_token"), rng.uniform(0, 9, (2, 8, 10))),
            "rank_overlap": (("sample", "explainer", "answer_token", "context_token"), overlap),
            "answer_text": (answer, padded(ANSWERS, 8)),
            "context_text": (prompt, padded(context, 10)),
            "grid": (("sample", "axis"), [[3, 4], [2, 2]]),
            "region": (("sample", "edge"), [[0, 0, 1, 1], [0, 0.25, 1, 0.75]]),
        },
        {"explainer": EXPLAINERS},
    )


@pytest.fixture
def scenes():
    """Object 0 is the cross in the left of the first image, object 1 the ring in its right; the second is mirrored."""
    mask = np.zeros((2, 2, 20, 40), bool)
    mask[:, 0, 5:15, 4:14], mask[:, 1, 5:15, 24:34] = True, True
    mask[1] = mask[1, ::-1].copy()
    image = np.random.default_rng(1).integers(0, 256, (2, 20, 40, 3), dtype=np.uint8)
    names = [["large blue cross", "small red ring"], ["small red ring", "large blue cross"]]
    return xr.Dataset(
        {
            "image": (("sample", "y", "x", "rgb"), image),
            "object_mask": (("sample", "object", "y", "x"), mask),
            "object_name": (("sample", "object"), names),
        },
        {"sample": [0, 1]},
    )


def panels(figure):
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def drawn(figure):
    """The figure's panels and its title, once all of it was laid out without a warning (an error here)."""
    figure.draw_without_rendering()
    assert not plt.get_fignums()
    return panels(figure), figure.get_suptitle()


def bar(figure):
    (axis,) = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    return axis


def titles(axes):
    return [axis.get_title() for axis in axes]


def outlined(axis):
    """Middles, in x, of what is outlined in a panel."""
    found = (path.vertices for lines in axis.collections for path in lines.get_paths() if len(path.vertices))
    return sorted(round(float(np.ptp(points[:, 0]) / 2 + points[:, 0].min()), 3) for points in found)


LEFT, RIGHT = 8.5, 28.5


def test_a_strip_shows_every_token_once_on_one_scale(answers, scenes):
    figure = plots.token_strip(answers, scenes, 0, "lens")
    axes, title = drawn(figure)
    assert titles(axes) == ["image", "a", "small", "red", "ring", "and", "a", "blue", "cross"]
    assert "lens" in title and "lens" in bar(figure).get_ylabel()
    np.testing.assert_array_equal(axes[0].images[0].get_array(), scenes.image[0])
    heat = answers.token_heat.values[0, 0]
    for axis, values in zip(axes[1:], heat, strict=True):
        backdrop, shown = axis.images
        np.testing.assert_array_equal(shown.get_array(), values)
        assert shown.get_clim() == (0, heat.max())
        assert shown.get_extent() == [-0.5, 39.5, 19.5, -0.5] == backdrop.get_extent()
        np.testing.assert_allclose(shown.norm(values) ** 2, values / heat.max(), rtol=1e-5)
    assert bar(figure).get_ylim() == pytest.approx((0, heat.max()))
    # Nine panels stand in two rows, and a dim token is drawn dim.
    assert len({round(axis.get_position().y0, 2) for axis in axes}) == 2
    colours = [axis.images[1].to_rgba(axis.images[1].get_array())[..., :3].sum() for axis in axes[1:]]
    assert np.argmin(colours) == 4 and colours[4] < 0.5 * np.delete(colours, 4).min()
    opacity = [axis.images[1].get_alpha().max() for axis in axes[1:]]
    assert np.argmin(opacity) == 4 and max(opacity) == 1


def test_the_tokens_own_object_is_outlined(answers, scenes):
    axes, _ = drawn(plots.token_strip(answers, scenes, 0, "lens"))
    right, left, none = [RIGHT], [LEFT], []
    assert [outlined(axis) for axis in axes] == [[LEFT, RIGHT], none, right, right, right, none, none, left, left]


def test_cases_stand_below_one_another_each_with_its_own_picture(answers, scenes):
    cases = {"success": (0, "ring"), "failure": (1, 0), "no word": (1, 1)}
    figure = plots.token_cases(answers, scenes, cases, ["tam", "lens"])
    axes, title = drawn(figure)
    assert titles(axes[:3]) == ["image", "TAM", "lens"] and "success, failure" in title
    assert "own peak" in title and bar(figure).get_ylim() == (0, 1) and "map" in bar(figure).get_ylabel()
    assert [axis.get_ylabel() for axis in axes[::3]] == ["success\nring", "failure\nring", "no word\n$x$"]
    for row, (sample, place) in enumerate([(0, 3), (1, 0), (1, 1)]):
        picture, *maps = axes[3 * row : 3 * row + 3]
        np.testing.assert_array_equal(picture.images[0].get_array(), scenes.image[sample])
        rows, cols = answers.grid.values[sample]
        for axis, explainer in zip(maps, (1, 0), strict=True):
            values = answers.token_heat.values[sample, explainer, place, :rows, :cols]
            np.testing.assert_array_equal(axis.images[1].get_array(), values)
            assert axis.images[1].get_clim() == (0, values.max())
            assert outlined(axis) == ([] if row == 2 else [RIGHT])  # each scene's own mask of what its word names
    refused("cases=.*: give at least one", plots.token_cases, answers, scenes, {})
    refused("sample=5: a whole number", plots.token_cases, answers, scenes, {"far": (5, 0)})
    refused("token 'disc': the answer has tokens 0 to 7", plots.token_cases, answers, scenes, {"none": (0, "disc")})


def test_some_words_and_a_title_of_ones_own(answers, scenes):
    axes, title = drawn(plots.token_strip(answers, scenes, 0, "tam", words=["cross", 2, " a"], title="Three words"))
    assert titles(axes) == ["image", "cross", "red", "a"] and title == "Three words"
    heat = answers.token_heat.values[0, 1]
    for axis, place in zip(axes[1:], (7, 2, 0), strict=True):
        np.testing.assert_array_equal(axis.images[1].get_array(), heat[place])
        assert axis.images[1].get_clim() == (0, heat.max())  # the scale is the whole answer's


def test_a_map_lies_on_its_own_part_of_the_image_without_its_padding(answers, scenes):
    axes, _ = drawn(plots.token_strip(answers, scenes, 1, "lens"))
    np.testing.assert_array_equal(axes[0].images[0].get_array(), scenes.image[1])
    assert [outlined(axis) for axis in axes] == [[RIGHT], [RIGHT], [], [], []]
    assert titles(axes) == ["image", "ring", "$x$", "\\n", "\u2423"]
    assert not axes[2].title.get_parse_math()
    for axis, values in zip(axes[1:], answers.token_heat.values[1, 0, :4, :2, :2], strict=True):
        backdrop, shown = axis.images
        np.testing.assert_array_equal(shown.get_array(), values)
        assert shown.get_extent() == [9.5, 29.5, 19.5, -0.5] and backdrop.get_extent() == [-0.5, 39.5, 19.5, -0.5]
        assert axis.get_xlim() == (-0.5, 39.5) and axis.get_ylim() == (19.5, -0.5)
        assert np.corrcoef(backdrop.get_array().ravel(), scenes.image.values[1].mean(-1).ravel())[0, 1] > 0.999
    # A grid that reaches beyond the image, as of a padded one, is cut at the image's edges.
    answers["region"][1] = [-0.5, 0, 1.5, 1]
    axes = panels(plots.token_strip(answers, scenes, 1, "lens"))
    assert axes[1].images[1].get_extent() == [-0.5, 39.5, 29.5, -10.5]
    assert axes[1].get_xlim() == (-0.5, 39.5) and axes[1].get_ylim() == (19.5, -0.5)


def test_images_alone_do_in_any_form(answers, scenes, tmp_path):
    single = answers.isel(sample=[0]).sel(explainer="tam", drop=True)
    single.token_heat.attrs["explainer"] = "tam"
    image = scenes.image.values[0]
    Image.fromarray(image).save(tmp_path / "one.png")
    for images in ([image], image, scenes.image[:1], Image.fromarray(image), str(tmp_path / "one.png")):
        figure = plots.token_strip(single, images)
        axes, title = panels(figure), figure.get_suptitle()
        np.testing.assert_array_equal(axes[0].images[0].get_array(), image)
        np.testing.assert_array_equal(axes[3].images[1].get_array(), answers.token_heat.values[0, 1, 2])
        assert "tam" in title and not any(outlined(axis) for axis in axes)
    axes, _ = drawn(plots.scales_side_by_side(single, image))
    assert [axis.get_ylabel() for axis in axes[::2]] == ["a", "small", "red", "ring", "and", "a"] and len(axes) == 12


def test_scales_share_the_scale_of_their_row(answers, scenes):
    answers = answers.assign_coords(explainer=["1.0", "2.0", "mean"])
    figure = plots.scales_side_by_side(answers, scenes, 0, ["ring", "and"])
    axes, _ = drawn(figure)
    grid = np.array(axes).reshape(2, 4)
    assert titles(grid[0]) == ["image", "1.0", "2.0", "mean"]
    assert [axis.get_ylabel() for axis in grid[:, 0]] == ["ring", "and"]
    assert "row" in bar(figure).get_ylabel()
    for row, place in zip(grid, (3, 4), strict=True):
        heat = answers.token_heat.values[0, :, place]
        np.testing.assert_array_equal(row[0].images[0].get_array(), scenes.image[0])
        for axis, values in zip(row[1:], heat, strict=True):
            np.testing.assert_array_equal(axis.images[1].get_array(), values)
            assert axis.images[1].get_clim() == (0, heat.max())
            assert outlined(axis) == ([RIGHT] if place == 3 else [])
    axes, _ = drawn(plots.scales_side_by_side(answers, scenes, explainers=["mean", "1.0"]))
    assert titles(axes[:3]) == ["image", "mean", "1.0"]  # in the order asked for, of each object's last word
    assert [axis.get_ylabel() for axis in axes[::3]] == ["ring", "cross"]


def test_maps_without_heat_are_drawn(answers, scenes):
    blank = answers.assign(token_heat=answers.token_heat * 0).sel(explainer=["lens"])
    for figure in (
        plots.token_strip(blank, scenes), plots.scales_side_by_side(blank, scenes),
        plots.token_cases(blank, scenes, {"one": (0, 0)}),
    ):  # fmt: skip
        axes, _ = drawn(figure)
        assert axes[-1].images[1].get_clim() == (0, 1)


@pytest.mark.parametrize("sample", [0, 1])
def test_the_context_of_a_token_is_what_comes_before_it(answers, sample):
    figure = plots.context_matrix(answers, sample)
    (axis,), title = drawn(figure)
    prompt, answer = PROMPT[sample], ANSWERS[sample]
    words = [word.strip() or {"\n": "\\n", " ": "\u2423"}[word] for word in prompt + answer]
    assert [label.get_text() for label in axis.get_xticklabels()] == words[:-1]
    assert [label.get_text() for label in axis.get_yticklabels()] == words[len(prompt) :]
    assert not any(label.get_parse_math() for label in (*axis.get_xticklabels(), *axis.get_yticklabels()))
    shown = np.ma.masked_invalid(axis.images[0].get_array())
    for row in range(len(answer)):
        before = len(prompt) + row
        np.testing.assert_array_equal(shown[row, :before], answers.relevance.values[sample, row, :before])
        assert shown.mask[row, before:].all()
    assert axis.images[0].get_clim() == (0, shown.max())
    assert list(axis.lines[0].get_xdata()) == [len(prompt) - 0.5] * 2
    assert [text.get_text() for text in axis.texts] == ["prompt", "answer"]
    assert "logit" in bar(figure).get_ylabel() and "Relevance" in title


def test_rank_overlap_is_that_of_the_explainer_that_has_it(answers):
    for explainer in (None, "arc"):
        figure = plots.context_matrix(answers, 0, "rank_overlap", explainer)
        (axis,), title = drawn(figure)
        shown = axis.images[0].get_array()
        np.testing.assert_array_equal(shown[7, :9], answers.rank_overlap.values[0, 2, 7, :9])
        assert axis.images[0].get_clim() == (0, 1) and "arc" in title
    with pytest.raises(ValueError, match="explainer='tam': choose one of those that compare ranks, arc"):
        plots.context_matrix(answers, 0, "rank_overlap", "tam")
    both = answers.assign(rank_overlap=answers.rank_overlap.fillna(0.5))
    refused("explainer=None: .* lens, tam, arc", plots.context_matrix, both, 0, "rank_overlap")


STRIP, SCALES = "token_strip", "scales_side_by_side"
LENS = {"explainer": "lens"}


@pytest.mark.parametrize(
    ("plot", "choice", "message"),
    [
        *((STRIP, LENS | {"sample": bad}, f"sample={bad}: a whole number from 0 to 1") for bad in (2, -1, 0.0)),
        (STRIP, {}, "explainer=None: choose one of those that are there, lens, tam, arc"),
        (STRIP, {"explainer": "msea"}, "explainer='msea': choose"),
        (STRIP, LENS | {"words": ["green"]}, "token 'green': the answer has tokens 0 to 7: a small"),
        (STRIP, LENS | {"words": [8]}, "token 8: the answer has tokens 0 to 7"),
        (STRIP, LENS | {"words": "red"}, "tokens='red': give a list"),
        (SCALES, {"tokens": []}, r"tokens=\[\]: give a list"),
        (SCALES, {"tokens": [-1]}, "token -1: the answer has tokens 0 to 7"),
        (SCALES, {"explainers": ["lens", "none"]}, "explainers='none': choose"),
        (SCALES, {"explainers": []}, r"explainers=\[\]: give a list"),
        (SCALES, {"explainers": "lens"}, "explainers='lens': give a list"),
    ],
)
def test_what_there_is_not_is_named(answers, scenes, plot, choice, message):
    refused(message, getattr(plots, plot), answers, scenes, **choice)
    assert not plt.get_fignums()


def test_bad_answers_and_images_are_named(answers, scenes):
    refused("2 answers but 1 images", plots.token_strip, answers, scenes.isel(sample=[0]), 0, "lens")
    with pytest.raises(FileNotFoundError, match="image 0: there is no file"):
        plots.token_strip(answers, ["missing.png"] * 2, 0, "lens")
    refused("what='heat': choose from relevance, rank_overlap", plots.context_matrix, answers, what="heat")
    answers["answer_text"][1] = ""
    failed = answers.assign_coords(error=("sample", ["", "the prompt is empty"]))
    for plot in (plots.context_matrix, lambda *given: plots.token_strip(given[0], scenes, given[1], "lens")):
        refused(r"sample=1: it has no answer to show \(the prompt is empty\)", plot, failed, 1)


@pytest.fixture
def table():
    means = {
        ("scales", "1"): 0.2,
        ("scales", "1, 2"): 0.3,
        ("k", "k = 5"): 0.1,
        ("k", "k = 50"): 0.3,
        ("k", "k = 99"): 0.4,
    }
    rows = [(*names, measure, m + up) for names, m in means.items() for measure, up in (("own_iou", 0), ("leakage", 1))]
    made = pd.DataFrame(rows, columns=["group", "setting", "measure", "mean"])
    made = made.assign(low=made["mean"] - 0.05, high=made["mean"] + 0.1)
    return made.sample(frac=1, random_state=0).sort_values("group", ascending=False)


def test_settings_points_draws_each_interval_beside_its_name(table):
    axes, title = drawn(plots.settings_points(table, "Settings", "1, 2"))
    grid = np.array(axes).reshape(2, 2)
    assert title == "Settings"
    measures = [axis.get_xlabel() for axis in grid[1]]
    assert sorted(measures) == ["leakage", "own IoU"]
    for row, group in zip(grid, ("scales", "k"), strict=True):
        assert row[0].get_ylabel() == group
        names = [label.get_text() for label in row[0].get_yticklabels()]
        own = table[table.group == group]
        own = own.assign(setting=own.setting.str.removeprefix("k = "))  # what stands left of it already
        assert sorted(names) == sorted(set(own.setting))
        for axis, measure in zip(row, measures, strict=True):
            points, default = axis.lines
            up = measure == "leakage"
            assert list(default.get_xdata()) == [0.3 + up] * 2
            part = own[own.measure == ("leakage" if up else "own_iou")].set_index("setting")
            found = {names[int(y)]: x for x, y in points.get_xydata()}
            assert found == part["mean"].to_dict()
            for (start, end), (_, y) in zip(axis.collections[0].get_segments(), points.get_xydata(), strict=True):
                assert start[1] == end[1] == y
                assert (start[0], end[0]) == tuple(part.loc[names[int(y)], ["low", "high"]])


def test_settings_points_of_one_measure_needs_no_measure(table):
    one = table[table.measure == "own_iou"].drop(columns="measure")
    axes, _ = drawn(plots.settings_points(one, "One"))
    assert len(axes) == 2 and all(len(axis.lines) == 1 for axis in axes)


@pytest.mark.parametrize(
    ("change", "default", "message"),
    [
        (lambda table: table.drop(columns=["low", "high"]), None, "lacks low, high:"),
        (lambda table: table[:0], None, "lacks rows:"),
        (lambda table: table, "4", "default='4': it has 0 means of"),
        (lambda table: table.replace("k = 5", "1"), "1", "default='1': it has 2 means of"),
    ],
)
def test_settings_points_names_what_it_lacks(table, change, default, message):
    refused(message, plots.settings_points, change(table), "", default)
    assert not plt.get_fignums()
