"""A CLIP model: loading it, running it, recording it, perturbing what it is given."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
