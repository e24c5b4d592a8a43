"""The view Runs, on a run folder whose stores hold planted numbers."""

import json

import numpy as np
import pytest
import xarray as xr
from refusals import refused

import xaikit as xk
from xaikit.explorer import views
from xaikit.explorer.jobs import Job, Missing
from xaikit.explorer.panels import map_panel
from xaikit.explorer.pixels import enlarged
from xaikit.explorer.state import State
from xaikit.explorer.tabs import RunsTab
from xaikit.explorer.workspace import Workspace
from xaikit.files.store import annotate, inputs_digest, write

from .conftest import followed, pixels, said_without_torch, with_model, write_run

N = 12
EXPLAINERS = ["edge", "grad_eclip", "edge, blurred", "random"]
MEANS = [0.25, 0.75, 0.5, 0.25]
draw = views.view("runs")


def metric(values, direction, units="1", meaning="planted"):
    return ("sample", "explainer"), values, {"long_name": meaning, "units": units, "score_direction": direction}


def planted():
    """Scores whose means are known: "good" rises over samples by as much for every explainer, "bad" is its opposite."""
    spread = np.linspace(-0.2, 0.2, N)[:, None]
    good = np.array(MEANS) + spread
    holed = good.copy()
    holed[[0, 5], 0] = np.nan
    holed[:, 3] = np.nan
    return xr.Dataset(
        {
            "good": metric(good, "higher is better", "percent", "how good it is"),
            "bad": metric(good, "lower is better"),
            "either": metric(good, "neither"),
            "holed": metric(holed, "higher is better"),
            "word_good": metric(good, "higher is better"),
            "deletion_curve": (("sample", "explainer", "step"), np.zeros((N, 4, 2)), {}),
        },
        coords={"sample": np.arange(N), "explainer": EXPLAINERS},
    )


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(n=N, seed=3, objects=(2, 3))


@pytest.fixture(scope="module")
def run(tmp_path_factory, clip, scenes):
    folder = tmp_path_factory.mktemp("runs") / "planted"
    scores = planted()
    heat = np.zeros((N, 2, 8, 8), np.float32)
    heat[:, 1, 2, 5] = np.arange(1, N + 1)  # a planted map, by which a stored one can be told
    names = {"explainer": ["grad_eclip", "edge, blurred"]}
    maps = xr.Dataset({"heat": (("sample", "explainer", "row", "col"), heat)}, names)
    # as many samples as scenes, and the digest of the run's scenes
    suites = scores[["good"]].assign_coords(suite=("sample", ["single"] * 6 + ["word"] * 6))
    stores = {"evaluation": scores, "evaluation_suites": suites, "few": scores[["good"]].isel(sample=slice(3, 8))}
    stores = {name: ("evaluation", store) for name, store in stores.items()}
    write_run(folder, scenes, clip, maps=("explanations", maps), **stores)
    others = annotate(scores[["good"]], "evaluation", model="tiny-llava")
    write(others, folder / "mllm_evaluation.nc", "evaluation")
    write(annotate(scores[["deletion_curve"]], "evaluation"), folder / "sanity.nc", "evaluation")
    record = {"parameters": {"n": N}, "seed": 7, "commit": "abc123"}
    failed = {"status": "failed", "reason": "no model"}
    statuses = {"00_planted_scenes": {"status": "done"}, "05_mllm": failed, "06_evaluation": {"status": "not run"}}
    (folder / "run.json").write_text(json.dumps(record | {"notebooks": statuses}))
    return str(folder)


@pytest.fixture
def state(run):
    return State(tab="runs", run=run)


@pytest.fixture(scope="module")
def workspace():
    return Workspace()


def column(drawn, name):
    at = drawn.table.columns.index(name)
    return {explainer: cells[at] for explainer, cells in drawn.table.rows}


def lightness(cell):
    return sum(int(cell.colour[place : place + 2], 16) for place in (1, 3, 5))


def test_means_of_every_metric_over_samples(workspace, state):
    drawn = draw(workspace, state)
    assert drawn.table.columns == ("good", "bad", "either", "holed", "word_good")
    assert [name for name, _ in drawn.table.rows] == EXPLAINERS
    assert [cell.text for cell in column(drawn, "good").values()] == ["0.250", "0.750", "0.500", "0.250"]
    np.testing.assert_allclose(drawn.numbers.good, MEANS)
    holed = 0.25 + np.delete(np.linspace(-0.2, 0.2, N), [0, 5]).mean()
    np.testing.assert_allclose(drawn.numbers.holed, [holed, 0.75, 0.5, np.nan])
    assert [cell.text for cell in column(drawn, "holed").values()] == ["0.272", "0.750", "0.500", "–"]
    assert (
        "14 of 240 don't exist (a scene may lack what a metric needs) and don't count; 1 cells"
        in drawn.sentences["table"]
    )
    assert drawn.table.labels[:2] == ("how good it is (percent); higher is better", "planted (1); lower is better")
    assert drawn.chosen == {"table": "evaluation"}


