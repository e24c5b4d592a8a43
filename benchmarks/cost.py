"""What explaining costs, as ratios measured side by side in one run on one thread.

    python benchmarks/cost.py [--model tiny-clip] [--n 64] [--rounds 15]

Each round times every task once, in turn, so that a slow moment of the machine touches all of them; the
ratio is the median over rounds of the round's own ratio.
"""

import argparse
import statistics
import time

import torch

import xaikit as xk
from xaikit.metrics.faithfulness import deletion_insertion


def main() -> None:
    """Print the ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="tiny-clip")
    options.add_argument("--n", type=int, default=64)
    options.add_argument("--rounds", type=int, default=15)
    choice = options.parse_args()
    torch.set_num_threads(1)
    clip = xk.load_clip(choice.model)
    scenes = xk.draw_scenes(choice.n, seed=0)
    pixels, tokens = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    heat = xk.explain("grad_eclip", clip, pixels, tokens).values[:, None]
    steps, batch = 16, 256
    perturbed = pixels.repeat(2 * (steps - 1) + 2, 1, 1, 1)  # as many images as deletion and insertion score

    @torch.no_grad()
    def encode(images):
        for part in images.split(batch):
            clip.encode_image(part)

    tasks = {
        "encode_image": lambda: encode(pixels),
        "grad_eclip": lambda: xk.explain("grad_eclip", clip, pixels, tokens),
        "mmel": lambda: xk.explain("mmel", clip, pixels, tokens),
        "grad_eclip, all blocks": lambda: xk.explain("grad_eclip", clip, pixels, tokens, blocks=None),
        "encode perturbed": lambda: encode(perturbed),
        "deletion and insertion": lambda: deletion_insertion(clip, heat, pixels, tokens, steps, batch_size=batch),
    }
    ratios = [
        ("grad_eclip", "encode_image", "at most 2.0"),
        ("mmel", "grad_eclip", "at most 1.15"),
        ("grad_eclip, all blocks", "encode_image", ""),
        ("deletion and insertion", "encode perturbed", "at most 1.15"),
    ]
    for task in tasks.values():
        task()
    rounds = [{name: _seconds(task) for name, task in tasks.items()} for _ in range(choice.rounds)]
    print(f"{choice.model}, {choice.n} images, one thread, median of {choice.rounds} rounds")
    for name in tasks:
        print(f"{name:24} {1000 * statistics.median(r[name] for r in rounds):9.1f} ms")
    for name, reference, wanted in ratios:
        values = sorted(r[name] / r[reference] for r in rounds)
        print(f"{name} / {reference}: {statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f}) {wanted}")


def _seconds(task) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
