"""A recorded cluster served again: `async with replayed(about, changes) as cluster`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from peavine.apiserver.http import Exchange
from peavine.machinery.errors import ApiError
from peavine.testing.cluster import AsyncCluster
from peavine.testing.recording import Change, RecordedStore
from peavine.testing.requests import WRITES

# Writing there asks a question and changes nothing.
QUESTIONS = ("authorization.k8s.io", "authentication.k8s.io")


@asynccontextmanager
async def replayed(
    about: dict[str, Any], changes: Iterable[Change], *, writable: bool = False, **config: Any
) -> AsyncIterator[AsyncCluster]:
    """The state after the last of `changes`, and all before it by `resourceVersion`. Nothing runs but the API server.

    What every Peavine has from its start (its own roles, namespaces) is added where the recorded cluster lacked it.
    """
    cluster = AsyncCluster(
        controllers=False,
        scheduler=False,
        nodes=0,
        state=RecordedStore.of(changes),
        compaction_interval_seconds=10**9,
        **config,
    )
    async with cluster:
        if not writable:
            filters = cluster.server.filters
            filters.handler = _reading_only(filters.handler)
        yield cluster


def _reading_only(handler: Any) -> Any:
    async def handle(exchange: Exchange) -> Any:
        info = exchange.info
        if info.verb in WRITES and info.group not in QUESTIONS:
            raise ApiError(405, "MethodNotAllowed", "this is a recording: serve it --writable to change it")
        return await handler(exchange)

    return handle
