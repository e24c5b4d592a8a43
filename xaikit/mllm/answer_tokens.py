"""Where in a batch the tokens of the answers are written, and from maps over positions to maps over cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .view import View


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
