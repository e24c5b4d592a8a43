"""What metrics can need of maps, a model and scenes, each computed once for all of them."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import xarray as xr
from torch import Tensor

from ..clip.model import Clip
from ..clip.towers import tower
from ..measures.words import whole_words
from ..samples.interventions import check_drawn
from ..samples.worlds.layout import corner
from .confidence import confidence_change
from .faithfulness import deletion_insertion
from .interventions import object_coverage, object_effects

TRUTH = ("coverage", "objects", "named")  # needs that scenes without masks of the objects can't meet
PLANTED = ("units", "effects")  # needs that only planted scenes can meet, which can be drawn again
CURVES = {"fraction": ("step",)} | {
    f"{way}_curve": ("sample", "explainer", "step") for way in ("deletion", "insertion")
}  # needs that are stored beside the metrics that read them


def unmet(scenes: xr.Dataset, needs: Collection[str]) -> dict[str, str]:
    """Those of the needs that these scenes can't meet, and why."""
    found = {}
    if not {"object_mask", "object_named"} <= {*scenes}:
        why = (
            "compares maps with the objects' masks, and the scenes have none: leave it out, or give scenes with object_mask"
            " and object_named"
        )
        found = dict.fromkeys((*TRUTH, *PLANTED), why)
    if {*PLANTED} & {*needs}:
        try:
            check_drawn(scenes)
        except ValueError as error:
            found = dict.fromkeys(PLANTED, f"compares maps with interventions: {error}") | found
    return found


@dataclass
class Inputs:
    """What metrics of some maps can need, see ``metric``; each is computed when it is first read."""

    heat: xr.DataArray
    clip: Clip
    scenes: xr.Dataset
    of: str
    steps: int
    fill: str
    batch_size: int
    seed: int
    progress: bool
    NAMES: ClassVar = (
        *TRUTH, *PLANTED, "words", *CURVES, "confidences", "clip", "pixels", "tokens", "scenes",
        "steps", "fill", "batch_size", "seed", "progress",
    )  # fmt: skip

    def __post_init__(self):
        if self.of != "image":
            return
        grid = tower(self.clip, "image").grid
        if self.heat.shape[2:] != grid:
            raise ValueError(
                f"the maps have {self.heat.shape[2:]} rows and columns, but {self.clip.name} has {grid} patches"
            )

    @cached_property
    def pixels(self) -> Tensor:
        return self.clip.pixels(self.scenes.image)

    @cached_property
    def tokens(self) -> Tensor:
        return self.clip.tokens(self.scenes.caption)

    @cached_property
    def named(self) -> np.ndarray:
        return self.scenes.object_named.transpose("sample", "object").values

    @cached_property
    def _masks(self) -> np.ndarray:
        masks = self.scenes.object_mask.transpose("sample", "object", "y", "x").values
        size = masks.shape[2:]
        squashed = self.clip.model.visual.preprocess_cfg.get("resize_mode") == "squash"
        if size[0] != size[1] and size != self.clip.image_size and not squashed:
            raise ValueError(
                f"the scenes are {size[0]} x {size[1]} pixels and {self.clip.name} crops what isn't square, so masks and"
                " maps would not lie on one another: give square scenes"
            )
        return masks

    @cached_property
    def coverage(self) -> np.ndarray:
        return object_coverage(self.clip, (self._masks & self.named[..., None, None]).any(1))[:, None]

    @cached_property
    def objects(self) -> np.ndarray:
        return object_coverage(self.clip, self._masks)

    @cached_property
    def units(self) -> np.ndarray:
        """The objects, and behind them the corner mark."""
        marked = np.zeros((len(self._masks), 1, *self._masks.shape[2:]), bool)
        place = corner(marked.shape[-1])
        marked[self.scenes.mark.values, :, place, place] = True
        return np.concatenate([self.objects, object_coverage(self.clip, marked)], 1)

    @cached_property
    def effects(self) -> np.ndarray:
        given = {"draws": 0, "batch_size": self.batch_size, "progress": self.progress}
        found = object_effects(self.clip, self.scenes, **given)
        return np.concatenate([found.absent.values, found.mark.values[:, None]], 1)

    @cached_property
    def words(self) -> np.ndarray:
        own = "token_text" in self.heat.coords
        text = (self.heat if own else self.scenes).token_text.values
        if (text == "").all():
            raise ValueError(
                "the word heat carries no words (token_text is empty), so content words can't be told apart"
            )
        place = self.heat.token_word.values if own and "token_word" in self.heat.coords else None
        return whole_words(text, place)[:, : self.heat.sizes["token"]]

    @cached_property
    def _curves(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        given = self.clip, self.heat.values, self.pixels, self.tokens, self.of
        return deletion_insertion(*given, self.steps, self.fill, self.batch_size, self.seed, self.progress)

    fraction = property(lambda self: self._curves[0])
    deletion_curve = property(lambda self: self._curves[1])
    insertion_curve = property(lambda self: self._curves[2])

    @cached_property
    def confidences(self) -> tuple[np.ndarray, np.ndarray]:
        given = self.clip, self.heat.values, self.pixels, self.tokens, self.of
        return confidence_change(*given, fill=self.fill, batch_size=self.batch_size)
