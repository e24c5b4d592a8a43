"""What the view Resonance shows of one picture and prompt: the trajectory, its phases, modes and concepts, computed once.

What the run has stored is taken from there without importing torch, which computing anything here needs.
"""

import math
from dataclasses import dataclass

import networkx as nx
import numpy as np
import xarray as xr

from ...files.checks import RECURSION, TEMPERATURES
from ...files.store import provenance
from ..jobs import Job
from ..pixels import enlarged
from ..sources import Subject
from ..state import State
from ..workspace import Workspace, prompt_ids, watched

MODES = 4  # of each word
BANDS = 3  # of frequencies


@dataclass(frozen=True, eq=False)  # told apart by identity, so that pictures made of one can be kept by it
class Wave:
    """A prompt's words over a picture, iteration by iteration.

    image : enlarged, uint8 (y, x, rgb). words : the prompt's tokens. maps : (time, token, row, col). starts : times at
    which phases begin, the first of them 0. modes : of each word, as ``dynamic_modes`` gives them over (token, mode).
    tree : the concepts as nodes 0, 1, ..., as ``plots.concepts.graph`` gives them. Instead of what can't be computed
    from this trajectory stands the sentence that says why.
    """

    image: np.ndarray
    words: tuple[str, ...]
    maps: np.ndarray
    starts: tuple[int, ...] | str
    modes: xr.Dataset | str
    tree: nx.DiGraph | str

    def modes_of(self, word: int) -> xr.Dataset | str:
        """The modes that a word has, from most to least energy, or why it has none."""
        if isinstance(self.modes, str):
            return self.modes
        of_word = self.modes.isel(token=word)
        count = int((of_word.amplitude > 0).sum())
        none = f"the maps of {self.words[word]!r} are all 0: it has no mode"
        return of_word.isel(mode=slice(count)) if count else none


def wave(workspace: Workspace, state: State, job: Job | None = None) -> Wave:
    """The wave of a state. Raises ValueError for a bad recursion, and for a model whose patches have no place in the
    space of the words."""
    subject = workspace.subject(state, job)
    key = ("wave", *workspace.model_key(state), subject.key, subject.prompt, *_recursion(state).values())
    return workspace.cached(key, lambda job: _made(workspace, state, subject, job), job)


def _recursion(state: State) -> dict[str, object]:
    return {"alpha": state.alpha, "coupling": state.coupling, "iterations": state.iterations}


def _made(workspace: Workspace, state: State, subject: Subject, job: Job) -> Wave:
    job.at("letting words and picture resonate", 0, 4)
    trajectory = _stored(workspace, state, subject, "resonance")
    if trajectory is None:
        clip = workspace.clip(state, job)
        from ...resonance import resonate

        with watched(clip, job):
            trajectory = resonate(clip, [subject.source], prompt_ids(clip, subject.prompt), **_recursion(state))
    course = trajectory.trajectory
    points = course.sizes["time"]

    def analysed(stage: str, name: str, **options) -> xr.Dataset | str:
        """What is stored, else what a function of ``xaikit.resonance`` computes, else the sentence with which it refuses."""
        found = _stored(workspace, state, subject, stage, options)
        if found is not None:
            return found
        from ... import resonance

        try:
            return getattr(resonance, name)(course, **options)
        except ValueError as error:
            return str(error)

    job.at("finding the phases", 1, 4)
    changes = analysed("phases", "phases", largest=4, penalty=float(4 * np.log(max(points - 1, 2))))
    job.at("finding the modes", 2, 4)
    modes = analysed("modes", "dynamic_modes", rank=MODES, delays=max(min(8, points // 2), 1))
    job.at("finding the concepts", 3, 4)
    concepts = analysed("concepts", "concept_hierarchy", bands=BANDS, largest=5, seed=0, links=0.0, scale="linear")
    words = tuple(word for word in course.token_text.values[0].tolist() if word)
    return Wave(
        enlarged(subject.image),
        words,
        course.values[0][:, : len(words)],
        changes if isinstance(changes, str) else tuple(int(time) for time in changes.boundary.values[0] if time >= 0),
        modes if isinstance(modes, str) else modes.isel(sample=0),
        concepts if isinstance(concepts, str) else _tree(concepts, course),
    )


def _tree(concepts: xr.Dataset, course: xr.DataArray) -> nx.DiGraph:
    from ...plots.concepts import graph

    return nx.convert_node_labels_to_integers(graph(concepts, course.sample.values[0]), ordering="sorted")


def _stored(
    workspace: Workspace, state: State, subject: Subject, stage: str, analysis: dict | None = None
) -> xr.Dataset | None:
    """What the run has stored of this scene and its caption, made by the same model and recursion with the same options of
    the analysis; None where it has nothing."""
    if state.run is None or not subject.captioned:
        return None
    run = workspace.run(state)
    if workspace.scenes(state) is not run.scenes:  # the stores are of others
        return None
    parameters = RECURSION | _recursion(state) | {"temperature": TEMPERATURES[state.coupling]}
    sample = subject.scene.sample.item()
    for store in workspace.made(state, stage):
        about = provenance(store)
        alike = about.get("parameters") == parameters and _alike(about.get("analysis"), analysis)
        if alike and sample in store.sample.values:
            return store.sel(sample=[sample]) if "sample" in store.dims else store
    return None


def _alike(stored: dict | None, wanted: dict | None) -> bool:
    """Whether two options of an analysis are the same, numbers up to rounding."""
    if not stored or not wanted:
        return not stored and not wanted
    return stored.keys() == wanted.keys() and all(
        math.isclose(stored[name], value) if isinstance(value, float) else stored[name] == value
        for name, value in wanted.items()
    )
