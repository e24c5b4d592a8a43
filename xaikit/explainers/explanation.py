"""``explain``: any methods on any number of images and texts, in batches."""

import time
from collections.abc import Sequence

import numpy as np
import xarray as xr
from torch import Tensor

from ..clip.model import Clip
from ..clip.pairs import Pairs, join
from ..clip.score import computed_once
from ..clip.towers import tower
from ..files.checks import Choices, check_whole
from .registry import NEEDS, Chosen, all_methods, choose, explaining


def methods() -> dict[str, dict[str, object]]:
    """What can be called: for each method what it explains, its options with defaults, what it needs of a tower,
    whether it depends on a seed, whether its values promise to add up, and its source.

    Examples
    --------
    >>> methods()["rise"]["options"]["masks"]
    256
    """
    return {
        m.name: {
            "explains": m.sides,
            "options": m.options,
            "needs": NEEDS[m.needs][1],
            "stochastic": m.stochastic,
            "complete": m.complete,
            "source": m.source,
        }
        for m in all_methods().values()
    }


def explain(
    method: Choices,
    clip: Clip,
    images,
    texts,
    of: str = "image",
    batch_size: int = 64,
    progress: bool = False,
    errors: str = "raise",
    **options,
) -> xr.DataArray:
    """Explain the similarity of each image with its text, by one method or by several.

    Parameters
    ----------
    method : a name of ``methods()``; or several, as a list of names or as labels of your own with a name and its
        options each, ``{"mmel": "mmel", "MMEL, all blocks": ("mmel", {"blocks": None})}``.
    images : n images as uint8 arrays (H, W, 3), PIL images, paths, an ``image`` DataArray, or preprocessed
        float pixels (n, 3, H, W) as a tensor.
    texts : n prompts, one for all, or token ids (n, context) as a tensor.
    of : "image" for a map over the patches, "text" for a value a word.
    batch_size : pairs computed at once; bounds the memory and does not change the result.
    progress : show a progress bar.
    errors : "raise" stops at the first bad sample before anything is computed; "record" gives it a map of
        zeros, its reason in the coordinate ``error``, and goes on.
    **options : of the method, or of each of several that doesn't say otherwise itself; see ``methods()``.

    Returns
    -------
    DataArray (sample, row, col) on the patch grid, or (sample, token) over the prompt's own tokens, in order,
    zero after a shorter prompt's end, with their strings as the coordinate ``token_text`` (and, where a word has several,
    ``token_word``, which word of its text each is a piece of). Of several methods, be it a
    list of one, (sample, explainer, row, col) or (sample, explainer, token), with the labels as coordinate. Images and
    texts are prepared once for all of them; the other side's embedding, and a recording that several need one after the other,
    are computed once.

    Raises ValueError, in one sentence and before any work, for an unknown method, option or side, and for bad
    images or texts; FileNotFoundError for a missing image file. A map that isn't finite is an error of its sample, too.

    Examples
    --------
    >>> import xaikit as xk
    >>> clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)
    >>> xk.explain("edge", clip, scenes.image, scenes.caption).shape
    (2, 8, 8)
    >>> both = {"last block": "grad_eclip", "all blocks": ("grad_eclip", {"blocks": None})}
    >>> xk.explain(both, clip, scenes.image, scenes.caption).explainer.values.tolist()
    ['last block', 'all blocks']
    """
    chosen = choose(method, clip, of, options)
    check_whole(1, batch_size=batch_size)
    pairs = Pairs(clip, images, texts, errors)
    bar = "" if not progress else method if isinstance(method, str) else "methods"
    with computed_once():
        maps, _ = maps_of_pairs(chosen, clip, pairs, of, batch_size, bar)
    heat = _together(maps, chosen, of, pairs)
    if not isinstance(method, str):
        return heat
    about = {"long_name": f"{method} of the {of}", "source": chosen[0].method.source, "explainer": method}
    return heat.isel(explainer=0, drop=True).assign_attrs(about)


