"""Where in a batch the tokens of the answers are written, and from maps over positions to maps over cells."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from .family import View
from .generation import check_fits
from .model import Mllm


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens of n answers, padded at the end to the longest one's a tokens, over images of one grid."""

    emitting: Tensor
    """(n, a) position whose state wrote each token; of padding, the position of the last one that fits."""
    ids: Tensor
    """(n, a) token ids, 0 for padding."""
    real: Tensor
    """(n, a) whether the token is no padding."""
    image: Tensor
    """(n, cells) position of each cell, row-major."""
    rows: Tensor
    """(n, cells) row of each cell in the features that ``encode`` gives, which are in sequence order."""
    grid: tuple[int, int]

    def on_grid(self, values: Tensor) -> Tensor:
        """Values (n, a, cells) as maps (n, a, rows, cols), float32, with zeros for padding."""
        return values.float().masked_fill(~self.real[..., None], 0).unflatten(2, self.grid)


def answer_tokens(views: Sequence[View], answers: Sequence[Sequence[int]], device: torch.device) -> AnswerTokens:
    """Where the tokens of the answers are, for views of one scale and grid; tensors on the device.

    Raises ValueError for views of several grids, another number of answers, and no token at all.
    """
    if len(views) == 0 or len(views) != len(answers):
        raise ValueError(f"{len(views)} views and {len(answers)} answers: as many of each are needed, at least one")
    check_one_grid(views)
    lengths = torch.tensor([len(answer) for answer in answers])
    longest = int(lengths.max())
    if longest == 0:
        raise ValueError("all answers are empty: at least one needs a token that can be explained")
    ids = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in answers])
    place = torch.arange(longest)
    starts = torch.tensor([len(view.ids) for view in views])
    found = AnswerTokens(
        emitting=starts[:, None] - 1 + torch.minimum(place, (lengths[:, None] - 1).clamp(min=0)),
        ids=ids,
        real=place < lengths[:, None],
        image=torch.stack([view.image_positions for view in views]),
        rows=torch.stack([view.feature_rows for view in views]),
        grid=views[0].grid,
    )
    moved = {name: value.to(device) for name, value in vars(found).items() if isinstance(value, Tensor)}
    return AnswerTokens(**moved, grid=found.grid)


def check_one_grid(views: Sequence[View]) -> None:
    """Raise ValueError for views whose images don't have the same grid, in pixels of the same shape."""
    grids = sorted({view.grid for view in views})
    if len(grids) > 1:
        raise ValueError(
            f"views of the grids {', '.join(f'{r} x {c}' for r, c in grids)}: one batch takes views of one grid"
        )
    if len({view.vision["pixel_values"].shape for view in views}) > 1:
        raise ValueError("views enlarged by interpolation and by crops: one batch takes views of one kind")


@dataclass
class States:
    """Hidden states of a batch and where in them things are.

    Context tokens are the prompt's and then the answer's, T of them with padding at the end; padded entries of
    positions and ids are 0.
    """

    hidden: Tensor
    """(n, L, D) after the final norm: logits are ``hidden @ output_weight.T``."""
    lengths: Tensor
    """(n,) tokens of each sample; what comes after them is padding."""
    views: list[View]
    grids: list[tuple[int, int]]
    image: Tensor
    """(n, cells) position of each cell, row-major."""
    cells: Tensor
    """(n, cells) whether the cell is real; all are where the grids agree."""
    context: Tensor
    """(n, T) each context token's own position."""
    emitting: Tensor
    """(n, T) position whose state ranks for the token: its own for a prompt token, the one before (which wrote it)
    for an answer token."""
    previous: Tensor
    """(n, T) the position before each token, whose state predicted it."""
    ids: Tensor
    """(n, T) token ids."""
    is_answer: Tensor
    """(n, T) whether the token is the answer's."""
    real: Tensor
    """(n, T) whether the token is no padding."""
    attentions: tuple[Tensor, ...] | None = None
    """Of each layer (n, heads, L, L), where asked for."""

    def at(self, positions: Tensor) -> Tensor:
        """States (n, k, D) at positions (n, k), such as ``states.at(states.image)``."""
        return self.hidden.gather(1, positions[..., None].expand(-1, -1, self.hidden.shape[-1]))


def teacher_forced(
    mllm: Mllm,
    views: Sequence[View],
    answers: Sequence[Sequence[int]],
    features: Sequence[Tensor] | None = None,
    attentions: bool = False,
) -> States:
    """States of all tokens of prompt and answer, from one pass over a batch of views of one scale.

    features: what ``family.encode`` (or ``encode_pixels``) gave for each view; encoded here if None. Gradients
    flow where features ask for them. attentions: keep the weights of every layer, which takes the eager
    attention for this pass. Raises ValueError for answers that don't fit the views or the model's context.
    """
    _check(mllm, views, answers)
    device = mllm.device
    answers = [torch.as_tensor(answer, dtype=torch.long) for answer in answers]
    rows = [torch.cat([view.ids, answer]) for view, answer in zip(views, answers, strict=True)]
    lengths = torch.tensor([len(row) for row in rows], device=device)
    ids = pad_sequence(rows, True, padding_value=mllm.model.generation_config.pad_token_id).to(device)
    mask = (torch.arange(ids.shape[1], device=device) < lengths[:, None]).long()
    features = mllm.family.encode(views) if features is None else features
    with _eager(mllm.model.model.language_model, attentions):
        out = mllm.model.model(
            input_ids=ids,
            attention_mask=mask,
            use_cache=False,
            output_attentions=attentions,
            **mllm.family.language_inputs(views, ids, features),
        )
    context = [
        torch.cat([view.prompt_positions, torch.arange(len(view.ids), len(row))])
        for view, row in zip(views, rows, strict=True)
    ]
    real = _mask([len(positions) for positions in context], device)
    context = pad_sequence(context, True).to(device)
    previous = (context - 1).clamp(min=0)
    starts = torch.tensor([len(view.ids) for view in views], device=device)
    is_answer = real & (context >= starts[:, None])
    return States(
        hidden=out.last_hidden_state,
        lengths=lengths,
        views=list(views),
        grids=[view.grid for view in views],
        image=pad_sequence([view.image_positions for view in views], True).to(device),
        cells=_mask([len(view.image_positions) for view in views], device),
        context=context,
        emitting=torch.where(is_answer, previous, context),
        previous=previous,
        ids=ids.gather(1, context) * real,
        is_answer=is_answer,
        real=real,
        attentions=tuple(out.attentions) if attentions else None,
    )


def _mask(lengths: list[int], device: torch.device) -> Tensor:
    return torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device)[:, None]


def _check(mllm: Mllm, views: Sequence[View], answers: Sequence[Sequence[int]]) -> None:
    if len(views) == 0 or len(views) != len(answers):
        raise ValueError(f"{len(views)} views and {len(answers)} answers: as many of each are needed, at least one")
    if len({view.scale for view in views}) > 1:
        raise ValueError(f"views of scales {sorted({view.scale for view in views})}: one pass takes views of one scale")
    for view, answer in zip(views, answers, strict=True):
        check_fits(mllm, view, answer)


@contextmanager
def _eager(language: nn.Module, wanted: bool) -> Iterator[None]:
    """Eager attention, which alone returns its weights, for a while."""
    usual = language.config._attn_implementation
    if wanted:
        language.set_attn_implementation("eager")
    try:
        yield
    finally:
        if wanted:
            language.set_attn_implementation(usual)
