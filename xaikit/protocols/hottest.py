"""Cosines of images without the hottest share of their patches, and with only that: what paired protocols compare."""

import numpy as np
import torch
from torch import Tensor

from ..clip import Clip
from ..metrics.faithfulness import deletion_and_insertion, ranks
from ..perturbing import filled, scores_of_images
from ..towers import tower


def check_share(share: float) -> None:
    """Raise ValueError for a share of the patches that isn't between 0 and 1."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ValueError(f"share={share!r}: a share of the patches between 0 and 1 is needed, such as 0.25")


@torch.no_grad()
def cosines_left(
    clip: Clip, heat: np.ndarray, pixels: Tensor, texts: Tensor, share: float, fill: str, batch_size: int, seed: int
) -> np.ndarray:
    """Cosines (n, explainers, 2, k) with k texts each, without the hottest patches and with only these.

    heat (n, explainers, rows, cols), pixels (n, 3, H, W), texts (n, k, width) unit embeddings. At least one patch is
    hot, and one is not.
    """
    grid = tower(clip, "image").grid
    units = grid[0] * grid[1]
    count = min(max(1, round(share * units)), units - 1)
    place = torch.from_numpy(ranks(heat, seed)).to(clip.device)
    keep, versions = deletion_and_insertion(place, torch.tensor([[count]], device=clip.device))
    found = scores_of_images(
        clip, pixels, texts[:, 0], lambda sample, version: keep(sample, version).unflatten(1, grid),
        filled(clip, pixels, fill, seed), versions, batch_size,
        score=lambda embedding, sample: (embedding[:, None] * texts[sample]).sum(-1),
    )  # fmt: skip
    return found.unflatten(1, (heat.shape[1], 2)).numpy()
