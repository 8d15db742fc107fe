"""What every store promises: keys and bytes under one revision counter, compare-and-swap, watch, leases.

The semantics are those of etcd v3 as far as Kubernetes needs them:

- The store has one revision. Every change of a key gets a revision that is higher than all before it, and keeps it
  for ever: no revision is reused or lowered, also not after a crash. (Keys that end with one lease may share one.)
- A write that has returned is durable. A write that raised `Unavailable` may or may not have happened.
- Reads see every write that returned before they began. A read at a revision sees exactly the state of that revision,
  as long as it is not compacted.
- A watcher hears of each change below its prefix once, in the order of revisions, or ends with an error; it never
  skips one silently.

Keys are text and ordered by their UTF-8 bytes. A prefix is a plain text prefix: end it with "/" to mean a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

# etcd's own default (--max-request-bytes): what fits here fits there.
VALUE_BYTES_MAX = 1_572_864
# Events that may wait for a watcher before it is cut.
WATCH_EVENTS_MAX = 20_000


class KeyValue(NamedTuple):
    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int  # 1 at creation, one more with each change
    lease: int = 0


class Event(NamedTuple):
    """`kv` of a DELETE has an empty value, version 0, and the deletion's revision. `prev` is what stood there before;
    None at a creation, and where compaction has taken it (then the watcher asked for old history)."""

    type: Literal["PUT", "DELETE"]
    kv: KeyValue
    prev: KeyValue | None


class Batch(NamedTuple):
    """Some events, and the promise that everything up to `revision` has now been told. `events` may be empty."""

    events: Sequence[Event]
    revision: int


class Page(NamedTuple):
    items: list[KeyValue]
    revision: int  # the state that was read
    more: bool = False
    remaining: int = 0  # keys after this page; 0 where `more` is False


class StoreError(Exception):
    """Any refusal or failure of a store."""


class Conflict(StoreError):
    """The key is not as the caller expected; `current` is what stands there (None: nothing)."""

    def __init__(self, key: str, current: KeyValue | None) -> None:
        super().__init__(f"{key} is at revision {current.mod_revision}" if current else f"{key} does not exist")
        self.key, self.current = key, current


class Compacted(StoreError):
    """The asked revision is gone; `revision` is the newest compacted one, where the store tells it, else the asked."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"required revision has been compacted (compacted: {revision})")
        self.revision = revision


class FutureRevision(StoreError):
    """The asked revision has not been reached; `revision` is the current one."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"required revision is a future revision (current: {revision})")
        self.revision = revision


class LeaseNotFound(StoreError):
    def __init__(self, lease: int) -> None:
        super().__init__(f"lease {lease} does not exist")
        self.lease = lease


class TooLarge(StoreError):
    def __init__(self, key: str, value_bytes: int) -> None:
        super().__init__(f"value of {key} has {value_bytes} bytes, may have at most {VALUE_BYTES_MAX}")


class WatchCut(StoreError):
    """The watcher did not keep up, or its connection was lost beyond repair: list again, watch again."""


class Unavailable(StoreError):
    """The store cannot answer now (closed, overloaded, disk or network failure); a write's outcome may be unknown."""


class Watch(Protocol):
    """An asynchronous iterator of `Batch`. Ends by `Compacted`, `WatchCut`, `Unavailable`; after `close()` it stops."""

    def __aiter__(self) -> Watch: ...

    async def __anext__(self) -> Batch: ...

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


class Store(Protocol):
    """See the module's text for what holds across calls. All methods belong to one event loop."""

    async def get(self, key: str, revision: int = 0) -> tuple[KeyValue | None, int]:
        """The key (None: absent) and the revision of the state that was read. 0: now."""

    async def range(self, prefix: str, start: str = "", limit: int = 0, revision: int = 0) -> Page:
        """Keys with `prefix`, from `start` (inclusive) on, in order; at most `limit` (0: all), at `revision` (0: now).

        Raises `Compacted`, `FutureRevision`."""

    async def count(self, prefix: str) -> int:
        """How many keys have the prefix now."""

    async def put(self, key: str, value: bytes, expect: int | None = None, lease: int = 0) -> KeyValue:
        """Write the key, if `expect` holds: None anything, 0 the key is absent, n its mod_revision is n.

        Raises `Conflict`, `LeaseNotFound`, `TooLarge`."""

    async def delete(self, key: str, expect: int | None = None) -> KeyValue:
        """Delete the key if `expect` holds; returns what was deleted, with the deletion's revision as `mod_revision`.

        Raises `Conflict` (with `current` None where there is no such key)."""

    def watch(self, prefix: str, start_revision: int = 0) -> Watch:
        """Changes below `prefix` from `start_revision` on (inclusive; 0: from now on).

        Cancelling a pending `__anext__` loses nothing. Close it when done."""

    async def progress(self) -> None:
        """Ask that every watcher of this store soon hears of a revision at least as new as now."""

    async def revision(self) -> int:
        """The current revision."""

    async def compact(self, revision: int) -> None:
        """Forget history up to `revision`: reads below it, and watches that start below it, raise `Compacted` (one that
        starts exactly at it may). Compacting what is compacted does nothing. Raises `FutureRevision`."""

    async def grant(self, ttl_seconds: int) -> int:
        """A new lease (a positive number); keys put under it are deleted when it ends."""

    async def keep_alive(self, lease: int) -> int:
        """Start the lease's time anew; returns its seconds. Raises `LeaseNotFound`."""

    async def revoke(self, lease: int) -> None:
        """End the lease now, deleting its keys. Raises `LeaseNotFound`."""

    async def close(self) -> None:
        """Finish accepted writes and release everything; later calls raise `Unavailable`."""


def prefix_end(prefix: str) -> str:
    """The first key after all keys with `prefix`; "" means there is none (the prefix is empty)."""
    for i in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[i])
        if point < 0x10FFFF:
            # Surrogates cannot be encoded: the next code point after U+D7FF is U+E000.
            return prefix[:i] + chr(0xE000 if point == 0xD7FF else point + 1)
    return ""
