"""Runs: the measurements that a run has stored, as a table to sort, and the samples behind each number of it.

Only reads stores, without torch, unless a map must be computed.
"""

import dataclasses

import numpy as np
import pandas as pd
import xarray as xr

from ...files.checks import check_choices
from ...files.models import CLIPS
from ...files.names import spelled
from ...files.store import provenance
from ...running.record import Status, read_record, table as record_table
from ..jobs import Job
from ..panels import Drawn, Panel, Spot, Table, Word, drawn_truth, legend, map_panel
from ..pixels import coloured, css, enlarged, ink_on, png
from ..sources import RunStores, Subject, stamp
from ..state import MOST_SAMPLES, State
from ..workspace import Workspace

SHADES = "Blues"  # from worst to best
FIRST = "evaluation"  # the store that is shown where none is chosen
OF_WORDS = ("word_", "content_share")  # how the names of metrics begin that are not about the picture's map


def draw(workspace: Workspace, state: State, job: Job | None = None) -> Drawn:
    """A store's means over samples, methods down and metrics across, and for a pressed cell its samples: panels "best 0",
    "best 1", ... and "worst 0", ... where their pictures are those of the run, else a sentence.

    Only finite values count. Cells are shaded by their rank within the column, those of metrics where neither end is better
    aren't. ``numbers`` : a row an explainer, its means; for a pressed cell below them a row a sample of its explainer.
    Raises ValueError for a table, sort, explainer or metric that isn't there.
    """
    tables, said = {}, {"record": "No run is open: choose one of the run folders above to see what it measured."}
    if state.run is not None:
        run = workspace.run(state)
        tables, said = _tables(run), _record(state.run, run)
        if run.broken:
            said["unreadable"] = f"Not read: {'; '.join(run.broken.values())}"
        if not tables:
            without = "that can be read" if run.broken else "of samples"
            said["table"] = f"It has no measurements {without}: run notebook 06_evaluation into it first."
    if not tables:
        return Drawn({}, pd.DataFrame(), sentences=said, choices={"table": [state.table] if state.table else []})
    name = state.table or (FIRST if FIRST in tables else next(iter(tables)))
    check_choices(table=(name, tables))
    scores = tables[name]
    means, rows, said["table"] = workspace.kept(("table", stamp(state.run), name), lambda: _measured(name, scores))
    for choice, known in (("sort", means.columns), ("explainer", means.index), ("metric", means.columns)):
        if getattr(state, choice) is not None:
            check_choices(**{choice: (getattr(state, choice), known)})
    if state.sort is not None:
        means = means.sort_values(state.sort, ascending=not state.descending, kind="stable", na_position="last")
    pressed = None if state.explainer is None or state.metric is None else (state.explainer, state.metric)
    numbers, panels, scenes = means.rename_axis("explainer").reset_index(), {}, {}
    if pressed:
        each = scores.sel(explainer=state.explainer).to_dataframe().reset_index()[[*scores.coords, *scores]]
        numbers = pd.concat([numbers, each], ignore_index=True).astype({"sample": "Int64"})  # missing for the means
        panels, scenes, said["samples"] = _samples(workspace, state, run, scores, job)
    labels = ("{long_name} ({units}); {score_direction}".format(**values.attrs) for values in scores.values())
    cells = tuple((explainer, rows[explainer]) for explainer in means.index)
    return Drawn(
        panels,
        numbers,
        sentences=said,
        choices={"table": list(tables), "scenes": scenes},
        legend=legend(SHADES, "rank within the column; white where neither end is better", "worst", "best"),
        table=Table("explainer", (*means.columns,), cells, state.sort, state.descending, pressed, tuple(labels)),
        chosen={"table": name},
    )


def _tables(run: RunStores) -> dict[str, xr.Dataset]:
    """The metrics (sample, explainer) of each store that has some, by the store's name."""
    found = {}
    for name, store in run.of_stage("evaluation").items():
        metrics = [metric for metric, values in store.items() if {*values.dims} == {"sample", "explainer"}]
        if metrics and store.sizes["sample"]:
            found[name] = store[metrics].transpose("sample", "explainer")
    return found


def _record(name: str, run: RunStores) -> dict[str, str]:
    """What was run and how it went."""
    try:
        record = read_record(run.folder)
        first = record_table(record).splitlines()[0]
    except FileNotFoundError:
        return {"record": f"Run {name} has no readable record: there is no run.json in it."}
    except (ValueError, KeyError) as error:
        return {"record": f"Run {name} has no readable record: {error}."}
    by_status: dict[str, list[str]] = {}
    for notebook, entry in record["notebooks"].items():
        reason = f" ({entry['reason']})" if entry.get("reason") else ""
        by_status.setdefault(entry["status"], []).append(notebook + reason)
    done = by_status.pop(Status.DONE, [])
    rest = "".join(f"; {status}: {', '.join(notebooks)}" for status, notebooks in by_status.items())
    return {"record": f"Run {name}: {first}; {len(done)} of {len(record['notebooks'])} notebooks done{rest}."}


