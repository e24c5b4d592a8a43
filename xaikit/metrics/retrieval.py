"""What the model itself can do on planted scenes, before anything is explained."""

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from ..clip import Clip
from ..perturbing import check_fill, encoded, filled, scores_of_images, scores_of_texts
from ..scenes import COLOURS
from ..scenes.captions import article
from ..store import annotate
from .faithfulness import area_under_curve, deletion_and_insertion, ranks, word_counts, word_ranks
from .maps import checked


@torch.no_grad()
def embed_images(clip: Clip, images, batch_size: int = 128) -> Tensor:
    """Unit embeddings (n, width) of images in any form that ``Clip.pixels`` takes, batch by batch, on the CPU."""
    parts = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    return torch.cat([clip.encode_image(clip.pixels(part)).float().cpu() for part in parts])


@torch.no_grad()
def embed_texts(clip: Clip, texts, batch_size: int = 512) -> Tensor:
    """Unit embeddings (n, width) of prompts, each different prompt encoded once, on the CPU."""
    different, place = np.unique(np.asarray(texts).astype(str), return_inverse=True)
    parts = clip.tokens(list(different)).split(batch_size)
    return torch.cat([clip.encode_text(part.to(clip.device)).float().cpu() for part in parts])[place.ravel()]


def recall_at_1(clip: Clip, scenes: xr.Dataset, batch_size: int = 128) -> dict[str, float]:
    """Share of images that rank their own caption first among all captions ("image_to_text"), and of
    captions that rank their own image first ("text_to_image"). A caption that stands several times is one."""
    caption = scenes.caption.values
    similarity = (embed_images(clip, scenes.image, batch_size) @ embed_texts(clip, caption).T).numpy()
    same = caption[:, None] == caption
    to_text = same[np.arange(len(caption)), similarity.argmax(1)]
    to_image = same[np.arange(len(caption)), similarity.argmax(0)]
    return {"image_to_text": float(to_text.mean()), "text_to_image": float(to_image.mean())}


