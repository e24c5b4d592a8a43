"""What each view shows at a state, without any widget: ``draw(workspace, state, job)`` gives a ``Drawn``.

Without a job what isn't computed yet raises Missing, so that a caller can start a job for it.
"""

import importlib
from collections.abc import Callable

from ..panels import Drawn


def view(tab: str) -> Callable[..., Drawn]:
    """The ``draw`` of a tab; what it needs is imported with it."""
    return importlib.import_module(f".{tab}", __name__).draw
