"""Folders laid out as published checkpoints are, with small random weights: older names of weights and settings, their
own chat templates, and tokenizers that cut words."""

import json

import numpy as np
import pytest
import small_families
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from xaikit.mllm.explanation import explain_tokens
from xaikit.mllm.loading import load_mllm

pytestmark = pytest.mark.filterwarnings("ignore:the answer to .* was cut:UserWarning")
TEXT = [
    "describe the picture what is left of a small red circle large blue square green triangle",
    "USER: ASSISTANT: <|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
] * 20
PROMPT = "describe the unseen picture, é now"  # with words that no vocabulary holds as one
# What the published templates write for one image and one text, turn by turn.
LLAVA = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] if content['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] if content['type'] == 'text' %}{{ content['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
CHAT = (
    "{% for message in messages %}SYSTEM<|im_start|>{{ message['role'] }}\n"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}IMAGE"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_SYSTEM = (
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
)
QWEN = CHAT.replace("SYSTEM", QWEN_SYSTEM).replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
INTERNVL = CHAT.replace("SYSTEM", "").replace("IMAGE", "<IMG_CONTEXT>\n")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def special(tokens):
    return [AddedToken(token, special=True, normalized=False) for token in tokens]


def byte_level(tokens):
    """As Qwen2's tokenizer, which InternVL3 has too."""
    inner = Tokenizer(models.BPE())
    inner.normalizer, inner.decoder = normalizers.NFC(), decoders.ByteLevel()
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False))
    inner.add_special_tokens(special(tokens))
    return inner


def byte_fallback(tokens):
    """As Llama's tokenizer: blanks are "▁", one stands before the text, unknown letters are bytes."""
    first = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=400, special_tokens=first, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    inner = Tokenizer(models.BPE(learned["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens(special([*first[:3], *tokens]))
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return inner


def rename(folder, change):
    """Weights under the names that ``change`` gives, without those that it gives none."""
    file = folder / "model.safetensors"
    weights = {change(name): weight for name, weight in load_file(file).items()}
    weights.pop("", None)
    save_file(weights, file, {"format": "pt"})
    return set(weights)


def save_llava(folder):
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_fallback(["<image>", "<pad>"]),
        bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    model, processor = small_families.llava(tokenizer=tokenizer)
    processor.chat_template = LLAVA
    model.save_pretrained(folder)
    processor.save_pretrained(folder)

    def older(name):
        if name.startswith("lm_head"):
            return f"language_model.{name}"
        name = name.replace("model.language_model.", "language_model.model.").removeprefix("model.")
        inside = "vision_tower.vision_model."
        return name if name.startswith(inside) else name.replace("vision_tower.", inside)

    names = rename(folder, older)
    assert names >= {"language_model.lm_head.weight", "language_model.model.embed_tokens.weight"}
    assert (
        "multi_modal_projector.linear_1.weight" in names and "vision_tower.vision_model.post_layernorm.weight" in names
    )
    return model


def save_qwen(folder):
    chat = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level([*chat, *small_families.QWEN.values()]),
        eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=small_families.QWEN,
    )  # fmt: skip
    model, processor = small_families.qwen2_vl(tokenizer)
    processor.chat_template = QWEN
    model.lm_head.weight = model.model.language_model.embed_tokens.weight
    model.save_pretrained(folder)
    processor.save_pretrained(folder)

    def older(name):
        name = "" if name.startswith("lm_head") else name
        return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")

    names = rename(folder, older)
    assert {"model.embed_tokens.weight", "visual.patch_embed.proj.weight"} <= names and "lm_head.weight" not in names
    config = json.loads((folder / "config.json").read_text())
    newer = ("model_type", "rope_parameters", "tie_word_embeddings", "dtype")
    text = {name: value for name, value in config.pop("text_config").items() if name not in newer}
    rope = {"rope_theta": 1e4, "rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 2]}}
    flat = {**text, **config, **rope, "tie_word_embeddings": True, "torch_dtype": "bfloat16"}
    flat.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps(flat))
    pixels = {
        "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor",
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    for newer in ("processor_config.json", "video_preprocessor_config.json"):
        (folder / newer).unlink(missing_ok=True)
    end, pad = (tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>"))
    # Published ones sample so little that ignoring them or not would look the same.
    sampling = {"do_sample": True, "temperature": 5.0, "top_k": 50, "repetition_penalty": 1.05}
    sampling |= {"bos_token_id": pad, "eos_token_id": [end, pad], "pad_token_id": pad}
    (folder / "generation_config.json").write_text(json.dumps(sampling))
    return model


def save_internvl(folder):
    own = small_families.INTERNVL
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *own.values()]),
        eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=own,
    )  # fmt: skip
    model, processor = small_families.internvl(tokenizer, transformers.Qwen2Config, max_patches=1)
    processor.chat_template = INTERNVL
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


# What saves it, the grid of an image of 120 x 160 pixels, and the text around image and prompt.
LAYOUTS = {
    "LLaVA-1.5": (save_llava, (4, 4), "<s> USER: ", " \n", " ASSISTANT:"),
    "Qwen2-VL": (
        save_qwen, (4, 6), "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>",
        "<|vision_end|>", "<|im_end|>\n<|im_start|>assistant\n",
    ),
    "InternVL3": (save_internvl, (2, 2), "<|im_start|>user\n<img>", "</img>\n", "<|im_end|>\n<|im_start|>assistant\n"),
}  # fmt: skip


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request, tmp_path_factory):
    """A loaded model, and what is to be found in it."""
    save, *expected = LAYOUTS[request.param]
    folder = tmp_path_factory.mktemp("published") / request.param
    folder.mkdir()
    torch.manual_seed(0)
    saved = save(folder).state_dict()
    return load_mllm(str(folder), dtype="float32"), saved, *expected


