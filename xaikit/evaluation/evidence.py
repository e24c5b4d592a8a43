"""What the claims about resonance come down to: one number a scene, or a statistic to tell two groups of scenes by."""

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.stats import spearmanr

from ..clip.model import Clip
from ..clip.towers import tower
from ..explainers.explanation import explain
from ..measures.localisation import TOUCHED, average_precision, coverage
from ..measures.maps import spatial_entropy
from ..measures.ranks import rank_correlation
from ..resonance.recursion import Recursion, resonate
from ..resonance.spectra import BAND, check_trajectory, resonance_energy, spectrum, stands_out

ARRIVED = 0.01  # share of its whole way that a map may still move by in a step when it has arrived


def own_share(trajectory: xr.DataArray, scenes: xr.Dataset) -> xr.DataArray:
    """Of the heat that words put on objects, the share on the object that the word names, or on all of several alike, over
    (sample, time).

    trajectory : (sample, time, token, row, col) of the scenes' captions. The mean over words that name an object, in scenes
    of at least two; NaN in others. 0.5 in a scene of two equal objects is no preference.
    """
    covered = coverage(scenes.object_mask.values, trajectory.shape[3:])
    heat = np.einsum("stlrc,sorc->stlo", np.maximum(trajectory.values, 0), covered)
    named, group = named_objects(trajectory, scenes), scenes.object_group.values
    alike = np.take_along_axis(group, np.maximum(named, 0), 1)[:, :, None] == group[:, None]
    own = (heat * alike[:, None]).sum(-1)
    total = heat.sum(-1)
    share = np.divide(own, total, out=np.full_like(own, np.nan), where=total > 0)
    several = (covered.sum((2, 3)) > 0).sum(1) > 1
    counts = ((named >= 0) & several[:, None])[:, None] & (total > 0)  # a word without a map has no share
    share = np.where(counts, share, 0).sum(2)
    number = counts.sum(2)
    mean = np.divide(share, number, out=np.full_like(share, np.nan), where=number > 0)
    coords = {"sample": trajectory.sample, "time": trajectory.time}
    return xr.DataArray(mean, coords, ("sample", "time"), name="own_share")


def named_objects(trajectory: xr.DataArray, scenes: xr.Dataset) -> np.ndarray:
    """The object that each word of the trajectory names (sample, token), -1 for none: where a model cuts the caption into
    other tokens than the scenes do, words that aren't the same name none."""
    missing = max(0, trajectory.sizes["token"] - scenes.sizes["token"])
    planted = scenes.token_object.pad(token=(0, missing), constant_values=-1).values[:, : trajectory.sizes["token"]]
    words = scenes.token_text.pad(token=(0, missing), constant_values="").values[:, : trajectory.sizes["token"]]
    return np.where(trajectory.token_text.values == words, planted, -1)


def relation_regions(scenes: xr.Dataset, grid: tuple[int, int]) -> xr.DataArray:
    """Which patches (part, sample, row, col) lie on the two "objects" that a caption relates, and which "between" them: nearer
    than the smaller radius to the line between their centres, and not on them. None where the caption states no relation."""
    rows, cols = grid
    step_y, step_x = scenes.sizes["y"] / rows, scenes.sizes["x"] / cols
    place = np.stack(np.meshgrid((np.arange(rows) + 0.5) * step_y, (np.arange(cols) + 0.5) * step_x, indexing="ij"), -1)
    # The objects that a relation is between are the first two.
    pair = scenes.isel(object=slice(2))
    centre = np.stack([pair.object_y.values, pair.object_x.values], -1)
    first, second = centre[:, 0, None, None], centre[:, -1, None, None]
    way = second - first
    along = ((place - first) * way).sum(-1) / np.maximum((way**2).sum(-1), 1e-9)
    nearest = first + np.clip(along, 0, 1)[..., None] * way
    near = np.linalg.norm(place - nearest, axis=-1) <= pair.object_radius.values.min(1)[:, None, None]
    on = coverage(pair.object_mask.values, grid).max(1) >= TOUCHED
    related = (scenes.relation.values != "")[:, None, None]
    coords = {"part": ["objects", "between"], "sample": scenes.sample}
    return xr.DataArray(np.stack([on & related, near & ~on & related]), coords, ("part", "sample", "row", "col"))


