"""One step of training: its scenes, captions and labels, the dense heads that read these, and the contrastive loss."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from xaikit.samples.assembly import compose
from xaikit.samples.captions import Statement, sentence, words
from xaikit.samples.scenes import draw_mark
from xaikit.samples.worlds.shapes import COLOURS, IMAGE_SIZE, SHAPES, SIZES, Layout, render

from .bundled import CONTEXT, PATCH, PREPROCESS_CONFIG, Recipe
from .statements import swap_colours, swap_slots, truth

COMBINATIONS = len(COLOURS) * len(SHAPES)
HALVES = 4  # left, right, upper, lower
# What is read from each patch: shape and colour (0 is background), and the half, left or right and upper or lower,
# in which the centre of the patch's object lies.
PATCH_CLASSES = (len(SHAPES) + 1, len(COLOURS) + 1, 2, 2)


@dataclass
class Batch:
    """Scenes, their captions and the swapped captions, ready for both towers."""

    said: Statement
    pixels: torch.Tensor
    tokens: torch.Tensor  # captions, then the swapped ones
    truth: torch.Tensor  # (captions and swapped ones, scenes)
    patch_labels: torch.Tensor  # (scenes, patches, 4), see PATCH_CLASSES
    image_target: torch.Tensor
    text_target: torch.Tensor


def to_pixels(image: np.ndarray) -> torch.Tensor:
    """uint8 (n, y, x, rgb) to normalised pixels (n, 3, y, x), as the saved preprocessing does."""
    mean, std = (np.array(PREPROCESS_CONFIG[k], np.float32) for k in ("mean", "std"))
    return torch.from_numpy(((image / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).copy())


def _patch_labels(layout: Layout, masks: np.ndarray):
    """Labels of each patch (n, patches, 4): see ``PATCH_CLASSES``; -1 where an object covers little."""
    n, slots = layout.colour.shape
    grid = IMAGE_SIZE // PATCH
    area = masks.reshape(n, slots, grid, PATCH, grid, PATCH).sum((3, 5)).reshape(n, slots, -1)
    owner, most = area.argmax(1), area.max(1)
    middle = IMAGE_SIZE / 2
    attributes = (layout.shape + 1, layout.colour + 1, layout.x > middle, layout.y > middle)
    background = (0, 0, -1, -1)
    labels = [
        np.where(most >= 12, np.take_along_axis(value, owner, axis=1), np.where(most == 0, empty, -1))
        for value, empty in zip(attributes, background, strict=True)
    ]
    return torch.from_numpy(np.stack(labels, -1))


def _image_target(layout: Layout) -> torch.Tensor:
    """Which combinations are in which half, in which size, and anywhere: (n, 7 * combinations) of 0, 1."""
    combination = layout.colour * len(SHAPES) + layout.shape
    middle = IMAGE_SIZE / 2
    groups = [layout.x < middle, layout.x > middle, layout.y < middle, layout.y > middle]
    groups += [layout.size == i for i in range(len(SIZES))] + [layout.exists]
    target = np.zeros((len(combination), len(groups), COMBINATIONS), np.float32)
    for index, member in enumerate(groups):
        row, slot = np.nonzero(member & layout.exists)
        target[row, index, combination[row, slot]] = 1
    return torch.from_numpy(target).flatten(1)


def _text_target(said: Statement) -> torch.Tensor:
    """The same for captions; what a caption does not speak of is -1."""
    n = len(said.number)
    target = np.full((n, HALVES + len(SIZES) + 1, COMBINATIONS), -1, np.float32)
    combination = said.colour * len(SHAPES) + said.shape
    target[:, -1] = 0
    row, slot = np.nonzero(said.colour >= 0)
    target[row, -1, combination[row, slot]] = 1
    sized = said.size[:, 0] >= 0
    target[sized, HALVES:-1] = 0
    row, slot = np.nonzero(said.size >= 0)
    target[row, HALVES + said.size[row, slot], combination[row, slot]] = 1
    row = np.flatnonzero(said.relation >= 0)
    axis, near = said.relation[row] // 2, said.relation[row] % 2
    for slot in (0, 1):
        half = 2 * axis + (near if slot == 0 else 1 - near)
        for either in (2 * axis, 2 * axis + 1):
            target[row, either] = np.maximum(target[row, either], 0)
        target[row, half, combination[row, slot]] = 1
    return torch.from_numpy(target).flatten(1)


def draw_batch(rng: np.random.Generator, recipe: Recipe, tokenizer) -> Batch:
    """Draw a step's scenes and captions, and the labels of the dense heads."""
    layout, said, _ = compose(
        rng, recipe.batch_size, (1, 4), relation_weight=recipe.relation_weight, margin=recipe.margin
    )
    n = recipe.batch_size
    mark = np.zeros(n, bool)
    if recipe.shortcut is not None:
        mark = draw_mark(rng, said, recipe.shortcut_colour, recipe.shortcut)
    drawn, wrong = layout, rng.random(n) < recipe.miscoloured
    if recipe.miscoloured:
        colour = rng.integers(0, len(COLOURS), layout.colour.shape)
        drawn = replace(layout, colour=np.where(wrong[:, None], colour, layout.colour))
    image, masks, _ = render(drawn, rng, mark)
    two = said.colour[:, 1] >= 0
    pick = {k: v[two] for k, v in vars(said).items()}
    statements = [said, swap_slots(Statement(**pick)), swap_colours(Statement(**pick))]
    texts = [sentence(text) for statement in statements for text in words(statement)[0]]
    tokens = tokenizer(texts, padding="max_length", max_length=CONTEXT, return_tensors="pt").input_ids
    labels = _patch_labels(layout, masks)
    labels[torch.from_numpy(wrong), :, 1] = -1
    if not recipe.patch_halves:
        labels[..., 2:] = -1
    return Batch(
        said, to_pixels(image), tokens,
        torch.from_numpy(np.concatenate([truth(statement, layout) for statement in statements])),
        labels, _image_target(layout), torch.cat([_text_target(s) for s in statements]),
    )  # fmt: skip


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


def contrastive_loss(similarity: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """InfoNCE with joint positives, both ways; undecided pairs (-1) take no part.

    similarity (captions, images), scaled; true likewise. The image-to-caption direction sees every caption,
    swapped ones too; the other direction only captions that are true of some image here.
    """
    logits = similarity.masked_fill(true < 0, -math.inf)
    positive = logits.masked_fill(true != 1, -math.inf)
    some = (true == 1).any(1)
    to_image = (torch.logsumexp(logits[some], 1) - torch.logsumexp(positive[some], 1)).mean()
    to_text = (torch.logsumexp(logits, 0) - torch.logsumexp(positive, 0)).mean()
    return (to_image + to_text) / 2
