"""Time limits for many requests at little cost: one look a second at all that are under way.

`asyncio.timeout` sets and cancels a timer for each block; at thousands of requests a second, of which none ever takes
its whole minute, that is a good part of the work. A limit here may be overstepped by `SWEEP_SECONDS`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
SWEEP_SECONDS = 1.0


class Deadlines:
    def __init__(self) -> None:
        self._until: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._sweeping = False

    async def limited(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` in the caller's task; raises TimeoutError once it has taken `seconds`. Not to be nested."""
        task = asyncio.current_task()
        assert task is not None
        self._until[task] = time.monotonic() + seconds
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        try:
            return await work
        except asyncio.CancelledError:
            if task in self._expired and task.uncancel() <= 0:
                raise TimeoutError from None
            raise
        finally:
            self._until.pop(task, None)
            self._expired.discard(task)

    def _sweep(self) -> None:
        now = time.monotonic()
        for task, until in self._until.items():
            if until <= now and task not in self._expired:
                self._expired.add(task)
                task.cancel()
        self._sweeping = bool(self._until)
        if self._sweeping:
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
