"""xaikit: see what vision-language models look at, and whether an explanation can be believed."""

from importlib.metadata import version

import lazy_loader

from .running.execution import keep_off_network

# Names are looked up on first use: importing torch and open_clip takes seconds, and notebooks that only read stores
# need neither.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = version("xaikit")

keep_off_network()
