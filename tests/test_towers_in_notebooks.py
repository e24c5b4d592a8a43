"""The workbook from start to end for every kind of tower, with random weights: it takes any of them by one parameter, or says in
one sentence why it can't. A native ViT goes through all of it in test_estimates_of_notebooks."""

import copy
import json

import open_clip
import pytest
import small_models
from safetensors.torch import save_model

from xaikit.running.notebooks import find_notebooks
from xaikit.running.workbook import RunFailed, run

pytestmark = pytest.mark.long
FEW = {
    "n": 4, "n_validation": 2, "used": 3, "alphas": [0.5], "temperatures": [0.1], "theta_slopes": [0.0], "draws": 2, "shuffles": 1,
    "perturbations": 8, "path_steps": 2, "masks": 4, "copies": 1, "steps": 2, "world": "shapes",
}  # fmt: skip
EVERYWHERE = ["00", "01", "02", "03", "06", "06b", "08"]
RESONANCE = ["04", "04b"]
WORDS = {"vocab_size": 49408, "context_length": 77}  # of open_clip's own tokenizer
RESNET = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": [1] * 4, "width": 8},
    "text_cfg": small_models.TEXT,
}


def saved(kind, folder):
    """A folder as open_clip reads it, with a small random model of the kind that knows English words."""
    config = copy.deepcopy(small_models.CONFIGS.get(f"small-{kind}", RESNET))
    if kind == "siglip":  # the smallest of timm
        config["vision_cfg"] |= {"timm_model_name": "test_vit", "image_size": 160}
        config["embed_dim"] = 64
    if kind == "eva02":  # kernels know timm's own alone
        config["vision_cfg"] |= {"timm_model_name": "eva02_tiny_patch14_224", "image_size": 224}
    for part in {"text_cfg", "multimodal_cfg"} & {*config}:
        config[part] |= WORDS | ({"context_length": 76} if kind == "coca" else {})
    folder.mkdir()
    path = folder / f"whole-{kind}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    save_model(open_clip.create_model(path.stem), str(folder / "open_clip_model.safetensors"))
    seen = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": seen}))
    return {"model": f"local-dir:{folder}", **FEW}


def executed(folder, given, only):
    """Run these notebooks with what they know of the parameters."""
    known = {name for notebook in find_notebooks(only).values() for name in notebook.parameters}
    return run(folder, {name: value for name, value in given.items() if name in known}, only)


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        ("siglip", EVERYWHERE),
        ("coca", ["00", "01", "02", "08"]),  # the rest is as of any tower that pools
        ("eva02", ["00", "01", "02", "04"]),  # the smallest has twelve wide blocks
    ],
)
def test_every_notebook_takes_every_kind(tmp_path, kind, chosen):
    given = saved(kind, tmp_path / kind)
    target = executed(tmp_path / "run", given, chosen)
    assert {path.stem.partition("_")[0] for path in target.glob("*.ipynb")} == {*chosen}
    for name in RESONANCE * (kind == "siglip"):  # words and patches are in no one space behind a pooling layer
        with pytest.raises(RunFailed, match="srm can't explain the image tower of .* no pooling layer"):
            executed(tmp_path / "refused", given, [name])


def test_a_tower_without_blocks_is_refused_where_it_is_to_be_recorded(tmp_path):
    with pytest.raises(
        RunFailed, match=r"01_hooking_clip failed, .*ModifiedResNet\) has no transformer blocks to record"
    ):
        executed(tmp_path / "run", saved("resnet", tmp_path / "resnet"), ["00", "01"])
