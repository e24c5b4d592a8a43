"""What the explorer's views share: pictures and maps as bytes, uploads, widgets; and what Compare and Words say."""

import io
import re

import numpy as np
import pytest
from dataset_fixtures import bomb
from PIL import Image
from refusals import refused

import xaikit as xk
from xaikit.explorer.jobs import Job
from xaikit.explorer.panels import Panel, Spot, Word, map_panel
from xaikit.explorer.pixels import LONGEST_SIDE, enlarged
from xaikit.explorer.sources import MOST_BYTES, read_upload
from xaikit.explorer.state import State
from xaikit.explorer.tabs import WordsTab
from xaikit.explorer.views import view
from xaikit.explorer.widgets import Picture, Upload, Words
from xaikit.explorer.workspace import Workspace

from .conftest import file_of, pixels, shown

# maps on pictures


def test_a_flat_map_has_no_mask_at_any_threshold():
    image, truth = np.full((80, 80, 3), 90, np.uint8), np.zeros((80, 80), bool)
    truth[:40] = True
    for threshold in (0.0, 0.5):
        state = State(threshold=threshold, opacity=0.0)
        flat = map_panel(state, "flat", np.zeros((8, 8)), image)
        assert flat.note == "no heat above 0, mask 0% of the picture" and (pixels(flat) == 90).all()
        assert "IoU 0.00" in map_panel(state, "flat", np.zeros((8, 8)), image, truth).note
    half = np.arange(64).reshape(8, 8) >= 32
    assert "mask 50% of the picture" in map_panel(State(threshold=0.0), "half", half * 1.0, image).note


