"""What one pass per scale tells about a batch of answers, and the maps that the steps make of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .arc import overlap_matrix, top_ids
from .family import View
from .model import Mllm
from .msea import aggregate
from .passes import States, teacher_forced
from .steps import Steps
from .tam import context_mask, joint_normalisation, rank_gaussian_filter, released_tam, remove_interference

ROWS_AT_ONCE = 256  # states turned into logits over the whole vocabulary: bounds the memory

Key = tuple[float, str]  # scale and enlargement


class NotFinite(ValueError):
    """Values of some samples of a batch aren't finite; ``rows`` are the samples' places in the batch."""

    def __init__(self, message: str, rows: Sequence[int]):
        super().__init__(message)
        self.rows = list(rows)


@dataclass
class Reading:
    """A batch of n samples with T context tokens (prompt, then answer, padded), all on the model's device.

    ids, is_answer, real : (n, T), see ``States``. maps : for each scale and enlargement (n, T, rows, cols), the
    logit-lens maps ReLU(F W[token]). likelihood : for each of these the log-probability (n, T) of each token, 0 for
    the prompt's. relevance : (n, T, T), r[t, k] = ReLU(logit of token t's word at the state of k). top : for each choice
    of positions the likeliest next tokens (n, T, k). states : of scale 1, only where the released function needs them. made : what
    several steps share, kept from the first to the others.
    """

    ids: Tensor
    is_answer: Tensor
    real: Tensor
    maps: dict[Key, Tensor]
    likelihood: dict[Key, Tensor]
    relevance: Tensor
    top: dict[str, Tensor]
    states: States | None = None
    made: dict[tuple, Tensor] = field(default_factory=dict)


@torch.no_grad()
def read(
    mllm: Mllm, views: Mapping[Key, Sequence[View]], answers: Sequence[Sequence[int]], steps: Sequence[Steps]
) -> Reading:
    """Read a batch, whose views agree in their grid at each scale, with one teacher-forced pass a scale.

    steps : all that will be made of it; they say which rankings are needed, and how long. Raises NotFinite for samples
    whose own states aren't finite, as with broken weights or where half precision overflows.
    Source: Li et al., Token Activation Map, ICCV 2025, eq. 1; Liang et al., arXiv 2509.22415, reconstructed.
    """
    weight = mllm.output_weight
    unembedding = weight.float().T
    maps, likelihood, native = {}, {}, None
    for key, at_scale in views.items():
        states = teacher_forced(mllm, at_scale, answers)
        padding = torch.arange(states.hidden.shape[1], device=weight.device) >= states.lengths[:, None]
        check_finite((states.hidden.isfinite().all(-1) | padding).all(1), f"hidden states at scale {key[0]:g}")
        column = weight[states.ids].float()  # (n, T, D)
        lens = column @ states.at(states.image).float().mT
        maps[key] = lens.relu().unflatten(-1, states.grids[0]) * states.real[..., None, None]
        likelihood[key] = _log_probabilities(states, unembedding)
        if key[0] == 1 and native is None:
            native = states
            relevance = (column @ states.at(states.emitting).float().mT).relu()
    needed: dict[str, int] = {}
    for choice in steps:
        if choice.compares:
            needed[choice.positions] = max(choice.k, needed.get(choice.positions, 0))
    top = {name: _top(native.at(getattr(native, name)), unembedding, k) for name, k in needed.items()}
    kept = native if any(choice.released for choice in steps) else None
    return Reading(native.ids, native.is_answer, native.real, maps, likelihood, relevance, top, kept)


def check_finite(finite: Tensor, what: str) -> None:
    """Raise NotFinite unless all samples are; finite : (n,) bool."""
    rows = (~finite).nonzero()[:, 0].tolist()
    if rows:
        raise NotFinite(
            f"the model's {what} aren't finite: its weights are broken or its numbers overflow; where it runs in half"
            ' precision, load it with precision="fp32"',
            rows,
        )


def explanation(reading: Reading, steps: Steps, weight: Tensor | None = None) -> Tensor:
    """The maps (n, T, rows, cols) of all tokens after these steps; those of the answer are meant to be looked at.

    weight : the output weight (V, D), for ``released`` only.
    """
    if steps.released:
        return _released(reading, weight)
    maps = _over_scales(reading, steps)
    if steps.weighting is not None:
        allowed = context_mask(reading.ids, reading.is_answer, reading.real, steps.prompt_context)
        overlap = rank_overlap(reading, steps) if steps.compares else None
        maps = remove_interference(
            maps, steps.weighting, reading.relevance, overlap, allowed, steps.threshold, steps.least_squares
        )
    if steps.joint:
        before = context_mask(reading.ids, reading.is_answer, reading.real, steps.prompt_context, repeated=True)
        maps = joint_normalisation(maps, reading.relevance, before)
    if steps.filter:
        maps = rank_gaussian_filter(maps, steps.filter)
    return maps * reading.real[..., None, None]


def rank_overlap(reading: Reading, steps: Steps) -> Tensor:
    """Rank-biased overlap (n, T, T) of the tokens' rankings, as these steps take them."""
    choice = (steps.positions, steps.k, steps.persistence, steps.normalised)
    if choice not in reading.made:
        top = reading.top[steps.positions][..., : steps.k]
        reading.made[choice] = overlap_matrix(top, steps.persistence, steps.normalised, reading.real)
    return reading.made[choice]


