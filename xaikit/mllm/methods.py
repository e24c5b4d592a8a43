"""The token methods that don't start from the logit lens: attention, gradients, and chance to hold the others against.

A further one is a function like these, decorated with ``token_method``, here or in a file of its own in this folder.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files.registry import Entry, Registry
from .family import Answers, View
from .model import Mllm
from .passes import States, teacher_forced

Views = Sequence[View]
Target = Literal["logit", "log_probability"]  # what is differentiated
REGISTRY: Registry[Entry] = Registry(__package__)
# Sequences (tokens times samples) in one backward pass: more are slower on a CPU, since they fall out of its cache.
SEQUENCES_AT_ONCE = 16


def token_method(source: str) -> Callable:
    """Register the decorated function as a method of ``explain_tokens`` under its own name.

    It is called with (mllm, views, answers, *, options ...): n views of one scale and grid, and their answers' token ids, a
    the longest one's number of tokens. It returns maps (n, a, rows, cols), float32, zeros for tokens that an answer lacks.
    Its options, keyword-only, are checked by their annotations first. source : where the method comes from.

    Examples
    --------
    >>> import torch, xaikit as xk
    >>> @xk.mllm.token_method("an example")
    ... def flat(mllm, views, answers, *, level: float = 1.0):
    ...     return torch.full((len(views), max(map(len, answers)), *views[0].grid), level)
    >>> image = xk.draw_descriptions(1, seed=1).image
    >>> xk.explain_tokens(xk.load_mllm(), image, method="flat", level=2.0).token_heat.values.max()
    np.float32(2.0)
    """
    return REGISTRY.register(Entry, source=source)


@token_method("last layer's attention, the baseline of Li et al., Token Activation Map, ICCV 2025")
@torch.no_grad()
def attention(mllm: Mllm, views: Views, answers: Answers, *, head_fusion: Literal["mean", "max"] = "mean") -> Tensor:
    """Maps of the last layer's attention from each answer token's emitting state to the cells.

    head_fusion : "mean" or "max" over the heads; with the mean a map adds up to the attention that the image gets, at most
    1. One teacher-forced pass, with the attention of all layers in memory at once.
    """
    states = teacher_forced(mllm, views, answers, attentions=True)
    layer, emitting = states.attentions[-1], states.of_answers(states.emitting)
    rows = layer.gather(2, emitting[:, None, :, None].expand(-1, layer.shape[1], -1, layer.shape[3])).float()
    return states.to_cells(rows.mean(1) if head_fusion == "mean" else rows.amax(1))


@token_method("Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020")
@torch.no_grad()
def rollout(mllm: Mllm, views: Views, answers: Answers) -> Tensor:
    """Maps of R = product over layers of (mean over heads of A + I) / 2, later layers on the left: the row of each answer
    token's emitting state, which adds up to 1 over all positions, at the cells. Memory as of ``attention``.
    """
    states = teacher_forced(mllm, views, answers, attentions=True)
    layers, states.attentions = list(states.attentions), None
    flow = F.one_hot(states.of_answers(states.emitting), layers[-1].shape[-1]).float()
    while layers:  # from the last one down only the wanted rows are multiplied, and each layer is freed once it is used
        flow = (flow + flow @ layers.pop().mean(1, dtype=torch.float32)) / 2
    return states.to_cells(flow)


@token_method("Shrikumar et al., Not Just a Black Box, 2016, at the projector's output")
def gradient_x_input(
    mllm: Mllm, views: Views, answers: Answers, *, target: Target = "logit", signed: bool = False
) -> Tensor:
    """Maps of ReLU(sum over channels of g * F): F the image features after the projector, g the gradient there of each
    answer token's ``target`` at its emitting state.

    signed : no ReLU. One forward pass for the batch, and a backward pass for each token.
    """
    return _from_gradients(mllm, views, answers, target, signed, lambda g, features: (g * features).sum(-1))


@token_method("Selvaraju et al., Grad-CAM, ICCV 2017, at the projector's output")
def grad_cam(mllm: Mllm, views: Views, answers: Answers, *, target: Target = "logit", signed: bool = False) -> Tensor:
    """Maps of ReLU(sum over channels of w * F), w the mean over the cells of g; F, g and options as of
    ``gradient_x_input``."""

    def weighted(gradient: Tensor, features: Tensor) -> Tensor:
        return (features @ gradient.mean(-2)[..., None])[..., 0]

    return _from_gradients(mllm, views, answers, target, signed, weighted)


@token_method("chance: uniform random numbers")
def random(mllm: Mllm, views: Views, answers: Answers, *, seed: int = 0) -> Tensor:
    """Uniform random maps, drawn with ``seed`` and the sample's own pixels, so that batches don't matter; a token that an
    answer lacks has one too."""
    longest = max(map(len, answers))
    maps = []
    for view in views:
        pixels = b"".join(view.vision[name].numpy().tobytes() for name in sorted(view.vision))
        generator = torch.Generator().manual_seed(zlib.crc32(pixels, int(seed)))
        maps.append(torch.stack([torch.rand(view.grid, generator=generator) for _ in range(longest)]))
    return torch.stack(maps).to(mllm.device)


def _from_gradients(
    mllm: Mllm, views: Views, answers: Answers, target: str, signed: bool, combine: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """What ``combine`` makes (c, n, cells) of gradients (c, n, cells, D) of c tokens and the features (n, cells, D)."""
    with torch.no_grad():
        features = torch.stack(mllm.family.encode(views))
    features.requires_grad_()
    with torch.enable_grad():
        states = teacher_forced(mllm, views, answers, features.unbind(0))
        scores = _scores(mllm, states, target)
    sample = torch.arange(len(views), device=mllm.device)[:, None]
    rows = torch.stack([view.feature_rows for view in views]).to(mllm.device)
    cells = features.detach()[sample, rows].float()
    # No sample's score depends on another's features, so one backward pass serves a token of all samples.
    each = torch.eye(scores.shape[1], device=mllm.device)[:, None].expand(-1, len(views), -1)
    maps = []
    for part in each.split(max(1, SEQUENCES_AT_ONCE // len(views))):
        gradient = torch.autograd.grad(scores, features, part, retain_graph=True, is_grads_batched=True)[0]
        maps.append(combine(gradient[:, sample, rows].float(), cells))
    found = states.on_grid(torch.cat(maps).transpose(0, 1))
    return found if signed else found.relu()


def _scores(mllm: Mllm, states: States, target: str) -> Tensor:
    """What is differentiated, (n, a), in float32."""
    ids, weight = states.of_answers(states.ids), mllm.output_weight
    hidden = states.at(states.of_answers(states.emitting)).float()
    if target == "logit":
        return (hidden * weight[ids].float()).sum(-1)
    return (hidden @ weight.float().T).log_softmax(-1).gather(2, ids[..., None])[..., 0]
