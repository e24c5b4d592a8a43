"""What the explorer works with: scenes, uploaded pictures, models, and everything that was computed, kept for the next look.

Nothing here knows of widgets. torch and the models are imported when something must be computed, not before, so that stored
maps are shown at once.
"""

import contextlib
import copy
import threading
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import xarray as xr

from ..files.models import CLIPS
from ..files.store import provenance, validate
from ..samples.captions import world_of_model
from ..samples.scenes import draw_scenes
from .jobs import Cache, Job, Missing
from .sources import PICTURES, Pictures, RunStores, Subject, named_pixels, stamp, with_objects
from .state import State

KEPT = 1000  # results; a map of a large model takes a few kilobytes, a trajectory a few megabytes
MODELS, RUNS = 3, 8
SCENES = {"n": 32, "seed": 0, "objects": (2, 3)}  # drawn where no run is given
OF_THINGS = "tiny-llava-things"  # what describes them
OF_WORLDS = {"shapes": {}, "things": {"world": "things", "size": 96}}  # of each of them


@cache
def drawn_of(world: str) -> xr.Dataset:
    """The scenes of a world that are drawn where no run is given."""
    return draw_scenes(**SCENES, **OF_WORLDS[world])


class Workspace:
    """The pictures, models and results behind an explorer. scenes : instead of those of a run, a dataset of the ``inputs``
    schema."""

    def __init__(self, scenes: xr.Dataset | None = None):
        self._given = _checked(scenes)
        self.given = scenes is not None  # so that no run's are shown
        computing = threading.RLock()
        self._models, self._runs = Cache(MODELS, computing), Cache(RUNS, computing)
        self._pictured, results = Cache(2 * PICTURES, computing), Cache(KEPT, computing)
        self.cached, self.kept = results.cached, results.kept  # all other results: maps, answers, waves, charts
        self.pictures = Pictures()

    def of(self, scenes: xr.Dataset) -> "Workspace":
        """The same models and results, with other scenes to choose from."""
        other = copy.copy(self)
        other._given, other.given = _checked(scenes), True
        return other

    # runs, pictures and prompts

    def run(self, state: State) -> RunStores:
        """The stores of the state's run, as they are now. Raises ValueError where it has none."""
        if state.run is None:
            raise ValueError("no run is open: choose one of the run folders")
        return self._runs.kept((state.run, stamp(state.run)), lambda: RunStores(state.run))

    def models_of(self, run: str) -> dict[str, Any]:
        """The models that a run was made with. Raises as ``run``."""
        stores, usual = self.run(State(run=run)), {**vars(State())}
        with contextlib.suppress(OSError, ValueError):  # of scenes that can't be read it is said elsewhere
            if (of_scenes := provenance(stores.scenes).get("model")) in CLIPS:
                usual["model"] = of_scenes  # where the run was started without naming one
        usual["multimodal_model"] = (
            OF_THINGS if world_of_model(usual["model"]) == "things" else usual["multimodal_model"]
        )
        parameters = stores.parameters or {}
        return {name: parameters.get(name, usual[name]) for name in ("model", "pretrained", "multimodal_model")}

    def notice(self, state: State) -> str:
        """What a reader must know of the model and the run, "" for nothing."""
        notices = []
        if state.pretrained is None and state.model not in CLIPS and ":" not in state.model:
            notices.append(f"{state.model} has random weights: its maps mean nothing until pretrained=... names some.")
        if state.run is not None:
            notices += [f"Left out: {reason}." for reason in self.run(state).broken.values()]
        return " ".join(notices)

    def scenes(self, state: State) -> xr.Dataset:
        """The scenes to choose from."""
        if self.given:
            return self._given
        return self.run(state).scenes if state.run else drawn_of(world_of_model(state.model))

    def subject(self, state: State, job: Job | None = None) -> Subject:
        """The picture and the prompt of a state. A picture of one's own needs the model, which crops it.

        Raises ValueError for an empty prompt or a sample that isn't there, FileNotFoundError for a missing picture.
        """
        if state.prompt is not None and not state.prompt.strip():
            raise ValueError("the prompt is empty: type at least one word, such as 'a red ring'")
        if state.image is not None:
            picture = self.picture(state)
            if state.prompt is None:
                raise ValueError(f"{state.image} has no caption: give a prompt that describes it (prompt=...)")
            clip = self.clip(state, job)
            # large pictures take a second; the one that is kept holds the picture, whose id thus stays its own
            key = ("subject", self.model_key(state), id(picture), state.prompt)
            return self._pictured.kept(key, lambda: Subject(clip.seen(picture), picture, state.prompt))
        scene = self.scene(state)
        source = image = scene.image.values
        if image.shape[0] != image.shape[1]:
            image = self.clip(state, job).seen(image)
        prompt = str(scene.caption.item()) if state.prompt is None else state.prompt
        own = image.shape[:2] == scene.object_mask.shape[1:]
        return Subject(image, source, prompt, scene, named_pixels(scene, prompt) if own else None)

    def uncropped(self, state: State) -> Subject:
        """The picture as it is before any model crops it, without a prompt.

        Raises ValueError for a sample that isn't there or no picture, FileNotFoundError for a missing one.
        """
        if state.image is not None:
            picture = self.picture(state)
            return self._pictured.kept(("uncropped", id(picture)), lambda: Subject(np.asarray(picture), picture, ""))
        scene = self.scene(state)
        return Subject(scene.image.values, scene.image.values, "", scene)

    def scene(self, state: State) -> xr.Dataset:
        """The state's scene. Raises ValueError for a number that no scene has."""
        scenes = self.scenes(state)
        if state.sample >= scenes.sizes["sample"]:
            raise ValueError(f"sample={state.sample}: the scenes are 0 to {scenes.sizes['sample'] - 1}")
        return with_objects(scenes.isel(sample=state.sample))

    def picture(self, state: State) -> Any:
        """The user's own picture: an uploaded one by its name, or a file as it is now. Raises as ``Pictures``."""
        return self.pictures[state.image]

    # models

    def clip(self, state: State, job: Job | None = None):
        """The state's CLIP, loaded on first use. Raises as ``load_clip``."""

        def load(job: Job):
            job.at(f"loading {state.model}")
            from ..clip import load_clip

            return load_clip(state.model, pretrained=state.pretrained, device=state.device)

        return self._models.cached(("clip", *self.model_key(state)), load, job)

    def loaded(self, state: State):
        """The state's CLIP if it is loaded already, else None."""
        with contextlib.suppress(Missing):
            return self.clip(state)

    def mllm(self, state: State, job: Job | None = None):
        """The state's multimodal LLM, loaded on first use. Raises as ``load_mllm``."""

        def load(job: Job):
            job.at(f"loading {state.multimodal_model}")
            from ..mllm import load_mllm

            return load_mllm(state.multimodal_model, device=state.device)

        return self._models.cached(("mllm", state.multimodal_model, state.device), load, job)

    # explanations of CLIP

    def methods(self, state: State, of: str = "image") -> list[str]:
        """The methods to choose from: all that can explain this side of the model, or while it isn't loaded those with
        stored maps of the picture."""
        clip = self.loaded(state)
        if clip is None:
            return sorted(self._stored_of(state, self.subject(state, Job()), of))
        from ..explainers.registry import explaining

        return list(explaining(clip, of))

    def check(self, state: State, changes: Iterable[str], job: Job | None = None) -> None:
        """Raise ValueError for a changed prompt or method that the model doesn't know, or a sample that isn't there, also where
        the open view shows none of them.

        Raises Missing where that takes the model, and it isn't loaded and there is no job.
        """
        if "sample" in changes and state.image is None:
            self.scene(state)
        if "model" in changes and state.model not in CLIPS:
            self.clip(state, job)
        if "multimodal_model" in changes:
            self.mllm(state, job)
        names = {*(state.methods if "methods" in changes else ()), *([state.method] if "method" in changes else ())}
        if names - {*(self._stored(state, "image") if names else ())}:
            self.clip(state, job)
            from ..explainers.registry import find

            for name in sorted(names):
                find(name, "image", {})
        if "prompt" in changes and state.prompt is not None:
            self.tokens(state, job)

    def tokens(self, state: State, job: Job | None = None) -> tuple[str, ...]:
        """The prompt's own tokens as the model reads them."""
        subject = self.subject(state, job)
        for stored in self._stored_of(state, subject, "text").values():
            return tuple(str(word) for word in stored.token_text.values if str(word))
        clip = self.clip(state, job)

        def read() -> tuple[str, ...]:
            prompt_ids(clip, subject.prompt)  # which refuses in this view's words
            return tuple(clip.token_strings([subject.prompt])[0])

        return self.kept(("tokens", self.model_key(state), subject.prompt), read)

    def heat(
        self, state: State, method: str, job: Job | None = None, of: str = "image", words: tuple[int, ...] = ()
    ) -> np.ndarray:
        """The map (row, col) of the state's picture by a method, or for ``of="text"`` the heat (token,) of its prompt's words.

        words : the places of the prompt's tokens that make up the prompt instead of it; none for the whole prompt.
        Raises as ``explain``.
        """
        subject = self.subject(state, job)
        stored = {} if words else self._stored_of(state, subject, of)
        if method in stored:
            heat = stored[method]
            return heat.values if of == "image" else heat.values[heat.token_text.values.astype(str) != ""]
        clip = self.clip(state, job)
        key = ("heat", self.model_key(state), subject.key, subject.prompt, words, method, of)

        def compute(job: Job) -> np.ndarray:
            from ..explainers import explain
            from ..explainers.registry import check_tower, find

            check_tower(find(method, of, {}), clip, of)
            prompt = prompt_ids(clip, subject.prompt, words)
            with watched(clip, job):
                return explain(method, clip, [subject.source], prompt, of).values[0]

        return self.cached(key, compute, job)

    def similarity(self, state: State, job: Job | None = None, words: tuple[int, ...] = ()) -> float | None:
        """The cosine similarity of picture and prompt, or of the words at these places as a prompt of their own.

        While the model isn't loaded: what the scenes' store says of a scene and its caption, else None.
        """
        subject, clip = self.subject(state, job), self.loaded(state)
        if clip is None:
            made_by = self.made_by(state)
            if words or not subject.captioned or made_by is None or "similarity" not in subject.scene:
                return None
            known = made_by.items() <= provenance(self.scenes(state)).items()
            return float(subject.scene.similarity) if known else None
        key = ("similarity", self.model_key(state), subject.key, subject.prompt, words)
        return self.cached(
            key, lambda job: float(clip.similarity([subject.source], prompt_ids(clip, subject.prompt, words))), job
        )

    def model_key(self, state: State) -> tuple:
        """Tells the state's CLIP apart from others."""
        return state.model, state.pretrained, state.device

    def made_by(self, state: State) -> dict[str, str] | None:
        """What the provenance of a store says that was made by the state's model; None where that can't be known before the
        model is loaded, which a bundled name alone is enough for."""
        if clip := self.loaded(state):
            return {"weights_digest": clip.weights_digest}
        known = state.pretrained is None and state.model in CLIPS
        return {"model": state.model} if known else None

    def made(self, state: State, stage: str) -> list[xr.Dataset]:
        """The run's stores of a stage that were made from its own scenes by the state's model; none where that isn't known."""
        made_by = self.made_by(state)
        stores = [] if made_by is None else self.run(state).made_from_scenes(stage)
        return [store for store in stores if made_by.items() <= provenance(store).items()]

    def _stored(self, state: State, of: str) -> dict[str, xr.DataArray]:
        """The run's maps (sample, ...) of its own scenes by the state's model, by method; none of other scenes or models."""
        if state.run is None or self.given or state.image is not None:
            return {}
        found = {}
        for store in self.made(state, "explanations"):
            options = provenance(store).get("parameters") or {}
            heat = store.get("heat" if of == "image" else "word_heat")
            if heat is None or (of == "text" and "token_text" not in heat.coords):
                continue
            names = [str(name) for name in heat.explainer.values]
            found |= {name: heat.sel(explainer=name) for name in names if self._by_default(state, name, options)}
        return found

    def _by_default(self, state: State, method: str, options: dict[str, Any]) -> bool:
        """Whether options with which a run explained are the method's defaults; while the model isn't loaded, whether the run
        was started without them, for then they are the notebooks' own."""
        if self.loaded(state) is None:
            started = self.run(state).parameters
            return not options or (started is not None and not options.keys() & started.keys())
        from ..explainers.registry import all_methods

        found = all_methods().get(method)
        return found is not None and options.items() <= found.options.items()

    def _stored_of(self, state: State, subject: Subject, of: str) -> dict[str, xr.DataArray]:
        """The run's maps of this scene and its caption, by method."""
        stored = self._stored(state, of) if subject.captioned else {}
        label = subject.scene["sample"].item() if stored else None
        return {name: heat.sel(sample=label) for name, heat in stored.items() if label in heat["sample"].values}


