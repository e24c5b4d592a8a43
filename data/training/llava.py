"""How the bundled multimodal LLM was trained: to describe planted scenes, and to answer questions about two objects.

Real ones come from language models that were trained on text. That is why their output weights can read states of
image tokens at all, though no loss ever asks them to. To come near it with scenes alone, the input embeddings are the
output weights too, as in small checkpoints of Qwen2-VL, and the loss is on all text, the prompts included. Without
both, at the last layer of a model trained as long, the lens of a shape word peaked on its object in 2 % of all cases,
less than by chance (measured).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor
from tqdm import tqdm
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from xaikit.clip.loading import load_clip
from xaikit.samples.assembly import describable
from xaikit.samples.captions import VOCABULARY
from xaikit.samples.scenes import MOST_DESCRIBED
from xaikit.samples.worlds.shapes import IMAGE_SIZE, render

from .batches import to_pixels
from .bundled import MODEL_CONFIG, PATCH, PREPROCESS_CONFIG
from .statements import descriptions, question

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
IGNORED = -100  # label of positions that aren't learnt


@dataclass(frozen=True)
class CaptioningRecipe:
    """Every choice of the training."""

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 2e-3
    tower_learning_rate: float = 7e-4
    weight_decay: float = 0.05
    shares: tuple[float, ...] = (0.1, 0.55, 0.175, 0.175)  # of scenes with one, two, three and four objects
    questions: float = 0.25  # share of the scenes of two objects that come with a question about one of them
    similar: float = 0.5
    rescaled: float = 0.35  # share of the steps with a larger or smaller image, by one of the factors below
    factors: tuple[float, ...] = (0.75, 1.25, 1.5, 2.0)
    seed: int = 0
    threads: int = 1
    report_every: int = 50


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


def save_llava(
    model: LlavaForConditionalGeneration, log: pd.DataFrame, recipe: CaptioningRecipe, folder: str | Path
) -> None:
    """Write a transformers folder: configuration, weights, processor, and beside them the training log and recipe."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config.do_sample = False
    model.generation_config.max_new_tokens = 64
    model.to(torch.float32).save_pretrained(folder)
    llava_processor().save_pretrained(folder)
    log.round(4).to_csv(folder / "training_log.csv", index=False)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")


@dataclass
class CaptioningBatch:
    """Images with conversations, padded at the end; labels are ``IGNORED`` before the text and in the padding."""

    pixels: Tensor  # (n, 3, H, W)
    ids: Tensor  # (n, length)
    labels: Tensor  # (n, length)
    is_answer: Tensor  # (n, length) bool


def conversation(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str, cells: int) -> tuple[list[int], int]:
    """Ids of the whole conversation with its image tokens, and where the answer starts."""
    asked = tokenizer("<s><user>" + "<image>" * cells + prompt + "<assistant>", add_special_tokens=False).input_ids
    told = tokenizer(answer + "</s>", add_special_tokens=False).input_ids
    return asked + told, len(asked)


