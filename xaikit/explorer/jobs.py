"""Long work that reports how far it is and can be cancelled, and what came of it, kept for the next look."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
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


class Cache:
    """Values by key, the ones that were asked for last. size : how many are kept.

    computing : held while something long is computed; caches that share it compute one thing at a time. What is there
    already never waits for it.
    """

    def __init__(self, size: int, computing: threading.RLock):
        self._size, self._computing = size, computing
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def cached(self, key: Hashable, compute: Callable[[Job], Any], job: Job | None) -> Any:
        """What ``compute`` gave for this key, computed if it isn't there yet. Without a job Missing is raised instead."""
        try:
            return self[key]
        except KeyError:
            if job is None:
                raise Missing(key) from None
        with self._computing:
            try:  # another thread may have computed it meanwhile
                return self[key]
            except KeyError:
                value = self.keep(key, compute(job))
                job.check()
                return value

    def kept(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """``cached`` for what is computed quickly: at once, without waiting for long work in another thread."""
        try:
            return self[key]
        except KeyError:
            return self.keep(key, compute())

    def __getitem__(self, key: Hashable) -> Any:
        with self._lock:
            self._values.move_to_end(key)  # KeyError where it isn't there
            return self._values[key]

    def keep(self, key: Hashable, value: Any) -> Any:
        """Keep a value, instead of what was kept for this key, and return it."""
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return value
