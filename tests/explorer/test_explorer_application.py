"""The explorer's widgets, without a browser: what controls do to the state, and what the pictures then show."""

import dataclasses
import threading

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from refusals import refused

import xaikit as xk
from xaikit.explorer.application import NO_RUN
from xaikit.explorer.jobs import Missing
from xaikit.explorer.state import TABS, State

from .conftest import file_of, pixels, write_run


@pytest.fixture(scope="module")
def app():
    return xk.explore(xk.draw_scenes(n=5, seed=9, objects=(2, 3)))


@pytest.fixture(autouse=True)
def fresh(app):
    app.set(**dataclasses.asdict(State()))


def tab(app):
    return app.pages[app.state.tab].children[0]


def text_file(app, content, name="picture.png", part=4000):
    """Hand a file over in parts, as the button in a browser does."""
    parts = [content[start : start + part] for start in range(0, len(content), part)]
    for index, piece in enumerate(parts):
        about = {"name": name, "size": len(content), "part": index, "parts": len(parts)}
        app.uploader._handle_custom_msg(about, [memoryview(piece)])


def test_a_slider_changes_the_picture_at_once(app):
    before = tab(app)["map 0"].png
    tab(app).controls["opacity"].value = 0.2
    assert app.state.opacity == 0.2 and tab(app)["map 0"].png != before
    assert app.code == "xk.explore(scenes, opacity=0.2)" and "opacity=0.2" in app.line.value


def test_controls_follow_what_code_sets(app):
    app.set(sample=3, opacity=0.35, methods=["chefer", "rise", "edge"], upsampling="bicubic")
    assert app.sample.value == 3
    assert app.prompt.value == str(app.workspace.scenes(app.state).caption.values[3])
    assert tab(app).controls["opacity"].value == 0.35 and tab(app).controls["upsampling"].value == "bicubic"
    assert [picker.value for picker in tab(app).pickers] == ["chefer", "rise", "edge", "(none)"]
    assert [bool(tab(app)[f"map {place}"].png) for place in range(4)] == [True, True, True, False]


def test_methods_are_chosen_above_their_maps(app):
    tab(app).pickers[2].value = "chefer"
    app.wait()
    assert app.state.methods == ("grad_eclip", "mmel", "chefer")
    assert tab(app)["map 2"].title == "Chefer"
    tab(app).pickers[0].value = "(none)"
    app.wait()
    assert app.state.methods == ("mmel", "chefer") and tab(app)["map 0"].title == "MMEL"


def test_a_new_prompt_is_computed_in_the_background(app):
    app.prompt.value = "a blue ring"
    app.wait()
    assert app.state.prompt == "a blue ring" and app.working.layout.visibility == "hidden"
    clip, image = app.workspace.clip(app.state), app.workspace.scene(app.state).image.values
    heat = xk.explain("mmel", clip, [image], ["a blue ring"])
    np.testing.assert_allclose(app.numbers.mmel, heat.values.ravel(), rtol=1e-4, atol=1e-7)
    app.caption.click()
    app.wait()
    assert app.state.prompt is None


def test_another_scene_brings_its_caption_back(app):
    app.set(prompt="a blue ring", words=[1])
    app.sample.value = 2
    app.wait()
    assert (app.state.prompt, app.state.words, app.state.sample) == (None, (), 2)
    assert app.prompt.value == str(app.workspace.scenes(app.state).caption.values[2])


def test_words_are_pressed_and_let_go(app):
    app.tabs.selected_index = TABS.index("words")
    app.wait()
    words = tab(app).words
    words._handle_custom_msg({"word": 1}, [])
    app.wait()
    assert app.state.words == (1,) and words.words[1]["pressed"] and tab(app)["pressed"].png
    words._handle_custom_msg({"word": 2}, [])
    app.wait()
    assert tab(app)["pressed"].title == f"only: {words.words[1]['text']} {words.words[2]['text']}"
    words._handle_custom_msg({"word": 1}, [])
    app.wait()
    assert app.state.words == (2,)
    tab(app).release.click()
    assert app.state.words == () and tab(app)["pressed"].note.startswith("press one")


@pytest.mark.parametrize("prompt, told", [("", "empty"), ("a purpel ring", "purple"), ("red " * 300, "302 tokens")])
def test_a_bad_prompt_is_a_sentence_and_the_view_stays(app, prompt, told):
    before = tab(app)["map 0"].png
    app.prompt.value = prompt
    app.wait()
    assert told in app.error.value and "Traceback" not in app.error.value and 'role="alert"' in app.error.value
    assert f"(still shown: prompt: {app.workspace.subject(app.state).prompt})" in app.error.value
    assert app.state.prompt is None and tab(app)["map 0"].png == before
    app.prompt.value = "a red ring"
    app.wait()
    assert app.error.value == "" and app.state.prompt == "a red ring"


