"""Explain planted scenes and measure the maps at once, so that no more maps are held than a batch has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from ..clip.pairs import as_sequence, one_each
from ..files.store import annotate
from ..measures.planted_tokens import context_auroc, planted_word_scores, word_classes
from ..measures.words import name_tokens
from ..mllm.explanation import TOKEN_METHODS, explain_all_tokens
from ..mllm.model import Mllm
from ..samples.captions import PADDING
from .token_faithfulness import reduce_to_grid, token_curve_areas, token_deletion_insertion

SCENES_AT_ONCE = 32  # bounds the memory


def measure_tokens(
    mllm: Mllm,
    scenes: xr.Dataset,
    methods: Sequence[str] | Mapping[str, Any] = TOKEN_METHODS,
    prompts: str | Sequence[str] = "describe the picture",
    batch_size: int = 16,
    progress: bool = False,
    max_new_tokens: int = 64,
    errors: str = "raise",
    grid: tuple[int, int] | None = None,
) -> xr.Dataset:
    """Word by word, how well maps of the model's answers lie on the objects that the words name.

    scenes : of the ``inputs`` schema. the rest as in ``explain_all_tokens``; scenes that it can't explain, with
    errors="record", are NaN. Maps of different methods can be compared only on the same ``grid``.

    Returns the measures of ``planted_word_scores`` (sample, explainer, token), with ``token_text`` as a coordinate;
    ``exact`` (sample), whether the answer is the caption; and ``context_auroc`` (sample, explainer), how well rank overlap
    tells contexts on a word's own object from others, and ``context_auroc_across``, the same among words of different
    classes (size, colour, shape); NaN for methods that don't compare rankings.

    Examples
    --------
    >>> import xaikit as xk
    >>> scenes = xk.draw_descriptions(2, seed=1)
    >>> xk.evaluation.measure_tokens(xk.load_mllm(), scenes, ["lens"]).exact.values.tolist()
    [True, True]
    """
    n = scenes.sizes["sample"]
    prompts = one_each(prompts, n, "prompt")
    choices = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "errors": errors, "grid": grid}
    parts = []
    for start in tqdm(range(0, n, SCENES_AT_ONCE), disable=not progress, desc="scenes"):
        some = slice(start, start + SCENES_AT_ONCE)
        part = scenes.isel(sample=some)
        parts.append(_measured(part, explain_all_tokens(mllm, part.image, prompts[some], methods, **choices)))
    longest = max(part.sizes["token"] for part in parts)
    return xr.concat([_padded(part, longest) for part in parts], "sample", combine_attrs="override")


def measured_words(answers: xr.Dataset, scenes: xr.Dataset) -> xr.Dataset:
    """``planted_word_scores`` of the maps that ``explain_tokens`` or ``explain_all_tokens`` gave for these scenes.

    Examples
    --------
    >>> import xaikit as xk
    >>> scenes = xk.draw_descriptions(2, seed=1)
    >>> answers = xk.explain_tokens(xk.load_mllm(), scenes.image, method="attention")
    >>> xk.evaluation.measured_words(answers, scenes).own_iou.dims
    ('sample', 'explainer', 'token')
    """
    answers = _by_explainer(answers)
    named = name_tokens(answers.answer_text.values, scenes)
    words = planted_word_scores(
        answers.token_heat.values, named.token_object.values, named.token_kind.values, scenes.object_mask.values,
        answers.region.values, answers.explainer.values.tolist(),
    )  # fmt: skip
    return words.assign_coords(
        sample=answers.sample,
        token_text=(("sample", "token"), np.char.strip(answers.answer_text.values.astype(str))),
        token_object=(("sample", "token"), named.token_object.values),
    )


def measure_faithfulness(
    mllm: Mllm,
    images,
    answers: xr.Dataset,
    words: np.ndarray | None = None,
    steps: int = 8,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Whether the model needs the cells that maps call hot: ``token_curve_areas`` (sample, explainer) of the answers that
    ``explain_tokens`` or ``explain_all_tokens`` gave for these images.

    words : (n, answer tokens) bool, the tokens to measure, None for all. Finer maps are brought to the model's own grid by
    area. Samples that couldn't be explained are NaN. The rest as in ``token_deletion_insertion``.

    Examples
    --------
    >>> import xaikit as xk
    >>> mllm, image = xk.load_mllm(), xk.draw_descriptions(1, seed=1).image
    >>> answers = xk.explain_tokens(mllm, image, method="attention")
    >>> list(xk.evaluation.measure_faithfulness(mllm, image, answers, steps=2))
    ['token_deletion_auc', 'token_insertion_auc', 'insertion_minus_deletion']
    """
    answers = _by_explainer(answers)
    real = answers.answer_id.values >= 0
    words = real if words is None else np.asarray(words)
    images = as_sequence(images)
    if len(images) != len(real):
        raise ValueError(f"{len(images)} images but {len(real)} answers: give the images that were explained")
    good = np.flatnonzero(real.any(1))  # what couldn't be explained has no answer
    views = {i: mllm.family.view(images[i], str(answers.prompt.values[i])) for i in good}
    deletion, insertion = np.full((2, *answers.token_heat.shape[:3], steps + 1), np.nan, np.float32)
    for grid in dict.fromkeys(view.grid for view in views.values()):
        index = [i for i, view in views.items() if view.grid == grid]
        rows, cols = answers.grid.values[index[0]]
        heat = reduce_to_grid(answers.token_heat.values[index, ..., :rows, :cols], grid)
        chosen = [views[i] for i in index]
        ids = [answers.answer_id.values[i][real[i]].tolist() for i in index]
        fraction, deletion[index], insertion[index] = token_deletion_insertion(
            mllm, chosen, ids, heat, words[index], steps, batch_size, seed, progress
        )
    areas = token_curve_areas(fraction, deletion, insertion, answers.explainer.values.tolist())
    return annotate(areas.assign_coords(sample=answers.sample), "evaluation")


