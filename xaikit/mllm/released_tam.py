"""TAM as its authors' released function computes it, its quirks included (``tam_compat``)."""

import torch
from torch import Tensor

from .interference import context_mask, joint_normalisation, remove_interference
from .rank_gaussian_filter import rank_gaussian_filter


def released_tam(
    tokens: Tensor, logits: Tensor, grid: tuple[int, int], input_length: int, image: Tensor, prompt: Tensor
) -> Tensor:
    """Maps (answer tokens, rows, cols), uint8, of one sample, as the released function returns them round by round.

    tokens : (L,) ids of prompt and answer. logits : (L or L - 1, V), row p the model's output at position p.
    input_length : the position of the first answer token. image, prompt : positions of the image's tokens, row by row,
    and of the user's own prompt words, in order.

    The quirks: the first answer token is explained, as a context, for the id of the last input token; the first prompt
    token for the id likeliest at its position; the first map returned is that of the first prompt token, uncorrected.
    Not kept: where every context repeats the target's word the released function crashes, and a constant window makes
    it NaN; and words are compared by id, not by string.
    Raises ValueError for positions that don't fit grid and tokens.
    Source: Li et al., Token Activation Map, ICCV 2025, released code at 7c7df1d.
    """
    rows, cols = grid
    answers = len(tokens) - input_length
    if answers < 1 or len(logits) < len(tokens) - 1:
        raise ValueError(
            f"{len(tokens)} tokens, {input_length} of them input, and {len(logits)} rows of logits: "
            "at least one answer token and a row for all tokens but the last are needed"
        )
    if len(image) != rows * cols or len(prompt) < 1:
        raise ValueError(
            f"{len(image)} image and {len(prompt)} prompt positions: a grid of {rows} x {cols} needs {rows * cols}, and one prompt word"
        )
    emitting = torch.arange(input_length - 1, len(tokens) - 1, device=tokens.device)
    positions = torch.cat([prompt, emitting])
    words = torch.cat([tokens[prompt], tokens[input_length:]])[None]
    classes = words[0].clone()
    classes[0] = logits[prompt[0]].argmax()
    classes[len(prompt)] = tokens[input_length - 1]
    maps = logits[image][:, classes].relu().T.reshape(1, -1, rows, cols)
    relevance = logits[positions][:, classes].relu().T[None]
    real = torch.ones_like(words, dtype=torch.bool)
    allowed, before = (context_mask(words, real, real, repeated=repeated) for repeated in (False, True))
    corrected = remove_interference(maps, "relevance", relevance, None, allowed)
    corrected[:, len(prompt)] = maps[:, 0]
    before[:, len(prompt)] = False
    dimmed = joint_normalisation(corrected, relevance, before)[0, len(prompt) :]
    return (255 * rank_gaussian_filter(dimmed)).to(torch.uint8)
