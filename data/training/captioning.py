"""How the bundled multimodal LLM was trained: to describe planted scenes, and to answer questions about two objects.

Real ones come from language models that were trained on text. That is why their output weights can read states of
image tokens at all, though no loss ever asks them to. To come near it with scenes alone, the input embeddings are the
output weights too, as in small checkpoints of Qwen2-VL, and the loss is on all text, the prompts included. Without
both, at the last layer of a model trained as long, the lens of a shape word peaked on its object in 2 % of all cases,
less than by chance (measured).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from xaikit.samples.descriptions import MOST_DESCRIBED, describable, descriptions, question
from xaikit.samples.worlds.shapes import IMAGE_SIZE, render

from .batches import to_pixels
from .bundled import PATCH
from .bundled_llava import REQUESTS, llava_tokenizer, new_llava, save_llava, start_from_clip

IGNORED = -100  # label of positions that aren't learnt


@dataclass(frozen=True)
class CaptioningRecipe:
    """Every choice of the training."""

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 2e-3
    tower_learning_rate: float = 7e-4
    weight_decay: float = 0.05
    shares: tuple[float, ...] = (0.1, 0.55, 0.175, 0.175)  # of scenes with one, two, three and four objects
    questions: float = 0.25  # share of the scenes of two objects that come with a question about one of them
    similar: float = 0.5
    rescaled: float = 0.35  # share of the steps with a larger or smaller image, by one of the factors below
    factors: tuple[float, ...] = (0.75, 1.25, 1.5, 2.0)
    seed: int = 0
    threads: int = 1
    report_every: int = 50


@dataclass
class CaptioningBatch:
    """Images with conversations, padded at the end; labels are ``IGNORED`` before the text and in the padding."""

    pixels: Tensor  # (n, 3, H, W)
    ids: Tensor  # (n, length)
    labels: Tensor  # (n, length)
    is_answer: Tensor  # (n, length) bool


def conversation(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str, cells: int) -> tuple[list[int], int]:
    """Ids of the whole conversation with its image tokens, and where the answer starts."""
    asked = tokenizer("<s><user>" + "<image>" * cells + prompt + "<assistant>", add_special_tokens=False).input_ids
    told = tokenizer(answer + "</s>", add_special_tokens=False).input_ids
    return asked + told, len(asked)


def draw_conversations(
    rng: np.random.Generator, recipe: CaptioningRecipe, tokenizer: PreTrainedTokenizerFast, factor: float = 1.0
) -> CaptioningBatch:
    """Draw a step's scenes, prompts and answers. factor: how much larger the images are made, and the fewer they are."""
    n = round(recipe.batch_size / max(1.0, factor) ** 2)
    layout, relation = describable(rng, n, (1, MOST_DESCRIBED), recipe.similar, np.array(recipe.shares))
    image, _, _ = render(layout, rng, np.zeros(n, bool))
    answers = descriptions(layout, relation)
    prompts = list(rng.choice(REQUESTS, n))
    asked = np.flatnonzero((layout.exists.sum(1) == 2) & (rng.random(n) < recipe.questions))
    for row, said, told in zip(
        asked, *question(layout.rows(asked), relation[asked], rng.integers(0, 2, len(asked))), strict=True
    ):
        prompts[row], answers[row] = said, told
    pixels, side = to_pixels(image), round(IMAGE_SIZE * factor)
    cells, image_token = (side // PATCH) ** 2, tokenizer.convert_tokens_to_ids("<image>")
    if factor != 1:
        pixels = F.interpolate(pixels, (side, side), mode="bicubic", align_corners=False)
    rows = [conversation(tokenizer, p, a, cells) for p, a in zip(prompts, answers, strict=True)]
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((n, length), tokenizer.pad_token_id)
    labels = torch.full((n, length), IGNORED)
    is_answer = torch.zeros(n, length, dtype=torch.bool)
    for row, (conversed, start) in enumerate(rows):
        ids[row, : len(conversed)] = torch.tensor(conversed)
        text = conversed.index(image_token) + cells
        labels[row, text : len(conversed)] = ids[row, text : len(conversed)]
        is_answer[row, start : len(conversed)] = True
    return CaptioningBatch(pixels, ids, labels, is_answer)


def logits_of(model: LlavaForConditionalGeneration, batch: CaptioningBatch, pad: int) -> Tensor:
    """Logits (n, length, vocabulary) of one pass over whole conversations."""
    features = model.model.get_image_features(batch.pixels, interpolate_pos_encoding=True, return_dict=True)
    return model(
        input_ids=batch.ids, attention_mask=(batch.ids != pad).long(), mm_encoder_outputs={"image": features}
    ).logits


def train_llava(
    recipe: CaptioningRecipe, clip, progress: bool = True
) -> tuple[LlavaForConditionalGeneration, pd.DataFrame]:
    """Train the bundled architecture, its vision tower started from that of ``clip`` (an open_clip model of the bundled
    architecture). Returns the model and its log, a row a report. On one core the default takes about half an hour."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    rng = np.random.default_rng(recipe.seed)
    tokenizer = llava_tokenizer()
    model = new_llava().train()
    start_from_clip(model, clip)
    tower = {id(p) for p in model.model.vision_tower.parameters()}
    groups = []
    for own, rate in ((False, recipe.learning_rate), (True, recipe.tower_learning_rate)):
        of_it = [p for p in model.parameters() if (id(p) in tower) == own]
        for matrix, decay in ((True, recipe.weight_decay), (False, 0.0)):
            groups.append({"params": [p for p in of_it if (p.ndim > 1) == matrix], "lr": rate, "weight_decay": decay})
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in groups], total_steps=recipe.steps, pct_start=0.1
    )
    log, running = [], []
    for step in tqdm(range(1, recipe.steps + 1), disable=not progress):
        factor = rng.choice(recipe.factors) if rng.random() < recipe.rescaled else 1.0
        batch = draw_conversations(rng, recipe, tokenizer, factor)
        logits = logits_of(model, batch, tokenizer.pad_token_id)[:, :-1]
        target = batch.labels[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        told = batch.is_answer[:, 1:]
        right = (logits.argmax(-1) == target) | ~told
        running.append(
            [loss.item(), (right & told).sum().item() / told.sum().item(), right.all(1).double().mean().item()]
        )
        if step % recipe.report_every == 0 or step == recipe.steps:
            means = dict(zip(("loss", "token_accuracy", "answers_exact"), np.mean(running, 0), strict=True))
            running = []
            log.append({"step": step, **means})
            if progress:
                tqdm.write(" ".join(f"{name}={value:.4g}" for name, value in log[-1].items()))
    return model.eval().requires_grad_(False), pd.DataFrame(log)


def retrain_llava(folder: str | Path, progress: bool = True, recipe: CaptioningRecipe | None = None) -> None:
    """Train the bundled multimodal LLM again, from tiny-clip's vision tower, and save it."""
    from xaikit.clip.loading import load_clip

    recipe = recipe or CaptioningRecipe()
    model, log = train_llava(recipe, load_clip("tiny-clip").model, progress)
    save_llava(model, log, recipe, folder)
