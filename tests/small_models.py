"""Small random models of each family that open_clip has, registered once for all tests."""

import json
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import open_clip
import torch
from safetensors.torch import save_model
from timm.models import register_model
from timm.models.eva import eva02_tiny_patch14_224
from timm.models.vision_transformer import vit_tiny_patch16_224

import xaikit as xk

TEXT = {"context_length": 12, "vocab_size": 64, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}

CONFIGS = {
    "small-vit": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT},
    "small-custom-blocks": {
        "embed_dim": 24,
        "vision_cfg": {**VISION, "block_type": "custom", "qk_norm": True},
        "text_cfg": {**TEXT, "qk_norm": True},
    },
    "small-siglip": {
        "embed_dim": 48,
        "vision_cfg": {"timm_model_name": "small_vit_of_timm", "timm_pool": "map", "timm_proj": "none", "image_size": 64},
        "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
        "custom_text": True,
    },
    "small-eva02": {
        "embed_dim": 24,
        "vision_cfg": {"timm_model_name": "small_eva02_of_timm", "timm_pool": "token", "timm_proj": "linear", "image_size": 56},
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "small-coca": {
        "embed_dim": 32,
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 5, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 12, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
        "custom_text": True,
    },
}  # fmt: skip
FAMILIES = tuple(CONFIGS)


# timm's smallest have twelve blocks and some two hundred patches, and open_clip can't ask for fewer.
@register_model
def small_vit_of_timm(pretrained=False, **options):
    return vit_tiny_patch16_224(pretrained, img_size=64, depth=3, embed_dim=48, **options)


@register_model
def small_eva02_of_timm(pretrained=False, **options):
    return eva02_tiny_patch14_224(pretrained, img_size=56, depth=3, embed_dim=48, ref_feat_shape=(4, 4), **options)


REGISTERED = tempfile.TemporaryDirectory()


def registered(name: str, config: dict) -> str:
    """The name, by which open_clip knows this configuration from now on, from a file that it may read again."""
    path = Path(REGISTERED.name) / f"{name}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return name


@cache
def small_clip(name: str):
    """A random model of the family."""
    return xk.load_clip(registered(name, CONFIGS[name]))


def saved_clip(folder: Path, name: str, config: dict) -> str:
    """What ``load_clip`` calls a folder as open_clip reads it, made here with a random model of this configuration."""
    folder.mkdir(exist_ok=True)
    save_model(open_clip.create_model(registered(name, config)), str(folder / "open_clip_model.safetensors"))
    seen = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": seen}))
    return f"local-dir:{folder}"


def stand_in(encode_image):
    """What curves need of a model, whose pixels are not normalised and whose texts all have the embedding 1."""
    return SimpleNamespace(
        normalisation=((0.0,) * 3, (1.0,) * 3), device=torch.device("cpu"), dtype=torch.float32,
        encode_image=encode_image, embed_text=lambda tokens: torch.ones(len(tokens), 1),
    )  # fmt: skip


def pairs(clip):
    """Three images and prompts of 8, 2 and 5 words."""
    draw = torch.Generator().manual_seed(0)
    prompts = ([1, 5, 9, 14, 22, 8, 30, 41, 17, 63], [1, 7, 11, 63], [1, 7, 3, 19, 4, 2, 63])
    tokens = torch.tensor([[*ids, *[0] * (12 - len(ids))] for ids in prompts])
    return torch.randn(3, 3, *clip.image_size, generator=draw), tokens
