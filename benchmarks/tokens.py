"""What explaining a multimodal LLM's answers costs, as ratios to the bare model's own passes, on one thread.

    python benchmarks/tokens.py [--model tiny-llava] [--n 16] [--rounds 7]

An explanation is compared with what can't be left out: the bare transformers model writes the answers, and passes once over
image, prompt and answer at each scale, all from inputs that are ready. Each round times every task once, in turn; a
ratio is the median over rounds of the round's own ratio. Takes LLaVA models, whose bare passes are written out here.
Then the memory that a large model would take, from its shapes.
"""

import argparse
from collections.abc import Callable

import torch
from cost import compare

from xaikit.mllm.conversations import generate
from xaikit.mllm.explanation import explain_tokens
from xaikit.mllm.loading import load_mllm
from xaikit.mllm.memory import Sizes, samples_at_once
from xaikit.mllm.model import Mllm
from xaikit.mllm.steps import PRESETS
from xaikit.mllm.view import View
from xaikit.samples.scenes import draw_descriptions

SCALES = PRESETS["msea+arc"].scales
PASSES = [f"pass at scale {scale:g}" for scale in SCALES]
# An explanation, what its time is divided by, and what the ratio should be.
RATIOS = [
    ("msea+arc", ["generation", *PASSES], "at most 1.1"),
    ("arc", ["generation", PASSES[0]], ""),
    ("tam", ["generation", PASSES[0]], ""),
    ("preprocessing", ["msea+arc"], "of the whole"),
]
PROMPT = "describe the picture"
# Qwen2.5-VL-7B in half precision, an image of 1000 x 1000 pixels at these scales, 40 tokens of chat and 100 of answer.
LARGE, WEIGHTS = Sizes(28, 3584, 18944, 28, 512, 152064, 2), 16.6e9
TOKENS = [cells + 40 + 100 for cells in (1296, 2916, 5184)]
ALL = ("rows", "matrices", "graph")
KEPT = {
    "lens family": (("nothing",), TOKENS),
    "attention": (("rows",), TOKENS[:1]),
    "rollout": (("matrices",), TOKENS[:1]),
}
KEPT |= {"gradients": (("graph",), TOKENS[:1]), "all methods": (ALL, [TOKENS[0], *TOKENS])}
KEPT |= {"all methods at all scales": (ALL, [TOKENS[-1], *TOKENS])}


def main() -> None:
    """Print the times and the ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="tiny-llava")
    options.add_argument("--n", type=int, default=16, help="images, all in one batch")
    options.add_argument("--rounds", type=int, default=7)
    choice = options.parse_args()
    torch.set_num_threads(1)
    print(f"{choice.model}, {choice.n} images, one thread, median of {choice.rounds} rounds")
    compare(make_tasks(load_mllm(choice.model), choice.n), choice.rounds, RATIOS)
    for name, (keeps, tokens) in KEPT.items():
        many = samples_at_once(LARGE, tokens, 100, keeps, most=16, memory=None)
        taken = (WEIGHTS + many * LARGE.of_sample(tokens, 100, keeps, many) + LARGE.of_logits) / 1e9
        wanted = "at most 20" if name == "lens family" else "at most 24"
        print(f"Qwen2.5-VL-7B, {name}, 16 samples asked for, {many} at once: {taken:.1f} GB, computed; {wanted}")


def make_tasks(mllm: Mllm, n: int) -> dict[str, Callable]:
    """What is timed, by name."""
    images = list(draw_descriptions(n, seed=0).image.values)
    scales = at_scales(mllm, images)
    answers = generate(mllm, scales[0], batch_size=n)

    def explain(method: str) -> Callable:
        return lambda: explain_tokens(mllm, images, PROMPT, method, batch_size=n)

    return {
        "generation": generation(mllm, scales[0]),
        **{name: one_pass(mllm, views, answers) for name, views in zip(PASSES, scales, strict=True)},
        "preprocessing": lambda: at_scales(mllm, images),
        **{name: explain(name) for name in ("msea+arc", "arc", "tam")},
    }


def at_scales(mllm: Mllm, images: list) -> list[list[View]]:
    """The views of all images at each scale."""
    return [[mllm.family.view(image, PROMPT, scale) for image in images] for scale in SCALES]


def generation(mllm: Mllm, views: list[View]) -> Callable:
    """The bare model writes its answers."""
    ids, pixels = torch.stack([view.ids for view in views]), _pixels(views)

    @torch.no_grad()
    def run() -> None:
        mllm.model.generate(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids), max_new_tokens=64)

    return run


def one_pass(mllm: Mllm, views: list[View], answers: list[list[int]]) -> Callable:
    """The bare model, vision tower and decoder, passes over image, prompt and answer, without logits."""
    pixels = _pixels(views)
    rows = [torch.cat([view.ids, torch.tensor(answer)]) for view, answer in zip(views, answers, strict=True)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, True, padding_value=mllm.tokenizer.pad_token_id)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], True)
    resized = {"interpolate_pos_encoding": True} if views[0].scale != 1 else {}
    bare = mllm.model.model

    @torch.no_grad()
    def run() -> None:
        features = bare.get_image_features(pixels, return_dict=True, **resized)
        bare(input_ids=ids, attention_mask=mask, mm_encoder_outputs={"image": features}, use_cache=False)

    return run


def _pixels(views: list[View]) -> torch.Tensor:
    return torch.cat([view.vision["pixel_values"][0] for view in views])


if __name__ == "__main__":
    main()
