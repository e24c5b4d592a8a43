"""Whether the model keeps its confidence when only what an explanation calls important is left: drop and increase.

Source: Wang et al., Visual Explanations of Image-Text Representations via Multi-Modal Information Bottleneck
Attribution (M2IB), 2023, and its released evaluation; table 1 of MMEL has the same columns. Both are differences of
cosines times 100, not divided by the whole input's, and the tables show their means over samples.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import check_fill, encoded, scores_in_batches, scores_of_images, scores_of_texts
from ..clip.score import content_of
from ..clip.towers import tower
from ..measures.maps import check_values
from .faithfulness import word_counts
from .scorers import scorer


@torch.no_grad()
def image_confidence(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    released: bool = False,
    batch_size: int = 256,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence drop 100 * max(0, s - s') and increase (100 where s' > s, else 0) of the image, (n, explainers) each.

    s is the cosine of the whole image, s' that of the normalised pixels times the map, which is drawn as large as the
    image by bilinear interpolation and stretched to reach from 0 to 1; a flat map is 0 everywhere. heat (n, explainers,
    rows, cols), pixels (n, 3, H, W), tokens (n, context). released: as shipped, where only the first row of the map is
    used, for every row of the image.
    """
    check_values(heat, len(tokens), "image")
    n, explainers = heat.shape[:2]
    pixels = pixels.to(clip.device, clip.dtype)
    maps = torch.from_numpy(np.ascontiguousarray(heat, np.float32)).to(clip.device)
    covered = tower(clip, "image").pixels
    margin = (0, pixels.shape[3] - covered[1], 0, pixels.shape[2] - covered[0])

    def keep(sample: Tensor, version: Tensor) -> Tensor:
        large = F.interpolate(maps[sample, version][:, None], covered, mode="bilinear")[:, 0]
        low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
        weight = (large - low) / torch.where(high > low, high - low, 1)
        return F.pad(weight[:, :1].expand_as(weight) if released else weight, margin)

    worth = scorer(clip, pixels, tokens, "image", batch_size=batch_size)
    whole = worth(encoded(clip.encode_image, pixels, batch_size), torch.arange(n, device=clip.device)).cpu()
    bar = "confidence" if progress else ""
    left = scores_of_images(clip, pixels, tokens, keep, None, explainers, batch_size, bar, worth)
    return _drop_and_increase(whole, left)


@torch.no_grad()
def text_confidence(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    released: bool = False,
    fill: str = "removed",
    batch_size: int = 256,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence drop and increase of the text, as in ``image_confidence``, (n, explainers) each.

    s' is the cosine of the prompt of which only the words hotter than the median of its words are left. heat (n,
    explainers, tokens), pixels (n, 3, H, W), tokens (n, context). fill: what becomes of the others, "removed" or
    "padding". released: as shipped, where start and end of the prompt are cut off from both prompts, so that the
    embedding is read at the largest id left, and id 0 stands in for the others. Raises ValueError for an unknown fill,
    or heat for fewer tokens than the longest prompt has.
    """
    check_fill(fill, "text")
    check_values(heat, len(tokens), "text")
    lengths = word_counts(clip, tokens, heat)
    own = (np.arange(heat.shape[2]) < lengths[:, None])[:, None]
    hot = heat > np.nanmedian(np.where(own, heat, np.nan), axis=-1, keepdims=True)
    kept = torch.from_numpy(hot & own).to(clip.device)
    pixels, tokens = pixels.to(clip.device, clip.dtype), tokens.to(clip.device)
    worth = scorer(clip, pixels, tokens, "text", batch_size=batch_size)
    bar = "confidence of the text" if progress else ""
    every = torch.arange(len(tokens), device=clip.device)
    if not released:
        whole = worth(encoded(clip.encode_text, tokens, batch_size), every).cpu()
        left = scores_of_texts(clip, pixels, tokens, kept, fill, batch_size=batch_size, progress=bar, score=worth)
        return _drop_and_increase(whole, left)
    bare = content_of(clip, tokens, tokens, "text", fill=0)
    room = (0, tokens.shape[1] - bare.shape[1])

    def encode(sample: Tensor, keep: Tensor) -> Tensor:
        return clip.encode_text(F.pad(bare[sample] * keep[:, : bare.shape[1]], room))

    whole = worth(encoded(clip.encode_text, F.pad(bare, room), batch_size), every).cpu()
    return _drop_and_increase(whole, scores_in_batches(encode, worth, tokens, kept, None, batch_size, bar))


def _drop_and_increase(whole: Tensor, left: Tensor) -> tuple[np.ndarray, np.ndarray]:
    whole, left = whole.double().numpy()[:, None], left.double().numpy()
    return 100 * np.maximum(0, whole - left), 100.0 * (left > whole)
