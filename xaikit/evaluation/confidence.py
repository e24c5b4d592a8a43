"""What is left of the model's confidence: how a perturbed input is scored, and drop and increase with the hot part alone.

A score is the cosine, or how it stands among candidates. Source of drop and increase: Wang et al., Visual Explanations of
Image-Text Representations via Multi-Modal Information Bottleneck Attribution (M2IB), 2023, and its released evaluation;
table 1 of MMEL has the same columns. Both are differences of cosines times 100, not divided by the whole input's, and the
tables show their means over samples.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import (
    Score,
    check_fill,
    cosine_with,
    encoded,
    scores_in_batches,
    scores_of_images,
    scores_of_texts,
)
from ..clip.score import content_of
from ..clip.towers import tower
from ..files.checks import check_choices
from ..measures.maps import check_values

TIE = (
    1e-6  # cosines nearer than this are equal: prompts that are alike, or of which no word is left, differ by rounding
)
SCORES = ("similarity", "probability", "top1", "top5")
LABELS = ("truth", "prediction")


@torch.no_grad()
def scorer(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    of: str,
    score: str | Sequence[str] | Score = "similarity",
    label: str | np.ndarray = "truth",
    candidates=None,
    batch_size: int | None = None,
) -> Score:
    """The score of embeddings of perturbed images (``of="image"``) or texts, among candidates of the other kind.

    score: "similarity", the cosine with the label; "probability", the softmax over all candidates of logit_scale *
    cosine, at the label; "top1" and "top5", 1 where fewer than 1 or 5 candidates are nearer than the label by more than ``TIE``, else 0.
    Several names give several scores of the one embedding, along a last axis. A function of embeddings and samples is
    taken as it is.
    label: "truth", the sample's own text (image); "prediction", the candidate nearest to the whole input; or the index
    (n,) of a candidate for each sample. candidates: for images prompts or token ids (k, context), for texts pixels
    (k, 3, H, W), for both also embeddings (k, width); None for the samples' own different texts, or their images.

    Raises ValueError for an unknown score or label, a true text that isn't among the candidates, and "top5" among
    fewer than 6.
    """
    if callable(score):
        return score
    names = [score] if isinstance(score, str) else list(score)
    if not names:
        raise ValueError(f"score={score!r}: at least one of {', '.join(SCORES)} is needed")
    for name in names:
        check_choices(score=(name, SCORES))
    if isinstance(label, str):
        check_choices(label=(label, LABELS))
    known, own = _candidates(clip, pixels, tokens, of, candidates, batch_size)
    for name in names:
        few = {"top5": 6, "top1": 2, "probability": 2}.get(name, 1)
        if len(known) < few:
            raise ValueError(f"score={name!r}: at least {few} candidates are needed, there are {len(known)}")
    if not isinstance(label, str):
        target = torch.as_tensor(np.asarray(label))
        whole = not target.is_floating_point() and target.shape == (len(tokens),)
        if not whole or target.min() < 0 or target.max() >= len(known):
            raise ValueError(
                f"label of shape {tuple(target.shape)}: for each of the {len(tokens)} samples the index of one of the"
                f" {len(known)} candidates is needed"
            )
    elif label == "prediction":
        encode, inputs = (clip.encode_image, pixels) if of == "image" else (clip.embed_text, tokens.to(clip.device))
        target = nearest(encoded(encode, inputs, batch_size) @ known.T)
    elif (own < 0).any():
        kind = "text" if of == "image" else "image"
        raise ValueError(
            f"label='truth': the {kind} of sample {int((own < 0).nonzero()[0])} isn't among the candidates"
        )
    else:
        target = own
    scores = [_score(clip, name, known, target.long().to(known.device)) for name in names]
    return scores[0] if isinstance(score, str) else lambda *given: torch.stack([one(*given) for one in scores], -1)


def nearest(cosine: Tensor) -> Tensor:
    """The nearest (n,) of k candidates by their cosines (n, k), of several alike the first."""
    return (cosine >= cosine.amax(-1, keepdim=True) - TIE).int().argmax(-1)


def _score(clip: Clip, score: str, known: Tensor, target: Tensor) -> Score:
    """One score at the candidates ``target`` (n,) among ``known`` (k, width)."""
    if score == "similarity":
        return cosine_with(known[target])

    def among(embedding: Tensor, sample: Tensor) -> Tensor:
        cosine, place = embedding @ known.T, target[sample, None]
        if score == "probability":
            return (clip.model.logit_scale.exp().float() * cosine).softmax(-1).gather(1, place).squeeze(1)
        nearer = (cosine > cosine.gather(1, place) + TIE).sum(-1)
        return (nearer < int(score[3:])).float()

    return among


def _candidates(clip: Clip, pixels: Tensor, tokens: Tensor, of: str, candidates, batch_size) -> tuple[Tensor, Tensor]:
    """Embeddings of the candidates, and which of them (n,) is each sample's own, -1 for none."""
    n = len(tokens)
    none = torch.full((n,), -1)
    if isinstance(candidates, Tensor) and candidates.ndim == 2 and candidates.is_floating_point():
        return F.normalize(candidates.to(clip.device).float(), dim=-1), none
    if of == "text":
        images = pixels if candidates is None else clip.pixels(candidates)
        return encoded(clip.encode_image, images, batch_size), torch.arange(n) if candidates is None else none
    tokens = tokens.cpu()
    listed = tokens[:0] if candidates is None else clip.tokens(candidates)
    different, kind = torch.unique(torch.cat([listed, tokens]), dim=0, return_inverse=True)
    if candidates is None:
        return encoded(clip.embed_text, different.to(clip.device), batch_size), kind
    place = torch.full((len(different),), -1)
    place[kind[: len(listed)]] = torch.arange(len(listed))
    return encoded(clip.embed_text, listed.to(clip.device), batch_size), place[kind[len(listed) :]]


