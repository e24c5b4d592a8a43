"""The explorer's view Resonance: its pictures against planted courses and against xaikit's own functions, its tab by its widgets."""

import dataclasses
import gc
import json
import re
import weakref

import matplotlib
import numpy as np
import pytest
import xarray as xr
from PIL import Image
from refusals import refused

import xaikit as xk
from xaikit import resonance
from xaikit.clip.towers import tower
from xaikit.explorer.jobs import Job, Missing
from xaikit.explorer.panels import Drawn
from xaikit.explorer.state import State
from xaikit.explorer.tabs import ResonanceTab
from xaikit.explorer.views.resonance import draw
from xaikit.explorer.views.waves import wave
from xaikit.explorer.workspace import Workspace
from xaikit.files import store
from xaikit.measures.words import content_words
from xaikit.plots.resonance import COLOURS

from .conftest import (
    cancelled_at_the_third,
    cpu_seconds,
    every_control_followed,
    file_of,
    followed,
    pixels,
    said_without_torch,
    with_model,
    write_run,
)

FREQUENCY, GROWTH, STEPS = 0.1, -0.03, 40  # of the planted course
TIMES = np.arange(STEPS + 1)
SWING = np.exp(GROWTH * TIMES) * np.cos(2 * np.pi * FREQUENCY * TIMES)
PLANTED = State(alpha=0.7, coupling="attention", iterations=STEPS)
LEFT = np.arange(8)[None].repeat(8, 0) < 4


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(n=2, seed=3)


@pytest.fixture(scope="module")
def computed(scenes, clip):
    """A workspace with the model loaded."""
    return with_model(Workspace(scenes), clip)


def planted_course(scenes) -> xr.Dataset:
    """Each word's map is 1, but the first two content words swing, one on the left half, the other half as much on the
    right."""
    words = scenes.token_text.values
    values = np.ones((len(words), len(TIMES), words.shape[1], 8, 8)) * (words != "")[:, None, :, None, None]
    for sample in range(len(words)):
        first, second = swinging(scenes, sample)
        values[sample, :, first] += SWING[:, None, None] * LEFT
        values[sample, :, second] += 0.5 * SWING[:, None, None] * ~LEFT
    dims = ("sample", "time", "token", "row", "col")
    coords = {"sample": scenes.sample.values, "token_text": (("sample", "token"), words)}
    ds = xr.Dataset({"trajectory": (dims, values.astype(np.float32))}, coords)
    return ds.assign_coords({dim: np.arange(ds.sizes[dim]) for dim in dims[1:]})


def swinging(scenes, sample=0) -> list[int]:
    """The first two content words of a caption, which the planted course moves."""
    return np.flatnonzero(content_words(scenes.token_text.values[sample]))[:2].tolist()


def run_of(folder, scenes, of=PLANTED, **parameters) -> str:
    """A run folder with the scenes and the planted course, made with the recursion of a state."""
    recursion = resonance.Recursion(alpha=of.alpha, coupling=of.coupling, iterations=of.iterations)
    course = planted_course(scenes)
    course.attrs["provenance"] = json.dumps({"parameters": dataclasses.asdict(recursion) | parameters})
    return write_run(folder, scenes, resonance=("resonance", course))


@pytest.fixture(scope="module")
def planted(tmp_path_factory, scenes) -> State:
    return dataclasses.replace(PLANTED, run=run_of(tmp_path_factory.mktemp("runs") / "planted", scenes))


@pytest.fixture(scope="module")
def stored():
    """A workspace without any model."""
    return Workspace()


def of_panel(drawn: Drawn, panel: str, **at):
    rows = drawn.numbers[drawn.numbers.panel == panel]
    for name, value in at.items():
        rows = rows[rows[name] == value]
    return rows


def grid(rows, column: str) -> np.ndarray:
    return rows.pivot(index="row", columns="col", values=column).values


# the map and the film


@pytest.mark.parametrize("coupling", ["none", "attention", "encoder"])
def test_map_is_that_of_the_recursion(computed, scenes, coupling):
    state = State(sample=1, coupling=coupling, alpha=0.8, iterations=9, word=1, time=4)
    drawn = draw(computed, state, Job())
    options = {"coupling": coupling, "alpha": 0.8, "iterations": 9}
    clip = computed.clip(state)
    course = resonance.resonate(clip, scenes.image[1:], scenes.caption[1:], **options).trajectory.values[0, :, 1]
    for t in (0, 4, 9):
        np.testing.assert_allclose(grid(of_panel(drawn, "map", time=t), "heat"), course[t], rtol=1e-5)
    note = drawn.panels["map"].note
    assert "t = 4 of 9" in note and f"largest heat {course[4].max():.3g}" in note
    assert f"step from t = 3: {np.linalg.norm(course[4] - course[3]):.2g}" in note
    assert drawn.words[1].pressed and [word.text for word in drawn.words] == scenes.caption.values[1].split()


