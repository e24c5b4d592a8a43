"""Retrieval: recall@1 of the model itself on planted scenes, and while what an explanation calls important goes or comes."""

import numpy as np
import torch
import xarray as xr
from scipy.sparse import csr_array
from torch import Tensor
from tqdm import tqdm

from ..clip.model import Clip
from ..clip.perturbation import encoded
from ..files.schema import HIGHER, LOWER
from ..files.store import annotate
from ..measures.maps import checked
from ..samples.captions import article
from ..samples.worlds.shapes import COLOURS
from .faithfulness import MEASURES

QUERIES = 256  # ranked at once: memory is that times the gallery
TIE = 1e-6  # cosines nearer than this are equal: prompts of which no word is left are alike but for rounding


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


def found_first(texts: Tensor, images: Tensor, caption: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each text finds its image first, (n,), and each image its text, (m,): 1, 0, or a share among ties.

    texts (n, width) and images (m, width), unit embeddings; caption (n,), the texts in words, and image (n,), the place
    of each text's own image among the m. A text is true of every image that has a caption of the same words, so texts
    alike count as each other's. Among ties the share of right ones counts.
    """
    kinds, kind = np.unique(np.asarray(caption).astype(str), return_inverse=True)
    ones = np.ones(len(kind), np.int32)
    true_of = csr_array((ones, (kind.ravel(), image)), shape=(len(kinds), len(images)))[kind.ravel()]
    return _hits(texts, images, true_of), _hits(images, texts, csr_array(true_of.T))


def _hits(queries: Tensor, gallery: Tensor, right: csr_array) -> np.ndarray:
    shares = []
    for start in range(0, len(queries), QUERIES):
        part = slice(start, start + QUERIES)
        cosine = queries[part] @ gallery.T
        nearest = cosine >= cosine.amax(1, keepdim=True) - TIE
        found = nearest & torch.from_numpy(right[part].toarray() > 0).to(nearest.device)
        shares.append((found.sum(1) / nearest.sum(1)).double().cpu())
    return torch.cat(shares).numpy()


def recall_at_1(clip: Clip, scenes: xr.Dataset, batch_size: int = 128) -> dict[str, float]:
    """Share of images that rank their own caption first among all captions ("image_to_text"), and of captions that
    rank their own image first ("text_to_image"), as ``found_first`` counts."""
    texts, images = embed_texts(clip, scenes.caption), embed_images(clip, scenes.image, batch_size)
    to_image, to_text = found_first(texts, images, scenes.caption.values, np.arange(len(images)))
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

    Examples
    --------
    >>> import xaikit as xk
    >>> clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)
    >>> words = xk.explain("grad_eclip", clip, scenes.image, scenes.caption, of="text")
    >>> retrieval_faithfulness(clip, words, scenes, steps=2).ir_deletion_curve.shape
    (1, 3)
    """
    heat = checked(heat, scenes)
    of = "text" if "token" in heat.dims else "image"
    values, fill = heat.values, fill or ("removed" if of == "text" else "mean")
    pixels, tokens = clip.pixels(scenes.image), clip.tokens(scenes.caption).to(clip.device)
    encode, inputs = (clip.encode_image, pixels) if of == "text" else (clip.encode_text, tokens)
    other = encoded(encode, inputs, batch_size).cpu()
    caption, own = scenes.caption.values, np.arange(len(tokens))
    curves = np.empty((values.shape[1], 2, steps + 1, 2))
    for explainer in tqdm(range(values.shape[1]), disable=not progress, desc="retrieval"):
        one = values[:, explainer : explainer + 1]
        changed = perturbed_embeddings(clip, one, pixels, tokens, of, steps, fill, batch_size, seed)[:, 0]
        for way, step in np.ndindex(2, steps + 1):
            both = (changed[:, way, step], other) if of == "text" else (other, changed[:, way, step])
            curves[explainer, way, step] = [hits.mean() for hits in found_first(*both, caption, own)]
    shares = np.linspace(0, 1, steps + 1)
    out = xr.Dataset({"fraction": ("step", shares)}, {"explainer": heat.explainer.values})
    for column, name in enumerate(("ir", "tr")):
        meaning = f"recall@1 of {'image' if name == 'ir' else 'text'} retrieval"
        for row, (way, better) in enumerate((("deletion", LOWER), ("insertion", HIGHER))):
            curve = curves[:, row, :, column]
            about = {"long_name": f"{meaning}, {way}", "units": "1", "score_direction": better}
            out[f"{name}_{way}_curve"] = (("explainer", "step"), curve, about)
            out[f"{name}_{way}_auc"] = ("explainer", np.trapezoid(curve, shares), about)
    parameters = {"steps": steps, "fill": fill, "seed": seed, "of": of}
    return annotate(out, "evaluation", clip, parameters=parameters)


@torch.no_grad()
def perturbed_embeddings(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    of: str,
    steps: int,
    fill: str,
    batch_size: int = 256,
    seed: int = 0,
) -> Tensor:
    """Unit embeddings (n, explainers, 2, steps + 1, width), on the CPU, as the hottest words or patches go, and come.

    heat (n, explainers, tokens) for ``of="text"``, (n, explainers, rows, cols) for "image"; the rest as in
    ``retrieval_faithfulness``. Both ends, the whole input and the bare fill, are encoded once for all explainers.
    """

    def itself(embedding: Tensor, sample: Tensor) -> Tensor:
        return embedding

    _, *both = MEASURES[of](clip, heat, pixels, tokens, steps, fill, batch_size, seed, score=itself)
    return torch.from_numpy(np.stack(both, 2))


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
