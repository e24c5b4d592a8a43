"""A map without any knowledge, to hold the others against."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .model import Mllm
from .view import View


def random_map(mllm: Mllm, views: Sequence[View], answers: Sequence[Sequence[int]], seed: int = 0) -> Tensor:
    """Uniform random maps (n, answer tokens, rows, cols), drawn for each token's place in the answer with ``seed``: the
    same for all samples, whatever the batch."""
    longest = max(map(len, answers))
    generator = torch.Generator().manual_seed(int(seed))
    drawn = torch.stack([torch.rand(views[0].grid, generator=generator) for _ in range(longest)])
    return drawn.expand(len(views), -1, -1, -1).to(mllm.device)
