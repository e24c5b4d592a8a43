"""How the bundled multimodal LLMs were trained: to describe planted scenes, and to answer questions about two objects.

Real ones come from language models that were trained on text. That is why their output weights can read states of
image tokens at all, though no loss ever asks them to. To come near it with scenes alone, the input embeddings are the
output weights too, as in small checkpoints of Qwen2-VL, and the loss is on all text, the prompts included. Without
both, at the last layer of a model trained as long, the lens of a shape word peaked on its object in 2 % of all cases,
less than by chance (measured).

One model is a positive control of what reads image tokens by the output weights (``lens_weight``): a loss asks that these
name the thing under each token.
"""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
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

from xaikit.clip.loading import load_clip
from xaikit.files.paths import data_folder
from xaikit.samples.assembly import describable
from xaikit.samples.captions import vocabulary
from xaikit.samples.scenes import MOST_DESCRIBED

from .batches import new_optimizer, patch_labels, pictures, to_pixels
from .bundled import MODELS, PREPROCESS_CONFIG, SEEN_STYLES, Architecture, Recipe
from .checkpoints import Interruptible
from .statements import descriptions, question

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<image>", "<user>", "<assistant>")
# Requests for a description, which are all answered alike, and the words of further ones.
REQUESTS = (
    "describe the picture", "describe the photo", "describe the image", "describe this picture", "what is in the picture",
    "what do you see in the image", "name all objects", "list the objects in the photo", "tell me about the picture",
    "please describe all objects in this image", "what is this", "what can you see",
)  # fmt: skip
FURTHER_WORDS = ("where", "which", "there", "are", "scene", "it", "and", "to", "by", "how", "many", ".", "?")
CONTEXT = 1024
GROUND = "picture"  # what the positive control's output weights read from tokens without an object
CHAT_TEMPLATE = (
    "<s>{% for message in messages %}<{{ message['role'] }}>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ ' ' + part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
IGNORED = -100  # label of positions that aren't learnt


@dataclass(frozen=True)
class CaptioningRecipe:
    """Every choice of the training."""

    clip: str = "tiny-clip"  # the bundled CLIP from whose vision tower it starts, and whose world it describes
    start: str | None = None  # the bundled multimodal LLM that is trained on instead, if any
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 2e-3
    tower_learning_rate: float = 7e-4  # 0 leaves the vision tower as it is
    weight_decay: float = 0.05
    lens_weight: float = 0.0  # of the loss that asks the output weights to name the object under each image token
    shares: tuple[float, ...] = (0.1, 0.55, 0.175, 0.175)  # of scenes with one, two, three and four objects
    questions: float = 0.25  # share of the scenes of two objects that come with a question about one of them
    similar: float = 0.5
    rescaled: float = 0.35  # share of the steps with a larger or smaller image, by one of the factors below
    factors: tuple[float, ...] = (0.75, 1.25, 1.5, 2.0)
    styles: tuple[str, ...] | None = None  # of drawing; None for all of the world
    half: bool = False  # whether the weights are stored as float16, as those of some CLIPs are
    seed: int = 0
    threads: int = 1
    report_every: int = 50

    @property
    def architecture(self) -> Architecture:
        return MODELS[self.clip].architecture


ON_THINGS = CaptioningRecipe(
    clip="tiny-clip-things",
    steps=1600,
    tower_learning_rate=0.0,
    factors=(0.75, 1.25, 1.5),
    rescaled=0.2,
    styles=SEEN_STYLES,
)
# The positive controls go on from the models that they stand beside.
CONTROL = {"steps": 400, "learning_rate": 1e-3, "tower_learning_rate": 0.0, "lens_weight": 1.0, "half": True, "seed": 1}
LLAVAS = {
    "tiny-llava": CaptioningRecipe(half=True),
    "tiny-llava-lens": replace(CaptioningRecipe(), start="tiny-llava", **CONTROL),
    "tiny-llava-things": ON_THINGS,
    "tiny-llava-things-lens": replace(ON_THINGS, start="tiny-llava-things", **CONTROL),
}


def llava_tokenizer(world: str = "shapes") -> PreTrainedTokenizerFast:
    """A word-level tokenizer over a world's vocabulary and that of the requests; unknown words become <unk>."""
    spoken = [*vocabulary(world), *(word for request in REQUESTS for word in request.split()), *FURTHER_WORDS]
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


def llava_processor(architecture: Architecture) -> LlavaProcessor:
    """The image processor of the CLIP and the tokenizer together."""
    side = architecture.image_size
    images = CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side},
        image_mean=PREPROCESS_CONFIG["mean"], image_std=PREPROCESS_CONFIG["std"],
    )  # fmt: skip
    return LlavaProcessor(
        images, llava_tokenizer(architecture.world), patch_size=architecture.patch,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, image_token="<image>",
        chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def new_llava(architecture: Architecture) -> LlavaForConditionalGeneration:
    """The bundled model with random weights, its vision tower of this architecture."""
    tokenizer, width = llava_tokenizer(architecture.world), 128
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=architecture.width, intermediate_size=4 * architecture.width,
            num_hidden_layers=architecture.layers, num_attention_heads=architecture.width // 32,
            image_size=architecture.image_size, patch_size=architecture.patch, hidden_act="gelu",
            projection_dim=architecture.embed_dim,
        ),
        text_config=LlamaConfig(
            hidden_size=width, intermediate_size=11 * width // 4, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=4, vocab_size=len(tokenizer), max_position_embeddings=CONTEXT,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=True,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layer=-1,
        vision_feature_select_strategy="default", image_seq_length=architecture.grid**2, tie_word_embeddings=True,
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
    for index in range(len(clip.visual.transformer.resblocks)):
        source, target = f"transformer.resblocks.{index}", f"encoder.layers.{index}"
        layers |= {f"{source}.{old}": f"{target}.{new}" for old, new in parts.items()}
        for kind in ("weight", "bias"):
            joined = ours[f"{source}.attn.in_proj_{kind}"].chunk(3)
            named |= {f"{target}.self_attn.{n}_proj.{kind}": w for n, w in zip("qkv", joined, strict=True)}
    for old, new in layers.items():
        named |= {f"{new}.{kind}": ours[f"{old}.{kind}"] for kind in ("weight", "bias")}
    return named


def start_from_clip(model: LlavaForConditionalGeneration, clip: CLIP) -> None:
    """Give the vision tower the weights of a CLIP of its architecture."""
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
    half = recipe.half or recipe.architecture.half
    model.to(torch.float16 if half else torch.float32).save_pretrained(folder)
    if half:  # in which it is kept, but not computed: CPUs are slow at it
        config = folder / "config.json"
        settings = json.loads(config.read_text())
        for part in (settings, *(each for each in settings.values() if isinstance(each, dict))):
            part |= {name: "float32" for name in ("dtype", "torch_dtype") if name in part}
        config.write_text(json.dumps(settings, indent=2) + "\n")
    llava_processor(recipe.architecture).save_pretrained(folder)
    log.round(4).to_csv(folder / "training_log.csv", index=False)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")


@dataclass
class CaptioningBatch:
    """Images with conversations, padded at the end; labels are ``IGNORED`` before the text and in the padding."""

    pixels: Tensor  # (n, 3, H, W)
    ids: Tensor  # (n, length)
    labels: Tensor  # (n, length)
    is_answer: Tensor  # (n, length) bool
    under: (
        Tensor  # (n, cells) id of the noun's last word under each image token, that of GROUND for none, IGNORED unsure
    )


def conversation(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str, cells: int) -> tuple[list[int], int]:
    """Ids of the whole conversation with its image tokens, and where the answer starts."""
    asked = tokenizer("<s><user>" + "<image>" * cells + prompt + "<assistant>", add_special_tokens=False).input_ids
    told = tokenizer(answer + "</s>", add_special_tokens=False).input_ids
    return asked + told, len(asked)


def draw_conversations(
    rng: np.random.Generator, recipe: CaptioningRecipe, tokenizer: PreTrainedTokenizerFast, factor: float = 1.0
) -> CaptioningBatch:
    """Draw a step's scenes, prompts and answers. factor: how much larger the images are made, and the fewer they are."""
    architecture = recipe.architecture
    drawing = Recipe(styles=recipe.styles).drawing(architecture)
    n = round(recipe.batch_size / max(1.0, factor) ** 2)
    layout, relation = describable(drawing, rng, n, (1, MOST_DESCRIBED), recipe.similar, np.array(recipe.shares))
    image, masks = pictures(rng, drawing, layout, np.zeros(n, bool))
    answers = descriptions(layout, relation, drawing.made)
    prompts = list(rng.choice(REQUESTS, n))
    asked = np.flatnonzero((layout.exists.sum(1) == 2) & (rng.random(n) < recipe.questions))
    about = rng.integers(0, 2, len(asked))
    for row, said, told in zip(asked, *question(layout.rows(asked), relation[asked], about, drawing.made), strict=True):
        prompts[row], answers[row] = said, told
    pixels, side = to_pixels(image), round(architecture.image_size * factor)
    cells, image_token = (side // architecture.patch) ** 2, tokenizer.convert_tokens_to_ids("<image>")
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
    words = [GROUND, *(noun.split()[-1] for noun in drawing.made.nouns)]
    names = torch.tensor([*tokenizer.convert_tokens_to_ids(words), IGNORED])
    # Labels count nouns from 1, 0 is the ground, and -1 reads the last of the names.
    under = names[patch_labels(layout, masks, architecture.patch)[..., 0]]
    return CaptioningBatch(pixels, ids, labels, is_answer, under)


def lens_loss(logits: Tensor, batch: CaptioningBatch, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Cross-entropy of what the output weights read at the image tokens, objects and ground counting alike."""
    image, ground = tokenizer.convert_tokens_to_ids(["<image>", GROUND])
    under = batch.under.flatten()
    loss = F.cross_entropy(logits[batch.ids == image], under, ignore_index=IGNORED, reduction="none")
    return (loss[under == ground].mean() + loss[(under != ground) & (under != IGNORED)].mean()) / 2


def logits_of(model: LlavaForConditionalGeneration, batch: CaptioningBatch, pad: int) -> Tensor:
    """Logits (n, length, vocabulary) of one pass over whole conversations."""
    features = model.model.get_image_features(batch.pixels, interpolate_pos_encoding=True, return_dict=True)
    return model(
        input_ids=batch.ids, attention_mask=(batch.ids != pad).long(), mm_encoder_outputs={"image": features}
    ).logits


class Captioning(Interruptible):
    """A model in training, its vision tower started from that of ``clip`` (an open_clip model of the recipe's architecture)
    unless the recipe goes on from another, and its optimiser."""

    def __init__(self, recipe: CaptioningRecipe, clip: CLIP, progress: bool = True):
        self.stages, self.made, self.progress = (recipe,), asdict(recipe), progress
        torch.manual_seed(recipe.seed)
        self.tokenizer = llava_tokenizer(recipe.architecture.world)
        if recipe.start:
            self.model = LlavaForConditionalGeneration.from_pretrained(data_folder() / recipe.start, dtype="float32")
        else:
            self.model = new_llava(recipe.architecture)
            start_from_clip(self.model, clip)
        self.model.train()
        self.parts = {"model": self.model}
        super().__init__()

    def begin(self, stage: int, step: int = 0) -> None:
        super().begin(stage, step)
        recipe = self.recipe
        torch.set_num_threads(recipe.threads)
        tower = self.model.model.vision_tower.requires_grad_(recipe.tower_learning_rate > 0)
        of_tower = {id(p) for p in tower.parameters()}
        learnt = [p for p in self.model.parameters() if p.requires_grad]
        parts = [
            ([p for p in learnt if (id(p) in of_tower) == own], rate)
            for own, rate in ((False, recipe.learning_rate), (True, recipe.tower_learning_rate))
        ]
        self.optimizer, self.schedule = new_optimizer(parts, recipe.weight_decay, recipe.steps)

    def loss(self) -> tuple[Tensor, dict[str, float]]:
        """Of one step, and how much of the answers is right."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, self.step + 1))
        factor = rng.choice(recipe.factors) if rng.random() < recipe.rescaled else 1.0
        batch = draw_conversations(rng, recipe, self.tokenizer, factor)
        whole = logits_of(self.model, batch, self.tokenizer.pad_token_id)
        logits, target = whole[:, :-1], batch.labels[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED)
        if recipe.lens_weight and factor == 1:
            loss = loss + recipe.lens_weight * lens_loss(whole, batch, self.tokenizer)
        told = batch.is_answer[:, 1:]
        right = (logits.argmax(-1) == target) | ~told
        accuracy, exact = (right & told).sum().item() / told.sum().item(), right.all(1).double().mean().item()
        return loss, {"loss": loss.item(), "token_accuracy": accuracy, "answers_exact": exact}

    def run(self, folder: Path | None = None, every: int = 100) -> tuple[LlavaForConditionalGeneration, pd.DataFrame]:
        """The model, trained to the end, and its log, a row a report; arguments as of ``train``. On one core the default takes
        about half an hour."""
        log = self.train(folder, every)
        return self.model.eval().requires_grad_(False), log


def retrain_llava(name: str, folder: str | Path, progress: bool = True, **changes) -> None:
    """Train a bundled multimodal LLM again, from its CLIP's vision tower, and save it; interrupted, it goes on as
    ``clip.retrain`` does. changes: of its recipe. Raises ValueError for an unknown name, or a checkpoint of another model."""
    if name not in LLAVAS:
        raise ValueError(f"unknown bundled model {name!r}: choose from {', '.join(LLAVAS)}")
    recipe = replace(LLAVAS[name], **changes)
    checkpoint = Path(folder) / "checkpoint"
    model, log = Captioning(recipe, load_clip(recipe.clip).model, progress).run(checkpoint)
    save_llava(model, log, recipe, folder)
    shutil.rmtree(checkpoint, ignore_errors=True)
