"""One step of training: its scenes, captions and labels, the dense heads that read these, and the contrastive loss."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xaikit.samples.assembly import Drawing, compose
from xaikit.samples.captions import Statement, sentence, words
from xaikit.samples.scenes import draw_mark
from xaikit.samples.worlds import find_world
from xaikit.samples.worlds.layout import COLOURS, FRAME, Layout

from .bundled import PREPROCESS_CONFIG, Architecture, Recipe
from .statements import swap_colours, swap_slots, truth

HALVES = 4  # left, right, upper, lower
SURE = 0.1875  # share of a patch that an object covers for the patch to be labelled with it
FILLING = (0.45, 1.0)  # side of the object in a crop, as a share of the crop's


@dataclass
class Batch:
    """Scenes, their captions and the swapped captions, ready for both towers."""

    said: Statement
    pixels: Tensor
    tokens: Tensor  # captions, then the swapped ones
    truth: Tensor  # (captions and swapped ones, scenes)
    patch_labels: (
        Tensor  # (scenes, patches, 4): noun and colour from 1 (0 background), right half, lower half; -1 unsure
    )
    image_target: Tensor  # (scenes, outputs of the pooled head), see Heads
    text_target: Tensor
    own: Tensor  # (captions and swapped ones,) the scene that each is about
    covered: np.ndarray  # (scenes, patches) share of each patch that objects cover
    named: np.ndarray  # likewise, of objects that the caption names


def to_pixels(image: np.ndarray) -> Tensor:
    """uint8 (n, y, x, rgb) to normalised pixels (n, 3, y, x), as the saved preprocessing does."""
    mean, std = (np.array(PREPROCESS_CONFIG[k], np.float32) for k in ("mean", "std"))
    return torch.from_numpy(((image / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).copy())


def new_optimizer(
    parts: Iterable[tuple[Iterable[nn.Parameter], float]], weight_decay: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW of parts with their largest learning rates, only matrices decaying, and its one cycle of so many steps."""
    groups = [
        {"params": [p for p in part if (p.ndim > 1) == matrix], "lr": rate, "weight_decay": decay}
        for part, rate in ((list(part), rate) for part, rate in parts)
        for matrix, decay in ((True, weight_decay), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    rates = [group["lr"] for group in groups]
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.1)


def descend(
    loss: Tensor,
    parameters: Iterable[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """One step of an optimiser down the gradient of a loss, cut to a norm of 1, and one of its schedule."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    schedule.step()


def area_of_patches(masks: np.ndarray, patch: int) -> np.ndarray:
    """The share of each patch that each object covers (n, slots, patches), of masks (n, slots, y, x)."""
    n, slots, size, _ = masks.shape
    grid = size // patch
    return masks.reshape(n, slots, grid, patch, grid, patch).mean((3, 5)).reshape(n, slots, -1)


def patch_labels(layout: Layout, masks: np.ndarray, patch: int) -> Tensor:
    """Labels of each patch (n, patches, 4); -1 where an object covers little."""
    area = area_of_patches(masks, patch)
    owner, most = area.argmax(1), area.max(1)
    middle = FRAME / 2
    attributes = (layout.noun + 1, layout.colour + 1, layout.x > middle, layout.y > middle)
    background = (0, 0, -1, -1)
    labels = [
        np.where(most >= SURE, np.take_along_axis(value, owner, axis=1), np.where(most == 0, empty, -1))
        for value, empty in zip(attributes, background, strict=True)
    ]
    return torch.from_numpy(np.stack(labels, -1).astype(np.int64))


class Heads(nn.Module):
    """The dense heads, dropped after training.

    One linear map reads from each patch the noun and the colour of its object (0: ground, or a thing's own colour), and the half, left or
    right and upper or lower, in which that object's centre lies. Another, shared by both towers, reads from the joint
    embedding which nouns there are, in which half of the image, in which size, and in which colour: (4 + sizes + 1 +
    colours) groups of nouns.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        world = find_world(architecture.world)
        self.nouns, self.sizes = len(world.nouns), len(world.sizes)
        self.parts = (self.nouns + 1, len(COLOURS) + 1, 2, 2)
        self.patch = nn.Linear(architecture.width, sum(self.parts))
        self.pooled = nn.Linear(architecture.embed_dim, self.groups * self.nouns)

    @property
    def groups(self) -> int:
        return 1 + HALVES + self.sizes + len(COLOURS)

    def patch_loss(self, patches: Tensor, labels: Tensor) -> Tensor:
        """labels (n, patches, 4), -1 where unsure."""
        parts = self.patch(patches).split(self.parts, dim=-1)
        known = [index for index in range(len(parts)) if (labels[..., index] >= 0).any()]
        return sum(
            F.cross_entropy(parts[index].flatten(0, 1), labels[..., index].flatten(), ignore_index=-1)
            for index in known
        )

    def pooled_loss(self, embedding: Tensor, target: Tensor) -> Tensor:
        """target (n, groups * nouns) of 0 and 1: in each group that has any, its nouns against all others."""
        target = target.unflatten(1, (self.groups, -1))
        logits = self.pooled(8 * embedding).unflatten(1, (self.groups, -1)).log_softmax(-1)
        share = target / target.sum(-1, keepdim=True).clamp(min=1)
        loss, some = -(share * logits).sum(-1), target.any(-1)
        # The groups of halves, of sizes and of colours count as much together as the presence of nouns does.
        rest = loss[:, 1:][some[:, 1:]]
        return loss[:, 0][some[:, 0]].mean() + (rest.mean() if len(rest) else 0.0)

    def image_target(self, layout: Layout) -> Tensor:
        """Which nouns there are, in which half, size and colour."""
        middle = FRAME / 2
        members = [layout.exists, layout.x < middle, layout.x > middle, layout.y < middle, layout.y > middle]
        members += [layout.size == i for i in range(self.sizes)] + [layout.colour == i for i in range(len(COLOURS))]
        target = np.zeros((len(layout.noun), self.groups, self.nouns), np.float32)
        for index, member in enumerate(members):
            row, slot = np.nonzero(member & layout.exists)
            target[row, index, layout.noun[row, slot]] = 1
        return torch.from_numpy(target).flatten(1)

    def text_target(self, said: Statement) -> Tensor:
        """The same of captions, as far as they speak of it."""
        target = np.zeros((len(said.number), self.groups, self.nouns), np.float32)
        row, slot = np.nonzero(said.noun >= 0)
        target[row, 0, said.noun[row, slot]] = 1
        row, slot = np.nonzero(said.size >= 0)
        target[row, 1 + HALVES + said.size[row, slot], said.noun[row, slot]] = 1
        row, slot = np.nonzero(said.colour >= 0)
        target[row, 1 + HALVES + self.sizes + said.colour[row, slot], said.noun[row, slot]] = 1
        row = np.flatnonzero(said.relation >= 0)
        axis, near = said.relation[row] // 2, said.relation[row] % 2
        for slot in (0, 1):
            half = 2 * axis + (near if slot == 0 else 1 - near)
            target[row, 1 + half, said.noun[row, slot]] = 1
        return torch.from_numpy(target).flatten(1)


def say_of_scenes(rng: np.random.Generator, drawing: Drawing, recipe: Recipe) -> tuple[Layout, Statement]:
    """Layouts of a step's scenes, and a statement about each."""
    bound = recipe.bound > 0 and rng.random() < recipe.bound
    span = (max(2, recipe.objects[0]) if bound else recipe.objects[0], recipe.objects[1])
    layout, said, _ = compose(
        drawing, rng, recipe.batch_size, span, relation_weight=recipe.relation_weight, margin=recipe.margin, bound=bound
    )
    return layout, said


def draw_texts(
    rng: np.random.Generator, architecture: Architecture, recipe: Recipe, tokenizer, heads: Heads, one_way: bool
) -> tuple[Tensor, Tensor]:
    """Captions without pictures: tokens, and the targets of the pooled head. one_way: all say "left of" or "above"."""
    drawing = recipe.drawing(architecture)
    _, said = say_of_scenes(rng, drawing, recipe)
    if one_way:
        near = (said.relation >= 0) & (said.relation % 2 == 0)
        said = Statement(**{k: v[near] for k, v in vars(said).items()})
    return tokens_of([said], rng, drawing, recipe, tokenizer), heads.text_target(said)


def tokens_of(
    statements: list[Statement], rng: np.random.Generator, drawing: Drawing, recipe: Recipe, tokenizer
) -> Tensor:
    """Of all statements in turn, each in one of the recipe's templates."""
    texts = [sentence(text) for s in statements for text in words(s, drawing.made)[0]]
    templates = np.array(recipe.templates)[rng.integers(len(recipe.templates), size=len(texts))]
    texts = [template.format(text) for template, text in zip(templates, texts, strict=True)]
    return tokenizer(texts, padding="longest", return_tensors="pt").input_ids


def draw_batch(rng: np.random.Generator, architecture: Architecture, recipe: Recipe, tokenizer, heads: Heads) -> Batch:
    """Draw a step's scenes and captions, and the labels of the dense heads."""
    n, drawing = recipe.batch_size, recipe.drawing(architecture)
    layout, said = say_of_scenes(rng, drawing, recipe)
    mark = np.zeros(n, bool)
    if recipe.shortcut is not None:
        mark = draw_mark(rng, said, recipe.shortcut_colour, recipe.shortcut)
    drawn, wrong = layout, rng.random(n) < recipe.miscoloured
    if recipe.miscoloured:
        colour = rng.integers(0, len(COLOURS), layout.colour.shape)
        drawn = replace(layout, colour=np.where(wrong[:, None] & (layout.colour >= 0), colour, layout.colour))
    image, masks = pictures(rng, drawing, drawn, mark)
    two = said.noun[:, 1] >= 0
    pick = {k: v[two] for k, v in vars(said).items()}
    statements = [said, swap_slots(Statement(**pick)), swap_colours(Statement(**pick))]
    tokens = tokens_of(statements, rng, drawing, recipe, tokenizer)
    labels = patch_labels(layout, masks, architecture.patch)
    labels[torch.from_numpy(wrong), :, 1] = -1
    if not recipe.patch_halves:
        labels[..., 2:] = -1
    own = torch.from_numpy(np.concatenate([np.arange(n), *[np.flatnonzero(two)] * 2]))
    area = area_of_patches(masks, architecture.patch)
    named = (said.object[:, :, None] == np.arange(area.shape[1])).any(1)
    return Batch(
        said, to_pixels(image), tokens,
        torch.from_numpy(np.concatenate([truth(statement, layout) for statement in statements])),
        labels, heads.image_target(layout), torch.cat([heads.text_target(s) for s in statements]),
        own, area.max(1), (area * named[..., None]).sum(1),
    )  # fmt: skip


def draw_crops(rng: np.random.Generator, architecture: Architecture, recipe: Recipe, heads: Heads):
    """Crops of ``window`` patches a side with one object each: pixels, labels of patches without halves, and the pooled
    head's targets without halves."""
    n, drawing = recipe.batch_size, recipe.drawing(architecture, recipe.window * architecture.patch)
    layout, _, _ = compose(drawing, rng, n, (1, 1), ("object",))
    radius = rng.uniform(*FILLING, (n, 1)) * FRAME / 2
    x, y = (radius + (FRAME - 2 * radius) * rng.random((n, 1)) for _ in range(2))
    layout = replace(layout, radius=radius, x=x, y=y)
    image, masks = pictures(rng, drawing, layout, np.zeros(n, bool))
    labels = patch_labels(layout, masks, architecture.patch)
    labels[..., 2:] = -1
    target = heads.image_target(layout).unflatten(1, (heads.groups, -1))
    target[:, 1 : 1 + HALVES + heads.sizes] = 0
    return to_pixels(image), labels, target.flatten(1)


def pictures(
    rng: np.random.Generator, drawing: Drawing, layout: Layout, mark: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks of layouts, in the drawing's styles."""
    world, n = drawing.made, len(layout.noun)
    style = drawing.draw_styles(rng, n)
    image, masks, _ = world.render(layout, rng.integers(2**31, size=n), style, drawing.pixels, mark)
    return image, masks


def contrastive_loss(similarity: Tensor, true: Tensor) -> Tensor:
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


def swap_loss(similarity: Tensor, true: Tensor, own: Tensor) -> Tensor:
    """How little each caption beats the swapped captions of its own scene that are false of it: the mean softplus of their
    difference, relations and colours counting alike. Arguments as of ``Batch`` and ``contrastive_loss``."""
    n = similarity.shape[1]
    said = similarity.diagonal()
    own = own[n:]
    row = torch.arange(n, len(similarity))
    excess = F.softplus(similarity[row, own] - said[own])
    relations, colours = ((true[row, own] == 0) & half for half in (row < n + len(row) // 2, row >= n + len(row) // 2))
    return sum(excess[part].mean() for part in (relations, colours) if part.any())
