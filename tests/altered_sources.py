"""Sources like others, but for what a test changes, and methods that know the planted truth."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import torch
import xarray as xr

from xaikit.clip.towers import tower
from xaikit.explainers import registry
from xaikit.measures.words import content_words
from xaikit.samples.source import Source

SMALL = 8  # samples of a block, so that a few scenes make several


def small_blocks(monkeypatch):
    """Blocks of planted scenes, and of all that is computed in parts, of ``SMALL`` samples."""
    for module in ("source", "layouts"):
        monkeypatch.setattr(f"xaikit.samples.{module}.BLOCK", SMALL)


@dataclass(frozen=True, eq=False)
class Altered(Source):
    """Another source whose samples ``change`` alters, a function of the dataset and the rows (n,) of these samples."""

    inner: Source = None
    change: Callable = None

    def digest(self, rows=slice(None)):
        return self.inner.digest(rows)

    def inputs(self, rows=slice(None), clip=None, size=224):
        return self.change(self.inner.inputs(rows, clip, size), np.arange(len(self))[rows])


def altered(inner: Source, change: Callable) -> Altered:
    return Altered(inner.layout, inner.labels, inner.classes, inner.prompts, inner.about, inner, change)


def held(inner: Source) -> Altered:
    """The same source, drawn once."""
    drawn = inner.inputs()
    once = altered(inner, lambda ds, rows: drawn.isel(sample=rows))
    return replace(once, inner=SimpleNamespace(digest=inner.digest, inputs=lambda *given: None))


def spoiled(inner: Source, *bad: int) -> Altered:
    """The same source, but the samples at these places are bad: black, with a reason."""

    def change(ds: xr.Dataset, rows: np.ndarray) -> xr.Dataset:
        hit = np.isin(rows, bad)
        images = np.where(hit[:, None, None, None], 0, ds.image).astype(np.uint8)
        return ds.assign(image=(ds.image.dims, images)).assign_coords(
            error=("sample", np.where(hit, "the file is broken", ""))
        )

    return altered(inner, change)


def with_foils(inner: Source) -> Altered:
    """The same source, each sample of which has the other image of its pair as foil image."""
    images = inner.inputs().image
    return altered(inner, lambda ds, rows: ds.assign(foil_image=(images.dims, images.values[rows ^ 1])))


def knowing(monkeypatch, *scenes: xr.Dataset) -> None:
    """Register the methods "truth", heat where the named objects of these scenes are or on the content words, and
    "inverse"."""
    known = {}
    for ds in scenes:
        mask = (ds.object_mask & ds.object_named).any("object").values
        size = mask.shape[1] // 8
        heat = mask.reshape(-1, 8, size, 8, size).mean((2, 4))
        known |= {image.tobytes(): torch.tensor(one) for image, one in zip(ds.image.values, heat, strict=True)}

    def truth(clip, pixels, tokens, *, of):
        if of == "image":
            return torch.stack([known[image.tobytes()] for image in clip.colours(pixels)])
        words = clip.token_strings(tokens)
        table = np.array([one + [""] * (max(map(len, words)) - len(one)) for one in words])
        early = 0.01 * np.arange(table.shape[1])  # no ties: confidence keeps what is above the median
        return torch.from_numpy(content_words(table) - early)

    def inverse(clip, pixels, tokens, *, of):
        return -truth(clip, pixels, tokens, of=of)

    monkeypatch.setattr(registry.METHODS, "_entries", registry.METHODS.all())
    for function in (truth, inverse):
        registry.method(("image", "text"), "planted truth", needs="tokens")(function)


def breaking(monkeypatch, place: int) -> None:
    """Register the method "broken": noise, but NaN for the sample at this place of what it is given."""

    def broken(clip, pixels, tokens, *, of):
        shape = tower(clip, "image").grid if of == "image" else (int(clip.content(tokens).sum(1).max()),)
        heat = torch.rand(len(pixels), *shape, generator=torch.Generator().manual_seed(0))
        heat[place] = float("nan")
        return heat

    monkeypatch.setattr(registry.METHODS, "_entries", registry.METHODS.all())
    registry.method(("image", "text"), "a method that fails", needs="tokens")(broken)
