"""The explorer: widgets over every method. ``state`` says what is shown, ``views`` draw it, ``tabs`` show it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
