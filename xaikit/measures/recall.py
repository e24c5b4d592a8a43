"""Recall@1 of retrieval among images with any number of captions each, a bounded number of queries at a time."""

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

QUERIES = 256  # ranked at once: memory is that times the gallery
TIE = 1e-6  # cosines nearer than this are equal: prompts of which no word is left are alike but for rounding


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
