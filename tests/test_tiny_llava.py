"""What the bundled multimodal LLM can do on scenes that it has never seen, writing by itself."""

import pytest
from small_mllms import tiny_llava

import xaikit as xk
from xaikit.mllm.conversations import generate


def _exact(scenes, prompt: str, scale: float = 1.0) -> float:
    """Share of scenes whose answer is the caption to the last word."""
    mllm = tiny_llava()
    views = [mllm.family.view(image, prompt, scale) for image in scenes.image.values]
    answers = [mllm.tokenizer.decode(ids) for ids in generate(mllm, views, batch_size=64)]
    return sum(a == b for a, b in zip(answers, scenes.caption.values, strict=True)) / len(answers)


@pytest.mark.parametrize(
    ("objects", "n", "least"), [((1, 1), 48, 0.99), ((2, 2), 192, 0.99), ((3, 3), 96, 0.9), ((4, 4), 96, 0.9)]
)
def test_it_describes_fresh_scenes_exactly(objects, n, least):
    assert _exact(xk.draw_descriptions(n, seed=2_000_000, objects=objects), "describe the picture") >= least


def test_it_reads_other_input_scales():
    scenes = xk.draw_descriptions(64, seed=2_000_001)
    for scale in (0.75, 1.5, 2.0):
        assert _exact(scenes, "what do you see in the image", scale) >= 0.9, scale
