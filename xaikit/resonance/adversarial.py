"""Adversarial resonance: an invisible change of an image that takes the dominant mode out of its trajectory.

Projected gradient descent with signed steps lowers the energy at the frequency that dominates the unchanged image's
trajectory. Three controls change the image by as much: the same change at other places, which has its spectrum; the same
descent on another caption's mode, which follows the model's gradients too; and random noise.
Source: Semantic Resonance Maps, ICCV submission, section 4.3, "adversarial resonance"; Madry et al. 2018 for the descent.
"""

import dataclasses
import itertools
import math

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ..clip.model import Clip
from ..clip.towers import tower
from ..files.checks import check_number, check_whole
from ..measures.maps import rank_correlation
from .interventions import dominant_frequency, gathered, mode_energy
from .recursion import Recursion, read, ready, recursion_of, trajectory
from .spectra import ITERATIONS, resonance_energy

CONTROLS = ("rolled", "other caption", "random")
STATES = ("clean", "suppressed", *CONTROLS)
OUTSIDE = 1e-4  # of the range 0 to 1: what rounding of normalised pixels may leave outside


def suppress_resonance(
    clip: Clip,
    images,
    texts,
    epsilon: float = 8 / 255,
    updates: int = 20,
    step_size: float | None = None,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = False,
    **options,
) -> xr.Dataset:
    """Change each image by at most ``epsilon`` so that its dominant mode loses its energy.

    p <- clip(p - s * sign(gradient of the mode's energy)), to at most epsilon from the clean p and to 0 <= p <= 1

    where s falls from step_size to 0 along half a cosine: large steps leave flat places, small ones settle. The mode is that
    of ``ablate_modes`` in the clean image, and its frequency stays fixed; all patches and words count. The gradient runs
    through the recursion and the towers.

    images, texts, progress : as in ``explain``. epsilon : largest change of any pixel, in units of its range 0 to 1; 0 to 1.
    updates : steps; the image of the lowest energy on the way counts. step_size : of the first, None for epsilon / 2.
    seed : of the random control.
    batch_size : pairs computed at once; it bounds the memory, which with coupling "encoder" grows with the iterations and
    words. options : of ``Recursion``.

    The controls, each clipped to 0..1: "rolled", the change that the attack found, moved by half the image's height and width;
    "other caption", the same descent on the mode of the next sample's caption that says something else; "random", epsilon
    added or taken at random from each value of the image.

    Returns over (sample, state), state "clean", "suppressed" and the controls: ``energy`` of the mode, ``total_energy`` of all
    frequencies (to see whether it only went elsewhere), ``similarity``, ``rank_correlation`` of ``resonance_map`` (sample,
    state, row, col) with the clean one, ``size`` of the change actually made, and ``image`` (sample, state, y, x, rgb), 0 to
    1. ``course`` (sample, update): lowest energy after 0, 1, ... updates; ``frequency`` of the mode (cycles per iteration).
    Raises ValueError for a wrong option, for texts that are all the same, and as ``resonate``.

    Examples
    --------
    >>> found = xk.resonance.suppress_resonance(clip, scenes.image[:2], scenes.caption[:2], updates=2)
    >>> found.energy.dims, found.state.values.tolist()
    (('sample', 'state'), ['clean', 'suppressed', 'rolled', 'other caption', 'random'])
    """
    recursion = recursion_of(options, ITERATIONS)
    check_whole(1, updates=updates)
    check_whole(0, seed=seed)
    check_number(0, 1, "share of the pixels' range", epsilon=epsilon)
    if step_size is not None:
        check_number(0, 1, "share of the pixels' range", open_low=True, step_size=step_size)
    step_size = epsilon / 2 if step_size is None else step_size
    pairs = ready(clip, images, texts, batch_size)
    if isinstance(images, Tensor):
        check_range(clip, images)
    others = iter(other_texts(pairs.tokens))
    random, parts = np.random.default_rng(seed), []
    for pixels, tokens in pairs.batches(batch_size, f"suppression, {recursion.coupling}" if progress else ""):
        # As many as the batch has, which of a large tower is smaller than asked for.
        other = torch.stack([*itertools.islice(others, len(tokens))])
        clean = unnormalised(clip, pixels).clamp(0, 1)
        bounds = epsilon, updates, step_size, recursion
        index = _dominant(clip, pixels, tokens, recursion)
        changed, course = descend(clip, clean, tokens, index, *bounds)
        misled, _ = descend(clip, clean, other, _dominant(clip, pixels, other, recursion), *bounds)
        half = [side // 2 for side in clean.shape[2:]]
        rolled = within(clean + (changed - clean).roll(half, (2, 3)), clean, epsilon)
        # A number a value of a sample at a time, so that batches of any size draw the same.
        up = torch.from_numpy(random.random(clean.shape, dtype=np.float32) < 0.5).to(clean.device)
        noisy = within(clean + torch.where(up, epsilon, -epsilon), clean, epsilon)
        versions = (clean, changed, rolled, misled, noisy)
        states = [_measured(clip, values, tokens, index, recursion) for values in versions]
        part = {name: np.stack([state[name] for state in states], 1) for name in states[0]}
        shown = part["image"]
        part["size"] = np.abs(shown - shown[:, :1]).reshape(*shown.shape[:2], -1).max(-1)
        flat = part["resonance_map"]
        part["rank_correlation"] = rank_correlation(flat.astype(float), flat[:, :1].astype(float))
        part["resonance_map"] = flat.reshape(*flat.shape[:2], *tower(clip, "image").grid)
        part["course"] = course.cpu().numpy()
        part["frequency"] = (index / (recursion.iterations + 1)).cpu().numpy()
        parts.append(part)
    coords = {"sample": pairs.labels, "state": list(STATES), "update": np.arange(updates + 1)}
    chosen = {"epsilon": epsilon, "updates": updates, "step_size": step_size, "seed": seed}
    return gathered(parts, "suppression", coords, clip, {**chosen, **dataclasses.asdict(recursion)})


def other_texts(tokens: Tensor) -> Tensor:
    """For each text (n, length) the next one that says something else; ValueError where none does."""
    n = len(tokens)
    different = (tokens[:, None] != tokens).any(-1)
    if n < 2 or not different.any(1).all():
        known = "1 text only" if n == 1 else f"{n} texts that are all the same"
        raise ValueError(f"{known}: the control needs another caption")
    following = [(place + np.arange(1, n)) % n for place in range(n)]
    return tokens[[next(int(j) for j in after if different[i, j]) for i, after in enumerate(following)]]


@torch.no_grad()
def _dominant(clip: Clip, pixels: Tensor, tokens: Tensor, recursion: Recursion) -> Tensor:
    return dominant_frequency(trajectory(clip, read(clip, pixels, tokens, recursion), recursion))


def descend(
    clip: Clip,
    clean: Tensor,
    tokens: Tensor,
    index: Tensor,
    epsilon: float,
    updates: int,
    step_size: float,
    recursion: Recursion,
) -> tuple[Tensor, Tensor]:
    """The images (n, 3, H, W), 0 to 1, at most ``epsilon`` from the ``clean`` ones, of the lowest energy on the way, and
    that energy after 0, 1, ... updates (n, updates + 1). index (n,): of the mode's frequency."""
    values, best, lowest, course = clean, clean, clean.new_full((len(clean),), torch.inf), []
    for update in range(updates + 1):
        values = values.detach().requires_grad_(update < updates)
        with torch.set_grad_enabled(update < updates):
            found = read(clip, normalised(clip, values), tokens, recursion)
            energy = mode_energy(trajectory(clip, found, recursion), index).sum(1)
        lower = energy.detach() < lowest
        best = torch.where(lower[:, None, None, None], values.detach(), best)
        lowest = torch.where(lower, energy.detach(), lowest)
        course.append(lowest)
        if update < updates:
            # The samples' energies share no pixel, so that their sum's gradient is each one's own.
            (slope,) = torch.autograd.grad(energy.sum(), values)
            step = step_size * (1 + math.cos(math.pi * update / updates)) / 2
            values = within(values.detach() - step * slope.sign(), clean, epsilon)
    return best, torch.stack(course, 1)


def within(values: Tensor, clean: Tensor, epsilon: float) -> Tensor:
    """The values moved to at most ``epsilon`` from the ``clean`` ones, and to 0..1."""
    return torch.minimum(torch.maximum(values, clean - epsilon), clean + epsilon).clamp(0, 1)


def unnormalised(clip: Clip, pixels: Tensor) -> Tensor:
    """Preprocessed pixels (n, 3, H, W) as values of 0 to 1 (but for rounding), in float32."""
    mean, std = _scale(clip, pixels)
    return pixels.float() * std + mean


def normalised(clip: Clip, values: Tensor) -> Tensor:
    """Values of 0 to 1 (n, 3, H, W) as the model takes them; with their graph."""
    mean, std = _scale(clip, values)
    return ((values - mean) / std).to(clip.dtype)


def _scale(clip: Clip, beside: Tensor) -> list[Tensor]:
    return [torch.tensor(each, device=beside.device).view(3, 1, 1) for each in clip.normalisation]


def check_range(clip: Clip, pixels: Tensor) -> None:
    """Raise ValueError for preprocessed pixels that no picture has."""
    values = unnormalised(clip, pixels)
    outside = ((values < -OUTSIDE) | (values > 1 + OUTSIDE)).flatten(1).any(1)
    if outside.any():
        index = int(outside.nonzero()[0])
        raise ValueError(
            f"image {index} holds pixels outside 0 to 1 once their normalisation is undone: no picture has these"
        )


@torch.no_grad()
def _measured(clip: Clip, values: Tensor, tokens: Tensor, index: Tensor, recursion: Recursion) -> dict[str, np.ndarray]:
    """What is reported of images (n, 3, H, W) of 0 to 1."""
    pixels = normalised(clip, values)
    course = trajectory(clip, read(clip, pixels, tokens, recursion), recursion)
    resonance = resonance_energy(course, 1).sum(1)
    spoken = clip.embed_text(tokens.to(pixels.device))
    found = {
        "energy": mode_energy(course, index).sum(1),
        "total_energy": resonance.sum(1),
        "similarity": (clip.encode_image(pixels).float() * spoken.float()).sum(-1),
        "resonance_map": resonance,
        "image": values.permute(0, 2, 3, 1),
    }
    return {name: value.cpu().numpy() for name, value in found.items()}
