"""The bundled multimodal LLM as a transformers folder: architecture, processor, weights taken over from tiny-clip."""

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from open_clip.model import CLIP
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from xaikit.samples.captions import VOCABULARY
from xaikit.samples.worlds.shapes import IMAGE_SIZE

from .bundled import MODEL_CONFIG, PATCH, PREPROCESS_CONFIG

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<image>", "<user>", "<assistant>")
# Requests for a description, which are all answered alike, and the words of further ones.
REQUESTS = (
    "describe the picture", "describe the photo", "describe the image", "describe this picture", "what is in the picture",
    "what do you see in the image", "name all objects", "list the objects in the photo", "tell me about the picture",
    "please describe all objects in this image", "what is this", "what can you see",
)  # fmt: skip
FURTHER_WORDS = ("where", "which", "there", "are", "scene", "it", "and", "to", "by", "how", "many", ".", "?")
CONTEXT = 512
CHAT_TEMPLATE = (
    "<s>{% for message in messages %}<{{ message['role'] }}>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ ' ' + part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def llava_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the scenes' vocabulary and that of the requests; unknown words become <unk>."""
    spoken = [*VOCABULARY, *(word for request in REQUESTS for word in request.split()), *FURTHER_WORDS]
    ids = {word: index for index, word in enumerate(dict.fromkeys([*SPECIAL, *spoken]))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(cleanup=True)  # blanks between words, none before a comma
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=list(SPECIAL[4:]), model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
        padding_side="left",
    )  # fmt: skip


def llava_processor() -> LlavaProcessor:
    """The image processor of tiny-clip and the tokenizer together."""
    images = CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=PREPROCESS_CONFIG["mean"], image_std=PREPROCESS_CONFIG["std"],
    )  # fmt: skip
    return LlavaProcessor(
        images, llava_tokenizer(), patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, image_token="<image>", chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def new_llava() -> LlavaForConditionalGeneration:
    """The bundled architecture with random weights."""
    tokenizer = llava_tokenizer()
    vision = MODEL_CONFIG["vision_cfg"]
    width = 128
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=vision["width"], intermediate_size=4 * vision["width"], num_hidden_layers=vision["layers"],
            num_attention_heads=vision["width"] // vision["head_width"], image_size=IMAGE_SIZE,
            patch_size=vision["patch_size"], hidden_act="gelu", projection_dim=MODEL_CONFIG["embed_dim"],
        ),
        text_config=LlamaConfig(
            hidden_size=width, intermediate_size=11 * width // 4, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=4, vocab_size=len(tokenizer), max_position_embeddings=CONTEXT,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=True,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layer=-1,
        vision_feature_select_strategy="default", image_seq_length=(IMAGE_SIZE // PATCH) ** 2, tie_word_embeddings=True,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config)


def vision_weights(clip: CLIP) -> dict[str, Tensor]:
    """The vision tower of an open_clip model under the names of transformers' ``CLIPVisionModel``."""
    ours = clip.visual.state_dict()
    named = {
        "embeddings.class_embedding": ours["class_embedding"],
        "embeddings.patch_embedding.weight": ours["conv1.weight"],
        "embeddings.position_embedding.weight": ours["positional_embedding"],
    }
    layers = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    parts["attn.out_proj"] = "self_attn.out_proj"
    for index in range(MODEL_CONFIG["vision_cfg"]["layers"]):
        source, target = f"transformer.resblocks.{index}", f"encoder.layers.{index}"
        layers |= {f"{source}.{old}": f"{target}.{new}" for old, new in parts.items()}
        for kind in ("weight", "bias"):
            joined = ours[f"{source}.attn.in_proj_{kind}"].chunk(3)
            named |= {f"{target}.self_attn.{n}_proj.{kind}": w for n, w in zip("qkv", joined, strict=True)}
    for old, new in layers.items():
        named |= {f"{new}.{kind}": ours[f"{old}.{kind}"] for kind in ("weight", "bias")}
    return named


def start_from_clip(model: LlavaForConditionalGeneration, clip: CLIP) -> None:
    """Give the vision tower the weights of a CLIP of the bundled architecture."""
    tower = model.model.vision_tower
    tower = getattr(tower, "vision_model", tower)
    missing, unexpected = tower.load_state_dict(vision_weights(clip), strict=False)
    wanted = [name for name in missing if "position_ids" not in name]
    if wanted or unexpected:
        raise RuntimeError(f"the vision towers differ: {wanted} are missing, {unexpected} are not known")


def save_llava(model: LlavaForConditionalGeneration, log: pd.DataFrame, recipe: object, folder: str | Path) -> None:
    """Write a transformers folder: configuration, weights, processor, and beside them the training log and recipe."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config.do_sample = False
    model.generation_config.max_new_tokens = 64
    model.to(torch.float32).save_pretrained(folder)
    llava_processor().save_pretrained(folder)
    log.round(4).to_csv(folder / "training_log.csv", index=False)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")
