"""What a multimodal LLM's answer owes to each object of a planted scene, as ``interventions`` has it of a CLIP."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from ..clip.pairs import labels_of, one_each
from ..files.checks import check_whole
from ..files.store import annotate
from ..mllm.conversations import answer_ids, generate
from ..mllm.model import Mllm
from ..mllm.passes import log_probabilities, teacher_forced
from ..samples.interventions import layout_of
from .interventions import effects_of


@torch.no_grad()
def answer_effects(
    mllm: Mllm,
    scenes: xr.Dataset,
    answers: str | Sequence[str] | None = None,
    prompts: str | Sequence[str] = "describe the picture",
    draws: int = 4,
    seed: int = 0,
    batch_size: int = 16,
    max_new_tokens: int = 64,
    progress: bool = False,
) -> xr.Dataset:
    """How much each object supports an answer: by how much its log-probability falls when the scene is drawn again without it.

    scenes : planted scenes. answers : one for all or one a scene, such as ``scenes.caption``; None for those that the model
    writes about the scenes as they are, of at most ``max_new_tokens`` tokens. prompts : one for all or one a scene. the rest
    as in ``object_effects``.

    Returns a dataset of the ``answer_effects`` schema: ``answer``, and ``score``, ``absent``, ``replaced`` and ``mark`` as in
    ``object_effects``, in nat, of the sum over the answer's tokens. Raises ValueError for scenes that aren't planted, and for
    prompts and answers that the model can't take, an empty one among them.

    Examples
    --------
    >>> described = xk.draw_descriptions(1, seed=1)
    >>> found = xk.evaluation.answer_effects(xk.load_mllm(), described)
    >>> found.answer.item(), found.absent.values[0].round(1).tolist()
    ('a large red ring is left of a large purple diamond', [28.9, 26.4])
    """
    check_whole(1, batch_size=batch_size)
    check_whole(0, draws=draws, seed=seed)
    layout_of(scenes)
    n = scenes.sizes["sample"]
    prompts = one_each(prompts, n, "prompt", labels_of(scenes.image))

    def views(images, rows):
        return [mllm.family.view(image, prompts[row]) for image, row in zip(images, rows, strict=True)]

    if answers is None:
        ids = generate(mllm, views(scenes.image.values, range(n)), max_new_tokens, batch_size)
    else:
        ids = [answer_ids(mllm, text) for text in one_each(answers, n, "answer", labels_of(scenes.image))]
    if empty := [str(scenes.sample.values[row]) for row in range(n) if not ids[row]]:
        raise ValueError(f"the model ends its answer to scene {empty[0]} before the first word: give answers")

    def answer(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        states = teacher_forced(mllm, views(images, rows), [ids[row] for row in rows])
        return log_probabilities(mllm, states).sum(1).cpu().numpy()

    out = effects_of(scenes, answer, draws, seed, batch_size, "interventions" if progress else "")
    out["answer"] = "sample", [mllm.tokenizer.decode(each).strip() for each in ids]
    return annotate(out, "answer_effects", mllm, parameters={"draws": draws, "seed": seed})
