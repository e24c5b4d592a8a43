"""Passes over given answers: where in a batch their tokens are, the states behind them, and what the logit lens reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .attending import Rows, Watch, mean_over_heads, watched
from .memory import ROWS_AT_ONCE, Keeps
from .model import Mllm
from .numerics import top_ids
from .view import NATIVE, Answers, Grid, Key, View


@dataclass
class States:
    """Hidden states of a batch and where in them things are.

    Context tokens are the prompt's and then the answer's, T of them with padding at the end, where positions and ids are 0.

    hidden : (n, L, D) after the final norm: logits are ``mllm.logits(hidden)``. lengths : (n,) tokens of each sample.
    image : (n, cells) position of each cell, row-major; cells : whether the cell is real, as all are where the grids agree.
    context : (n, T) each context token's own position. ids, is_answer, real : (n, T) token ids, whether the token is the
    answer's, and whether it is no padding.
    """

    hidden: Tensor
    lengths: Tensor
    views: list[View]
    image: Tensor
    cells: Tensor
    context: Tensor
    ids: Tensor
    is_answer: Tensor
    real: Tensor

    @property
    def previous(self) -> Tensor:
        """The position (n, T) before each context token, whose state predicted it."""
        return (self.context - 1).clamp(min=0)

    @property
    def emitting(self) -> Tensor:
        """The position (n, T) whose state ranks for the token: its own for a prompt token, the one before (which wrote it)
        for an answer token."""
        return torch.where(self.is_answer, self.previous, self.context)

    def at(self, positions: Tensor) -> Tensor:
        """States (n, k, D) at positions (n, k), such as ``states.at(states.image)``."""
        return self.hidden.gather(1, positions[..., None].expand(-1, -1, self.hidden.shape[-1]))

    @cached_property
    def answer_places(self) -> tuple[Tensor, Tensor]:
        """Where among the context tokens each answer token is (n, a), and which of these are no padding."""
        counts = self.is_answer.sum(1)
        order = torch.arange(int(counts.max()), device=counts.device)
        real = order < counts[:, None]
        return torch.where(real, self.is_answer.int().argmax(1)[:, None] + order, 0), real

    def of_answers(self, values: Tensor) -> Tensor:
        """Of values (n, T, ...) of the context tokens those of the answer's, (n, a, ...)."""
        place, others = self.answer_places[0], values.shape[2:]
        return values.gather(1, place.view(*place.shape, *[1] * len(others)).expand(-1, -1, *others))

    def on_grid(self, values: Tensor) -> Tensor:
        """Values (n, a, cells) as maps (n, a, rows, cols), float32, with zeros for padding; views of one grid."""
        return values.float().masked_fill(~self.answer_places[1][..., None], 0).unflatten(2, self.views[0].grid)

    def to_cells(self, rows: Tensor) -> Tensor:
        """Values (n, a, L) of all positions as maps of the cells, as ``on_grid`` has them."""
        return self.on_grid(rows.gather(2, self.image[:, None].expand(-1, rows.shape[1], -1)))


def teacher_forced(
    mllm: Mllm,
    views: Sequence[View],
    answers: Answers,
    features: Sequence[Tensor] | None = None,
    watch: Watch | None = None,
    hidden: Tensor | None = None,
) -> States:
    """States of all tokens of prompt and answer, from one pass over a batch of views of one scale.

    features: what ``family.encode`` gave for each view; encoded here if None; gradients flow where
    they ask for them. watch: called with each layer's attention in turn, see ``watched``. hidden: the states, where they are known
    already. Raises ValueError for answers that don't fit the views or the model's context.

    Examples
    --------
    >>> import numpy as np, xaikit as xk
    >>> mllm = xk.load_mllm()
    >>> view = mllm.family.view(np.zeros((64, 64, 3), np.uint8), "what is this")
    >>> states = xk.mllm.teacher_forced(mllm, [view], [xk.mllm.answer_ids(mllm, "a red ring")])
    >>> mllm.decode(states.ids[0])
    [' what', ' is', ' this', ' a', ' red', ' ring']
    """
    if len(views) == 0 or len(views) != len(answers):
        raise ValueError(f"{len(views)} views and {len(answers)} answers: as many of each are needed, at least one")
    if len({view.scale for view in views}) > 1:
        raise ValueError(f"views of scales {sorted({view.scale for view in views})}: one pass takes views of one scale")
    for view, answer in zip(views, answers, strict=True):
        mllm.family.check_fits(view, answer)
    device = mllm.device
    rows = [
        torch.cat([view.ids, torch.as_tensor(answer, dtype=torch.long)])
        for view, answer in zip(views, answers, strict=True)
    ]
    ids = pad_sequence(rows, True, padding_value=mllm.model.generation_config.pad_token_id).to(device)
    if hidden is None:
        features = mllm.family.encode(views) if features is None else features
        with watched(mllm.decoder, watch):
            hidden = mllm.model.base_model(
                input_ids=ids,
                attention_mask=_mask(rows, device).long(),
                use_cache=False,
                **mllm.family.language_inputs(views, ids, features),
            ).last_hidden_state
    each = [
        torch.cat([view.prompt_positions, torch.arange(len(view.ids), len(row))])
        for view, row in zip(views, rows, strict=True)
    ]
    real, context = _mask(each, device), pad_sequence(each, True).to(device)
    image = [view.image_positions for view in views]
    return States(
        hidden=hidden.to(device),
        lengths=torch.tensor([len(row) for row in rows], device=device),
        views=list(views),
        image=pad_sequence(image, True).to(device),
        cells=_mask(image, device),
        context=context,
        ids=ids.gather(1, context) * real,
        is_answer=real & (context >= torch.tensor([len(view.ids) for view in views], device=device)[:, None]),
        real=real,
    )


