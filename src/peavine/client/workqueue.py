"""A queue of keys to reconcile: no key twice in the queue, no key in two hands.

A key added while it is being worked on is queued again once that work is `done`. Follows client-go's workqueue:
dirty set, processing set, per-key rate limiting, delayed adds.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import Generic, TypeVar

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock, wait_until

K = TypeVar("K")


class WorkQueue(Generic[K]):
    """Bounded by the number of distinct keys. One event loop; `run` must be running for delayed adds."""

    def __init__(self, *, clock: Clock = REAL, backoff: Backoff | None = None) -> None:
        self._clock = clock
        self._backoff = backoff or Backoff(first=0.005, most=1000.0)
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._getters: deque[asyncio.Future[None]] = deque()
        self._due: dict[K, float] = {}
        self._later: list[tuple[float, int, K]] = []
        self._order = 0
        self._rescheduled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Nothing is ready and nothing is being worked on (delayed keys may wait)."""
        return not self._dirty and not self._processing

    def add(self, key: K) -> None:
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: K, seconds: float) -> None:
        """Add `key` once `seconds` have passed; the earliest of several such wishes counts."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        self._order += 1
        heapq.heappush(self._later, (due, self._order, key))
        if self._later[0][2] == key:
            self._rescheduled.set()

    def add_rate_limited(self, key: K) -> None:
        """Add `key` after its backoff, which grows with every call until `forget`."""
        self.add_after(key, self._backoff.next(key))

    def forget(self, key: K) -> None:
        self._backoff.forget(key)

    def retries(self, key: K) -> int:
        return self._backoff.failures.get(key, 0)

    async def get(self) -> K:
        """The next key; the caller must call `done(key)` afterwards."""
        while not self._ready:
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.done() and not getter.cancelled():
                    self._wake()
                raise
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        self._processing.discard(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wake()

    def _wake(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    async def run(self) -> None:
        """Move delayed keys into the queue when they are due. Ends by cancellation."""
        while True:
            now = self._clock.monotonic()
            while self._later and self._later[0][0] <= now:
                due, _, key = heapq.heappop(self._later)
                if self._due.get(key) == due:
                    del self._due[key]
                    self.add(key)
            self._rescheduled.clear()
            if not self._later:
                await self._rescheduled.wait()
                continue
            await wait_until(self._rescheduled.wait(), self._later[0][0] - now, self._clock)
