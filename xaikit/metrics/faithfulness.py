"""Whether the model itself needs what an explanation calls important: deletion and insertion.

Source: Petsiuk et al., RISE, 2018. Here on the patch grid, with the true model's cosine as the score and
the area under the curve by the trapezoid rule over the share of patches, 0 to 1.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur
from tqdm import tqdm

from ..clip import Clip
from ..towers import Tower, tower

FILLS = ("mean", "black", "blur", "random")


def filled(clip: Clip, pixels: Tensor, fill: str, seed: int = 0) -> Tensor:
    """What stands in for removed patches, (n, 3, H, W): each image's "mean" colour, "black", the image under
    a strong "blur", or a "random" colour a patch (drawn with ``seed``)."""
    mean, std = (
        torch.tensor(getattr(clip.model.visual, name)).view(3, 1, 1).to(pixels) for name in ("image_mean", "image_std")
    )
    if fill == "mean":
        return pixels.mean((2, 3), keepdim=True).expand_as(pixels)
    if fill == "black":
        return (-mean / std).expand_as(pixels)
    if fill == "blur":
        sigma = pixels.shape[-1] / 8
        return gaussian_blur(pixels, 2 * int(2 * sigma) + 1, sigma)
    if fill == "random":
        described = tower(clip, "image")
        colour = torch.rand(3, *described.grid, generator=torch.Generator().manual_seed(seed)).to(pixels)
        return ((_to_pixels(colour, described, pixels.shape[2:]) - mean) / std).expand_as(pixels)
    raise ValueError(f"fill={fill!r}: choose from {', '.join(FILLS)}")


def ranks(heat: np.ndarray, seed: int = 0) -> np.ndarray:
    """Place of each patch from hottest (0) to coldest, (..., rows * cols); ties in one random order for all."""
    flat = heat.reshape(*heat.shape[:-2], -1)
    shuffle = np.random.default_rng(seed).permutation(flat.shape[-1])
    order = shuffle[np.argsort(-flat[..., shuffle], axis=-1, kind="stable")]
    return np.argsort(order, axis=-1)


@torch.no_grad()
def deletion_insertion(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    steps: int = 16,
    fill: str = "mean",
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine while the hottest patches are removed from the image, and while they are put into the fill.

    heat (n, explainers, rows, cols); pixels (n, 3, H, W) and tokens (n, context) of the same samples. In each
    of ``steps`` equal steps the same share of patches is removed (or inserted), hottest first.
    Returns the shares of patches removed (steps + 1,) and the two curves (n, explainers, steps + 1). Memory is bounded by
    ``batch_size`` perturbed images. Raises ValueError for an unknown fill, or more steps than patches.
    """
    n, explainers, rows, cols = heat.shape
    if not isinstance(steps, int) or not 1 <= steps <= rows * cols:
        raise ValueError(f"steps={steps!r}: a whole number from 1 to the {rows * cols} patches is needed")
    pixels = pixels.to(clip.device, clip.dtype)
    substitute = filled(clip, pixels, fill, seed)
    spoken = torch.cat([clip.encode_text(part.to(clip.device)) for part in tokens.split(batch_size)])
    place = torch.from_numpy(ranks(heat, seed)).to(clip.device)
    counts = torch.linspace(0, rows * cols, steps + 1, device=clip.device).round().long()
    inner = steps - 1  # the ends are the whole image and the bare fill, the same for every explainer
    total = n * explainers * 2 * inner
    scores = torch.empty(total)
    described = tower(clip, "image")
    for start in tqdm(range(0, total, batch_size), disable=not progress, desc="deletion and insertion"):
        index = torch.arange(start, min(start + batch_size, total), device=clip.device)
        pair, which = index // (2 * inner), index % (2 * inner)
        sample = pair // explainers
        hot = place.view(n * explainers, -1)[pair] < counts[1 + which % inner, None]
        removed = hot ^ (which >= inner)[:, None]
        mask = _to_pixels(removed.view(-1, rows, cols), described, pixels.shape[2:])
        perturbed = torch.where(mask[:, None], substitute[sample], pixels[sample])
        scores[start : start + len(index)] = (clip.encode_image(perturbed) * spoken[sample]).sum(-1).float().cpu()
    ends = [torch.cat([clip.encode_image(p) for p in x.split(batch_size)]) for x in (pixels, substitute)]
    whole, bare = ((end * spoken).sum(-1).cpu()[:, None, None].expand(n, explainers, 1) for end in ends)
    middle = scores.view(n, explainers, 2, inner)
    deletion = torch.cat([whole, middle[:, :, 0], bare], -1)
    insertion = torch.cat([bare, middle[:, :, 1], whole], -1)
    return (counts / (rows * cols)).cpu().numpy(), deletion.float().numpy(), insertion.float().numpy()


def _to_pixels(values: Tensor, described: Tower, size: torch.Size) -> Tensor:
    """Values of patches (n, rows, cols) for each pixel (n, H, W); 0 for pixels that no patch covers."""
    rows, cols = described.grid
    height, width = described.pixels
    large = values.repeat_interleave(height // rows, 1).repeat_interleave(width // cols, 2)
    return F.pad(large, (0, size[1] - width, 0, size[0] - height))


def area_under_curve(fractions: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Trapezoid rule over the last axis."""
    return np.trapezoid(curve, fractions, axis=-1)
