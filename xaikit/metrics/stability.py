"""Whether a stochastic method gives the same map again with another seed."""

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from tqdm import tqdm

from ..clip import Clip
from ..explainers.registry import check_tower, find
from ..explaining import explain
from ..store import annotate
from .sanity import listed, unit_ranks


def seed_stability(
    method: str,
    clip: Clip,
    scenes: xr.Dataset,
    of: str = "image",
    seeds: Sequence[int] = (0, 1, 2, 3),
    batch_size: int = 64,
    progress: bool = False,
    **options,
) -> xr.Dataset:
    """Mean Spearman correlation over all pairs of seeds of the maps of one sample.

    method, options : as in ``explain``. scenes : with ``image`` and ``caption``. Returns a dataset of the ``evaluation``
    schema with ``seed_stability`` (sample, explainer), at most 1; a method that doesn't depend on its seed has 1; NaN
    where a map is flat. Raises as ``explain``, and ValueError for a method without the option ``seed``, or fewer than two
    different seeds.
    """
    found = find(method, of, options)
    check_tower(found, clip, of)
    if "seed" not in found.options or "seed" in options:
        raise ValueError(f"{method} has no seed to vary" if "seed" not in found.options else "give seeds, not seed")
    seeds = [int(seed) for seed in seeds] if isinstance(seeds, Iterable) else [seeds]
    if len(set(seeds)) < 2 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={tuple(seeds)}: at least two different ones are needed")
    images, texts = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    lengths = clip.content(texts).sum(1).numpy() if of == "text" else None
    ranks = []
    for seed in tqdm(seeds, disable=not progress, desc=f"seeds of {method}"):
        heat = explain(method, clip, images, texts, of, batch_size, seed=seed, **options)
        ranks.append(unit_ranks(listed(heat.values, lengths)))
    ranks = np.stack(ranks)
    # The squared length of a sum of vectors is the sum of all products: each with itself, and each pair twice.
    pairs = ((ranks.sum(0) ** 2).sum(-1) - (ranks**2).sum((0, 2))) / (len(seeds) * (len(seeds) - 1))
    out = xr.Dataset(coords={"sample": scenes.sample.values, "explainer": [method]})
    about = {
        "long_name": "mean Spearman correlation of maps of two seeds",
        "units": "1",
        "score_direction": "higher is better",
    }
    out["seed_stability"] = (("sample", "explainer"), pairs[:, None], about)
    parameters = {"method": method, "of": of, "seeds": list(seeds), "options": {k: repr(v) for k, v in options.items()}}
    return annotate(out, "evaluation", model=clip.name, weights_digest=clip.weights_digest, parameters=parameters)