def test_dark_is_best_whichever_end_that_is(workspace, state):
    drawn = draw(workspace, state)
    for name, sign in (("good", 1), ("bad", -1)):
        shades = {explainer: -sign * lightness(cell) for explainer, cell in column(drawn, name).items()}
        assert shades["grad_eclip"] > shades["edge, blurred"] > shades["edge"] == shades["random"]
    assert {cell.colour for cell in column(drawn, "either").values()} == {"#ffffff"}
    assert column(drawn, "holed")["random"].colour == "#ffffff"
    inks = {lightness(cell) < 300: cell.ink for _, cells in drawn.table.rows for cell in cells}
    assert inks == {True: "#ffffff", False: "#000000"}


def test_sorted_by_a_column(workspace, state):
    falling = ["grad_eclip", "edge, blurred", "edge", "random"]
    orders = {("good", True): falling, ("good", False): ["edge", "random", "edge, blurred", "grad_eclip"]}
    # what is missing comes last both ways
    orders |= {("holed", True): falling, ("holed", False): ["edge", "edge, blurred", "grad_eclip", "random"]}
    for (sort, descending), order in orders.items():
        drawn = draw(workspace, state.but(sort=sort, descending=descending))
        assert [name for name, _ in drawn.table.rows] == order == drawn.numbers.explainer.tolist()
        assert (drawn.table.sort, drawn.table.descending) == (sort, descending)


def test_best_and_worst_samples_of_a_cell_with_the_stored_maps(workspace, state):
    drawn = draw(workspace, state.but(explainer="grad_eclip", metric="good"))  # stored, so that no job is needed
    scenes = workspace.scenes(state)
    assert [*drawn.panels] == [f"{row} {rank}" for row in ("best", "worst") for rank in range(5)]
    for name, place in (("best 0", 11), ("best 4", 7), ("worst 0", 0), ("worst 4", 4)):
        panel, caption = drawn.panels[name], str(scenes.caption.values[place])
        value = 0.75 + np.linspace(-0.2, 0.2, N)[place]
        assert panel.title == f"{name[:-1]}{int(name[-1]) + 1}: {value:#.3g}, scene {place}"
        assert panel.note == caption
    heat = np.zeros((8, 8))
    wanted = workspace.subject(state.but(sample=11))
    truth = enlarged(wanted.named[..., None].repeat(3, 2).astype(np.uint8))[..., 0] > 0
    assert drawn.panels["best 0"].png == map_panel(state, "grad_eclip", heat, enlarged(wanted.image), truth).png
    lower = draw(workspace, state.but(explainer="grad_eclip", metric="bad"))
    assert lower.panels["best 0"].title == "best 1: 0.550, scene 0"
    assert lower.panels["worst 0"].title == "worst 1: 0.950, scene 11"
    either = draw(workspace, state.but(explainer="grad_eclip", metric="either"))
    assert either.panels["best 0"].title.startswith("largest")


def test_numbers_hold_the_table_and_the_pressed_samples(workspace, state):
    numbers = draw(workspace, state.but(explainer="edge, blurred", metric="good")).numbers
    means, each = numbers[numbers["sample"].isna()], numbers[numbers["sample"].notna()]
    assert means.explainer.tolist() == EXPLAINERS and (each.explainer == "edge, blurred").all()
    np.testing.assert_allclose(each.good, 0.5 + np.linspace(-0.2, 0.2, N))
    np.testing.assert_array_equal(each["sample"], np.arange(N))


def test_a_stored_variant_has_its_map_and_values_that_are_missing_do_not_count(workspace, state, clip):
    for each in (workspace, with_model(Workspace(), clip)):  # the model knows no method of this name
        drawn = draw(each, state.but(explainer="edge, blurred", metric="good"))
        assert "stored" in drawn.sentences["samples"]
        assert "hottest at row 3 of 8, column 6 of 8" in drawn.panels["worst 0"].alt
    drawn = draw(workspace, state.but(explainer="edge", metric="holed"), Job())
    shown = {int(panel.title.rsplit(" ", 1)[1]) for panel in drawn.panels.values()}
    assert shown == {*range(N)} - {0, 5} and "10 of 12 samples have a value" in drawn.sentences["samples"]
    assert draw(workspace, state.but(explainer="random", metric="holed"), Job()).panels == {}


