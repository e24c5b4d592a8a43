"""``evaluate``: every metric that applies, for one or many explainers."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..clip.model import Clip
from ..clip.perturbation import check_fill
from ..clip.towers import tower
from ..files.checks import check_whole
from ..files.store import annotate
from ..measures import localisation, words
from ..measures.maps import checked
from ..measures.ranks import area_under_curve
from . import confidence, faithfulness

IMAGE_METRICS = {
    "pointing_game": (localisation.pointing_game, "hottest patch lies on a named object"),
    "energy": (localisation.energy, "share of heat inside the named objects"),
    "iou_best": (localisation.iou_best, "IoU with the named objects at the best threshold"),
    "iou_otsu": (localisation.iou_otsu, "IoU with the named objects at Otsu's threshold"),
    "average_precision": (localisation.average_precision, "average precision of the patches of named objects"),
    "auroc": (localisation.auroc, "how often a patch of a named object is hotter than another"),
}
HIGHER, LOWER = "higher is better", "lower is better"
CURVES, CONFIDENCE = ("deletion_auc", "insertion_auc"), ("confidence_drop", "confidence_increase")
OF_IMAGES = (*IMAGE_METRICS, "smallest_share", "flat", *CURVES, *CONFIDENCE, "occlusion")
NEED_TRUTH = (*IMAGE_METRICS, "smallest_share")
OF_WORDS = ("content_share", *(f"word_{name}" for name in (*CURVES, *CONFIDENCE)))


def evaluate(
    heat: xr.DataArray,
    clip: Clip,
    scenes: xr.Dataset,
    steps: int = 16,
    fill: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
    metrics: Sequence[str] | None = None,
) -> xr.Dataset:
    """Measure explanations against the scenes' planted truth and against the model.

    Parameters
    ----------
    heat : maps of the image (sample, [explainer,] row, col), or of the text (sample, [explainer,] token), as
        ``explain`` gives them, of the same samples as ``scenes``.
    steps, fill, batch_size, seed : of deletion and insertion, see ``deletion_insertion`` and, for maps of the text,
        ``word_deletion_insertion``; a fill of None is "mean" for images and "removed" for words.
    metrics : names of those wanted, None for all; those that need the model run it only where they are. For scenes without
        masks of the objects, such as photographs, all means all but the localisation metrics and ``smallest_share``.

    Returns
    -------
    Dataset of the ``evaluation`` schema: one variable a metric (sample, explainer) with its ``score_direction``, and
    the deletion and insertion curves. For images: the localisation metrics against the named objects,
    ``smallest_share`` of them, ``flat`` for maps that say nothing, the areas under both curves, ``confidence_drop`` and
    ``confidence_increase``, and ``occlusion``, how much more cosine is lost without the hottest 5 to 25 % of the patches
    than without random ones (mean over these shares). For texts: ``content_share``, and the areas, curves and
    confidences as ``word_deletion_auc`` and so on. What needs other
    models or maps stands by itself in ``metrics``: hallucination, sanity, stability, completeness, cost, retrieval.

    Raises ValueError for maps of other samples, of another shape, or with NaN, for an impossible fill or steps, and for a
    metric by name that needs masks where the scenes have none.
    """
    heat = checked(heat, scenes)
    check_whole(1, batch_size=batch_size)
    check_whole(0, seed=seed)
    known = OF_WORDS if "token" in heat.dims else OF_IMAGES
    blind = set() if {"object_mask", "object_named"} <= {*scenes} else {*NEED_TRUTH}
    wanted = {*known} - blind if metrics is None else set(metrics)
    if isinstance(metrics, str) or not wanted or wanted - set(known):
        raise ValueError(
            f"metrics={metrics!r}: give a list of names, or None for all; the names are {', '.join(known)}"
        )
    if wanted & blind:
        first = next(name for name in NEED_TRUTH if name in wanted)
        raise ValueError(
            f"the metric {first!r} compares maps with the objects' masks, and the scenes have none: leave it out, or give"
            " scenes with object_mask and object_named"
        )
    choices = {"steps": steps, "batch_size": batch_size, "seed": seed, "progress": progress}
    if "token" in heat.dims:
        choices["fill"] = check_fill(fill or "removed", "text")
        out = _evaluate_words(heat, clip, scenes, choices, wanted)
    else:
        choices["fill"] = check_fill(fill or "mean", "image")
        out = _evaluate_images(heat, clip, scenes, choices, wanted)
    settings = {name: choices[name] for name in ("steps", "fill", "seed")}
    return annotate(out, "evaluation", model=clip.name, weights_digest=clip.weights_digest, parameters=settings)


def _evaluate_images(heat: xr.DataArray, clip: Clip, scenes: xr.Dataset, choices: dict, wanted: set) -> xr.Dataset:
    described = tower(clip, "image")
    if heat.shape[2:] != described.grid:
        raise ValueError(
            f"the maps have {heat.shape[2:]} rows and columns, but {clip.name} has {described.grid} patches"
        )
    out = xr.Dataset(coords={"sample": heat.sample.values, "explainer": heat.explainer.values})
    if wanted & {*NEED_TRUTH}:
        _add_localisation(out, heat, clip, scenes, wanted)
    if "flat" in wanted:
        out["flat"] = _metric(np.ptp(heat.values, axis=(2, 3)) == 0, "whether the map is flat, and says nothing", LOWER)
    if not wanted & {*CURVES, *CONFIDENCE, "occlusion"}:
        return out
    inputs = clip, heat.values, clip.pixels(scenes.image), clip.tokens(scenes.caption)
    if wanted & {*CURVES}:
        _add_curves(out, faithfulness.deletion_insertion(*inputs, **choices))
    if wanted & {*CONFIDENCE}:
        _add_confidence(out, confidence.image_confidence(*inputs, batch_size=choices["batch_size"]))
    if "occlusion" in wanted:
        those = {name: choices[name] for name in ("fill", "batch_size", "seed")}
        _, occluded, random = faithfulness.progressive_occlusion(*inputs, **those)
        lost = (random[:, None] - occluded).mean(-1)
        out["occlusion"] = _metric(lost, "cosine lost by occluding the hottest patches, beyond random ones", HIGHER)
    return out


def _add_localisation(out: xr.Dataset, heat: xr.DataArray, clip: Clip, scenes: xr.Dataset, wanted: set) -> None:
    each = scenes.object_mask.transpose("sample", "object", "y", "x").values
    named = scenes.object_named.transpose("sample", "object").values
    mask = (each & named[..., None, None]).any(1)
    squashed = clip.model.visual.preprocess_cfg.get("resize_mode") == "squash"
    if mask.shape[1] != mask.shape[2] and mask.shape[1:] != clip.image_size and not squashed:
        raise ValueError(
            f"the scenes are {mask.shape[1]} x {mask.shape[2]} pixels and {clip.name} crops what isn't square, so masks and"
            " maps would not lie on one another: give square scenes"
        )
    described = tower(clip, "image")
    seen = tuple(pixels / size for pixels, size in zip(described.pixels, clip.image_size, strict=True))
    covered = localisation.coverage(mask, heat.shape[2:], seen)[:, None]
    for name, (metric, meaning) in IMAGE_METRICS.items():
        if name in wanted:
            out[name] = _metric(metric(heat.values, covered), meaning, HIGHER)
    if "smallest_share" in wanted:
        shares = localisation.smallest_share(heat.values, localisation.coverage(each, heat.shape[2:], seen), named)
        out["smallest_share"] = _metric(shares, "heat on the least heated named object, of its fair share", HIGHER)


def _evaluate_words(heat: xr.DataArray, clip: Clip, scenes: xr.Dataset, choices: dict, wanted: set) -> xr.Dataset:
    out = xr.Dataset(coords={"sample": heat.sample.values, "explainer": heat.explainer.values})
    text = heat.token_text.values if "token_text" in heat.coords else scenes.token_text.values
    if (text == "").all():
        raise ValueError("the word heat carries no words (token_text is empty), so content words can't be told apart")
    if "content_share" in wanted:
        share = words.content_share(heat.values, text[:, : heat.sizes["token"]])
        out["content_share"] = _metric(share, "share of word heat on content words", HIGHER)
    if wanted == {"content_share"}:
        return out
    inputs = clip, heat.values, clip.pixels(scenes.image), clip.tokens(scenes.caption)
    if wanted & {f"word_{name}" for name in CURVES}:
        _add_curves(out, faithfulness.word_deletion_insertion(*inputs, **choices), "word_")
    if wanted & {f"word_{name}" for name in CONFIDENCE}:
        kept = {"fill": choices["fill"], "batch_size": choices["batch_size"]}
        _add_confidence(out, confidence.text_confidence(*inputs, **kept), "word_")
    return out


def _add_curves(out: xr.Dataset, curves: tuple[np.ndarray, np.ndarray, np.ndarray], of: str = "") -> None:
    """With ``of="word_"`` under names of their own, so that measures of images and of texts fit into one store."""
    fraction, *both = curves
    out[f"{of}fraction"] = (f"{of}step", fraction)
    for name, curve, better in zip(("deletion", "insertion"), both, (LOWER, HIGHER), strict=True):
        out[f"{of}{name}_curve"] = (("sample", "explainer", f"{of}step"), curve)
        area = area_under_curve(fraction, curve)
        out[f"{of}{name}_auc"] = _metric(area, f"area under the {name} curve", better)


def _add_confidence(out: xr.Dataset, confidences: tuple[np.ndarray, np.ndarray], of: str = "") -> None:
    drop, increase = confidences
    out[f"{of}confidence_drop"] = _metric(drop, "cosine lost when only the hot part is left, times 100", LOWER)
    out[f"{of}confidence_increase"] = _metric(increase, "whether the cosine rises then", HIGHER, "percent")


def _metric(values: np.ndarray, meaning: str, direction: str, units: str = "1") -> tuple:
    return (
        ("sample", "explainer"),
        values.astype(float),
        {"long_name": meaning, "units": units, "score_direction": direction},
    )