def explain_all(
    clip: Clip,
    images,
    texts,
    methods: Choices | None = None,
    of: str = "image",
    batch_size: int = 64,
    progress: bool = False,
    errors: str = "raise",
) -> xr.Dataset:
    """Explain the same pairs with many methods, and say how long each took.

    methods : as in ``explain``; None for all that can explain this side of this model. The rest, and what is raised, as in
    ``explain``.

    Returns a dataset with ``heat`` (sample, explainer, row, col), or ``word_heat`` (sample, explainer, token), and
    ``seconds`` (explainer), the wall time a sample, preprocessing included.

    Examples
    --------
    >>> import xaikit as xk
    >>> clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)
    >>> dict(xk.explain_all(clip, scenes.image, scenes.caption, ["edge", "centre"]).heat.sizes)
    {'sample': 2, 'explainer': 2, 'row': 8, 'col': 8}
    """
    chosen = choose([*explaining(clip, of)] if methods is None else methods, clip, of)
    check_whole(1, batch_size=batch_size)
    start = time.perf_counter()
    pairs = Pairs(clip, images, texts, errors)
    maps, own = maps_of_pairs(chosen, clip, pairs, of, batch_size, "methods" if progress else "")
    shared = time.perf_counter() - start - sum(own)
    together = _together(maps, chosen, of, pairs)
    taken = {"long_name": "time to explain one sample", "units": "second"}
    seconds = ("explainer", (np.array(own) + shared) / len(pairs), taken)
    return xr.Dataset({together.name: together, "seconds": seconds})


def maps_of_pairs(
    chosen: Sequence[Chosen], clip: Clip, pairs: Pairs, of: str, batch_size: int, bar: str = ""
) -> tuple[np.ndarray, list[float]]:
    """The maps of all methods (n, explainers, ...), finite or not, and the seconds that each one took."""
    maps, seconds = [[] for _ in chosen], [0.0] * len(chosen)
    grid = dict(zip(("rows", "cols"), tower(clip, of).grid or (), strict=False))  # a text has none
    for pixels, tokens in pairs.batches(batch_size, bar):
        own = grid or {"content tokens": int(clip.content(tokens).sum(1).max())}
        for place, one in enumerate(chosen):
            start = time.perf_counter()
            found = one.method.function(clip, pixels, tokens, of=of, **one.options)
            maps[place].append(one.method.checked(found, Tensor, {"samples": len(pixels)} | own).float().cpu())
            seconds[place] += time.perf_counter() - start
    return np.stack([pairs.spread(join(parts, 1)) for parts in maps], 1), seconds


def _check_finite(maps: np.ndarray, chosen: Sequence[Chosen], pairs: Pairs) -> None:
    """Raise ValueError for a map that holds NaN or infinite values, or record it as its sample's reason and leave zeros."""
    finite = np.isfinite(maps).all(tuple(range(2, maps.ndim)))
    for sample, place in np.argwhere(~finite):
        dtype, one = str(pairs.clip.dtype).removeprefix("torch."), chosen[place]
        given = f" with {', '.join(f'{name}={value!r}' for name, value in one.options.items())}" if one.options else ""
        reason = f"the map of sample {sample} by {one.label}{given} isn't finite in {dtype}: give other options or a precision"
        if pairs.errors == "raise":
            raise ValueError(reason)
        pairs.reasons[sample], maps[sample, place] = reason, 0


def _together(maps: np.ndarray, chosen: list[Chosen], of: str, pairs: Pairs) -> xr.DataArray:
    _check_finite(maps, chosen, pairs)
    dims = ("sample", "explainer", *(("row", "col") if of == "image" else ("token",)))
    coords = {dim: np.arange(size) for dim, size in zip(dims, maps.shape, strict=True)}
    coords |= {"sample": pairs.labels, "explainer": [one.label for one in chosen]}
    if of == "text":
        coords |= pairs.words(maps.shape[2])
    if pairs.errors == "record":
        coords["error"] = ("sample", np.array(pairs.reasons, dtype=str))
    name, attrs = "heat" if of == "image" else "word_heat", {"long_name": f"heat of the {of}", "units": "1"}
    return xr.DataArray(maps, coords, dims, name=name, attrs=attrs)
