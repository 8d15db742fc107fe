"""Leases of an in-process store: when each ends. Deleting the keys is the store's part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from peavine.base.clock import REAL, Clock


class Leases:
    """`expired(lease)` is called on the loop once a lease's time is over. After a restart every lease gets its full
    time again (as etcd does on a change of leader): late is safe, early is not."""

    def __init__(self, expired: Callable[[int], None], clock: Clock = REAL) -> None:
        self._expired = expired
        self._clock = clock
        self._ttl: dict[int, int] = {}
        self._ends: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, lease: int) -> bool:
        return lease in self._ttl

    def add(self, lease: int, ttl_seconds: int) -> None:
        self._ttl[lease] = ttl_seconds
        self.renew(lease)

    def renew(self, lease: int) -> int:
        self._ends[lease] = self._clock.monotonic() + self._ttl[lease]
        if self._timer is None:
            self._arm()
        return self._ttl[lease]

    def drop(self, lease: int) -> None:
        self._ttl.pop(lease, None)
        self._ends.pop(lease, None)

    def expire(self) -> None:
        """Report what is over; runs by itself with the real clock, tests with a simulated one call it."""
        now = self._clock.monotonic()
        for lease in [lease for lease, end in self._ends.items() if end <= now]:
            del self._ends[lease]
            self._expired(lease)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ends:
            # A short lease granted later may end before this timer: look at least once a second.
            wait = min(1.0, max(0.01, min(self._ends.values()) - self._clock.monotonic()))
            self._timer = asyncio.get_running_loop().call_later(wait, self.expire)

    def close(self) -> None:
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
