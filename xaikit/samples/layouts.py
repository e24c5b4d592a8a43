"""A dataset by one string: planted scenes, or a published dataset in the layout in which it comes, in a local folder.

Nothing here fetches anything. A source is sized and sharded, and reads an image only when it is asked for.
"""

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from ..files.checks import check_choices, check_whole
from ..files.paths import find_named
from ..files.store import annotate, inputs_digest, open_store, read
from .assembly import Drawing
from .captions import name_parts, object_kinds
from .published.folder import photos
from .scenes import draw_pairs, draw_scenes
from .source import BLOCK, Reader, Source, first_good, hexadecimal, joined
from .tables import LayoutError, published

KINDS = ("captions", "classes", "pairs")
SWAPS = ("relation", "attribute")  # foils with the same words as the caption, as in Winoground


def open_source(
    data: str = "planted", n: int | None = None, seed: int = 0, kind: str = "captions", **drawing
) -> Source:
    """A dataset by one string, as a notebook's parameter gives it.

    Parameters
    ----------
    data : "planted" for drawn scenes, "photos" for a few photographs to begin with, or "LAYOUT:PATH" for a published dataset in
        a folder (relative to the working folder, or to the repository), or "LAYOUT:PATH#SPLIT" for one of its splits. A path
        that is a folder as it stands may itself hold a "#".
    n : the first n samples, None for all; of planted scenes, which have no end, 64.
    seed, kind, drawing : of planted scenes alone; kind is "captions", "classes" or "pairs", drawing as in ``draw_scenes``.

    Raises ValueError for an unknown layout, with the nearest known ones first, and LayoutError, a ValueError, for a folder
    that isn't laid out so or whose tables are damaged.

    Examples
    --------
    >>> source = xk.open_source("planted", 100)
    >>> len(source), len(source.blocks()), len(source.blocks("2/2"))
    (100, 4, 2)
    """
    if n is not None:
        check_whole(1, n=n)
    if data == "planted":
        return planted(kind, 64 if n is None else n, seed, **drawing)
    if data == "photos":
        return photos().head(n)
    layout, folder, split = parse_data(data)
    return known_layouts()[layout](folder, split).head(n)


def known_layouts() -> dict[str, Callable]:
    """What opens each layout of published datasets, by its name: those of ``samples/published`` and those that were
    registered with ``layout`` since.

    Examples
    --------
    >>> "coco" in known_layouts()
    True
    """
    return {name.replace("_", "-"): entry.function for name, entry in sorted(published.all().items())}


LAYOUTS = tuple(known_layouts())  # the names of those that ship


def parse_data(data: str) -> tuple[str, Path, str | None]:
    """Layout, folder and split of "LAYOUT:PATH#SPLIT". Raises ValueError for another string or a layout that is unknown,
    LayoutError if there is no such folder."""
    layout, colon, path = data.partition(":") if isinstance(data, str) else ("", "", "")
    if layout not in known_layouts() or not path:
        near = sorted(known_layouts(), key=lambda name: -difflib.SequenceMatcher(None, layout.lower(), name).ratio())
        known = f"'planted', 'photos' or 'LAYOUT:PATH', LAYOUT one of {', '.join(near)}"
        raise ValueError(f"data={data!r}: give {known}" + ("" if colon else ", such as 'coco:data/coco'"))
    found = find_named(data, tuple(known_layouts()))
    if found is None or not found.path.is_dir():
        raise LayoutError(f"data={data!r}: there is no folder {path.rpartition('#')[0] or path}")
    return layout, found.path, found.split or None


