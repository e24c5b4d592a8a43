"""A map without any knowledge, to hold the others against."""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from .family import View
from .model import Mllm


def random_map(mllm: Mllm, views: Sequence[View], answers: Sequence[Sequence[int]], seed: int = 0) -> Tensor:
    """Uniform random maps (n, answer tokens, rows, cols), drawn with ``seed`` and the sample's own pixels, so that
    batches don't matter."""
    longest = max(map(len, answers))
    maps = []
    for view in views:
        pixels = b"".join(view.vision[name].numpy().tobytes() for name in sorted(view.vision))
        generator = torch.Generator().manual_seed(zlib.crc32(pixels, int(seed)))
        maps.append(torch.stack([torch.rand(view.grid, generator=generator) for _ in range(longest)]))
    return torch.stack(maps).to(mllm.device)
