"""The durable store of one machine: SQLite in WAL mode, one committing thread, one fsync for a group of writes.

How a write goes: `put` appends to the pending list; the loop opens a transaction, applies the whole list (microseconds
a write, in memory), and hands only COMMIT, the part that waits for the disk, to the committing thread. Writes that
arrive meanwhile form the next group. Only after the commit do callers get their answers and watchers their events.
Why not the statements in the thread too: each would fight the loop for the interpreter's lock.

Reads use other connections, see what is committed, and yield to the loop between slices of rows.
docs/decisions/0010-store-in-sqlite.md says why it is so.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

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

log = logging.getLogger(__name__)

# `history` is append-only until compaction: one row a change, version 0 for a deletion; `prev` is the revision of the
# row that it replaces (0: none). `live` finds the newest row of each existing key. `state` has one row.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS history (
  rev INTEGER PRIMARY KEY, key TEXT NOT NULL, create_rev INTEGER NOT NULL, version INTEGER NOT NULL,
  lease INTEGER NOT NULL, prev INTEGER NOT NULL, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS history_key ON history (key, rev);
CREATE TABLE IF NOT EXISTS live (
  key TEXT PRIMARY KEY, rev INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS live_lease ON live (lease) WHERE lease != 0;
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY AUTOINCREMENT, ttl INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS state (
  id INTEGER PRIMARY KEY CHECK (id = 1), layout INTEGER NOT NULL, compacted INTEGER NOT NULL, swept INTEGER NOT NULL);
INSERT OR IGNORE INTO state VALUES (1, 1, 0, 0);
"""
_LAYOUT = 1
_COLUMNS = "h.key, h.value, h.create_rev, h.rev, h.version, h.lease"

GROUP_WRITES_MAX = 512
GROUP_BYTES_MAX = 8 << 20
PENDING_WRITES_MAX = 65_536
_SLICE_ROWS = 256  # rows read, or compacted, before the loop gets its turn
_READERS_MAX = 4
_CACHE_KIB = 2048

_Result = tuple[asyncio.Future[Any], Any, Exception | None]