def _measured(scenes: xr.Dataset, answers: xr.Dataset) -> xr.Dataset:
    words = measured_words(answers, scenes)
    exact = {"long_name": "whether the answer is the caption", "units": "1"}
    words["exact"] = "sample", answers.answer.values == scenes.caption.values, exact
    about = {"units": "1", "score_direction": "higher is better"}
    meaning = "AUROC of rank overlap, contexts on the word's own object against others"
    overlap, classes = _among_words(answers), word_classes(words.token_text.values)
    for name, known, ending in (("", None, ""), ("_across", classes, ", words of two classes")):
        found = np.full(overlap.shape[:2], np.nan)
        for index in np.flatnonzero(np.isfinite(overlap).any((0, 2, 3))):  # the others don't compare rankings
            found[:, index] = context_auroc(overlap[:, index], words.token_object.values, known)
        words[f"context_auroc{name}"] = ("sample", "explainer"), found, about | {"long_name": meaning + ending}
    return words


def _among_words(answers: xr.Dataset) -> np.ndarray:
    """The rank overlap of an answer's tokens with one another, (sample, explainer, token, token)."""
    written = (answers.answer_id.values >= 0).sum(1)
    prompt = (answers.context_text.values != "").sum(1) - written
    place = prompt[:, None] + np.arange(answers.sizes["answer_token"])
    place = np.minimum(place, answers.sizes["context_token"] - 1)
    return np.take_along_axis(answers.rank_overlap.values, place[:, None, None], 3)


def _by_explainer(answers: xr.Dataset) -> xr.Dataset:
    """With an explainer where there was none."""
    if "explainer" in answers.token_heat.dims:
        return answers
    label = [answers.token_heat.attrs["explainer"]]
    names = ("token_heat", "rank_overlap")
    return answers.assign({name: answers[name].expand_dims({"explainer": label}, 1) for name in names})


def _padded(words: xr.Dataset, longest: int) -> xr.Dataset:
    missing = {"token": (0, longest - words.sizes["token"])}
    fill = {"token_text": "", "kind": "", "token_object": PADDING}
    coords = {name: words[name].pad(missing, constant_values=value) for name, value in fill.items()}
    return words.drop_vars(list(coords)).pad(missing).assign_coords(coords)
