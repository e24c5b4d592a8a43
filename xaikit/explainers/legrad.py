"""LeGrad: how sensitive each block's own output is to its attention."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..clip.score import content_of, other_embedding, project_tokens, summary_row
from ..clip.tape import last, record
from ..clip.towers import tower
from ..files.checks import check_choices
from .registry import method


@method(sides=("image", "text"), source="Bousselham et al., LeGrad, arXiv 2404.03214", needs="tokens")
def legrad(
    clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, blocks: int | None = None, pooling: str | None = None
) -> Tensor:
    """E = sum over the last ``blocks`` blocks l (None for all) of the mean over heads and queries of
    ReLU(dc_l/dA_l), the gradient itself being the map; c_l is the cosine of the other side's embedding with that of
    block l's own output, through the final norm and the projection, and A_l block l's attention.

    pooling: block l's output becomes one embedding by the "mean" of its tokens, as in the released code, or by its
    "summary" token alone; None is "mean" for images and "summary" for text, whose mean would hold the padding.
    Where a pooling layer leads to the embedding, c_l is what it makes of block l's output and A_l its attention, for
    every block; the released code's correction for SigLIP (zero where an empty prompt's map is high) is left out.
    """
    check_choices(pooling=(pooling or "mean", ("mean", "summary")))
    if of == "text" and pooling == "mean":
        raise ValueError("pooling='mean': the text tower's mean would hold the padding; use 'summary'")
    described = tower(clip, of)
    indices = last(blocks, len(described.blocks))
    other = other_embedding(clip, pixels, tokens, of)
    if described.pool is not None:
        return _of_pooling(clip, pixels, other, indices)
    row = summary_row(clip, pixels, tokens, of) if of == "text" or pooling == "summary" else None

    def score(output: Tensor) -> Tensor:
        pooled = output.mean(1, keepdim=True) if row is None else output.take_along_dim(row[:, None, None], dim=1)
        return (F.normalize(project_tokens(clip, pooled, of)[:, 0], dim=-1) * other).sum()

    with record(clip, of, indices, gradients=True) as tape:
        clip.encode_image(pixels) if of == "image" else clip.encode_text(tokens.to(pixels.device))
        tape.backward_each(score)
    if row is None:
        maps = [layer.attention_gradient.float().relu().mean((1, 2)) for layer in tape.layers]
    else:  # the other queries' gradients are zero
        maps = [layer.attention_gradient_at(row).float().relu().mean(1) / layer.v.shape[2] for layer in tape.layers]
    return content_of(clip, torch.stack(maps).sum(0), tokens, of)


def _of_pooling(clip: Clip, pixels: Tensor, other: Tensor, indices: list[int]) -> Tensor:
    """The pooling layer's sensitivity to each block's output in turn."""
    with record(clip, "image", indices, pool=False) as tape:
        clip.encode_image(pixels)
    maps = []
    for index in indices:
        with record(clip, "image", [], gradients=True) as pooled:
            pooled.backward((F.normalize(_pool(clip, tape[index].output), dim=-1) * other).sum())
        first = torch.zeros(len(pixels), dtype=torch.long, device=pixels.device)
        maps.append(pooled.pool.attention_gradient_at(first).float().relu().mean(1))
    return content_of(clip, torch.stack(maps).sum(0), torch.empty(0), "image")


def _pool(clip: Clip, hidden: Tensor) -> Tensor:
    """A block's output (n, tokens, width) through the final norm, the pooling layer and the projection."""
    visual = clip.model.visual
    if hasattr(visual, "trunk"):
        return visual.head(visual.trunk.forward_head(visual.trunk.norm(hidden)))
    pooled, _ = visual._pool(hidden)
    return pooled if visual.proj is None else pooled @ visual.proj
