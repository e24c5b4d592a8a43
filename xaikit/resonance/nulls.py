"""What the spectrum of a trajectory looks like where there is nothing to find.

Every transient has a spectrum, so that a peak means something only above the band of spectra that the same recursion gives
with shuffled weights, and with the captions of other images.
"""

import dataclasses

import numpy as np
import pandas as pd
import torch
import xarray as xr
from tqdm import tqdm

from ..clip.model import Clip, copied
from ..files.checks import check_names, check_whole
from ..files.store import annotate
from .recursion import SOURCE, Recursion, read, ready, recursion_of, trajectory
from .spectra import ITERATIONS, fourier

NULLS = ("weights", "captions")
BAND = (0.025, 0.975)


def null_spectra(
    clip: Clip,
    images,
    texts,
    draws: int = 20,
    nulls: tuple[str, ...] = NULLS,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
    **options,
) -> xr.Dataset:
    """The spectrum of each pair's trajectory beside that of nulls.

    images, texts, batch_size, progress : as in ``explain``. draws : of each null. nulls : "weights" (every weight tensor of
    both towers shuffled within itself) and "captions" (each image with another one's, so that at least two are needed).
    options : of ``Recursion``, of at least 8 iterations.

    Returns a dataset of the ``null_spectra`` schema: over (sample, frequency) ``mean_amplitude``, the root mean square over
    words and patches of the detrended trajectory's amplitudes, and ``energy_share``, each frequency's share of their
    squares; over (null, draw, frequency) the means over samples of both, ``null_amplitude`` and ``null_share``. Raises as
    ``resonate``, and for a wrong null.

    Examples
    --------
    >>> found = xk.resonance.null_spectra(clip, scenes.image, scenes.caption, draws=2)
    >>> found.null_share.dims
    ('null', 'draw', 'frequency')
    """
    recursion = recursion_of(options)
    check_whole(ITERATIONS, iterations=recursion.iterations)
    check_whole(1, draws=draws)
    check_whole(0, seed=seed)
    check_names(NULLS, nulls=nulls)
    pairs = ready(clip, images, texts, batch_size)
    if "captions" in nulls and len(pairs.good) < 2:
        raise ValueError("one pair only: shuffled captions need at least 2")
    frequency = torch.fft.rfftfreq(recursion.iterations + 1)[1:].double().numpy()
    own = _amplitudes(clip, pairs, recursion, batch_size)
    drawn = np.zeros((len(nulls), draws, 2, len(frequency)))
    order = np.random.default_rng(seed)
    for draw in tqdm(range(draws), disable=not progress, desc=f"nulls, {recursion.coupling}"):
        for index, null in enumerate(nulls):
            model = shuffled_weights(clip, seed + draw) if null == "weights" else clip
            exchange = None if null == "weights" else _another(len(pairs.good), order)
            drawn[index, draw] = np.stack(_amplitudes(model, pairs, recursion, batch_size, exchange)).mean(1)
    out = xr.Dataset(coords={"frequency": frequency, "sample": pairs.labels[pairs.good], "null": list(nulls)})
    for index, name in enumerate(("amplitude", "share")):
        out["mean_amplitude" if name == "amplitude" else "energy_share"] = ("sample", "frequency"), own[index]
        out[f"null_{name}"] = ("null", "draw", "frequency"), drawn[:, :, index]
    parameters = {**dataclasses.asdict(recursion), "draws": int(draws), "null_seed": int(seed)}
    return annotate(out, "null_spectra", made_by=clip, source=SOURCE, parameters=parameters)


def peaks(spectra: xr.Dataset) -> pd.DataFrame:
    """A row a frequency: the mean share of the energy, the band of each null (the middle 95 % of its draws), whether the
    share lies above every band, whether it stands out from its neighbours, and whether it is a peak, which is both.

    The lowest frequency has no neighbour below and can't stand out: what a slow transient leaves ends there.

    Examples
    --------
    >>> found = xk.resonance.null_spectra(clip, scenes.image, scenes.caption, draws=2)
    >>> xk.resonance.peaks(found).columns[-1]
    'peak'
    """
    share = spectra.energy_share.mean("sample").values
    table = pd.DataFrame({"frequency": spectra.frequency.values, "energy_share": share})
    above = np.ones(len(share), bool)
    for null in spectra.null.values:
        low, high = np.quantile(spectra.null_share.sel(null=null).values, BAND, axis=0)
        table[f"{null}_low"], table[f"{null}_high"] = low, high
        above &= share > high
    table["above_band"] = above
    table["stands_out"] = stands_out(share)
    table["peak"] = table.above_band & table.stands_out
    return table


def stands_out(share: np.ndarray) -> np.ndarray:
    """Whether each share (..., frequency) is above its neighbours'. The lowest frequency has none below and can't be."""
    outside = [(0, 0)] * (share.ndim - 1)
    before = np.pad(share[..., :-1], [*outside, (1, 0)], constant_values=np.inf)
    after = np.pad(share[..., 1:], [*outside, (0, 1)], constant_values=-np.inf)
    return (share > before) & (share > after)


@torch.no_grad()
def shuffled_weights(clip: Clip, seed: int) -> Clip:
    """A copy with the values of every weight tensor in random order: the same distribution, nothing learnt.

    Examples
    --------
    >>> xk.resonance.shuffled_weights(clip, seed=0).weights_digest == clip.weights_digest
    False
    """
    broken = copied(clip)
    draw = torch.Generator().manual_seed(int(seed))
    for weight in broken.model.parameters():
        order = torch.randperm(weight.numel(), generator=draw).to(weight.device)
        weight.copy_(weight.flatten()[order].view_as(weight))
    return broken


def _another(n: int, rng: np.random.Generator) -> np.ndarray:
    """A partner for each of n, never itself: the next one on a random circle."""
    circle = rng.permutation(n)
    partner = np.empty(n, int)
    partner[circle] = np.roll(circle, 1)
    return partner


def _amplitudes(clip: Clip, pairs, recursion: Recursion, batch_size: int, exchange: np.ndarray | None = None):
    """Root mean square amplitude and share of the energy by frequency, two arrays (good pairs, frequencies)."""
    energies = []
    tokens = pairs.tokens if exchange is None else pairs.tokens[exchange]
    for (pixels, _), spoken in zip(pairs.batches(batch_size), tokens.split(batch_size), strict=True):
        with torch.no_grad():
            found = read(clip, pixels, spoken, recursion)
            amplitude = fourier(trajectory(clip, found, recursion), dim=1)[:, 1:].abs()
        count = found.there.sum(1)[:, None] * amplitude.shape[-1]
        energies.append((amplitude.square().sum((2, 3)) / count).double().cpu())
    energy = torch.cat(energies).numpy()
    total = energy.sum(1, keepdims=True)
    return np.sqrt(energy), np.divide(energy, total, out=np.zeros_like(energy), where=total > 0)
