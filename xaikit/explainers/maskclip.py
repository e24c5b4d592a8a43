"""MaskCLIP: each patch's value in the last block, compared with the text."""

import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..clip.score import content_of, other_embedding, project_tokens
from ..clip.tape import record
from ..clip.towers import tower
from .registry import check_native, method


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
