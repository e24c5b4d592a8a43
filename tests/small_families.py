"""Tiny random models of many image-text-to-text classes, each with the real processor of its class; nothing is fetched."""

from functools import cache

import torch
import transformers as T
from PIL import Image
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers.models.smolvlm import processing_smolvlm

from xaikit.mllm.conversations import generate
from xaikit.mllm.loading import load_mllm
from xaikit.mllm.passes import teacher_forced

processing_smolvlm.num2words = str  # spells the seconds of videos; without it the processor refuses to be made
WORDS = (
    "describe the scene what is left of a an red blue green small large circle square triangle please now . ?".split()
)
TEXT = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 2048, "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
WIDE = TEXT | {"head_dim": 12}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}
CLIP = T.CLIPVisionConfig(image_size=56, projection_dim=32, **TOWER)
SIGLIP = {**TOWER, "image_size": 56, "vision_use_head": False}
BLOCKS = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 14,
    "out_hidden_size": 48,
}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
SQUARE = {"height": 56, "width": 56}
PATCHES = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
QWEN = {f"{name}_token": f"<|{name}|>" for name in ("vision_start", "vision_end", "image_pad", "video_pad")}
QWEN["image_token"], QWEN["video_token"] = QWEN.pop("image_pad_token"), QWEN.pop("video_pad_token")
INTERNVL = {
    "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}  # fmt: skip
PIXTRAL = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}


def words(special, *, bos=False):
    """A tokenizer of whole words; ``special`` are tokens of its own, by name, or a list of them."""
    own = special if isinstance(special, dict) else {f"own_{k}": token for k, token in enumerate(special)}
    known = [
        "<pad>",
        "<s>",
        "</s>",
        "<unk>",
        *own.values(),
        "USER:",
        "ASSISTANT:",
        *WORDS,
        *(f"w{k}" for k in range(40)),
    ]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(known))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("[.?]"), "isolated")]
    )
    if bos:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return T.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=own,
    )  # fmt: skip


def chat(image, video=""):
    """A chat template that writes ``image`` for an image, and ``video`` for a video."""
    return (
        "{% for m in messages %} USER: {% for c in m['content'] %} {% if c['type'] == 'image' %}"
        + image
        + "{% elif c['type'] == 'video' %}"
        + video
        + "{% else %}"
        "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
    )


def llava(tower="clip", tokenizer=None):
    tokenizer = tokenizer or words({"image_token": "<image>"}, bos=True)
    vision = CLIP if tower == "clip" else T.SiglipVisionConfig(**SIGLIP)
    config = T.LlavaConfig(
        vision_config=vision, text_config=T.LlamaConfig(vocab_size=len(tokenizer), **WIDE),
        image_token_index=tokenizer.image_token_id,
        **({} if tower == "clip" else {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}),
    )  # fmt: skip
    images = T.CLIPImageProcessor(size={"shortest_edge": 56}, crop_size=SQUARE)
    images = images if tower == "clip" else T.SiglipImageProcessor(size=SQUARE)
    return T.LlavaForConditionalGeneration(config), T.LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default" if tower == "clip" else "full",
        num_additional_image_tokens=int(tower == "clip"), chat_template=chat("<image>\n"),
    )  # fmt: skip


def llava_siglip():
    return llava("siglip")


def _pixtral(merge):
    tokenizer = words(PIXTRAL, bos=True)
    vision = {key: value for key, value in TOWER.items() if key != "patch_size"}
    vision = T.PixtralVisionConfig(**vision, patch_size=14, image_size=112, head_dim=16)
    options = {"vision_config": vision, "text_config": T.MistralConfig(vocab_size=len(tokenizer), **WIDE)}
    options["image_token_index"] = tokenizer.image_token_id
    images = T.PixtralImageProcessor(patch_size={"height": 14, "width": 14}, size={"longest_edge": 112})
    shape = {"patch_size": 14, "chat_template": chat("[IMG]")} | ({"spatial_merge_size": merge} if merge > 1 else {})
    return options, T.PixtralProcessor(images, tokenizer, **shape)


def pixtral():
    options, processor = _pixtral(1)
    strategy = {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}
    return T.LlavaForConditionalGeneration(T.LlavaConfig(**options, **strategy)), processor


def mistral3():
    options, processor = _pixtral(2)
    config = T.Mistral3Config(**options, spatial_merge_size=2, tie_word_embeddings=False)
    return T.Mistral3ForConditionalGeneration(config), processor