def _over_scales(reading: Reading, steps: Steps) -> Tensor:
    """The mean of the maps over the scales, as these steps take it."""
    choice = (steps.scales, steps.enlargement, steps.scale_weights, steps.scale_normalisation, steps.grid)
    if choice not in reading.made:
        keys = [_key(scale, steps.enlargement) for scale in steps.scales]
        omega = None
        if steps.scale_weights == "likelihood":
            omega = torch.stack([(reading.likelihood[key] * reading.is_answer).sum(1) for key in keys], 1)
            omega = (omega / reading.is_answer.sum(1, keepdim=True)).softmax(1)
        at_scale = [reading.maps[key] for key in keys]
        reading.made[choice] = aggregate(at_scale, omega, steps.grid, steps.scale_normalisation, steps.native)
    return reading.made[choice]


def needed_views(steps: Sequence[Steps]) -> list[Key]:
    """Which scales, in which enlargement, these steps need; the answer is written at the first."""
    keys = [(1.0, "interpolate")]
    keys += [_key(scale, choice.enlargement) for choice in steps for scale in choice.scales]
    return list(dict.fromkeys(keys))


def _key(scale: float, enlargement: str) -> Key:
    return (1.0, "interpolate") if scale == 1 else (scale, enlargement)


def _top(states: Tensor, unembedding: Tensor, k: int) -> Tensor:
    """The ids (n, T, k) with the largest logits of states (n, T, D), a bounded number of states at a time."""
    rows = states.flatten(0, 1).split(ROWS_AT_ONCE)
    return torch.cat([top_ids(part.float() @ unembedding, k) for part in rows]).unflatten(0, states.shape[:2])


def _log_probabilities(states: States, unembedding: Tensor) -> Tensor:
    """Log-probability (n, T) of each of the answer's tokens, 0 elsewhere."""
    rows, ids = states.at(states.previous)[states.is_answer], states.ids[states.is_answer]
    parts = zip(rows.split(ROWS_AT_ONCE), ids.split(ROWS_AT_ONCE), strict=True)
    found = [(r.float() @ unembedding).log_softmax(-1).gather(1, i[:, None])[:, 0] for r, i in parts]
    result = torch.zeros(states.ids.shape, device=unembedding.device)
    result[states.is_answer] = torch.cat(found)
    return result


def _released(reading: Reading, weight: Tensor) -> Tensor:
    """The released function sample by sample, since its quirks run through its rounds."""
    states, unembedding = reading.states, weight.float().T
    result = torch.zeros_like(reading.maps[1.0, "interpolate"])
    for row, view in enumerate(states.views):
        answer = reading.ids[row, reading.is_answer[row]]
        logits = states.hidden[row, : int(states.lengths[row])].float() @ unembedding
        tokens = torch.cat([view.ids.to(answer.device), answer])
        maps = released_tam(
            tokens, logits, view.grid, len(view.ids), states.image[row], view.prompt_positions.to(answer.device)
        )
        result[row, reading.is_answer[row]] = maps.to(result) / 255
    return result
