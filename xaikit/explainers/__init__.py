"""Explanation methods, each registered with ``@method`` in a file of its own or of its family, and what runs them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