def llava_next():
    tokenizer, pins = words({"image_token": "<image>"}, bos=True), [[56, 112], [112, 56], [112, 112]]
    config = T.LlavaNextConfig(
        vision_config=CLIP, text_config=T.MistralConfig(vocab_size=len(tokenizer), **WIDE),
        image_token_index=tokenizer.image_token_id, image_grid_pinpoints=pins, image_seq_length=16,
    )  # fmt: skip
    images = T.LlavaNextImageProcessor(size={"shortest_edge": 56}, crop_size=SQUARE, image_grid_pinpoints=pins)
    return T.LlavaNextForConditionalGeneration(config), T.LlavaNextProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=chat("<image>\n"),
    )  # fmt: skip


def llava_onevision():
    tokenizer = words({"image_token": "<image>", "video_token": "<video>"})
    pins = [[56 * rows, 56 * cols] for rows in range(1, 4) for cols in range(1, 4)]
    config = T.LlavaOnevisionConfig(
        vision_config=T.SiglipVisionConfig(**SIGLIP), text_config=T.Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_index=tokenizer.image_token_id, video_token_index=tokenizer.video_token_id, image_grid_pinpoints=pins,
    )  # fmt: skip
    return T.LlavaOnevisionForConditionalGeneration(config), T.LlavaOnevisionProcessor(
        T.LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=pins), tokenizer,
        T.LlavaOnevisionVideoProcessor(size=SQUARE), num_image_tokens=16, vision_feature_select_strategy="full",
        chat_template=chat("<image>\n", "<video>\n"),
    )  # fmt: skip


def _qwen(name, vision, rope=MROPE, processor="Qwen2VL", tokenizer=None, **text):
    tokenizer = tokenizer or words(QWEN)
    ids = {f"{key}_id": tokenizer.convert_tokens_to_ids(token) for key, token in QWEN.items()}
    text = {"vocab_size": len(tokenizer), **WIDE, "rope_parameters": rope, **text}
    model = getattr(T, f"{name}ForConditionalGeneration")(
        getattr(T, f"{name}Config")(text_config=text, vision_config=vision, **ids)
    )
    images, build = T.Qwen2VLImageProcessor(size=PATCHES, patch_size=14), getattr(T, f"{processor}Processor")
    videos = getattr(T, f"{processor if processor != 'Qwen2_5_VL' else 'Qwen2VL'}VideoProcessor")(
        size={edge: pixels * (4 if processor == "Qwen3VL" else 1) for edge, pixels in PATCHES.items()}, patch_size=14
    )  # of a frame, but with Qwen 3 of all
    marks = (f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video"))
    return model, build(images, tokenizer, videos, chat_template=chat(*marks))


def qwen2_vl(tokenizer=None):
    vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 48}
    return _qwen("Qwen2VL", vision, tokenizer=tokenizer)


def qwen2_5_vl():
    return _qwen("Qwen2_5_VL", BLOCKS | {"window_size": 56, "fullatt_block_indexes": [1]}, processor="Qwen2_5_VL")


def qwen3_vl():
    deep = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    return _qwen("Qwen3VL", BLOCKS | deep, processor="Qwen3VL")


def qwen3_5():
    linear = {
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    }
    return _qwen(
        "Qwen3_5", BLOCKS | {"num_position_embeddings": 64}, MROPE | {"partial_rotary_factor": 1.0}, "Qwen3VL",
        layer_types=["linear_attention", "full_attention"], **linear,
    )  # fmt: skip


def video_llama_3():
    """Which makes a token of fewer patches of an image than of a frame."""
    tokenizer = words({"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"})
    config = T.VideoLlama3Config(
        vision_config=T.VideoLlama3VisionConfig(**TOWER), text_config=T.Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_id=tokenizer.image_token_id, video_token_id=tokenizer.video_token_id,
    )  # fmt: skip
    size = PATCHES | {"longest_edge": 4 * PATCHES["longest_edge"]}  # of all frames
    return T.VideoLlama3ForConditionalGeneration(config), T.VideoLlama3Processor(
        T.VideoLlama3ImageProcessor(size=PATCHES, patch_size=14, merge_size=1), tokenizer,
        T.VideoLlama3VideoProcessor(size=size, patch_size=14, merge_size=2), chat_template=chat("<|image_pad|>", "<|video_pad|>"),
    )  # fmt: skip


