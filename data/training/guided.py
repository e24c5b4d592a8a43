"""Resonance-guided training, the third future direction of the SRM paper: a bundled CLIP trained on, with the share of its
resonance energy that lies on what the caption names as a regulariser, beside the same steps without it, and with the share
of the recursion's fixed point instead, which needs no spectrum.

``python -m training guided FILE``, from ``data/``: the curves, what the models can do before and after, and where their maps
lie, as one netCDF file that notebooks read.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor
from tqdm import tqdm

import xaikit as xk
from xaikit.clip.model import Clip
from xaikit.files.store import annotate, write
from xaikit.resonance.recursion import Recursion, read, trajectory
from xaikit.resonance.spectra import resonance_energy

from .batches import Batch, Heads, contrastive_loss, descend, draw_batch, new_optimizer, swap_loss
from .bundled import MODELS, SECOND_STAGE, Recipe
from .clip import say, validate

ARMS = ("no regulariser", "resonance energy", "fixed point")
RECURSION = Recursion(coupling="attention")
STEPS = replace(
    SECOND_STAGE, steps=200, warmup_steps=0, batch_size=48, learning_rate=3e-4, patch_weight=0.0, pooled_weight=0.0,
    swap_weight=1.0, report_every=10,
)  # fmt: skip
MAPS = {
    "srm": ("srm", {"coupling": "attention"}),
    "fixed point": ("srm_fixed_point", {"coupling": "attention", "floored": True}),
    "grad_eclip": ("grad_eclip", {}),
}
TRUTH = ("average_precision", "energy")
FRESH = 2_000_003  # seed of scenes that no training draws


def heat_of(arm: str, course: Tensor) -> Tensor:
    """What a regulariser reads of trajectories (n, time, words, patches): heat (n, patches), not negative, with its graph."""
    if arm == "resonance energy":
        return resonance_energy(course, dim=1).sum(1)
    last = course[:, -1]
    return (last - last.amin(2, keepdim=True)).sum(1)


def outside(heat: Tensor, named: Tensor) -> Tensor:
    """The mean over scenes of minus the logarithm of the share of heat (n, patches) on what is named (n, patches, shares)."""
    share = (heat * named).sum(1) / heat.sum(1).clamp(min=1e-12)
    return -share.clamp(min=1e-6).log().mean()


def loss_of(clip: Clip, arm: str, batch: Batch, weight: float) -> tuple[Tensor, dict[str, float]]:
    """The contrastive loss with swapped captions, and ``weight`` times the arm's regulariser."""
    image = F.normalize(clip.model.encode_image(batch.pixels), dim=-1)
    spoken = say(clip.model, batch.tokens)
    similarity = clip.model.logit_scale.exp().clamp(max=100) * spoken @ image.T
    loss = contrastive_loss(similarity, batch.truth) + swap_loss(similarity, batch.truth, batch.own)
    parts = {"contrastive": loss.item()}
    if arm != ARMS[0]:
        found = read(clip, batch.pixels, whole(clip, batch.tokens[: len(batch.pixels)]), RECURSION)
        named = torch.from_numpy(batch.named.astype(np.float32)).clamp(max=1)
        guide = outside(heat_of(arm, trajectory(clip, found, RECURSION)), named)
        loss, parts["regulariser"] = loss + weight * guide, guide.item()
    return loss, parts


def whole(clip: Clip, tokens: Tensor) -> Tensor:
    """Ids padded to all of the context, as the model's own function takes them."""
    return F.pad(tokens, (0, clip.context_length - tokens.shape[1]), value=clip.tokens(["a"])[0, -1].item())


def trained(name: str, arm: str, seed: int, recipe: Recipe = STEPS, weight: float = 1.0) -> tuple[Clip, pd.DataFrame]:
    """A bundled CLIP after the steps of an arm, and its curve; the same seed draws the same scenes for all arms."""
    clip, architecture = xk.load_clip(name), MODELS[name].architecture
    clip.model.requires_grad_(True)
    heads, tokenizer = Heads(architecture), architecture.tokenizer()
    optimizer, schedule = new_optimizer(
        [(clip.model.parameters(), recipe.learning_rate)], recipe.weight_decay, recipe.steps
    )
    log = []
    for step in tqdm(range(recipe.steps), desc=f"{arm}, seed {seed}"):
        batch = draw_batch(np.random.default_rng((seed, step)), architecture, recipe, tokenizer, heads)
        loss, parts = loss_of(clip, arm, batch, weight)
        descend(loss, clip.model.parameters(), optimizer, schedule)
        log.append({"step": step, **parts})
    clip.model.requires_grad_(False)
    curve = pd.DataFrame(log)
    return clip, curve.groupby(curve.step // recipe.report_every).mean()


def measured(clip: Clip, name: str, n: int) -> xr.Dataset:
    """What a model can do, and the truth of its maps on fresh scenes (explainer, sample)."""
    able = validate(clip.model, MODELS[name].architecture, STEPS)
    scenes = xk.draw_scenes(n, FRESH, size=clip.image_size[0], world=MODELS[name].architecture.world)
    truth = xk.evaluate(xk.explain(MAPS, clip, scenes.image, scenes.caption), clip, scenes, metrics=[*TRUTH])
    return (
        truth[[*TRUTH]]
        .reset_coords(drop=True)
        .assign({score: value for score, value in able.items() if not score.endswith("_pairs")})
    )


def guided(
    file: str | Path, name: str = "tiny-clip", seeds: int = 3, n: int = 128, recipe: Recipe = STEPS
) -> xr.Dataset:
    """Train all arms with each seed, measure before and after, and write the file."""
    torch.set_num_threads(recipe.threads)
    start = xk.load_clip(name)
    before = measured(start, name, n)
    runs, curves = [], []
    for arm in ARMS:
        each = [trained(name, arm, seed, recipe) for seed in range(seeds)]
        runs.append(xr.concat([measured(clip, name, n) for clip, _ in each], "seed"))
        curves.append(xr.concat([curve.rename_axis("report").to_xarray() for _, curve in each], "seed"))
    arms = xr.DataArray(list(ARMS), dims="arm", name="arm")
    out = xr.concat(runs, arms).merge(xr.concat(curves, arms)).assign_coords(seed=np.arange(seeds))
    out = out.merge(before.rename({each: f"{each}_before" for each in before.data_vars}))
    out = out.transpose("arm", "seed", "sample", "explainer", "report")
    made = {
        "model": name,
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
    }
    out = annotate(out, "guided_training", start, parameters=made)
    write(out, Path(file), "guided_training")
    return out
