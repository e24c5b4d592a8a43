"""``explain``: any method on any number of images and texts, in batches."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from .clip import Clip
from .explainers.registry import NEEDS, all_methods, check_tower, explaining, find


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
    if errors not in ("raise", "record"):
        raise ValueError(f"errors={errors!r}: choose 'raise' or 'record'")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: a whole number of at least 1 is needed")
    labels = images.sample.values if isinstance(images, xr.DataArray) and "sample" in images.coords else None
    images = _as_sequence(images)
    texts = _one_each(texts, len(images))
    reasons = _check_samples(clip, images, texts) if errors == "record" else [""] * len(images)
    good = [index for index, reason in enumerate(reasons) if not reason]
    if not good:
        raise ValueError(f"no sample can be explained; the first one: {reasons[0]}")
    tokens = clip.tokens(_take(texts, good))
    if errors == "raise":
        for index in good:
            _check_image(clip, images, index)
    found_maps = []
    for start in tqdm(range(0, len(good), batch_size), disable=not progress, desc=method):
        part = good[start : start + batch_size]
        pixels = clip.pixels(_take(images, part))
        found_maps.append(
            found.function(clip, pixels, tokens[start : start + batch_size], of=of, **options).float().cpu()
        )
    values = _join(found_maps)
    result = torch.zeros(len(images), *values.shape[1:])
    result[good] = values
    return _labelled(result.numpy(), found, of, clip, _take(texts, good), good, labels, reasons, errors)


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


def _as_sequence(images) -> Sequence | Tensor:
    if isinstance(images, Tensor):
        return images
    images = getattr(images, "values", images)
    single = not isinstance(images, np.ndarray | list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 3)
    images = [images] if single else images
    if len(images) == 0:
        raise ValueError("no image was given: at least one is needed")
    return images


def _one_each(texts, n: int):
    if isinstance(texts, Tensor):
        texts = texts.expand(n, -1) if len(texts) == 1 else texts
    else:
        if texts is None:
            raise ValueError("texts=None: give a prompt for each image, or one for all")
        texts = [texts] if isinstance(texts, str) else list(getattr(texts, "values", texts))
        texts = texts * n if len(texts) == 1 else texts
    if len(texts) != n:
        raise ValueError(f"{n} images but {len(texts)} texts: give one text an image, or one for all")
    return texts


def _take(items, index: list[int]):
    return items[index] if isinstance(items, Tensor | np.ndarray) else [items[i] for i in index]


def _check_image(clip: Clip, images, index: int) -> None:
    """Raise for a bad image, with its place in the batch, without keeping its pixels."""
    if isinstance(images, Tensor):
        if index == 0:
            clip.pixels(images[:1])
        if not torch.isfinite(images[index]).all():
            raise ValueError(f"image {index} holds NaN or infinite pixels: all must be finite")
    elif not (
        isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
    ):
        from .images import read_image

        read_image(images[index], index)


def _check_samples(clip: Clip, images, texts) -> list[str]:
    reasons = []
    for index in range(len(images)):
        try:
            _check_image(clip, images, index)
            clip.tokens(texts[index : index + 1])
            reasons.append("")
        except (ValueError, FileNotFoundError) as error:
            reasons.append(str(error).replace("text 0", f"text {index}", 1))
    return reasons


def _join(parts: list[Tensor]) -> Tensor:
    """Join batches, whose longest prompts may differ."""
    if parts[0].ndim == 2:
        longest = max(part.shape[1] for part in parts)
        parts = [torch.nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts]
    return torch.cat(parts)


def _labelled(values, found, of, clip, texts, good, labels, reasons, errors) -> xr.DataArray:
    dims = ("sample", "row", "col") if of == "image" else ("sample", "token")
    coords = {dim: np.arange(size) for dim, size in zip(dims, values.shape, strict=True)}
    if labels is not None:
        coords["sample"] = labels
    if of == "text":
        strings = np.full(values.shape, "", dtype=object)
        for index, words in zip(good, clip.token_strings(texts), strict=True):
            strings[index, : len(words)] = words
        coords["token_text"] = (dims, strings.astype(str))
    if errors == "record":
        coords["error"] = ("sample", np.array(reasons, dtype=str))
    name = "heat" if of == "image" else "word_heat"
    attrs = {"long_name": f"{found.name} of the {of}", "units": "1", "source": found.source, "explainer": found.name}
    return xr.DataArray(values, coords, dims, name=name, attrs=attrs)