def glm4v():
    special = {f"{kind}_token": f"<|{kind}|>" for kind in ("image", "video")}
    special |= {f"{kind}_{end}": f"<|{end}_of_{kind}|>" for kind in ("image", "video") for end in ("begin", "end")}
    tokenizer = words(special)
    one = tokenizer.convert_tokens_to_ids
    ids = {f"{kind}_token_id": one(f"<|{kind}|>") for kind in ("image", "video")}
    ids |= {f"{kind}_{end}_token_id": one(f"<|{word}_of_{kind}|>") for kind in ("image", "video")
            for end, word in (("start", "begin"), ("end", "end"))}  # fmt: skip
    text = {"vocab_size": len(tokenizer), **TEXT, "rope_parameters": MROPE | {"partial_rotary_factor": 1.0}}
    config = T.Glm4vConfig(text_config=text, vision_config=BLOCKS | {"image_size": 56}, **ids)
    images = T.Glm4vImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 2 * 112 * 112})
    template = chat(*(f"<|begin_of_{kind}|><|{kind}|><|end_of_{kind}|>" for kind in ("image", "video")))
    return T.Glm4vForConditionalGeneration(config), T.Glm4vProcessor(
        images, tokenizer, T.Glm4vVideoProcessor(), chat_template=template
    )


def internvl(tokenizer=None, text=T.Qwen3Config, **images):
    tokenizer = tokenizer or words(INTERNVL)
    vision = TOWER | {"image_size": [56, 56], "patch_size": [14, 14], "layer_scale_init_value": 1.0}
    config = T.InternVLConfig(
        vision_config=vision, text_config=text(vocab_size=len(tokenizer), **WIDE).to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=4, tie_word_embeddings=False,
    )  # fmt: skip
    return T.InternVLForConditionalGeneration(config), T.InternVLProcessor(
        T.GotOcr2ImageProcessor(size=SQUARE, **images), tokenizer, T.InternVLVideoProcessor(size=SQUARE), image_seq_length=4,
        chat_template=chat("<IMG_CONTEXT>\n", "<video>\n"),
    )  # fmt: skip


def gemma3():
    special = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = words(special, bos=True)
    ids = {f"{key}_index": tokenizer.convert_tokens_to_ids(token) for key, token in special.items()}
    text = {"vocab_size": len(tokenizer), **WIDE, "sliding_window": 64, "query_pre_attn_scalar": 12}
    config = T.Gemma3Config(text_config=text, vision_config=SIGLIP, mm_tokens_per_image=4, **ids)
    return T.Gemma3ForConditionalGeneration(config), T.Gemma3Processor(
        T.Gemma3ImageProcessor(size=SQUARE), tokenizer, image_seq_length=4, chat_template=chat("<start_of_image>")
    )


def gemma4():
    special = {
        "boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>", "audio_token": "<|audio|>",
        "boa_token": "<|audio>", "eoa_token": "<audio|>", "own_video": "<|video|>",
    }  # fmt: skip
    tokenizer = words(special, bos=True)
    one = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer), **WIDE, "global_head_dim": 24, "sliding_window": 512, "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": len(tokenizer), "final_logit_softcapping": 5.0,
        "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    vision = TOWER | {"num_key_value_heads": 2, "head_dim": 16, "pooling_kernel_size": 3}
    config = T.Gemma4Config(
        text_config=text, vision_config=vision, audio_config=None, image_token_id=one("<|image|>"),
        boi_token_id=one("<|image>"), eoi_token_id=one("<image|>"), video_token_id=one("<|video|>"),
        audio_token_id=one("<|audio|>"),
    )  # fmt: skip
    return T.Gemma4ForConditionalGeneration(config), T.Gemma4Processor(
        T.Gemma4AudioFeatureExtractor(), T.Gemma4ImageProcessor(patch_size=14, max_soft_tokens=70), tokenizer,
        T.Gemma4VideoProcessor(patch_size=14), image_seq_length=70, chat_template=chat("<|image|>", "<|video|>"),
    )  # fmt: skip


