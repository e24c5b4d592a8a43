"""What explaining costs, as ratios measured side by side in one run on one thread, and beside reference implementations.

    python benchmarks/cost.py [--model tiny-clip] [--n 64] [--few 4] [--rounds 7] [--only grad_eclip mmel]

Each round times every task once, in turn, so that a slow moment of the machine touches all of them; the
ratio is the median over rounds of the round's own ratio. A method that perturbs is compared with encoding as many
images; one that differentiates with its forward and backward passes alone, as many and as deep; both in batches as large.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import reference
import torch
from torch import Tensor

import xaikit as xk
from xaikit.clip.model import Clip
from xaikit.clip.perturbation import at_once
from xaikit.clip.tape import record
from xaikit.clip.towers import tower
from xaikit.evaluation.faithfulness import deletion_insertion
from xaikit.explainers.m2ib import starting_after
from xaikit.resonance.recursion import Recursion, read, trajectory

# A task, those whose time its own is divided by, and what the ratio should be.
RATIOS = [
    ("grad_eclip", ["encode_image"], "at most 1.3 on ViT-B-32"),
    ("mmel", ["grad_eclip, all blocks"], "at most 1.05 on ViT-B-32"),
    ("attention_eclip", ["grad_eclip"], "claimed: below 1"),
    ("grad_eclip, all blocks", ["encode_image"], "at most 2.2 on ViT-B-32"),
    ("encode for curves", ["deletion and insertion"], "at least 0.95"),
    ("encode for rise", ["rise"], "at least 0.85"),
    ("encode for kernel_shap", ["kernel_shap"], "at least 0.85"),
    ("chefer, all blocks", ["passes of chefer"], "at most 1.1"),
    ("integrated_gradients", ["passes of integrated_gradients"], "at most 1.3"),
    ("m2ib", ["passes of m2ib"], "at most 1.3"),
    ("resonance, none", ["encode_image"], "at most 0.25"),
    ("resonance, attention", ["encode_image"], "at most 0.25"),
    ("resonance, encoder", ["passes of resonance"], "at most 1.1"),
]
STEPS, MASKS, COALITIONS, POINTS, UPDATES, COPIES = 16, 256, 256, 50, 10, 10


def main() -> None:
    """Print the ratios, then the times beside those of reference implementations."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="tiny-clip")
    options.add_argument("--n", type=int, default=64, help="images")
    options.add_argument(
        "--few", type=int, default=4, help="images for methods that encode hundreds of versions of each"
    )
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument(
        "--only",
        nargs="+",
        choices=[name for name, *_ in RATIOS],
        help="ratios by their first names; on a large model all take hours",
    )
    choice = options.parse_args()
    torch.set_num_threads(1)
    print(f"{choice.model}, {choice.n} images or {choice.few}, one thread, median of {choice.rounds} rounds")
    tasks = make_tasks(xk.load_clip(choice.model), choice.n, choice.few)
    ratios = [ratio for ratio in RATIOS if choice.only is None or ratio[0] in choice.only]
    needed = {each for name, divisors, _ in ratios for each in (name, *divisors)}
    compare({name: task for name, task in tasks.items() if name in needed}, choice.rounds, ratios)
    print()
    reference.main()


def compare(tasks: dict[str, Callable], rounds: int, ratios: list[tuple[str, list[str], str]]) -> None:
    """Print how long each task takes, and for a task and others the ratio of its time to theirs beside what it should be."""
    for task in tasks.values():
        task()
    took = [{name: seconds(task) for name, task in tasks.items()} for _ in range(rounds)]
    for name in tasks:
        print(f"{name:32} {1000 * statistics.median(each[name] for each in took):9.1f} ms")
    for name, divisors, wanted in ratios:
        values = sorted(each[name] / sum(each[divisor] for divisor in divisors) for each in took)
        said = f"{name} / ({' + '.join(divisors)})"
        print(f"{said}: {statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f}) {wanted}")


