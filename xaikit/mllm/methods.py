"""The token methods that don't start from the logit lens: attention, gradients, and chance to hold the others against.

A further one is a function like these, decorated with ``token_method``, here or in a file of its own in this folder.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from ..files.registry import Entry, Registry
from .memory import Keeps, Sizes
from .model import Mllm
from .passes import Batch, States, attended, teacher_forced
from .view import Answers, View

Views = Sequence[View]
Target = Literal["logit", "log_probability"]  # what is differentiated


@dataclass(frozen=True)
class TokenMethod(Entry):
    """A registered method; ``needs`` raises ValueError for a model that it can't explain, ``keeps`` says what it keeps."""

    needs: Callable[[Mllm], None] | None = None
    keeps: Keeps = "nothing"


REGISTRY: Registry[TokenMethod] = Registry(__package__)
RECOMPUTED = 2**30  # bytes of a graph, beyond which layers are computed again for the backward pass instead of kept
FULL = ("full_attention", "sliding_attention", "chunked_attention")  # layers with weights from 0 to 1


def token_method(source: str, needs: Callable[[Mllm], None] | None = None, keeps: Keeps = "nothing") -> Callable:
    """Register the decorated function as a method of ``explain_tokens`` under its own name.

    It is called with (mllm, views, answers, *, options ...): n views of one scale and grid, and their answers' token ids, a
    the longest one's number of tokens. It returns maps (n, a, rows, cols), float32, zeros for tokens that an answer lacks.
    ``teacher_forced`` runs the model over prompt and answer; the ``States`` that it gives bring values of the cells onto the grid.
    Its options, keyword-only, are checked by their annotations first. source : where the method comes from. needs : called
    with the model before any work, to raise ValueError for one that the method can't explain. keeps : what it keeps in memory
    beside a pass, for choosing batches: "rows" or "matrices" of attention, or a "graph" for gradients.

    Examples
    --------
    >>> import torch, xaikit as xk
    >>> @xk.mllm.token_method("an example")
    ... def flat(mllm, views, answers, *, level: float = 1.0):
    ...     return torch.full((len(views), max(map(len, answers)), *views[0].grid), level)
    >>> image = xk.draw_descriptions(1, seed=1).image
    >>> xk.explain_tokens(xk.load_mllm(), image, method="flat", level=2.0).token_heat.values.max()
    np.float32(2.0)
    >>> REGISTRY.remove("flat")
    """
    return REGISTRY.register(TokenMethod, source=source, needs=needs, keeps=keeps)


@token_method("last layer's attention, the baseline of Li et al., Token Activation Map, ICCV 2025", keeps="rows")
@torch.no_grad()
def attention(mllm: Mllm, views: Views, answers: Answers, *, head_fusion: Literal["mean", "max"] = "mean") -> Tensor:
    """Maps of the last layer's attention from each answer token's emitting state to the cells.

    head_fusion : "mean" or "max" over the heads; with the mean a map adds up to the attention that the image gets, at most
    1. Read as the model writes, or in one teacher-forced pass; of the layers without such attention, as linear ones, the last
    before them counts.
    """
    found = attended(mllm, Batch.of(views, "rows"), answers)
    if found.rows is None:
        raise ValueError(f"attention: {mllm.name} computes it in a way of its own, without weights to read")
    rows, states = found.rows.float(), teacher_forced(mllm, views, answers, hidden=found.hidden)
    return states.to_cells((rows.mean(1) if head_fusion == "mean" else rows.amax(1)).to(mllm.device))


def _all_attention(mllm: Mllm) -> None:
    """Raise ValueError for a model with layers that have no attention weights."""
    kinds = getattr(mllm.model.config.get_text_config(), "layer_types", None) or []
    if without := [kind for kind in kinds if kind not in FULL]:
        raise ValueError(
            f"rollout: {len(without)} of the {len(kinds)} layers of {mllm.name} are {without[0]}, without weights to multiply;"
            " use attention, gradient_x_input or the lens family"
        )


@token_method(
    "Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020", needs=_all_attention, keeps="matrices"
)
@torch.no_grad()
def rollout(mllm: Mllm, views: Views, answers: Answers) -> Tensor:
    """Maps of R = product over layers of (mean over heads of A + I) / 2, later layers on the left: the row of each answer
    token's emitting state, which adds up to 1 over all positions, at the cells. Keeps a float for each two positions and
    layer. Raises ValueError for a model with layers that have no attention weights, such as linear attention.
    """
    many = mllm.model.config.get_text_config().num_hidden_layers
    batch = Batch.of(views, "matrices")
    found = attended(mllm, batch, answers)
    states, layers = teacher_forced(mllm, views, answers, hidden=found.hidden), found.matrices
    if "rollout" in batch.made:
        return batch.made["rollout"]
    if len(layers) != many:
        raise ValueError(f"rollout: only {len(layers)} of the {many} layers of {mllm.name} have attention weights")
    flow = F.one_hot(states.of_answers(states.emitting), layers[-1].shape[-1]).float()
    while layers:  # from the last one down only the wanted rows are multiplied, and each layer is freed once it is used
        flow = (flow + flow @ layers.pop().to(flow.device)) / 2
    return batch.made.setdefault("rollout", states.to_cells(flow))