def idefics3(smol=False):
    grid = [f"<row_{row + 1}_col_{col + 1}>" for row in range(6) for col in range(6)]
    special = ["<fake_token_around_image>", "<end_of_utterance>", "<global-img>", "<video>", *grid]
    tokenizer = words({"image_token": "<image>"} | {f"own_{k}": token for k, token in enumerate(special)})
    name = "SmolVLM" if smol else "Idefics3"
    config = getattr(T, f"{name}Config")(
        vision_config=TOWER | {"image_size": 56}, text_config=T.LlamaConfig(vocab_size=len(tokenizer), **WIDE),
        image_token_id=tokenizer.image_token_id, scale_factor=2,
    )  # fmt: skip
    sizes = {"max_image_size": {"longest_edge": 56}}
    images = getattr(T, f"{name}ImageProcessor")(size={"longest_edge": 112}, **sizes)
    videos = [T.SmolVLMVideoProcessor(size={"longest_edge": 56}, **sizes)] if smol else []
    return getattr(T, f"{name}ForConditionalGeneration")(config), getattr(T, f"{name}Processor")(
        images, tokenizer, *videos, image_seq_len=4, chat_template=chat("<image>", "<video>")
    )


def smolvlm():
    return idefics3(smol=True)


def paligemma():
    tokenizer = words({"image_token": "<image>"})
    images = T.SiglipImageProcessor(size=SQUARE)
    images.image_seq_length = 16
    processor = T.PaliGemmaProcessor(images, tokenizer)  # which has no template, and knows tokens for places
    config = T.PaliGemmaConfig(
        vision_config=T.SiglipVisionConfig(**SIGLIP, projection_dim=48),
        text_config=T.GemmaConfig(vocab_size=len(tokenizer), **WIDE), image_token_index=tokenizer.image_token_id,
        projection_dim=48, hidden_size=48,
    )  # fmt: skip
    return T.PaliGemmaForConditionalGeneration(config), processor


def aya_vision():
    tiles = ["TILE_GLOBAL", *(f"TILE_{k}" for k in range(1, 13))]
    special = ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", *tiles]
    tokenizer = words({"image_token": "<image>"} | {f"own_{k}": token for k, token in enumerate(special)}, bos=True)
    config = T.AyaVisionConfig(
        vision_config=T.SiglipVisionConfig(**SIGLIP), text_config=T.CohereConfig(vocab_size=len(tokenizer), **TEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"), downsample_factor=2,
    )  # fmt: skip
    return T.AyaVisionForConditionalGeneration(config), T.AyaVisionProcessor(
        T.GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=True), tokenizer, patch_size=28, img_size=56,
        chat_template=chat("<image>"),
    )  # fmt: skip


def deepseek_vl():
    tokenizer = words({"image_token": "<image_placeholder>"}, bos=True)
    config = T.DeepseekVLConfig(
        vision_config=T.SiglipVisionConfig(**SIGLIP), text_config=T.LlamaConfig(vocab_size=len(tokenizer), **WIDE),
        image_token_id=tokenizer.image_token_id,
    )  # fmt: skip
    return T.DeepseekVLForConditionalGeneration(config), T.DeepseekVLProcessor(
        T.DeepseekVLImageProcessor(size=SQUARE),
        tokenizer,
        num_image_tokens=16,
        chat_template=chat("<image_placeholder>"),
    )


def ovis2():
    marks = [f"<ind{k}>" for k in range(5)]
    tokenizer = words(
        {"image_token": "<image>", "own_atom": "<IMG_ATOM>"} | {f"own_{k}": m for k, m in enumerate(marks)}
    )
    vision = TOWER | {"image_size": 56, "hidden_stride": 2, "vocab_size": 64}
    config = T.Ovis2Config(
        vision_config=vision, text_config=T.Qwen2Config(vocab_size=len(tokenizer), **TEXT), hidden_size=48,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"), vocab_size=len(tokenizer),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(marks),
    )  # fmt: skip
    return T.Ovis2ForConditionalGeneration(config), T.Ovis2Processor(
        T.Ovis2ImageProcessor(size=SQUARE), tokenizer, image_seq_length=4, chat_template=chat("<image>\n")
    )


def vip_llava():
    model, processor = llava()
    config = model.config.to_dict()
    config = T.VipLlavaConfig(
        vision_config=CLIP, text_config=model.config.text_config, image_token_index=config["image_token_index"],
        vision_feature_layers=[-1, -2],
    )  # fmt: skip
    return T.VipLlavaForConditionalGeneration(config), processor


def idefics2():
    tokenizer = words({"image_token": "<image>", "image_boundary_token": "<edge>", "own_1": "<end_of_utterance>"})
    config = T.Idefics2Config(
        vision_config=TOWER | {"image_size": 56}, text_config=T.MistralConfig(vocab_size=len(tokenizer), **WIDE),
        perceiver_config={"hidden_size": 48, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
                          "resampler_head_dim": 24, "num_key_value_heads": 1},
        image_token_id=tokenizer.image_token_id,
    )  # fmt: skip
    images = T.Idefics2ImageProcessor(size={"shortest_edge": 28, "longest_edge": 56}, do_image_splitting=False)
    return T.Idefics2ForConditionalGeneration(config), T.Idefics2Processor(
        images, tokenizer, image_seq_len=4, chat_template=chat("<image>")
    )