def make_tasks(clip: Clip, n: int, few: int) -> dict[str, Callable]:
    """What is timed, by name."""
    scenes = xk.draw_scenes(n, seed=0, size=clip.image_size[0])
    pixels, tokens = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    spoken, batch = clip.encode_text(tokens), at_once(clip.device)
    some = 4 * few
    heat = xk.explain("grad_eclip", clip, pixels[:some], tokens[:some]).values[:, None]

    def explain(name: str, count: int = n, **options) -> Callable:
        return lambda: xk.explain(name, clip, pixels[:count], tokens[:count], **options)

    def integration_passes() -> None:
        for part in torch.arange(POINTS * few).split(batch):
            to_pixels(clip, pixels[part % few], spoken[part % few])

    resonances = {name: resonance(clip, pixels, tokens, name) for name in ("none", "attention")}
    again = resonance(clip, pixels[:few], tokens[:few], "encoder")
    return {
        "encode_image": lambda: encode(clip, pixels, n, n),
        "grad_eclip": explain("grad_eclip"),
        "attention_eclip": explain("attention_eclip"),
        "mmel": explain("mmel"),
        "grad_eclip, all blocks": explain("grad_eclip", blocks=None),
        "chefer, all blocks": explain("chefer", blocks=None),
        "passes of chefer": lambda: to_first_block(clip, pixels, spoken),
        "encode for curves": lambda: encode(clip, pixels, 2 * STEPS * len(heat), batch),
        "deletion and insertion": lambda: deletion_insertion(
            clip, heat, pixels[:some], tokens[:some], steps=STEPS, batch_size=batch
        ),
        "encode for rise": lambda: encode(clip, pixels, MASKS * few, batch),
        "rise": explain("rise", few, masks=MASKS),
        "encode for kernel_shap": lambda: encode(clip, pixels, (COALITIONS + 2) * few, batch),
        "kernel_shap": explain("kernel_shap", few, samples=COALITIONS),
        "passes of integrated_gradients": integration_passes,
        "integrated_gradients": explain("integrated_gradients", few, steps=POINTS),
        "passes of m2ib": lambda: bottleneck_passes(clip, pixels[:few], spoken[:few], max(1, batch // COPIES)),
        "m2ib": explain("m2ib", few, steps=UPDATES, copies=COPIES),
        "resonance, none": resonances["none"],
        "resonance, attention": resonances["attention"],
        "resonance, encoder": again,
        "passes of resonance": lambda: partial_passes(clip, pixels[:few], tokens[:few]),
    }


@torch.no_grad()
def encode(clip: Clip, pixels: Tensor, count: int, batch: int) -> None:
    """Encode this many images, whichever, in batches."""
    images = pixels[torch.arange(batch) % len(pixels)]
    for start in range(0, count, batch):
        clip.encode_image(images[: count - start])


def to_pixels(clip: Clip, pixels: Tensor, spoken: Tensor) -> None:
    """One forward pass, and one backward pass to the pixels."""
    leaf = pixels.clone().requires_grad_()
    torch.autograd.grad((clip.encode_image(leaf) * spoken).sum(), leaf)


def to_first_block(clip: Clip, pixels: Tensor, spoken: Tensor) -> None:
    """One forward pass, and one backward pass to what goes into the first block."""
    leaves = []

    def cut(module, args: tuple) -> tuple:
        leaves.append(args[0].detach().requires_grad_())
        return (leaves[0], *args[1:])

    handle = tower(clip, "image").blocks[0].register_forward_pre_hook(cut)
    torch.autograd.grad((clip.encode_image(pixels) * spoken).sum(), leaves[0])
    handle.remove()


def bottleneck_passes(clip: Clip, pixels: Tensor, spoken: Tensor, size: int) -> None:
    """One forward pass, then a forward and backward pass an update and copy through the blocks above the bottleneck."""
    block = max(len(tower(clip, "image").blocks) - 3, 0)
    for images, words in zip(pixels.split(size), spoken.split(size), strict=True):
        with record(clip, "image", [block]) as tape:
            clip.encode_image(images)
        images, words, hidden = (x.repeat_interleave(COPIES, 0) for x in (images, words, tape[block].output))
        for _ in range(UPDATES):
            leaf = hidden.clone().requires_grad_()
            with starting_after(clip, "image", block, leaf):
                torch.autograd.grad((clip.encode_image(images) * words).sum(), leaf)


def resonance(clip: Clip, pixels: Tensor, tokens: Tensor, coupling: str) -> Callable:
    """The recursion alone, after the towers have run."""
    recursion = Recursion(coupling)
    with torch.no_grad():
        found = read(clip, pixels, tokens, recursion)

    @torch.no_grad()
    def run() -> None:
        trajectory(clip, found, recursion)

    return run


@torch.no_grad()
def partial_passes(clip: Clip, pixels: Tensor, tokens: Tensor) -> None:
    """The blocks that the recursion runs again, for each word and iteration, on what enters them."""
    recursion = Recursion("encoder")
    entering = read(clip, pixels[:1], tokens[:1], recursion).entering
    copies = int(clip.content(tokens).sum())
    for _ in range(recursion.iterations):
        for part in torch.arange(copies).split(at_once(clip.device)):
            hidden = entering.expand(len(part), -1, -1)
            for block in tower(clip, "image").blocks[recursion.block :]:
                hidden = block(hidden)


def seconds(task: Callable) -> float:
    """Wall time of one run of a task."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
