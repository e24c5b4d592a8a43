"""How the bundled CLIP models were trained, from scratch, on planted scenes.

The plain contrastive loss stalls on these scenes (notebook 00), so training is helped by dense heads that are thrown away
afterwards (``batches.Heads``): one under each patch (not in the models called "plain"), one that both towers share. The
contrastive loss counts as positive every caption that is true of an image, not only its own.
"""

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from xaikit.samples.assembly import compose
from xaikit.samples.captions import sentence, words

from .batches import (
    Heads,
    contrastive_loss,
    draw_batch,
    draw_crops,
    draw_texts,
    new_optimizer,
    pictures,
    swap_loss,
    to_pixels,
)
from .bundled import MODELS, Architecture, Bundled, Recipe, save
from .checkpoints import Interruptible
from .statements import swap_colours, swap_slots

HEADS_FASTER = 5.0  # the learning rate of the heads, which are linear, against that of the towers


class Training(Interruptible):
    """A CLIP in training, its heads and its optimiser."""

    def __init__(self, bundled: Bundled, progress: bool = True):
        self.bundled, self.stages, self.progress = bundled, bundled.stages, progress
        torch.manual_seed(bundled.stages[0].seed)
        self.model, self.heads = bundled.architecture.new_model().train(), Heads(bundled.architecture)
        self.parts = {"model": self.model, "heads": self.heads}
        self.made = [asdict(each) for each in (bundled.architecture, *bundled.stages)]
        self.model.visual.output_tokens = True
        self.tokenizer = bundled.architecture.tokenizer()
        super().__init__()

    def begin(self, stage: int, step: int = 0) -> None:
        super().begin(stage, step)
        rate = self.recipe.learning_rate
        torch.set_num_threads(self.recipe.threads)
        parts = ((self.model.parameters(), rate), (self.heads.parameters(), HEADS_FASTER * rate))
        self.optimizer, self.schedule = new_optimizer(parts, self.recipe.weight_decay, self.recipe.steps)

    def loss(self) -> tuple[Tensor, dict[str, float]]:
        """Of one step, and its parts."""
        recipe, architecture, heads = self.recipe, self.bundled.architecture, self.heads
        rng = np.random.default_rng((recipe.seed, self.stage, self.step))
        if recipe.texts_alone:
            one_way = self.step < recipe.one_way
            tokens, target = draw_texts(rng, architecture, recipe, self.tokenizer, heads, one_way)
            read = heads.pooled_loss(say(self.model, tokens), target)
            return read, {"pooled_head": read.item()}
        if recipe.window:
            pixels, labels, target = draw_crops(rng, architecture, recipe, heads)
            pooled, patches, _ = see(self.model, pixels, rng, architecture.grid)
            dense = heads.patch_loss(patches, labels) if recipe.patch_weight else torch.zeros(())
            read = heads.pooled_loss(F.normalize(pooled, dim=-1), target)
            return recipe.patch_weight * dense + read, {"patch_heads": dense.item(), "pooled_head": read.item()}
        batch = draw_batch(rng, architecture, recipe, self.tokenizer, heads)
        pooled, patches, kept = see(
            self.model, batch.pixels, rng, architecture.grid, recipe.kept, 1 + recipe.focus * batch.covered
        )
        image = F.normalize(pooled, dim=-1)
        labels = batch.patch_labels.gather(1, kept[..., None].expand(-1, -1, batch.patch_labels.shape[-1]))
        dense = heads.patch_loss(patches, labels) if recipe.patch_weight else torch.zeros(())
        spoken = say(self.model, batch.tokens)
        read = (heads.pooled_loss(image, batch.image_target) + heads.pooled_loss(spoken, batch.text_target)) / 2
        similarity = self.model.logit_scale.exp().clamp(max=100) * spoken @ image.T
        contrast = contrastive_loss(similarity, batch.truth)
        warm = self.step < recipe.warmup_steps
        swapped = swap_loss(similarity, batch.truth, batch.own) if recipe.swap_weight else torch.zeros(())
        loss = dense + read
        if not warm:
            loss = contrast + recipe.patch_weight * dense + recipe.pooled_weight * read + recipe.swap_weight * swapped
        return loss, {"contrastive": contrast.item(), "patch_heads": dense.item(), "pooled_head": read.item()}

    def report(self, means: dict[str, float]) -> dict[str, float]:
        """With what the model can do, once it sees whole scenes."""
        before, scores = sum(stage.steps for stage in self.stages[: self.stage]), {}
        if not (self.recipe.window or self.recipe.texts_alone):
            self.model.eval()
            scores = validate(self.model, self.bundled.architecture, self.recipe)
            self.model.train()
        return {"step": before + self.step, "stage": self.stage + 1, **means, **scores}

    def run(self, folder: Path | None = None, every: int = 100) -> tuple[CLIP, pd.DataFrame]:
        """The model, trained to the end, and its log; arguments as of ``train``."""
        log = self.train(folder, every)
        self.model.visual.output_tokens = False
        return self.model.eval(), log


