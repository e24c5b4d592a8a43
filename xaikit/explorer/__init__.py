"""The explorer: widgets over every method. ``state`` says what is shown, ``views`` draw it, ``tabs`` show it."""

from ..files.checks import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