def test_pictures_are_enlarged_within_bounds():
    sizes = {(64, 64): (320, 320), (100, 150): (400, 600), (500, 640): (500, 640), (3000, 4000): (320, 427)}
    narrow = {(8000, 1): (1280, 1), (1, 300): (4, 1200), (1300, 400): (1040, 320), (200, 1000): (200, 1000)}
    for size, wanted in (sizes | narrow).items():
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        large = enlarged(noise)
        assert large.shape == (*wanted, 3) and max(large.shape) <= LONGEST_SIDE
        if wanted[0] >= size[0] and wanted[0] % size[0] == 0:
            np.testing.assert_array_equal(large[:: wanted[0] // size[0], :: wanted[1] // size[1]], noise)


def test_a_narrow_file_is_shown(tmp_path):
    Image.new("RGB", (3000, 30), "red").save(tmp_path / "strip.png")
    panel = shown(Workspace(), image=str(tmp_path / "strip.png"), tab="answer").panels["image"]
    assert pixels(panel).shape == (13, 1280, 3)
    Image.new("RGB", (3000, 1), "red").save(tmp_path / "line.png")
    with pytest.raises(ValueError, match="image of 3000 x 1 pixels: its tokens show too little of it"):
        shown(Workspace(), image=str(tmp_path / "line.png"), tab="answer")


def test_pixels_as_they_look_are_the_picture(workspace):
    clip, images = workspace.clip(State(), Job()), workspace.scenes(State()).image.values
    np.testing.assert_array_equal(clip.colours(clip.pixels(images)), images)
    np.testing.assert_array_equal(clip.seen(images[1]), images[1])


# Compare and Words


def test_compare_says_what_is_outlined_and_why_nothing_is(workspace):
    name = str(workspace.scene(State()).object_name.values[0])

    def note(**choices):
        return shown(workspace, methods=["edge"], **choices).panels["image"].note.split("; ", 1)[1]

    assert note() == "named objects outlined in blue"
    typed = note(prompt=f"the {name}")
    assert typed.startswith("outlined in blue: the objects for which the prompt has a phrase") and "“not”" in typed
    why = f"no object is outlined: the prompt has no phrase such as “{name}” for an object that is there"
    assert note(prompt="a photo") == note(prompt="blue") == why


def test_columns_of_words_have_fixed_names(workspace):
    state = State(tab="words", prompt="a red ring left of a blue square", words=(2, 1))
    drawn = view("words")(workspace, state, Job())
    assert drawn.panels["pressed"].title == "only: red ring"
    of_words = ["word", "heat of the word"]
    assert list(drawn.numbers) == ["row", "col", "heat", "heat of the pressed words", *of_words]
    clip, image = workspace.clip(state), workspace.scene(state).image.values
    for column, prompt in (("heat", state.prompt), ("heat of the pressed words", "red ring")):
        heat = xk.explain(state.method, clip, [image], [prompt]).values.ravel()
        np.testing.assert_allclose(drawn.numbers[column].dropna(), heat, rtol=1e-4, atol=1e-7)
    assert list(view("words")(workspace, state.but(words=()), Job()).numbers) == ["row", "col", "heat", *of_words]


# uploads


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode):
    picture = Image.new("RGBA", (40, 30), (30, 30, 30, 255))
    picture.paste((200, 200, 200, 0), (0, 0, 20, 30))  # hidden colours
    if mode == "RGBA":
        picture.paste((0, 0, 0, 51), (0, 0, 10, 30))
    content = file_of(picture.convert("P") if mode == "P" else picture.convert(mode))
    read = np.asarray(read_upload("clear.png", content))
    assert (read[:, 10:20] == 255).all() and (read[:, 20:] == 30).all()
    assert (read[:, :10] == (204 if mode == "RGBA" else 255)).all()
    np.testing.assert_array_equal(np.asarray(xk.files.images.read_image(Image.open(io.BytesIO(content)))), read)


def broken_tiff(tag, value):
    """A TIFF one of whose tags (width is 256, height 257) has another type and value."""
    content = bytearray(file_of(Image.new("RGB", (8, 8)), "TIFF"))
    at = content.index(tag.to_bytes(2, "little") + b"\4\0" + b"\1\0\0\0")
    content[at + 2 : at + 12] = value
    return bytes(content)


@pytest.mark.parametrize(
    "content, told",
    [
        (b"no picture", "x.png can't be read as an image (its content is of none of the formats BMP, GIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", "x.png can't be read as an image"),
        (b"", "x.png can't be read as an image"),
        (
            file_of(Image.new("1", (10000, 5000))),
            "x.png has 10000 x 5000 pixels (50 megapixels), more than the 40 that are taken: make it smaller first",
        ),
        (file_of(Image.new("RGB", (64, 64), "red"))[:90], "x.png can't be read as an image"),
        (bytes(30_000_001), "x.png has 30 MB"),
        (
            bomb(40_000, 40_000),
            "x.png has more than 179 megapixels, more than the 40 that are taken: make it smaller first",
        ),
        (file_of(Image.new("L", (2001, 100))), "x.png has 2001 x 100 pixels: no side may be more than 20 times as"),
        (file_of(Image.new("L", (5, 101))), "x.png has 5 x 101 pixels: no side may be more than 20 times as long"),
        (broken_tiff(256, b"\2\0\4\0\0\0abc\0"), "x.png can't be read as an image ("),  # a text
        (broken_tiff(257, b"\4\0\1\0\0\0\0\0\0\0"), "x.png "),  # 0 pixels high
    ],
)
def test_bad_uploads_are_one_sentence(content, told):
    refused("^" + re.escape(told), read_upload, "x.png", content)
    # the narrowest that is taken
    assert read_upload("x.png", file_of(Image.new("L", (2000, 100)))).size == (2000, 100)


# widgets


def test_a_press_on_what_is_gone_is_none():
    pressed = []
    picture, words = Picture(pressed.append), Words(pressed.append)
    picture.show(Panel("", b"", spots=(Spot(0, 0, 1, 1, "all"), Spot(0, 0, 1, 1, "again"))))
    words.show((Word("a"), Word("b")))
    picture._handle_custom_msg({"spot": 1}, [])
    words._handle_custom_msg({"word": 1}, [])
    picture.show(Panel("", b"", spots=(Spot(0, 0, 1, 1, "all"),)))
    words.show((Word("a"),))
    for place in (1, -1):
        picture._handle_custom_msg({"spot": place}, [])
        words._handle_custom_msg({"word": place}, [])
    assert pressed == [1, 1]


@pytest.fixture
def upload():
    """The button, and what it took or failed with."""
    got = []
    button = Upload(lambda name, content: got.append((name, content)), lambda error: got.append(str(error)))
    return button, got


def send(button, content=None, **about):
    button._handle_custom_msg({"name": "a.png", "size": 4} | about, [] if content is None else [memoryview(content)])


def test_files_of_two_browsers_do_not_mix(upload):
    button, got = upload
    send(button, b"ab", id="one", part=0, parts=2)
    send(button, b"AB", id="other", part=0, parts=2, name="b.png")
    send(button, b"cd", id="one", part=1, parts=2)
    send(button, b"CD", id="other", part=1, parts=2, name="b.png")
    assert got == [("a.png", b"abcd"), ("b.png", b"ABCD")]


def test_a_file_that_does_not_arrive_is_one_sentence(upload):
    button, got = upload
    told = "a.png couldn't be read to its end: choose the file again"
    send(button, b"ab", id="one", part=0, parts=2)
    send(button, id="one")  # the browser couldn't read on
    assert got == [told]
    send(button, b"cd", id="one", part=1, parts=2)  # what comes late belongs to nothing
    assert got == [told, told]
    send(button, id="two", size=MOST_BYTES + 1_000_000)
    assert got[2:] == ["a.png has 31 MB: pictures up to 30 MB are taken"]
    send(button, b"abcd", id="three", part=0, parts=1)
    assert got[3:] == [("a.png", b"abcd")]


def test_texts_are_not_markup(workspace):
    tab, state = WordsTab(lambda **changes: None), State(tab="words")
    drawn = view("words")(workspace, state, Job())
    drawn.sentences["words"] = "largest: <img src=x>"
    tab.show(state, drawn)
    assert tab.said.value == "largest: &lt;img src=x&gt;"
