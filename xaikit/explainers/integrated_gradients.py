"""Integrated gradients: the gradient added up along the way from a baseline to the input (Sundararajan et al. 2017)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import FILLS, at_once, filled, padding, to_patches
from ..clip.score import content_of, other_embedding
from ..clip.towers import tower
from ..files.checks import check_choices, check_whole
from .registry import method
from .saliency import embedding_gradients_for, embeddings_replaced, pixel_gradients_for

EMBEDDING_FILLS = ("padding", "zero")


@method(
    sides=("image", "text"),
    source="Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017; captum's IntegratedGradients",
    needs="tokens",
    complete=True,
)
def integrated_gradients(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    steps: int = 50,
    fill: str | None = None,
    seed: int = 0,
) -> Tensor:
    """(x - x0) * the mean gradient of the cosine between the baseline x0 and the input x, by Gauss-Legendre
    quadrature with ``steps`` points, summed with its sign over a patch's pixels and channels, or over a word's
    embedding. The values add up to the cosine of x minus that of x0, as far as the quadrature is exact.

    fill: the baseline. Image: see ``filled``; None for "zero" of the normalised space, the mean colour of the training
    images. Text: the prompt's own tokens have the embedding of "padding" (None too) or "zero"; start, end and padding
    stay. seed: of the fill "random".
    """
    choices = FILLS if of == "image" else EMBEDDING_FILLS
    fill = choices[0] if fill is None else fill
    check_choices(fill=(fill, choices))
    check_whole(1, 1000, steps=steps)
    check_whole(0, seed=seed)
    if of == "image":
        return to_patches(pixel_attributions(clip, pixels, tokens, steps, fill, seed).sum(1), tower(clip, of))
    return content_of(clip, embedding_attributions(clip, pixels, tokens, steps, fill).sum(-1), tokens, of)


def pixel_attributions(clip: Clip, pixels: Tensor, tokens: Tensor, steps: int, fill: str, seed: int = 0) -> Tensor:
    """Integrated gradients of every pixel and channel, (n, 3, H, W) in float32."""
    spoken = other_embedding(clip, pixels, tokens, "image").float()
    difference = pixels - filled(clip, pixels, fill, int(seed))

    def gradient(sample: Tensor, share: Tensor) -> Tensor:
        between = pixels[sample] - (1 - share).to(pixels).view(-1, 1, 1, 1) * difference[sample]
        return pixel_gradients_for(clip, between, spoken[sample])

    return difference.float() * _mean_gradient(gradient, pixels, steps)


def embedding_attributions(clip: Clip, pixels: Tensor, tokens: Tensor, steps: int, fill: str) -> Tensor:
    """Integrated gradients of every token embedding, (n, context, width) in float32; 0 outside the prompt's own."""
    tokens = tokens.to(pixels.device)
    caught = []
    with torch.no_grad(), embeddings_replaced(clip, lambda embedding: caught.append(embedding)):
        seen = clip.encode_image(pixels).float()
        clip.encode_text(tokens)
        if fill == "padding":
            clip.encode_text(torch.full_like(tokens[:1], padding(clip)))
    base = caught[1] if fill == "padding" else torch.zeros_like(caught[0][:1])
    difference = (caught[0] - base) * clip.content(tokens).unsqueeze(-1)

    def gradient(sample: Tensor, share: Tensor) -> Tensor:
        missing = (1 - share).to(difference).view(-1, 1, 1) * difference[sample]
        return embedding_gradients_for(clip, tokens[sample], seen[sample], lambda embedding: embedding - missing)[0]

    return difference.float() * _mean_gradient(gradient, difference, steps)


def _mean_gradient(gradient: Callable[[Tensor, Tensor], Tensor], like: Tensor, steps: int) -> Tensor:
    """The mean over the path of ``gradient(sample, share of the way)``, for each of the samples of ``like``."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    shares, weights = (torch.tensor(x / 2, device=like.device) for x in (points + 1, weights))
    total = torch.zeros_like(like, dtype=torch.float32)
    n, size = len(like), at_once(like.device)
    for start in range(0, n * steps, size):
        index = torch.arange(start, min(start + size, n * steps), device=like.device)
        sample, step = index % n, index // n
        part = gradient(sample, shares[step]).float()
        total.index_add_(0, sample, part * weights[step].view(-1, *[1] * (part.ndim - 1)).to(part))
    return total
