"""The explorer without widgets: its state, what it works with, and the views Compare and Words."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from refusals import refused

import xaikit as xk
from xaikit.explorer.jobs import Job, Missing
from xaikit.explorer.pixels import coloured, laid_over, relative, upsampled, with_edge
from xaikit.explorer.sources import read_upload
from xaikit.explorer.state import State
from xaikit.explorer.views import view
from xaikit.explorer.workspace import Workspace
from xaikit.files import store

from .conftest import cancelled_at_the_third, file_of, pixels, said_without_torch, shown, typed, with_model, write_run

# state


def test_code_shows_the_same_state_again():
    choices = {
        "tab": "words",
        "methods": ["mmel", "rise"],
        "words": (2, 1),
        "prompt": 'it\'s a "ring"',
        "image": "a b.png",
    }
    state = State(**choices, threshold=0.25)
    assert State().but(**typed(state.line())) == state
    assert State().line() == "xk.explore()"
    state = State().but(
        sample=np.int64(3), opacity=np.float64(0.5), prompt=np.str_("a ring, )"), words=np.array([1, 2]), image=Path("a.png"),
        methods=np.array(["mmel", "rise"]),
    )  # fmt: skip
    assert State().but(**typed(state.line())) == state and state.prompt == "a ring, )"
    line = State(opacity=0.5).line(given=True, model="tiny-clip")
    assert line == "xk.explore(scenes, opacity=0.5, model='tiny-clip')"


def test_a_change_resets_what_was_about_the_picture_before():
    state = State(prompt="a ring", words=(1,), masked=(3,), threshold=0.2, methods=("rise",), concept=4)
    moved = state.but(sample=2)
    assert (moved.prompt, moved.words, moved.masked, moved.concept) == (None, (), (), None)
    assert (moved.threshold, moved.methods) == (0.2, ("rise",))
    assert state.but(sample=2, words=(0,)).words == (0,)
    assert state.but(sample=0).words == (1,)  # no change, no reset


@pytest.mark.parametrize(
    "choices, told",
    [
        ({"tab": "compass"}, "tab='compass': choose from compare"),
        ({"treshold": 0.5}, "unknown choice 'treshold': the nearest known ones are threshold"),
        ({"threshold": 1.5}, "threshold=1.5: a number from 0 to 1"),
        ({"opacity": float("nan")}, "opacity=nan: a number from 0 to 1"),
        ({"sample": -1}, "sample=-1: a whole number of at least 0"),
        ({"methods": []}, "methods=(): give a list of different names, at least one"),
        ({"methods": list("abcde")}, "one to 4"),
        ({"methods": ["mmel", "mmel"]}, "a list of different names"),
        ({"methods": "mmel"}, "methods='mmel': give a list of different names"),
        ({"words": 3}, "words=3: a list of whole numbers"),
        ({"words": [1.5]}, "words=1.5: a whole number"),
        ({"mask": "yes"}, "mask='yes': True or False"),
        ({"model": ""}, "model='': a name is needed"),
        ({"colours": "jet"}, "colours='jet': choose from magma"),
        ({"alpha": 2.5}, "alpha=2.5: a number above 0 and below 2"),
        ({"alpha": float("nan")}, "alpha=nan: a number above 0 and below 2"),
        ({"masked": [-1]}, "masked=-1: a whole number of at least 0"),
    ],
)
def test_bad_choices_are_one_sentence(choices, told):
    refused(re.escape(told), State().but, **choices)


# compare


def test_heat_is_what_explain_gives(workspace, scenes, clip):
    drawn = shown(workspace, sample=3, methods=["mmel", "chefer"])
    for name in ("mmel", "chefer"):
        heat = xk.explain(name, clip, [scenes.image.values[3]], [scenes.caption.values[3]]).values[0]
        np.testing.assert_allclose(drawn.numbers[name].values.reshape(heat.shape), heat, rtol=1e-4, atol=1e-7)
    assert list(drawn.panels) == ["image", "map 0", "map 1"]


def test_opacity_goes_from_the_picture_to_the_colours(workspace, scenes):
    plain = dict(sample=3, mask=False, prompt="a photo")  # which names nothing, so nothing is outlined
    bare = pixels(shown(workspace, **plain, opacity=0).panels["map 0"])
    np.testing.assert_array_equal(bare, scenes.image.values[3].repeat(5, 0).repeat(5, 1))
    drawn = shown(workspace, **plain, opacity=1, colours="cividis")
    heat = drawn.numbers["grad_eclip"].values.reshape(8, 8)
    full = coloured(relative(heat).repeat(40, 0).repeat(40, 1), "cividis")
    np.testing.assert_array_equal(pixels(drawn.panels["map 0"]), full)


def test_iou_is_that_of_the_drawn_mask(workspace, scenes):
    drawn = shown(workspace, sample=1, threshold=0.3)
    heat = drawn.numbers["grad_eclip"].values.reshape(8, 8)
    inside = (heat >= 0.3 * heat.max()).repeat(8, 0).repeat(8, 1)
    one = scenes.isel(sample=1)
    truth = one.object_mask.values[one.object_named.values].any(0)
    expected = (inside & truth).sum() / (inside | truth).sum()
    assert f"IoU {expected:.2f}" in drawn.panels["map 0"].note
    assert f"mask {inside.mean():.0%}" in drawn.panels["map 0"].note


def test_truth_follows_the_prompt(workspace, scenes):
    one = scenes.isel(sample=1)
    for place, name in enumerate(one.object_name.values):
        if not name:
            continue
        subject = workspace.subject(State(sample=1, prompt=f"the {name}"))
        alike = one.object_group.values == one.object_group.values[place]
        np.testing.assert_array_equal(subject.named, one.object_mask.values[alike].any(0))
    assert workspace.subject(State(sample=1, prompt="a photo")).named is None
    plural = str(one.object_name.values[0]).split(maxsplit=1)[1] + "s"
    assert workspace.subject(State(sample=1, prompt=plural)).named is not None


def test_masks_edge_and_upsampling():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    drawn = with_edge(np.full((40, 40, 3), 90, np.uint8), mask)
    assert (drawn[10, 10:30] == 255).all() and (drawn[12, 12:28] == 0).all() and (drawn[14, 14:26] == 90).all()
    assert (drawn[~mask] == 90).all()
    ramp = upsampled(np.array([[0.0, 1.0]]), (4, 8), "bilinear")
    assert ramp.shape == (4, 8) and (np.diff(ramp, axis=1) >= 0).all() and 0 < ramp[0, 4] < 1
    np.testing.assert_array_equal(upsampled(np.eye(2), (4, 4)), np.kron(np.eye(2), np.ones((2, 2))))
    np.testing.assert_array_equal(laid_over(np.full((1, 1, 3), 100.0), np.full((1, 1, 3), 200.0), 0.25), 125)


# words


def test_words_are_coloured_by_their_heat(workspace, clip, scenes):
    drawn = shown(workspace, tab="words", sample=2, colours="gray", method="edge")  # which explains no words
    heat = xk.explain("grad_eclip", clip, [scenes.image.values[2]], [scenes.caption.values[2]], of="text")
    assert [word.text for word in drawn.words] == [str(word) for word in heat.token_text.values[0]]
    light = np.array([int(word.colour[1:3], 16) for word in drawn.words])
    np.testing.assert_allclose(light, 255 * relative(heat.values[0]), atol=1.5)
    for word in drawn.words:
        dark = int(word.colour[1:3], 16) < 100
        assert word.ink == ("#ffffff" if dark else "#000000") or 90 < int(word.colour[1:3], 16) < 130
    assert drawn.sentences["words"].startswith("edge explains pictures only. Heat of the words by grad_eclip")
    of_words = drawn.numbers.dropna(subset="word")
    np.testing.assert_allclose(of_words["heat of the word"], heat.values[0], rtol=1e-4, atol=1e-7)


def test_similarity_of_the_prompt_and_of_its_words(workspace, clip, scenes):
    prompt = "a red ring left of a blue square"
    drawn = shown(workspace, tab="words", sample=0, prompt=prompt, words=[6, 7])
    for place, text in (("whole", prompt), ("pressed", "blue square")):
        expected = float(clip.similarity([scenes.image.values[0]], [text]))
        assert drawn.panels[place].note.startswith(f"cosine similarity with the prompt {expected:.3f}; ")
    expected = float(clip.similarity([scenes.image.values[3]], [scenes.caption.values[3]]))
    assert f"prompt {expected:.3f}; named" in shown(workspace, sample=3).panels["image"].note


# bad input


@pytest.mark.parametrize(
    "choices, told",
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": "a purpel ring"}, "'purpel' is outside the model's vocabulary; the nearest known words are purple"),
        ({"prompt": "red " * 300}, "has 302 tokens with its start and end, but tiny-clip takes at most"),
        ({"sample": 6}, "sample=6: the scenes are 0 to 5"),
        ({"methods": ["grad_clip"]}, "unknown method 'grad_clip': the nearest known ones are grad"),
        ({"tab": "words", "words": [99]}, "words=[99]: the prompt has the words 0 to"),
        ({"tab": "perturb", "masked": [64]}, "masked=[64]: the picture has the patches 0 to 63"),
        ({"tab": "resonance", "word": 40}, "word=40: the prompt has the words 0 to"),
        ({"tab": "resonance", "time": 21}, "time=21: the maps are those of the iterations 0 to 20"),
        ({"tab": "resonance", "mode": 4}, "mode=4: the word '"),
        ({"tab": "resonance", "concept": 99}, "concept=99: the concepts are 0 to"),
        ({"model": "tiny-clop"}, "unknown model 'tiny-clop'"),
        ({"image": "nowhere.png", "prompt": "a ring"}, "there is no file nowhere.png"),
        ({"image": "nowhere.png"}, "there is no file nowhere.png"),
        ({"run": "no-such-run"}, "run='no-such-run': there is no such run folder"),
    ],
)
def test_bad_pictures_and_prompts_are_one_sentence(scenes, workspace, choices, told):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        shown(Workspace() if "run" in choices else workspace, **choices)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_uploads(workspace, clip):
    picture = Image.new("RGB", (90, 60), (200, 30, 30))
    picture.paste((20, 20, 220), (0, 0, 45, 60))
    workspace.pictures.upload("two.png", file_of(picture))
    drawn = shown(workspace, image="two.png", prompt="a red square", methods=["edge"])
    np.testing.assert_array_equal(
        drawn.numbers["edge"].values.reshape(8, 8), xk.explain("edge", clip, [picture], ["a red square"]).values[0]
    )
    assert drawn.panels["image"].note.endswith("; no truth is known of this picture")
    turned = picture.getexif()
    turned[0x0112] = 6  # a camera held upright
    assert read_upload("turned.jpg", file_of(picture, "JPEG", exif=turned)).size == (60, 90)


# work


def test_nothing_is_computed_without_a_job_nor_twice(scenes, clip):
    workspace = Workspace(scenes)
    state = State(methods=("chefer",))
    with pytest.raises(Missing):
        view("compare")(workspace, state)
    steps = []
    first = view("compare")(workspace, state, Job(lambda what, done, total: steps.append((what, done, total))))
    loading = [("loading tiny-clip", 0, 1), ("explaining by chefer", 0, 1)]
    assert steps == loading or steps[0][0].startswith("explaining")
    again = view("compare")(workspace, state.but(opacity=0.6))
    assert again.panels["map 0"].png == first.panels["map 0"].png


def test_work_stops_at_a_forward_pass(scenes, clip):
    workspace, state = with_model(Workspace(scenes), clip), State(methods=("kernel_shap",))
    cancelled_at_the_third(clip.model.visual, lambda job: view("compare")(workspace, state, job))


@pytest.fixture(scope="module")
def mmel(clip):
    """Three scenes, and their maps by mmel."""
    scenes = xk.draw_scenes(n=3, seed=1)
    return scenes, xk.explain_all(clip, scenes.image, scenes.caption, ["mmel"])


@pytest.fixture
def stored_run(tmp_path, clip, mmel):
    """A function that writes a run of these scenes with maps that are 7 everywhere, and what they are said to be made with;
    returns its folder as text."""
    scenes, found = mmel
    sevens = found.assign(heat=found.heat * 0 + 7)

    def write(samples=slice(None), name="maps", model="tiny-clip", heat=sevens, **made):
        found = store.annotate(heat.isel(sample=samples), "explanations", **made) if made else heat.isel(sample=samples)
        return write_run(
            tmp_path, scenes, None if "weights_digest" in made else clip, model, **{name: ("explanations", found)}
        )

    return write


def is_stored(workspace, **choices):
    return bool((shown(workspace, methods=["mmel"], **choices).numbers.mmel == 7).all())


@pytest.mark.parametrize("loaded", [False, True])
def test_stored_maps_are_this_models_by_default_options_of_this_picture_only(stored_run, loaded, clip):
    run = stored_run()

    def fresh():
        return with_model(Workspace(), clip) if loaded else Workspace()

    assert is_stored(fresh(), run=run, sample=2)
    assert not is_stored(fresh(), run=run, sample=2, prompt="a ring")
    assert not is_stored(fresh(), run=run, sample=2, model="tiny-clip-shortcut")
    given = Workspace(xk.draw_scenes(n=3, seed=1))
    assert not is_stored(given, run=run, sample=2)
    stored_run(parameters={"alpha": 0.123})
    assert not is_stored(fresh(), run=run, sample=2)
    stored_run(samples=[1, 0])
    assert is_stored(fresh(), run=run, sample=1) and not is_stored(fresh(), run=run, sample=2)
    stored_run(weights_digest="0" * 16, model="tiny-clip-shortcut")
    assert not is_stored(fresh(), run=run, sample=2)


def test_maps_of_other_weights_are_not_this_models(stored_run, clip):
    assert not is_stored(with_model(Workspace(), clip), run=stored_run(weights_digest="0" * 16), sample=2)
    # a name that isn't a bundled model's says nothing of its weights
    drawn = shown(Workspace(), run=stored_run(model="ViT-S-32-alt"), model="ViT-S-32-alt", methods=["mmel"])
    assert drawn.numbers.mmel.max() < 7 and len(drawn.numbers) == 49


def test_a_run_and_a_file_are_read_again_when_they_change(stored_run, tmp_path):
    workspace, run = Workspace(), stored_run()
    assert shown(workspace, run=run).choices["methods"] == ["mmel"] or is_stored(workspace, run=run)
    (tmp_path / "maps.nc").unlink()
    assert not is_stored(workspace, run=run)
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "one.png")
    choices = {"image": str(tmp_path / "one.png"), "prompt": "a ring", "methods": ["edge"]}
    assert tuple(pixels(shown(workspace, **choices).panels["image"])[0, 0]) == (0, 0, 255)
    Image.new("RGB", (65, 65), "red").save(tmp_path / "one.png")
    assert tuple(pixels(shown(workspace, **choices).panels["image"])[0, 0]) == (255, 0, 0)


def test_broken_stores_and_records_are_left_out_and_told(stored_run, tmp_path):
    run = stored_run(name="good")
    stored_run(name="broken")
    xr.load_dataset(tmp_path / "broken.nc").rename(heat="glow").to_netcdf(tmp_path / "broken.nc", engine="h5netcdf")
    for record in ("{", "[]", '{"parameters": 3}'):
        (tmp_path / "run.json").write_text(record)
        workspace = Workspace()
        assert is_stored(workspace, run=run)
        assert "broken.nc" in workspace.notice(State(run=run)) and workspace.models_of(run)["model"] == "tiny-clip"
    assert "random weights" in workspace.notice(State(model="ViT-B-32"))
    assert workspace.notice(State()) == workspace.notice(State(model="local-dir:x")) == ""


def test_a_line_names_the_model_where_the_run_has_another(stored_run, tmp_path):
    run = stored_run()
    (tmp_path / "run.json").write_text('{"parameters": {"model": "tiny-clip-shortcut", "device": "cuda"}}')
    assert xk.explore(run=run, methods=["edge"]).state.model == "tiny-clip-shortcut"
    assert xk.explore(run=run, model="tiny-clip", methods=["edge"]).code.endswith("model='tiny-clip')")


def test_a_run_that_names_no_model_has_that_of_its_scenes(tmp_path):
    """As one by the notebooks' defaults, which are of another model than the explorer's."""
    things = xk.draw_scenes(n=2, objects=(1, 2), world="things", size=96)
    run = write_run(tmp_path, store.annotate(things, "inputs", model="tiny-clip-things"))
    found = Workspace().models_of(run)
    assert (found["model"], found["multimodal_model"]) == ("tiny-clip-things", "tiny-llava-things")
    (tmp_path / "run.json").write_text('{"parameters": {"model": "tiny-clip-shortcut"}}')
    assert Workspace().models_of(run)["model"] == "tiny-clip-shortcut"


@pytest.mark.parametrize("model, size", [("tiny-clip", 64), ("tiny-clip-things", 96), ("ViT-B-32", 96)])
def test_scenes_drawn_on_the_spot_are_of_the_models_world_and_size(model, size):
    drawn = Workspace().scenes(State(model=model))
    assert drawn.image.shape[1:3] == (size, size)
    assert any("ring" in str(caption) for caption in drawn.caption.values) == (model == "tiny-clip")


def test_bad_scenes_are_one_sentence(scenes):
    none = scenes.isel(sample=slice(0))
    bad = {"scenes is a str": "runs/x", "schema version None": xr.Dataset(), "scenes has no sample": none}
    for told, given in bad.items():
        refused(told, xk.explore, given)


def test_only_the_last_uploads_are_kept(workspace):
    for number in range(10):
        workspace.pictures.upload(f"u{number}.png", file_of(Image.new("RGB", (8 + number, 8))))
    with pytest.raises(ValueError, match="u0.png is no longer kept, only the last 8 uploads are: upload it again"):
        workspace.picture(State(image="u0.png", prompt="a ring"))
    assert workspace.picture(State(image="u9.png", prompt="a ring")).size == (17, 8)


def test_stored_maps_are_shown_without_torch(stored_run, mmel):
    run, heat = stored_run(heat=mmel[1]), mmel[1].heat
    code = (
        f"import xaikit as xk; app = xk.explore(run={run!r}, methods=['mmel'], sample=2); "
        "print(float(app.numbers.mmel.sum()), app.drawn.choices['methods'])"
    )
    total, methods = said_without_torch(code).split()
    assert methods == "['mmel']"
    np.testing.assert_allclose(float(total), float(heat.values[2].sum()), rtol=1e-5)
