"""Small random models of the first supported classes, saved as folders, and what is asked of them."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers
from small_families import made

from xaikit.mllm.loading import load_mllm
from xaikit.mllm.model import Mllm

CLASSES = ("llava", "qwen2_vl", "internvl")
ONE_TILE = {"max_patches": 1, "text": transformers.Qwen2Config}  # tiled ones: test_mllm_families
CONTEXT = 256  # tokens


@cache
def saved_mllm(kind: str) -> Path:
    """The folder of a class's model, "llava", "qwen2_vl", "qwen2_5_vl" or "internvl", written once a session."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model, processor = made(kind, **ONE_TILE if kind == "internvl" else {})
    model.config.get_text_config().max_position_embeddings = CONTEXT
    model.eval().save_pretrained(folder / kind)
    processor.save_pretrained(folder / kind)
    return folder / kind


@cache
def small_mllm(kind: str) -> Mllm:
    """The model of a class, loaded once a session."""
    return load_mllm(str(saved_mllm(kind)))


@cache
def tiny_llava() -> Mllm:
    """The bundled model, loaded once a session."""
    return load_mllm("tiny-llava")


def picture(height: int = 80, width: int = 120, seed: int = 0) -> np.ndarray:
    """Noise."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def alone(mllm: Mllm, view, answer: list[int], features=None, **options):
    """One sample through the model itself, from its features on."""
    ids = torch.cat([view.ids, torch.tensor(answer)])[None]
    features = mllm.family.encode([view])[0] if features is None else features
    inputs = mllm.family.language_inputs([view], ids, [features])
    return mllm.model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs, **options)
