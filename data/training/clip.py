"""How the two bundled CLIP models were trained, from scratch, on planted scenes.

The plain contrastive loss stalls on these scenes (notebook 00), so training is helped by dense heads
that are thrown away afterwards: linear maps that read the shape and the colour under each patch from the
vision tower's patch tokens, and one linear map, shared by both towers, that reads from the joint
embedding which colour-shape combinations there are, in which half of the image and in which size. The
contrastive loss counts as positive every caption that is true of an image, not only its own.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from tqdm import tqdm

from xaikit.samples.assembly import compose
from xaikit.samples.captions import sentence, words
from xaikit.samples.worlds.shapes import render

from .batches import Heads, contrastive_loss, draw_batch, to_pixels
from .bundled import CONTEXT, MODEL_CONFIG, STAGES, Recipe, new_model, save, word_tokenizer
from .statements import swap_colours, swap_slots


def train(recipe: Recipe, model: CLIP | None = None, progress: bool = True) -> tuple[CLIP, pd.DataFrame]:
    """Train a CLIP by the recipe, from scratch or from a model (which is changed). Returns the model and its
    log, a row a report. On two cores the default 3,200 steps take about half an hour."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    rng = np.random.default_rng(recipe.seed)
    model = new_model() if model is None else model.train()
    model.visual.output_tokens = True
    heads = Heads(MODEL_CONFIG["vision_cfg"]["width"], MODEL_CONFIG["embed_dim"])
    tokenizer = word_tokenizer()
    parameters = [*model.parameters(), *heads.parameters()]
    decay = [p for p in parameters if p.ndim > 1]
    groups = [{"params": decay}, {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1
    )
    log = []
    running = []
    for step in tqdm(range(1, recipe.steps + 1), disable=not progress):
        batch = draw_batch(rng, recipe, tokenizer)
        pooled, patches = model.visual(batch.pixels)
        image = F.normalize(pooled, dim=-1)
        dense = heads.patch_loss(patches, batch.patch_labels)
        spoken = model.encode_text(batch.tokens, normalize=True)
        read = (heads.pooled_loss(image, batch.image_target) + heads.pooled_loss(spoken, batch.text_target)) / 2
        similarity = model.logit_scale.exp().clamp(max=100) * spoken @ image.T
        contrast = contrastive_loss(similarity, batch.truth)
        warm = step <= recipe.warmup_steps
        loss = dense + read if warm else contrast + recipe.patch_weight * dense + recipe.pooled_weight * read
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        running.append([contrast.item(), dense.item(), read.item()])
        if step % recipe.report_every == 0 or step == recipe.steps:
            means = dict(zip(("contrastive", "patch_heads", "pooled_head"), np.mean(running, 0), strict=True))
            running = []
            model.eval()
            log.append({"step": step, **means, **validate(model, tokenizer)})
            model.train()
            if progress:
                tqdm.write(" ".join(f"{k}={v:.3f}" for k, v in log[-1].items()))
    model.visual.output_tokens = False
    return model.eval(), pd.DataFrame(log)


@torch.no_grad()
def validate(model: CLIP, tokenizer, n: int = 512, seed: int = 1_000_003) -> dict[str, float]:
    """Quick figures for the training curve, on fixed scenes with two-object relation captions."""
    rng = np.random.default_rng(seed)
    layout, said, _ = compose(rng, n, (2, 4), ("relation",), swappable=True)
    image, _, _ = render(layout, rng, np.zeros(n, bool))
    features = model.visual(to_pixels(image))
    features = F.normalize(features[0] if isinstance(features, tuple) else features, dim=-1)

    def similarity(statement):
        texts = [sentence(text) for text in words(statement)[0]]
        ids = tokenizer(texts, padding="max_length", max_length=CONTEXT, return_tensors="pt").input_ids
        return features @ model.encode_text(ids, normalize=True).T

    own = similarity(said)
    right = own.diagonal()
    return {
        "recall_at_1": (own.argmax(1) == torch.arange(n)).double().mean().item(),
        "attribute_swap": (right > similarity(swap_colours(said)).diagonal()).double().mean().item(),
        "relation_swap": (right > similarity(swap_slots(said)).diagonal()).double().mean().item(),
    }


def retrain(name: str, folder: str | Path, progress: bool = True) -> None:
    """Train a bundled model again, stage by stage, and save it. Raises ValueError for another name."""
    if name not in STAGES:
        raise ValueError(f"unknown bundled model {name!r}: choose from {', '.join(STAGES)}")
    model, logs = None, []
    for number, recipe in enumerate(STAGES[name], start=1):
        model, log = train(recipe, model, progress)
        logs.append(log.assign(stage=number, step=log.step + sum(stage.steps for stage in STAGES[name][: number - 1])))
    save(model, pd.concat(logs, ignore_index=True), STAGES[name], folder)
