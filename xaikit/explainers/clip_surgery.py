"""Patches by their values in the space of the text: CLIP Surgery, a second path in which they attend by their values, less what
all texts have in common; and MaskCLIP, each one's value in the last block."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.layers import join_heads
from ..clip.model import Clip
from ..clip.perturbation import perturbed_texts
from ..clip.score import content_of, other_embedding, project_tokens
from ..clip.tape import last, record
from ..clip.towers import tower
from .registry import check_native, method

RELEASED_BLOCKS = 6


@method(
    sides=("image",),
    source="Li et al., A Closer Look at the Explainability of CLIP (CLIP Surgery), arXiv 2304.05653",
    needs="class token",
)
def clip_surgery(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    blocks: int | None = None,
    candidates: Sequence[str] | Tensor | None = None,
    feature_surgery: bool = True,
    reference: bool = False,
) -> Tensor:
    """E(i) = z(i) . (w t - r): patch i's unit embedding of the second path with the text t, less the redundant r.

    Architecture surgery: over the last ``blocks`` blocks (None for six, or all where there are fewer), the second
    path starts from their input and adds softmax(v v^T / sqrt(head width)) v through the out-projection, without
    MLP; v is that of the model's own path, which runs as ever and whose class token is kept.

    Feature surgery: without ``candidates`` w = 1 and r is the embedding of the empty prompt. With them, texts
    (or token ids) that share what is redundant, w_j = softmax over the texts j of 2 * cosine(class token, text j),
    divided by its mean, and r the mean of w_j t_j over the sample's own text and the candidates (which may hold it).
    feature_surgery=False leaves w = 1, r = 0. reference: refuses towers of fewer than the released code's six blocks.
    """
    total = len(tower(clip, of).blocks)
    if reference and (total < RELEASED_BLOCKS or blocks not in (None, RELEASED_BLOCKS)):
        raise ValueError(
            f"reference=True: the released code operates on exactly {RELEASED_BLOCKS} blocks, not on"
            f" {total if blocks is None else blocks}; leave reference at False"
        )
    indices = last(min(RELEASED_BLOCKS, total) if blocks is None else blocks, total)
    shared = None if candidates is None else clip.tokens(candidates)
    with record(clip, of, indices, inputs="block") as tape:
        own = F.normalize(clip.encode_image(pixels).float(), dim=-1)
    hidden = tape[indices[0]].input
    for index in indices:
        v = tape[index].v
        hidden = hidden + tape[index].to_residual(join_heads(F.scaled_dot_product_attention(v, v, v)))
    patches = F.normalize(project_tokens(clip, hidden, of).float(), dim=-1)
    text = other_embedding(clip, pixels, tokens, of).float()
    if feature_surgery and shared is None:
        empty = perturbed_texts(clip, tokens[:1], torch.zeros(1, 1), "removed")
        text = text - clip.embed_text(empty.to(pixels.device)).float()
    elif feature_surgery:
        text = _less_shared(own, text, clip.embed_text(shared.to(pixels.device)).float(), tokens, shared)
    return content_of(clip, (patches @ text.unsqueeze(-1)).squeeze(-1), tokens, of)


def _less_shared(own: Tensor, text: Tensor, others: Tensor, tokens: Tensor, shared: Tensor) -> Tensor:
    """w t - r for each sample (n, width), over its own text and those of the others that differ from it."""
    texts = torch.cat([text[:, None], others.expand(len(text), -1, -1)], 1)
    same = (tokens[:, None].cpu() == shared[None]).all(2).to(text.device)
    there = F.pad(~same, (1, 0), value=True)
    scores = 2 * (texts @ own.unsqueeze(-1)).squeeze(-1)
    count = there.sum(1, keepdim=True)
    weight = scores.masked_fill(~there, -torch.inf).softmax(1) * count
    weighted = texts * weight.unsqueeze(-1)
    return weighted[:, 0] - weighted.sum(1) / count


@method(
    sides=("image",),
    source="Zhou et al., Extract Free Dense Labels from CLIP (MaskCLIP), ECCV 2022",
    needs="class token",
)
def maskclip(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, reference: bool = False) -> Tensor:
    """E(i) = cosine of the text with the projection of P(v_i): patch i's value in the last block, through the
    out-projection P, the final norm and the projection. No attention, no residual, no MLP; negative where a patch
    speaks against the text.

    reference: as Grad-ECLIP's released code has it, with the last block's residual and MLP kept, times the cosine
    of P(k_i) with the class token's P(k); only native CLIP blocks have those parts. There the out-projection's
    bias counts in the keys.
    """
    if reference:
        check_native(clip, of)
    with record(clip, of, [-1], inputs="block") as tape:
        clip.encode_image(pixels)
    layer, text = tape[-1], other_embedding(clip, pixels, tokens, of)
    if reference:  # the last block's output with each token's own value in place of the attention's
        block = tower(clip, of).blocks[-1]
        hidden = layer.input + layer.to_residual(layer.joined_v)
        hidden = hidden + block.ls_2(block.mlp(block.ln_2(hidden)))
    else:
        hidden = layer.project_out(layer.joined_v)
    heat = (F.normalize(project_tokens(clip, hidden, of).float(), dim=-1) @ text.float().unsqueeze(-1)).squeeze(-1)
    if reference:
        key = F.normalize(layer.project_out(layer.joined_k).float(), dim=-1)
        heat = heat * (key @ key[:, 0].unsqueeze(-1)).squeeze(-1)
    return content_of(clip, heat, tokens, of)
