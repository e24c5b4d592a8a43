"""Raw attention: how much the summary token attends to each patch or word in one layer."""

from torch import Tensor

from ..clip import Clip
from ..scoring import attention_from, content_of, record_score, summary_row
from .grad_eclip import explained_blocks
from .registry import method


@method(sides=("image", "text"), source="attention of the last layer, averaged over heads (Radford et al. 2021)")
def raw_attention(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str) -> Tensor:
    """A(i) = mean over heads of the attention from the summary token to position i, in the last layer."""
    tape, _ = record_score(clip, pixels, tokens, of, explained_blocks(clip, of, 1), gradients=False)
    return content_of(
        clip, attention_from(tape.layers[-1].attention.mean(1), summary_row(clip, pixels, tokens, of)), tokens, of
    )