def test_uploading(app):
    caption = app.prompt.value
    text_file(app, file_of(Image.new("RGB", (80, 80), (0, 90, 200))), "blue.png")
    app.wait()
    assert (app.state.image, app.state.prompt, app.error.value) == ("blue.png", caption, "")
    assert (np.abs(pixels(tab(app)["image"]).astype(int) - (0, 90, 200)) < 2).all()
    text_file(app, b"not a picture", "notes.txt")
    assert "notes.txt can't be read as an image" in app.error.value and app.state.image == "blue.png"


@pytest.fixture
def held(app):
    """Hold every pass of the image tower; (one has begun, let go)."""
    started, go = threading.Event(), threading.Event()

    def wait(*_):
        started.set()
        go.wait(20)

    handle = app.workspace.clip(app.state).model.visual.register_forward_pre_hook(wait)
    yield started, go
    go.set()
    handle.remove()
    app.wait()


def shown_methods(app):
    return [picker.value for picker in tab(app).pickers if picker.value != "(none)"]


def test_long_work_is_cancelled_and_the_latest_wish_wins(app, held):
    started, go = held
    lines = []
    app.line.observe(lambda event: lines.append(event["new"]), "value")
    app.change(methods=["kernel_shap"])
    assert started.wait(20)
    assert app.working.layout.visibility == "visible" and "kernel_shap" in app.doing.value
    app.stop.click()
    assert app.working.layout.visibility == "hidden" and app.state.methods == ("grad_eclip", "mmel")
    app.change(methods=["rise"])
    app.change(methods=["edge", "gradcam"])
    go.set()
    app.wait()
    app.line.unobserve_all()
    assert app.state.methods == ("edge", "gradcam") and app.error.value == ""
    assert app.working.layout.visibility == "hidden"
    assert not any("kernel_shap" in line or "rise" in line for line in lines)
    for given_up in ("kernel_shap", "rise"):  # and nothing half-done is kept
        with pytest.raises(Missing):
            app.workspace.heat(app.state, given_up)


def test_after_a_cancel_the_controls_say_what_is_shown(app, held):
    started, go = held
    tab(app).pickers[0].value = "kernel_shap"
    assert started.wait(20)
    app.stop.click()
    go.set()
    assert shown_methods(app) == ["grad_eclip", "mmel"]
    tab(app).pickers[0].value = "(none)"
    tab(app).pickers[1].value = "(none)"  # at least one stays
    app.wait()
    assert shown_methods(app) == list(app.state.methods) == ["mmel"]


def test_a_bad_wish_ends_the_work_and_stays_said(app, held):
    started, go = held
    app.change(methods=["kernel_shap"])
    assert started.wait(20)
    app.prompt.value = "a purpel ring"
    assert "purple" in app.error.value and app.working.layout.visibility == "hidden"
    assert app.prompt.value == "a purpel ring"  # to be mended
    go.set()
    app.wait()
    assert "purple" in app.error.value and app.state.methods == ("grad_eclip", "mmel")
    assert shown_methods(app) == ["grad_eclip", "mmel"]


def test_progress_is_seen(app):
    seen = []
    app.progress.observe(lambda event: seen.append((app.doing.value, event["new"], app.progress.max)), "value")
    app.change(methods=["saliency", "legrad", "osp"], prompt="a yellow ring")
    app.wait()
    app.progress.unobserve_all()
    assert ("explaining by legrad (1 of 3 done)", 1, 3) in seen and ("explaining by osp (2 of 3 done)", 2, 3) in seen


def test_a_tab_forgets_what_is_no_longer_there(app):
    app.set(word=50, token=70)
    app.change(tab="resonance")
    app.wait()
    assert (app.state.tab, app.state.word, app.error.value) == ("resonance", 0, "")
    refused("word=50", app.set, word=50)
    assert app.working.layout.visibility == "hidden"


def test_a_tab_that_cannot_be_shown_is_left_again(app, monkeypatch):
    missing = FileNotFoundError("there is no model here")
    monkeypatch.setattr(app.workspace, "mllm", lambda *_: (_ for _ in ()).throw(missing))
    app.tabs.selected_index = TABS.index("answer")
    app.wait()
    assert "there is no model here" in app.error.value
    assert app.state.tab == "compare" and app.tabs.selected_index == TABS.index("compare")


