"""Grad-CAM on a transformer: the last block's input, channels weighted by their mean gradient."""

import torch
from torch import Tensor

from ..clip.model import Clip
from ..clip.score import content_of, record_score
from ..files.checks import check_choices
from .grad_eclip import one_head, scaled_positions
from .registry import method


@method(
    sides=("image", "text"),
    source="Selvaraju et al., Grad-CAM, ICCV 2017; on the last block's input as in captum",
    needs="tokens",
)
def gradcam(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    at: str = "block",
    average: str = "content",
    signed: bool = False,
    reference: bool = False,
) -> Tensor:
    """E(i) = ReLU(sum over channels of w * x(i)), w the mean over positions of dc/dx, c the cosine.

    at: x is the input of the last "block", or of its attention layer, behind the "norm". (The last block's output
    has no gradient at the patches.) average: w over the patches, or the prompt's own tokens ("content"), or over
    "all" tokens. signed: no ReLU. reference: Grad-ECLIP's released baseline, that is average="all" and the last
    block with one attention head.
    """
    check_choices(at=(at, ("block", "norm")), average=(average, ("content", "all")))
    with one_head(clip, of, [-1], reference):
        tape, _ = record_score(clip, pixels, tokens, of, [-1], inputs=at)
    layer = tape[-1]
    scope = torch.ones(1, layer.input.shape[1], dtype=torch.bool, device=layer.input.device)
    if average == "content" and not reference:
        scope = scaled_positions(clip, layer, tokens, of)
    scope = scope.unsqueeze(-1).float()
    channels = (layer.input_gradient.float() * scope).sum(1) / scope.sum(1)
    heat = (layer.input.float() @ channels.unsqueeze(-1)).squeeze(-1)
    return content_of(clip, heat if signed else heat.relu(), tokens, of)
