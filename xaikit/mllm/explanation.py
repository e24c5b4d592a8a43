"""From the batches of explained answers to one dataset of the stage ``mllm``."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from ..files import store
from ..files.checks import check_choices, check_whole
from .attention import HEAD_FUSION, attention_rollout, last_attention
from .controls import random_map
from .conversations import Conversations
from .family import View
from .gradients import TARGETS, grad_cam, gradient_x_input
from .lens import Key, NotFinite, Reading, check_finite, explanation, needed_views, rank_overlap, read
from .model import Mllm
from .steps import PRESETS, SOURCES, Steps, check_grid, steps_of


def gathered(
    mllm: Mllm, talks: Conversations, parts: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
) -> xr.Dataset:
    """The dataset of ``explain_all_tokens`` from its batches: padded, with zeros for samples that none of them holds.

    parameters : the choices of each method, by its name, in the order that the maps have them.
    """
    n = len(talks)
    rows, cols = (max(part["heat"].shape[axis] for part in parts) for axis in (3, 4))
    tokens = max(part["heat"].shape[2] for part in parts)
    context = max(part["relevance"].shape[2] for part in parts)
    heat = np.zeros((n, len(parameters), tokens, rows, cols), np.float32)
    relevance = np.zeros((n, tokens, context), np.float32)
    overlap = np.full((n, len(parameters), tokens, context), np.nan, np.float32)
    likely = np.zeros((n, len(talks.keys), tokens), np.float32)
    grid, region, ended = np.zeros((n, 2), int), np.tile([0.0, 0.0, 1.0, 1.0], (n, 1)), np.zeros(n, bool)
    answers, answer_text = [""] * n, np.full((n, tokens), "", object)
    answer_id = np.full((n, tokens), -1)
    context_text = np.full((n, context), "", object)
    for part in parts:
        at, (_, _, a, r, c), k = part["index"], part["heat"].shape, part["relevance"].shape[2]
        heat[at, :, :a, :r, :c] = part["heat"].numpy()
        relevance[at, :a, :k] = part["relevance"].numpy()
        overlap[at, :, :a, :k] = part["overlap"].numpy()
        likely[at, :, :a] = part["likely"].numpy()
        grid[at], region[at], ended[at] = (r, c), part["region"], part["ended"]
        for sample, ids, seen in zip(at, part["answers"], part["context"], strict=True):
            answers[sample] = mllm.tokenizer.decode(ids).strip()
            answer_text[sample, : len(ids)], answer_id[sample, : len(ids)] = mllm.decode(ids), ids
            context_text[sample, : len(seen)] = mllm.decode(seen)
    found = xr.Dataset(
        {
            "token_heat": (("sample", "explainer", "answer_token", "row", "col"), heat),
            "relevance": (("sample", "answer_token", "context_token"), relevance),
            "rank_overlap": (("sample", "explainer", "answer_token", "context_token"), overlap),
            "log_probability": (("sample", "scale", "answer_token"), likely),
            "prompt": ("sample", np.array(talks.prompts, str)),
            "answer": ("sample", np.array(answers, str)),
            "ended": ("sample", ended),
            "answer_text": (("sample", "answer_token"), answer_text.astype(str)),
            "answer_id": (("sample", "answer_token"), answer_id),
            "context_text": (("sample", "context_token"), context_text.astype(str)),
            "grid": (("sample", "axis"), grid),
            "region": (("sample", "edge"), region),
        },
        coords={
            "sample": talks.labels, "explainer": list(parameters), "axis": ["row", "col"],
            "scale": [scale for scale, _ in talks.keys], "enlargement": ("scale", [way for _, way in talks.keys]),
            "edge": ["top", "left", "bottom", "right"],
        },
    )  # fmt: skip
    if talks.errors == "record":
        found = found.assign_coords(error=("sample", np.array(talks.reasons, str)))
    return store.annotate(found, "mllm", model=mllm.name, parameters=dict(parameters))


__all__ = ["TOKEN_METHODS", "explain_all_tokens", "explain_tokens"]

# Explanations that don't start from the logit lens: maps (n, answer tokens, rows, cols) of views of one scale.
OTHERS: dict[str, Callable[..., Tensor]] = {
    "attention": last_attention,
    "rollout": attention_rollout,
    "gradient_x_input": gradient_x_input,
    "grad_cam": grad_cam,
    "random": random_map,
}
CHOICES = {"head_fusion": HEAD_FUSION, "target": TARGETS, "signed": (True, False)}
TOKEN_METHODS = (*PRESETS, *OTHERS)
Method = Steps | Callable[..., Tensor]


def explain_tokens(
    mllm: Mllm,
    images,
    prompts: str | Sequence[str] = "describe the picture",
    method: str = "msea+arc",
    answer: str | Sequence[str] | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    progress: bool = False,
    errors: str = "raise",
    **options: Any,
) -> xr.Dataset:
    """Explain every token of the answers to images and prompts.

    Parameters
    ----------
    mllm : a model of ``load_mllm``.
    images : n images as uint8 arrays (H, W, 3), PIL images, paths, or an ``image`` DataArray.
    prompts : n prompts, or one for all.
    method : "lens", "tam", "msea", "arc", "msea+arc"; or "attention", "rollout", "gradient_x_input", "grad_cam", "random".
    answer : None for the model's own greedy answers; or one text for all, or n of them, to be explained as if the model
        had written them.
    max_new_tokens : the longest answer that is written.
    batch_size : samples computed at once; bounds the memory and doesn't change the result.
    progress : show a progress bar.
    errors : "raise" stops at the first bad sample; "record" gives it maps of zeros, its reason in the coordinate
        ``error``, and goes on as long as there is a good one.
    **options : of the method; of the first five see ``Steps`` (``scales``, ``weighting``, ``persistence``, ``k``, ``grid``,
        ``tam_compat`` ...).

    Returns
    -------
    Dataset with ``token_heat`` (sample, answer_token, row, col), zero after an answer's end; ``relevance`` and, where the
    method compares rankings, ``rank_overlap`` (sample, answer_token, context_token), the context being the prompt's tokens
    and then the answer's; ``log_probability`` (sample, scale, answer_token), with a scale's ``enlargement``; the
    ``prompt``, the ``answer`` and both's tokens; whether the answer ``ended`` before max_new_tokens; ``grid``
    (sample, axis), the rows and columns that are the sample's own, and ``region`` (sample, edge), the part of the image that
    these cover, as fractions of its height and width (a centre crop is smaller than 0 to 1).

    ``explain_all_tokens`` gives what ``save_store`` takes as the stage "mllm", with the dimension ``explainer``. On the
    bundled model the first five find a word's own object in a quarter of all cases, attention in most (notebook 05).

    Raises ValueError, in one sentence, for an unknown method or option, or one without use; for bad images, prompts,
    answers and scales; and for a model whose numbers aren't finite. FileNotFoundError for a missing image file.
    """
    found = explain_all_tokens(
        mllm, images, prompts, {method: (method, options)}, answer, max_new_tokens, batch_size, progress, errors
    )
    single = found.isel(explainer=0, drop=True)
    source = {"source": SOURCES[method]} if method in SOURCES else {}
    single.token_heat.attrs |= {"explainer": method, **source}
    return single


def explain_all_tokens(
    mllm: Mllm,
    images,
    prompts: str | Sequence[str] = "describe the picture",
    methods: Sequence[str] | Mapping[str, Any] = TOKEN_METHODS,
    answer: str | Sequence[str] | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    progress: bool = False,
    errors: str = "raise",
    grid: tuple[int, int] | None = None,
) -> xr.Dataset:
    """Explain the same answers by many methods, or by one method in many ways.

    One pass a scale serves all methods of the lens family; attention and gradients each run their own.

    methods : names; or a mapping from a name of one's choice to ``Steps``, or to a method and its options, such as
    ``{"two scales": ("msea", {"scales": (1, 2)})}``. grid : (rows, cols) that all maps are drawn to, bilinearly; None for the
    finest among the methods, sample by sample. The rest as in ``explain_tokens``.

    Returns the dataset of ``explain_tokens`` with the dimension ``explainer`` in ``token_heat`` and ``rank_overlap``.
    Raises as ``explain_tokens``.
    """
    if not isinstance(mllm, Mllm):
        raise ValueError(f"mllm is a {type(mllm).__name__}: a model of load_mllm is needed")
    chosen = _chosen(methods)
    if grid is not None:
        check_grid(grid, "give (rows, cols), or None for the finest among the methods")
        grid = tuple(map(int, grid))
    check_whole(1, batch_size=batch_size)
    check_whole(1, max_new_tokens=max_new_tokens)
    steps = {name: method for name, method in chosen.items() if isinstance(method, Steps)}
    vocabulary = len(mllm.output_weight)
    for choice in steps.values():
        if choice.compares:
            check_whole(1, vocabulary, k=choice.k)
    keys = needed_views(list(steps.values()))
    talks = Conversations(mllm, images, prompts, answer, keys, errors, batch_size)
    parts = []
    for index, views, given in talks.batches("tokens" if progress else ""):
        answers = talks.answered(index, views, given, max_new_tokens)
        ended = [told is not None or len(answer) < max_new_tokens for told, answer in zip(given, answers, strict=True)]
        kept = [row for row, answer in enumerate(answers) if answer]
        while kept:
            some, told, whole = ([of_all[row] for row in kept] for of_all in (index, answers, ended))
            seen = {key: [at_scale[row] for row in kept] for key, at_scale in views.items()}
            try:
                parts.append(_explained(mllm, chosen, seen, told, some, grid) | {"ended": whole})
                break
            except NotFinite as error:  # the others are explained without these
                for row in error.rows:
                    talks.refuse(some[row], ValueError(str(error)))
                kept = [row for place, row in enumerate(kept) if place not in error.rows]
    if not parts:
        raise ValueError(f"no sample can be explained; the first one: {next(filter(None, talks.reasons))}")
    parameters = {name: _described(method) for name, method in chosen.items()}
    return gathered(mllm, talks, parts, parameters)


def _chosen(methods: Sequence[str] | Mapping[str, Any]) -> dict[str, Method]:
    if not isinstance(methods, Mapping):
        if isinstance(methods, str) or not methods or len(set(methods)) < len(methods):
            raise ValueError(f"methods={methods!r}: give a list of different names, at least one")
        methods = {name: name for name in methods}
    if not methods:
        raise ValueError("methods={}: give at least one")
    return {name: _method(value) for name, value in methods.items()}


def _method(value: Any) -> Method:
    if isinstance(value, Steps):
        return value
    try:
        name, options = (value, {}) if isinstance(value, str) else value
        options = dict(options)
    except (TypeError, ValueError):
        raise ValueError(f"method {value!r}: give a name, a name with its options as a mapping, or Steps") from None
    if name in PRESETS:
        return steps_of(name, options)
    if name not in OTHERS:
        raise ValueError(f"unknown method {name!r}: choose from {', '.join(TOKEN_METHODS)}")
    return _with_options(name, options)


def _with_options(name: str, options: Mapping[str, Any]) -> Callable[..., Tensor]:
    known = list(inspect.signature(OTHERS[name]).parameters)[3:]
    for option in options:
        if option not in known:
            raise ValueError(f"unknown option {option!r} of {name}: it takes {', '.join(known) or 'none'}")
    check_choices(**{option: (value, CHOICES[option]) for option, value in options.items() if option in CHOICES})
    if "seed" in options:
        check_whole(0, seed=options["seed"])
    return partial(OTHERS[name], **options)


def _explained(
    mllm: Mllm,
    chosen: dict[str, Method],
    views: dict[Key, list[View]],
    answers: list[list[int]],
    index: list[int],
    grid: tuple[int, int] | None,
) -> dict[str, Any]:
    """Everything about one batch, its answers' tokens gathered and on the CPU; NotFinite where that can't be told."""
    reading = read(mllm, views, answers, [method for method in chosen.values() if isinstance(method, Steps)])
    place, told = _answer_places(reading)
    maps, overlaps = [], []
    rows = place[..., None].expand(-1, -1, reading.ids.shape[1])
    seen = told[..., None] & reading.real[:, None]
    unknown = torch.full(seen.shape, torch.nan, device=seen.device)
    for name, method in chosen.items():
        if isinstance(method, Steps):
            heat = explanation(reading, method, mllm.output_weight).float()
            heat = heat.gather(1, place[..., None, None].expand(-1, -1, *heat.shape[2:]))
            found = rank_overlap(reading, method).float().gather(1, rows) if method.compares else unknown
            overlaps.append(found.where(seen, unknown))
        else:
            heat = method(mllm, views[1.0, "interpolate"], answers).float()
            overlaps.append(unknown)
        check_finite(heat.isfinite().flatten(1).all(1), f"maps by {name}")
        maps.append(heat * told[..., None, None])
    grid = grid or tuple(max((heat.shape[-2:] for heat in maps), key=lambda shape: shape.numel()))
    maps = [
        heat
        if heat.shape[-2:] == grid  # antialiasing changes only an axis that shrinks
        else F.interpolate(heat, grid, mode="bilinear", align_corners=False, antialias=True)
        for heat in maps
    ]
    likely = torch.stack(list(reading.likelihood.values()), 1)
    return {
        "index": index,
        "heat": torch.stack(maps, 1).cpu(),
        "relevance": (reading.relevance.gather(1, rows) * seen).cpu(),
        "overlap": torch.stack(overlaps, 1).cpu(),
        "likely": (likely.gather(2, place[:, None].expand(-1, likely.shape[1], -1)) * told[:, None]).cpu(),
        "answers": answers,
        "context": [row[real].tolist() for row, real in zip(reading.ids.cpu(), reading.real.cpu(), strict=True)],
        "region": [view.region for view in views[1.0, "interpolate"]],
    }


def _answer_places(reading: Reading) -> tuple[Tensor, Tensor]:
    """Where among the context tokens each answer token is (n, answer tokens), and which of these are real."""
    counts = reading.is_answer.sum(1)
    order = torch.arange(int(counts.max()), device=counts.device)
    told = order < counts[:, None]
    first = reading.is_answer.int().argmax(1)
    return torch.where(told, first[:, None] + order, 0), told


def _described(method: Method) -> dict[str, Any]:
    """A method's choices as values for a store."""
    if isinstance(method, Steps):
        return asdict(method)
    return {"method": method.func.__name__, **method.keywords}
