"""Figures that follow a few choices: what the controls are made of, what they draw, and what is left where nobody presses them."""

import base64
import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from refusals import refused

import xaikit as xk
from xaikit.explorer import beside
from xaikit.explorer.pixels import figure_png
from xaikit.explorer.shown import DPI
from xaikit.running.execution import UNATTENDED

from .conftest import cpu_seconds, pixels


def bars(height=1.0, colour="red", title="bars"):
    """A figure that shows each choice."""
    if title == "none":
        raise ValueError("there is no bar of that name")
    figure = Figure(figsize=(2, 2))
    figure.add_axes((0, 0, 1, 1), ylim=(0, 5)).bar([0], [height], color=colour)
    figure.suptitle(title)
    return figure


def shown(widget):
    """The pixels that a page shows."""
    return pixels(widget.picture.png)


def press(widget, place, value):
    """What the page sends when a control is moved."""
    widget.controls._handle_custom_msg({"control": place, "value": value}, [])


@pytest.fixture
def widget():
    return beside(bars, height=[1.0, 2.0, 4.0], colour={"a warm one": "red", "a cold one": "blue"}, title="bars")


def test_each_kind_of_value_has_its_control(widget):
    kinds = [(control["name"], control["kind"], list(control["labels"])) for control in widget.controls.controls]
    assert kinds == [
        ("height", "slider", ["1", "2", "4"]), ("colour", "list", ["a warm one", "a cold one"]), ("title", "text", []),
    ]  # fmt: skip
    assert [control["value"] for control in widget.controls.controls] == [0, 0, "bars"]


def test_defaults_of_the_function_are_shown_first_else_first_values():
    def of(time, alpha=2.0):
        return bars(alpha)

    assert repr(beside(of, alpha=[0.5, 2.0], time=range(3, 5))) == "shown: alpha 2, time 3"
    assert repr(beside(of, alpha=[0.5, 8.0], time=[4])) == "shown: alpha 0.5, time 4"
    assert repr(beside(lambda **chosen: bars(), colour={"a": "red", "none": None})) == "shown: colour a"


@pytest.mark.parametrize(
    ("place", "value", "expected"), [(0, 2, {"height": 4.0}), (1, 1, {"colour": "blue"}), (2, "x", {"title": "x"})]
)
def test_a_control_draws_what_the_function_draws_of_its_value(widget, place, value, expected):
    before = shown(widget)
    press(widget, place, value)
    wanted = bars(**{"height": 1.0, "colour": "red", "title": "bars"} | expected)
    assert (shown(widget) == pixels(figure_png(wanted, DPI))).all() and (shown(widget) != before).any()
    assert widget.controls.controls[place]["value"] == value


def test_what_cannot_be_drawn_is_one_sentence_and_the_picture_stays(widget):
    before, sent = widget.picture.png, []
    widget.controls.send = sent.append
    press(widget, 2, "none")
    assert "there is no bar of that name" in widget.error.value and 'role="alert"' in widget.error.value
    assert widget.picture.png == before and "title bars" in repr(widget)
    press(widget, 0, 1)
    assert widget.error.value == "" and widget.result.axes[0].patches[0].get_height() == 2
    assert sent == [{"done": True}] * 2  # the page waits for no answer that doesn't come
    refused("colour='green': choose from a warm one, a cold one", widget.set, colour="green")


def test_pictures_say_what_they_show_to_those_who_cannot_see_them(widget):
    widget.set(colour="blue", title="A result")
    assert widget.picture.alt == "A result (height 1, colour a cold one, title A result)"
    data, about = widget._repr_mimebundle_()
    assert about["image/jpeg"]["alt"] == widget.picture.alt


def test_words_are_pressed_by_place():
    seen = []

    def word(token=2):
        seen.append(token)
        return bars(token + 1)

    widget = beside(word, token=pd.Series([0.0, 0.5, 1.0], index=["a", "red", "a"]))
    words = widget.pressed["token"]
    assert [each["text"] for each in words.words] == ["a", "red", "a"]
    assert [each["pressed"] for each in words.words] == [False, False, True] and len(
        {w["colour"] for w in words.words}
    ) == 3
    words._handle_custom_msg({"word": 1}, [])
    assert seen == [2, 1] and [each["pressed"] for each in words.words] == [False, True, False]


