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


def removal_fill(fill: str | None, of: str) -> str:
    """What stands in for what is removed: None for the "mean" colour of images, for "removed" words of texts."""
    return check_fill(fill or {"image": "mean", "text": "removed"}[of], of)


@torch.no_grad()
def deletion_insertion(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    of: str = "image",
    steps: int = 16,
    fill: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
    unit: str = "patch",
    score: str | Sequence[str] | Score = "similarity",
    label: str | np.ndarray = "truth",
    candidates=None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score while the hottest patches (words) are removed from the image (prompt), and while they are put into the fill.

    heat (n, explainers, rows, cols), or of the text (n, explainers, tokens) over the prompts' own tokens; pixels (n, 3, H,
    W) and tokens (n, context) of the same samples. In each of ``steps`` equal steps the same share is removed (or
    inserted), hottest first; of each prompt's words rounded to whole ones, while start and end stay.
    fill: see ``filled``, None for "mean"; of words "removed" (None too) closes the gap, as if they had not been typed, and
    "padding" puts the padding token in their place, which for CLIP's own tokenizer is the word "!".
    unit: "patch", or "pixel" for pixels in the order of the map drawn larger by bilinear interpolation, as the papers do.
    score, label, candidates: see ``scorer``; the papers' tables use "top1" and "top5" among all classes.

    Returns the shares removed (steps + 1,) and the two curves (n, explainers, steps + 1), for several scores
    (n, explainers, steps + 1, scores). Memory is bounded by ``batch_size`` perturbed inputs. Raises ValueError for an
    unknown fill, unit, score or label, more steps than patches, or heat for fewer tokens than the longest prompt has.
    """
    check_choices(of=(of, SIDES), unit=(unit, UNITS))
    check_values(heat, len(tokens), of)
    fill = removal_fill(fill, of)
    n, explainers = heat.shape[:2]
    pixels = pixels.to(clip.device, clip.dtype)
    if of == "image":
        size = heat.shape[2:] if unit == "patch" else tower(clip, "image").pixels
        units, margin = size[0] * size[1], (0, 0, 0, 0)
        if unit == "pixel":  # those that no patch covers stay out
            margin = (0, pixels.shape[3] - size[1], 0, pixels.shape[2] - size[0])
        check_steps(steps, units, unit)
        counts = torch.linspace(0, units, steps + 1, device=clip.device).round().long()[None]
        shares = (counts[0] / units).cpu().numpy()
        substitute, scores_of, bar = filled(clip, pixels, fill, seed), scores_of_images, "deletion and insertion"
    else:
        lengths = word_counts(clip, tokens, heat)
        check_whole(1, steps=steps)
        shares = np.linspace(0, 1, steps + 1)
        counts = torch.from_numpy((shares * lengths[:, None]).round().astype(int)).to(clip.device)
        substitute, scores_of, bar = fill, scores_of_texts, "deletion and insertion of words"
    score_of = scorer(clip, pixels, tokens, of, score, label, candidates, batch_size)

    def middle(part: slice) -> Tensor:
        order = _unit_ranks(heat[part], size, seed) if of == "image" else word_ranks(heat, lengths, seed)
        # The ends are the whole input and the bare fill, the same for every explainer.
        keep, versions = deletion_and_insertion(torch.from_numpy(order).to(clip.device), counts[:, 1:-1])

        def kept(sample: Tensor, version: Tensor) -> Tensor:
            here = keep(sample, version)
            return F.pad(here.unflatten(1, size), margin) if of == "image" else here

        return scores_of(
            clip, pixels[part], tokens[part], kept, substitute[part] if of == "image" else substitute,
            versions, batch_size, bar if progress else "", lambda embedding, sample: score_of(embedding, sample + part.start),
        )  # fmt: skip

    # The order of pixels takes much memory, so samples come in parts whose maps are no more than a batch.
    at_a_time = max(1, batch_size // explainers) if unit == "pixel" and of == "image" else n
    scores = torch.cat([middle(slice(start, min(start + at_a_time, n))) for start in range(0, n, at_a_time)])
    both = torch.tensor([True, False], device=clip.device).view(1, 2, *[1] * (heat.ndim - 2))
    both = both.expand(1, 2, *heat.shape[2:])
    ends = scores_of(clip, pixels, tokens, both, substitute, batch_size=batch_size, score=score_of)
    # Also where there is no step between the ends.
    middles = scores.reshape(n, explainers, 2, steps - 1, *ends.shape[2:])
    return shares, *joined_curves(middles, ends)


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

    heat of the image, and the rest, as in ``deletion_insertion``. draws: random orders to average over, the same for all
    samples. Returns the cosines of the whole images (n,), of the occluded ones (n, explainers, shares), and of those with
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
    counts = np.array([max(1, round(share * rows * cols)) for share in shares])
    left = place[:, :, None] >= counts[:, None]
    keep = np.concatenate([np.ones((n, 1, rows * cols), bool), left.reshape(n, -1, rows * cols)], 1)
    keep = torch.from_numpy(keep).unflatten(2, (rows, cols)).to(clip.device)
    bar = "progressive occlusion" if progress else ""
    scores = scores_of_images(clip, pixels, tokens, keep, substitute, None, batch_size, bar).numpy()
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
    >>> heat = xk.explain(["integrated_gradients"], clip, pixels, tokens, steps=50).values
    >>> bool((completeness(clip, heat, pixels, tokens) < 0.2).all())
    True
    """
    check_choices(of=(of, SIDES))
    _, deletion, _ = deletion_insertion(clip, heat, pixels, tokens, of, 1, check_fill(fill, of), batch_size, seed)
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


def joined_curves(middle: Tensor, ends: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The two curves (n, explainers, steps, ...) from the scores in between (n, explainers, 2, steps, ...) and of the whole
    and the bare input (n, 2, ...)."""
    whole, bare = (end[:, None, None].expand(*middle.shape[:2], 1, *end.shape[1:]) for end in ends.unbind(1))
    deletion = torch.cat([whole, middle[:, :, 0], bare], 2)
    insertion = torch.cat([bare, middle[:, :, 1], whole], 2)
    return deletion.float().numpy(), insertion.float().numpy()
