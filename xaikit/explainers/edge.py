"""A control: the edges of the image, which a method that explains the model must beat."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import Clip
from ..perturbing import to_patches
from ..towers import tower
from .registry import method

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
