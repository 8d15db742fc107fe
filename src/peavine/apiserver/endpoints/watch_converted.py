"""Watches in a version that a webhook must convert to: events wait for it, in order, and nobody else does."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver.cache import Change, Entry, Watcher
from peavine.apiserver.endpoints.rendering import Rendering
from peavine.apiserver.registry import Registry
from peavine.apiserver.registry.conversions import settled
from peavine.machinery.errors import ApiError

# Events that wait for the webhook before the watch is ended, and how many of them it is asked about at once.
WAITING_MAX = 10_000
BATCH_MAX = 500


class ConvertedWatcher(Watcher):
    """`run` it beside the watch. An event with no entry is the bookmark behind the initial events."""

    __slots__ = ("_kind", "_registry", "_rendering", "_waiting", "_wake")

    def __init__(self, registry: Registry, kind: Kind, sink: Any, rendering: Rendering, **selection: Any) -> None:
        super().__init__(sink, rendering, **selection)
        self._registry, self._kind, self._rendering = registry, kind, rendering
        self._waiting: deque[tuple[str, Entry | None, int]] = deque()
        self._wake = asyncio.Event()

    def offer(self, change: Change) -> None:
        meant = self.meaning(change)
        if meant is not None:
            self.put(*meant, change.revision)

    def put(self, type: str, entry: Entry | None, revision: int) -> None:
        self._waiting.append((type, entry, revision))
        if len(self._waiting) > WAITING_MAX:
            self.sink.end("slow")
        self._wake.set()

    def begin(self, entries: list[Entry], marked: int) -> list[bytes]:
        """The present state, and behind it (where not 0) the bookmark that ends it; no frame is ready at once."""
        for entry in entries:
            self.put("ADDED", entry, entry.revision)
        if marked:
            self.put("BOOKMARK", None, marked)
        return []

    def mark(self, revision: int) -> None:
        if not self._waiting:  # else the client has not heard of all yet
            super().mark(revision)

    async def run(self) -> None:
        """Convert and send what waits, until cancelled; a webhook that fails ends the watch with an ERROR event."""
        load = self._registry.resource(self._kind).cache.form.load
        while True:
            await self._wake.wait()
            batch = [self._waiting[place] for place in range(min(len(self._waiting), BATCH_MAX))]
            try:
                objects = [load(entry, revision) for _, entry, revision in batch if entry is not None]
                await self._registry.prepare_objects(self._kind, objects)
                for event in batch:
                    self.sink.send(await settled(partial(self._frame, *event)))
                    self.told = event[2]
                    self._waiting.popleft()
            except ApiError as error:
                self.sink.send(self._rendering.event("ERROR", error.status()))
                self.sink.end("failed")
                return
            if not self._waiting:
                self._wake.clear()

    def _frame(self, type: str, entry: Entry | None, revision: int) -> bytes:
        if entry is None:
            return self._rendering.bookmark(revision, initial_end=True)
        return self._rendering.frame(type, entry, revision)
