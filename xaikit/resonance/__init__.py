"""Semantic Resonance Maps: the recursion, where it ends, what oscillates on the way, and the concepts read from it."""

import importlib
from typing import TYPE_CHECKING

# Looked up on first use, so that figures can be drawn from stores without torch.
_HOME = {
    "Recursion": "recursion",
    "resonate": "recursion",
    "patch_features": "recursion",
    "fixed_points": "stability",
    "outcomes": "stability",
    "regimes": "stability",
    "null_spectra": "null",
    "shuffled_weights": "null",
    "peaks": "null",
    "spectrum": "spectral",
    "dynamic_modes": "modes",
    "phases": "change_points",
    "concept_hierarchy": "concepts",
    "planted_hierarchy": "planted",
    "agreement": "planted",
    "cluster_patches": "planted",
    "ablate_modes": "interventions",
    "suppress_resonance": "adversarial",
}
__all__ = [*_HOME]

if TYPE_CHECKING:
    from .adversarial import suppress_resonance
    from .change_points import phases
    from .concepts import concept_hierarchy
    from .interventions import ablate_modes
    from .modes import dynamic_modes
    from .null import null_spectra, peaks, shuffled_weights
    from .planted import agreement, cluster_patches, planted_hierarchy
    from .recursion import Recursion, patch_features, resonate
    from .spectral import spectrum
    from .stability import fixed_points, outcomes, regimes


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