def _measured(name: str, scores: xr.Dataset) -> tuple[pd.DataFrame, dict[str, tuple[Word, ...]], str]:
    """The mean of the finite values over samples, explainers x metrics (NaN where there are none), the cells of each
    explainer, and what is said of the table."""
    values = scores.astype(float).to_dataarray("metric").transpose("explainer", "metric", "sample")
    finite = np.isfinite(values)
    means = values.where(finite).mean("sample").to_pandas().rename_axis(columns=None)
    means.index = means.index.astype(str)
    goodness = pd.DataFrame(
        {metric: _goodness(means[metric], of.attrs["score_direction"]) for metric, of in scores.items()}
    )
    shades = coloured(goodness.values, SHADES)
    shades[goodness.isna().values] = 255
    cells = {
        explainer: tuple(
            Word(_number(mean), css(shade), ink_on(shade)) for mean, shade in zip(row, colours, strict=True)
        )
        for explainer, row, colours in zip(means.index, means.values, shades, strict=True)
    }
    model = provenance(scores).get("model")
    about = f"{name}: means over {values.sizes['sample']} samples of {len(means)} explainers"
    about += f", measured with {model}." if model else "."
    if not finite.all():
        none = int(means.isna().values.sum())
        about += f" {int((~finite).sum())} of {values.size} don't exist (a scene may lack what a metric needs) and don't count"
        about += f"; {none} cells have none." if none else "."
    return means, cells, about


def _goodness(means: pd.Series, direction: str) -> pd.Series:
    """How good each mean is among those of its column by its rank among the different ones, 0 to 1. NaN for those that
    aren't finite, and for all where neither end is better."""
    if direction == "neither":
        return means * np.nan
    ranks = means.rank(method="dense", ascending=direction != "lower is better")
    return (ranks - 1) / (ranks.max() - 1) if ranks.max() > 1 else ranks / 2


def _number(value: float) -> str:
    """Three significant digits, a dash for NaN."""
    return f"{value:#.3g}".rstrip(".") if np.isfinite(value) else "–"


