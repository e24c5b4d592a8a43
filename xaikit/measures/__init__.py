"""Pure functions of arrays: maps and where their heat lies, intervals, words, token maps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
