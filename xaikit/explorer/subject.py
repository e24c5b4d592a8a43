"""What is explained: a picture and a prompt, with the truth where it is known."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from ..samples.captions import PLURALS, name_objects

SINGULAR = {plural: name for name, plural in PLURALS.items()}


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
    def captioned(self) -> bool:
        """Whether the prompt is the scene's own caption."""
        return self.scene is not None and self.prompt == str(self.scene.caption.item())

    @cached_property
    def key(self) -> str:
        """Tells the picture apart from others."""
        content = self.source.tobytes() if hasattr(self.source, "tobytes") else self.image.tobytes()
        return hashlib.sha256(content + str(self.image.shape).encode()).hexdigest()[:16]


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
