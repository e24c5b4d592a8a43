"""What the model itself can do on planted scenes, before anything is explained."""

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ..clip import Clip
from ..scenes import COLOURS


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
    words[0] = "an" if words[1][0] in "aeio" else "a"
    return " ".join(words)