def test_all_times_of_a_word_share_one_scale(stored, planted, scenes):
    word = swinging(scenes)[0]
    state = planted.but(word=word, opacity=1.0, colours="viridis")
    draw(stored, state, Job())
    for t in (0, 5, 23):
        picture = pixels(draw(stored, state.but(time=t)).panels["map"])
        shares = (np.array([SWING[t], 0]) - SWING.min()) / np.ptp(SWING)
        left, right = matplotlib.colormaps["viridis"](shares, bytes=True)[:, :3]
        for colour, where in ((left, picture[:, : 320 // 2]), (right, picture[:, 320 // 2 :])):
            near = (np.abs(where.astype(int) - colour) <= 3).all(-1).mean()
            assert near > 0.6, t  # the rest are outlines of the named objects


def test_filmstrip_marks_the_time_and_the_phases(computed, scenes):
    state = State(iterations=20, word=2, time=10)
    drawn = draw(computed, state, Job())
    times, spots = drawn.choices["filmstrip"], drawn.panels["filmstrip"].spots
    assert 8 <= len(times) <= 12 and times[0] == 0 and times[-1] == 20 and len(spots) == len(times)
    assert [time for time, spot in zip(times, spots, strict=True) if spot.pressed] == [max(t for t in times if t <= 10)]
    course = resonance.resonate(computed.clip(state), scenes.image[:1], scenes.caption[:1]).trajectory
    starts = [int(start) for start in resonance.phases(course).boundary.values[0] if start >= 0]
    assert len(starts) > 1  # or this says nothing
    noted = re.findall(r"t = (\d+)", drawn.panels["filmstrip"].note)
    assert [int(time) for time in noted] == starts[1:]
    for t, spot in zip(times, spots, strict=True):
        assert spot.label == f"t = {t}, phase {sum(start <= t for start in starts)}"
    # the frame under a spot is the map at its time
    strip = pixels(drawn.panels["filmstrip"])
    assert all(spot.x + spot.width <= 1 + 1e-9 and spot.y + spot.height <= 1 + 1e-9 for spot in spots)
    height, width = strip.shape[:2]
    cut = [strip[round(s.y * height) :, round(s.x * width) :][: round(s.height * height), : round(s.width * width)]
           for s in spots]  # fmt: skip
    truth = [Image.fromarray(pixels(draw(computed, state.but(time=t)).panels["map"])) for t in times]
    size = cut[0].shape[1::-1]
    apart = np.array(
        [[np.abs(np.asarray(one.resize(size)).astype(float) - other).mean() for other in cut] for one in truth]
    )
    assert (apart.argmin(1)[:4] == np.arange(4)).all()


# modes


def test_planted_oscillation_is_on_the_plane(stored, planted, scenes):
    word = swinging(scenes)[0]
    drawn = draw(stored, planted.but(word=word), Job())
    modes = of_panel(drawn, "plane").sort_values("energy", ascending=False).reset_index()
    pair = modes[modes.imaginary > 1e-3]
    assert len(pair) == 1
    np.testing.assert_allclose(pair[["frequency", "growth"]].values, [[FREQUENCY, GROWTH]], atol=1e-4)
    mode = int(pair["mode"].item())
    drawn = draw(stored, planted.but(word=word, mode=mode))
    spots, of = drawn.panels["plane"].spots, drawn.choices["plane"]
    assert [spot.pressed for spot in spots] == [each == mode for each in of]
    points = [spot for spot, each in list(zip(spots, of, strict=True))[len(modes) :] if each == mode]
    assert len(points) == 2  # both of the pair, mirrored at the real axis, on which mode 0 lies
    real = next(spot for spot, each in list(zip(spots, of, strict=True))[len(modes) :] if each != mode)
    middle = [spot.y + spot.height / 2 for spot in (*points, real)]
    assert middle[0] + middle[1] == pytest.approx(2 * middle[2]) and middle[0] < middle[2] < middle[1]
    note = drawn.panels["plane"].note
    assert "frequency 0.100" in note and "growth -0.030" in note and "doesn't prove an oscillation" in note
    pattern = of_panel(drawn, "mode", mode=mode)
    np.testing.assert_allclose(grid(pattern, "size"), LEFT / np.sqrt(LEFT.sum()), atol=1e-4)
    size = pixels(draw(stored, planted.but(word=word, mode=mode, opacity=1.0)).panels["mode size"]).astype(int)
    assert size[:320, :160].mean() > 150 > 60 > size[:320, 160:].mean()
    grey = (pixels(drawn.panels["mode angle"])[:320] == 153).all(-1)
    assert grey[:, 160:].mean() > 0.6 and not grey[:, :160].any()
    # a dot is drawn in the middle of each point's spot
    picture = pixels(drawn.panels["plane"])
    middles = [
        ((s.y + s.height / 2) * len(picture), (s.x + s.width / 2) * picture.shape[1]) for s in spots[len(modes) :]
    ]
    colours = {tuple(picture[round(y), round(x)]) for y, x in middles}
    assert colours == {tuple(round(255 * part) for part in colour) for colour in COLOURS[:2]}


# concepts


def test_planted_concepts_are_the_tree(stored, planted, scenes):
    drawn = draw(stored, planted, Job())
    first, second = (scenes.token_text.values[0, word] for word in swinging(scenes))
    low = of_panel(drawn, "tree", band=0).set_index("label")
    assert set(low.index) == {first, second}
    assert drawn.chosen["concept"] == low.concept[first] == of_panel(drawn, "tree").set_index("concept").energy.idxmax()
    for word, half in ((first, LEFT), (second, ~LEFT)):
        concept = int(low.concept[word])
        np.testing.assert_array_equal(grid(of_panel(drawn, "concept", concept=concept), "inside"), half)
        shown = draw(stored, planted.but(concept=concept))
        assert [spot.pressed for spot in shown.panels["tree"].spots] == [
            each == concept for each in shown.choices["tree"]
        ]
        note = shown.panels["concept"].note
        pixel = np.kron(half, np.ones((8, 8))) > 0
        scene = scenes.isel(sample=0)
        truth = scene.object_mask.values[scene.object_named.values].any(0)
        overlap = (pixel & truth).sum() / (pixel | truth).sum()
        assert low.iou[word] == pytest.approx(overlap, abs=0.01) and f"{low.iou[word]:.2f}" in note
        assert "0.00 to 0.17 cycles per iteration" in note and shown.panels["concept"].title.endswith(word)
        assert f"{100 * low.energy[word]:.2g} % of the energy" in note
    # amplitudes 1 and 1/2, so energies 4 to 1
    assert low.energy[first] / low.energy[second] == pytest.approx(4, rel=1e-3)


def test_modes_and_concepts_are_those_of_the_library(computed, scenes):
    options = {"alpha": 1.4, "coupling": "encoder"}
    state = State(word=1, sample=1, **options)
    drawn = draw(computed, state, Job())
    course = resonance.resonate(computed.clip(state), scenes.image[1:], scenes.caption[1:], **options).trajectory
    modes, found = resonance.dynamic_modes(course).isel(sample=0, token=1), of_panel(drawn, "plane")
    np.testing.assert_allclose(found.real + 1j * found.imaginary, modes.eigenvalue.values, atol=1e-6)
    np.testing.assert_allclose(found.energy, modes.energy.values, rtol=1e-5)
    concepts, found = resonance.concept_hierarchy(course), of_panel(drawn, "tree")
    assert found.label.tolist() == concepts.label.values.tolist()
    np.testing.assert_allclose(found.energy, concepts.energy.values, rtol=1e-5)
    linked = found.dropna(subset="parent")
    np.testing.assert_array_equal(linked.concept, concepts.link_target.values)
    np.testing.assert_array_equal(linked.parent, concepts.link_source.values)
    np.testing.assert_allclose(linked.mutual_information, concepts.mutual_information.values)
    strong = found.concept[found.groupby("band").energy.transform("sum") >= 0.01]  # as in notebook 04b
    assert 0 < len(strong) < len(found) and drawn.choices["tree"] == strong.tolist()
    assert len(drawn.panels["tree"].spots) == len(strong)


# what the run has stored


def test_stored_course_needs_no_model(planted, scenes):
    workspace = Workspace()
    with pytest.raises(Missing):
        draw(workspace, planted)
    drawn = draw(workspace, planted, Job())
    np.testing.assert_allclose(
        grid(of_panel(drawn, "map", time=7), "heat"), planted_course(scenes).trajectory.values[0, 7, 0]
    )
    with pytest.raises(Missing):
        workspace.clip(planted)
    assert draw(workspace, planted).panels == drawn.panels  # and is there at once the next time


def test_other_choices_need_the_model(planted, monkeypatch):
    workspace, asked = Workspace(), []

    def refuse(state, job=None):
        asked.append(job)
        raise Missing

    monkeypatch.setattr(workspace, "clip", refuse)
    draw(workspace, planted, Job())
    other = {"alpha": 0.6, "coupling": "none", "iterations": 39, "prompt": "a red ring", "model": "tiny-clip-shortcut"}
    for choice, value in other.items():
        with pytest.raises(Missing):
            draw(workspace, planted.but(**{choice: value}), Job())
        assert asked.pop() is not None


def test_course_of_other_options_weights_or_scenes_is_not_taken(tmp_path, scenes, clip):
    cold = with_model(Workspace(), clip)
    state = dataclasses.replace(PLANTED, run=run_of(tmp_path / "cold", scenes, temperature=0.1))
    heat = grid(of_panel(draw(cold, state, Job()), "map", time=7), "heat")
    course = planted_course(scenes).trajectory.values[0, 7, 0]
    assert not np.allclose(heat, course)
    same = dataclasses.replace(PLANTED, run=run_of(tmp_path / "same", scenes))  # without the weights' digest
    assert not np.allclose(grid(of_panel(draw(cold, same, Job()), "map", time=7), "heat"), course)
    given = with_model(Workspace(scenes.copy()), clip)  # other scenes than the run's, though alike
    assert not np.allclose(grid(of_panel(draw(given, same, Job()), "map", time=7), "heat"), course)


@pytest.mark.parametrize("coupling", ["none", "attention", "encoder"])
def test_course_of_every_coupling_is_found(tmp_path, scenes, coupling):
    """The recursion's own defaults are those that the view looks for."""
    of = PLANTED.but(coupling=coupling)
    workspace = Workspace()
    draw(workspace, dataclasses.replace(of, run=run_of(tmp_path / "run", scenes, of)), Job())
    with pytest.raises(Missing):
        workspace.clip(of)


def test_stored_analyses_are_shown_without_torch(tmp_path, scenes):
    folder = tmp_path / "run"
    run = run_of(folder, scenes)
    course = store.read(folder / "resonance.nc", "resonance")
    maps = course.trajectory.assign_attrs(provenance=course.attrs["provenance"])
    concepts = resonance.concept_hierarchy(maps)
    concepts["label"] = concepts.label.where(concepts.label != "", "stored")
    concepts["label"][concepts.sample.values == 1] = "stored"
    for name, ds in {
        "phases": resonance.phases(maps), "modes": resonance.dynamic_modes(maps), "concepts": concepts
    }.items():  # fmt: skip
        store.write(ds, folder / f"resonance_{name}.nc", name)
    code = (
        "from xaikit.explorer.workspace import Workspace; from xaikit.explorer.state import State;"
        "from xaikit.explorer.jobs import Job; from xaikit.explorer.views.resonance import draw;"
        f"drawn = draw(Workspace(), State(run={run!r}, sample=1, alpha={PLANTED.alpha}, iterations={STEPS}), Job());"
        "print(drawn.panels['concept'].title)"
    )
    assert said_without_torch(code).strip().endswith("stored")


# what can't be shown


def test_short_course_says_what_is_missing(computed):
    state = State(iterations=5)
    drawn = draw(computed, state, Job())
    for name in ("plane", "mode size", "concept"):
        assert "at least 8 are needed" in drawn.panels[name].note and drawn.panels[name].png
    assert "tree" not in drawn.panels and drawn.panels["map"].title.endswith("t = 5")
    assert "No phases" in draw(computed, State(iterations=3), Job()).panels["filmstrip"].note
    refused("^concept=0: there are none, since .* at least 8 are needed$", draw, computed, state.but(concept=0))
    refused("^mode=1: the word .* has none$", draw, computed, state.but(mode=1))


def test_cancelled_work_stops_at_the_next_pass(computed, clip):
    state = State(alpha=0.35, coupling="encoder")  # whose recursion runs the last blocks again
    cancelled_at_the_third(tower(clip, "image").blocks[-1], lambda job: draw(computed, state, job))


def test_own_picture_has_no_truth(computed):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    computed.pictures.upload("mine.png", file_of(picture))
    drawn = draw(computed, State(image="mine.png", prompt="a red ring"), Job())
    assert "iou" not in drawn.numbers and "IoU" not in drawn.panels["concept"].note
    assert [word.text for word in drawn.words] == ["a", "red", "ring"]


def test_nothing_outlives_its_workspace(planted):
    workspace = Workspace()
    draw(workspace, planted, Job())
    course = weakref.ref(wave(workspace, planted))
    assert course() is not None
    del workspace
    gc.collect()
    assert course() is None


def test_moving_through_time_is_quick(computed):
    state = State(iterations=60)
    draw(computed, state, Job())
    changes = [{"time": t} for t in range(5)] + [{"opacity": o / 10} for o in range(5)]
    took = [cpu_seconds(draw, computed, state.but(**change)) for change in changes]
    assert np.median(took) < 0.15


# the tab


def test_a_spot_that_is_gone_cannot_be_pressed(shown):
    """As where a browser still shows a picture from before."""
    for picture in (shown["filmstrip"], shown["plane"], shown["tree"]):
        for place in (len(picture.spots), -1, 99):
            picture._handle_custom_msg({"spot": place}, [])
    shown.words._handle_custom_msg({"word": len(shown.words.words)}, [])
    shown["plane"].press(
        99
    )  # the spots of the picture are already those of another word, what they stand for isn't yet
    assert not shown.told


def test_sliders_hold_what_code_asks_for(computed):
    tab = ResonanceTab(lambda **changes: pytest.fail(f"told {changes}"))
    state = State(alpha=0.01, iterations=80)
    tab.show(state, draw(computed, state, Job()))
    assert (tab.controls["alpha"].value, tab.controls["iterations"].value) == (0.01, 80)
    assert (tab.controls["alpha"].max, tab.controls["iterations"].min) == (1.95, 5)


@pytest.fixture
def shown(stored, planted):
    """The tab at the planted course, which shows what its user chooses; ``shown.told`` lists the choices."""
    tab, tab.told, _ = followed(ResonanceTab, planted, lambda state: draw(stored, state, Job()))
    return tab


def test_tab_shows_every_panel(shown, stored, planted):
    panels = draw(stored, planted, Job()).panels
    assert shown.pictures.keys() == panels.keys()
    assert shown.controls["time"].max == shown.controls["time"].value == shown.play.value == STEPS


def test_time_by_slider_play_and_film(shown, stored, planted, scenes):
    word = swinging(scenes)[0]
    shown.words.press(word)
    before, plane = shown["map"].png, shown["plane"].png
    shown.controls["time"].value = 5
    assert shown.told[-1] == {"time": 5} and shown.play.value == 5
    assert shown["map"].png == draw(stored, planted.but(word=word, time=5)).panels["map"].png != before
    assert shown["plane"].png == plane
    shown.play.value = 6
    assert shown.told[-1] == {"time": 6} and shown.controls["time"].value == 6
    assert shown["map"].title.endswith("t = 6")
    shown["filmstrip"].press(1)
    time = shown.told[-1]["time"]
    assert shown["filmstrip"].spots[1]["pressed"] and shown["map"].title.endswith(f"t = {time}")
    assert shown.play.interval == 300 and len(shown.told) == 4


def test_pressing_words_modes_and_concepts(shown, scenes):
    first, second = swinging(scenes)
    shown.words.press(first)
    assert shown.told[-1] == {"word": first, "mode": 0} and shown.words.words[first]["pressed"]
    before = shown["mode size"].png
    pair = next(
        place for place in range(len(shown["plane"].spots)) if "0.100 cycles" in shown["plane"].spots[place]["label"]
    )
    same = [
        place for place, spot in enumerate(shown["plane"].spots) if spot["label"] == shown["plane"].spots[pair]["label"]
    ]
    assert len(same) == 3  # its row of the table, and both of the pair
    for spot in same:
        shown["plane"].press(spot)
        assert shown.told[-1] == {"mode": pair}
    assert shown["mode size"].png != before and shown["mode size"].title.startswith(f"mode {pair + 1}")
    shown.words.press(second)  # a mode of another word may not be there
    assert shown.told[-1] == {"word": second, "mode": 0}
    was = shown["concept"].title
    other = next(place for place, spot in enumerate(shown["tree"].spots) if not spot["pressed"])
    shown["tree"].press(other)
    assert (
        shown.told[-1] == {"concept": other} and shown["tree"].spots[other]["pressed"] and shown["concept"].title != was
    )


def test_controls_choose_what_is_shown(computed):
    tab, now = every_control_followed(ResonanceTab, State(iterations=12), lambda state: draw(computed, state, Job()))
    tab.controls["time"].value = 3
    tab.controls["iterations"].value = 15
    assert now[0].time is None and tab.controls["time"].value == tab.play.max == 15
    tab.controls["iterations"].value = 5
    assert tab["tree"].png == b"" and "at least 8" in tab["plane"].note
