"""Telling watchers what changed: history first, then live events in batches, each watcher with a bounded queue.

Used by the stores that live inside the process (memory, sqlite). Nothing here blocks or awaits while fanning out: a
watcher that does not keep up is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from peavine.store.interface import WATCH_EVENTS_MAX, Batch, Compacted, Event, StoreError, WatchCut

# (prefix, first revision, last revision) -> events, and the last revision they cover (below `last`: there are more).
History = Callable[[str, int, int], tuple[list[Event], int]]


class LocalWatch:
    """One watcher: reads history up to the revision at which it registered, then what the fan-out queued since."""

    def __init__(self, fanout: Fanout, prefix: str, start_revision: int) -> None:
        self.prefix = prefix
        self._fanout = fanout
        self._caught_up = fanout.revision  # live events come through the queue from here on
        self._next = start_revision or fanout.revision + 1  # first revision not yet told
        self._queue: list[Event] = []
        self._told = max(0, self._next - 1)
        self._progress_wanted = False
        self._wake: asyncio.Future[None] | None = None
        self._error: StoreError | None = None
        self._closed = False

    def __aiter__(self) -> LocalWatch:
        return self

    async def __anext__(self) -> Batch:
        while True:
            if self._error is not None:
                error, self._error = self._error, None
                self.close()
                raise error
            if self._closed:
                raise StopAsyncIteration
            if self._next <= self._caught_up:
                batch = self._from_history()
                if batch.events or self._next > self._caught_up:
                    return batch
                await asyncio.sleep(0)
                continue
            if self._queue or self._progress_wanted:
                self._progress_wanted = False
                events, self._queue = self._queue, []
                self._told = max(self._told, self._fanout.revision)
                return Batch(events, self._told)
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None

    def _from_history(self) -> Batch:
        if self._next <= self._fanout.compacted:
            self.close()
            raise Compacted(self._fanout.compacted)
        events, covered = self._fanout.history(self.prefix, self._next, self._caught_up)
        self._next = covered + 1
        self._told = max(self._told, covered)
        return Batch(events, self._told)

    def deliver(self, events: list[Event]) -> None:
        """Queue live events (the caller has filtered them by prefix)."""
        if self._next > self._caught_up + 1:  # asked to start in the future
            events = [e for e in events if e.kv.mod_revision >= self._next]
        if len(self._queue) + len(events) > self._fanout.events_max:
            self._queue.clear()
            self.end(WatchCut(f"watcher of {self.prefix} fell more than {self._fanout.events_max} events behind"))
            return
        self._queue += events
        if events:
            self.wake()

    def want_progress(self) -> None:
        if self._told < self._fanout.revision:
            self._progress_wanted = True
            self.wake()

    def end(self, error: StoreError) -> None:
        self._error = error
        self._fanout.remove(self)
        self.wake()

    def wake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def close(self) -> None:
        self._closed = True
        self._queue.clear()
        self._fanout.remove(self)
        self.wake()

    async def aclose(self) -> None:
        self.close()


class Fanout:
    """The watchers of one store, found by the folders of a changed key instead of by asking each."""

    def __init__(self, history: History, revision: int, compacted: int, events_max: int = WATCH_EVENTS_MAX) -> None:
        self.history = history
        self.revision = revision
        self.compacted = compacted
        self.events_max = events_max
        self._folders: dict[str, list[LocalWatch]] = {}  # prefixes that are empty or end with "/"
        self._others: list[LocalWatch] = []

    def add(self, prefix: str, start_revision: int) -> LocalWatch:
        watch = LocalWatch(self, prefix, start_revision)
        self._home(prefix).append(watch)
        return watch

    def _home(self, prefix: str) -> list[LocalWatch]:
        return self._folders.setdefault(prefix, []) if not prefix or prefix.endswith("/") else self._others

    def remove(self, watch: LocalWatch) -> None:
        home = self._home(watch.prefix)
        if watch in home:
            home.remove(watch)
        if not home:
            self._folders.pop(watch.prefix, None)

    def publish(self, events: Sequence[Event], revision: int) -> None:
        """Tell the watchers of `events` (in revision order); `revision` is the store's from now on."""
        self.revision = revision
        mail: dict[LocalWatch, list[Event]] = {}
        for event in events:
            key = event.kv.key
            for prefix in _folders_of(key):
                for watch in self._folders.get(prefix, ()):
                    mail.setdefault(watch, []).append(event)
            for watch in self._others:
                if key.startswith(watch.prefix):
                    mail.setdefault(watch, []).append(event)
        for watch, addressed in mail.items():
            watch.deliver(addressed)

    def progress(self) -> None:
        for watch in self.watchers():
            watch.want_progress()

    def end(self, error: StoreError) -> None:
        for watch in self.watchers():
            watch.end(error)

    def watchers(self) -> list[LocalWatch]:
        return [watch for home in self._folders.values() for watch in home] + self._others


def _folders_of(key: str) -> list[str]:
    folders, at = [""], key.find("/")
    while at >= 0:
        folders.append(key[: at + 1])
        at = key.find("/", at + 1)
    return folders
