"""A dataset by one string: planted scenes, or a published dataset in the layout in which it comes, in a local folder.

Nothing here fetches anything. A source is sized and sharded, and reads an image only when it is asked for. A layout is a file
of ``published/``, which alone names it.
"""

import difflib
import importlib
import os
import pkgutil
from pathlib import Path

import xarray as xr

from ..files.checks import check_whole
from ..files.paths import data_folder
from ..files.store import annotate, inputs_digest, open_store, read
from .planted import planted as planted_scenes
from .source import Reader, Source, first_good
from .tables import LayoutError

LAYOUTS = tuple(
    module.name.replace("_", "-") for module in pkgutil.iter_modules([str(Path(__file__).parent / "published")])
)


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

    Examples
    --------
    >>> source = xk.open_source("planted", 100)
    >>> len(source), len(source.blocks()), len(source.blocks("2/2"))
    (100, 4, 2)
    """
    if n is not None:
        check_whole(1, n=n)
    if data == "planted":
        return planted_scenes(kind, 64 if n is None else n, seed)
    layout, folder, split = parse_data(data)
    name = layout.replace("-", "_")
    module = importlib.import_module(f".published.{name}", __package__)
    return getattr(module, f"open_{name}")(folder, split).head(n)


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


def open_inputs(run: str, data: str = "planted", n: int | None = None, clip: Reader | None = None) -> xr.Dataset:
    """The first n scenes of a run ("planted": those that notebook 00 stored), of a store of inputs elsewhere, by its path
    (relative to the repository), or of a dataset "LAYOUT:PATH" as ``open_source`` takes it, all for None.

    Of a dataset these are the first n good samples, 64 for None, as ``clip`` gets them; the provenance's ``left_out`` tells
    of the bad ones. The provenance holds their ``inputs_digest``.

    Examples
    --------
    >>> path = xk.save_store(scenes, "example", "inputs")
    >>> xk.open_inputs("example", n=2).sizes["sample"]
    2
    """
    path = data_folder().parent / data
    if ":" in data and not path.is_file():
        scenes = first_good(open_source(data), 64 if n is None else n, clip)
    else:
        if n is not None:
            check_whole(1, n=n)
        scenes = (open_store(run, "inputs") if data == "planted" else read(path, "inputs")).isel(sample=slice(n))
    return annotate(scenes, "inputs", inputs_digest=inputs_digest(scenes))