def open_inputs(
    run: str | None,
    data: str = "planted",
    n: int | None = None,
    clip: Reader | None = None,
    instead: Mapping[str, object] | None = None,
) -> xr.Dataset:
    """The first n scenes of a run ("planted": those that notebook 00 stored), of a store of inputs elsewhere, by its path
    (relative as for ``open_source``), or of "photos" or a dataset "LAYOUT:PATH" as ``open_source`` takes it, all for None.

    Of a dataset these are the first n good samples, 64 for None, as ``clip`` gets them; the provenance's ``left_out`` tells
    of the bad ones. The provenance holds their ``inputs_digest``. For what can only be measured against planted truth,
    ``instead`` says how scenes are drawn (keywords of ``draw_scenes``) where what is opened has none; a warning tells of it.
    run : None to draw n "planted" scenes anew, by ``instead``: what one notebook tuned by is no evidence in another.

    Examples
    --------
    >>> path = xk.save_store(scenes, "example", "inputs")
    >>> xk.open_inputs("example", n=2).sizes["sample"]
    2
    """
    found = find_named(data)
    path = found.path if found else Path.cwd() / data
    if data == "planted" and run is None:
        scenes = draw_scenes(n, **{"objects": (2, 4), **(instead or {})})
    elif data == "photos" or (":" in data and not path.is_file()):
        scenes = first_good(open_source(data), 64 if n is None else n, clip)
    else:
        if n is not None:
            check_whole(1, n=n)
        scenes = (open_store(run, "inputs") if data == "planted" else read(path, "inputs")).isel(sample=slice(n))
    if instead is not None and "token_object" not in scenes:
        n = scenes.sizes["sample"] if n is None else n
        warnings.warn(
            f"what data={data!r} gives has no planted truth, against which all of this is measured: {n} planted scenes are drawn"
            " instead",
            stacklevel=2,
        )
        scenes = draw_scenes(n, **{"objects": (2, 4), **(instead or {})})
    return annotate(scenes, "inputs", inputs_digest=inputs_digest(scenes))


@dataclass(frozen=True, eq=False)
class Planted(Source):
    """Scenes in blocks, each block drawn from a seed of its own, so that a scene stays the same whatever else is drawn.

    kind : "captions" for scenes of two to four objects, "classes" for one object each, which is one of the classes, and
        "pairs" for scenes with a foil of the same words, two in a row being each other's.
    """

    kind: str = "captions"
    seed: int = 0
    drawing: Mapping[str, object] = field(default_factory=dict)

    def digest(self, rows: slice = slice(None)) -> str:
        how = [self.kind, self.seed, *([dict(self.drawing)] if self.drawing else [])]
        return hexadecimal([*how, [str(label) for label in self.labels[rows]]])

    def inputs(self, rows: slice = slice(None), clip: Reader | None = None, size: int = 224) -> xr.Dataset:
        """These scenes as a dataset of the ``inputs`` schema with their whole truth, as they are drawn."""
        places = np.arange(len(self))[rows]
        blocks = [self._block(int(number)) for number in np.unique(places // BLOCK)]
        chosen = joined(blocks).sel(sample=self.labels[places])
        chosen = chosen.assign_coords(error=("sample", np.full(len(places), "", "<U1")))
        return annotate(chosen, "inputs", layout=self.layout, **self.about)

    def _block(self, number: int) -> xr.Dataset:
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
        if self.kind == "captions":
            scenes = draw_scenes(BLOCK, seed, objects=(2, 4), **self.drawing)
        elif self.kind == "classes":
            scenes = draw_scenes(BLOCK, seed, objects=(1, 1), captions="object", **self.drawing)
            named = [_class_of(str(name), self.classes) for name in scenes.object_name.values[:, 0]]
            scenes["class_index"] = ("sample", np.array(named))
        else:
            scenes = draw_pairs(SWAPS[number % len(SWAPS)], BLOCK // 2, seed, **self.drawing)
            scenes["pair"] = scenes.pair + number * (BLOCK // 2)
        return scenes.assign_coords(sample=[str(number * BLOCK + place) for place in range(BLOCK)])


def _class_of(name: str, classes: Sequence[str]) -> int:
    """The class of an object's name: of a shape colour and shape, of a thing its noun."""
    _, colour, noun = name_parts(name)
    return classes.index(noun if noun in classes else f"{colour} {noun}")


def planted(kind: str = "captions", n: int = 64, seed: int = 0, **drawing) -> Planted:
    """A source of n planted scenes, drawn as ``draw_scenes`` says. Raises ValueError for an unknown kind, n below 1, a negative
    seed, or an impossible drawing."""
    check_choices(kind=(kind, KINDS))
    check_whole(1, n=n)
    check_whole(0, seed=seed)
    world = Drawing.of(drawing).made
    kinds = object_kinds(world) if kind == "classes" else {}
    labels = np.arange(n).astype(str).astype(object)
    about = {"kind": kind, "seed": seed, **drawing}
    return Planted("planted", labels, tuple(kinds), tuple(kinds.values()), about, kind, seed, drawing)
