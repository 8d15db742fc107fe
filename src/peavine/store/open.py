"""From a `--store` URL to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peavine.store.interface import Store


async def open_store(url: str, **options: Any) -> Store:
    """`sqlite:///absolute/path`, `sqlite:relative/path`, `memory://`, or `etcd://host:port[,host:port...]`.

    `options` go to the store's constructor (etcd: `cert_file`, `key_file`, `ca_file`). Raises ValueError for a URL of
    another kind, `Unavailable` where the store cannot be reached or is in use by another process."""
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        from peavine.store.memory import MemoryStore

        return MemoryStore(**options)
    if scheme == "sqlite":
        from peavine.store.sqlite import SqliteStore

        path = Path(rest.removeprefix("//") if rest.startswith("///") else rest)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return SqliteStore(path, **options)
    if scheme == "etcd":
        from peavine.store.etcd import EtcdStore

        endpoints = [endpoint for endpoint in rest.removeprefix("//").rstrip("/").split(",") if endpoint]
        if not endpoints:
            raise ValueError(f"no endpoint in {url!r}: use etcd://host:port[,host:port...]")
        return await EtcdStore.open(endpoints, **options)
    raise ValueError(f"unknown store {url!r}: use sqlite:///path, memory:// or etcd://host:port")
