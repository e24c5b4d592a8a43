"""Planted scenes as a source: drawn block by block, with all their truth, however many there are."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..files.checks import check_choices, check_whole
from ..files.store import annotate
from .captions import article
from .scenes import draw_pairs, draw_scenes
from .source import BLOCK, Reader, Source
from .worlds.shapes import COLOURS, SHAPES

KINDS = ("captions", "classes", "pairs")
CLASSES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
SWAPS = ("relation", "attribute")  # foils with the same words as the caption, as in Winoground


@dataclass(frozen=True, eq=False)
class Planted(Source):
    """Scenes in blocks, each block drawn from a seed of its own, so that a scene stays the same whatever else is drawn.

    kind : "captions" for scenes of two to four objects, "classes" for one object each, which is one of ``CLASSES``, and
        "pairs" for scenes with a foil of the same words, two in a row being each other's.
    """

    kind: str = "captions"
    seed: int = 0

    def digest(self, rows: slice = slice(None)) -> str:
        drawn = [self.kind, self.seed, [str(label) for label in self.labels[rows]]]
        return hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:16]

    def inputs(self, rows: slice = slice(None), clip: Reader | None = None, size: int = 224) -> xr.Dataset:
        """These scenes as a dataset of the ``inputs`` schema with their whole truth, as they are drawn."""
        places = np.arange(len(self))[rows]
        blocks = [self._block(int(number)) for number in np.unique(places // BLOCK)]
        fill = {"token_text": "", "token_object": -1}
        together = xr.concat(blocks, "sample", join="outer", fill_value=fill, combine_attrs="override")
        chosen = together.sel(sample=self.labels[places])
        chosen = chosen.assign_coords(error=("sample", np.full(len(places), "", "<U1")))
        return annotate(chosen, "inputs", layout=self.layout, **self.about)

    def _block(self, number: int) -> xr.Dataset:
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
        if self.kind == "captions":
            scenes = draw_scenes(BLOCK, seed, objects=(2, 4))
        elif self.kind == "classes":
            scenes = draw_scenes(BLOCK, seed, objects=(1, 1), captions="object")
            named = [" ".join(str(name).split()[1:]) for name in scenes.object_name.values[:, 0]]
            scenes["class_index"] = ("sample", np.array([CLASSES.index(name) for name in named]))
        else:
            scenes = draw_pairs(SWAPS[number % len(SWAPS)], BLOCK // 2, seed)
            scenes["pair"] = scenes.pair + number * (BLOCK // 2)
        return scenes.assign_coords(sample=[str(number * BLOCK + place) for place in range(BLOCK)])


def planted(kind: str = "captions", n: int = 64, seed: int = 0) -> Planted:
    """A source of n planted scenes. Raises ValueError for an unknown kind, n below 1 or a negative seed."""
    check_choices(kind=(kind, KINDS))
    check_whole(1, n=n)
    check_whole(0, seed=seed)
    classes = CLASSES if kind == "classes" else ()
    prompts = tuple(f"{article(name)} {name}" for name in classes)
    labels = np.arange(n).astype(str).astype(object)
    return Planted("planted", labels, classes, prompts, {"kind": kind, "seed": seed}, kind, seed)