def relational_focus(trajectory: xr.DataArray, scenes: xr.Dataset) -> xr.DataArray:
    """Share of the heat on, and between, the two related objects at iterations 5 to 15, minus that at 0 to 4, (part,
    sample); NaN where the caption states no relation, or no patch lies between. Source: SRM, section 3.2."""
    heat = np.maximum(trajectory.sum("token").values, 0)
    region = relation_regions(scenes, heat.shape[2:])
    share = (heat * region.values[:, :, None]).sum((3, 4)) / np.maximum(heat.sum((2, 3)), 1e-12)
    focus = share[:, :, 5:16].mean(2) - share[:, :, :5].mean(2)
    return xr.DataArray(focus, {"part": region.part, "sample": scenes.sample}, ("part", "sample")).where(
        region.any(("row", "col"))
    )


def map_quality(trajectory: xr.DataArray, scenes: xr.Dataset) -> pd.DataFrame:
    """Average precision of the named objects' patches, a row a scene, by the "resonance energy" of a trajectory summed over
    words, as ``explain("srm")`` gives it, and by its "last map", as ``explain("srm_fixed_point")`` does."""
    energy = resonance_energy(torch.from_numpy(trajectory.values), 1).sum(1).numpy()
    last = trajectory.isel(time=-1).sum("token").values
    named = (scenes.object_mask & scenes.object_named).any("object").values
    covered = coverage(named, trajectory.shape[3:])
    scores = {"resonance energy": average_precision(energy, covered), "last map": average_precision(last, covered)}
    return pd.DataFrame(scores, index=pd.Index(scenes.sample.values, name="sample"))


def spatial_frequency(patterns: np.ndarray) -> np.ndarray:
    """Mean spatial frequency of patterns (..., row, col), in cycles a patch, weighted by their power; the mean is left out.

    0 would be a plane, 0.5 a chequerboard's side; NaN for a flat pattern.
    """
    power = np.abs(np.fft.fft2(patterns - patterns.mean((-2, -1), keepdims=True))) ** 2
    down, across = (np.fft.fftfreq(size) for size in patterns.shape[-2:])
    radius = np.hypot(down[:, None], across)
    total = power.sum((-2, -1))
    flat = total <= 1e-12 * (patterns**2).sum((-2, -1))
    return np.where(flat, np.nan, (power * radius).sum((-2, -1)) / np.where(flat, 1, total))


def band_detail(trajectory: xr.DataArray, bands: int = 3) -> xr.DataArray:
    """Spatial frequency of the amplitude patterns in each of so many equal frequency bands, mean over the band's
    frequencies and the prompt's words, (sample, band). Source of the claim: SRM, section 2.3."""
    found = spectrum(trajectory)
    band = np.ceil(found.frequency.values * 2 * bands - 1e-9).astype(int) - 1
    detail = xr.DataArray(
        spatial_frequency(found.amplitude.values.astype(float)), dims=("sample", "token", "frequency")
    )
    by_band = [detail[:, :, band == index].mean(("token", "frequency")).values for index in range(bands)]
    return xr.DataArray(
        np.stack(by_band, 1), {"sample": trajectory.sample}, ("sample", "band"), name="spatial_frequency"
    )


def resonance_statistics(trajectory: xr.DataArray) -> xr.Dataset:
    """What a trajectory says in single numbers, each over (sample): ``energy`` of what oscillates, a word and patch;
    ``slow_share``, the lowest frequency's share of it; ``arrival``, the first iteration from which on steps are below 1 % of
    the whole way, mean over words; ``entropy`` of the last map, in nats, mean over words."""
    check_trajectory(trajectory)
    values = trajectory.values.astype(float)
    there = np.abs(values).max((1, 3, 4)) > 0
    words = np.maximum(there.sum(1), 1)
    squares = spectrum(trajectory).amplitude.values.astype(float) ** 2
    by_frequency = squares.sum((1, 3, 4))
    total = np.maximum(by_frequency.sum(1), 1e-30)
    found = {
        "energy": total / (words * np.prod(values.shape[3:])),
        "slow_share": by_frequency[:, 0] / total,
        "arrival": np.where(there, arrival(values), 0).sum(1) / words,
        "entropy": spatial_entropy(values)[:, -1],
    }
    return xr.Dataset({name: ("sample", each) for name, each in found.items()}, {"sample": trajectory.sample})


def arrival(values: np.ndarray) -> np.ndarray:
    """The first iteration (sample, token) from which on each step of maps (sample, time, token, row, col) is shorter than 1 %
    of the sum of all steps."""
    size = np.linalg.norm(np.diff(values, axis=1), axis=(3, 4))
    moving = size > ARRIVED * size.sum(1, keepdims=True)
    return np.where(moving, np.arange(1, size.shape[1] + 1)[:, None], 0).max(1)


