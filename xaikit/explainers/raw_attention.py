"""Raw attention: how much the summary token attends to each patch or word in one layer."""

import contextlib

from torch import Tensor

from ..clip.model import Clip
from ..clip.score import content_of, record_score, summary_row
from .grad_eclip import explained_blocks, one_head
from .registry import method


@method(sides=("image", "text"), source="attention of the last layer, averaged over heads (Radford et al. 2021)")
def raw_attention(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, reference: bool = False) -> Tensor:
    """A(i) = mean over heads of the attention from the summary token to position i, in the last layer.

    reference: the last block with one attention head, as Grad-ECLIP's released code runs it.
    """
    indices = explained_blocks(clip, of, 1)
    with one_head(clip, of, indices) if reference else contextlib.nullcontext():
        tape, _ = record_score(clip, pixels, tokens, of, indices, gradients=False)
        row = summary_row(clip, pixels, tokens, of)
        attention = tape.layers[-1].attention_at(row)
    return content_of(clip, attention.mean(1), tokens, of)
