"""Real architectures at their real size with random weights: which methods explain them, and what that takes.

    python benchmarks/towers.py [NAME ...]

Each in a process of its own, on one thread: ``explain`` of two pictures by every method that says it can, of image and text, the
costly ones with few perturbations, and attention flow, which takes half an hour of ViT-L-14-336, of few patches alone; maps must
be finite, and the recorded model's embeddings those of the unrecorded one. A text tower whose tokenizer is on the hub gets
open_clip's own words instead.
"""

import copy
import json
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import open_clip
import torch

import xaikit as xk
from xaikit.explainers.registry import explaining

NAMES = ["RN50", "convnext_base", "ViT-B-32", "coca_ViT-B-32", "ViT-B-16", "ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "EVA02-B-16",
         "ViT-L-14-336"]  # fmt: skip
FEW = {
    "rise": {"masks": 8},
    "kernel_shap": {"samples": 8},
    "integrated_gradients": {"steps": 2},
    "m2ib": {"copies": 1, "steps": 2},
}
MOST_PATCHES = 256  # for attention flow
TEXTS = ["a dog left of a red car", "two cats"]


def main(names: list[str]) -> None:
    """Measure one architecture, or each of several in a process of its own."""
    if len(names) == 1:
        print(row(names[0]), flush=True)
        return
    for name in names or NAMES:
        subprocess.run([sys.executable, "-P", __file__, name], check=False)


def row(name: str) -> str:
    """A line of the table; for a tower that can't be recorded why not."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    clip, pictures = random_clip(name), np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    try:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        counts = [explained(clip, [*pictures], side) for side in ("image", "text")]
        seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    except ValueError as error:
        return f"{name} | refused: {error}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"{name} | {' and '.join(counts)} | {unlike(clip, pictures):.0e} | {seconds:.0f} s | {peak:.1f} GB"


def random_clip(name: str) -> xk.clip.Clip:
    """The architecture, with open_clip's own tokenizer where it has another."""
    config = copy.deepcopy(open_clip.get_model_config(name))
    if "hf_tokenizer_name" in config["text_cfg"]:
        own = {key: value for key, value in config["text_cfg"].items() if not key.startswith(("hf_", "tokenizer_"))}
        config["text_cfg"] = own | {"vocab_size": 49408}
        with tempfile.TemporaryDirectory() as folder:
            path = (
                Path(folder) / f"{name.replace('SigLIP', 'Sigl')}.json"
            )  # open_clip knows SigLIP's tokenizer by the name
            path.write_text(json.dumps(config))
            open_clip.add_model_config(path)
            return xk.load_clip(path.stem)
    return xk.load_clip(name)


def explained(clip: xk.clip.Clip, pictures: list[np.ndarray], side: str) -> str:
    """By how many methods this side of a model is explained; of those that can't, by name."""
    known, patches = xk.methods(), np.prod(xk.clip.tower(clip, side).grid or 0)
    can = [name for name in explaining(clip, side) if name != "attention_flow" or patches <= MOST_PATCHES]
    heat = xk.explain({name: (name, FEW.get(name, {})) for name in can}, clip, pictures, TEXTS, of=side, batch_size=2)
    assert np.isfinite(heat).all()
    lacking = ", ".join(name for name in known if side in known[name]["explains"] and name not in can)
    return f"{len(can)} of the {side}" + f" (not {lacking})" * bool(lacking)


@torch.no_grad()
def unlike(clip: xk.clip.Clip, pictures: np.ndarray) -> float:
    """The largest difference between embeddings with and without recording."""
    pixels, tokens = clip.pixels(pictures), clip.tokens(TEXTS)
    with xk.record(clip, "image", None), xk.record(clip, "text", None):
        recorded = clip.encode_image(pixels), clip.encode_text(tokens)
    plain = clip.encode_image(pixels), clip.encode_text(tokens)
    return max(float((one - other).abs().max()) for one, other in zip(recorded, plain, strict=True))


if __name__ == "__main__":
    main(sys.argv[1:])
