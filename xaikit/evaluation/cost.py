"""What an explanation costs: time, memory, and how many forward passes take as long."""

import os
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import xarray as xr

from ..clip.model import Clip
from ..explainers.explanation import explain
from ..explainers.registry import check_tower, find
from ..files.checks import check_whole
from ..files.schema import LOWER
from ..files.store import annotate
from .metrics import score_variable

SOME_WEIGHTS = 2**21  # whose shuffling is timed


def cost(
    method: str,
    clip: Clip,
    scenes: xr.Dataset,
    of: str = "image",
    batch_size: int = 64,
    repeats: int = 3,
    **options,
) -> xr.Dataset:
    """Measure one method on scenes, preprocessing left out.

    method, options : as in ``explain``. scenes : with ``image`` and ``caption``. repeats : runs after a first one that
    doesn't count; the fastest counts.

    Returns a dataset of the ``evaluation`` schema (explainer): ``seconds`` a sample; ``forward_passes``, these seconds
    over those that the explained tower takes to encode a sample, in batches of the same size, measured in turn with
    them; and ``peak_memory`` in bytes a sample of a batch, the most that is allocated at once beyond what was there
    before: on CUDA by the allocator's own count, on a CPU by the profiler's record of every allocation and release of a
    tensor. Raises as ``explain``, and ValueError for repeats below 1.
    """
    check_tower(find(method, of, options), clip, of)
    check_whole(1, repeats=repeats)
    images, texts = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    encode, inputs = (clip.encode_image, images) if of == "image" else (clip.encode_text, texts.to(clip.device))

    def explained() -> None:
        explain(method, clip, images, texts, of, batch_size, **options)

    @torch.no_grad()
    def forward() -> None:
        for part in inputs.split(batch_size):
            encode(part)

    forward()  # which makes a device's own buffers, that no method needs
    memory = peak_memory(explained, clip.device) / min(batch_size, len(images))  # the run that isn't timed
    taken = np.array([[_seconds(run, clip.device) for run in (explained, forward)] for _ in range(repeats)]).min(0)
    out = xr.Dataset(coords={"explainer": [method]})
    for name, value, meaning, units in (
        ("seconds", taken[0] / len(images), "time to explain one sample", "second"),
        ("forward_passes", taken[0] / taken[1], "forward passes of the tower that take as long", "1"),
        ("peak_memory", memory, "most memory allocated at once, a sample", "byte"),
    ):
        out[name] = score_variable(["explainer"], [float(value)], meaning, LOWER, units)
    parameters = {"method": method, "of": of, "batch_size": batch_size, "device": str(clip.device)}
    return annotate(out, "evaluation", clip, parameters=parameters)


def say_estimate(clip: Clip, pictures: float, texts: float = 0, shuffles: float = 0) -> None:
    """Say before a long computation how long it takes: so many pictures and texts, at what this machine now takes to encode one.

    pictures, texts : encoded in batches, texts with their whole context; a pass whose gradients are taken counts three times, one
    through some of the blocks, or of a short prompt, in part. shuffles : of all weights, as ``resonance.shuffled_weights`` makes
    them. What is drawn and shown comes on top. It goes to stderr, as progress does: it differs from run to run.

    Examples
    --------
    >>> say_estimate(xk.load_clip("tiny-clip"), 1000, texts=100)
    """
    batch = torch.zeros(8, 3, *clip.image_size, dtype=clip.dtype, device=clip.device)
    words = torch.ones(8, clip.context_length, dtype=torch.long, device=clip.device)
    with torch.no_grad():
        picture, text = (
            min(_seconds(lambda encode=encode, inputs=inputs: encode(inputs), clip.device) for _ in range(3))
            / len(inputs)
            for encode, inputs in ((clip.encode_image, batch), (clip.encode_text, words))
        )
    shuffle = 0.0
    if shuffles:
        some, weights = torch.zeros(SOME_WEIGHTS), sum(weight.numel() for weight in clip.model.parameters())
        of_some = _seconds(lambda: some[torch.randperm(SOME_WEIGHTS)], torch.device("cpu"))
        shuffle = of_some * weights / SOME_WEIGHTS
    minutes = (pictures * picture + texts * text + shuffles * shuffle) / 60
    time_text = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{60 * minutes:.0f} seconds"
    costs = (pictures, "pictures", picture), (texts, "texts", text), (shuffles, "shuffles of all weights", shuffle)
    counted = [f"{count:,.0f} {name} at {1000 * each:.1f} ms" for count, name, each in costs if count]
    print(f"About {time_text}: {', '.join(counted)}", file=sys.stderr)


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(run: Callable[[], None], device: torch.device) -> int:
    """The most bytes of tensors allocated at once while ``run()`` runs, beyond what was there before."""
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would write its own doings to the screen
    with torch.autograd.profiler.profile(profile_memory=True) as profiled:
        run()
    events = [e for e in profiled.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(0, int(np.cumsum([event.nbytes() for event in events]).max(initial=0)))
