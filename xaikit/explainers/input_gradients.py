"""Gradients at the input: saliency (Simonyan et al. 2014), and integrated gradients, added up along the way from a baseline
(Sundararajan et al. 2017)."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import FILLS, at_once, filled, padding, to_patches
from ..clip.score import content_of, other_embedding
from ..clip.towers import tower
from ..files.checks import check_choices, check_whole
from .registry import method

EMBEDDING_FILLS = ("padding", "zero")


@method(
    sides=("image", "text"),
    source="Simonyan et al., Deep Inside Convolutional Networks, 2014; captum's Saliency",
    needs="tokens",
)
def saliency(
    clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, signed: bool = False, times_input: bool = False
) -> Tensor:
    """The gradient g of the cosine at the input, gathered for each patch or word.

    Image: the sum of abs(g) over a patch's pixels and channels; signed: of g itself; times_input: of g times the
    normalised pixels, with the absolute value taken unless signed. Text: g is the gradient at a word's token
    embedding e; its length norm(g), or signed or times_input: the sum of g, or of g * e, without and with the
    absolute value.
    """
    other = other_embedding(clip, pixels, tokens, of).float()
    if of == "image":
        gradient = pixel_gradients(clip, pixels, other).float()
        value = gradient * pixels if times_input else gradient
        return to_patches((value if signed else value.abs()).sum(1), tower(clip, of))
    gradient, embedding = embedding_gradients(clip, tokens.to(pixels.device), other)
    if not signed and not times_input:
        return content_of(clip, gradient.norm(dim=-1), tokens, of)
    value = (gradient * embedding if times_input else gradient).sum(-1)
    return content_of(clip, value if signed else value.abs(), tokens, of)


@method(
    sides=("image", "text"),
    source="Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017; captum's IntegratedGradients",
    needs="tokens",
    complete=True,
)
def integrated_gradients(
    clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, steps: int = 50, fill: str | None = None, seed: int = 0
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
    if of == "image":
        return to_patches(pixel_attributions(clip, pixels, tokens, steps, fill, seed).sum(1), tower(clip, of))
    return content_of(clip, embedding_attributions(clip, pixels, tokens, steps, fill).sum(-1), tokens, of)


def pixel_gradients(clip: Clip, pixels: Tensor, spoken: Tensor) -> Tensor:
    """d cosine / d pixel, (n, 3, H, W), for text embeddings (n, width)."""
    with torch.enable_grad():
        leaf = pixels.detach().requires_grad_()
        return torch.autograd.grad((clip.encode_image(leaf).float() * spoken).sum(), leaf)[0]


def embedding_gradients(clip: Clip, tokens: Tensor, seen: Tensor, less: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """d cosine / d token embedding for image embeddings (n, width), and the token embeddings, of which ``less`` is taken
    off before, (n, context, width) in float32."""
    leaves = []

    def as_leaf(embedding: Tensor) -> Tensor:
        leaves.append((embedding - less).detach().requires_grad_())
        return leaves[0]

    with torch.enable_grad(), _embeddings_replaced(clip, as_leaf):
        cosine = (clip.encode_text(tokens).float() * seen).sum()
    return torch.autograd.grad(cosine, leaves[0])[0].float(), leaves[0].detach().float()


@contextlib.contextmanager
def _embeddings_replaced(clip: Clip, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the ``with`` statement the text tower runs on changed token embeddings (n, context, width)."""
    text = getattr(clip.model, "text", clip.model)
    handle = text.token_embedding.register_forward_hook(lambda module, args, result: change(result))
    try:
        yield
    finally:
        handle.remove()


def pixel_attributions(clip: Clip, pixels: Tensor, tokens: Tensor, steps: int, fill: str, seed: int = 0) -> Tensor:
    """Integrated gradients of every pixel and channel, (n, 3, H, W) in float32."""
    spoken = other_embedding(clip, pixels, tokens, "image").float()
    difference = pixels - filled(clip, pixels, fill, int(seed))

    def gradient(sample: Tensor, share: Tensor) -> Tensor:
        between = pixels[sample] - (1 - share).to(pixels).view(-1, 1, 1, 1) * difference[sample]
        return pixel_gradients(clip, between, spoken[sample])

    return difference.float() * _mean_gradient(gradient, pixels, steps)


def embedding_attributions(clip: Clip, pixels: Tensor, tokens: Tensor, steps: int, fill: str) -> Tensor:
    """Integrated gradients of every token embedding, (n, context, width) in float32; 0 outside the prompt's own."""
    tokens = tokens.to(pixels.device)
    caught, seen = [], other_embedding(clip, pixels, tokens, "text").float()
    with torch.no_grad(), _embeddings_replaced(clip, caught.append):
        clip.encode_text(tokens)
        if fill == "padding":
            clip.encode_text(torch.full_like(tokens[:1], padding(clip)))
    base = caught[1] if fill == "padding" else torch.zeros_like(caught[0][:1])
    difference = (caught[0] - base) * clip.content(tokens).unsqueeze(-1)

    def gradient(sample: Tensor, share: Tensor) -> Tensor:
        missing = (1 - share).to(difference).view(-1, 1, 1) * difference[sample]
        return embedding_gradients(clip, tokens[sample], seen[sample], missing)[0]

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
