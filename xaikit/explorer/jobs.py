"""Long work that reports how far it is and can be cancelled."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class Cancelled(Exception):
    """The work was cancelled by its user."""


class Missing(LookupError):
    """What was asked for isn't computed yet, and no job was given to compute it."""


class Job:
    """One piece of long work: what is being done, how much of it is done, whether to stop.

    report : called with (what, done, total) whenever that changes.
    """

    def __init__(self, report: Callable[[str, int, int], None] = lambda what, done, total: None):
        self._report, self._stop = report, threading.Event()

    def at(self, what: str, done: int = 0, total: int = 1) -> None:
        """Say what is being done now, and that ``done`` of ``total`` such steps are over. Raises Cancelled where asked to."""
        self.check()
        self._report(what, done, total)

    def each(self, items: Iterable, what: Callable[[Any], str]) -> Iterator:
        """The items one by one, each announced by ``what(item)``."""
        items = list(items)
        for done, item in enumerate(items):
            self.at(what(item), done, len(items))
            yield item

    def cancel(self) -> None:
        """Stop the work at its next step, from any thread."""
        self._stop.set()

    def check(self) -> None:
        """Raise Cancelled if the work was cancelled."""
        if self._stop.is_set():
            raise Cancelled

    @contextmanager
    def watching(self, *modules) -> Iterator[None]:
        """Make every forward pass of these torch modules a step at which the work can be cancelled."""
        handles = [module.register_forward_pre_hook(lambda module, inputs: self.check()) for module in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
