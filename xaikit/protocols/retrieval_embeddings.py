"""Table 3: embeddings of captions, or images, as their hottest words or patches go and come, to be ranked all together."""

from pathlib import Path

import numpy as np
import xarray as xr

from ..checks import check_choices, check_whole
from ..clip import Clip
from ..datasets.source import Source
from ..explainers.registry import SIDES
from ..metrics.faithfulness import check_steps
from ..metrics.retrieval import perturbed_embeddings
from ..perturbing import check_fill, encoded
from ..towers import tower
from .chosen import Methods, chosen_methods, maps_of
from .running import check_run, run

WAYS = ("deletion", "insertion")


def retrieval(
    clip: Clip,
    source: Source,
    methods: Methods,
    folder: str | Path,
    side: str = "text",
    steps: int = 8,
    fill: str | None = None,
    shard: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """What retrieval under deletion and insertion needs, as in table 3 of Grad-ECLIP and of MMEL, in parts under ``folder``.

    Parts hold embeddings, since what is nearest is known only among all samples; ``measured`` ranks them.

    Parameters
    ----------
    source : images with captions, with ``image_id`` where several show the same image, such as COCO.
    methods : names, or a dict from labels to options; see ``Methods``.
    side : "text" perturbs the captions, as the papers do; "image" the images, each by the map of its first caption, the
        only one that then counts.
    steps : equal steps of the share of words, or patches. fill : what becomes of them, None for "removed" words and the
        "mean" colour.
    shard, batch_size : see ``confidence``. seed : of methods that take one, of ties, and of the fill "random".

    Returns ``version`` (sample, explainer, way, step, width), the perturbed side from whole to bare and back, and
    ``other`` (sample, width), the intact one, with ``caption`` and ``image_id``, read where they are looked at. Raises
    ValueError, before any work, for impossible choices.
    """
    check_run(clip, source, batch_size, seed)
    check_choices(side=(side, SIDES))
    fill = check_fill(fill or {"text": "removed", "image": "mean"}[side], side)
    check_whole(1, steps=steps)
    if side == "image":
        check_steps(steps, int(np.prod(tower(clip, "image").grid)))
    chosen = chosen_methods(clip, methods, side, seed)

    def measure(good: xr.Dataset) -> xr.Dataset:
        if side == "image" and "image_id" in good:
            good = good.isel(sample=np.sort(np.unique(good.image_id.values, return_index=True)[1]))
        pixels, tokens = clip.pixels(good.image), clip.tokens(good.caption).to(clip.device)
        heat, finite = maps_of(chosen, clip, pixels, tokens, side, batch_size)
        version = perturbed_embeddings(clip, heat, pixels, tokens, side, steps, fill, batch_size, seed)
        encode, inputs = (clip.encode_image, pixels) if side == "text" else (clip.encode_text, tokens)
        known = {name: ("sample", good[name].values) for name in ("caption", "image_id") if name in good}
        return xr.Dataset(
            {
                **known,
                "finite": (("sample", "explainer"), finite.astype(float)),
                "version": (("sample", "explainer", "way", "step", "width"), version.numpy()),
                "other": (("sample", "width"), encoded(encode, inputs, batch_size).cpu().numpy()),
            },
            {
                "sample": good.sample.values,
                "explainer": [one.label for one in chosen],
                "way": list(WAYS),
                "step": np.linspace(0, 1, steps + 1),
            },
        )

    options = {"side": side, "steps": steps, "fill": fill, "seed": seed}
    return run("retrieval", clip, source, chosen, folder, measure, options, batch_size, shard, progress, "embeddings")
