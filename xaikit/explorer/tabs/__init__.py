"""The controls and pictures of each view."""

import importlib

from .tab import Tab

TITLES = {
    "compare": "Compare",
    "words": "Words",
    "resonance": "Resonance",
    "answer": "Answer",
    "perturb": "Perturb",
    "runs": "Runs",
}
_CLASSES = {name: f"{title}Tab" for name, title in TITLES.items()}


def tab_class(name: str) -> type[Tab]:
    """The class of a tab; a tab that isn't opened isn't imported."""
    return getattr(importlib.import_module(f".{name}", __name__), _CLASSES[name])
