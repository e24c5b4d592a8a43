"""Linear heads that help training and are thrown away afterwards."""

import torch.nn.functional as F
from torch import nn

from xaikit.samples.worlds.shapes import COLOURS, SHAPES, SIZES

COMBINATIONS = len(COLOURS) * len(SHAPES)
HALVES = 4  # left, right, upper, lower
# What is read from each patch: shape and colour (0 is background), and the half, left or right and upper or lower,
# in which the centre of the patch's object lies.
PATCH_CLASSES = (len(SHAPES) + 1, len(COLOURS) + 1, 2, 2)


class Heads(nn.Module):
    """The dense heads, dropped after training."""

    def __init__(self, vision_width: int, embed_dim: int):
        super().__init__()
        self.patch = nn.Linear(vision_width, sum(PATCH_CLASSES))
        self.pooled = nn.Linear(embed_dim, (HALVES + len(SIZES) + 1) * COMBINATIONS)

    def patch_loss(self, patches, labels):
        """labels (n, patches, 4): classes of ``PATCH_CLASSES``, -1 where unsure."""
        parts = self.patch(patches).split(PATCH_CLASSES, dim=-1)
        known = [index for index in range(len(parts)) if (labels[..., index] >= 0).any()]
        return sum(
            F.cross_entropy(parts[index].flatten(0, 1), labels[..., index].flatten(), ignore_index=-1)
            for index in known
        )

    def pooled_loss(self, embedding, target):
        """target (n, outputs): 1 there, 0 not there, -1 not said. Present and absent count equally, and so,
        once more, do half and size of the combinations that are there: they are too few to be heard else."""
        losses = F.binary_cross_entropy_with_logits(self.pooled(8 * embedding), target.clamp(min=0), reduction="none")
        by_group = target.unflatten(1, (-1, COMBINATIONS))
        place = (by_group[:, -1:] == 1) & (by_group[:, :-1] >= 0)
        where = losses.unflatten(1, (-1, COMBINATIONS))[:, :-1][place].mean()
        return (losses[target == 1].mean() + losses[target == 0].mean()) / 2 + where
