"""``evaluate``: every metric that applies, for one or many explainers."""

import numpy as np
import xarray as xr

from .clip import Clip
from .metrics import faithfulness, localisation, words
from .store import annotate
from .towers import tower

IMAGE_METRICS = {
    "pointing_game": (localisation.pointing_game, "hottest patch lies on a named object"),
    "energy": (localisation.energy, "share of heat inside the named objects"),
    "iou_best": (localisation.iou_best, "IoU with the named objects at the best threshold"),
    "iou_otsu": (localisation.iou_otsu, "IoU with the named objects at Otsu's threshold"),
}
HIGHER, LOWER = "higher is better", "lower is better"


def evaluate(
    heat: xr.DataArray,
    clip: Clip,
    scenes: xr.Dataset,
    steps: int = 16,
    fill: str = "mean",
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Measure explanations against the scenes' planted truth and against the model.

    Parameters
    ----------
    heat : maps of the image (sample, [explainer,] row, col), or of the text (sample, [explainer,] token), as
        ``explain`` gives them, of the same samples as ``scenes``.
    steps, fill, batch_size, seed : of deletion and insertion, see ``deletion_insertion``.

    Returns
    -------
    Dataset of the ``evaluation`` schema: one variable a metric (sample, explainer) with its
    ``score_direction``; for maps of the image also the deletion and insertion curves.

    Raises ValueError for maps of other samples, of another shape, or with NaN.
    """
    if "explainer" not in heat.dims:
        heat = heat.expand_dims({"explainer": [heat.attrs.get("explainer", "heat")]}, 1)
    if len(heat.sample) != scenes.sizes["sample"] or not np.array_equal(heat.sample, scenes.sample):
        raise ValueError(
            f"the maps are of {heat.sizes['sample']} samples but the scenes of {scenes.sizes['sample']}, or of others"
        )
    if not np.isfinite(heat.values).all():
        bad = heat.sample.values[~np.isfinite(heat.values).reshape(len(heat.sample), -1).all(1)][0]
        raise ValueError(f"the map of sample {bad} holds NaN or infinite values: all must be finite")
    settings = {"steps": steps, "fill": fill, "seed": seed}
    if "token" in heat.dims:
        return _evaluate_words(heat.transpose("sample", "explainer", "token"), scenes)
    heat = heat.transpose("sample", "explainer", "row", "col")
    described = tower(clip, "image")
    if heat.shape[2:] != described.grid:
        raise ValueError(
            f"the maps have {heat.shape[2:]} rows and columns, but {clip.name} has {described.grid} patches"
        )
    mask = (scenes.object_mask & scenes.object_named).any("object").transpose("sample", "y", "x").values
    if mask.shape[1] != mask.shape[2] and clip.model.visual.preprocess_cfg.get("resize_mode") != "squash":
        raise ValueError(
            f"the scenes are {mask.shape[1]} x {mask.shape[2]} pixels and {clip.name} crops what isn't square, so masks and"
            " maps would not lie on one another: give square scenes"
        )
    seen = tuple(pixels / size for pixels, size in zip(described.pixels, clip.image_size, strict=True))
    covered = localisation.coverage(mask, heat.shape[2:], seen)[:, None]
    out = xr.Dataset(coords={"sample": heat.sample.values, "explainer": heat.explainer.values})
    for name, (metric, meaning) in IMAGE_METRICS.items():
        out[name] = _metric(metric(heat.values, covered), meaning, HIGHER)
    pixels, tokens = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    fraction, deleted, inserted = faithfulness.deletion_insertion(
        clip, heat.values, pixels, tokens, steps, fill, batch_size, seed, progress
    )
    out["fraction"] = ("step", fraction)
    out["deletion_curve"] = (("sample", "explainer", "step"), deleted)
    out["insertion_curve"] = (("sample", "explainer", "step"), inserted)
    auc = faithfulness.area_under_curve
    out["deletion_auc"] = _metric(auc(fraction, deleted), "area under the deletion curve", LOWER)
    out["insertion_auc"] = _metric(auc(fraction, inserted), "area under the insertion curve", HIGHER)
    return annotate(out, "evaluation", model=clip.name, weights_digest=clip.weights_digest, parameters=settings)


def _evaluate_words(heat: xr.DataArray, scenes: xr.Dataset) -> xr.Dataset:
    out = xr.Dataset(coords={"sample": heat.sample.values, "explainer": heat.explainer.values})
    text = heat.token_text.values if "token_text" in heat.coords else scenes.token_text.values
    if (text == "").all():
        raise ValueError("the word heat carries no words (token_text is empty), so content words can't be told apart")
    share = words.content_share(heat.values, text[:, : heat.sizes["token"]])
    out["content_share"] = _metric(share, "share of word heat on content words", HIGHER)
    return annotate(out, "evaluation")


def _metric(values: np.ndarray, meaning: str, direction: str) -> tuple:
    return (
        ("sample", "explainer"),
        values.astype(float),
        {"long_name": meaning, "units": "1", "score_direction": direction},
    )
