"""Explanation methods, one a file, each registered with ``@method``, and what runs them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
