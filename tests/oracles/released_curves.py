"""The deletion and insertion protocol that Grad-ECLIP's authors released for ImageNet, to compare with their numbers.

Source: Zhao et al., Grad-ECLIP, 2024, released code. It works on raw images, touches about half of the pixels, starts
insertion from black, and multiplies image features that are not normalised. For new work see ``deletion_insertion``.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.clip.model import Clip

STEPS, EVERY, TOP = 100, 10, (1, 5, 10)


def pixel_order(heat: np.ndarray) -> np.ndarray:
    """Pixels from hottest to coldest, (n, H * W), of maps (n, H, W); ties in reading order."""
    return np.argsort(-heat.reshape(len(heat), -1), axis=-1, kind="stable")


@torch.no_grad()
def released_deletion_insertion(
    clip: Clip, heat: np.ndarray, images: np.ndarray, weights: Tensor, label: np.ndarray, colours: np.ndarray
) -> dict[str, Tensor | np.ndarray]:
    """100 steps of int(H * W / 200) pixels, hottest first, measured after every 10 and on the intact image.

    heat (n, H, W) and uint8 images (n, H, W, 3); weights (width, classes), the class embeddings as columns; label (n,) the
    class to hit. colours: what deleted pixels become, (n, 100 * int(H * W / 200), 3) from 0 to 255 in the order of deletion.

    Gives for deletion (the intact image first) and insertion (from black, the intact image last), the ``*_logits``
    100 * features @ weights (sample, step, class), the ``*_cosine`` of the same shape, and the ``*_hits`` (sample, top,
    step): whether the label is among the first 1, 5 or 10 classes; with the shares of pixels ``*_fraction`` (step).
    """
    n, pixels = len(heat), heat[0].size
    step = pixels // 200
    count = step * np.arange(0, STEPS + 1, EVERY)
    order = pixel_order(heat)
    place, raw = np.argsort(order, axis=-1)[..., None], images.reshape(n, pixels, 3)
    fill, black = np.zeros_like(raw), np.zeros_like(raw)
    np.put_along_axis(fill, order[:, : STEPS * step, None], colours[:, : STEPS * step].astype(np.uint8), axis=1)
    out = {}
    for kind, inside, outside, counts in (
        ("deletion", fill, raw, count),
        ("insertion", raw, black, np.append(count[1:], pixels)),
    ):
        versions = [clip.pixels(np.where(place < c, inside, outside).reshape(images.shape)) for c in counts]
        seen = torch.stack([clip.model.encode_image(version).float() for version in versions], 1)
        logits = 100 * seen @ weights
        own = logits.gather(2, torch.as_tensor(label)[:, None, None].expand(n, len(counts), 1))
        nearer = (logits > own).sum(-1)
        out[f"{kind}_logits"] = logits
        out[f"{kind}_cosine"] = F.normalize(seen, dim=-1) @ F.normalize(weights, dim=0)
        out[f"{kind}_hits"] = torch.stack([nearer < top for top in TOP], 1)
        out[f"{kind}_fraction"] = counts / pixels
    return out