def test_maps_that_are_not_stored_are_computed(workspace, state, clip):
    at = state.but(explainer="edge", metric="good", image="unused.png", prompt="a red ring")
    with pytest.raises(Missing):
        draw(Workspace(), at)
    drawn = draw(workspace, at, Job())
    subject = workspace.subject(state.but(sample=11))
    heat = xk.explain("edge", clip, subject.image[None], [subject.prompt]).values[0]
    row, col = np.unravel_index(heat.argmax(), heat.shape)
    assert f"hottest at row {row + 1} of 8, column {col + 1} of 8" in drawn.panels["best 0"].alt
    assert "computed now" in drawn.sentences["samples"]
    assert draw(workspace, at).panels == drawn.panels  # all of it is kept


def test_the_scene_alone_where_its_map_was_not_scored(workspace, state):
    other = "measured with tiny-clip, and tiny-clip-shortcut is open"
    for reason, choices in {
        "the metric is about the words": {"metric": "word_good"},
        other: {"metric": "good", "model": "tiny-clip-shortcut"},
    }.items():
        drawn = draw(workspace, state.but(explainer="edge", **choices), Job())
        assert reason in drawn.sentences["samples"]
        shown = pixels(drawn.panels["best 0"])
        np.testing.assert_array_equal(shown[::5, ::5], workspace.scenes(state).image.values[11])


def test_samples_that_are_not_the_runs_scenes_are_listed(workspace, state):
    at = state.but(table="evaluation_suites", explainer="edge", metric="good")
    drawn = draw(workspace, at)
    assert drawn.panels == {} and drawn.numbers.suite.dropna().unique().tolist() == ["single", "word"]
    said = drawn.sentences["samples"]
    assert "Best: sample 11 (suite word) 0.450; sample 10 (suite word) 0.414" in said
    assert "Worst: sample 0 (suite single) 0.0500; sample 1" in said and "No pictures" in said
    drawn = draw(workspace, state.but(table="mllm_evaluation", explainer="edge", metric="good"))
    assert drawn.panels == {} and "Best: sample 11 " in drawn.sentences["samples"]
    assert drawn.sentences["samples"].count("sample ") == 10
    given = Workspace(xk.draw_scenes(n=N, seed=8))
    assert draw(given, state.but(explainer="grad_eclip", metric="good")).panels == {}


def test_scenes_that_a_notebook_drew_for_itself_are_shown_with_the_model_that_was_measured(tmp_path, clip, scenes):
    """Notebook 06 keeps its scenes beside the run's, which may be of another model."""
    own, folder = xk.draw_scenes(n=N, seed=9), tmp_path / "run"
    write_run(folder, xk.draw_scenes(n=N, seed=3, size=96, world="things"), model="tiny-clip-things")
    write(own, folder / "evaluation_inputs.nc", "inputs")
    scores = annotate(planted()[["good"]], "evaluation", clip, inputs_digest=inputs_digest(own))
    write(scores, folder / "evaluation.nc", "evaluation")
    at = State(tab="runs", run=str(folder), model="tiny-clip-things", explainer="edge", metric="good")
    drawn = draw(Workspace(), at, Job())
    assert [drawn.panels[name].note for name in ("best 0", "worst 0")] == own.caption.values[[N - 1, 0]].tolist()
    heat = xk.explain("edge", clip, own.image[-1:], own.caption[-1:]).values[0]
    row, col = np.unravel_index(heat.argmax(), heat.shape)
    assert f"hottest at row {row + 1} of 8, column {col + 1} of 8" in drawn.panels["best 0"].alt
    assert not drawn.choices["scenes"] and not drawn.panels["best 0"].spots  # Compare has the run's scenes
    (folder / "evaluation_inputs.nc").unlink()
    assert "aren't certain to be the run's scenes" in draw(Workspace(), at, Job()).sentences["samples"]


def test_scores_of_some_of_the_scenes_show_these(workspace, state):
    drawn = draw(workspace, state.but(table="few", explainer="edge", metric="good"), Job())
    shown = [int(panel.title.rsplit(" ", 1)[1]) for panel in drawn.panels.values()]
    assert shown == [7, 6, 5, 3, 4]  # of five none stands in both rows
    for scene, panel in zip(shown, drawn.panels.values(), strict=True):
        assert panel.note == str(workspace.scenes(state).caption.values[scene])


