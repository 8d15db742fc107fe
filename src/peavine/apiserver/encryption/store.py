"""A store that encrypts what it is told to: the same promises, over another store.

Keys, revisions and compare-and-swap are the inner store's; values of the configured resources are unreadable in it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from typing import Any

from peavine.api.catalogue import CATALOGUE
from peavine.apiserver.encryption.config import ConfigError, Encryption, load_encryption
from peavine.apiserver.encryption.providers import ENCRYPTED, DecryptionError, Provider
from peavine.base.clock import REAL, Clock
from peavine.store.interface import Batch, Conflict, Event, KeyValue, Page, Store, StoreError

log = logging.getLogger(__name__)

RELOAD_SECONDS = 10.0
STALE_MAX = 100_000


class Undecryptable(StoreError):
    """A value cannot be read with the configured keys."""


class EncryptedStore:
    """`stale(key)` tells what was read but written with an old key, or not encrypted: a write makes it new."""

    def __init__(self, inner: Store, encryption: Encryption, *, path: str = "", clock: Clock = REAL) -> None:
        self.inner, self.clock, self.path = inner, clock, path
        self._encryption = encryption
        self._by_folder: dict[str, tuple[Provider, ...] | None] = {}
        self._builtin = {
            kind.storage_prefix: (kind.hub.group, kind.plural) for kind in CATALOGUE.kinds() if kind.storage_prefix
        }
        self._stale: set[str] = set()
        self._stamp = os.stat(path).st_mtime_ns if path else 0

    @classmethod
    def open(cls, inner: Store, path: str, clock: Clock = REAL) -> EncryptedStore:
        """Over `inner`, as the EncryptionConfiguration at `path` says. Raises ConfigError, OSError."""
        return cls(inner, load_encryption(path), path=path, clock=clock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)  # what concerns no value: revision, compact, leases, close, ...

    def stale(self, key: str) -> bool:
        return key in self._stale

    async def run(self) -> None:
        """Take a changed configuration into use, without a restart; a broken one is logged and ignored."""
        while self.path:
            await self.clock.sleep(RELOAD_SECONDS)
            self.reload()

    def reload(self) -> bool:
        """Read the configuration again where the file changed; True where a new one is in use."""
        try:
            stamp = os.stat(self.path).st_mtime_ns
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            self._encryption = load_encryption(self.path)
        except (ConfigError, OSError) as error:
            log.error("encryption configuration not taken into use: %s", error)
            return False
        self._by_folder.clear()
        return True

    # --- values --------------------------------------------------------------------------------
    def _providers(self, key: str) -> tuple[Provider, ...] | None:
        parts = key.split("/", 4)
        if len(parts) < 4 or parts[1] != "registry":
            return None
        folder = f"{parts[2]}/{parts[3]}" if len(parts) > 4 else parts[2]
        if folder not in self._by_folder:
            if len(self._by_folder) > 10_000:
                self._by_folder.clear()
            for prefix in (f"/registry/{parts[2]}/{parts[3]}", f"/registry/{parts[2]}"):
                if prefix in self._builtin:
                    group, resource = self._builtin[prefix]
                    break
            else:
                group, resource = (parts[2], parts[3]) if "." in parts[2] else ("", parts[2])
            self._by_folder[folder] = self._encryption.providers_for(group, resource)
        return self._by_folder[folder]

    async def _sealed(self, key: str, value: bytes) -> bytes:
        providers = self._providers(key)
        return value if providers is None else await providers[0].encrypt(value, key.encode())

    async def _plain(self, kv: KeyValue) -> KeyValue:
        providers = self._providers(kv.key)
        if providers is None or not kv.value:
            return kv
        try:
            position = _reader(providers, kv.value)
            value, old = await providers[position].decrypt(kv.value, kv.key.encode())
        except DecryptionError as error:
            raise Undecryptable(f'unable to transform key "{kv.key}": {error}') from error
        if (old or position > 0) and len(self._stale) < STALE_MAX:
            self._stale.add(kv.key)
        else:
            self._stale.discard(kv.key)
        return kv._replace(value=value)

    # --- the store's methods that carry values -----------------------------------------------------
    async def get(self, key: str, revision: int = 0) -> tuple[KeyValue | None, int]:
        kv, read = await self.inner.get(key, revision)
        return (None if kv is None else await self._plain(kv)), read

    async def range(self, prefix: str, start: str = "", limit: int = 0, revision: int = 0) -> Page:
        page = await self.inner.range(prefix, start, limit, revision)
        return page._replace(items=[await self._plain(kv) for kv in page.items])

    async def put(self, key: str, value: bytes, expect: int | None = None, lease: int = 0) -> KeyValue:
        try:
            kv = await self.inner.put(key, await self._sealed(key, value), expect, lease)
        except Conflict as conflict:
            raise await self._readable(conflict) from None
        self._stale.discard(key)
        return kv._replace(value=value)

    async def delete(self, key: str, expect: int | None = None) -> KeyValue:
        try:
            return await self._plain(await self.inner.delete(key, expect))
        except Conflict as conflict:
            raise await self._readable(conflict) from None

    async def _readable(self, conflict: Conflict) -> Conflict:
        if conflict.current is not None:
            conflict.current = await self._plain(conflict.current)
        return conflict

    def watch(self, prefix: str, start_revision: int = 0) -> EncryptedWatch:
        return EncryptedWatch(self, self.inner.watch(prefix, start_revision))


def _reader(providers: tuple[Provider, ...], value: bytes) -> int:
    """Which provider wrote the value: the one of its prefix, else identity, where that is allowed."""
    for position, provider in enumerate(providers):
        if value.startswith(provider.prefix) if provider.prefix else not value.startswith(ENCRYPTED):
            return position
    raise DecryptionError("no matching prefix found")


class EncryptedWatch:
    def __init__(self, store: EncryptedStore, inner: Any) -> None:
        self._store, self._inner = store, inner
        self._held: Batch | None = None  # read, not yet handed out: a cancelled __anext__ loses nothing

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self  # type: ignore[return-value]

    async def __anext__(self) -> Batch:
        if self._held is None:
            self._held = await self._inner.__anext__()
        events = []
        for event in self._held.events:
            kv = await self._store._plain(event.kv)
            prev = None if event.prev is None else await self._store._plain(event.prev)
            events.append(Event(event.type, kv, prev))
        batch = Batch(events, self._held.revision)
        self._held = None
        return batch

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()