def pictures():
    return list(np.random.default_rng(0).integers(0, 255, (2, 120, 160, 3), dtype=np.uint8))


def test_prompt_and_image_are_found(layout):
    mllm, _, grid, before, between, after = layout
    view = mllm.family.view(pictures()[0], PROMPT)
    assert view.grid == grid and len(view.image_positions) == grid[0] * grid[1]
    assert (view.ids[view.image_positions] == mllm.family.image_token_id).all()
    assert mllm.tokenizer.decode(view.ids[view.prompt_positions]).strip() == PROMPT
    first, last = int(view.image_positions[0]), int(view.image_positions[-1])
    start, end = int(view.prompt_positions[0]), int(view.prompt_positions[-1])
    parts = (view.ids[:first], view.ids[last + 1 : start], view.ids[end + 1 :])
    for part, text in zip(parts, (before, between, after), strict=True):
        assert mllm.tokenizer.decode(part).replace(" ", "") == text.replace(" ", "")


def test_answers_are_explained(layout):
    mllm = layout[0]
    found = explain_tokens(mllm, pictures(), PROMPT, "msea+arc", max_new_tokens=6)
    assert np.isfinite(found.token_heat).all() and (found.token_heat.max(("row", "col")) > 0).any("answer_token").all()
    assert found.equals(explain_tokens(mllm, pictures(), PROMPT, "msea+arc", max_new_tokens=6)), "greedy"
    told = "a small red circle"
    given = explain_tokens(mllm, pictures(), "describe the picture", "msea+arc", told)
    assert given.answer.values.tolist() == [told] * 2 and np.isfinite(given.token_heat).all()
    context = "".join(given.context_text.values[0].tolist())
    assert context.replace(" ", "") == "describethepicture" + told.replace(" ", "")
    assert "".join(given.answer_text.values[0].tolist()).strip() == told
    assert given.rank_overlap.max() <= 1 + 1e-6 and (given.rank_overlap.values[0] > 0).any()


def test_every_weight_reaches_its_place(layout):
    mllm, saved = layout[:2]
    loaded = mllm.model.state_dict()
    assert list(loaded) == list(saved) and all(torch.equal(weight, loaded[name]) for name, weight in saved.items())
