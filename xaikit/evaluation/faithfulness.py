"""Whether a map is true of the model: deletion, insertion and occlusion of what it calls important, and completeness.

Source of deletion and insertion: Petsiuk et al., RISE, 2018. Here by default on the patch grid, with the true model's
cosine as the score and the area under the curve by the trapezoid rule over the share of patches (pixels, words), 0 to 1.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import Score, check_fill, filled, scores_of_images, scores_of_texts
from ..clip.towers import tower
from ..explainers.registry import SIDES
from ..files.checks import check_choices, check_whole
from ..measures.maps import check_values, ranks, word_ranks
from .confidence import scorer, word_counts

UNITS = ("patch", "pixel")
SHARES = (0.05, 0.10, 0.15, 0.20, 0.25)


def deletion_and_insertion(place: Tensor, counts: Tensor) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
    """What is kept of each sample when the first ``counts`` units go, and when only they are there.

    place (n, explainers, units) from hottest to coldest, counts (n or 1, steps). Returns a function of sample and
    version (b,) each, to (b, units) of bool, and the number of versions: explainers * 2 * steps, in this order.
    """
    steps = counts.shape[1]

    def keep(sample: Tensor, version: Tensor) -> Tensor:
        explainer, which = version // (2 * steps), version % (2 * steps)
        count = counts[sample if len(counts) > 1 else 0 * sample, which % steps]
        hot = place[sample, explainer] < count[:, None]
        return hot ^ (which < steps)[:, None]

    return keep, place.shape[1] * 2 * steps


@torch.no_grad()
def deletion_insertion(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    steps: int = 16,
    fill: str = "mean",
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
    unit: str = "patch",
    score: str | Sequence[str] | Score = "similarity",
    label: str | np.ndarray = "truth",
    candidates=None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score while the hottest patches are removed from the image, and while they are put into the fill.

    heat (n, explainers, rows, cols); pixels (n, 3, H, W) and tokens (n, context) of the same samples. In each
    of ``steps`` equal steps the same share of patches is removed (or inserted), hottest first. unit: "patch", or
    "pixel" for pixels in the order of the map drawn larger by bilinear interpolation, as the papers do. score, label,
    candidates: see ``scorer``; the papers' tables use "top1" and "top5" among all classes.
    Returns the shares of patches removed (steps + 1,) and the two curves (n, explainers, steps + 1), for several scores
    (n, explainers, steps + 1, scores). Memory is bounded by ``batch_size`` perturbed images. Raises ValueError for an
    unknown fill, unit, score or label, or more steps than patches.
    """
    check_values(heat, len(tokens), "image")
    n, explainers, rows, cols = heat.shape
    check_choices(unit=(unit, UNITS))
    size = (rows, cols) if unit == "patch" else tower(clip, "image").pixels
    units = size[0] * size[1]
    check_steps(steps, units, unit)
    pixels = pixels.to(clip.device, clip.dtype)
    substitute = filled(clip, pixels, fill, seed)
    score_of = scorer(clip, pixels, tokens, "image", score, label, candidates, batch_size)
    counts = torch.linspace(0, units, steps + 1, device=clip.device).round().long()
    within = counts[None, 1:-1]  # the ends are the whole image and the bare fill, the same for every explainer
    bar = "deletion and insertion" if progress else ""

    def middle(start: int, stop: int) -> Tensor:
        part = slice(start, stop)
        place = torch.from_numpy(_unit_ranks(heat[part], size, seed)).to(clip.device)
        keep, versions = deletion_and_insertion(place, within)

        def kept(sample: Tensor, version: Tensor) -> Tensor:
            return _to_image(keep(sample, version).unflatten(1, size), unit, pixels.shape[2:])

        return scores_of_images(
            clip, pixels[part], tokens[part], kept, substitute[part], versions, batch_size, bar,
            lambda embedding, sample: score_of(embedding, sample + start),
        )  # fmt: skip

    # The order of pixels takes much memory, so samples come in parts whose maps are no more than a batch.
    at_a_time = n if unit == "patch" else max(1, batch_size // explainers)
    scores = torch.cat([middle(start, min(start + at_a_time, n)) for start in range(0, n, at_a_time)])
    both = torch.tensor([1, 0], dtype=torch.bool, device=clip.device).view(1, 2, 1, 1).expand(1, 2, rows, cols)
    ends = scores_of_images(clip, pixels, tokens, both, substitute, batch_size=batch_size, score=score_of)
    deletion, insertion = joined_curves(_by_way(scores, explainers, ends), ends)
    return (counts / units).cpu().numpy(), deletion, insertion


@torch.no_grad()
def word_deletion_insertion(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    steps: int = 8,
    fill: str = "removed",
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
    score: str | Sequence[str] | Score = "similarity",
    label: str | np.ndarray = "truth",
    candidates=None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score while the hottest words are removed from the prompt, and while they are put back into an empty one.

    heat (n, explainers, tokens) over the prompts' own tokens; pixels (n, 3, H, W), tokens (n, context). After each of
    ``steps`` steps the same share of each prompt's words, rounded to whole ones, is gone, hottest first; start and end
    stay. fill: "removed" closes the gap, as if the words had not been typed; "padding" puts the padding token in their
    place, which for CLIP's own tokenizer is the word "!". score, label, candidates: see ``scorer``.
    Returns the shares (steps + 1,) and the two curves, as ``deletion_insertion`` does. Raises ValueError for an unknown
    fill, score or label, steps below 1, or heat for fewer tokens than the longest prompt has.
    """
    check_fill(fill, "text")
    check_values(heat, len(tokens), "text")
    lengths = word_counts(clip, tokens, heat)
    check_whole(1, steps=steps)
    pixels = pixels.to(clip.device, clip.dtype)
    score_of = scorer(clip, pixels, tokens, "text", score, label, candidates, batch_size)
    place = torch.from_numpy(word_ranks(heat, lengths, seed)).to(clip.device)
    shares = np.linspace(0, 1, steps + 1)
    counts = torch.from_numpy((shares * lengths[:, None]).round().astype(int)).to(clip.device)
    keep, versions = deletion_and_insertion(place, counts[:, 1:-1])
    bar = "deletion and insertion of words" if progress else ""
    scores = scores_of_texts(clip, pixels, tokens, keep, fill, versions, batch_size, bar, score_of)
    both = torch.tensor([1, 0], dtype=torch.bool, device=clip.device).view(1, 2, 1).expand(1, 2, heat.shape[2])
    ends = scores_of_texts(clip, pixels, tokens, both, fill, batch_size=batch_size, score=score_of)
    return shares, *joined_curves(_by_way(scores, heat.shape[1], ends), ends)


MEASURES = {"image": deletion_insertion, "text": word_deletion_insertion}


@torch.no_grad()
def progressive_occlusion(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    shares: tuple[float, ...] = SHARES,
    fill: str = "mean",
    batch_size: int = 256,
    seed: int = 0,
    draws: int = 1,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines after the hottest 5, 10, ... 25 % of the patches are occluded, and after as many random ones are.

    heat (n, explainers, rows, cols), pixels and tokens of the same samples; the rest as in ``deletion_insertion``.
    draws: random orders to average over, the same for all samples.
    Returns the cosines of the whole images (n,), of the occluded ones (n, explainers, shares), and of those with
    random patches occluded (n, shares). Raises ValueError for shares outside 0 to 1, draws below 1 or an unknown fill.
    Source: figure 5 of MMEL, which shows the images; the control by random patches makes it a measurement.
    """
    check_values(heat, len(tokens), "image")
    n, explainers, rows, cols = heat.shape
    if len(shares) == 0 or not all(0 < share <= 1 for share in shares):
        raise ValueError(f"shares={shares}: shares of the patches above 0, up to 1, are needed")
    check_whole(1, draws=draws)
    pixels = pixels.to(clip.device, clip.dtype)
    substitute = filled(clip, pixels, fill, seed)
    orders = np.random.default_rng((seed, 1)).random((draws, rows, cols))
    place = ranks(np.concatenate([heat, np.broadcast_to(orders, (n, *orders.shape))], 1), seed)
    place = torch.from_numpy(place).to(clip.device)
    counts = torch.tensor([max(1, round(share * rows * cols)) for share in shares], device=clip.device)

    def keep(sample: Tensor, version: Tensor) -> Tensor:
        count = torch.where(version > 0, counts[(version - 1) % len(counts)], 0)  # version 0 is the whole image
        hot = place[sample, (version - 1).clamp(min=0) // len(counts)] < count[:, None]
        return ~hot.unflatten(1, (rows, cols))

    versions = 1 + (explainers + draws) * len(counts)
    bar = "progressive occlusion" if progress else ""
    scores = scores_of_images(clip, pixels, tokens, keep, substitute, versions, batch_size, bar).numpy()
    occluded = scores[:, 1:].reshape(n, explainers + draws, len(counts))
    return scores[:, 0], occluded[:, :explainers], occluded[:, explainers:].mean(1)


@torch.no_grad()
def completeness(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    of: str = "image",
    fill: str | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> np.ndarray:
    """|sum of the map - (s - s0)| / |s - s0|, (n, explainers); lower is better, and 0 for a map that adds up exactly.

    s is the cosine of the whole input, s0 that of the bare fill: the image all in ``fill``, or the prompt with all of
    its words replaced by it. heat (n, explainers, rows, cols) or (n, explainers, tokens), with its sign. fill: the
    baseline of the method, None for the side's own ("zero" of the normalised space, or "padding"). Only methods that
    promise it, ``complete`` in ``methods()``, can be held to it. A difference below 1e-6 counts as that much.
    Raises ValueError for an unknown fill. Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017.

    Examples
    --------
    >>> import xaikit as xk
    >>> clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)
    >>> pixels, tokens = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    >>> heat = xk.explain(["integrated_gradients"], clip, pixels, tokens, steps=20).values
    >>> bool((completeness(clip, heat, pixels, tokens) < 0.2).all())
    True
    """
    check_choices(of=(of, SIDES))
    _, deletion, _ = MEASURES[of](clip, heat, pixels, tokens, 1, check_fill(fill, of), batch_size, seed)
    difference = (deletion[..., 0] - deletion[..., 1]).astype(float)
    total = heat.sum(tuple(range(2, heat.ndim)), dtype=float)
    return np.abs(total - difference) / np.maximum(np.abs(difference), 1e-6)


def check_steps(steps: int, units: int, unit: str = "patch") -> None:
    """Raise ValueError for more steps than there are patches or pixels, or none."""
    if not isinstance(steps, int) or not 1 <= steps <= units:
        names = "patches" if unit == "patch" else "pixels"
        raise ValueError(f"steps={steps!r}: a whole number from 1 to the {units} {names} is needed")


def _unit_ranks(heat: np.ndarray, size: tuple[int, int], seed: int) -> np.ndarray:
    if heat.shape[2:] != size:
        heat = F.interpolate(torch.tensor(heat, dtype=torch.float32), size, mode="bilinear").numpy()
    return ranks(heat, seed).astype(np.int32)


def _to_image(keep: Tensor, unit: str, size: torch.Size) -> Tensor:
    """Patches as they are; pixels with a margin for those that no patch covers."""
    if unit == "patch":
        return keep
    return F.pad(keep, (0, size[1] - keep.shape[2], 0, size[0] - keep.shape[1]))


def _by_way(scores: Tensor, explainers: int, ends: Tensor) -> Tensor:
    """Scores (n, versions, ...) as (n, explainers, 2, steps, ...), also where there is no step between the ends (n, 2, ...)."""
    return scores.reshape(len(ends), explainers, 2, scores.shape[1] // (2 * explainers), *ends.shape[2:])


def joined_curves(middle: Tensor, ends: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The two curves (n, explainers, steps, ...) from the scores in between (n, explainers, 2, steps, ...) and of the whole
    and the bare input (n, 2, ...)."""
    whole, bare = (end[:, None, None].expand(*middle.shape[:2], 1, *end.shape[1:]) for end in ends.unbind(1))
    deletion = torch.cat([whole, middle[:, :, 0], bare], 2)
    insertion = torch.cat([bare, middle[:, :, 1], whole], 2)
    return deletion.float().numpy(), insertion.float().numpy()