def draw_conversations(
    rng: np.random.Generator, recipe: CaptioningRecipe, tokenizer: PreTrainedTokenizerFast, factor: float = 1.0
) -> CaptioningBatch:
    """Draw a step's scenes, prompts and answers. factor: how much larger the images are made, and the fewer they are."""
    n = round(recipe.batch_size / max(1.0, factor) ** 2)
    layout, relation = describable(rng, n, (1, MOST_DESCRIBED), recipe.similar, np.array(recipe.shares))
    image, _, _ = render(layout, rng, np.zeros(n, bool))
    answers = descriptions(layout, relation)
    prompts = list(rng.choice(REQUESTS, n))
    asked = np.flatnonzero((layout.exists.sum(1) == 2) & (rng.random(n) < recipe.questions))
    for row, said, told in zip(
        asked, *question(layout.rows(asked), relation[asked], rng.integers(0, 2, len(asked))), strict=True
    ):
        prompts[row], answers[row] = said, told
    pixels, side = to_pixels(image), round(IMAGE_SIZE * factor)
    cells, image_token = (side // PATCH) ** 2, tokenizer.convert_tokens_to_ids("<image>")
    if factor != 1:
        pixels = F.interpolate(pixels, (side, side), mode="bicubic", align_corners=False)
    rows = [conversation(tokenizer, p, a, cells) for p, a in zip(prompts, answers, strict=True)]
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((n, length), tokenizer.pad_token_id)
    labels = torch.full((n, length), IGNORED)
    is_answer = torch.zeros(n, length, dtype=torch.bool)
    for row, (conversed, start) in enumerate(rows):
        ids[row, : len(conversed)] = torch.tensor(conversed)
        text = conversed.index(image_token) + cells
        labels[row, text : len(conversed)] = ids[row, text : len(conversed)]
        is_answer[row, start : len(conversed)] = True
    return CaptioningBatch(pixels, ids, labels, is_answer)


def logits_of(model: LlavaForConditionalGeneration, batch: CaptioningBatch, pad: int) -> Tensor:
    """Logits (n, length, vocabulary) of one pass over whole conversations."""
    features = model.model.get_image_features(batch.pixels, interpolate_pos_encoding=True, return_dict=True)
    return model(
        input_ids=batch.ids, attention_mask=(batch.ids != pad).long(), mm_encoder_outputs={"image": features}
    ).logits


def train_llava(
    recipe: CaptioningRecipe, clip, progress: bool = True
) -> tuple[LlavaForConditionalGeneration, pd.DataFrame]:
    """Train the bundled architecture, its vision tower started from that of ``clip`` (an open_clip model of the bundled
    architecture). Returns the model and its log, a row a report. On one core the default takes about half an hour."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    rng = np.random.default_rng(recipe.seed)
    tokenizer = llava_tokenizer()
    model = new_llava().train()
    start_from_clip(model, clip)
    tower = {id(p) for p in model.model.vision_tower.parameters()}
    groups = []
    for own, rate in ((False, recipe.learning_rate), (True, recipe.tower_learning_rate)):
        of_it = [p for p in model.parameters() if (id(p) in tower) == own]
        for matrix, decay in ((True, recipe.weight_decay), (False, 0.0)):
            groups.append({"params": [p for p in of_it if (p.ndim > 1) == matrix], "lr": rate, "weight_decay": decay})
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in groups], total_steps=recipe.steps, pct_start=0.1
    )
    log, running = [], []
    for step in tqdm(range(1, recipe.steps + 1), disable=not progress):
        factor = rng.choice(recipe.factors) if rng.random() < recipe.rescaled else 1.0
        batch = draw_conversations(rng, recipe, tokenizer, factor)
        logits = logits_of(model, batch, tokenizer.pad_token_id)[:, :-1]
        target = batch.labels[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        told = batch.is_answer[:, 1:]
        right = (logits.argmax(-1) == target) | ~told
        running.append(
            [loss.item(), (right & told).sum().item() / told.sum().item(), right.all(1).double().mean().item()]
        )
        if step % recipe.report_every == 0 or step == recipe.steps:
            means = dict(zip(("loss", "token_accuracy", "answers_exact"), np.mean(running, 0), strict=True))
            running = []
            log.append({"step": step, **means})
            if progress:
                tqdm.write(" ".join(f"{name}={value:.4g}" for name, value in log[-1].items()))
    return model.eval().requires_grad_(False), pd.DataFrame(log)


def retrain_llava(folder: str | Path, progress: bool = True, recipe: CaptioningRecipe | None = None) -> None:
    """Train the bundled multimodal LLM again, from tiny-clip's vision tower, and save it."""
    recipe = recipe or CaptioningRecipe()
    model, log = train_llava(recipe, load_clip("tiny-clip").model, progress)
    save_llava(model, log, recipe, folder)
