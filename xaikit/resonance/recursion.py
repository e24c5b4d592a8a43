"""The recursion of Semantic Resonance Maps, eq. 2: how a map of each word over the patches feeds back on itself."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ..clip.model import Clip
from ..clip.pairs import Pairs, join
from ..clip.towers import shares_space, tower
from ..files.checks import COUPLINGS, RECURSION, TEMPERATURES, check_choices, check_number, check_options, check_whole
from ..files.store import annotate
from .coupling import Features, check_rerun, competition, coupled, features

STARTS = ("uniform", "cosine", "random")
WORDS = ("all", "last")
SOURCE = "Semantic Resonance Maps, ICCV submission, eq. 1 and 2"


@dataclass(frozen=True)
class Recursion:
    """R(t+1) = alpha * Phi(V . R(t), T) + (1 - alpha) * R(t), one map R (patches,) for each of a prompt's own tokens.

    coupling : the reading of Phi: "none" (the letter: every entry on its own), "attention" (patches compete in a softmax),
        "encoder" (the gated patches run through the tower's remaining blocks again).
    alpha : resonance coefficient, above 0 and below 2; beyond 1 the map is overshot.
    iterations : steps of t.
    temperature : of the softmax over patches; None for the coupling's own (``TEMPERATURES``); "none" has no softmax.
    start : R(0): "uniform" (1 everywhere), "cosine" (patches * softmax of the cosines), "random" (0 to 2, one draw for all).
    words : "all" of a prompt's own tokens, or the "last" alone, which has read the others; the rest have no map.
    block : from which of the image tower's blocks on "encoder" runs it again.
    seed : of the random start.

    Raises ValueError for the first bad option.

    Examples
    --------
    >>> xk.resonance.Recursion(coupling="encoder").temperature
    0.1
    """

    coupling: str = RECURSION["coupling"]
    alpha: float = RECURSION["alpha"]
    iterations: int = RECURSION["iterations"]
    temperature: float | None = RECURSION["temperature"]
    start: str = RECURSION["start"]
    words: str = RECURSION["words"]
    block: int = RECURSION["block"]
    seed: int = RECURSION["seed"]

    def __post_init__(self):
        check_choices(coupling=(self.coupling, COUPLINGS), start=(self.start, STARTS), words=(self.words, WORDS))
        check_whole(1, iterations=self.iterations)
        check_whole(0, seed=self.seed)
        check_whole(block=self.block)
        check_number(0, 2, "number", open_low=True, open_high=True, alpha=self.alpha)
        if self.temperature is None:
            object.__setattr__(self, "temperature", TEMPERATURES[self.coupling])
        elif self.coupling == "none":
            raise ValueError(f"temperature={self.temperature!r}: coupling='none' has no softmax; leave it at None")
        else:
            check_number(0, open_low=True, temperature=self.temperature)
        for name, value in vars(self).items():
            if isinstance(value, np.generic):  # which a store's provenance can't hold
                object.__setattr__(self, name, value.item())


def recursion_of(options: dict, least: int = 1) -> Recursion:
    """The recursion with these options. Raises ValueError that names an unknown one, or for fewer iterations."""
    check_options("the recursion", options, RECURSION)
    recursion = Recursion(**options)
    check_whole(least, iterations=recursion.iterations)
    return recursion


def resonate(
    clip: Clip, images, texts, batch_size: int = 64, progress: bool = False, errors: str = "raise", **options
) -> xr.Dataset:
    """Let each prompt's words resonate with the patches of its image.

    images, texts, batch_size, progress, errors : as in ``explain``. options : of ``Recursion``.

    Returns a dataset of the ``resonance`` schema: ``trajectory`` (sample, time, token, row, col), one map per word of the
    prompt at each of the iterations, 0 to the last; zero after a shorter prompt's end. Raises as ``explain``, for a wrong
    option, for token ids without a word, and for a tower whose patches have no place in the shared space.

    Examples
    --------
    >>> found = xk.resonance.resonate(clip, scenes.image, scenes.caption, coupling="attention")
    >>> found.trajectory.dims, found.trajectory.shape
    (('sample', 'time', 'token', 'row', 'col'), (4, 21, 9, 8, 8))
    """
    recursion = recursion_of(options)
    pairs = ready(clip, images, texts, batch_size, errors)
    parts = []
    for pixels, tokens in pairs.batches(batch_size, f"resonance, {recursion.coupling}" if progress else ""):
        with torch.no_grad():
            parts.append(trajectory(clip, read(clip, pixels, tokens, recursion), recursion).cpu())
    values = pairs.spread(join(parts, 2))
    rows, cols = tower(clip, "image").grid
    dims = ("sample", "time", "token", "row", "col")
    coords = {"sample": pairs.labels, **pairs.words(values.shape[2])}
    if errors == "record":
        coords["error"] = ("sample", np.array(pairs.reasons, dtype=str))
    values = values.reshape(*values.shape[:3], rows, cols)
    out = xr.Dataset({"trajectory": (dims, values)}, coords)
    out = out.assign_coords({dim: np.arange(out.sizes[dim]) for dim in dims if dim != "sample"})
    out = annotate(out, "resonance", made_by=clip, source=SOURCE, parameters=dataclasses.asdict(recursion))
    out.trajectory.attrs["provenance"] = out.attrs["provenance"]  # goes on into what is made of the trajectory alone
    return out


def arrival(maps: np.ndarray) -> np.ndarray:
    """The iteration (sample, token) from which on each step of maps (sample, time, token, row, col) is below 1 % of the sum of
    all its steps; 0 for a map that never moves.

    Examples
    --------
    >>> arrival(np.array([1, 0.1, 0.05, 0.05]).reshape(1, 4, 1, 1, 1))
    array([[2]])
    """
    size = np.linalg.norm(np.diff(maps, axis=1), axis=(3, 4))
    moving = size > 0.01 * size.sum(1, keepdims=True)
    return np.where(moving, np.arange(1, size.shape[1] + 1)[:, None], 0).max(1)


@torch.no_grad()
def patch_features(clip: Clip, images, texts, batch_size: int = 64) -> xr.DataArray:
    """What the recursion reads of the patches alone, (sample, patch, width): after the final norm and the projection,
    patches in reading order. Arguments and errors as in ``resonate``.

    Examples
    --------
    >>> xk.resonance.patch_features(clip, scenes.image, scenes.caption).shape
    (4, 64, 128)
    """
    pairs = ready(clip, images, texts, batch_size)
    parts = [features(clip, pixels, tokens).patches.cpu() for pixels, tokens in pairs.batches(batch_size)]
    return xr.DataArray(pairs.spread(torch.cat(parts)), {"sample": pairs.labels}, ("sample", "patch", "width"))


def ready(clip: Clip, images, texts, batch_size: int, errors: str = "raise") -> Pairs:
    """The pairs, after checking that the recursion can be had of them: that single patches and words of this model have a
    place in the shared space. Raises as ``resonate``."""
    check_whole(1, batch_size=batch_size)
    tower(clip, "image"), tower(clip, "text")
    if not shares_space(clip):
        raise ValueError(
            f"the image tower of {clip.name} pools its patches by attention: single patches have no place in the shared space"
        )
    return Pairs(clip, images, texts, errors)


def read(clip: Clip, pixels: Tensor, tokens: Tensor, recursion: Recursion) -> Features:
    """Run the towers once and keep what the recursion needs."""
    again = recursion.coupling == "encoder"
    if again:
        total = len(tower(clip, "image").blocks)
        check_whole(-total, total - 1, block=recursion.block)
    found = features(clip, pixels, tokens, recursion.block if again else None)
    if again:
        check_rerun(clip, found, recursion.block)
    if recursion.words == "last":
        last = found.there.sum(1, keepdim=True) - 1
        found.there = found.there & (torch.arange(found.there.shape[1], device=last.device) == last)
    return found


def trajectory(clip: Clip, found: Features, recursion: Recursion) -> Tensor:
    """R(0) to R(iterations) of n pairs, (n, time, tokens, patches), zero for tokens that aren't there; with its graph,
    where the features have one."""
    return torch.stack(list(steps(clip, found, recursion)), 1)


def steps(clip: Clip, found: Features, recursion: Recursion) -> Iterator[Tensor]:
    """R(0), R(1), ... R(iterations), one at a time, each (n, tokens, patches)."""
    alpha, there = recursion.alpha, found.there.unsqueeze(-1)
    gate = starting(found, recursion)
    phi = coupled(clip, found, recursion.coupling, recursion.temperature, recursion.block, _reach(gate, recursion))
    yield gate * there
    for _ in range(recursion.iterations):
        gate = alpha * phi(gate) + (1 - alpha) * gate
        yield gate * there


def starting(found: Features, recursion: Recursion) -> Tensor:
    """R(0), (n, tokens, patches)."""
    n, words = found.there.shape
    patches = found.patches.shape[1]
    if recursion.start == "cosine":
        return competition(found.cosine / (recursion.temperature or TEMPERATURES["attention"]))
    if recursion.start == "uniform":
        return found.patches.new_ones(n, words, patches)
    draw = torch.Generator().manual_seed(recursion.seed)
    # A row a word at a time, so that a word's draw doesn't depend on how long the other prompts are.
    return 2 * torch.rand(words, patches, generator=draw).to(found.patches).expand(n, -1, -1)


def _reach(start: Tensor, recursion: Recursion) -> tuple[float, float]:
    """Between which values the gates of coupling "none" stay: Phi lies between 0 and 1, and alpha may overshoot."""
    if recursion.coupling != "none":
        return 0.0, 0.0
    alpha, lowest, highest = recursion.alpha, float(start.min()), float(start.max())
    low, high = lowest, highest
    for _ in range(recursion.iterations):
        low, high = (1 - alpha) * (low if alpha < 1 else high), alpha + (1 - alpha) * (high if alpha < 1 else low)
        lowest, highest = min(lowest, low), max(highest, high)
    return lowest, highest
