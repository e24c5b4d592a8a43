"""The models on which released codes were run, and the numbers that these gave."""

from functools import cache
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

import xaikit as xk

GOLDEN = Path(__file__).parent / "golden"
SETUP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
SETUP |= {"interpolation": "bicubic", "resize_mode": "shortest", "quick_gelu": False}
MODELS = pytest.mark.parametrize("model", ["a4", "d7"])


def setup(name):
    """Both as CLIP prepares pictures, each with the activation of its configuration."""
    return SETUP | {"quick_gelu": bool(open_clip.get_model_config(name).get("quick_gelu", False))}


@cache
def golden_model(name):
    open_clip.add_model_config(GOLDEN / f"{name}.json")
    return xk.load_clip(name, pretrained=str(GOLDEN / f"{name}.safetensors"), setup=setup(name))


@cache
def golden_model_at_80_by_96(name):
    """The released code interpolates position embeddings by plain bicubic, open_clip with antialiasing."""
    small = golden_model(name)
    large = xk.load_clip(name, pretrained=str(GOLDEN / f"{name}.safetensors"), image_size=(80, 96), setup=setup(name))
    embedding = small.model.visual.positional_embedding
    grid = F.interpolate(embedding[1:].T.reshape(1, -1, 8, 8), size=(10, 12), mode="bicubic", align_corners=False)
    large.model.visual.positional_embedding.data = torch.cat([embedding[:1], grid.flatten(2)[0].T])
    return large


def arrays(model, group):
    """The inputs of all golden numbers of a model, and those of one group."""
    return np.load(GOLDEN / f"{model}_inputs.npz"), np.load(GOLDEN / f"{model}_{group}.npz")


def golden_cases(model, group, wanted, least=1):
    """For each key of the group that is wanted, at least so many: the numbers, the key, the model with pixels and token ids
    of one pair, and the key's other parts. A key begins with image and text, such as i0_t1, of which one may be missing."""
    inputs, golden = arrays(model, group)
    keys = [key for key in golden.files if wanted(key)]
    assert len(keys) >= least
    for key in keys:
        pair, *rest = key.split("__")
        place = {"i": "0", "t": "0"} | {part[0]: part[1:] for part in pair.split("_")}
        big = place["i"] == "big"
        pixels = torch.tensor(inputs["image_big" if big else f"image{place['i']}"])[None]
        clip = golden_model_at_80_by_96(model) if big else golden_model(model)
        yield golden[key], key, (clip, pixels, torch.tensor(inputs["text_ids"])[int(place["t"])][None]), rest


def assert_near(ours, expected, relative=1e-4, key=""):
    """Equal to within a share of the largest expected value."""
    np.testing.assert_allclose(ours, expected, rtol=0, atol=relative * np.abs(expected).max(), err_msg=str(key))