def run_of(folder, scenes, clip, scores, maps=None):
    """A run of as many scenes as there are scores, with maps (sample, explainer, row, col) of some of them."""
    stored = {} if maps is None else {"maps": ("explanations", maps.to_dataset(name="heat"))}
    run = write_run(folder, scenes, clip, evaluation=("evaluation", scores), **stored)
    return State(tab="runs", run=run, explainer="edge", metric="good")


def test_scores_in_another_order_than_the_scenes(tmp_path, clip, scenes, workspace):
    order = np.random.default_rng(0).permutation(N)
    drawn = draw(workspace, run_of(tmp_path / "run", scenes, clip, planted().isel(sample=order)[["good"]]), Job())
    for name, scene in (("best 0", N - 1), ("best 1", N - 2), ("worst 0", 0)):
        value = 0.25 + np.linspace(-0.2, 0.2, N)[scene]
        panel = drawn.panels[name]
        assert panel.title.endswith(f": {value:#.3g}, scene {scene}")
        assert panel.note == str(workspace.scenes(State(run=str(tmp_path / "run"))).caption.values[scene])


def test_equal_samples_are_neither_best_nor_worst(tmp_path, clip, scenes, workspace):
    scores = planted()[["good"]]
    scores.good[:, 0] = 0.5
    at = run_of(tmp_path / "equal", scenes, clip, scores)
    drawn = draw(workspace, at, Job())
    assert "All 12 are equal" in drawn.sentences["samples"]
    assert [panel.title for panel in drawn.panels.values()] == [f"equal {i + 1}: 0.500, scene {i}" for i in range(5)]
    scores.good[3, 0] = 0.7
    at = run_of(tmp_path / "two", scenes, clip, scores)
    drawn = draw(workspace, at, Job())
    assert "only 2 different values" in drawn.sentences["samples"] and len(drawn.panels) == 10
    assert drawn.panels["best 0"].title == "best 1: 0.700, scene 3"
    said = draw(workspace, at.but(explainer="grad_eclip"), Job()).sentences["samples"]
    assert "equal" not in said and "different" not in said


def test_a_store_of_some_of_the_maps_is_used_for_these(tmp_path, clip, scenes, workspace):
    heat = np.zeros((4, 1, 8, 8), np.float32)
    heat[..., 2, 5] = 1
    best_four = {"sample": np.arange(N - 4, N), "explainer": ["edge"]}
    maps = xr.DataArray(heat, best_four, ("sample", "explainer", "row", "col"))
    at = run_of(tmp_path / "run", scenes, clip, planted()[["good"]], maps)
    with pytest.raises(Missing):
        draw(Workspace(), at)  # the other maps need the model
    drawn = draw(workspace, at, Job())
    assert "The maps are 4 stored ones; the other 6 are computed now" in drawn.sentences["samples"]
    planted_at = [name for name, panel in drawn.panels.items() if "row 3 of 8, column 6 of 8" in panel.alt]
    assert planted_at[:4] == ["best 0", "best 1", "best 2", "best 3"] and "best 4" not in planted_at
    variant = maps.assign_coords(explainer=["edge, blurred"])
    at = run_of(tmp_path / "variant", scenes, clip, planted()[["good"]], variant)
    drawn = draw(workspace, at.but(explainer="edge, blurred", metric="good"), Job())
    assert "a variant that isn't stored for all of them" in drawn.sentences["samples"]
    assert not any("hottest" in (panel.alt or "") for panel in drawn.panels.values()) and len(drawn.panels) == 10


def test_a_run_without_scenes_has_tables(tmp_path, workspace):
    write(annotate(planted()[["good"]], "evaluation", model="tiny-clip"), tmp_path / "evaluation.nc", "evaluation")
    state = State(tab="runs", run=str(tmp_path))
    drawn = draw(workspace, state)
    assert [name for name, _ in drawn.table.rows] == EXPLAINERS
    drawn = draw(workspace, state.but(explainer="edge", metric="good"))
    assert not drawn.panels and "No pictures: the run has no scenes." in drawn.sentences["samples"]
    RunsTab(lambda **changes: None).show(state, drawn)