def test_a_table_is_pressed_by_cell_and_sorted_by_its_heads():
    scores = pd.DataFrame({"energy": [0.2, 0.9], "rank": [2, 1]}, index=["edge", "mmel"])

    def cell(cell):
        return bars(title=" of ".join(cell[::-1]))

    widget = beside(cell, cell=scores)
    table = widget.pressed["cell"]
    assert widget.result.get_suptitle() == "energy of edge" and table.table["pressed"] == ("edge", "energy")
    table._handle_custom_msg({"row": "mmel", "column": "rank"}, [])
    assert widget.result.get_suptitle() == "rank of mmel"
    for falling in (True, False):
        table._handle_custom_msg({"column": "energy"}, [])
        names = [name for name, _ in table.table["rows"]]
        assert names == list(scores.sort_values("energy", ascending=not falling).index)
        assert (table.table["sort"], table.table["descending"]) == ("energy", falling)
    table._handle_custom_msg({"corner": True}, [])
    assert [name for name, _ in table.table["rows"]] == ["edge", "mmel"] and table.table["sort"] is None


def test_a_table_that_is_drawn_is_shown_as_it_is():
    table = pd.DataFrame({"drop": [3.0, 1.0]}, index=["<b>", "mmel"])
    widget = beside(table.sort_values, by=["drop"], ascending=[False, True])
    assert "&lt;b&gt;" in widget.page.value and widget.picture.png == b""
    widget.set(ascending=True)
    assert widget.page.value.index("mmel") < widget.page.value.index("&lt;b&gt;")


def test_an_unattended_run_has_the_first_picture_alone(monkeypatch, widget):
    monkeypatch.setenv(UNATTENDED, "1")
    still = beside(bars, height=[1.0, 2.0, 4.0], colour={"a warm one": "red", "a cold one": "blue"}, title="bars")
    data, about = still._repr_mimebundle_()
    attended, same = widget._repr_mimebundle_()
    assert data == {name: own for name, own in attended.items() if "widget" not in name} and about == same
    assert set(attended) - set(data) == {"application/vnd.jupyter.widget-view+json"}
    assert base64.b64decode(data["image/jpeg"])[:2] == b"\xff\xd8"
    assert data["text/plain"] == "shown: height 1, colour a warm one, title bars"


def test_without_its_extra_the_picture_says_how_to_change_it():
    code = (
        "import sys; sys.modules['anywidget'] = None; import pandas as pd\n"
        "from xaikit.explorer import beside\n"
        "def table(n):\n    return pd.DataFrame({'n': [n]})\n"
        "print(beside(table, n=[1, 2]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "shown: n 1 (there is no module anywidget here: it is installed with: pip install 'xaikit[explorer]')"
    )


def of(height, colour, *rest, title, **more):
    """A function without defaults."""
    return bars(height, colour, title)


def forgotten(height):
    """A function that returns nothing."""
    bars(height)


@pytest.mark.parametrize(
    ("draw", "options", "sentence"),
    [
        (bars, {"hight": [1]}, "unknown option 'hight' of bars: it takes height, colour, title"),
        (bars, {"height": []}, "height has nothing to choose from: give at least one value"),
        (of, {"colour": ["red"]}, r"of needs height: give what can be chosen for it \(height=...\), or a default"),
        (of, {"height": [1.0], "colour": ["red"]}, "of needs title"),
        (forgotten, {"height": [1.0, 2.0]}, "forgotten returned None: it must return a figure or a DataFrame"),
    ],
)
def test_what_cannot_be_shown_is_refused_at_once(draw, options, sentence):
    refused(sentence, beside, draw, **options)


def test_a_new_picture_costs_little_more_than_drawing_it(clip, scenes):
    heat = xk.explain(["edge", "centre"], clip, scenes.image, scenes.caption)

    def maps(scene):
        return xk.plots.compare(scenes, heat, "Two methods", (scene,))

    widget = beside(maps, scene=range(len(scenes.sample)))
    pressed = [cpu_seconds(press, widget, 0, place) for place in range(1, 6)]
    drawn = [cpu_seconds(lambda place: maps(place).savefig(io.BytesIO(), dpi=DPI), place) for place in range(1, 6)]
    assert np.median(pressed) < 2 * np.median(drawn)