class SqliteStore:
    """Open with `SqliteStore(path)` inside a running loop; one process a file (held by a lock), many readers within."""

    def __init__(self, path: str | Path, clock: Clock = REAL, watch_events_max: int = WATCH_EVENTS_MAX) -> None:
        self._path = str(path)
        self._lock = _lock_file(self._path + ".lock")
        try:
            self._writer = self._connect()
            self._prepare()
        except BaseException:
            os.close(self._lock)
            raise
        revision, compacted = next(
            self._writer.execute(
                "SELECT max(1, compacted, (SELECT ifnull(max(rev), 0) FROM history)), compacted FROM state"
            )
        )
        self._applied = revision  # newest revision given out; above the committed one while a group is under way
        self._readers: list[apsw.Connection] = []
        self._fanout = Fanout(self._history, revision, compacted, watch_events_max)
        self._leases = Leases(self._lease_over, clock)
        for lease, ttl in self._writer.execute("SELECT id, ttl FROM lease"):
            self._leases.add(lease, ttl)
        self._pending: deque[tuple[asyncio.Future[Any], Callable[[], Any], int]] = deque()
        self._committing = False
        self._closed = False
        self._idle: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        # Of the group under way: what to tell watchers, and what else to do, once it is durable.
        self._events: list[Event] = []
        self._after_commit: list[Callable[[], Any]] = []
        self._work: queue.SimpleQueue[list[_Result] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._commit_groups, name="store-commit", daemon=True)
        self._thread.start()

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(self._path)
        connection.set_busy_timeout(5000)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"cache_size=-{_CACHE_KIB}", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def _prepare(self) -> None:
        with self._writer:
            self._writer.execute(_SCHEMA)
            ((layout,),) = self._writer.execute("SELECT layout FROM state")
        if layout != _LAYOUT:
            raise Unavailable(f"{self._path} has layout {layout}, this program knows {_LAYOUT}")

    # Reading

    @contextlib.contextmanager
    def _reading(self, revision: int = 0) -> Iterator[tuple[apsw.Connection, int]]:
        """A connection in a read transaction, and the revision that it is to show."""
        self._open()
        connection = self._readers.pop() if self._readers else self._connect()
        try:
            connection.execute("BEGIN")
            ((current, compacted),) = connection.execute(
                "SELECT max(1, compacted, (SELECT ifnull(max(rev), 0) FROM history)), compacted FROM state"
            )
            if revision > current:
                raise FutureRevision(current)
            if revision and revision < compacted:
                raise Compacted(compacted)
            yield connection, revision or current
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if len(self._readers) < _READERS_MAX and not self._closed:
                self._readers.append(connection)
            else:
                connection.close()

    async def get(self, key: str, revision: int = 0) -> tuple[KeyValue | None, int]:
        with self._reading(revision) as (connection, at):
            if revision:
                sql = f"SELECT {_COLUMNS} FROM history h WHERE key = ? AND rev <= ? ORDER BY rev DESC LIMIT 1"
                row = connection.execute(sql, (key, at)).fetchone()
            else:
                sql = f"SELECT {_COLUMNS} FROM live l JOIN history h ON h.rev = l.rev WHERE l.key = ?"
                row = connection.execute(sql, (key,)).fetchone()
            return (KeyValue(*row) if row and row[4] else None), at

    async def range(self, prefix: str, start: str = "", limit: int = 0, revision: int = 0) -> Page:
        first, end = max(prefix, start), prefix_end(prefix)
        with self._reading(revision) as (connection, at):
            # Reading the newest state at its own number is the common case of a continued list: the short way.
            now = not revision or revision == self._newest(connection)
            source, bindings = _span(now, first, end, at)
            rows = connection.execute(
                f"SELECT {_COLUMNS} {source} ORDER BY {'l' if now else 'h'}.key LIMIT ?",
                (*bindings, limit + 1 if limit else -1),
            )
            items: list[KeyValue] = []
            with contextlib.closing(rows):
                for row in rows:
                    items.append(KeyValue(*row))
                    if len(items) % _SLICE_ROWS == 0:
                        await asyncio.sleep(0)
            if not limit or len(items) <= limit:
                return Page(items, at)
            source, bindings = _span(now, items.pop().key, end, at)
            ((remaining,),) = connection.execute(f"SELECT count(*) {source}", bindings)
            return Page(items, at, True, remaining)

    def _newest(self, connection: apsw.Connection) -> int:
        ((newest,),) = connection.execute("SELECT ifnull(max(rev), 0) FROM history")
        return newest

    async def count(self, prefix: str) -> int:
        with self._reading() as (connection, _):
            end = prefix_end(prefix)
            sql, bindings = "SELECT count(*) FROM live WHERE key >= ?", [prefix]
            if end:
                sql, bindings = sql + " AND key < ?", [prefix, end]
            ((n,),) = connection.execute(sql, bindings)
            return n

    async def revision(self) -> int:
        self._open()
        return self._fanout.revision

    # Writing: `_apply_*` run inside the group's transaction on the loop

    async def put(self, key: str, value: bytes, expect: int | None = None, lease: int = 0) -> KeyValue:
        if len(value) > VALUE_BYTES_MAX:
            raise TooLarge(key, len(value))
        return await self._submit(lambda: self._apply_put(key, value, expect, lease), len(value))

    async def delete(self, key: str, expect: int | None = None) -> KeyValue:
        return await self._submit(lambda: self._apply_delete(key, expect))

    def _submit(self, apply: Callable[[], Any], size: int = 0) -> asyncio.Future[Any]:
        self._open()
        if len(self._pending) >= PENDING_WRITES_MAX:
            raise Unavailable("too many writes are waiting")
        answer = self._loop.create_future()
        self._pending.append((answer, apply, size))
        if not self._committing:
            self._committing = True
            self._loop.call_soon(self._apply_group)
        return answer

    def _open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed")

    def _expected(self, key: str, expect: int | None) -> KeyValue | None:
        sql = f"SELECT {_COLUMNS} FROM live l JOIN history h ON h.rev = l.rev WHERE l.key = ?"
        row = self._writer.execute(sql, (key,)).fetchone()
        current = KeyValue(*row) if row else None
        if expect is not None and expect != (current.mod_revision if current else 0):
            raise Conflict(key, current)
        return current

    def _apply_put(self, key: str, value: bytes, expect: int | None, lease: int) -> KeyValue:
        current = self._expected(key, expect)
        if lease:
            self._require_lease(lease)
        revision = self._applied + 1
        if current is None:
            kv = KeyValue(key, value, revision, revision, 1, lease)
        else:
            kv = KeyValue(key, value, current.create_revision, revision, current.version + 1, lease)
        self._insert(kv, current)
        self._writer.execute("INSERT OR REPLACE INTO live VALUES (?, ?, ?)", (key, revision, lease))
        self._events.append(Event("PUT", kv, current))
        return kv

    def _apply_delete(self, key: str, expect: int | None) -> KeyValue:
        current = self._expected(key, expect)
        if current is None:
            raise Conflict(key, None)
        revision = self._applied + 1
        gone = KeyValue(key, b"", 0, revision, 0)
        self._insert(gone, current)
        self._writer.execute("DELETE FROM live WHERE key = ?", (key,))
        self._events.append(Event("DELETE", gone, current))
        return current._replace(mod_revision=revision)

    def _insert(self, kv: KeyValue, prev: KeyValue | None) -> None:
        self._writer.execute(
            "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                kv.mod_revision,
                kv.key,
                kv.create_revision,
                kv.version,
                kv.lease,
                prev.mod_revision if prev else 0,
                kv.value,
            ),
        )
        self._applied = kv.mod_revision

    def _apply_group(self) -> None:
        results: list[_Result] = []
        size = 0
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            while self._pending and len(results) < GROUP_WRITES_MAX and size < GROUP_BYTES_MAX:
                answer, apply, value_bytes = self._pending.popleft()
                if answer.cancelled():
                    continue
                size += value_bytes
                applied = self._applied
                try:
                    results.append((answer, apply(), None))
                except apsw.Error:
                    results.append((answer, None, None))
                    raise
                except Exception as error:
                    results.append((answer, None, error))
                    if self._applied != applied:  # half a write: the group cannot stand
                        raise
        except Exception as error:
            self._after_group(results, error)
            return
        if self._events or self._after_commit:
            self._work.put(results)
        else:  # only refusals: nothing to make durable
            self._writer.execute("ROLLBACK")
            self._after_group(results, None)

    def _commit_groups(self) -> None:
        while (results := self._work.get()) is not None:
            failure: Exception | None = None
            try:
                self._writer.execute("COMMIT")
            except apsw.Error as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits for the answers
                self._loop.call_soon_threadsafe(self._after_group, results, failure)

    def _after_group(self, results: list[_Result], failure: Exception | None) -> None:
        events, self._events = self._events, []
        after_commit, self._after_commit = self._after_commit, []
        if failure is None:
            for note in after_commit:
                note()
            if events:
                self._fanout.publish(events, self._applied)
        else:
            log.error("a group of %d writes failed: %s", len(results), failure)
            with contextlib.suppress(apsw.Error):
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            self._applied = self._fanout.revision
        for answer, value, error in results:
            if answer.done():
                continue
            if failure is not None:
                error = Unavailable(f"the write failed: {failure}")
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)
        if self._pending:
            self._loop.call_soon(self._apply_group)
            return
        self._committing = False
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    # Watching

    def watch(self, prefix: str, start_revision: int = 0) -> Watch:
        self._open()
        return self._fanout.add(prefix, start_revision)

    def _history(self, prefix: str, first: int, last: int) -> tuple[list[Event], int]:
        last = min(last, first + 4 * _SLICE_ROWS)
        # The unary plus keeps the planner on the revision order; a window is short.
        sql = (
            f"SELECT {_COLUMNS}, p.key, p.value, p.create_rev, p.rev, p.version, p.lease FROM history h"
            " LEFT JOIN history p ON p.rev = h.prev WHERE h.rev BETWEEN ? AND ? AND +h.key >= ?"
        )
        bindings: list[Any] = [first, last, prefix]
        if end := prefix_end(prefix):
            sql, bindings = sql + " AND +h.key < ?", [*bindings, end]
        with self._reading() as (connection, _):
            events = []
            for row in connection.execute(sql + " ORDER BY h.rev", bindings):
                kv, prev = KeyValue(*row[:6]), KeyValue(*row[6:]) if row[6] is not None else None
                events.append(Event("PUT" if kv.version else "DELETE", kv, prev))
            return events, last

    async def progress(self) -> None:
        self._open()
        self._fanout.progress()

    # Compaction

    async def compact(self, revision: int) -> None:
        if revision > self._fanout.revision:
            raise FutureRevision(self._fanout.revision)
        await self._submit(lambda: self._apply_compact(revision))
        while await self._submit(self._apply_sweep):
            pass

    def _apply_compact(self, revision: int) -> None:
        if revision <= self._fanout.compacted:
            return
        self._writer.execute("UPDATE state SET compacted = ?", (revision,))

        def note() -> None:
            self._fanout.compacted = max(revision, self._fanout.compacted)

        self._after_commit.append(note)

    def _apply_sweep(self) -> bool:
        """Delete one slice of what compaction has forgotten; True where there is more. A kill between slices costs
        disk space until the next compaction, nothing else."""
        ((compacted, swept),) = self._writer.execute("SELECT compacted, swept FROM state")
        if swept >= compacted:
            return False
        until = min(swept + _SLICE_ROWS, compacted)
        self._writer.execute(
            "DELETE FROM history WHERE rev IN (SELECT prev FROM history WHERE rev > ? AND rev <= ? AND prev != 0)",
            (swept, until),
        )
        self._writer.execute("DELETE FROM history WHERE rev > ? AND rev <= ? AND version = 0", (swept, until))
        self._writer.execute("UPDATE state SET swept = ?", (until,))
        self._after_commit.append(lambda: None)
        return until < compacted

    # Leases

    async def grant(self, ttl_seconds: int) -> int:
        return await self._submit(lambda: self._apply_grant(ttl_seconds))

    def _apply_grant(self, ttl_seconds: int) -> int:
        self._writer.execute("INSERT INTO lease (ttl) VALUES (?)", (ttl_seconds,))
        lease = self._writer.last_insert_rowid()
        self._after_commit.append(lambda: self._leases.add(lease, ttl_seconds))
        return lease

    async def keep_alive(self, lease: int) -> int:
        self._open()
        if lease not in self._leases:
            raise LeaseNotFound(lease)
        return self._leases.renew(lease)

    async def revoke(self, lease: int) -> None:
        await self._submit(lambda: self._apply_revoke(lease))

    def _require_lease(self, lease: int) -> None:
        if self._writer.execute("SELECT 1 FROM lease WHERE id = ?", (lease,)).fetchone() is None:
            raise LeaseNotFound(lease)

    def _apply_revoke(self, lease: int) -> None:
        self._require_lease(lease)
        keys = self._writer.execute("SELECT key FROM live WHERE lease = ? ORDER BY key", (lease,)).fetchall()
        for (key,) in keys:
            self._apply_delete(str(key), None)
        self._writer.execute("DELETE FROM lease WHERE id = ?", (lease,))
        self._after_commit.append(lambda: self._leases.drop(lease))

    def _lease_over(self, lease: int) -> None:
        def ended(answer: asyncio.Future[Any]) -> None:
            error = None if answer.cancelled() else answer.exception()
            if error is not None and not isinstance(error, LeaseNotFound):
                log.error("ending lease %d: %s; again after its time", lease, error)
                self._leases.renew(lease)

        try:
            self._submit(lambda: self._apply_revoke(lease)).add_done_callback(ended)
        except Unavailable as error:
            log.error("ending lease %d: %s; again after its time", lease, error)
            if not self._closed:
                self._leases.renew(lease)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._leases.close()
        while self._committing:
            self._idle = self._loop.create_future()
            await self._idle
        self._work.put(None)
        self._thread.join()
        self._fanout.end(Unavailable("the store is closed"))
        while self._readers:
            self._readers.pop().close()
        self._writer.close()
        os.close(self._lock)


def _span(now: bool, first: str, end: str, at: int) -> tuple[str, tuple[Any, ...]]:
    """FROM and WHERE, with bindings, for the keys in [first, end) that exist now, or existed at revision `at`."""
    upto = (end,) if end else ()
    if now:
        below = " AND l.key < ?" if end else ""
        return f"FROM live l CROSS JOIN history h ON h.rev = l.rev WHERE l.key >= ?{below}", (first, *upto)
    below = " AND h.key < ?" if end else ""
    source = (
        f"FROM history h INDEXED BY history_key WHERE h.key >= ?{below} AND h.rev <= ? AND h.version != 0"
        " AND h.rev = (SELECT max(n.rev) FROM history n WHERE n.key = h.key AND n.rev <= ?)"
    )
    return source, (first, *upto, at, at)


def _lock_file(path: str) -> int:
    """Hold `path` for this process; the kernel releases it however the process ends."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise Unavailable(f"{path.removesuffix('.lock')} is in use by another process") from error
    return held
