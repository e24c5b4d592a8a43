"""What measures an explanation by running a model: metrics, sanity checks, the papers' protocols and claims."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
