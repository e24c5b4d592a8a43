"""The deletion and insertion protocol that Grad-ECLIP's authors released for ImageNet, to compare with their numbers.

Source: Zhao et al., Grad-ECLIP, 2024, released code. It works on raw images, touches about half of the pixels, starts
insertion from black, and multiplies image features that are not normalised. For new work see ``deletion_insertion``.
"""

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from xaikit.clip.model import Clip

STEPS, EVERY, TOP = 100, 10, (1, 5, 10)


def pixel_order(heat: np.ndarray) -> np.ndarray:
    """Pixels from hottest to coldest, (n, H * W), of maps (n, H, W); ties in reading order."""
    return np.argsort(-heat.reshape(len(heat), -1), axis=-1, kind="stable")


@torch.no_grad()
def released_deletion_insertion(
    clip: Clip,
    heat: np.ndarray,
    images: np.ndarray,
    weights: Tensor,
    label: np.ndarray,
    colours: np.ndarray | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> xr.Dataset:
    """100 steps of int(H * W / 200) pixels, hottest first, measured after every 10 and on the intact image.

    heat (n, H, W) and uint8 images (n, H, W, 3) of the same size; weights (width, classes), the class embeddings as
    columns; label (n,) the class to hit. colours: what deleted pixels become, (n, 100 * int(H * W / 200), 3) from 0 to
    255 in the order of deletion; None for uniform random ones drawn with ``seed``.

    Returns for deletion (the intact image first) and insertion (from black, the intact image last), the ``*_logits``
    100 * features @ weights (sample, step, class), the ``*_cosine`` of the same shape, and the ``*_hits`` (sample, top,
    step): 1 where the label is among the first 1, 5 or 10 classes; with the shares of pixels ``*_fraction`` (step).
    No area is computed here, as in the released code. Raises ValueError for maps and images of different sizes.
    """
    if images.dtype != np.uint8 or images.shape != (*heat.shape, 3):
        raise ValueError(f"maps {heat.shape} and {images.dtype} images {images.shape}: uint8 (n, H, W, 3) are needed")
    n, pixels = len(heat), heat.shape[1] * heat.shape[2]
    step = pixels // 200
    count = step * np.arange(0, STEPS + 1, EVERY)
    if colours is None:
        one_each = np.random.default_rng(seed).uniform(0, 255, (STEPS * step, 3))
        colours = np.broadcast_to(one_each, (n, *one_each.shape))
    features = {"deletion": [], "insertion": []}
    for start in range(0, n, batch_size):
        part = slice(start, start + batch_size)
        order = pixel_order(heat[part])
        place, raw = np.argsort(order, axis=-1)[..., None], images[part].reshape(len(order), pixels, 3)
        fill, black = np.zeros_like(raw), np.zeros_like(raw)
        touched = order[:, : STEPS * step, None]
        np.put_along_axis(fill, touched, np.asarray(colours[part])[:, : STEPS * step].astype(np.uint8), axis=1)
        points = {
            "deletion": [(fill, raw, c) for c in count],
            "insertion": [(raw, black, c) for c in (*count[1:], pixels)],
        }
        for kind, versions in points.items():
            encoded = [
                clip.model.encode_image(
                    clip.pixels(np.where(place < c, inside, outside).reshape(images[part].shape))
                ).float()
                for inside, outside, c in versions
            ]
            features[kind].append(torch.stack(encoded, 1))
    weights = weights.to(clip.device).float()
    out = xr.Dataset(coords={"sample": np.arange(n), "top": list(TOP)})
    shares = {"deletion": count / pixels, "insertion": np.append(count[1:] / pixels, 1.0)}
    for kind, fraction in shares.items():
        seen = torch.cat(features[kind])
        logits = (100 * seen @ weights).cpu()
        cosine = (F.normalize(seen, dim=-1) @ F.normalize(weights, dim=0)).cpu()
        own = logits.gather(2, torch.as_tensor(label)[:, None, None].expand(n, logits.shape[1], 1))
        nearer = (logits > own).sum(-1)
        hits = torch.stack([nearer < top for top in TOP], 1).double()
        out[f"{kind}_logits"] = (("sample", "step", "class"), logits.numpy())
        out[f"{kind}_cosine"] = (("sample", "step", "class"), cosine.numpy())
        out[f"{kind}_hits"] = (("sample", "top", "step"), hits.numpy())
        out[f"{kind}_fraction"] = ("step", fraction)
    return out
