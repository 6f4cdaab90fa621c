"""How often a caller may ask."""

import time
from collections.abc import Callable


class RequestRate:
    """A bucket of requests per caller, filled evenly; a full one holds a minute's worth.

    Callers are names from the keys file, so there are no more buckets than names were ever in it.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = float(per_minute)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, caller: str) -> float:
        """Take one request; 0, or the seconds until there is one to take."""
        if not self._capacity:
            return 0.0
        now = self._clock()
        tokens, since = self._buckets.get(caller, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - since) * self._capacity / 60)
        # A step too small for the clock's digits must not keep a whole request from being whole.
        granted = tokens >= 1 - 1e-9
        self._buckets[caller] = (tokens - 1 if granted else tokens, now)
        return 0.0 if granted else (1 - tokens) * 60 / self._capacity
