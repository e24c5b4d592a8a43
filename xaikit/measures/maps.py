"""Maps by themselves: what metrics ask of them; their order, threshold, parts and entropy; and how alike two of them are."""

import numpy as np
import xarray as xr
from scipy.ndimage import label
from scipy.stats import rankdata
from skimage.metrics import structural_similarity

KINDS = ({"row", "col"}, {"token"})


def checked(heat: xr.DataArray, scenes: xr.Dataset, what: str = "maps") -> xr.DataArray:
    """Maps as (sample, explainer, row, col) or (sample, explainer, token), with an explainer where there was none.

    Raises ValueError, in one sentence, for anything but real and finite values with these dimensions, of the same
    samples as the scenes. what: what they are called there.
    """
    if not isinstance(heat, xr.DataArray):
        raise ValueError(f"the {what} are a {type(heat).__name__}: give a DataArray, such as explain_all(...).heat")
    if not isinstance(scenes, xr.Dataset):
        raise ValueError(
            f"the scenes are a {type(scenes).__name__}: give a dataset, such as open_source(...).inputs(clip=clip) of own pictures"
        )
    if "explainer" not in heat.dims:
        heat = heat.expand_dims({"explainer": [heat.attrs.get("explainer", "heat")]})
    place = set(heat.dims) - {"sample", "explainer"}
    if "sample" not in heat.dims or place not in KINDS:
        raise ValueError(
            f"the {what} have the dimensions {heat.dims}: sample, row and col, or sample and token, are needed"
        )
    heat = heat.transpose("sample", "explainer", *(("token",) if "token" in place else ("row", "col")))
    if not np.array_equal(heat.sample, scenes.sample):
        raise ValueError(
            f"the {what} are of {heat.sizes['sample']} samples but the scenes of {scenes.sizes['sample']}, or of others"
        )
    if heat.dtype.kind not in "fiu":
        raise ValueError(f"the {what} hold values of type {heat.dtype}: real numbers are needed")
    finite = np.isfinite(heat.values).reshape(len(heat), -1).all(1)
    if not finite.all():
        bad = heat.sample.values[~finite][0]
        raise ValueError(f"the map of sample {bad} holds NaN or infinite values: all must be finite")
    return heat if heat.dtype.kind == "f" else heat.astype(float)


def by_explainer(answers: xr.Dataset, several: bool = False) -> xr.Dataset:
    """What ``explain_tokens`` gives, with the dimension ``explainer`` where there is one only. several : whether the answers may
    be about several images; ValueError where these aren't asked for."""
    if "image" in answers.token_heat.dims and not several:
        raise ValueError("answers about several images: choose one, such as answers.isel(image=0)")
    if "explainer" in answers.token_heat.dims:
        return answers
    label = {"explainer": [answers.token_heat.attrs.get("explainer", "map")]}
    names = {"token_heat", "rank_overlap"} & {*answers}
    return answers.assign({name: answers[name].expand_dims(label, 1) for name in names})


def check_values(heat: np.ndarray, n: int, of: str) -> None:
    """Raise ValueError for bare values that aren't (n, explainers, rows, cols), or for "text" (n, explainers, tokens),
    or aren't finite."""
    wanted = "(n, explainers, rows, cols)" if of == "image" else "(n, explainers, tokens)"
    if heat.ndim != (4 if of == "image" else 3) or len(heat) != n:
        raise ValueError(f"heat of shape {heat.shape}: {wanted} of the {n} samples is needed")
    if heat.dtype.kind not in "fiu" or not np.isfinite(heat).all():
        raise ValueError("the heat holds NaN or infinite values, or no real numbers: all must be finite")


def ranks(heat: np.ndarray, seed: int = 0) -> np.ndarray:
    """Place of each patch from hottest (0) to coldest, (..., rows * cols); ties in one random order for all."""
    flat = heat.reshape(*heat.shape[:-2], -1)
    shuffle = np.random.default_rng(seed).permutation(flat.shape[-1])
    order = shuffle[np.argsort(-flat[..., shuffle], axis=-1, kind="stable")]
    return np.argsort(order, axis=-1)


def word_ranks(heat: np.ndarray, lengths: np.ndarray, seed: int = 0) -> np.ndarray:
    """Place of each of a prompt's own tokens (n, explainers, tokens) from hottest (0) to coldest, what follows its end
    last. lengths (n,). Ties fall in an order that doesn't depend on the other prompts."""
    place = np.arange(heat.shape[-1])
    tie = np.broadcast_to(np.random.default_rng(seed).random(heat.shape[-1]), heat.shape)
    after = np.broadcast_to((place >= lengths[:, None])[:, None], heat.shape)
    return np.argsort(np.lexsort((tie, -heat, after), axis=-1), axis=-1)


