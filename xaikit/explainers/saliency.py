"""Saliency: the gradient of the score at the input (Simonyan et al. 2014)."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import to_patches
from ..clip.score import content_of, other_embedding
from ..clip.towers import tower
from .registry import method


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
    if of == "image":
        gradient = pixel_gradients(clip, pixels, tokens).float()
        value = gradient * pixels if times_input else gradient
        return to_patches((value if signed else value.abs()).sum(1), tower(clip, of))
    gradient, embedding = embedding_gradients(clip, pixels, tokens)
    if not signed and not times_input:
        return content_of(clip, gradient.norm(dim=-1), tokens, of)
    value = (gradient * embedding if times_input else gradient).sum(-1)
    return content_of(clip, value if signed else value.abs(), tokens, of)


def pixel_gradients(clip: Clip, pixels: Tensor, tokens: Tensor) -> Tensor:
    """d cosine / d pixel, (n, 3, H, W)."""
    return pixel_gradients_for(clip, pixels, other_embedding(clip, pixels, tokens, "image").float())


def pixel_gradients_for(clip: Clip, pixels: Tensor, spoken: Tensor) -> Tensor:
    """d cosine / d pixel for text embeddings (n, width) that are there already."""
    with torch.enable_grad():
        leaf = pixels.detach().requires_grad_()
        return torch.autograd.grad((clip.encode_image(leaf).float() * spoken).sum(), leaf)[0]


def embedding_gradients(clip: Clip, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """d cosine / d token embedding, and the token embeddings, (n, context, width) in float32."""
    seen = other_embedding(clip, pixels, tokens, "text").float()
    return embedding_gradients_for(clip, tokens.to(pixels.device), seen, lambda embedding: embedding)


def embedding_gradients_for(
    clip: Clip, tokens: Tensor, seen: Tensor, change: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """As ``embedding_gradients`` for image embeddings (n, width) that are there already, at changed embeddings."""
    leaves = []

    def as_leaf(embedding: Tensor) -> Tensor:
        leaves.append(change(embedding).detach().requires_grad_())
        return leaves[0]

    with torch.enable_grad(), embeddings_replaced(clip, as_leaf):
        cosine = (clip.encode_text(tokens).float() * seen).sum()
    return torch.autograd.grad(cosine, leaves[0])[0].float(), leaves[0].detach().float()


@contextlib.contextmanager
def embeddings_replaced(clip: Clip, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the ``with`` statement the text tower runs on changed token embeddings (n, context, width)."""
    text = getattr(clip.model, "text", clip.model)
    handle = text.token_embedding.register_forward_hook(lambda module, args, result: change(result))
    try:
        yield
    finally:
        handle.remove()