@token_method("Shrikumar et al., Not Just a Black Box, 2016, at the projector's output", keeps="graph")
def gradient_x_input(
    mllm: Mllm, views: Views, answers: Answers, *, target: Target = "logit", signed: bool = False
) -> Tensor:
    """Maps of ReLU(sum over channels of g * F): F the image features after the projector, g the gradient there of each
    answer token's ``target`` at its emitting state.

    signed : no ReLU. One forward pass for the batch, of its own since it keeps a graph, and a backward pass for each token.
    """
    return _from_gradients(mllm, views, answers, target, signed)[0]


@token_method("Selvaraju et al., Grad-CAM, ICCV 2017, at the projector's output", keeps="graph")
def grad_cam(mllm: Mllm, views: Views, answers: Answers, *, target: Target = "logit", signed: bool = False) -> Tensor:
    """Maps of ReLU(sum over channels of w * F), w the mean over the cells of g; F, g and options as of
    ``gradient_x_input``."""
    return _from_gradients(mllm, views, answers, target, signed)[1]


@token_method("chance: uniform random numbers")
def random(mllm: Mllm, views: Views, answers: Answers, *, seed: int = 0) -> Tensor:
    """Uniform random maps, drawn with ``seed`` and the sample's own pixels, so that batches don't matter; a token that an
    answer lacks has one too."""
    longest = max(map(len, answers))
    maps = []
    for view in views:
        pixels = b"".join(seen.vision[name].numpy().tobytes() for seen in view.images for name in sorted(seen.vision))
        generator = torch.Generator().manual_seed(zlib.crc32(pixels, int(seed)))
        maps.append(torch.stack([torch.rand(view.grid, generator=generator) for _ in range(longest)]))
    return torch.stack(maps).to(mllm.device)


def _from_gradients(mllm: Mllm, views: Views, answers: Answers, target: str, signed: bool) -> list[Tensor]:
    """The maps of gradient times input and those of Grad-CAM: one pass and one backward pass a token for both."""
    batch = Batch.of(views, "graph")
    if target not in batch.made:
        batch.made[target] = _gradient_maps(mllm, views, answers, target)
    return [maps if signed else maps.relu() for maps in batch.made[target]]


def _gradient_maps(mllm: Mllm, views: Views, answers: Answers, target: str) -> list[Tensor]:
    with torch.no_grad():
        features = torch.stack(mllm.family.encode(views))
    features.requires_grad_()
    sizes, tokens = Sizes.of(mllm.model), max(len(view.ids) for view in views) + max(map(len, answers))
    recomputed = sizes.layers * sizes.of_layer(len(views) * tokens) > RECOMPUTED
    with torch.enable_grad(), _recomputing(mllm.decoder, recomputed):
        states = teacher_forced(mllm, views, answers, features.unbind(0))
        scores = _scores(mllm, states, target)
    sample = torch.arange(len(views), device=mllm.device)[:, None]
    rows = torch.stack([view.feature_rows for view in views]).to(mllm.device)
    cells = features.detach()[sample, rows].float()
    # No sample's score depends on another's features, so one backward pass serves a token of all samples.
    each = torch.eye(scores.shape[1], device=mllm.device)[:, None].expand(-1, len(views), -1)
    times_input, cam = [], []
    for part in each.split(sizes.together(tokens, len(views))):
        gradient = torch.autograd.grad(scores, features, part, retain_graph=True, is_grads_batched=True)[0]
        gradient = gradient[:, sample, rows].float()
        times_input.append((gradient * cells).sum(-1))
        cam.append((cells @ gradient.mean(-2)[..., None])[..., 0])
    return [states.on_grid(torch.cat(maps).transpose(0, 1)) for maps in (times_input, cam)]


@contextmanager
def _recomputing(decoder: nn.Module, wanted: bool) -> Iterator[None]:
    """Layers whose inputs alone are kept for the backward pass, and which are computed again there."""
    layers = [module for module in decoder.modules() if wanted and isinstance(module, GradientCheckpointingLayer)]
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    for layer in layers:  # training, which transformers asks for, is set for the layer alone: its parts have no dropout
        layer.gradient_checkpointing, layer.training, layer._gradient_checkpointing_func = True, True, again
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
            del layer.gradient_checkpointing, layer._gradient_checkpointing_func


def _scores(mllm: Mllm, states: States, target: str) -> Tensor:
    """What is differentiated, (n, a), in float32."""
    ids = states.of_answers(states.ids)
    hidden = states.at(states.of_answers(states.emitting))
    if target == "logit":
        return mllm.logits_of(ids[..., None].flatten(0, 1), hidden.flatten(0, 1)[:, None]).view(ids.shape)
    return mllm.logits(hidden).log_softmax(-1).gather(2, ids[..., None])[..., 0]
