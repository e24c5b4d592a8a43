"""What each view shows at a state, without any widget: a function of workspace, state and job that gives a ``Drawn``.

Without a job what isn't computed yet raises Missing, so that a caller can start a job for it.
"""

import importlib
from collections.abc import Callable

from ..panels import Drawn

OF_MAPS = ("compare", "words")  # which are drawn in one file; every other tab has its own


def view(tab: str) -> Callable[..., Drawn]:
    """What draws a tab; what it needs is imported with it."""
    if tab in OF_MAPS:
        return getattr(importlib.import_module(".maps", __name__), tab)
    return importlib.import_module(f".{tab}", __name__).draw
