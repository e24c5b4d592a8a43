"""What the model itself can do on planted scenes, before anything is explained."""

import numpy as np
import xarray as xr

from ..clip import Clip
from ..scenes import COLOURS


def recall_at_1(clip: Clip, scenes: xr.Dataset, batch_size: int = 128) -> dict[str, float]:
    """Share of images that rank their own caption first among all captions ("image_to_text"), and of
    captions that rank their own image first ("text_to_image"). A caption that stands several times is one."""
    similarity = clip.similarity(scenes.image, scenes.caption, batch_size).numpy()
    caption = scenes.caption.values
    same = caption[:, None] == caption
    to_text = same[np.arange(len(caption)), similarity.argmax(1)]
    to_image = same[np.arange(len(caption)), similarity.argmax(0)]
    return {"image_to_text": float(to_text.mean()), "text_to_image": float(to_image.mean())}


def foil_accuracy(clip: Clip, pairs: xr.Dataset, batch_size: int = 128) -> float:
    """Share of images nearer to their caption than to their foil. Chance is 0.5."""
    true = paired_similarity(clip, pairs.image, pairs.caption, batch_size)
    false = paired_similarity(clip, pairs.image, pairs.foil, batch_size)
    return float((true > false).mean())


def paired_similarity(clip: Clip, images, texts, batch_size: int = 128) -> np.ndarray:
    """Cosine (n,) of each image with its own text."""
    n = len(images)
    texts = list(np.asarray(texts))
    parts = [slice(i, i + batch_size) for i in range(0, n, batch_size)]
    return np.concatenate([clip.similarity(images[p], texts[p], batch_size).diagonal().numpy() for p in parts])


def colour_choice(clip: Clip, scenes: xr.Dataset, batch_size: int = 128) -> np.ndarray:
    """For scenes with a one-object caption: the colour (n,) whose caption is nearest, of all eight."""
    templates = [str(caption) for caption in scenes.caption.values]
    own = [next(c for c in COLOURS if f" {c} " in f" {text} ") for text in templates]
    texts = np.array(
        [
            [_article(text.replace(f" {mine} ", f" {c} ")) for c in COLOURS]
            for text, mine in zip(templates, own, strict=True)
        ]
    )
    scores = np.stack([paired_similarity(clip, scenes.image, texts[:, i], batch_size) for i in range(len(COLOURS))])
    return np.array(COLOURS)[scores.argmax(0)]


def _article(text: str) -> str:
    first, rest = text.split(" ", 1)
    return f"{'an' if rest[0] in 'aeio' else 'a'} {rest}" if first in ("a", "an") else text
