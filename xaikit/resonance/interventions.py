"""Causal resonance: whether the model needs the patches that resonate, or would miss any others as much.

The patches that carry the dominant mode of a trajectory are taken out of the image, and the change of the similarity is
compared with that for random patches: as many, and with as much of the image's energy. Without the second condition the
comparison would only say that objects stand out from their background.
Source: Semantic Resonance Maps, ICCV submission, section 4.3, "causal resonance", which leaves open how.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import FILLS, filled, scores_of_images, to_patches
from ..clip.towers import tower
from ..files.checks import check_choices, check_names, check_number, check_whole
from ..files.schema import SCHEMA
from ..files.store import annotate
from ..measures.maps import ranks
from .recursion import read, ready, recursion_of, trajectory
from .spectra import ITERATIONS, fourier, power, resonance_energy

ABLATIONS = ("mode", "resonance", "end")
TOLERANCE = 0.05  # how far a matched set's energy may be from its target, relative
TINY = 1e-30  # keeps a division by no energy at all finite
SWAPS = 200  # proposed for each patch of a set: enough to forget where the walk began


def ablate_modes(
    clip: Clip,
    images,
    texts,
    share: float = 0.15,
    draws: int = 20,
    fill: str = "mean",
    maps: Mapping[str, xr.DataArray] | None = None,
    ablations: tuple[str, ...] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
    **options,
) -> xr.Dataset:
    """Remove the patches of each pair's dominant mode, and random ones of equal number and energy.

    The dominant mode is what oscillates at the pair's dominant frequency: that above 0 with most energy, which is the squared
    amplitude of ``fourier`` (line taken off, Hann window), summed over tokens and patches. A patch's part in it is its
    energy at that frequency, summed over tokens. A trajectory that merely settles has one too, mostly the lowest.

    images, texts, batch_size, progress : as in ``explain``. share : of the patches to remove, above 0, up to 1; at least
        one. draws : random sets for each ablation. fill : one of the image's fills, in place of what is removed.
    maps : heat (sample, row, col) of the same samples by name: patches are chosen after these, too.
    ablations : after which map the patches are chosen, hottest first: "mode"; "resonance", the energy of all frequencies
        summed over tokens; "end", the last map of the trajectory, summed over tokens; and the names of ``maps``. None for
        all of these. seed : of the random sets. options : of ``Recursion``.

    A random set holds as many patches, and its energy is within 5 % of that of the ablation's set, where the walk of
    ``matched_sets`` finds such a set. Energy is the squared difference between image and fill, summed over pixels
    (normalised values). Sets are drawn from the whole grid and may share patches with the one they are matched to, or often
    no other set would have its energy; with fill="random" they share least, since then background has energy too.

    Returns over (sample, ablation): ``change`` of the cosine similarity (negative: the similarity fell), ``energy``
    removed, ``matched``, the share of random sets within 5 % of it, and ``overlap``, the mean share of a random set that
    is also in the ablation's; over (sample, ablation, draw): ``random_change`` and ``random_energy``; ``removed`` (sample,
    ablation, row, col); and of each sample ``similarity`` before, ``frequency`` of the dominant mode (cycles per iteration)
    and ``mode_share``, its share of all oscillating energy. Raises ValueError for a wrong option, and as ``resonate``.

    Examples
    --------
    >>> found = xk.resonance.ablate_modes(clip, scenes.image, scenes.caption, draws=2)
    >>> found.change.dims, found.ablation.values.tolist()
    (('sample', 'ablation'), ['mode', 'resonance', 'end'])
    """
    recursion = recursion_of(options, ITERATIONS)
    check_whole(1, draws=draws)
    check_whole(0, seed=seed)
    check_choices(fill=(fill, FILLS))
    check_number(0, 1, "share of the patches", open_low=True, share=share)
    maps = dict(maps or {})
    taken = [name for name in maps if name in ABLATIONS]
    if taken:
        raise ValueError(f"maps={taken[0]!r}: that is an ablation already; give the map another name")
    ablations = (*ABLATIONS, *maps) if ablations is None else ablations
    check_names((*ABLATIONS, *maps), ablations=ablations)
    pairs = ready(clip, images, texts, batch_size)
    rows, cols = tower(clip, "image").grid
    given = {name: _heat(name, values, (len(pairs), rows, cols)) for name, values in maps.items()}
    count = max(1, round(share * rows * cols))
    random, parts = np.random.default_rng(seed), []
    for pixels, tokens in pairs.batches(batch_size, f"ablation, {recursion.coupling}" if progress else ""):
        with torch.no_grad():
            course = trajectory(clip, read(clip, pixels, tokens, recursion), recursion)
        index = dominant_frequency(course)
        energy = mode_energy(course, index)
        heat = {"mode": energy, "resonance": resonance_energy(course, 1).sum(1), "end": course[:, -1].sum(1)}
        start = sum(len(part["similarity"]) for part in parts)
        heat |= {name: values[start : start + len(pixels)].to(energy) for name, values in given.items()}
        heat = torch.stack([heat[name] for name in ablations], 1).unflatten(-1, (rows, cols))
        removed = ranks(heat.cpu().numpy(), seed) < count
        substitute = filled(clip, pixels, fill, seed)
        drawn, target, reached = matched_sets(removable_energy(clip, pixels, substitute), removed, draws, random)
        masks = np.concatenate([removed[:, :, None], drawn], 2)
        whole, cosine = ablate(clip, pixels, tokens, masks.reshape(len(masks), -1, rows, cols), substitute)
        change = cosine.reshape(masks.shape[:3]) - whole[:, None, None]
        parts.append(
            {
                "change": change[:, :, 0],
                "energy": target,
                "matched": (np.abs(reached - target[..., None]) <= TOLERANCE * target[..., None]).mean(-1),
                "overlap": (drawn & removed[:, :, None]).sum(-1).mean(-1) / count,
                "random_change": change[:, :, 1:],
                "random_energy": reached,
                "removed": removed.reshape(*removed.shape[:2], rows, cols),
                "similarity": whole,
                "frequency": (index / course.shape[1]).cpu().numpy(),
                "mode_share": (energy.sum(1) / resonance_energy(course, 1).sum((1, 2)).clamp(min=TINY)).cpu().numpy(),
            }
        )
    coords = {"sample": pairs.labels, "ablation": list(ablations), "draw": np.arange(draws)}
    parameters = {"share": share, "draws": draws, "fill": fill, "seed": seed, **dataclasses.asdict(recursion)}
    return gathered(parts, "ablation", coords, clip, parameters)


def gathered(parts: list[dict[str, np.ndarray]], stage: str, coords: dict, clip: Clip, parameters: dict) -> xr.Dataset:
    """The variables of a stage from those of batches along their first dimension, in float32, truths as they are."""
    out = xr.Dataset(coords=coords)
    for name, variable in SCHEMA[stage].items():
        values = np.concatenate([part[name] for part in parts])
        out[name] = variable.dims, values if values.dtype == bool else values.astype(np.float32)
    return annotate(out, stage, made_by=clip, parameters=parameters)


def dominant_frequency(course: Tensor) -> Tensor:
    """Which of the frequencies k / time carries most energy, k >= 1 (n,), of trajectories (n, time, tokens, patches)."""
    return 1 + power(fourier(course, 1)[:, 1:]).sum((2, 3)).argmax(1)


def mode_energy(course: Tensor, index: Tensor) -> Tensor:
    """Squared amplitude at frequency index / time, summed over tokens: (n, patches), of trajectories (n, time, tokens, patches)
    and index (n,). Differentiable."""
    return power(fourier(course, 1).take_along_dim(index[:, None, None, None], 1)[:, 0]).sum(1)


def removable_energy(clip: Clip, pixels: Tensor, substitute: Tensor) -> np.ndarray:
    """Squared difference of pixels and what stands in for them (n, 3, H, W), summed over each patch: (n, patches)."""
    squared = ((pixels - substitute).float() ** 2).sum(1)
    return to_patches(squared, tower(clip, "image")).flatten(1).double().cpu().numpy()


def matched_sets(
    energy: np.ndarray, removed: np.ndarray, draws: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random sets of patches, as many as each given set and of its energy.

    energy (n, patches) of each patch, at least 0; removed (n, sets, patches), bool, all with the same number of patches.
    Each draw is a random walk: from a uniformly drawn set on, it swaps a patch inside for one outside if that brings the
    energy nearer to the target or leaves it within 5 %. Once there, all such sets within reach of single swaps are equally
    likely. Returns the sets (n, sets, draws, patches), the energies aimed at (n, sets) and those reached (n, sets, draws).
    """
    n, kinds, patches = removed.shape
    count = int(removed[0, 0].sum())
    target = (energy[:, None] * removed).sum(-1)
    order = random.random((n, kinds, draws, patches), dtype=np.float32).argsort(-1)
    there = np.take_along_axis(np.broadcast_to(energy[:, None, None], order.shape), order, -1)
    now, allowed = there[..., :count].sum(-1), TOLERANCE * target[..., None]
    # All walks propose the same places, since each has its own patches there. The first ``count`` places are the set.
    walk = np.random.default_rng(count)
    steps = SWAPS * count if count < patches else 0
    insides, outsides = walk.integers(count, size=steps), walk.integers(count, patches, size=steps)
    for inside, outside in zip(insides, outsides, strict=True):
        then = now - there[..., inside] + there[..., outside]
        swap = np.abs(then - target[..., None]) <= np.maximum(np.abs(now - target[..., None]), allowed)
        for values in (there, order):
            one, other = values[..., inside].copy(), values[..., outside].copy()
            values[..., inside], values[..., outside] = np.where(swap, other, one), np.where(swap, one, other)
        now = np.where(swap, then, now)
    sets = np.zeros(order.shape, bool)
    np.put_along_axis(sets, order[..., :count], True, -1)
    return sets, target, (energy[:, None, None] * sets).sum(-1)