def watched(clip, job: Job):
    """A context in which the job can be cancelled at every block of either tower, since some methods run only the last ones."""
    from ..clip import tower

    return job.watching(*(block for side in ("image", "text") for block in tower(clip, side).blocks))


def prompt_ids(clip, prompt: str, words: tuple[int, ...] = ()):
    """Token ids (1, context) of a prompt, or of those of its own tokens at the places ``words``, which it has, without a gap.

    Raises ValueError, in one sentence, for a prompt that the model can't read.
    """
    import torch

    from ..clip.perturbation import perturbed_texts

    try:
        tokens = clip.tokens([prompt])
    except ValueError as error:
        raise ValueError(str(error).replace("text 0", "the prompt", 1)) from error
    if not words:
        return tokens
    keep = torch.zeros(1, int(clip.content(tokens).sum()), dtype=torch.bool)
    keep[0, list(words)] = True
    return perturbed_texts(clip, tokens, keep, "removed")


def _checked(scenes: Any) -> xr.Dataset | None:
    """Scenes that were handed over. Raises ValueError for anything but a dataset of scenes."""
    if scenes is None:
        return None
    if not isinstance(scenes, xr.Dataset):
        kind = type(scenes).__name__
        raise ValueError(f"scenes is a {kind}: a dataset of scenes is needed, or run=... for those of a run")
    validate(scenes, "inputs")
    if not scenes.sizes["sample"]:
        raise ValueError("scenes has no sample: at least one is needed")
    return scenes