def frequency_and_rate(modes: xr.Dataset, trajectory: xr.DataArray) -> np.ndarray:
    """Spearman's correlation, over the words of each prompt, of the frequency of the word's swinging mode of most energy with
    the speed of convergence, one over the arrival, (sample,); NaN with fewer than four such words, or without spread.

    modes : of ``dynamic_modes``. The dominant Fourier frequency won't do: in a relaxation it is the lowest for all words.
    """
    mode, swings = _swinging(modes)
    rate = 1 / np.maximum(arrival(trajectory.values.astype(float)), 1)
    frequency = modes.frequency.isel(mode=mode).values
    out = np.full(len(rate), np.nan)
    for index, there in enumerate(swings.values):
        one, other = frequency[index, there], rate[index, there]
        if there.sum() >= 4 and np.ptp(one) > 0 and np.ptp(other) > 0:
            out[index] = spearmanr(one, other).statistic
    return out


def _swinging(modes: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Of each word the mode of most energy among those of a complex pair, and whether it has one, (sample, token)."""
    energy = modes.energy.where((modes.frequency > 0) & (modes.frequency < 0.5), 0)
    return energy.argmax("mode"), energy.max("mode") > 0


def undamped(modes: xr.Dataset) -> np.ndarray:
    """Modulus minus 1 of the eigenvalue of the swinging mode (of a complex pair) of most energy, median over words, (sample,);
    NaN where no mode swings. 0 would be a cosine of equation 3. modes : of ``dynamic_modes``."""
    mode, swings = _swinging(modes)
    return (np.abs(modes.eigenvalue.isel(mode=mode)) - 1).where(swings).median("token").values


def has_peak(spectra: xr.Dataset) -> np.ndarray:
    """1 for a scene whose spectrum has a frequency that stands out from its neighbours and lies above the middle 95 % of
    each null's means, else 0, (sample,). spectra : of ``null_spectra``. Means over samples scatter less than single
    scenes do, so that this favours the claim."""
    high = spectra.null_share.quantile(BAND[1], "draw").max("null").values
    share = spectra.energy_share.values
    return ((share > high) & stands_out(share)).any(1).astype(float)


def has_boundaries(phases: xr.Dataset, at: tuple[int, ...] = (5, 15), within: int = 1) -> np.ndarray:
    """1 for a scene in which a phase begins within so many iterations of each of these, else 0, (sample,).
    phases : of ``phases``. Source of the claim: SRM, section 3.2."""
    starts = phases.boundary.values[:, 1:]
    near = np.abs(starts[:, :, None] - np.array(at)) <= within
    return (near & (starts >= 0)[:, :, None]).any(1).all(1).astype(float)


def statistics_of(clip: Clip, scenes: xr.Dataset, texts: str = "caption", **options) -> xr.Dataset:
    """``resonance_statistics`` of the scenes' images with these texts. options : as in ``resonate``."""
    return resonance_statistics(resonate(clip, scenes.image, scenes[texts], **options).trajectory)


def passes(clip: Clip, trajectory: xr.DataArray, coupling: str, block: int = Recursion.block) -> np.ndarray:
    """How many passes through all blocks of the image tower each trajectory takes, (sample,): one, and with coupling
    "encoder" the share of the blocks that runs again, for each word and iteration."""
    total = len(tower(clip, "image").blocks)
    again = len(range(total)[block:]) / total if coupling == "encoder" else 0.0
    words = (trajectory.token_text != "").sum("token").values
    return 1 + again * words * (trajectory.sizes["time"] - 1)


def alpha_sensitivity(clip: Clip, images, texts, alphas: list[float], method: str = "srm", **options) -> xr.DataArray:
    """Rank correlation of each image's maps under two resonance coefficients, (sample, alpha, other).

    options : of the method. Raises as ``explain``.
    """
    maps = [explain(method, clip, images, texts, alpha=alpha, **options).values for alpha in alphas]
    ranked = np.stack([heat.reshape(len(heat), -1) for heat in maps], 1)
    values = rank_correlation(ranked[:, :, None], ranked[:, None])
    coords = {"alpha": alphas, "other": alphas}
    return xr.DataArray(values, coords, ("sample", "alpha", "other"), name="rank_correlation")
