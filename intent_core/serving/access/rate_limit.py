"""The rate limit of each caller."""

import time
from collections.abc import Callable


class RequestRate:
    """A token bucket per caller, refilled continuously, with a capacity of one minute's requests.

    Callers are names from the keys file, which limits the number of buckets.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = float(per_minute)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, caller: str) -> float:
        """Take one request; return 0 if it is allowed, else the seconds until one is."""
        if not self._capacity:
            return 0.0
        now = self._clock()
        tokens, since = self._buckets.get(caller, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - since) * self._capacity / 60)
        # Tolerance: rounding errors must not reject a request that is due.
        granted = tokens >= 1 - 1e-9
        self._buckets[caller] = (tokens - 1 if granted else tokens, now)
        return 0.0 if granted else (1 - tokens) * 60 / self._capacity
