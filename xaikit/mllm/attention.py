"""Attention as an explanation of answer tokens: what the state that wrote a token attends to in the image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files.checks import check_choices
from .family import View
from .model import Mllm
from .passes import AnswerTokens, answer_tokens, teacher_forced

HEAD_FUSION = ("mean", "max")


@torch.no_grad()
def last_attention(
    mllm: Mllm, views: Sequence[View], answers: Sequence[Sequence[int]], head_fusion: str = "mean"
) -> Tensor:
    """Maps (n, a, rows, cols) of the last layer's attention from each answer token's emitting state to the cells.

    views : of one scale and grid. answers : their token ids; a is the longest one's number of tokens, and tokens that
    an answer lacks have zeros. head_fusion : "mean" or "max" over the heads. Float32; with the mean a map adds up to the
    attention that the image gets, at most 1. One teacher-forced pass, with the attention of all layers in memory at
    once. Raises ValueError for an unknown choice, views of several grids, and answers that don't fit.
    Source: the baseline "Attention" of Li et al., Token Activation Map, ICCV 2025.
    """
    check_choices(head_fusion=(head_fusion, HEAD_FUSION))
    tokens = answer_tokens(views, answers, mllm.device)
    attention = teacher_forced(mllm, views, answers, attentions=True).attentions[-1]
    where = tokens.emitting[:, None, :, None].expand(-1, attention.shape[1], -1, attention.shape[3])
    rows = attention.gather(2, where).float()
    return _to_cells(rows.mean(1) if head_fusion == "mean" else rows.amax(1), tokens)


@torch.no_grad()
def attention_rollout(mllm: Mllm, views: Sequence[View], answers: Sequence[Sequence[int]]) -> Tensor:
    """Maps (n, a, rows, cols) of R = product over layers of (mean over heads of A + I) / 2, later layers on the left:
    the row of each answer token's emitting state, the columns of the cells.

    Arguments, shapes, memory and errors as of ``last_attention``; a row of R adds up to 1 over all positions.
    Source: Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020.
    """
    tokens = answer_tokens(views, answers, mllm.device)
    layers = list(teacher_forced(mllm, views, answers, attentions=True).attentions)
    return _to_cells(_rolled_out(layers, tokens.emitting), tokens)


def _rolled_out(layers: list[Tensor], emitting: Tensor) -> Tensor:
    """The rows (n, a, L) of the rollout; takes the layers' attention (n, heads, L, L) out of the list, so that each is
    freed once it is used. From the last layer down only the wanted rows are multiplied."""
    flow = F.one_hot(emitting, layers[-1].shape[-1]).float()
    while layers:
        flow = (flow + flow @ layers.pop().mean(1, dtype=torch.float32)) / 2
    return flow


def _to_cells(rows: Tensor, tokens: AnswerTokens) -> Tensor:
    return tokens.on_grid(rows.gather(2, tokens.image[:, None].expand(-1, rows.shape[1], -1)))
