"""``explain_source``: the maps of a whole dataset, in parts that can be shared out, resumed, and opened as one."""

from pathlib import Path

import numpy as np
import xarray as xr

from .clip import Clip
from .datasets.source import Source
from .protocols.chosen import Methods, chosen_methods, maps_of
from .protocols.running import check_run, run


def explain_source(
    methods: str | Methods,
    clip: Clip,
    source: Source,
    folder: str | Path,
    of: str = "image",
    shard: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Explain each sample of a source, and store the maps in part files under ``folder``.

    Parameters
    ----------
    methods : a name of ``methods()``, several, or a dict from labels to options.
    source : of ``open_source``; images are read a block at a time, so memory doesn't grow with their number.
    folder : of the parts, ``000000.nc`` and so on, for these methods and options alone. Parts that are there and were made
        alike are not computed again; those that were made otherwise are replaced.
    of : "image" or "text". batch_size : pairs explained at once. seed : of stochastic methods.
    shard : a share "i/k" of the samples, such as "3/16"; None for all. Shares may be computed anywhere, at the same time,
        into one folder. They go by blocks of 32 samples: a set of one block can't be shared out.

    Returns a dataset of the ``explanations`` schema, read where it is looked at: ``heat`` (sample, explainer, row, col), or
    ``word_heat`` (sample, explainer, token) as long as the model's context, of all samples, or of the share's where one was
    asked for. A bad sample is NaN, its reason stands in the coordinate ``error``.
    Raises ValueError, before any work, for an unknown method, option or share.
    """
    chosen = chosen_methods(clip, [methods] if isinstance(methods, str) else methods, of, seed)
    check_run(clip, source, batch_size, seed)

    def maps(good: xr.Dataset) -> xr.Dataset:
        heat, finite = maps_of(chosen, clip, clip.pixels(good.image), clip.tokens(good.caption), of, batch_size)
        heat = np.where(finite[(..., *[None] * (heat.ndim - 2))], heat, np.nan).astype(np.float32)
        coords = {"sample": good.sample.values, "explainer": [one.label for one in chosen]}
        if of == "image":
            return xr.Dataset({"heat": (("sample", "explainer", "row", "col"), heat)}, coords)
        room = clip.context_length - heat.shape[2]  # so that parts are alike
        word_heat = np.pad(heat, ((0, 0), (0, 0), (0, room)))
        return xr.Dataset({"word_heat": (("sample", "explainer", "token"), word_heat)}, coords)

    return run(
        "explaining", clip, source, chosen, folder, maps, {"of": of}, batch_size, shard, progress, stage="explanations"
    )
