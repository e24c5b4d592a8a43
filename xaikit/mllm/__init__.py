"""Multimodal language models: loading them, and explaining their answers token by token."""

import importlib
from typing import TYPE_CHECKING

# Looked up on first use, so that this package can be imported without torch.
_HOME = {
    "load_mllm": "loading",
    "Mllm": "model",
    "View": "view",
    "distinct_views": "view",
    "answer_ids": "generating",
    "generate": "generating",
    "States": "passes",
    "teacher_forced": "passes",
    "PRESETS": "steps",
    "WEIGHTINGS": "interference",
    "Steps": "steps",
    "TOKEN_METHODS": "explaining",
    "explain_tokens": "explaining",
    "explain_all_tokens": "explaining",
    "measure_faithfulness": "measuring",
    "measure_tokens": "measuring",
    "measured_words": "measuring",
}
__all__ = [*_HOME]

if TYPE_CHECKING:
    from .explaining import TOKEN_METHODS, explain_all_tokens, explain_tokens
    from .generating import answer_ids, generate
    from .interference import WEIGHTINGS
    from .loading import load_mllm
    from .measuring import measure_faithfulness, measure_tokens, measured_words
    from .model import Mllm
    from .passes import States, teacher_forced
    from .steps import PRESETS, Steps
    from .view import View, distinct_views


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
