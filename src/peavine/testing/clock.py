"""Time that passes by itself and can be skipped: what a cluster under test lives by.

A skip moves every timer of the event loop, not only those that ask this clock: `asyncio.sleep`, timeouts and
`call_later` go by `loop.time`, which the first skip puts under this clock's control. Several clusters in one loop
share its time; a cluster in a thread has a loop and a time of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

# A skip stops at each timer on its way, but at most this often: of timers closer together than a step, the later ones
# share a stop and fire up to a step late.
STOPS_MAX = 500
# Turns of the loop without anything to do after which nothing more is expected to happen by itself.
IDLE_TURNS = 3
QUIET_MOMENTS = 2
BREATH_SECONDS = 0.0005


class SkippingClock:
    """The real time, plus what `advance` skipped. Use `clock_of_loop()`: there is one for each event loop."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def time(self) -> float:
        return time.time() + self.skipped

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    async def advance(self, seconds: float, settle: Callable[[], Awaitable[None]]) -> None:
        """Skip `seconds`, from timer to timer; `settle` waits until what a timer set off is done."""
        loop = asyncio.get_running_loop()
        timers: list[Any] | None = getattr(loop, "_scheduled", None)
        if timers is None:
            raise RuntimeError(f"cannot skip time in a {type(loop).__name__}: use asyncio's own event loop")
        loop.time = self.monotonic  # type: ignore[method-assign]
        until = self.monotonic() + seconds
        grain = seconds / STOPS_MAX
        await settle()
        while (left := until - self.monotonic()) > 0:
            due = min((timer.when() for timer in timers if not timer.cancelled()), default=until)
            self.skipped += min(left, max(due - self.monotonic(), grain))
            await settle()


_clocks: WeakKeyDictionary[asyncio.AbstractEventLoop, SkippingClock] = WeakKeyDictionary()


def clock_of_loop() -> SkippingClock:
    """The clock of the running event loop."""
    return _clocks.setdefault(asyncio.get_running_loop(), SkippingClock())


async def settle(busy: Callable[[], bool], handled: Callable[[], int], seconds_max: float = 10.0) -> None:
    """Return when this event loop has nothing left to do until time passes: nothing is `busy`, and in a moment of
    waiting (for threads, and for the kernel to carry bytes from socket to socket) nothing more was `handled`. At the
    latest after `seconds_max` (real) seconds."""
    ready = getattr(asyncio.get_running_loop(), "_ready", ())
    end = time.monotonic() + seconds_max
    idle, quiet, before = 0, 0, handled()
    while quiet < QUIET_MOMENTS and time.monotonic() < end:
        await asyncio.sleep(0)
        idle = 0 if ready else idle + 1
        if idle >= IDLE_TURNS:
            await _breathe()
            quiet = 0 if busy() or handled() != before else quiet + 1
            idle, before = 0, handled()


async def _breathe() -> None:
    """Give other threads a moment, without a timer of the loop: those stand still."""
    await asyncio.to_thread(time.sleep, BREATH_SECONDS)
