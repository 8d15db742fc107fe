"""The cache of the whole store: filled by one read, kept by one watch, in one order of revisions for all resources."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Mapping

from peavine.apiserver.cache.entries import Change, Entry, Form, Object
from peavine.apiserver.cache.resource import Callback, ResourceCache
from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import Scope
from peavine.store.interface import Compacted, Event, Store, StoreError, WatchCut

log = logging.getLogger(__name__)

ROOT = "/registry/"
PAGE_OBJECTS = 2000
BOOKMARK_SECONDS = 60.0
# How long a fresh read waits for the watch before it asks the store to report its progress.
PROGRESS_SECONDS = 0.05


class Cache:
    """Resources are registered before `start`, or later with `add` (custom resources)."""

    def __init__(self, store: Store, clock: Clock = REAL) -> None:
        self.store, self.clock = store, clock
        self.revision = 0  # everything up to here has been applied and told
        self.resources: dict[tuple[str, str], ResourceCache] = {}
        self.by_prefix: dict[str, ResourceCache] = {}
        self.ready = False
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._listeners: dict[tuple[str, str], list[Callback]] = {}
        self._decoded: list[Entry] = []

    # --- resources -----------------------------------------------------------------------------
    def register(self, group: str, resource: str, form: Form, prefix: str, namespaced: bool) -> ResourceCache:
        """Make a resource known before `start`. `prefix` is its folder, such as /registry/services/specs."""
        found = self.resources.get((group, resource))
        if found is not None:
            return found
        made = ResourceCache(group, resource, form, prefix, namespaced)
        self.resources[group, resource] = made
        self.by_prefix[prefix.removeprefix(ROOT)] = made
        for callback in self._listeners.get((group, resource), ()):
            made.listen(callback)
        return made

    async def add(self, group: str, resource: str, form: Form, prefix: str, namespaced: bool) -> ResourceCache:
        """Make a resource known while running: its objects are read, and no change is missed meanwhile."""
        known = self.resources.get((group, resource))
        if known is not None and known.loading is None:
            return known
        made = self.register(group, resource, form, prefix, namespaced)
        made.loading = []
        page = await self.store.range(prefix + "/", limit=PAGE_OBJECTS)
        first, items = page.revision, list(page.items)
        while page.more:
            page = await self.store.range(
                prefix + "/", start=page.items[-1].key + "\0", limit=PAGE_OBJECTS, revision=first
            )
            items += page.items
        made.floor = first
        for item in items:
            self._load(made, item.key, item.value, item.mod_revision)
        waiting, made.loading = made.loading, None
        for callback in made.callbacks:
            for entry in made.entries():
                made._guarded(callback, "ADDED", made.object(entry), None)
        for change in waiting:
            if change[3] > first:
                made.apply(*change)
        await self.reached(first)
        return made

    def drop(self, group: str, resource: str) -> None:
        """Forget a resource that is served no more; its watches end."""
        gone = self.resources.pop((group, resource), None)
        if gone is not None:
            self.by_prefix.pop(gone.prefix.removeprefix(ROOT), None)
            for watcher in gone.watchers.every():
                watcher.sink.end("the resource is no longer served")

    def on_change(self, group: str, resource: str, callback: Callback) -> None:
        """See `Lister.on_change`; resources that are not known yet are listened to as soon as they are."""
        self._listeners.setdefault((group, resource), []).append(callback)
        known = self.resources.get((group, resource))
        if known is not None:
            known.listen(callback)

    def _locate(self, key: str) -> tuple[ResourceCache | None, str, str]:
        """The resource, namespace and name of a store key; None for what no resource owns."""
        parts = key[len(ROOT) :].split("/")
        if len(parts) >= 3 and (found := self.by_prefix.get(parts[0] + "/" + parts[1])) is not None:
            parts = parts[2:]
        elif (found := self.by_prefix.get(parts[0])) is not None:
            parts = parts[1:]
        else:
            return None, "", ""
        if found.namespaced:
            return (found, parts[0], parts[1]) if len(parts) == 2 else (None, "", "")
        # A name may hold a slash only where upstream lets it: nowhere that is stored.
        return (found, "", parts[0]) if len(parts) == 1 else (None, "", "")

    def _load(self, resource: ResourceCache | None, key: str, value: bytes, revision: int) -> None:
        found, namespace, name = self._locate(key)
        if found is None or (resource is not None and found is not resource):
            return
        try:
            found.load(found.form.entry(namespace, name, revision, value))
        except (ValueError, KeyError, AttributeError):
            log.exception("undecodable object at %s", key)

    # --- the feed ------------------------------------------------------------------------------
    async def start(self, scope: Scope) -> None:
        """Fill the cache and keep it current in `scope`. Returns once it is filled."""
        await self._fill()
        scope.start(self._follow(), name="cache")
        scope.start(self._bookmarks(), name="bookmarks")

    async def _fill(self) -> None:
        page = await self.store.range(ROOT, limit=PAGE_OBJECTS)
        first = page.revision
        while True:
            for item in page.items:
                self._load(None, item.key, item.value, item.mod_revision)
            if not page.more:
                break
            page = await self.store.range(ROOT, start=page.items[-1].key + "\0", limit=PAGE_OBJECTS, revision=first)
        for resource in self.resources.values():
            resource.floor = first
            for callback in resource.callbacks:
                for entry in resource.entries():
                    resource._guarded(callback, "ADDED", resource.object(entry), None)
        self._advance(first)
        self.ready = True

    async def _follow(self) -> None:
        backoff = Backoff(first=0.05, most=5.0)
        behind = False
        while True:
            try:
                if behind:
                    await self._refill()
                    behind = False
                await self._follow_once(backoff)
            except (Compacted, WatchCut) as error:
                log.warning("the store's watch ended (%s): reading everything again", error)
                behind = True
            except StoreError as error:
                log.warning("the store's watch failed: %s", error)
            await self.clock.sleep(backoff.next())

    async def _follow_once(self, backoff: Backoff) -> None:
        watch = self.store.watch(ROOT, self.revision + 1)
        try:
            async for batch in watch:
                backoff.forget()
                for event in batch.events:
                    self._apply(event)
                self._advance(batch.revision)
        finally:
            watch.close()

    def _apply(self, event: Event) -> None:
        kv = event.kv
        resource, namespace, name = self._locate(kv.key)
        if resource is not None:
            resource.apply(event.type, namespace, name, kv.mod_revision, kv.value)

    def change_of(self, resource: ResourceCache, event: Event) -> Change | None:
        """A past event as a change; None where the store no longer knows what stood there before."""
        _, namespace, name = self._locate(event.kv.key)
        form, prev = resource.form, event.prev
        old = form.entry(namespace, name, prev.mod_revision, prev.value) if prev is not None else None
        if event.type == "DELETE":
            return Change("DELETED", event.kv.mod_revision, old, old) if old is not None else None
        entry = form.entry(namespace, name, event.kv.mod_revision, event.kv.value)
        return Change("MODIFIED" if old else "ADDED", entry.revision, entry, old)

    async def _refill(self) -> None:
        """After a gap: bring every resource to the store's state, telling the differences as changes."""
        page = await self.store.range(ROOT)
        seen: dict[ResourceCache, set[tuple[str, str]]] = {r: set() for r in self.resources.values()}
        for item in sorted(page.items, key=lambda kv: kv.mod_revision):
            resource, namespace, name = self._locate(item.key)
            if resource is None:
                continue
            seen[resource].add((namespace, name))
            held = resource.get(namespace, name)
            if held is None or held.revision < item.mod_revision:
                resource.apply("PUT", namespace, name, item.mod_revision, item.value)
        for resource, keys in seen.items():
            for entry in [e for e in resource.entries() if (e.namespace, e.name) not in keys]:
                resource.apply("DELETE", entry.namespace, entry.name, page.revision, b"")
        self._advance(page.revision)

    def _advance(self, revision: int) -> None:
        if revision > self.revision:
            self.revision = revision
            while self._waiters and self._waiters[0][0] <= revision:
                _, _, waiter = heapq.heappop(self._waiters)
                if not waiter.done():
                    waiter.set_result(None)

    # --- freshness -----------------------------------------------------------------------------
    async def fresh(self) -> int:
        """Wait until the cache shows every write that finished before this call; the revision it shows then."""
        revision = await self.store.revision()
        if self.revision < revision:
            await self.reached(revision)
        return self.revision

    async def reached(self, revision: int) -> None:
        """Wait until everything up to `revision` has been applied."""
        while self.revision < revision:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiters, (revision, next(self._order), waiter))
            done, _ = await asyncio.wait({waiter}, timeout=PROGRESS_SECONDS)
            if not done:
                waiter.cancel()
                await self.store.progress()

    async def _bookmarks(self) -> None:
        while True:
            await self.clock.sleep(BOOKMARK_SECONDS)
            for resource in self.resources.values():
                frames: dict[object, bytes] = {}
                for watcher in resource.watchers.every():
                    if watcher.bookmarks and watcher.told < self.revision:
                        frame = frames.get(watcher.renderer.form)
                        if frame is None:
                            frame = frames[watcher.renderer.form] = watcher.renderer.bookmark(self.revision)
                        watcher.told = self.revision
                        watcher.sink.send(frame)