def ablate(
    clip: Clip, pixels: Tensor, tokens: Tensor, masks: np.ndarray, substitute: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of whole images with their texts (n,), and without the patches of each mask (n, masks).

    pixels (n, 3, H, W) and tokens (n, context), preprocessed; masks (n, masks, rows, cols) of bool: what is removed.
    substitute : what takes the patches' place (n, 3, H, W). Raises ValueError for masks of another grid or number.
    """
    masks = torch.as_tensor(masks)
    rows, cols = tower(clip, "image").grid
    wanted = (len(pixels), *masks.shape[1:2], rows, cols)
    if masks.dtype != torch.bool or tuple(masks.shape) != wanted:
        raise ValueError(
            f"masks of shape {tuple(masks.shape)} and type {masks.dtype}: bool ({len(pixels)}, masks, {rows}, {cols}) is needed"
        )
    keep = torch.cat([torch.ones_like(masks[:, :1]), ~masks], 1).to(clip.device)
    scores = scores_of_images(clip, pixels, tokens, keep, substitute).numpy()
    return scores[:, 0], scores[:, 1:]


def _heat(name: str, heat: xr.DataArray, shape: tuple[int, ...]) -> Tensor:
    """A map as a tensor (n, patches). Raises ValueError for one of another shape, or not finite."""
    values = np.asarray(heat)
    if values.shape != shape or not np.isfinite(values).all():
        raise ValueError(f"the map {name!r} has shape {values.shape}: finite heat of shape {shape} is needed")
    return torch.from_numpy(values).flatten(1)
