"""Notebooks executed: one run, a sweep, their records, checks, the committed notebooks, the command line."""

from ..files.checks import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