class CacheLister:
    """`Lister` over the cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def get(self, group: str, resource: str, namespace: str | None, name: str) -> Object | None:
        known = self._cache.resources.get((group, resource))
        entry = known.get(namespace or "", name) if known is not None else None
        return self._object(known, entry) if known is not None and entry is not None else None

    def labels(self, group: str, resource: str, namespace: str | None, name: str) -> Mapping[str, str]:
        known = self._cache.resources.get((group, resource))
        entry = known.get(namespace or "", name) if known is not None else None
        return entry.labels if entry is not None else {}

    def list(self, group: str, resource: str, namespace: str | None = None) -> list[Object]:
        known = self._cache.resources.get((group, resource))
        if known is None:
            return []
        return [known.object(entry) for entry in known.entries(namespace or "")]

    def on_change(self, group: str, resource: str, callback: Callback) -> None:
        self._cache.on_change(group, resource, callback)

    def _object(self, known: ResourceCache, entry: Entry) -> Object:
        if entry.obj is None:
            entry.obj = known.form.load(entry)
            held = self._cache._decoded
            held.append(entry)
            if len(held) > DECODED_OBJECTS_MAX:
                for old in held[: DECODED_OBJECTS_MAX // 2]:
                    old.obj = None
                del held[: DECODED_OBJECTS_MAX // 2]
        return entry.obj


# Objects kept decoded for code inside the process that asks for them one by one.
DECODED_OBJECTS_MAX = 512