class Batch(list[View]):
    """Views of one scale, and what the methods that explain them share: ``keeps``, what all of them keep, and what was ``made``."""

    def __init__(self, views: Sequence[View], keeps: Collection[Keeps] = ()):
        super().__init__(views)
        self.keeps, self.made = set(keeps), {}

    @classmethod
    def of(cls, views: Sequence[View], keeps: Keeps) -> "Batch":
        """The batch that these are, or are made, with what is kept of it."""
        found = views if isinstance(views, cls) else cls(views)
        found.keeps.add(keeps)
        return found


@dataclass
class Passed:
    """What a batch went through, in a pass over its answers or as the model wrote them, prompts and answers from place 0 on:
    ``hidden`` (n, L, D) after the final norm; and what was kept of attention, nothing where it wasn't watched: ``rows`` (n, heads, a,
    L), the weights of the last layer that has any, from the states that wrote the answers' tokens; ``matrices``, each layer's
    (n, L, L), meaned over the heads."""

    hidden: Tensor
    rows: Tensor | None
    matrices: list[Tensor]

    def of(self, samples: Sequence[int]) -> "Passed":
        """That of these samples of the batch."""
        samples = list(samples)
        rows = None if self.rows is None else self.rows[samples]
        return Passed(self.hidden[samples], rows, [layer[samples] for layer in self.matrices])

    def holds(self, keeps: Collection[Keeps]) -> bool:
        """Whether all that is kept of attention is here."""
        return not ("rows" in keeps and self.rows is None) and not ("matrices" in keeps and not self.matrices)


@torch.no_grad()
def attended(mllm: Mllm, batch: Batch, answers: Answers) -> Passed:
    """What all methods of a batch that read attention share, "rows" and "matrices" where ``keeps`` names them: one pass, or none
    where the batch has them from the model's own writing."""
    if "attended" not in batch.made:
        pairs = zip(batch, answers, strict=False)  # the pass says where their numbers differ
        each = [torch.arange(len(view.ids) - 1, len(view.ids) - 1 + len(answer)) for view, answer in pairs]
        watching = Watching(batch.keeps, pad_sequence(each, True), mllm.device)
        hidden = teacher_forced(mllm, batch, answers, watch=watching).hidden
        watching.passed()
        matrices = [of_layer[0] for of_layer in watching.matrices]
        batch.made["attended"] = Passed(hidden, watching.rows[0] if watching.rows else None, matrices)
    return batch.made["attended"]


class Watching:
    """What is kept of the attention of one pass, or of several one after the other, each an entry of the lists: where ``keeps`` names
    them, ``rows`` (n, heads, a, L), the weights of the last layer that has any, from the states that write; and ``matrices``, of
    each layer a list (n, queries, L), meaned over the heads.

    emitting : (n, a) of the first pass, the queries whose states write; of a later one, of one token, it is the only one.
    """

    def __init__(self, keeps: Collection[Keeps], emitting: Tensor, device: torch.device):
        self.keeps, self.emitting, self.device = keeps, emitting, device
        self.rows: list[Tensor] = []
        self.matrices: list[list[Tensor]] = []
        self._last: Rows | None = None
        self._layers = 0

    def __call__(self, weights: Rows, queries: int) -> None:
        """Keep of a layer what is wanted of it."""
        if "rows" in self.keeps:
            self._last = weights
        if "matrices" in self.keeps:
            if self._layers == len(self.matrices):
                self.matrices.append([])
            self.matrices[self._layers].append(mean_over_heads(weights, queries, len(self.emitting), self.device))
            self._layers += 1

    def passed(self) -> None:
        """Say that a pass is over."""
        if self._last is not None:
            self.rows.append(self._last(self.emitting))
        self._last, self._layers, self.emitting = None, 0, torch.zeros_like(self.emitting[:, :1])