def test_the_record_says_what_was_run_and_what_failed(workspace, state, tmp_path):
    drawn = draw(workspace, state)
    assert "parameters: n=12; seed: 7; commit: abc123; 1 of 3 notebooks done" in drawn.sentences["record"]
    assert "failed: 05_mllm (no model); not run: 06_evaluation." in drawn.sentences["record"]
    stores = ["evaluation", "evaluation_suites", "few", "mllm_evaluation"]
    assert drawn.choices["table"] == stores  # sanity is of depths
    write(xk.draw_scenes(n=1), tmp_path / "inputs.nc", "inputs")
    none = draw(workspace, State(tab="runs"))
    assert none.table is None and not none.panels and "choose one" in none.sentences["record"]
    bare = draw(workspace, State(tab="runs", run=str(tmp_path)))
    assert bare.table is None and "no readable record" in bare.sentences["record"]
    assert "run notebook 06_evaluation" in bare.sentences["table"]


def test_a_store_of_another_schema_is_named_and_the_rest_shown(workspace, state, tmp_path):
    scores = annotate(planted(), "evaluation")
    write(scores, tmp_path / "other.nc", "evaluation")
    scores.attrs["provenance"] = json.dumps({"stage": "evaluation", "schema_version": 99})
    scores.to_netcdf(tmp_path / "evaluation.nc", engine="h5netcdf")
    drawn = draw(workspace, broken := State(tab="runs", run=str(tmp_path)))
    assert drawn.chosen == {"table": "other"} and drawn.table.rows
    told = workspace.notice(broken)  # above all views
    assert told.startswith("Left out: ") and "evaluation.nc" in told and "version 99" in told


@pytest.mark.parametrize("choice", ["table", "sort", "explainer", "metric"])
def test_what_is_not_there_is_refused(workspace, state, choice):
    refused(f"{choice}='nonsense': choose from ", draw, workspace, state.but(**{choice: "nonsense"}))


def test_reading_stores_needs_no_torch(run):
    code = f"""
from xaikit.explorer.state import State
from xaikit.explorer.views.runs import draw
from xaikit.explorer.workspace import Workspace
state = State(tab="runs", run={run!r}, sort="good", explainer="grad_eclip", metric="good")
print(len(draw(Workspace(), state).panels))
"""
    assert said_without_torch(code).strip() == "10"


@pytest.fixture
def shown(workspace, state):
    """The tab, which shows every state that its user asks for; and what was asked for."""
    tab, wishes, now = followed(RunsTab, State(tab="runs"), lambda state: draw(workspace, state, Job()))
    assert tab.table.table == {} and "choose one" in tab.about.value and tab.controls["table"].disabled
    now[0] = state
    tab.show(state, draw(workspace, state))
    return tab, wishes


def send(tab, **content):
    tab.table._handle_custom_msg(content, [])


def order(tab):
    return [name for name, _ in tab.table.table["rows"]]


def test_heads_sort_one_way_and_then_the_other(shown):
    tab, told = shown
    assert tab.controls["table"].value == "evaluation" and "Press a cell" in tab.said.value
    assert "n=12" in tab.about.value and not told
    send(tab, column="good")
    assert told == [{"sort": "good", "descending": True}] and order(tab)[0] == "grad_eclip"
    send(tab, column="good")
    assert told[-1] == {"sort": "good", "descending": False} and order(tab)[-1] == "grad_eclip"
    send(tab, column="good")
    assert told[-1] == {"sort": "good", "descending": True} and order(tab)[0] == "grad_eclip"
    send(tab, column="bad")
    assert told[-1] == {"sort": "bad", "descending": True}
    send(tab, corner=True)
    assert told[-1] == {"sort": None, "descending": True} and order(tab) == EXPLAINERS


def test_a_cell_shows_its_samples_and_pressed_again_no_more(workspace, state, shown):
    tab, told = shown
    send(tab, row="grad_eclip", column="good")
    assert told == [{"explainer": "grad_eclip", "metric": "good"}]
    assert tuple(tab.table.table["pressed"]) == ("grad_eclip", "good")
    panels = draw(workspace, state.but(explainer="grad_eclip", metric="good")).panels
    assert {name: picture.png for name, picture in tab.pictures.items()} == {
        name: panel.png for name, panel in panels.items()
    }
    assert "12 of 12 samples have a value" in tab.said.value
    send(tab, row="grad_eclip", column="good")
    assert told[-1] == {"explainer": None, "metric": None}
    assert not any(picture.png for picture in tab.pictures.values()) and tab.table.table["pressed"] is None
    tab.controls["table"].value = "evaluation_suites"
    assert told[-1] == {"table": "evaluation_suites"} and tab.table.table["columns"] == ("good",)
