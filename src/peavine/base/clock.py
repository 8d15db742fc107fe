"""Time as a dependency: the real clock, and one that tests advance by hand.

Units are seconds (float) everywhere; wall time is Unix time in UTC.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

# asyncio is imported where it is used: a command line that only needs the time does not pay for it.
if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Clock(Protocol):
    """What every waiting component takes instead of calling `time` or `asyncio.sleep`."""

    def time(self) -> float:
        """Wall time, Unix seconds."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; zero or less yields to the loop once."""


class RealClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(max(0.0, seconds))


class SimulatedClock:
    """A clock that stands still until `advance` is called; sleepers wake in order of their deadline."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        # Elapsed time is what is kept: added to Unix time, milliseconds would drown in a float's rounding.
        self._now = 0.0
        self._start = start
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def time(self) -> float:
        return self._start + self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        import asyncio

        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float, settle: Callable[[], Awaitable[None]] | None = None) -> None:
        """Move time forward, waking each sleeper at its own deadline and letting it run before the next: until
        `settle()` returns, or for a few turns of the loop."""
        settle = settle or self._settle
        until = self._now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self._now, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self._now = until
        await settle()

    @staticmethod
    async def _settle() -> None:
        import asyncio

        # A wake-up passes through a few callbacks (future, task, waiter) before its effects show.
        for _ in range(10):
            await asyncio.sleep(0)


REAL = RealClock()


async def wait_until(event: Awaitable[T], seconds: float, clock: Clock = REAL) -> T | None:
    """The result of `event`, or None once `seconds` have passed (the event is then cancelled)."""
    import asyncio

    waiting = asyncio.ensure_future(event)
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({waiting, timer}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()
        timer.cancel()
