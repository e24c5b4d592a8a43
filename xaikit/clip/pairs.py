"""n images with a text each: checked before any work, then handed out in batches."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from ..files.checks import check_choices
from ..files.images import read_image
from .model import Clip, as_sequence, check_values_of_pixels
from .towers import tower

GRAPH = 4 << 30  # bytes that a batch's attention and graph may take, as far as it is known before; one pair always fits


class Pairs:
    """Images and their texts, in any form that ``explain`` takes.

    errors : "raise" stops at the first bad sample; "record" keeps each one's reason in ``reasons`` ("" for a good one)
        and goes on with the ``good`` ones (their indices).

    ``labels`` are the samples' names, ``tokens`` the good ones' token ids. Raises ValueError for bad images or texts, or if
    none is good, FileNotFoundError for a missing image file.

    Examples
    --------
    >>> pairs = xk.clip.Pairs(clip, scenes.image, scenes.caption)
    >>> [len(tokens) for _, tokens in pairs.batches(3)]
    [3, 1]
    """

    def __init__(self, clip: Clip, images, texts, errors: str = "raise"):
        check_choices(errors=(errors, ("raise", "record")))
        self.clip, self.errors = clip, errors
        self._images = as_sequence(images)
        self._bad = bad_of(images) or [""] * len(self._images)
        self._texts = one_each(texts, len(self._images), labels=labels_of(images))
        self.labels = np.arange(len(self)) if labels_of(images) is None else labels_of(images)
        self.reasons = self._check() if errors == "record" else [""] * len(self)
        self.good = [index for index, reason in enumerate(self.reasons) if not reason]
        if not self.good:
            raise ValueError(f"no sample can be explained; the first one: {self.reasons[0]}")
        self.tokens = clip.tokens(_take(self._texts, self.good))
        if errors == "raise":
            check_good(images)
            for index in self.good:
                self._check_image(index)

    def __len__(self) -> int:
        return len(self._images)

    def batches(self, size: int, progress: str = "") -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels and token ids of the good pairs, at most so many at once, and fewer where a large tower's attention and graph
        would take more than 4 GiB, behind a progress bar if it has a name."""
        size = max(1, min(size, GRAPH // bytes_of_graph(self.clip)))
        for start in tqdm(range(0, len(self.good), size), disable=not progress, desc=progress):
            pixels = self.clip.pixels(_take(self._images, self.good[start : start + size]))
            yield pixels, self.tokens[start : start + size]

    def spread(self, values: Tensor) -> np.ndarray:
        """Values of the good pairs (good, ...) among all (n, ...), zero for the bad ones."""
        result = torch.zeros(len(self), *values.shape[1:], dtype=values.dtype)
        result[self.good] = values
        return result.numpy()

    def words(self, longest: int) -> dict[str, tuple[tuple[str, str], np.ndarray]]:
        """Coordinates of the texts' own tokens: ``token_text`` (sample, token), empty after a text's end and for a bad pair, and,
        where a word has several tokens, ``token_word``, the place of each one's word in its text, -1 where there is none."""
        strings = np.full((len(self), longest), "", dtype=object)
        words = np.full(strings.shape, -1)
        tokens = self.tokens
        for index, row, places in zip(
            self.good, self.clip.token_strings(tokens), self.clip.token_words(tokens), strict=True
        ):
            strings[index, : len(row)], words[index, : len(row)] = row, places
        found = {"token_text": (("sample", "token"), strings.astype(str))}
        whole = np.where(strings != "", np.arange(longest), -1)
        return found if (words == whole).all() else found | {"token_word": (("sample", "token"), words)}

    def _check_image(self, index: int) -> None:
        """Raise for a bad image, with its place in the batch, without keeping its pixels."""
        images = self._images
        if isinstance(images, Tensor):
            if index == 0:
                self.clip.pixels(images[:1])
            check_values_of_pixels(images[index : index + 1], index)
        elif not (
            isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
        ):
            read_image(images[index], index)

    def _check(self) -> list[str]:
        reasons = []
        for index in range(len(self)):
            try:
                if self._bad[index]:
                    raise ValueError(self._bad[index])
                self._check_image(index)
                self.clip.tokens(self._texts[index : index + 1])
                reasons.append("")
            except (ValueError, FileNotFoundError) as error:
                reasons.append(str(error).replace("text 0", f"text {index}", 1))
        return reasons


def bytes_of_graph(clip: Clip) -> int:
    """About what the image tower keeps of one pair where all blocks' attention is kept and differentiated: three numbers
    for each of its entries and eight for each token's state, a block; 1 for a tower without blocks.

    Examples
    --------
    >>> round(xk.clip.pairs.bytes_of_graph(clip) / 1e6, 1)
    1.9
    """
    try:
        image = tower(clip, "image")
    except ValueError:
        return 1
    tokens, layer = image.grid[0] * image.grid[1] + 1, image.attentions[0]
    heads, width = getattr(layer, "num_heads", 1), next(layer.parameters()).shape[-1]
    return clip.dtype.itemsize * len(image.blocks) * (3 * heads * tokens**2 + 8 * width * tokens)


def join(parts: list[Tensor], dim: int, fill: float = 0) -> Tensor:
    """Join batches along their first dimension after padding ``dim``, their longest prompt, with ``fill``."""
    longest = max(part.shape[dim] for part in parts)
    after = [0, 0] * (parts[0].ndim - 1 - dim)  # of the dimensions behind it, last first, as F.pad counts them
    return torch.cat([F.pad(part, [*after, 0, longest - part.shape[dim]], value=fill) for part in parts])


def bad_of(images) -> list[str]:
    """Why each image can't be used, "" for a good one, as inputs of a source say in their coordinate ``error``; else nothing."""
    if isinstance(images, xr.DataArray) and "error" in images.coords and images.error.dims == ("sample",):
        return [str(each) for each in images.error.values]
    return []


def check_good(images) -> None:
    """Raise ValueError for inputs with bad samples, whose pictures are black."""
    bad = bad_of(images)
    if any(bad):
        place = next(index for index, reason in enumerate(bad) if reason)
        raise ValueError(
            f"{sum(map(bool, bad))} of {len(bad)} samples can't be used, such as {images.sample.values[place]}: {bad[place]}; leave"
            ' them out by .isel(sample=own.error == ""), or give errors="record" to explain'
        )


def labels_of(values) -> np.ndarray | None:
    """The samples' names (n,) of a DataArray, or of a Series whose index is called "sample"; None for anything else."""
    if isinstance(values, pd.Series):
        return values.index.to_numpy() if values.index.name == "sample" else None
    named = isinstance(values, xr.DataArray) and "sample" in values.indexes
    return values.sample.values if named else None


def one_each(texts, n: int, what: str = "text", labels: np.ndarray | None = None):
    """Texts, or ids as a tensor, one for each of n images; one alone is for all. labels : the images' names, in whose order
    texts that have names are put, a Series also where its index is these names. Raises ValueError for another number, or names
    of others."""
    if isinstance(texts, Tensor):
        texts = texts.expand(n, -1) if len(texts) == 1 else texts
    else:
        if texts is None:
            raise ValueError(f"{what}s=None: give a prompt for each image, or one for all")
        own = labels_of(texts)
        if own is None and labels is not None and isinstance(texts, pd.Series) and {*texts.index} == {*labels.tolist()}:
            own = texts.index.to_numpy()  # of a table that was sorted, say
        try:
            texts = np.asarray(texts).item() if getattr(texts, "ndim", 1) == 0 else texts
            texts = [texts] if isinstance(texts, str) else list(getattr(texts, "values", texts))
        except TypeError:
            raise ValueError(f"{what}s={texts!r}: give strings, one for each image or one for all") from None
        texts = texts * n if len(texts) == 1 else texts
        if own is not None and labels is not None and len(own) == len(texts) == n:
            texts = [texts[place] for place in _places(own, labels, what)]
    if len(texts) != n:
        raise ValueError(f"{n} images but {len(texts)} {what}s: give one {what} an image, or one for all")
    return texts


def _places(own: np.ndarray, labels: np.ndarray, what: str) -> np.ndarray:
    """Where among one's own names these stand."""
    if np.array_equal(own, labels):
        return np.arange(len(labels))
    places = pd.Index(own).get_indexer(labels) if pd.Index(own).is_unique else np.array([-1])
    if (places < 0).any() or len({*places}) < len(labels):
        raise ValueError(
            f"the {what}s are of the samples {_listed(own)}, but the images of {_listed(labels)}: give those of the same"
        )
    return places


def _listed(labels: np.ndarray) -> str:
    return ", ".join(map(str, labels[:3])) + (", ..." if len(labels) > 3 else "")


def _take(items, index: list[int]):
    return items[index] if isinstance(items, Tensor | np.ndarray) else [items[i] for i in index]