def auroc(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """How often, over all pairs along the first axis, a value of ``high`` (n, ...) is above one of ``low`` (m, ...);
    ties count half."""
    together = np.moveaxis(np.concatenate([high, low]), 0, -1)
    return right_above_wrong(together, np.arange(together.shape[-1]) < len(high))


def right_above_wrong(values: np.ndarray, right: np.ndarray, counted: np.ndarray | bool = True) -> np.ndarray:
    """How often, over all pairs along the last axis of one right and one wrong value (..., places), the right one is the
    higher; ties count half. counted : the values that are compared. NaN where there is no such pair."""
    right, wrong = right & counted, ~right & counted
    rank = rankdata(np.where(right | wrong, values, np.inf), axis=-1)  # the others behind all
    count, pairs = right.sum(-1), right.sum(-1) * wrong.sum(-1)
    above = (rank * right).sum(-1) - count * (count + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)


def otsu_threshold(heat: np.ndarray) -> np.ndarray:
    """The value (...) that splits a map's values into two classes with the largest variance between them:
    the middle between the two values at the split. Source: Otsu 1979, without a histogram."""
    values = np.sort(heat.reshape(*heat.shape[:-2], -1), axis=-1)
    count = values.shape[-1]
    below = np.arange(1, count)
    mean_below = values.cumsum(-1)[..., :-1] / below
    mean_above = (values.sum(-1, keepdims=True) - values.cumsum(-1)[..., :-1]) / (count - below)
    between = below * (count - below) * (mean_below - mean_above) ** 2
    split = between.argmax(-1)[..., None]
    pair = np.take_along_axis(values, split, -1) + np.take_along_axis(values, split + 1, -1)
    return (pair / 2)[..., 0]


_NEIGHBOURS = np.zeros((3, 3, 3), int)  # up, down, left and right, never another map
_NEIGHBOURS[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


def fragments(heat: np.ndarray) -> np.ndarray:
    """Number (...) of connected parts of the cells above Otsu's threshold, of maps (..., rows, cols).

    Cells touch along edges, not at corners. A flat map, which has nothing above its threshold, has 0.
    """
    hot = (heat > otsu_threshold(heat)[..., None, None]).reshape(-1, *heat.shape[-2:])
    parts, _ = label(hot, _NEIGHBOURS)
    numbers, first = np.unique(parts, return_index=True)
    owner = first[numbers > 0] // max(hot[:1].size, 1)
    return np.bincount(owner, minlength=len(hot)).reshape(heat.shape[:-2])


def spread(heat: np.ndarray) -> np.ndarray:
    """Entropy (...) in nat of the positive heat as a distribution over the cells of maps (..., rows, cols).

    0 for a single hot cell, log(rows * cols) for a flat map and for one without heat.
    """
    flat = np.maximum(heat, 0).reshape(*heat.shape[:-2], -1)
    total = flat.sum(-1, keepdims=True)
    share = np.where(total > 0, flat / np.where(total > 0, total, 1), 1 / flat.shape[-1])
    return -(share * np.log(np.where(share > 0, share, 1))).sum(-1)


def spatial_entropy(maps: np.ndarray) -> np.ndarray:
    """Entropy in nat (sample, time) of maps (sample, time, token, row, col), clipped at 0 and divided by their sum, mean
    over the tokens that have a map other than 0 at any time; see ``phases``."""
    there = (maps != 0).any((1, 3, 4))
    each = spread(maps)
    tokens = there.sum(1)[:, None]
    return np.where(tokens > 0, (each * there[:, None]).sum(-1) / np.maximum(tokens, 1), np.nan)


def listed(values: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Values (n, places), NaN after a prompt's end."""
    values = values.reshape(len(values), -1).astype(float)
    return values if lengths is None else np.where(np.arange(values.shape[1]) < lengths[:, None], values, np.nan)


def unit_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, centred and of length 1, so that a product of two is their Spearman correlation.
    NaN values are left out; a flat row is all NaN, since it has no order."""
    rank = rankdata(values, axis=-1, nan_policy="omit")
    there = np.isfinite(rank)
    mean = np.where(there, rank, 0).sum(-1, keepdims=True) / np.maximum(there.sum(-1, keepdims=True), 1)
    centred = np.where(there, rank - mean, 0)
    length = np.sqrt((centred**2).sum(-1, keepdims=True))
    return np.where(length == 0, np.nan, centred / np.where(length == 0, 1, length))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman correlation (...) of values (..., places), over the places that both have; NaN where one is flat."""
    return (unit_ranks(first) * unit_ranks(second)).sum(-1)


def map_ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity (n,) of maps (n, rows, cols), each stretched to reach from 0 to 1, in windows of 7 x 7
    patches, or less where the grid is smaller. Source: Wang et al. 2004, by scikit-image."""
    window = min(7, *(size - 1 + size % 2 for size in first.shape[1:]))
    if window < 3:
        return np.full(len(first), np.nan)
    pair = []
    for values in (first, second):
        low, high = (bound((1, 2), keepdims=True) for bound in (values.min, values.max))
        pair.append((values - low).astype(float) / np.where(high > low, high - low, 1))
    _, everywhere = structural_similarity(*pair, win_size=window, data_range=1.0, channel_axis=0, full=True)
    margin = (window - 1) // 2
    rows, cols = first.shape[1:]
    return everywhere[:, margin : rows - margin, margin : cols - margin].mean((1, 2))
