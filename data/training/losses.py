"""The contrastive loss."""

import math

import torch


def contrastive_loss(similarity: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """InfoNCE with joint positives, both ways; undecided pairs (-1) take no part.

    similarity (captions, images), scaled; true likewise. The image-to-caption direction sees every caption,
    swapped ones too; the other direction only captions that are true of some image here.
    """
    logits = similarity.masked_fill(true < 0, -math.inf)
    positive = logits.masked_fill(true != 1, -math.inf)
    some = (true == 1).any(1)
    to_image = (torch.logsumexp(logits[some], 1) - torch.logsumexp(positive[some], 1)).mean()
    to_text = (torch.logsumexp(logits, 0) - torch.logsumexp(positive, 0)).mean()
    return (to_image + to_text) / 2
