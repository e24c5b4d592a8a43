"""``explain``: any method on any number of images and texts, in batches."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from ..clip.model import Clip
from ..clip.pairs import Pairs, join
from ..files.checks import check_whole
from .registry import NEEDS, Method, all_methods, check_tower, explaining, find


def methods() -> dict[str, dict[str, object]]:
    """What can be called: for each method what it explains, its options with defaults, what it needs of a tower,
    whether it depends on a seed, whether its values promise to add up, and its source."""
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
    method: str,
    clip: Clip,
    images,
    texts,
    of: str = "image",
    batch_size: int = 64,
    progress: bool = False,
    errors: str = "raise",
    **options,
) -> xr.DataArray:
    """Explain the similarity of each image with its text.

    Parameters
    ----------
    method : a name of ``methods()``.
    images : n images as uint8 arrays (H, W, 3), PIL images, paths, an ``image`` DataArray, or preprocessed
        float pixels (n, 3, H, W) as a tensor.
    texts : n prompts, one for all, or token ids (n, context) as a tensor.
    of : "image" for a map over the patches, "text" for a value a word.
    batch_size : pairs computed at once; bounds the memory and does not change the result.
    progress : show a progress bar.
    errors : "raise" stops at the first bad sample before anything is computed; "record" gives it a map of
        zeros, its reason in the coordinate ``error``, and goes on.
    **options : of the method; see ``methods()``.

    Returns
    -------
    DataArray (sample, row, col) on the patch grid, or (sample, token) over the prompt's own tokens, in order,
    zero after a shorter prompt's end, with their strings as the coordinate ``token_text``.

    Raises ValueError, in one sentence and before any work, for an unknown method, option or side, and for bad
    images or texts; FileNotFoundError for a missing image file.
    """
    found = find(method, of, options)
    check_tower(found, clip, of)
    check_whole(1, batch_size=batch_size)
    pairs = Pairs(clip, images, texts, errors)
    maps = [
        found.function(clip, pixels, tokens, of=of, **options).float().cpu()
        for pixels, tokens in pairs.batches(batch_size, method if progress else "")
    ]
    return _labelled(pairs.spread(join(maps, 1)), found, of, pairs)


def explain_all(
    clip: Clip,
    images,
    texts,
    methods: Sequence[str] | None = None,
    of: str = "image",
    options: dict[str, dict] | None = None,
    batch_size: int = 64,
    progress: bool = False,
    errors: str = "raise",
) -> xr.Dataset:
    """Explain the same pairs with many methods.

    methods : names of ``methods()``; None for all that can explain this side of this model. options : of single
    methods, such as ``{"rise": {"seed": 1}}``. The rest as in ``explain``.

    Returns
    -------
    Dataset with ``heat`` (sample, explainer, row, col), or ``word_heat`` (sample, explainer, token), and ``seconds``
    (explainer), the wall time a sample, preprocessing included.

    Raises as ``explain``; for an unknown method or option, or a tower that one can't explain, before any work.
    """
    names = list(explaining(clip, of)) if methods is None else methods
    if isinstance(names, str) or not names or len({*names}) < len(names):
        raise ValueError(f"methods={methods!r}: give a list of different names, at least one, or None for all")
    options = options or {}
    if not isinstance(options, Mapping) or not all(isinstance(chosen, Mapping) for chosen in options.values()):
        raise ValueError(f'options={options!r}: give them by method, such as {{"rise": {{"seed": 1}}}}')
    texts = texts if texts is None or isinstance(texts, str | Tensor) else list(getattr(texts, "values", texts))
    unused = [name for name in options if name not in names]
    if unused:
        raise ValueError(f"options of {unused[0]!r}, which isn't among the methods: {', '.join(names)}")
    for name in names:
        check_tower(find(name, of, options.get(name, {})), clip, of)
    maps, seconds = [], []
    for name in tqdm(names, disable=not progress, desc="methods"):
        start = time.perf_counter()
        heat = explain(name, clip, images, texts, of, batch_size, errors=errors, **options.get(name, {}))
        seconds.append((time.perf_counter() - start) / len(heat))
        maps.append(heat.drop_attrs().expand_dims(explainer=[name], axis=1))
    together = xr.concat(maps, "explainer").assign_attrs(long_name=f"heat of the {of}", units="1")
    taken = {"long_name": "time to explain one sample", "units": "second"}
    return xr.Dataset({together.name: together, "seconds": ("explainer", seconds, taken)})


def _labelled(values: np.ndarray, found: Method, of: str, pairs: Pairs) -> xr.DataArray:
    dims = ("sample", "row", "col") if of == "image" else ("sample", "token")
    coords = {dim: np.arange(size) for dim, size in zip(dims, values.shape, strict=True)}
    coords["sample"] = pairs.labels
    if of == "text":
        coords["token_text"] = (dims, pairs.words(values.shape[1]))
    if pairs.errors == "record":
        coords["error"] = ("sample", np.array(pairs.reasons, dtype=str))
    name = "heat" if of == "image" else "word_heat"
    attrs = {"long_name": f"{found.name} of the {of}", "units": "1", "source": found.source, "explainer": found.name}
    return xr.DataArray(values, coords, dims, name=name, attrs=attrs)
