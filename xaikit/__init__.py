"""xaikit: see what vision-language models look at, and whether an explanation can be believed."""

import importlib
from typing import TYPE_CHECKING

from .offline import keep_off_network

__version__ = "0.1.0"

keep_off_network()

# Looked up on first use: importing torch and open_clip takes seconds, and notebooks that only read stores
# need neither.
_HOME = {
    "draw_descriptions": "scenes",
    "draw_scenes": "scenes",
    "draw_pairs": "scenes",
    "draw_suite": "scenes",
    "load_clip": "loading",
    "explain": "explaining",
    "explain_all": "explaining",
    "methods": "explaining",
    "explain_source": "explaining_sources",
    "evaluate": "evaluating",
    "load_mllm": "mllm.loading",
    "explain_tokens": "mllm.explaining",
    "explain_all_tokens": "mllm.explaining",
    "explore": "explorer",
    "open_source": "datasets",
    "open_sweep": "sweeping.opening",
    "record": "tape",
    "open_inputs": "store",
    "open_store": "store",
    "save_store": "store",
}
_MODULES = ("datasets", "explorer", "metrics", "mllm", "plots", "protocols", "resonance", "scenes", "store", "tuning")
__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from .datasets import open_source
    from .evaluating import evaluate
    from .explaining import explain, explain_all, methods
    from .explaining_sources import explain_source
    from .explorer import explore
    from .loading import load_clip
    from .mllm.explaining import explain_all_tokens, explain_tokens
    from .mllm.loading import load_mllm
    from .scenes import draw_descriptions, draw_pairs, draw_scenes, draw_suite
    from .store import open_inputs, open_store, save_store
    from .sweeping.opening import open_sweep
    from .tape import record


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
