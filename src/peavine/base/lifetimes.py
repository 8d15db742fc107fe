"""Structured lifetimes: a task never outlives the scope that started it.

Every long-lived thing has `async def run()` and ends by cancellation or by an error. This module is the only
place where tasks are born; `tests/architecture` holds that.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any


class Scope(asyncio.TaskGroup):
    """A task group whose tasks can be cancelled together without an error for the parent."""

    def __init__(self) -> None:
        super().__init__()
        self._started: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], *, name: str | None = None) -> asyncio.Task[Any]:
        """Run `work` in this scope. An error in it cancels the scope's other tasks and reaches the parent."""
        task = self.create_task(work, name=name)
        self._started.add(task)
        task.add_done_callback(self._started.discard)
        return task

    def cancel(self) -> None:
        """Cancel every task of the scope; leaving the `async with` block then waits for them."""
        for task in list(self._started):
            task.cancel()


@contextlib.asynccontextmanager
async def scope() -> AsyncIterator[Scope]:
    """`async with scope() as s: s.start(...)`: on leaving, whatever still runs is cancelled and awaited."""
    async with Scope() as tasks:
        try:
            yield tasks
        finally:
            tasks.cancel()


async def until_signal(*signals: int) -> int:
    """Return the number of the first of `signals` (SIGINT and SIGTERM unless named) that arrives."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[int] = loop.create_future()
    watched = signals or (signal.SIGINT, signal.SIGTERM)

    def arrive(number: int) -> None:
        if not arrived.done():
            arrived.set_result(number)

    for number in watched:
        loop.add_signal_handler(number, arrive, number)
    try:
        return await arrived
    finally:
        for number in watched:
            loop.remove_signal_handler(number)


async def _until_signal_or_end(main: Coroutine[Any, Any, Any]) -> None:
    async with scope() as tasks:
        work = tasks.start(main, name="main")
        stop = tasks.start(until_signal(), name="signals")
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)


def run(main: Coroutine[Any, Any, Any]) -> int:
    """Run a process's main coroutine until it ends or SIGINT/SIGTERM arrives; returns the exit code.

    Uses uvloop where it is installed. An error of `main` propagates to the caller.
    """
    # Long-lived processes hold many objects that survive: fewer full collections, same memory.
    gc.set_threshold(50_000, 20, 50)
    factory = None
    if sys.platform != "win32":
        with contextlib.suppress(ImportError):
            import uvloop

            factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_until_signal_or_end(main))
    return 0
