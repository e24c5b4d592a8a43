"""How the bundled models were trained: ``clip`` the two CLIPs, ``llava`` the multimodal LLM."""

from .bundled import STAGES, Recipe
from .clip import retrain, train, validate

__all__ = ["STAGES", "Recipe", "retrain", "train", "validate"]
