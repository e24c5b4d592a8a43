"""Semantic Resonance Maps: the recursion, where it ends, what oscillates on the way, and the concepts read from it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
