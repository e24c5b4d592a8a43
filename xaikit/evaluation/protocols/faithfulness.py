"""Tables 1 and 2: how much confidence is left with the hottest alone, and the class as the hottest go and come; and what
their columns are."""

import hashlib
import json

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from ...clip.model import Clip
from ...clip.perturbation import check_fill, encoded
from ...clip.towers import tower
from ...explainers.registry import SIDES, Chosen
from ...explainers.sources import Plan, maps_of, protocol, results, sides
from ...files.checks import check_choices
from ...samples.source import Source
from ..confidence import LABELS, confidence_change, nearest
from ..faithfulness import UNITS, check_steps, deletion_insertion
from ..retrieval import WAYS, Columns

FIRST = (1, 5)  # among how many the class must be


@protocol()
def confidence(
    clip: Clip, source: Source, batch_size: int, seed: int, *, released: bool = False, fill: str = "removed"
) -> Plan:
    """Confidence drop and increase of image and text, as in table 1 of MMEL, in parts under ``folder``.

    source : images with captions, such as Conceptual Captions or planted scenes.
    released : as M2IB's released evaluation; see ``confidence_change``.
    fill : what becomes of words that are not hot, "removed" or "padding".

    Returns ``image_drop``, ``image_increase``, ``text_drop`` and ``text_increase`` (sample, explainer). A method that
    explains one side only has NaN for the other. Source: Wang et al., M2IB, 2023.

    Examples
    --------
    >>> import tempfile, xaikit as xk
    >>> clip, source = xk.load_clip("tiny-clip"), xk.open_source("planted", 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     list(confidence(clip, source, ["random"], folder).data_vars)
    ['finite', 'image_drop', 'image_increase', 'text_drop', 'text_increase']
    """
    check_fill(fill, "text")

    def measure(good: xr.Dataset, chosen: list[Chosen]) -> xr.Dataset:
        pixels, tokens = clip.pixels(good.image), clip.tokens(good.caption)
        shape = (len(tokens), len(chosen))
        found = {f"{of}_{what}": np.full(shape, np.nan) for of in SIDES for what in ("drop", "increase")}
        usable = np.ones(shape)
        for of in SIDES:
            able = [place for place, one in enumerate(chosen) if of in sides(clip, one.method.name)]
            if not able:
                continue
            heat, finite = maps_of([chosen[place] for place in able], clip, pixels, tokens, of, batch_size)
            both = confidence_change(clip, heat, pixels, tokens, of, released, fill, batch_size)
            for what, values in zip(("drop", "increase"), both, strict=True):
                found[f"{of}_{what}"][:, able] = np.where(finite, values, np.nan)
            usable[:, able] *= finite
        return results(good, chosen, finite=usable, **found)

    return Plan(None, measure, {"released": released, "fill": fill})