def mllama():
    tokenizer = words({"image_token": "<|image|>", "own_0": "<|python_tag|>"}, bos=True)
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2,
        "image_size": 56, "patch_size": 14, "vision_output_dim": 64, "intermediate_layers_indices": [0], "max_num_tiles": 4,
    }  # fmt: skip
    text = {"vocab_size": len(tokenizer), **TEXT, "cross_attention_layers": [1]}
    config = T.MllamaConfig(vision_config=vision, text_config=text, image_token_index=tokenizer.image_token_id)
    return T.MllamaForConditionalGeneration(config), T.MllamaProcessor(
        T.MllamaImageProcessor(size=SQUARE), tokenizer, chat_template=chat("<|image|>")
    )


def made(name, **options):
    """A random model of a class and its processor."""
    torch.manual_seed(0)
    model, processor = globals()[name](**options)
    # Defaults would hide faults: positions of nearly zero, and norms that change nothing when applied twice.
    drawn = ("position", "class_embedding", "cls_token", "newline", "mm_input_projection_weight")
    for key, weight in model.named_parameters():
        if any(part in key for part in drawn):
            torch.nn.init.normal_(weight, std=0.3)
        elif "norm" in key and key.endswith("weight"):
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    return model, processor


@cache
def small_family(name):
    """The loaded model of a class, made once a session."""
    return load_mllm(made(name))


def said(text):
    """A part of a message."""
    return {"type": "text", "text": text}


def asked(prompt):
    """The messages of one image and a prompt."""
    return [{"role": "user", "content": [{"type": "image"}, said(prompt)]}]


def ordinary(mllm, messages, images=(), videos=(), fps=2, **options):
    """What the class's own processor makes of messages, and of their images and videos in order, of which all frames are seen."""
    processor, given = mllm.processor, options
    if images:
        given["images"] = [[Image.fromarray(image) for image in images]]
    if videos:
        counts = [len(frames) for frames in videos]
        about = [{"total_num_frames": many, "fps": fps, "frames_indices": list(range(many))} for many in counts]
        given["videos"] = [[Image.fromarray(frame) for frame in frames] for frames in videos]
        given["videos_kwargs"] = {"do_sample_frames": False, "return_metadata": True, "video_metadata": about}
    parts = [[said(each["content"])] if isinstance(each["content"], str) else each["content"] for each in messages]
    text = "".join(part.get("text", "<image>") for part in parts[0])
    if processor.chat_template is not None:
        messages = [each | {"content": own} for each, own in zip(messages, parts, strict=True)]
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
    adds = not text.startswith(processor.tokenizer.bos_token)
    own = processor(text=[text], return_tensors="pt", add_special_tokens=adds, **given)
    return {name: values for name, values in own.items() if name not in ("labels", "video_metadata")}


@torch.no_grad()
def assert_as_the_plain_model(mllm, view, own):
    """Ids, logits and greedy answer, which is returned, are those of the class's own forward, of what its own processor made
    (``own``)."""
    assert torch.equal(view.ids, own["input_ids"][0])
    options = {"max_new_tokens": 4, "suppress_tokens": mllm.family.unwritable}
    steps = mllm.model.generate(**own, **options, output_logits=True, return_dict_in_generate=True)
    answer, written = generate(mllm, [view], 4)[0], steps.sequences[0, len(view.ids) :].tolist()
    assert answer == [token for token in written if token != mllm.tokenizer.eos_token_id]
    states = teacher_forced(mllm, [view], [answer or mllm.tokenizer("now", add_special_tokens=False).input_ids])
    ours = mllm.logits(states.at(states.of_answers(states.emitting)))[0, : len(answer)]
    # token by token Qwen3.5's layers without attention add up in another order
    torch.testing.assert_close(ours, torch.cat(steps.logits)[: len(answer)], atol=1e-3, rtol=1e-4)
    plain = mllm.model(**own).logits[0]
    torch.testing.assert_close(mllm.logits(states.hidden[0, : len(view.ids)]), plain, atol=2e-4, rtol=1e-4)
    return answer