def _samples(
    workspace: Workspace, state: State, run: RunStores, scores: xr.Dataset, job: Job | None
) -> tuple[dict[str, Panel], dict[str, int], str]:
    """Panels of the best and the worst samples of the pressed cell, the scene that each shows, and what is said of them."""
    about = scores[state.metric].attrs
    values = scores[state.metric].sel(explainer=state.explainer).astype(float)
    known = pd.Series(values.values)[lambda each: np.isfinite(each)]
    rising = about["score_direction"] == "lower is better"
    order = known.sort_values(ascending=rising, kind="stable").index.values
    # no sample stands in both rows
    best, worst = order[: -(-len(order) // 2)][:MOST_SAMPLES], order[::-1][: len(order) // 2][:MOST_SAMPLES]
    words = ("largest", "smallest") if about["score_direction"] == "neither" else ("best", "worst")
    said = f"{state.metric} of {state.explainer}: {about['long_name']} ({about['score_direction']})"
    said += f", {len(known)} of {values.size} samples have a value."
    if not len(known):
        return {}, {}, said
    if known.nunique() == 1 < len(known):
        best, worst, words = order[:MOST_SAMPLES], order[:0], ("equal", "")
        said += f" All {len(known)} are equal, so none is best or worst: the first are shown."
    elif known.nunique() < len(best) + len(worst):
        said += f" They have only {known.nunique()} different values: which of the equal ones are shown means nothing."
    own = _own_scenes(workspace, run, scores)
    if own is not None:
        by = provenance(scores).get("model")
        model = {"model": by, "pretrained": None} if by in CLIPS else {}
        workspace, state = workspace.of(own), state.but(**model)
    reason = _not_pictured(workspace, run, scores, own)
    if reason:
        for word, places in zip(words, (best, worst), strict=True):
            if len(places):
                said += f" {word.capitalize()}: {'; '.join(_named(values[place]) for place in places)}."
        return {}, {}, f"{said} No pictures: {reason}."
    labels = values["sample"].values.tolist()
    stored = _stored(workspace, state) if own is None else {}  # maps of the run's scenes
    are_stored = [labels[place] in stored for place in (*best, *worst)]
    reason = _not_mapped(workspace, state, scores, all(are_stored), job)
    said += f" Only the scenes are shown: {reason}." if reason else _about_maps(are_stored)
    shown = [
        (f"{row} {rank}", f"{word} {rank + 1}", place)
        for row, word, places in zip(("best", "worst"), words, (best, worst), strict=True)
        for rank, place in enumerate(places)
    ]
    panels, opened = {}, {}
    scenes = {label: number for number, label in enumerate(workspace.scenes(state)["sample"].values.tolist())}
    for name, word, place in (job or Job()).each(shown, lambda each: f"{state.explainer} on scene {each[2]}"):
        label, heat = labels[place], None
        scene = scenes[label]
        at = state.but(sample=scene, image=None, prompt=None)
        if not reason:
            heat = stored[label] if label in stored else workspace.heat(at, state.explainer, job)
        title = f"{word}: {_number(float(values[place]))}, scene {scene}"
        if own is None:
            opened[name] = scene
        panels[name] = _panel(workspace.subject(at, job), at, title, heat, own is None)
    return panels, opened, said + " Press a picture to open it in Compare." * (own is None)


def _panel(subject: Subject, state: State, title: str, heat: np.ndarray | None, opens: bool) -> Panel:
    """A scene, with the map of the state's explainer over it if there is one. opens : whether pressing it opens it."""
    image, whole = enlarged(subject.image), (Spot(0, 0, 1, 1, f"open scene {state.sample} in Compare"),) * opens
    if heat is None:
        return Panel(title, png(image), subject.prompt, spots=whole)
    panel = map_panel(state, spelled(state.explainer), heat, image, drawn_truth(subject.named, image))
    return dataclasses.replace(panel, title=title, note=subject.prompt, alt=f"{title}, {panel.alt}", spots=whole)


def _named(value: xr.DataArray) -> str:
    """A sample with its coordinates and its value."""
    others = [f"{name} {value[name].item()}" for name in value.coords if name not in ("sample", "explainer")]
    extra = f" ({', '.join(others)})" if others else ""
    return f"sample {value.sample.item()}{extra} {_number(float(value))}"


def _own_scenes(workspace: Workspace, run: RunStores, scores: xr.Dataset) -> xr.Dataset | None:
    """The scenes that were measured where a notebook drew them for itself, such as 06, which Compare can't open; None where
    they are the run's, or aren't there."""
    digest = provenance(scores).get("inputs_digest")
    if workspace.given or ("inputs" in run.paths and digest == run.inputs_digest):
        return None
    return run.other_scenes.get(digest)


def _not_pictured(workspace: Workspace, run: RunStores, scores: xr.Dataset, own: xr.Dataset | None) -> str:
    """Why the samples aren't certain to be the run's scenes, or a notebook's ``own``; "" where they are."""
    if "inputs" not in run.paths and own is None:
        return "the run has no scenes"
    if workspace.given and own is None:
        return "the explorer was given other scenes"
    scenes = run.scenes if own is None else own
    same = own is not None or provenance(scores).get("inputs_digest") == run.inputs_digest
    # suites carry the digest of the run's scenes beside which they were measured, and say in a coordinate what they are
    others = [name for name, values in scores.coords.items() if "sample" in values.dims and name != "sample"]
    if not same or not np.isin(scores["sample"], scenes["sample"]).all() or others:
        return "these samples aren't certain to be the run's scenes"
    return ""


def _not_mapped(workspace: Workspace, state: State, scores: xr.Dataset, stored: bool, job: Job | None) -> str:
    """Why the maps behind the scores can't be shown, "" where they can. stored : whether all of them are."""
    if state.metric.startswith(OF_WORDS):
        return "the metric is about the words"
    about = provenance(scores)
    made_by = workspace.made_by(state)
    if stored and made_by is not None and made_by.items() <= about.items():
        return ""
    if not state.explainer.isidentifier():
        return f"{state.explainer!r} is a variant that isn't stored for all of them and can't be computed by its name"
    clip = workspace.clip(state, job)
    if clip.weights_digest != about.get("weights_digest"):
        return f"they were measured with {about.get('model', 'another model')}, and {state.model} is open"
    if state.explainer not in workspace.methods(state):
        return f"{state.explainer!r} is no method that explains {state.model}"
    return ""


def _about_maps(stored: list[bool]) -> str:
    """Where the maps come from, given which of them are stored."""
    where = "are computed now with the method's defaults, the scores may be of other options or draws"
    if all(stored):
        where = "are the stored ones"
    elif any(stored):
        where = f"are {sum(stored)} stored ones; the other {len(stored) - sum(stored)} {where}"
    return f" The maps {where}; named objects are outlined in blue."


def _stored(workspace: Workspace, state: State) -> dict[object, np.ndarray]:
    """The stored maps (row, col) by the state's explainer and model, by the label of their scene."""
    found = {}
    for store in workspace.made(state, "explanations"):
        if "heat" in store and state.explainer in store.explainer.values:
            maps = store.heat.sel(explainer=state.explainer).transpose("sample", "row", "col")
            found |= dict(zip(store["sample"].values.tolist(), maps.values, strict=True))
    return found
