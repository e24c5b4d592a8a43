"""What all protocols share: choices checked before any work, results in parts, and what these were made with."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from ..checks import check_whole
from ..clip import Clip
from ..datasets.source import Source
from ..pairs import check_batch_size
from ..parts import compute_parts, open_parts
from .chosen import Chosen

# From the good samples of a block and its methods to their results, see ``compute_parts``.
Measure = Callable[[xr.Dataset], xr.Dataset]


def check_run(clip: Clip, source: Source, batch_size: int, seed: int, needed: Mapping[str, str] | None = None) -> None:
    """Raise ValueError, in one sentence, for what no protocol can work with.

    needed : variables that the samples must have, with what each of them is.
    """
    if not isinstance(clip, Clip):
        raise ValueError(f"clip is a {type(clip).__name__}: a model of load_clip is needed")
    if not isinstance(source, Source):
        raise ValueError(f"source is a {type(source).__name__}: a source such as planted(...) is needed")
    check_batch_size(batch_size)
    check_whole(0, seed=seed)
    first = source.inputs(slice(0, 1), clip) if needed else None
    for name, meaning in (needed or {}).items():
        if name not in first:
            raise ValueError(f"the {source.layout} dataset has no {name} ({meaning}), which this protocol needs")


def run(
    protocol: str,
    clip: Clip,
    source: Source,
    chosen: Sequence[Chosen],
    folder: str | Path,
    measure: Measure,
    options: Mapping[str, object],
    batch_size: int,
    shard: str | None = None,
    progress: bool = False,
    stage: str = "protocol",
) -> xr.Dataset:
    """Compute what is missing of a share, and open its parts; all parts for None.

    ``batch_size`` is among what parts were made with: how many inputs are encoded at once changes the last bit of floats.
    """
    made_with = {
        "protocol": protocol,
        "layout": source.layout,
        "model": clip.name,
        "weights_digest": clip.weights_digest,
        "precision": str(clip.dtype).removeprefix("torch."),
        "methods": {one.label: one.about for one in chosen},
        "options": dict(options),
        "batch_size": batch_size,
    }
    folder = Path(folder)
    compute_parts(folder, source, measure, stage, made_with, clip, shard, protocol if progress else "")
    return open_parts(folder, source, made_with, shard)


def results(
    good: xr.Dataset, chosen: Sequence[Chosen], coords: Mapping | None = None, **values: np.ndarray
) -> xr.Dataset:
    """The results of a block's good samples: variables over sample, explainer (the methods' labels), and ``coords``."""
    names = {"sample": good.sample.values, "explainer": [one.label for one in chosen], **(coords or {})}
    dims = list(names)
    return xr.Dataset({name: (dims[: value.ndim], value) for name, value in values.items()}, names)
