"""Controls: maps that know nothing of the model, which a method must beat."""

import zlib

import torch
from torch import Tensor

from ..checks import check_whole
from ..clip import Clip
from ..towers import tower
from .registry import method


@method(sides=("image", "text"), source="control: uniform noise", needs="tokens", stochastic=True)
def random(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, seed: int = 0) -> Tensor:
    """Uniform noise in [0, 1), drawn with the seed and the sample itself, so that batches do not matter."""
    check_whole(0, seed=seed)
    noise = []
    for picture, prompt in zip(pixels, tokens, strict=True):
        content = picture.float().cpu().numpy().tobytes() + prompt.cpu().numpy().tobytes()
        draw = torch.Generator().manual_seed(zlib.crc32(content, seed))
        noise.append(
            torch.rand(
                max(tokens.shape[1], tower(clip, "image").grid[0] * tower(clip, "image").grid[1]), generator=draw
            )
        )
    noise = torch.stack(noise)
    if of == "image":
        rows, cols = tower(clip, of).grid
        return noise[:, : rows * cols].unflatten(1, (rows, cols))
    length = clip.content(tokens).sum(1)
    return noise[:, : int(length.max())] * (torch.arange(int(length.max())) < length[:, None])


@method(sides=("image",), source="control: a Gaussian at the centre of the image", needs="tokens")
def centre(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, width: float = 0.25) -> Tensor:
    """exp(-(dx^2 + dy^2) / (2 width^2)), distances from the centre in units of the image's sides."""
    rows, cols = tower(clip, of).grid
    y, x = ((torch.arange(size) + 0.5) / size - 0.5 for size in (rows, cols))
    heat = torch.exp(-(y[:, None] ** 2 + x**2) / (2 * width**2))
    return heat.expand(len(pixels), rows, cols)
