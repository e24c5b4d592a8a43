"""Pure functions of arrays: where heat lies, ranks and correlations, intervals, words, token maps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
