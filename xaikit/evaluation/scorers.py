"""What a perturbed image or text is scored by: the cosine, or how it stands among candidates."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..clip.perturbation import Score, cosine_with, encoded
from ..files.checks import check_choices

SCORES = ("similarity", "probability", "top1", "top5")
LABELS = ("truth", "prediction")


@torch.no_grad()
def scorer(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    of: str,
    score: str | Sequence[str] = "similarity",
    label: str | np.ndarray = "truth",
    candidates=None,
    batch_size: int | None = None,
) -> Score:
    """The score of embeddings of perturbed images (``of="image"``) or texts, among candidates of the other kind.

    score: "similarity", the cosine with the label; "probability", the softmax over all candidates of logit_scale *
    cosine, at the label; "top1" and "top5", 1 where fewer than 1 or 5 candidates are nearer than the label, else 0.
    Several names give several scores of the one embedding, along a last axis.
    label: "truth", the sample's own text (image); "prediction", the candidate nearest to the whole input; or the index
    (n,) of a candidate for each sample. candidates: for images prompts or token ids (k, context), for texts pixels
    (k, 3, H, W), for both also embeddings (k, width); None for the samples' own different texts, or their images.

    Raises ValueError for an unknown score or label, a true text that isn't among the candidates, and "top5" among
    fewer than 6.
    """
    names = [score] if isinstance(score, str) else list(score)
    if not names:
        raise ValueError(f"score={score!r}: at least one of {', '.join(SCORES)} is needed")
    for name in names:
        check_choices(score=(name, SCORES))
    if isinstance(label, str):
        check_choices(label=(label, LABELS))
    if not isinstance(label, str):
        label = torch.as_tensor(np.asarray(label))
    known, own = _candidates(clip, pixels, tokens, of, candidates, batch_size)
    for name in names:
        few = {"top5": 6, "top1": 2, "probability": 2}.get(name, 1)
        if len(known) < few:
            raise ValueError(f"score={name!r}: at least {few} candidates are needed, there are {len(known)}")
    if isinstance(label, Tensor):
        target = _checked_labels(label, len(tokens), len(known))
    elif label == "prediction":
        encode, inputs = (clip.encode_image, pixels) if of == "image" else (clip.encode_text, tokens.to(clip.device))
        target = (encoded(encode, inputs, batch_size) @ known.T).argmax(-1)
    elif (own < 0).any():
        kind = "text" if of == "image" else "image"
        raise ValueError(
            f"label='truth': the {kind} of sample {int((own < 0).nonzero()[0])} isn't among the candidates"
        )
    else:
        target = own
    worth = [_worth(clip, name, known, target.to(known.device)) for name in names]
    return worth[0] if isinstance(score, str) else lambda *given: torch.stack([one(*given) for one in worth], -1)


def _worth(clip: Clip, score: str, known: Tensor, target: Tensor) -> Score:
    """One score at the candidates ``target`` (n,) among ``known`` (k, width)."""
    if score == "similarity":
        return cosine_with(known[target])

    def among(embedding: Tensor, sample: Tensor) -> Tensor:
        cosine, place = embedding @ known.T, target[sample, None]
        if score == "probability":
            return (clip.model.logit_scale.exp().float() * cosine).softmax(-1).gather(1, place).squeeze(1)
        nearer = (cosine > cosine.gather(1, place)).sum(-1)
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
        return encoded(clip.encode_text, different.to(clip.device), batch_size), kind
    place = torch.full((len(different),), -1)
    place[kind[: len(listed)]] = torch.arange(len(listed))
    return encoded(clip.encode_text, listed.to(clip.device), batch_size), place[kind[len(listed) :]]


def _checked_labels(label: Tensor, n: int, candidates: int) -> Tensor:
    if label.shape != (n,) or label.is_floating_point() or label.min() < 0 or label.max() >= candidates:
        raise ValueError(
            f"label of shape {tuple(label.shape)}: for each of the {n} samples the index of one of the {candidates}"
            " candidates is needed"
        )
    return label.long()
