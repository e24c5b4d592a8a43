"""Long work that reports how far it is and can be cancelled."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

SILENCE = 1.0  # seconds without a word


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
        self._at, self._since, self._said = ("", 0, 1), 0.0, 0.0

    def at(self, what: str, done: int = 0, total: int = 1) -> None:
        """Say what is being done now, and that ``done`` of ``total`` such steps are over. Raises Cancelled where asked to."""
        self.check()
        self._at, self._since = (what, done, total), time.monotonic()
        self._said = self._since
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
        """Make every forward pass of these torch modules a step at which the work can be cancelled, and from time to time
        says how long it has taken."""
        handles = [module.register_forward_pre_hook(lambda module, inputs: self._passed()) for module in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _passed(self) -> None:
        self.check()
        now = time.monotonic()
        if now - self._said > SILENCE:
            what, done, total = self._at
            self._said = now
            self._report(f"{what}, {now - self._since:.0f} s", done, total)
