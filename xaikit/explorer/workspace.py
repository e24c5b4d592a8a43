"""What the explorer works with: scenes, uploaded pictures, models, and everything that was computed, kept for the next look.

Nothing here knows of widgets. torch and the models are imported when something must be computed, not before, so that stored
maps are shown at once.
"""

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from ..paths import data_folder
from ..scenes import draw_scenes, name_objects
from ..scenes.captions import PLURALS
from ..store import provenance
from .jobs import Job, Missing
from .run_stores import RunStores
from .state import State
from .uploads import read_upload

KEPT = 1000  # results; a map of a large model takes a few kilobytes, a trajectory a few megabytes
MODELS = 3
SINGULAR = {plural: name for name, plural in PLURALS.items()}
SCENES = {"n": 32, "seed": 0, "objects": (2, 3)}  # drawn where no run is given


@dataclass(frozen=True)
class Subject:
    """What is explained: a picture and a prompt.

    image : as the model sees it, uint8 (y, x, rgb). source : what the model is given. scene : its planted truth, None for
    a picture of one's own. named : which pixels (y, x) belong to objects that the prompt names, None where there is no truth.
    """

    image: np.ndarray
    source: Any
    prompt: str
    scene: xr.Dataset | None = None
    named: np.ndarray | None = None

    @cached_property
    def key(self) -> str:
        """Tells the picture apart from others."""
        content = self.source.tobytes() if hasattr(self.source, "tobytes") else self.image.tobytes()
        return hashlib.sha256(content + str(self.image.shape).encode()).hexdigest()[:16]