@torch.no_grad()
def retrieval_faithfulness(
    clip: Clip,
    heat: xr.DataArray,
    scenes: xr.Dataset,
    steps: int = 8,
    fill: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Recall@1 of retrieval among the scenes while the hottest words, or patches, go or come.

    At each share of words (of patches, for maps of the image) all n texts (images) are perturbed alike, each in the
    order of its own heat, and searched among or with the n intact images (texts). Image retrieval (IR): a text finds its
    image when no other image is nearer. Text retrieval (TR): an image finds its text. Scenes with the same caption
    count as each other's; among ties (within 1e-6; all prompts are alike once all words are gone) the share of
    right ones counts.

    heat : (sample, [explainer,] token) or (sample, [explainer,] row, col), as ``explain`` gives. steps : equal steps of
    the share. fill : see ``word_deletion_insertion`` (None for "removed") or ``deletion_insertion`` (None for "mean").

    Returns a dataset of the ``evaluation`` schema with, for each of deletion and insertion and for "ir" and "tr",
    ``ir_deletion_curve`` (explainer, step) and ``ir_deletion_auc`` (explainer), its area by the trapezoid rule.
    Raises ValueError for an unknown fill, impossible steps or maps of another number of samples. Memory is bounded by
    the embeddings of the versions of one explainer.
    Source: table 3 of Grad-ECLIP and of MMEL, there on the 5000 image test split of COCO with all captions.
    """
    heat = checked(heat, scenes)
    of = "text" if "token" in heat.dims else "image"
    values = heat.values
    units = int(np.prod(values.shape[2:]))
    if not isinstance(steps, int) or steps < 1 or (of == "image" and steps > units):
        raise ValueError(f"steps={steps!r}: a whole number of at least 1, and for images up to the patches, is needed")
    pixels, tokens = clip.pixels(scenes.image), clip.tokens(scenes.caption).to(clip.device)
    shares = np.linspace(0, 1, steps + 1)
    if of == "text":
        fill = check_fill(fill or "removed", of)
        lengths = word_counts(clip, tokens, values)
        place, other = word_ranks(values, lengths, seed), encoded(clip.encode_image, pixels, batch_size)
    else:
        fill = fill or "mean"
        substitute, lengths = filled(clip, pixels, fill, seed), np.array([units])
        place, other = ranks(values, seed), encoded(clip.encode_text, tokens, batch_size)
    place, other = torch.from_numpy(place).to(clip.device), other.cpu()
    counts = torch.from_numpy((shares * lengths[:, None]).round().astype(int)).to(clip.device)
    kind = torch.from_numpy(np.unique(scenes.caption.values.astype(str), return_inverse=True)[1].ravel())
    recalls = np.empty((values.shape[1], 2 * (steps + 1), 2))
    for explainer in tqdm(range(values.shape[1]), disable=not progress, desc="retrieval"):
        keep, versions = deletion_and_insertion(place[:, explainer : explainer + 1], counts)
        size = {"versions": versions, "batch_size": batch_size, "score": lambda embedding, sample: embedding}
        if of == "text":
            changed = scores_of_texts(clip, pixels, tokens, keep, fill, **size)
        else:
            grid = values.shape[2:]
            changed = scores_of_images(clip, pixels, tokens, _on_grid(keep, grid), substitute, **size)
        for version in range(versions):
            cosine = changed[:, version] @ other.T
            forward, backward = _recall(cosine, kind), _recall(cosine.T, kind)
            recalls[explainer, version] = (forward, backward) if of == "text" else (backward, forward)
    curves = recalls.reshape(-1, 2, steps + 1, 2)
    out = xr.Dataset({"fraction": ("step", shares)}, {"explainer": heat.explainer.values})
    for column, name in enumerate(("ir", "tr")):
        meaning = f"recall@1 of {'image' if name == 'ir' else 'text'} retrieval"
        for row, (way, better) in enumerate((("deletion", "lower"), ("insertion", "higher"))):
            curve = curves[:, row, :, column]
            about = {"long_name": f"{meaning}, {way}", "units": "1", "score_direction": f"{better} is better"}
            out[f"{name}_{way}_curve"] = (("explainer", "step"), curve, about)
            out[f"{name}_{way}_auc"] = ("explainer", area_under_curve(shares, curve), about)
    parameters = {"steps": steps, "fill": fill, "seed": seed, "of": of}
    return annotate(out, "evaluation", model=clip.name, weights_digest=clip.weights_digest, parameters=parameters)


def _on_grid(keep, grid: tuple[int, int]):
    return lambda sample, version: keep(sample, version).unflatten(1, grid)


def _recall(cosine: Tensor, kind: Tensor) -> float:
    """Share of rows whose nearest column is of the same kind."""
    nearest = cosine >= cosine.amax(1, keepdim=True) - 1e-6
    right = nearest & (kind[:, None] == kind)
    return float((right.sum(1) / nearest.sum(1)).double().mean())


def foil_accuracy(clip: Clip, pairs: xr.Dataset, batch_size: int = 128) -> float:
    """Share of images nearer to their caption than to their foil. Chance is 0.5."""
    images = embed_images(clip, pairs.image, batch_size)
    texts = embed_texts(clip, pairs.caption) - embed_texts(clip, pairs.foil)
    return float(((images * texts).sum(-1) > 0).double().mean())


def paired_similarity(clip: Clip, images, texts, batch_size: int = 128) -> np.ndarray:
    """Cosine (n,) of each image with its own text."""
    return (embed_images(clip, images, batch_size) * embed_texts(clip, texts)).sum(-1).numpy()


def colour_choice(clip: Clip, scenes: xr.Dataset, batch_size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """For scenes with a one-object caption: its colour (n,), and the colour (n,) of the eight whose caption is
    nearest to the image."""
    captions = [str(caption) for caption in scenes.caption.values]
    own = np.array([next(c for c in COLOURS if c in text.split()) for text in captions])
    texts = [[_recoloured(text, mine, c) for c in COLOURS] for text, mine in zip(captions, own, strict=True)]
    spoken = embed_texts(clip, np.ravel(texts)).view(len(captions), len(COLOURS), -1)
    scores = (spoken @ embed_images(clip, scenes.image, batch_size).unsqueeze(-1)).squeeze(-1)
    return own, np.array(COLOURS)[scores.argmax(1).numpy()]


def _recoloured(text: str, old: str, new: str) -> str:
    words = [new if word == old else word for word in text.split()]
    words[0] = article(words[1])
    return " ".join(words)
