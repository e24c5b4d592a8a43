"""SVO-Probes: whether a caption still chooses its image, and not one of which it is false, without what is hot."""

from pathlib import Path

import numpy as np
import xarray as xr

from ..clip import Clip
from ..datasets.source import Source
from ..perturbing import check_fill, encoded
from .chosen import Methods, chosen_methods, maps_of
from .hottest import check_share, cosines_left
from .retrieval_embeddings import WAYS
from .running import check_run, results, run

NEEDED = {"foil_image": "an image of which the caption is false"}


def foil_images(
    clip: Clip,
    source: Source,
    methods: Methods,
    folder: str | Path,
    share: float = 0.25,
    fill: str = "mean",
    shard: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Cosines of a caption with its image and with its foil image, in parts under ``folder``; ``measured`` compares them.

    They are taken of the whole images, and of both without the hottest share of their patches, or with only these, each
    by its own map of the caption.

    source : samples with ``foil_image``, such as SVO-Probes. The other parameters, and the results, are those of
    ``winoground``, with the foil image where that has the partner's caption. Source: Hendricks and Nematzadeh, Probing
    Image-Language Transformers for Verb Understanding, 2021; the masking is ours.
    """
    check_run(clip, source, batch_size, seed, NEEDED)
    check_share(share)
    check_fill(fill, "image")
    chosen = chosen_methods(clip, methods, "image", seed)

    def measure(good: xr.Dataset) -> xr.Dataset:
        tokens = clip.tokens(good.caption).to(clip.device)
        texts = encoded(clip.encode_text, tokens, batch_size)[:, None]
        before, after, usable = [], [], True
        for images in (good.image, good.foil_image):
            pixels = clip.pixels(images)
            before.append((encoded(clip.encode_image, pixels, batch_size) * texts[:, 0]).sum(-1).cpu().numpy())
            heat, finite = maps_of(chosen, clip, pixels, tokens, "image", batch_size)
            after.append(cosines_left(clip, heat, pixels, texts, share, fill, batch_size, seed)[..., 0])
            usable = finite & usable
        own, foil = np.where(usable[..., None], after, np.nan)
        return results(
            good, chosen, {"way": list(WAYS)}, finite=usable.astype(float), similarity=before[0], foil_similarity=before[1],
            similarity_left=own, foil_similarity_left=foil,
        )  # fmt: skip

    options = {"share": share, "fill": fill, "seed": seed}
    return run("foil images", clip, source, chosen, folder, measure, options, batch_size, shard, progress)