@protocol(needed={"class_index": "the class of each image, its place among the dataset's prompts"})
def classification(
    clip: Clip,
    source: Source,
    batch_size: int,
    seed: int,
    *,
    steps: int = 16,
    fill: str = "mean",
    unit: str = "patch",
    ensemble: bool = False,
) -> Plan:
    """Deletion and insertion on classes, as in table 2 of Grad-ECLIP and of MMEL, in parts under ``folder``.

    The map explains the prompt of the true class, or of the class predicted on the whole image. A curve says whether
    that class is among the first 1, or 5, of all classes' prompts at each share of the patches; its area is by the
    trapezoid rule. Every perturbed image is encoded once for both.

    source : images with ``class_index``, and ``prompts`` for at least six classes, such as ImageNet.
    steps, fill, unit : see ``deletion_insertion``.
    ensemble : class embeddings are the mean over open_clip's 80 templates filled with the classes' names; what is explained
        stays the single prompt.

    Returns ``deletion`` and ``insertion`` (sample, explainer, label, first) and their curves (..., step).
    """
    classes = len(getattr(source, "prompts", ()))
    if classes <= max(FIRST):
        raise ValueError(f"the source has prompts for {classes} classes: at least {max(FIRST) + 1} are needed")
    check_fill(fill, "image")
    check_choices(unit=(unit, UNITS))
    described = tower(clip, "image")
    check_steps(steps, int(np.prod(described.grid if unit == "patch" else described.pixels)), unit)
    prompts = clip.tokens(source.prompts)
    among = class_embeddings(clip, source, ensemble, batch_size)
    top = tuple(f"top{first}" for first in FIRST)

    def curves(chosen, pixels: Tensor, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shares (step,), both curves (2, n, explainers, first, step) for a class each, and which maps are finite."""
        heat, finite = maps_of(chosen, clip, pixels, prompts[label], "image", batch_size)
        shares, *both = deletion_insertion(
            clip, heat, pixels, prompts[label], "image", steps, fill, batch_size, seed, False, unit, top, label, among
        )
        both = np.stack(both).swapaxes(3, 4)
        return shares.astype(float), np.where(finite[..., None, None], both, np.nan), finite

    def measure(good: xr.Dataset, chosen: list[Chosen]) -> xr.Dataset:
        pixels, truth = clip.pixels(good.image), good.class_index.values.astype(int)
        seen = encoded(clip.encode_image, pixels, batch_size)
        predicted = nearest(seen @ among.T).cpu().numpy()
        shares, of_truth, finite = curves(chosen, pixels, truth)
        of_prediction, usable = of_truth.copy(), finite.copy()
        wrong = np.flatnonzero(predicted != truth)  # elsewhere both are the same
        if len(wrong):
            _, of_prediction[:, wrong], usable[wrong] = curves(chosen, pixels[wrong], predicted[wrong])
        curve = dict(zip(WAYS, np.stack([of_truth, of_prediction], 3), strict=True))
        return results(
            good, chosen, {"label": list(LABELS), "first": list(FIRST), "step": shares},
            finite=(finite & usable).astype(float),
            **{way: np.trapezoid(curve[way], shares) for way in WAYS},
            **{f"{way}_curve": curve[way] for way in WAYS},
        )  # fmt: skip

    options = {"steps": steps, "fill": fill, "unit": unit, "ensemble": ensemble, "seed": seed}
    options["classes"] = hashlib.sha256(json.dumps([source.classes, source.prompts]).encode()).hexdigest()[:16]
    return Plan("image", measure, options)


@torch.no_grad()
def class_embeddings(clip: Clip, source: Source, ensemble: bool = False, batch_size: int | None = None) -> Tensor:
    """Unit embeddings (classes, width) of the classes' prompts, or the mean over open_clip's 80 templates of their names; each
    different one is encoded once, so that classes of one name are alike to the last bit."""
    names = source.classes if ensemble else source.prompts
    different = list(dict.fromkeys(names))
    known = {name: place for place, name in enumerate(different)}
    place = [known[name] for name in names]
    if not ensemble:
        return encoded(clip.embed_text, clip.tokens(different).to(clip.device), batch_size)[place]
    total = 0
    for template in OPENAI_IMAGENET_TEMPLATES:
        filled = clip.tokens([template(name) for name in different])
        total = total + encoded(clip.embed_text, filled.to(clip.device), batch_size)
    return F.normalize(total, dim=-1)[place]


def confidence_columns(ds: xr.Dataset, progress: bool = False) -> Columns:
    """Drop and increase of both sides."""
    names = ("image drop", "image increase", "text drop", "text increase")
    return {name: ds[name.replace(" ", "_")].values for name in names}, {}


def class_columns(ds: xr.Dataset, progress: bool = False) -> Columns:
    """Areas and mean curves of both ways, for the true and the predicted class, among the first 1 and 5."""
    values, curves = {}, {}
    for way in WAYS:
        for label, said in zip(LABELS, (way, f"prediction {way}"), strict=True):
            for first in ds.first.values.tolist():
                place = {"label": label, "first": first}
                values[f"{said} @{first}"] = ds[way].sel(place).values
                curves[f"{said} @{first}"] = ds[f"{way}_curve"].sel(place).mean("sample").values
    return values, curves
