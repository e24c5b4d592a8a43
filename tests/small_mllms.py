"""Small random models of the three supported classes, with real processors, saved as folders."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from xaikit.mllm.loading import load_mllm
from xaikit.mllm.model import Mllm

WORDS = "describe the scene what is left of a an red blue green small large circle square triangle please now in one sentence . ?".split()
SYSTEM = ["USER:", "ASSISTANT:", "user", "assistant"]
TEXT = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}
TEMPLATES = {
    "llava": "{% for m in messages %}USER: {% for c in m['content'] if c['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}{% endfor %} ASSISTANT:",
    "internvl": "{% for m in messages %}<|im_start|>user\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<IMG_CONTEXT>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n",
    "qwen2_vl": "{% for m in messages %}<|im_start|>user\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n",
}
TEMPLATES["qwen2_5_vl"] = TEMPLATES["qwen2_vl"]
TURNS = {"turn_start_token": "<|im_start|>", "turn_end_token": "<|im_end|>"}
QWEN = {f"{name}_token": f"<|{name}|>" for name in ("vision_start", "vision_end")}
QWEN |= {f"{name}_token": f"<|{name}_pad|>" for name in ("image", "video")}
SPECIAL = {
    "llava": {"image_token": "<image>"},
    "internvl": {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "qwen2_vl": QWEN, "qwen2_5_vl": QWEN,
}  # fmt: skip
CLASSES = ("llava", "qwen2_vl", "internvl")


def _tokenizer(kind: str) -> transformers.PreTrainedTokenizerFast:
    special = ["<pad>", "<s>", "</s>", "<unk>", *TURNS.values(), *SPECIAL[kind].values()]
    vocabulary = {word: index for index, word in enumerate([*special, *SYSTEM, *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("[.?]"), "isolated")]
    )
    if kind == "llava":  # as LLaVA 1.5, whose template leaves the start token to the tokenizer
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    own = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    named = {**TURNS, **SPECIAL[kind]}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, extra_special_tokens=named, **own)


def _llava(tokenizer, image: int):
    text = transformers.LlamaConfig(vocab_size=len(tokenizer), **TEXT)
    vision = transformers.CLIPVisionConfig(image_size=56, projection_dim=32, **TOWER)
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=image)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    options = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1, "patch_size": 14}
    processor = transformers.LlavaProcessor(images, tokenizer, chat_template=TEMPLATES["llava"], **options)
    return transformers.LlavaForConditionalGeneration(config), processor


def _internvl(tokenizer, image: int):
    text = transformers.Qwen2Config(vocab_size=len(tokenizer), **TEXT).to_dict()
    vision = {"image_size": [56, 56], **TOWER, "patch_size": [14, 14], "layer_scale_init_value": 1.0}
    config = transformers.InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=image, image_seq_length=4, tie_word_embeddings=False
    )
    images = transformers.GotOcr2ImageProcessor(
        size={"height": 56, "width": 56}, max_patches=1
    )  # tiled ones: test_mllm_families
    video = transformers.InternVLVideoProcessor(size={"height": 56, "width": 56})
    processor = transformers.InternVLProcessor(
        images, tokenizer, video, image_seq_length=4, chat_template=TEMPLATES["internvl"]
    )
    return transformers.InternVLForConditionalGeneration(config), processor


def _qwen(tokenizer, image: int, newer: bool = False):
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
    text = {"vocab_size": len(tokenizer), **TEXT, "rope_parameters": rope}
    ids = {name + "_id": tokenizer.convert_tokens_to_ids(token) for name, token in QWEN.items()}
    if newer:
        vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 48}
        vision |= {"window_size": 56, "fullatt_block_indexes": [1]}
    else:
        vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 48}
    name = "Qwen2_5_VL" if newer else "Qwen2VL"
    config, build, kind = (
        getattr(transformers, f"{name}{part}") for part in ("Config", "ForConditionalGeneration", "Processor")
    )
    model = build(config(text_config=text, vision_config=vision, **ids))
    images = transformers.Qwen2VLImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112})
    processor = kind(images, tokenizer, transformers.Qwen2VLVideoProcessor(), chat_template=TEMPLATES["qwen2_vl"])
    return model, processor


def save_small_mllm(kind: str, folder: Path) -> Path:
    """Write a random model of a class, "llava", "qwen2_vl", "qwen2_5_vl" or "internvl", and its processor."""
    tokenizer = _tokenizer(kind)
    special = SPECIAL[kind]
    image = tokenizer.convert_tokens_to_ids(special.get("image_token", special.get("context_image_token")))
    torch.manual_seed(0)
    build = {"llava": _llava, "internvl": _internvl, "qwen2_vl": _qwen}
    model, processor = _qwen(tokenizer, image, newer=True) if kind == "qwen2_5_vl" else build[kind](tokenizer, image)
    # Defaults would hide faults: positions of nearly zero, and norms that change nothing when applied twice.
    for name, weight in model.named_parameters():
        if "position" in name or "class_embedding" in name or "cls_token" in name:
            torch.nn.init.normal_(weight, std=0.3)
        elif "norm" in name and name.endswith("weight"):
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@cache
def saved_mllm(kind: str) -> Path:
    """The folder of a class's model, written once a session."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return save_small_mllm(kind, folder / kind)


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


def ordinary(model, image: np.ndarray, prompt: str, **options):
    """Inputs as the class's own processor makes them; InternVL's as one tile unless it is told otherwise."""
    if "InternVL" in type(model.processor).__name__:
        options = {"crop_to_patches": False, **options}
    content = [{"type": "image", "image": Image.fromarray(image)}, {"type": "text", "text": prompt}]
    return model.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt", processor_kwargs=options,
    )  # fmt: skip


def alone(mllm: Mllm, view, answer: list[int], features=None, **options):
    """One sample through the model itself, from its features on."""
    ids = torch.cat([view.ids, torch.tensor(answer)])[None]
    features = mllm.family.encode([view])[0] if features is None else features
    inputs = mllm.family.language_inputs([view], ids, [features])
    return mllm.model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs, **options)
