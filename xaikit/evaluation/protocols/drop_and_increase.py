"""Table 1: how much confidence is left when only what a map calls important is left."""

from pathlib import Path

import numpy as np
import xarray as xr

from ...clip.model import Clip
from ...clip.perturbation import check_fill
from ...explainers.sources import Methods, check_run, chosen_methods, maps_of, results, run
from ...samples.source import Source
from ..confidence import image_confidence, text_confidence


def confidence(
    clip: Clip,
    source: Source,
    methods: Methods,
    folder: str | Path,
    released: bool = False,
    fill: str = "removed",
    shard: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Confidence drop and increase of image and text, as in table 1 of MMEL, in parts under ``folder``.

    Parameters
    ----------
    source : images with captions, such as Conceptual Captions or planted scenes.
    methods : names, or a dict from labels to options; see ``Methods``. One that explains one side only has NaN for the
        other.
    released : as M2IB's released evaluation; see ``image_confidence`` and ``text_confidence``.
    fill : what becomes of words that are not hot, "removed" or "padding".
    shard : a share "i/k" of the samples, None for all.
    batch_size : images or texts encoded at once. seed : of methods that take one.

    Returns ``image_drop``, ``image_increase``, ``text_drop`` and ``text_increase`` (sample, explainer), read where they
    are looked at: of all samples, or of the share's. A bad sample is NaN, its reason stands
    in ``error``. Raises ValueError, before any work, for an unknown method or option. Source: Wang et al., M2IB, 2023.
    """
    check_run(clip, source, batch_size, seed)
    check_fill(fill, "text")
    chosen = chosen_methods(clip, methods, None, seed)

    sides = {"image": (image_confidence, {}), "text": (text_confidence, {"fill": fill})}

    def measure(good: xr.Dataset) -> xr.Dataset:
        pixels, tokens = clip.pixels(good.image), clip.tokens(good.caption)
        shape = (len(tokens), len(chosen))
        found = {f"{of}_{what}": np.full(shape, np.nan) for of in sides for what in ("drop", "increase")}
        usable = np.ones(shape)
        for of, (of_side, choices) in sides.items():
            able = [place for place, one in enumerate(chosen) if of in one.sides]
            if not able:
                continue
            heat, finite = maps_of([chosen[place] for place in able], clip, pixels, tokens, of, batch_size)
            both = of_side(clip, heat, pixels, tokens, released, batch_size=batch_size, **choices)
            for what, values in zip(("drop", "increase"), both, strict=True):
                found[f"{of}_{what}"][:, able] = np.where(finite, values, np.nan)
            usable[:, able] *= finite
        return results(good, chosen, finite=usable, **found)

    options = {"released": released, "fill": fill}
    return run("confidence", clip, source, chosen, folder, measure, options, batch_size, shard, progress)
