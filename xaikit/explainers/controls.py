"""Controls: maps that know nothing of the model, which a method must beat."""

import zlib

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import to_patches
from ..clip.towers import tower
from .registry import method


@method(sides=("image", "text"), source="control: uniform noise", needs="tokens", stochastic=True)
def random(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, seed: int = 0) -> Tensor:
    """Uniform noise in [0, 1), drawn with the seed and the sample itself, so that batches do not matter."""
    rows, cols = tower(clip, of).grid if of == "image" else (0, 0)
    places, noise = max(tokens.shape[1], rows * cols), []
    for picture, prompt in zip(pixels, tokens, strict=True):
        content = picture.float().cpu().numpy().tobytes() + prompt.cpu().numpy().tobytes()
        draw = torch.Generator().manual_seed(zlib.crc32(content, seed))
        noise.append(torch.rand(places, generator=draw))
    noise = torch.stack(noise)
    if of == "image":
        return noise[:, : rows * cols].unflatten(1, (rows, cols))
    length = clip.content(tokens).sum(1)
    return (noise * (torch.arange(places) < length[:, None]))[:, : int(length.max())]


@method(sides=("image",), source="control: a Gaussian at the centre of the image", needs="tokens")
def centre(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str, width: float = 0.25) -> Tensor:
    """exp(-(dx^2 + dy^2) / (2 width^2)), distances from the centre in units of the image's sides."""
    rows, cols = tower(clip, of).grid
    y, x = ((torch.arange(size) + 0.5) / size - 0.5 for size in (rows, cols))
    heat = torch.exp(-(y[:, None] ** 2 + x**2) / (2 * width**2))
    return heat.expand(len(pixels), rows, cols)


LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


@method(sides=("image",), source="control: edges of the image (Adebayo et al. 2018)", needs="tokens")
def edge(clip: Clip, pixels: Tensor, tokens: Tensor, *, of: str) -> Tensor:
    """The length of the luminance's gradient (Sobel filter, luminance from 0 to 1), averaged over each patch."""
    std = torch.tensor(clip.model.visual.image_std).to(pixels.device)
    weight = std * torch.tensor(LUMINANCE).to(std)  # the mean that normalisation took off has no edges
    luminance = torch.einsum("nchw,c->nhw", pixels.float(), weight)[:, None]
    across = torch.tensor(SOBEL).to(luminance)
    slopes = F.conv2d(F.pad(luminance, (1, 1, 1, 1), mode="replicate"), torch.stack([across, across.T])[:, None])
    described = tower(clip, of)
    length = to_patches(slopes.norm(dim=1), described)
    (rows, cols), (height, width) = described.grid, described.pixels
    return length * (rows * cols / (height * width))
