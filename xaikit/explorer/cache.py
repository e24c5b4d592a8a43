"""What was computed, kept for the next look."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from .jobs import Job, Missing


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
                value = self._keep(key, compute(job))
                job.check()
                return value

    def kept(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """``cached`` for what is computed quickly: at once, without waiting for long work in another thread."""
        try:
            return self[key]
        except KeyError:
            return self._keep(key, compute())

    def drop(self, key: Hashable) -> None:
        """Forget a value, if it is there."""
        with self._lock:
            self._values.pop(key, None)

    def __getitem__(self, key: Hashable) -> Any:
        with self._lock:
            self._values.move_to_end(key)  # KeyError where it isn't there
            return self._values[key]

    def _keep(self, key: Hashable, value: Any) -> Any:
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return value
