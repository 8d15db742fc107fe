"""The store in plain Python structures: the semantics at their most readable, for tests and throw-away clusters."""

from __future__ import annotations

import bisect
import itertools

from peavine.base.clock import REAL, Clock
from peavine.store.fanout import Fanout
from peavine.store.interface import (
    VALUE_BYTES_MAX,
    WATCH_EVENTS_MAX,
    Compacted,
    Conflict,
    Event,
    FutureRevision,
    KeyValue,
    LeaseNotFound,
    Page,
    TooLarge,
    Unavailable,
    Watch,
    prefix_end,
)
from peavine.store.leases import Leases

_HISTORY_EVENTS_MAX = 1000


class MemoryStore:
    """Nothing is durable here; everything else is as the interface says."""

    def __init__(self, clock: Clock = REAL, watch_events_max: int = WATCH_EVENTS_MAX) -> None:
        # etcd's revision is 1 before the first write; 0 never names a state.
        self._revision = 1
        self._compacted = 0
        self._keys: list[str] = []  # every key with a version kept, sorted
        self._versions: dict[str, list[KeyValue]] = {}  # by revision; version 0 is a deletion
        self._log: list[Event] = []  # what happened after compaction, by revision
        self._lease_keys: dict[int, set[str]] = {}
        self._fanout = Fanout(self._history, 1, 0, watch_events_max)
        self._leases = Leases(self._end_lease, clock)
        self._lease_numbers = itertools.count(1)
        self._closed = False

    def _open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed")

    def _current(self, key: str) -> KeyValue | None:
        versions = self._versions.get(key)
        return versions[-1] if versions and versions[-1].version else None

    def _at(self, key: str, revision: int) -> KeyValue | None:
        for kv in reversed(self._versions.get(key, ())):
            if kv.mod_revision <= revision:
                return kv if kv.version else None
        return None

    def _readable(self, revision: int) -> int:
        self._open()
        if revision > self._revision:
            raise FutureRevision(self._revision)
        if revision and revision < self._compacted:
            raise Compacted(self._compacted)
        return revision or self._revision

    async def get(self, key: str, revision: int = 0) -> tuple[KeyValue | None, int]:
        at = self._readable(revision)
        return self._at(key, at), at

    async def range(self, prefix: str, start: str = "", limit: int = 0, revision: int = 0) -> Page:
        at = self._readable(revision)
        found = [kv for key in self._span(prefix, start) if (kv := self._at(key, at)) is not None]
        if limit and len(found) > limit:
            return Page(found[:limit], at, True, len(found) - limit)
        return Page(found, at)

    def _span(self, prefix: str, start: str = "") -> list[str]:
        end = prefix_end(prefix)
        first = bisect.bisect_left(self._keys, max(prefix, start))
        return self._keys[first : bisect.bisect_left(self._keys, end) if end else len(self._keys)]

    async def count(self, prefix: str) -> int:
        self._open()
        return sum(1 for key in self._span(prefix) if self._current(key) is not None)

    async def put(self, key: str, value: bytes, expect: int | None = None, lease: int = 0) -> KeyValue:
        self._open()
        if len(value) > VALUE_BYTES_MAX:
            raise TooLarge(key, len(value))
        current = self._expected(key, expect)
        if lease and lease not in self._leases:
            raise LeaseNotFound(lease)
        revision = self._revision + 1
        if current is None:
            kv = KeyValue(key, value, revision, revision, 1, lease)
        else:
            kv = KeyValue(key, value, current.create_revision, revision, current.version + 1, lease)
        self._record(Event("PUT", kv, current))
        return kv

    async def delete(self, key: str, expect: int | None = None) -> KeyValue:
        self._open()
        current = self._expected(key, expect)
        if current is None:
            raise Conflict(key, None)
        return self._delete(current)

    def _expected(self, key: str, expect: int | None) -> KeyValue | None:
        current = self._current(key)
        if expect is not None and expect != (current.mod_revision if current else 0):
            raise Conflict(key, current)
        return current

    def _delete(self, current: KeyValue) -> KeyValue:
        revision = self._revision + 1
        self._record(Event("DELETE", KeyValue(current.key, b"", 0, revision, 0), current))
        return current._replace(mod_revision=revision)

    def _record(self, event: Event) -> None:
        kv, prev = event.kv, event.prev
        if kv.key not in self._versions:
            bisect.insort(self._keys, kv.key)
            self._versions[kv.key] = []
        self._versions[kv.key].append(kv)
        if prev is not None and prev.lease:
            self._lease_keys[prev.lease].discard(kv.key)
        if kv.lease:
            self._lease_keys[kv.lease].add(kv.key)
        self._revision = kv.mod_revision
        self._log.append(event)
        self._fanout.publish([event], self._revision)

    def watch(self, prefix: str, start_revision: int = 0) -> Watch:
        self._open()
        return self._fanout.add(prefix, start_revision)

    def _history(self, prefix: str, first: int, last: int) -> tuple[list[Event], int]:
        at = bisect.bisect_left(self._log, first, key=lambda event: event.kv.mod_revision)
        part = self._log[at : at + _HISTORY_EVENTS_MAX]
        covered = part[-1].kv.mod_revision if len(part) == _HISTORY_EVENTS_MAX else last
        return [e for e in part if e.kv.mod_revision <= last and e.kv.key.startswith(prefix)], min(covered, last)

    async def progress(self) -> None:
        self._open()
        self._fanout.progress()

    async def revision(self) -> int:
        self._open()
        return self._revision

    async def compact(self, revision: int) -> None:
        self._open()
        if revision > self._revision:
            raise FutureRevision(self._revision)
        if revision <= self._compacted:
            return
        self._compacted = self._fanout.compacted = revision
        keep = bisect.bisect_right(self._log, revision, key=lambda event: event.kv.mod_revision)
        for key in {event.kv.key for event in self._log[:keep]}:
            versions = self._versions[key]
            newest = bisect.bisect_right(versions, revision, key=lambda kv: kv.mod_revision) - 1
            # The newest version up to the revision is still readable at it, unless it is a deletion.
            del versions[: newest if versions[newest].version else newest + 1]
            if not versions:
                del self._versions[key]
                del self._keys[bisect.bisect_left(self._keys, key)]
        del self._log[:keep]

    async def grant(self, ttl_seconds: int) -> int:
        self._open()
        lease = next(self._lease_numbers)
        self._lease_keys[lease] = set()
        self._leases.add(lease, ttl_seconds)
        return lease

    async def keep_alive(self, lease: int) -> int:
        self._open()
        if lease not in self._leases:
            raise LeaseNotFound(lease)
        return self._leases.renew(lease)

    async def revoke(self, lease: int) -> None:
        self._open()
        if lease not in self._leases:
            raise LeaseNotFound(lease)
        self._end_lease(lease)

    def _end_lease(self, lease: int) -> None:
        self._leases.drop(lease)
        for key in sorted(self._lease_keys[lease]):
            current = self._current(key)
            assert current is not None
            self._delete(current)
        del self._lease_keys[lease]

    async def close(self) -> None:
        self._closed = True
        self._leases.close()
        self._fanout.end(Unavailable("the store is closed"))
