"""Table 2: how often the class is still among the first as the hottest patches go, and as they come."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from ...clip.model import Clip
from ...clip.perturbation import check_fill, encoded
from ...clip.towers import tower
from ...explainers.sources import Methods, check_run, chosen_methods, maps_of, results, run
from ...files.checks import check_choices
from ...measures.ranks import area_under_curve
from ...samples.source import Source
from ..faithfulness import UNITS, check_steps, deletion_insertion

FIRST = (1, 5)  # among how many the class must be
LABELS = ("truth", "prediction")
NEEDED = {"class_index": "the class of each image, its place among the dataset's prompts"}


def classification(
    clip: Clip,
    source: Source,
    methods: Methods,
    folder: str | Path,
    steps: int = 16,
    fill: str = "mean",
    unit: str = "patch",
    ensemble: bool = False,
    shard: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Deletion and insertion on classes, as in table 2 of Grad-ECLIP and of MMEL, in parts under ``folder``.

    The map explains the prompt of the true class, or of the class predicted on the whole image. A curve says whether
    that class is among the first 1, or 5, of all classes' prompts at each share of the patches; its area is by the
    trapezoid rule. Every perturbed image is encoded once for both.

    Parameters
    ----------
    source : images with ``class_index``, and ``prompts`` for at least six classes, such as ImageNet.
    methods : names, or a dict from labels to options; see ``Methods``.
    steps, fill, unit : see ``deletion_insertion``.
    ensemble : class embeddings are the mean over open_clip's 80 templates filled with the classes' names; what is explained
        stays the single prompt.
    shard, batch_size : see ``confidence``. seed : of methods that take one, of ties, and of the fill "random".

    Returns ``deletion`` and ``insertion`` (sample, explainer, label, first) and their curves (..., step), read where they
    are looked at. Raises ValueError, before any work, for impossible choices or a dataset without classes.
    """
    if len(getattr(source, "prompts", ())) < max(FIRST) + 1:
        raise ValueError(
            f"the source has prompts for {len(getattr(source, 'prompts', ()))} classes: at least {max(FIRST) + 1} are needed"
        )
    check_run(clip, source, batch_size, seed, NEEDED)
    check_fill(fill, "image")
    check_choices(unit=(unit, UNITS))
    described = tower(clip, "image")
    check_steps(steps, int(np.prod(described.grid if unit == "patch" else described.pixels)), unit)
    chosen = chosen_methods(clip, methods, "image", seed)
    prompts = clip.tokens(source.prompts)
    among = class_embeddings(clip, source, ensemble, batch_size)
    top = tuple(f"top{first}" for first in FIRST)

    def curves(pixels: Tensor, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shares (step,), both curves (2, n, explainers, first, step) for a class each, and which maps are finite."""
        heat, finite = maps_of(chosen, clip, pixels, prompts[label], "image", batch_size)
        shares, *both = deletion_insertion(
            clip, heat, pixels, prompts[label], steps, fill, batch_size, seed, False, unit, top, label, among
        )
        both = np.stack(both).swapaxes(3, 4)
        return shares.astype(float), np.where(finite[..., None, None], both, np.nan), finite

    def measure(good: xr.Dataset) -> xr.Dataset:
        pixels, truth = clip.pixels(good.image), good.class_index.values.astype(int)
        seen = encoded(clip.encode_image, pixels, batch_size)
        predicted = (seen @ among.T).argmax(1).cpu().numpy()
        shares, of_truth, finite = curves(pixels, truth)
        of_prediction, usable = of_truth.copy(), finite.copy()
        wrong = np.flatnonzero(predicted != truth)  # elsewhere both are the same
        if len(wrong):
            _, of_prediction[:, wrong], usable[wrong] = curves(pixels[wrong], predicted[wrong])
        deletion, insertion = np.stack([of_truth, of_prediction], 3)
        coords = {"label": list(LABELS), "first": list(FIRST), "step": shares}
        areas = {"deletion": area_under_curve(shares, deletion), "insertion": area_under_curve(shares, insertion)}
        finite = (finite & usable).astype(float)
        return results(good, chosen, coords, finite=finite, **areas, deletion_curve=deletion, insertion_curve=insertion)

    options = {"steps": steps, "fill": fill, "unit": unit, "ensemble": ensemble, "seed": seed}
    options["classes"] = hashlib.sha256(json.dumps([source.classes, source.prompts]).encode()).hexdigest()[:16]
    return run("classification", clip, source, chosen, folder, measure, options, batch_size, shard, progress)


@torch.no_grad()
def class_embeddings(clip: Clip, source: Source, ensemble: bool = False, batch_size: int | None = None) -> Tensor:
    """Unit embeddings (classes, width) of the classes' prompts, or the mean over open_clip's 80 templates of their names."""
    if not ensemble:
        return encoded(clip.encode_text, clip.tokens(source.prompts).to(clip.device), batch_size)
    total = 0
    for template in OPENAI_IMAGENET_TEMPLATES:
        filled = clip.tokens([template(name) for name in source.classes])
        total = total + encoded(clip.encode_text, filled.to(clip.device), batch_size)
    return F.normalize(total, dim=-1)