def see(
    model: CLIP,
    pixels: Tensor,
    rng: np.random.Generator,
    grid: int,
    kept: float = 1.0,
    weight: np.ndarray | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The vision tower on crops of its patches, at a random place of its position embeddings, or on a share of the patches.

    pixels (n, 3, side, side), of at most ``grid`` patches a side. weight (n, patches): how likely each patch is kept, all
    alike by default. Returns the embedding (n, width), not normalised, the
    patch tokens that were kept, and their places (n, kept) among all patches of the crop.
    """
    visual = model.visual
    x = visual.conv1(pixels)
    n, side = len(x), x.shape[-1]
    row, col = rng.integers(0, grid - side + 1, 2)
    place = visual.positional_embedding[1:].view(grid, grid, -1)[row : row + side, col : col + side].flatten(0, 1)
    x = x.flatten(2).transpose(1, 2) + place
    count = round(kept * side**2)
    weight = np.ones((n, side**2)) if weight is None else weight
    # The largest of log weight plus Gumbel noise are a draw without replacement by these weights.
    order = np.argsort(-(np.log(weight) + rng.gumbel(size=weight.shape)), axis=1)
    chosen = torch.from_numpy(order[:, :count].copy())
    if count == side**2:
        chosen = torch.arange(count).expand(n, -1)
    else:
        x = x.gather(1, chosen[..., None].expand(-1, -1, x.shape[-1]))
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(n, 1, -1)
    x = visual.ln_post(visual.transformer(visual.ln_pre(torch.cat([first, x], 1))))
    return x[:, 0] @ visual.proj, x[:, 1:], chosen


def say(model: CLIP, tokens: Tensor) -> Tensor:
    """Unit embeddings of texts, as ``encode_text`` gives them, without the padding that all of them share."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return F.normalize(x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection, dim=-1)


@torch.no_grad()
def validate(
    model: CLIP, architecture: Architecture, recipe: Recipe, n: int = 256, seed: int = 1_000_003
) -> dict[str, float]:
    """Quick figures for the training curve, on fixed scenes with two-object relation captions."""
    rng = np.random.default_rng(seed)
    drawing, tokenizer = recipe.drawing(architecture), architecture.tokenizer()
    layout, said, _ = compose(drawing, rng, n, (2, 4), ("relation",), swappable=True)
    image, _ = pictures(rng, drawing, layout, np.zeros(n, bool))
    features = torch.cat([see(model, part, rng, architecture.grid)[0] for part in to_pixels(image).split(64)])
    features = F.normalize(features, dim=-1)

    def similarity(statement):
        texts = [sentence(text) for text in words(statement, drawing.made)[0]]
        ids = tokenizer(texts, padding="longest", return_tensors="pt").input_ids
        return features @ say(model, ids).T

    own = similarity(said)
    right, coloured = own.diagonal(), torch.from_numpy((said.colour[:, :2] >= 0).all(1))
    return {
        "recall_at_1": (own.argmax(1) == torch.arange(n)).double().mean().item(),
        "attribute_swap": (right > similarity(swap_colours(said)).diagonal())[coloured].double().mean().item(),
        "relation_swap": (right > similarity(swap_slots(said)).diagonal()).double().mean().item(),
        "attribute_pairs": float(coloured.sum()),  # what these shares are of
        "relation_pairs": float(n),
    }


def retrain(name: str, folder: str | Path, progress: bool = True) -> None:
    """Train a bundled model again, stage by stage, and save it; interrupted, it goes on from its last checkpoint in
    ``FOLDER/checkpoint``, which is gone at the end. Raises ValueError for another name, or a checkpoint of another model."""
    if name not in MODELS:
        raise ValueError(f"unknown bundled model {name!r}: choose from {', '.join(MODELS)}")
    checkpoint = Path(folder) / "checkpoint"
    model, log = Training(MODELS[name], progress).run(checkpoint)
    save(MODELS[name], model, log, folder)
    shutil.rmtree(checkpoint, ignore_errors=True)
