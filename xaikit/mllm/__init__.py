"""Multimodal language models: loading them, and explaining their answers token by token."""

from ..files.checks import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
