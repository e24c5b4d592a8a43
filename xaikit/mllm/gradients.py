"""Gradients as an explanation of answer tokens, taken at the image features that the projector gives."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..files.checks import check_choices
from .family import View
from .model import Mllm
from .passes import AnswerTokens, States, answer_tokens, teacher_forced

TARGETS = ("logit", "log_probability")
# Sequences (tokens times samples) in one backward pass: more are slower on a CPU, since they fall out of its cache.
SEQUENCES_AT_ONCE = 16


def gradient_x_input(
    mllm: Mllm, views: Sequence[View], answers: Sequence[Sequence[int]], target: str = "logit", signed: bool = False
) -> Tensor:
    """Maps (n, a, rows, cols) of ReLU(sum over channels of g * F): F the image features after the projector, g the
    gradient there of each answer token's logit at its emitting state.

    views : of one scale and grid. answers : their token ids; a is the longest one's number of tokens, and tokens that
    an answer lacks have zeros. target : what is differentiated, the "logit" or the "log_probability". signed : no ReLU.
    Float32. One forward pass for the batch, and a backward pass for each token. Raises ValueError for an unknown
    target, views of several grids, and answers that don't fit.
    Source: Shrikumar et al., Not Just a Black Box, 2016, at the projector's output.
    """
    return _maps(mllm, views, answers, target, signed, lambda gradient, features: (gradient * features).sum(-1))


def grad_cam(
    mllm: Mllm, views: Sequence[View], answers: Sequence[Sequence[int]], target: str = "logit", signed: bool = False
) -> Tensor:
    """Maps (n, a, rows, cols) of ReLU(sum over channels of w * F), w the mean over the cells of g; F, g, arguments,
    shapes and errors as of ``gradient_x_input``.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, at the projector's output.
    """
    return _maps(mllm, views, answers, target, signed, lambda gradient, features: _dot(gradient.mean(-2), features))


def _dot(channels: Tensor, features: Tensor) -> Tensor:
    return (features @ channels[..., None])[..., 0]


def _maps(
    mllm: Mllm,
    views: Sequence[View],
    answers: Sequence[Sequence[int]],
    target: str,
    signed: bool,
    combine: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """What ``combine`` makes (c, n, cells) of gradients (c, n, cells, D) of c tokens and the features (n, cells, D)."""
    check_choices(target=(target, TARGETS))
    tokens = answer_tokens(views, answers, mllm.device)
    with torch.no_grad():
        features = torch.stack(mllm.family.encode(views))
    features.requires_grad_()
    with torch.enable_grad():
        scores = _scores(mllm, teacher_forced(mllm, views, answers, features.unbind(0)), tokens, target)
    sample = torch.arange(len(views), device=mllm.device)[:, None]
    cells = features.detach()[sample, tokens.rows].float()
    # No sample's score depends on another's features, so one backward pass serves a token of all samples.
    each = torch.eye(scores.shape[1], device=mllm.device)[:, None].expand(-1, len(views), -1)
    maps = []
    for part in each.split(max(1, SEQUENCES_AT_ONCE // len(views))):
        gradient = torch.autograd.grad(scores, features, part, retain_graph=True, is_grads_batched=True)[0]
        maps.append(combine(gradient[:, sample, tokens.rows].float(), cells))
    found = tokens.on_grid(torch.cat(maps).transpose(0, 1))
    return found if signed else found.relu()


def _scores(mllm: Mllm, states: States, tokens: AnswerTokens, target: str) -> Tensor:
    """What is differentiated, (n, a), in float32."""
    hidden, weight = states.at(tokens.emitting).float(), mllm.output_weight
    if target == "logit":
        return (hidden * weight[tokens.ids].float()).sum(-1)
    return (hidden @ weight.float().T).log_softmax(-1).gather(2, tokens.ids[..., None])[..., 0]
