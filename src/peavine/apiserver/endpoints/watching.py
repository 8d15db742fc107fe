"""watch: initial events, then changes as they come, until the client, the time or the server ends it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver.cache import Change, ResourceCache, Watcher
from peavine.apiserver.endpoints.listing import (
    ListOptions,
    matcher,
    narrowing,
    read_options,
    revision_of,
    too_large_version,
    wait_for_version,
)
from peavine.apiserver.endpoints.negotiation import CBOR, PROTOBUF, negotiate
from peavine.apiserver.endpoints.rendering import Rendering
from peavine.apiserver.endpoints.watch_converted import ConvertedWatcher
from peavine.apiserver.http import Exchange
from peavine.apiserver.registry import Registry
from peavine.base.lifetimes import scope
from peavine.machinery import errors
from peavine.store.interface import StoreError

# A watch that names no timeout gets one between these, so that clients spread over restarted servers.
TIMEOUT_SECONDS_MIN = 1800
BOOKMARK_SECONDS = 60.0
# Frames that wait for a client that does not read, and for how long, before it is cut.
HELD_FRAMES_MAX = 10_000
SLOW_SECONDS = 30.0
# Fields that watchers are filed under: only those that often differ between watchers.
TRIGGERS = ("metadata.name", "spec.nodeName")
# What a stream of objects is called, where that is not what one of them is.
STREAM_TYPES = {PROTOBUF: PROTOBUF + ";stream=watch", CBOR: CBOR + "-seq"}
# Initial events are written in pieces of about this size.
PIECE_BYTES = 64 << 10
# How long the store's history may take to answer a watch from before this server's start.
HISTORY_SECONDS = 5.0
HISTORY_CHANGES_MAX = 100_000


class StreamSink:
    """The client's end of a watch: frames go straight to its connection, or wait while it is full."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.connection = exchange.connection
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.held: deque[bytes] | None = deque()  # None: write at once
        self.slow_since = 0.0

    def send(self, frame: bytes) -> None:
        if self.held is not None:
            self.held.append(frame)
            waits_for_client = self.slow_since and time.monotonic() - self.slow_since > SLOW_SECONDS
            if len(self.held) > HELD_FRAMES_MAX or waits_for_client:
                self.cut()
        elif self.connection.paused:
            self.slow_since = time.monotonic()
            self.held = deque((frame,))
        else:
            self.connection.write(frame)

    def flush(self) -> None:
        """The client reads again: send what waited, until it is full again."""
        self.slow_since = 0.0
        held = self.held
        while held:
            if self.connection.paused:
                self.slow_since = time.monotonic()
                return
            self.connection.write(held.popleft())
        self.held = None

    def cut(self) -> None:
        """The client is too slow: it must list again."""
        self.held = deque()
        self.end("slow")
        self.connection.abort()

    def end(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_result(reason)

    def lost(self) -> None:
        self.end("gone")


async def watch(registry: Registry, exchange: Exchange, kind: Kind, namespace: str, name: str = "") -> None:
    """Answer a watch request. Raises ApiError for what is wrong with it; afterwards the answer has begun."""
    info = exchange.info
    options = read_options(info, kind, name)
    output = negotiate(info, kind)
    websocket = None
    if exchange.upgrade and "websocket" in info.headers.get("upgrade", "").lower():
        from peavine.apiserver.endpoints.websocket_stream import accept

        websocket = accept(exchange)
    framing: str = "websocket" if websocket else "chunked" if info.notes.get("http_version") != "1.0" else ""
    cached = registry.resource(kind).cache
    rendering = Rendering(kind, cached, output, framing)
    first = await _prepare(registry, cached, options)
    past = await recall(registry, cached, first) if first and first < cached.floor else []

    sink = StreamSink(exchange)
    selection: dict[str, Any] = {
        "namespace": namespace if kind.namespaced else "",
        "matches": matcher(options),
        "trigger": _trigger(options),
        "bookmarks": options.bookmarks,
    }
    if registry.waits(kind):
        watcher: Watcher = ConvertedWatcher(registry, kind, sink, rendering, **selection)
    else:
        watcher = Watcher(sink, rendering, **selection)
    if websocket is not None:
        websocket.open()
    else:
        content_type = STREAM_TYPES.get(output.media_type, output.media_type)
        exchange.start_stream(200, [("Content-Type", content_type), ("Cache-Control", "no-cache, private")])
    # From here to `watch` nothing awaits: no change falls between the initial events and the live ones.
    initial = _initial(registry, cached, options, watcher, first, past)
    if isinstance(initial, errors.ApiError):
        sink.connection.write(rendering.event("ERROR", initial.status()))
        _finish(exchange, websocket)
        return
    cached.watch(watcher)
    connection = exchange.connection
    connection.on_lost = sink.lost
    try:
        async with scope() as tasks:
            if websocket is not None:
                tasks.start(websocket.read(sink))
            if isinstance(watcher, ConvertedWatcher):
                tasks.start(watcher.run())
            await _send_initial(exchange, initial)
            if (release := info.notes.pop("release", None)) is not None:
                await release()
            connection.on_writable = sink.flush
            sink.flush()
            await _until_end(options, sink, watcher, registry)
    except* ConnectionError as gone:  # amid the initial events, or where a converted event was to be sent
        raise ConnectionResetError("the client went away") from gone
    finally:
        cached.unwatch(watcher)
        connection.on_writable = connection.on_lost = None
    _finish(exchange, websocket)


def _finish(exchange: Exchange, websocket: Any) -> None:
    if websocket is not None:
        websocket.finish()
    else:
        exchange.end_stream()


async def _prepare(registry: Registry, cached: ResourceCache, options: ListOptions) -> int:
    """The revision after which changes are wanted; 0: begin with the present state."""
    if options.initial_events:
        await wait_for_version(registry, options.version)
        return 0
    if options.initial_events is False and options.version in ("", "0"):
        await registry.cache.fresh()
        return registry.cache.revision
    revision = revision_of(options.version)
    if not options.version:
        await registry.cache.fresh()
    elif revision > registry.cache.revision:
        newest = await registry.store.revision()
        if revision <= newest:
            await registry.cache.reached(revision)
    return revision


async def recall(registry: Registry, cached: ResourceCache, first: int) -> list[Change] | None:
    """Changes after `first` that the cache no longer has, from the store's history; None where that is gone too.

    So a watch goes on where it was after a restart of the server, or after a long absence.
    """
    found: list[Change] = []
    reached = first
    while reached < cached.floor:
        floor = cached.floor
        changes = await _history(registry, cached, reached + 1, floor)
        if changes is None:
            return None
        found += changes
        reached = floor
    return found


async def _history(registry: Registry, cached: ResourceCache, first: int, last: int) -> list[Change] | None:
    feed = registry.store.watch(cached.prefix + "/", first)
    changes: list[Change] = []
    try:
        async with asyncio.timeout(HISTORY_SECONDS):
            async for batch in feed:
                for event in batch.events:
                    if event.kv.mod_revision <= last:
                        change = registry.cache.change_of(cached, event)
                        if change is None or len(changes) >= HISTORY_CHANGES_MAX:
                            return None
                        changes.append(change)
                if batch.revision >= last:
                    return changes
                await registry.store.progress()
    except (StoreError, TimeoutError):
        pass  # compacted: the watch is answered with 410
    finally:
        feed.close()
    return None


def _trigger(options: ListOptions) -> tuple[str, str] | None:
    requirement = narrowing(options)
    if requirement is not None and requirement[0] == "field" and requirement[1] in TRIGGERS:
        return requirement[1], requirement[2]
    return None


class _Recorder:
    """Takes the frames of past changes, which are sent before the live ones."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)

    def end(self, reason: str) -> None: ...


def _initial(
    registry: Registry,
    cached: ResourceCache,
    options: ListOptions,
    watcher: Watcher,
    first: int,
    past: list[Change] | None,
) -> Any:
    """What the client hears before live changes: frames (made as they are sent), or the error that ends the watch."""
    rendering = watcher.renderer
    revision = registry.cache.revision
    matches = watcher.matches
    if first == 0:
        found = [e for e in cached.select(watcher.namespace, narrowing(options)) if matches is None or matches(e)]
        watcher.told = revision
        marked = revision if options.initial_events and options.bookmarks else 0
        if isinstance(watcher, ConvertedWatcher):
            return watcher.begin(found, marked)
        return _state(rendering, found, marked)
    if first > revision:
        return too_large_version(first, revision)
    recent = cached.since(max(first, cached.floor))
    if past is None or recent is None:
        return errors.expired(f"too old resource version: {first} ({cached.floor})")
    recorder = _Recorder()
    live, watcher.sink = watcher.sink, recorder
    for change in (*past, *recent):
        if watcher.namespace and change.entry.namespace != watcher.namespace:
            continue
        again = Change(change.type, change.revision, change.entry, change.old)
        watcher.offer(again)
    watcher.sink = live
    watcher.told = revision
    return recorder.frames


def _state(rendering: Any, entries: list[Any], marked: int) -> Any:
    for entry in entries:
        yield rendering.frame("ADDED", entry, entry.revision)
    if marked:
        yield rendering.bookmark(marked, initial_end=True)


async def _send_initial(exchange: Exchange, frames: Any) -> None:
    piece: list[bytes] = []
    size = 0
    for frame in frames:
        piece.append(frame)
        size += len(frame)
        if size >= PIECE_BYTES:
            exchange.connection.write(b"".join(piece))
            piece, size = [], 0
            await exchange.drain()
    if piece:
        exchange.connection.write(b"".join(piece))


async def _until_end(options: ListOptions, sink: StreamSink, watcher: Watcher, registry: Registry) -> None:
    """Wait for the end of the watch; who wants bookmarks gets one a minute, and a last one, of what it has missed."""
    left = options.timeout_seconds or TIMEOUT_SECONDS_MIN * (1 + random.random())
    while left > 0:
        pause = min(left, BOOKMARK_SECONDS)
        done, _ = await asyncio.wait({sink.done}, timeout=pause)
        if done:
            return
        left -= pause
        if options.bookmarks and watcher.told < registry.cache.revision:
            watcher.mark(registry.cache.revision)
