"""Datasets as sources: planted scenes, and published datasets in the layouts in which they come, in local folders.

Nothing here fetches anything. A source is sized and sharded, and reads an image only when it is asked for.
"""

import difflib
import importlib
import os
from pathlib import Path

from ..files.checks import check_whole
from ..files.paths import data_folder
from .planted import planted as planted_scenes
from .published import LayoutError
from .source import Source

LAYOUTS = {  # name to (module, function), which takes a folder and a split or None
    "coco": ("coco", "open_coco"),
    "conceptual-captions": ("conceptual_captions", "open_conceptual_captions"),
    "imagenet": ("imagenet", "open_imagenet"),
    "winoground": ("winoground", "open_winoground"),
    "svo-probes": ("svo_probes", "open_svo_probes"),
    "coco-attributes": ("coco_attributes", "open_coco_attributes"),
    "folder": ("folder", "open_folder"),
}


def open_source(data: str = "planted", n: int | None = None, seed: int = 0, kind: str = "captions") -> Source:
    """A dataset by one string, as a notebook's parameter gives it.

    Parameters
    ----------
    data : "planted" for drawn scenes, or "LAYOUT:PATH" for a published dataset in a folder (relative to the repository), or
        "LAYOUT:PATH#SPLIT" for one of its splits. A path that is a folder as it stands may itself hold a "#".
    n : the first n samples, None for all; of planted scenes, which have no end, 64.
    seed, kind : of planted scenes alone; kind is "captions", "classes" or "pairs".

    Raises ValueError for an unknown layout, with the nearest known ones first, and LayoutError, a ValueError, for a folder
    that isn't laid out so or whose tables are damaged.
    """
    if n is not None:
        check_whole(1, n=n)
    if data == "planted":
        return planted_scenes(kind, 64 if n is None else n, seed)
    layout, folder, split = parse_data(data)
    module, function = LAYOUTS[layout]
    return getattr(importlib.import_module(f".{module}", __package__), function)(folder, split).head(n)


def parse_data(data: str) -> tuple[str, Path, str | None]:
    """Layout, folder and split of "LAYOUT:PATH#SPLIT". Raises ValueError for another string or a layout that is unknown,
    LayoutError if there is no such folder."""
    layout, colon, path = data.partition(":") if isinstance(data, str) else ("", "", "")
    if layout not in LAYOUTS or not path:
        near = sorted(LAYOUTS, key=lambda name: -difflib.SequenceMatcher(None, layout.lower(), name).ratio())
        known = f"'planted' or 'LAYOUT:PATH', LAYOUT one of {', '.join(near)}"
        raise ValueError(f"data={data!r}: give {known}" + ("" if colon else ", such as 'coco:data/coco'"))
    folder, split = data_folder().parent / os.path.expanduser(path), None
    if not folder.is_dir():
        path, hash_sign, split = path.rpartition("#")
        folder = data_folder().parent / os.path.expanduser(path)
        if not hash_sign or not path or not split or not folder.is_dir():
            raise LayoutError(
                f"data={data!r}: there is no folder {folder if hash_sign and path else data.partition(':')[2]}"
            )
    return layout, folder, split
