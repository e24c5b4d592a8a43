"""What is on disk: paths, checks of arguments, whole files or none, digests, the stores' schema, stores, images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
