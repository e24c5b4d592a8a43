"""Whether a map adds up to what it explains."""

import numpy as np
import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import check_fill, filled, scores_of_images, scores_of_texts
from ..explainers.registry import SIDES
from ..files.checks import check_choices
from ..measures.maps import check_values
from .faithfulness import word_counts


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
    """
    check_choices(of=(of, SIDES))
    fill = check_fill(fill, of)
    check_values(heat, len(tokens), of)
    if of == "text":
        word_counts(clip, tokens, heat)
    pixels = pixels.to(clip.device, clip.dtype)
    ends = torch.tensor([True, False], device=clip.device)
    if of == "image":
        both = ends.view(1, 2, 1, 1).expand(1, 2, *heat.shape[2:])
        scores = scores_of_images(clip, pixels, tokens, both, filled(clip, pixels, fill, seed), batch_size=batch_size)
    else:
        both = ends.view(1, 2, 1).expand(1, 2, heat.shape[2])
        scores = scores_of_texts(clip, pixels, tokens, both, fill, batch_size=batch_size)
    difference = (scores[:, 0] - scores[:, 1]).double().numpy()[:, None]
    total = heat.sum(tuple(range(2, heat.ndim)), dtype=float)
    return np.abs(total - difference) / np.maximum(np.abs(difference), 1e-6)
