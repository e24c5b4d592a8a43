"""How the bundled models were trained: ``clip`` the CLIPs, ``llava`` the multimodal LLM."""

from .bundled import MODELS, Bundled, Recipe
from .clip import Training, retrain, validate

__all__ = ["MODELS", "Bundled", "Recipe", "Training", "retrain", "validate"]
