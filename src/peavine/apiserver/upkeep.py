"""The server's background work: it outlives failures of the store, and ends before the store is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import Clock
from peavine.base.lifetimes import Scope

log = logging.getLogger(__name__)


class Upkeep:
    """Tasks in the server's scope, kept running. `start` is a Scope's, for those who look after themselves."""

    def __init__(self, tasks: Scope, clock: Clock) -> None:
        self._tasks, self._clock = tasks, clock
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], *, name: str | None = None) -> asyncio.Task[Any]:
        """Run `work` until it ends or `stop`. An error in it ends the server."""
        task = self._tasks.start(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def keep(self, name: str, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run `make()` over and over: what fails is logged and begun again, later each time."""
        self.start(self._keep(name, make), name=name)

    async def _keep(self, name: str, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        backoff = Backoff(first=0.2, most=30.0)
        while True:
            began = self._clock.monotonic()
            try:
                await make()
                return
            except Exception as error:
                if self._clock.monotonic() - began > 60:
                    backoff.forget()
                delay = backoff.next()
                log.warning("%s failed (begun again in %.1fs): %s", name, delay, error, exc_info=_is_bug(error))
                await self._clock.sleep(delay)

    async def stop(self) -> None:
        """Cancel everything and wait for it."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


def _is_bug(error: Exception) -> bool:
    from peavine.machinery.errors import ApiError
    from peavine.store.interface import StoreError

    return not isinstance(error, (ApiError, StoreError, OSError, TimeoutError))