def word_counts(clip: Clip, tokens: Tensor, heat: np.ndarray) -> np.ndarray:
    """How many own tokens each prompt has, (n,). Raises ValueError for heat (n, explainers, tokens) with room for fewer."""
    lengths = clip.content(tokens).sum(1).cpu().numpy()
    if heat.shape[2] < lengths.max():
        raise ValueError(f"the word heat has {heat.shape[2]} tokens but the longest prompt has {lengths.max()}")
    return lengths


@torch.no_grad()
def confidence_change(
    clip: Clip,
    heat: np.ndarray,
    pixels: Tensor,
    tokens: Tensor,
    of: str = "image",
    released: bool = False,
    fill: str = "removed",
    batch_size: int = 256,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence drop 100 * max(0, s - s') and increase (100 where s' > s, else 0), (n, explainers) each.

    s is the cosine of the whole input, s' that of its hot part alone. Image: the normalised pixels times the map, which is
    drawn as large as the image by bilinear interpolation and stretched to reach from 0 to 1; a flat map is 0 everywhere.
    Text: only the words hotter than the median of the prompt's words are left; ``fill``, "removed" or "padding", is what
    becomes of the others. heat, pixels, tokens: as in ``deletion_insertion``.

    released: as shipped. Image: only the first row of the map is used, for every row of the image. Text: start and end are
    cut off from both prompts, so that the embedding is read at the largest id left, and id 0 stands in for the others.
    Raises ValueError for an unknown fill of texts, or heat for fewer tokens than the longest prompt has.
    """
    check_values(heat, len(tokens), of)
    pixels, tokens = pixels.to(clip.device, clip.dtype), tokens.to(clip.device)
    encode, inputs = (clip.encode_image, pixels) if of == "image" else (clip.embed_text, tokens)
    if of == "text":
        check_fill(fill, of)
        kept = torch.from_numpy(_hot_words(clip, heat, tokens)).to(clip.device)
    score_of = scorer(clip, pixels, tokens, of, batch_size=batch_size)
    bar = f"confidence of the {of}" if progress else ""
    if of == "image":
        keep = _stretched(clip, heat, pixels.shape[2:], first_row=released)
        left = scores_of_images(clip, pixels, tokens, keep, None, heat.shape[1], batch_size, bar, score_of)
    elif released:
        bare = content_of(clip, tokens, tokens, "text", fill=0)
        room = (0, tokens.shape[1] - bare.shape[1])
        inputs = F.pad(bare, room)

        def encode_kept(sample: Tensor, keep: Tensor) -> Tensor:
            return clip.embed_text(F.pad(bare[sample] * keep[:, : bare.shape[1]], room))

        left = scores_in_batches(encode_kept, score_of, tokens, kept, None, batch_size, bar)
    else:
        left = scores_of_texts(clip, pixels, tokens, kept, fill, None, batch_size, bar, score_of)
    whole = score_of(encoded(encode, inputs, batch_size), torch.arange(len(tokens), device=clip.device)).cpu()
    whole, left = whole.double().numpy()[:, None], left.double().numpy()
    return 100 * np.maximum(0, whole - left), 100.0 * (left > whole)


def _hot_words(clip: Clip, heat: np.ndarray, tokens: Tensor) -> np.ndarray:
    own = (np.arange(heat.shape[2]) < word_counts(clip, tokens, heat)[:, None])[:, None]
    return own & (heat > np.nanmedian(np.where(own, heat, np.nan), axis=-1, keepdims=True))


def _stretched(clip: Clip, heat: np.ndarray, size: torch.Size, first_row: bool):
    """What ``scores_of_images`` keeps of the pixels: the maps drawn large, from 0 to 1."""
    maps = torch.from_numpy(np.ascontiguousarray(heat, np.float32)).to(clip.device)
    covered = tower(clip, "image").pixels
    margin = (0, size[1] - covered[1], 0, size[0] - covered[0])

    def keep(sample: Tensor, version: Tensor) -> Tensor:
        large = F.interpolate(maps[sample, version][:, None], covered, mode="bilinear")[:, 0]
        low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
        weight = (large - low) / torch.where(high > low, high - low, 1)
        return F.pad(weight[:, :1].expand_as(weight) if first_row else weight, margin)

    return keep