def joined(parts: Sequence[Tensor], first: int) -> Tensor:
    """Weights (..., queries, L) of all passes of a writing, of those of each (..., queries, keys): the ``first`` is of so many tokens, a
    later one of one more. Keys that a layer's cache has let go of, since its window is past them, weigh nothing."""
    longest = first + len(parts) - 1
    rows = [F.pad(part, (first + more - part.shape[-1], longest - first - more)) for more, part in enumerate(parts)]
    return torch.cat(rows, -2)


def _mask(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    """Which entries are no padding where these rows stand together."""
    return pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], True).to(device)


class NotFinite(ValueError):
    """Values of some samples of a batch aren't finite; ``rows`` are the samples' places in the batch."""

    def __init__(self, message: str, rows: Sequence[int]):
        super().__init__(message)
        self.rows = list(rows)


@dataclass
class Reading:
    """A batch of n samples with T context tokens.

    states : of scale 1. maps : for each scale and enlargement (n, T, rows, cols), the logit-lens maps ReLU(F W[token]).
    likelihood : for each of these the log-probability (n, T) of each token, 0 for the prompt's. relevance : (n, T, T),
    r[t, k] = ReLU(logit of token t's word at the state of k). top : for each choice of positions the likeliest next tokens
    (n, T, k). grids : of each scale and enlargement the grids of the views' images. made : what several steps share.
    """

    states: States
    maps: dict[Key, Tensor]
    likelihood: dict[Key, Tensor]
    relevance: Tensor
    top: dict[str, Tensor]
    grids: dict[Key, tuple[Grid, ...]]
    made: dict[tuple, Tensor] = field(default_factory=dict)


@torch.no_grad()
def read(
    mllm: Mllm,
    views: Mapping[Key, Sequence[View]],
    answers: Answers,
    rankings: Mapping[str, int],
    hidden: Mapping[Key, Tensor] | None = None,
) -> Reading:
    """Read a batch, whose views agree in their grid at each scale, with one teacher-forced pass a scale.

    hidden : the states at scales where they are known, as ``written`` and ``attended`` give them, which need no pass.
    rankings : the choices of positions whose likeliest next tokens are needed, and how many of them. Raises NotFinite
    for samples whose own states aren't finite, as with broken weights or where half precision overflows.
    Source: Li et al., Token Activation Map, ICCV 2025, eq. 1; Liang et al., arXiv 2509.22415, reconstructed.
    """
    maps, likelihood, native = {}, {}, None
    for key, at_scale in views.items():
        states = teacher_forced(mllm, at_scale, answers, hidden=(hidden or {}).get(key))
        padding = torch.arange(states.hidden.shape[1], device=states.hidden.device) >= states.lengths[:, None]
        check_finite((states.hidden.isfinite().all(-1) | padding).all(1), f"hidden states at scale {key[0]:g}")
        maps[key] = (
            mllm.logits_of(states.ids, states.at(states.image)).relu().unflatten(-1, at_scale[0].grid)
            * states.real[..., None, None]
        )
        likelihood[key] = log_probabilities(mllm, states)
        if key == NATIVE:
            native = states
            relevance = mllm.logits_of(states.ids, states.at(states.emitting)).relu()
    top = {name: _top(mllm, native.at(getattr(native, name)), k) for name, k in rankings.items()}
    grids = {key: at_scale[0].grids for key, at_scale in views.items()}
    return Reading(native, maps, likelihood, relevance, top, grids)


def check_finite(finite: Tensor, what: str) -> None:
    """Raise NotFinite unless all samples are; finite : (n,) bool."""
    rows = (~finite).nonzero()[:, 0].tolist()
    if rows:
        raise NotFinite(
            f"the model's {what} aren't finite: its weights are broken or its numbers overflow; where it runs in half"
            ' precision, load it with dtype="float32"',
            rows,
        )


def _top(mllm: Mllm, states: Tensor, k: int) -> Tensor:
    """The ids (n, T, k) with the largest logits of states (n, T, D), a bounded number of states at a time."""
    rows = states.flatten(0, 1).split(ROWS_AT_ONCE)
    return torch.cat([top_ids(mllm.logits(part), k) for part in rows]).unflatten(0, states.shape[:2])


def log_probabilities(mllm: Mllm, states: States) -> Tensor:
    """The model's own log-probability (n, T) of each of the answer's tokens, 0 elsewhere."""
    rows, ids = states.at(states.previous)[states.is_answer], states.ids[states.is_answer]
    parts = zip(rows.split(ROWS_AT_ONCE), ids.split(ROWS_AT_ONCE), strict=True)
    found = [mllm.logits(r).log_softmax(-1).gather(1, i[:, None])[:, 0] for r, i in parts]
    result = torch.zeros(states.ids.shape, device=rows.device)
    result[states.is_answer] = torch.cat(found)
    return result
