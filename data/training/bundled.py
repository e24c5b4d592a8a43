"""The bundled models as open_clip folders: architecture, tokenizer, files."""

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from open_clip.model import CLIP
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from xaikit.samples.captions import VOCABULARY
from xaikit.samples.worlds.shapes import IMAGE_SIZE

from .recipe import Recipe

PATCH = 8
CONTEXT = 20
SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")  # the end token gets the highest id: open_clip pools there
MODEL_CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": IMAGE_SIZE, "layers": 4, "width": 128, "head_width": 32, "patch_size": PATCH},
    "text_cfg": {
        "context_length": CONTEXT, "vocab_size": len(VOCABULARY) + len(SPECIAL), "width": 96, "heads": 3, "layers": 3,
        "hf_tokenizer_name": "word-level", "tokenizer_kwargs": {"clean": "whitespace"},
    },
}  # fmt: skip
PREPROCESS_CONFIG = {
    "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic", "resize_mode": "squash",
}  # fmt: skip


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the scenes' vocabulary; unknown words become <unk>."""
    vocabulary = [*SPECIAL[:3], *VOCABULARY, SPECIAL[3]]
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(word, ids[word]) for word in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<start>", eos_token="<end>",
        model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def new_model() -> CLIP:
    """The bundled architecture with random weights."""
    text_config = {k: v for k, v in MODEL_CONFIG["text_cfg"].items() if k != "tokenizer_kwargs"}
    return CLIP(MODEL_CONFIG["embed_dim"], MODEL_CONFIG["vision_cfg"], text_config)


def save(model: CLIP, log: pd.DataFrame, stages: tuple[Recipe, ...], folder: str | Path) -> None:
    """Write an open_clip folder: configuration, weights, tokenizer, and beside them the training log and recipe."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    word_tokenizer().save_pretrained(folder)
    log.round(4).to_csv(folder / "training_log.csv", index=False)
    (folder / "recipe.json").write_text(json.dumps([asdict(stage) for stage in stages], indent=1) + "\n")
