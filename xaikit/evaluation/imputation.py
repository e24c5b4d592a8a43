"""ROAD: what is removed is imputed from its surroundings, so that no edges of a fill are left for the model to see.

Source: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import cosine_with, encoded, scores_in_batches, to_pixels
from ..clip.towers import tower
from ..files.checks import check_number
from ..measures.maps import check_values, ranks
from .faithfulness import check_steps

NEIGHBOURS = ((1 / 12, 1 / 6, 1 / 12), (1 / 6, 0.0, 1 / 6), (1 / 12, 1 / 6, 1 / 12))  # weights of the paper
SWEEPS = 30  # of conjugate gradients at each size, each from the solution at half of it
SMALLEST = 8  # pixels of a side, below which there is no coarser start
TINY = 1e-20
NOISE = 0.01  # in units of the normalised image


def imputed(pixels: Tensor, keep: Tensor, sweeps: int = SWEEPS) -> Tensor:
    """Images (n, 3, H, W) in which each pixel that isn't kept is the weighted mean of its eight neighbours, the direct ones
    twice as much: the linear system of the paper, solved from coarse to fine.

    keep : (n, H, W) bool. Where nothing is kept all is 0, the mean colour of the training images.

    Examples
    --------
    >>> import torch
    >>> line, keep = torch.arange(9.0).expand(1, 3, 9, 9), torch.ones(1, 9, 9, dtype=torch.bool)
    >>> keep[:, 2:7, 3:6] = False
    >>> bool((imputed(line * keep[:, None], keep) - line).abs().max() < 0.05)
    True
    """
    known = keep[:, None].to(pixels)
    removed = 1 - known
    inside = (pixels * known).contiguous(memory_format=torch.channels_last)  # ten times faster to convolve
    if min(pixels.shape[2:]) >= 2 * SMALLEST and not keep.all():
        count = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
        coarse = F.avg_pool2d(inside, 2, ceil_mode=True, count_include_pad=False) / count.clamp(min=1e-6)
        first = imputed(coarse, count[:, 0] > 0, sweeps)
        first = F.interpolate(first, pixels.shape[2:], mode="bilinear")
    else:
        mean = inside.sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1)
        first = mean.expand_as(inside)
    weight = torch.tensor(NEIGHBOURS).to(pixels).expand(3, 1, 3, 3)
    edge = F.conv2d(torch.ones_like(inside), weight, padding=1, groups=3)  # fewer neighbours at the border

    def residue(x: Tensor) -> Tensor:
        return torch.addcmul(F.conv2d(x, weight, padding=1, groups=3), edge, x, value=-1).mul_(removed)

    found = inside + first * removed
    left = residue(found)
    way, size = left.clone(), left.square().sum((2, 3), keepdim=True)
    for _ in range(sweeps):  # conjugate gradients, an image and colour by itself
        change = residue(way)
        step = size / -(way * change).sum((2, 3), keepdim=True).clamp(max=-TINY)
        found.addcmul_(step, way)
        left.addcmul_(step, change)
        size, before = left.square().sum((2, 3), keepdim=True), size
        way.mul_(size / before.clamp(min=TINY)).add_(left)
    return found


@torch.no_grad()
def road(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    steps: int = 4,
    noise: float = NOISE,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine while the hottest patches are imputed, and while the coldest are.

    heat (n, explainers, rows, cols), pixels (n, 3, H, W) and tokens (n, context) of the same samples. steps : equal ones, of
    which the last, where nothing is left to impute from, is not taken. noise : standard deviation of what is added to
    imputed pixels, drawn with ``seed``, so that smoothness doesn't give them away.

    Returns the shares imputed (steps,) and two curves (n, explainers, steps): hottest first (lower is better), and coldest
    first (higher is better). Raises ValueError for more steps than patches, and for maps of another shape.
    """
    check_values(heat, len(tokens), "image")
    check_number(0, noise=noise)
    n, explainers, rows, cols = heat.shape
    check_steps(steps, rows * cols)
    counts = np.linspace(0, rows * cols, steps + 1).round().astype(int)[:-1]
    place = ranks(heat, seed)[:, :, None, None]
    order = np.concatenate([place, rows * cols - 1 - place], 2)
    kept = torch.from_numpy(order >= counts[1:, None]).reshape(n, explainers * 2 * (steps - 1), rows, cols)
    kept = kept.to(clip.device)
    pixels, draw = pixels.to(clip.device, clip.dtype), torch.Generator().manual_seed(seed)
    grain = noise * torch.randn(pixels.shape[1:], generator=draw).to(pixels)
    described = tower(clip, "image")
    every = torch.ones(1, rows, cols, dtype=torch.bool, device=clip.device)
    uncovered = ~to_pixels(every, described, pixels.shape[2:])  # by any patch, and so never imputed

    def encode(sample: Tensor, keep: Tensor) -> Tensor:
        whole = to_pixels(keep, described, pixels.shape[2:]) | uncovered
        filled = imputed(pixels[sample].float(), whole)  # half precision is too coarse for its gradients
        return clip.encode_image(torch.where(whole[:, None], filled, filled + grain).to(clip.dtype))

    score = cosine_with(encoded(clip.embed_text, tokens.to(clip.device), batch_size))
    untouched = score(encoded(clip.encode_image, pixels, batch_size), torch.arange(n, device=clip.device)).cpu()
    left = scores_in_batches(encode, score, pixels, kept, None, batch_size, "ROAD" if progress else "")
    left = left.unflatten(1, (explainers, 2, steps - 1))
    found = torch.cat([untouched[:, None, None, None].expand(n, explainers, 2, 1), left], -1).numpy()
    hottest, coldest = np.moveaxis(found, 2, 0)
    return counts / (rows * cols), hottest, coldest