class Workspace:
    """The pictures, models and results behind an explorer. scenes : instead of those of a run, a dataset of the ``inputs``
    schema."""

    def __init__(self, scenes: xr.Dataset | None = None):
        self._given = scenes
        self._uploads: dict[str, Any] = {}
        self._runs: dict[str, RunStores] = {}
        self._models: OrderedDict[Hashable, Any] = OrderedDict()
        self._results: OrderedDict[Hashable, Any] = OrderedDict()
        self._dictionaries, self._computing = threading.RLock(), threading.RLock()

    @property
    def given(self) -> bool:
        """Whether the scenes were handed over, so that no run's are shown."""
        return self._given is not None

    # pictures and prompts

    def upload(self, name: str, content: bytes) -> None:
        """Take a picture's bytes; from then on ``State.image`` may be its name. Raises ValueError for no picture."""
        self._uploads[name] = read_upload(name, content)

    def run(self, state: State) -> RunStores:
        """The stores of the state's run. Raises ValueError where it has none."""
        if state.run is None:
            raise ValueError("no run is open: choose one of the run folders")
        with self._dictionaries:
            if state.run not in self._runs:
                self._runs[state.run] = RunStores(state.run)
            return self._runs[state.run]

    def scenes(self, state: State) -> xr.Dataset:
        """The scenes to choose from."""
        if self._given is not None:
            return self._given
        return self.run(state).scenes if state.run else self.drawn_scenes

    @cached_property
    def drawn_scenes(self) -> xr.Dataset:
        """Those of no run."""
        return draw_scenes(**SCENES)

    def subject(self, state: State, job: Job | None = None) -> Subject:
        """The picture and the prompt of a state. A picture of one's own needs the model, which crops it.

        Raises ValueError for an empty prompt or a sample that isn't there, FileNotFoundError for a missing picture.
        """
        if state.prompt is not None and not state.prompt.strip():
            raise ValueError("the prompt is empty: type at least one word, such as 'a red ring'")
        if state.image is not None:
            if state.prompt is None:
                raise ValueError(f"{state.image} has no caption: type a prompt that describes it")
            picture = self.picture(state)
            return Subject(self.clip(state, job).seen(picture), picture, state.prompt)
        scene = self.scene(state)
        image = scene.image.values
        if image.shape[0] != image.shape[1]:
            image = self.clip(state, job).seen(image)
        caption = str(scene.caption.item())
        prompt = caption if state.prompt is None else state.prompt
        own = image.shape[:2] == scene.object_mask.shape[1:]
        return Subject(image, scene.image.values, prompt, scene, named_pixels(scene, prompt) if own else None)

    def uncropped(self, state: State) -> Subject:
        """The picture as it is before any model crops it, for one that isn't given the prompt, which may be missing.

        Raises ValueError for a sample that isn't there or no picture, FileNotFoundError for a missing one.
        """
        if state.image is not None:
            picture = self.picture(state)
            return Subject(np.asarray(picture), picture, state.prompt or "")
        scene = self.scene(state)
        image = scene.image.values
        return Subject(image, image, state.prompt or str(scene.caption.item()), scene)

    def scene(self, state: State) -> xr.Dataset:
        """The state's scene. Raises ValueError for a number that no scene has."""
        scenes = self.scenes(state)
        if state.sample >= scenes.sizes["sample"]:
            raise ValueError(f"sample={state.sample}: the scenes are 0 to {scenes.sizes['sample'] - 1}")
        return scenes.isel(sample=state.sample)

    def picture(self, state: State) -> Any:
        """The user's own picture: an uploaded one by its name, or a file."""
        from ..images import read_image

        if state.image in self._uploads:
            return self._uploads[state.image]
        try:
            return self.cached(("picture", state.image), lambda job: read_image(state.image), Job())
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(str(error).removeprefix("image 0: ")) from error

    # results

    def cached(self, key: Hashable, compute: Callable[[Job], Any], job: Job | None) -> Any:
        """What ``compute`` gave for this key, computed if it isn't there yet. Without a job Missing is raised instead."""
        with self._dictionaries:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        if job is None:
            raise Missing(key)
        with self._computing:
            with self._dictionaries:
                if key in self._results:
                    return self._results[key]
            value = compute(job)
            job.check()
            with self._dictionaries:
                self._results[key] = value
                while len(self._results) > KEPT:
                    self._results.popitem(last=False)
            return value

    def kept(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """``cached`` for what is computed quickly: at once, without waiting for long work in another thread."""
        with self._dictionaries:
            if key not in self._results:
                self._results[key] = compute()
            return self._results[key]

    # models

    def clip(self, state: State, job: Job | None = None):
        """The state's CLIP, loaded on first use. Raises as ``load_clip``."""

        def load():
            from .. import load_clip

            return load_clip(state.model, pretrained=state.pretrained, device=state.device)

        return self._model(("clip", state.model, state.pretrained, state.device), load, state.model, job)

    def mllm(self, state: State, job: Job | None = None):
        """The state's multimodal LLM, loaded on first use. Raises as ``load_mllm``."""

        def load():
            from .. import load_mllm

            return load_mllm(state.multimodal_model, device=state.device)

        return self._model(("mllm", state.multimodal_model, state.device), load, state.multimodal_model, job)

    def _model(self, key: Hashable, load: Callable[[], Any], name: str, job: Job | None) -> Any:
        with self._dictionaries:
            if key in self._models:
                self._models.move_to_end(key)
                return self._models[key]
        if job is None:
            raise Missing(key)
        with self._computing:
            if key not in self._models:
                job.at(f"loading {name}")
                loaded = load()
                with self._dictionaries:
                    self._models[key] = loaded
                    while len(self._models) > MODELS:
                        self._models.popitem(last=False)
            job.check()
            return self._models[key]

    # explanations of CLIP

    def methods(self, state: State, of: str = "image") -> list[str]:
        """The methods to choose from: all that can explain this side of the model, or while it isn't loaded those with
        stored maps."""
        try:
            clip = self.clip(state)
        except Missing:
            return sorted(self._stored(state, of))
        from ..explainers.registry import explaining

        return list(explaining(clip, of))

    def tokens(self, state: State, job: Job | None = None) -> tuple[str, ...]:
        """The prompt's own tokens as the model reads them."""
        subject = self.subject(state, job)
        if (
            subject.scene is not None
            and subject.prompt == str(subject.scene.caption.item())
            and self._stored(state, "text")
        ):
            return tuple(str(word) for word in subject.scene.token_text.values if str(word))
        clip = self.clip(state, job)
        return self.cached(
            ("tokens", self._id(state), subject.prompt), lambda _: _strings(clip, subject.prompt), job or Job()
        )

    def heat(
        self, state: State, method: str, job: Job | None = None, of: str = "image", words: tuple[int, ...] = ()
    ) -> np.ndarray:
        """The map (row, col) of the state's picture by a method, or for ``of="text"`` the heat (token,) of its prompt's words.

        words : the places of the prompt's tokens that make up the prompt instead of it; none for the whole prompt.
        Raises as ``explain``.
        """
        subject = self.subject(state, job)
        stored = self._stored(state, of).get(method)
        if (
            stored is not None
            and not words
            and subject.scene is not None
            and subject.prompt == str(subject.scene.caption.item())
        ):
            return stored[state.sample][: len(self.tokens(state, job))] if of == "text" else stored[state.sample]
        clip = self.clip(state, job)
        key = ("heat", self._id(state), subject.key, subject.prompt, words, method, of)
        return self.cached(key, lambda job: self._explained(clip, subject, method, of, words, job), job)

    def similarity(self, state: State, job: Job | None = None) -> float:
        """The cosine similarity of picture and prompt."""
        subject, clip = self.subject(state, job), self.clip(state, job)
        key = ("similarity", self._id(state), subject.key, subject.prompt)
        return self.cached(key, lambda job: float(clip.similarity([subject.source], ids(clip, subject.prompt))), job)

    def _explained(self, clip, subject: Subject, method: str, of: str, words: tuple[int, ...], job: Job) -> np.ndarray:
        from ..explainers.registry import check_tower, find
        from ..explaining import explain

        check_tower(find(method, of, {}), clip, of)
        prompt = ids(clip, subject.prompt, words)
        with watched(clip, job):
            return explain(method, clip, [subject.source], prompt, of).values[0]

    def _id(self, state: State) -> tuple:
        return state.model, state.pretrained, state.device

    def _stored(self, state: State, of: str) -> dict[str, np.ndarray]:
        """The run's maps (sample, ...) of its own scenes by the state's model, by method; none of other scenes or models."""
        if state.run is None or self._given is not None or state.image is not None:
            return {}
        try:
            digest = self.clip(state).weights_digest
        except Missing:
            digest = None  # the name must do
        found = {}
        for store in self.run(state).made_from_scenes("explanations").values():
            about = provenance(store)
            same = about.get("weights_digest") == digest if digest else about.get("model") == state.model
            heat = store.get("heat" if of == "image" else "word_heat")
            if same and heat is not None:
                found |= {str(name): heat.sel(explainer=name).values for name in heat.explainer.values}
        return found


def ids(clip, prompt: str, words: tuple[int, ...] = ()):
    """Token ids (1, context) of a prompt, or of those of its own tokens at the places ``words``, without a gap.

    Raises ValueError, in one sentence, for a prompt that the model can't read or a word that it doesn't have.
    """
    import torch

    from ..perturbing import perturbed_texts

    tokens = _readable(clip, prompt)
    if not words:
        return tokens
    count = int(clip.content(tokens).sum())
    if max(words) >= count or min(words) < 0:
        raise ValueError(f"words={list(words)}: the prompt has the words 0 to {count - 1}")
    keep = torch.zeros(1, count, dtype=torch.bool)
    keep[0, list(words)] = True
    return perturbed_texts(clip, tokens, keep, "removed")


def watched(clip, job: Job):
    """A context in which the job can be cancelled at every forward pass of either tower."""
    from ..towers import tower

    return job.watching(*(tower(clip, side).blocks[0] for side in ("image", "text")))


def bundled_models() -> list[str]:
    """The CLIPs that ship with xaikit, without importing what would load them."""
    return sorted(path.parent.name for path in data_folder().glob("*/open_clip_config.json"))


def _readable(clip, prompt: str):
    try:
        return clip.tokens([prompt])
    except ValueError as error:
        raise ValueError(str(error).replace("text 0", "the prompt", 1)) from error


def _strings(clip, prompt: str) -> tuple[str, ...]:
    _readable(clip, prompt)
    return tuple(clip.token_strings([prompt])[0])


def named_pixels(scene: xr.Dataset, prompt: str) -> np.ndarray | None:
    """The pixels (y, x) of the objects that a prompt names, None where it names none."""
    if prompt == str(scene.caption.item()):
        named = scene.object_named.values
    else:
        words = [SINGULAR.get(word, word) for word in re.findall(r"\w+", prompt.lower())] or [""]
        found = name_objects(np.array([words]), scene.expand_dims("sample")).token_object.values
        group = scene.object_group.values
        named = np.isin(group, group[found[found >= 0]]) & (
            group >= 0
        )  # alike in colour and shape, as in the scenes' truth
    pixels = scene.object_mask.values[named].any(0)
    return pixels if pixels.any() else None