def test_loading_goes_on_whatever_else_is_done_and_choices_are_checked_before():
    scenes = xk.draw_scenes(n=2, seed=1)
    cold, app = (xk.explore(scenes, tab="runs") for _ in range(2))  # which needs no model
    app.warm()
    app.change(opacity=0.3)
    app.wait()
    assert app.state.opacity == 0.3 and app.workspace.clip(app.state).name == "tiny-clip"
    app.change(prompt="zzz")
    app.wait()
    assert "'zzz' is outside the model's vocabulary" in app.error.value
    cold.change(prompt="zzz")
    cold.change(opacity=0.4)
    cold.wait()
    assert "zzz" in cold.error.value and cold.state.prompt is None


def test_setting_a_bad_choice_from_code_raises_and_changes_nothing(app):
    before = app.state
    for told, choices in (
        ("unknown method 'mmell'", {"methods": ["mmell"]}),
        ("unknown method 'mmell'", {"tab": "runs", "method": "mmell"}),
        ("sample=9: the scenes are 0 to 4", {"tab": "runs", "sample": 9}),
        ("unknown model 'tiny-clop'", {"tab": "runs", "model": "tiny-clop"}),
        ("unknown choice", {"smaple": 1}),
    ):
        refused(told, app.set, **choices)
        assert app.working.layout.visibility == "hidden" and app.state == before
    refused("threshold=2", xk.explore, threshold=2)


def shown_again(folder, monkeypatch):
    """What the script that was exported to a folder shows."""
    (script,), kept = folder.glob("*.py"), {}
    monkeypatch.chdir(folder)
    exec(script.read_text().replace("xk.explore", "again = xk.explore"), kept)
    return kept["again"]


def test_export(app, tmp_path, monkeypatch):
    app.set(sample=2, methods=["mmel", "edge"], prompt="a red ring")
    files = {path.name: path for path in app.export(tmp_path)}
    with Image.open(files["xaikit-compare-scene2.png"]) as picture:
        assert picture.width > 600
    lines = files["xaikit-compare-scene2.csv"].read_text().splitlines()
    assert lines[0] == "row,col,mmel,edge" and len(lines) == 65
    again = shown_again(tmp_path, monkeypatch)  # the scenes that were handed over are there too
    pd.testing.assert_frame_equal(again.numbers, app.numbers)
    app.exporter.click()
    assert 'download="xaikit-compare-scene2.png"' in app.files.value and "your scenes" in app.files.value
    assert len(app.export(tmp_path / "new" / "folder")) == 4
    with pytest.raises(FileExistsError, match="is a file"):
        app.export(files["xaikit-compare-scene2.csv"])


def test_an_uploads_export_holds_the_picture(tmp_path, monkeypatch):
    app = xk.explore(tab="compare", methods=["edge"])
    app.upload(r"../<b>$\frac$.png", file_of(Image.new("RGB", (90, 60), (0, 90, 200))))
    app.wait()
    assert app.error.value == "" and "<b>" not in app.line.value
    names = {path.name for path in app.export(tmp_path)}
    assert {path.name for path in tmp_path.iterdir()} == names and len(names) == 4
    pd.testing.assert_frame_equal(shown_again(tmp_path, monkeypatch).numbers, app.numbers)


def test_another_picture_of_the_same_name(app):
    files = [file_of(Image.new("RGB", (64, 64), colour)) for colour in ("blue", "red")]
    for content in files:
        app.upload("one.png", content)
        app.wait()
    assert app.state.image == "one (2).png"
    assert tuple(pixels(tab(app)["image"])[0, 0]) == (255, 0, 0)
    app.upload("one.png", files[0])
    app.wait()
    assert app.state.image == "one.png"
    app.sample.value = 3
    app.wait()
    assert app.state.image is None


def test_a_sample_of_a_run_opens_in_compare(tmp_path, clip):
    scenes = xk.draw_scenes(n=3, seed=2)
    scores = xk.evaluate(xk.explain_all(clip, scenes.image, scenes.caption, ["chefer"]).heat, clip, scenes, steps=2)
    run = write_run(tmp_path, scenes, clip, evaluation=("evaluation", scores))
    app = xk.explore(run=run, tab="runs", explainer="chefer", metric="energy")
    worst = int(scores.energy.sel(explainer="chefer").values.argmin())
    assert tab(app)["worst 0"].spots[0]["label"] == f"open scene {worst} in Compare"
    tab(app)["worst 0"].press(0)
    app.wait()
    assert (app.state.tab, app.state.sample, app.state.methods) == ("compare", worst, ("chefer",))
    assert app.error.value == "" and app.tabs.selected_index == TABS.index("compare")


def test_what_a_notebook_keeps_of_it(app):
    bundle = app._repr_mimebundle_()
    assert bundle["text/plain"] == app.code and "image/jpeg" in bundle
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert app.run_picker.value == NO_RUN
