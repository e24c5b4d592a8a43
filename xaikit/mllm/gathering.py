"""From the batches of explained answers to one dataset of the stage ``mllm``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from .. import store
from .conversations import Conversations
from .model import Mllm


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
