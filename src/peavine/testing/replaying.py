"""A recorded cluster served again: one moment of it (`replayed`), or any, forward and back (`Walk`)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

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


class Walk:
    """`async with Walk(about, changes) as walk:` stands at the last of `changes`, and goes where it is told.

    All moments are served at one address and with one kubeconfig. A step ends the server and starts another one, so
    clients' watches end with it; revisions are those of the recording, and go back when the walk does.
    """

    def __init__(
        self, about: dict[str, Any], changes: Sequence[Change], *, writable: bool = False, port: int = 0
    ) -> None:
        self._about, self._changes, self._writable, self._port = about, changes, writable, port
        self.revisions = sorted({change.revision for change in changes})
        self.at = len(self.revisions) - 1
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._serve()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()

    async def _serve(self) -> None:
        await self._stack.aclose()
        shown = [change for change in self._changes if self.at >= 0 and change.revision <= self.revisions[self.at]]
        served = replayed(self._about, shown, writable=self._writable, secure_port=self._port)
        self.cluster = await self._stack.enter_async_context(served)
        self._port = self.cluster.server.port

    @property
    def here(self) -> list[Change]:
        """The changes of the revision at which the walk stands."""
        return [change for change in self._changes if self.revisions and change.revision == self.revisions[self.at]]

    async def step(self, count: int) -> None:
        """`count` revisions forward, back if negative; at the ends of the recording it stays."""
        await self._go(self.at + count)

    async def to(self, revision: int) -> None:
        """To the last moment not after `revision`, or to the first there is."""
        await self._go(bisect_right(self.revisions, revision) - 1)

    async def _go(self, at: int) -> None:
        at = max(0, min(at, len(self.revisions) - 1))
        if at != self.at:
            self.at = at
            await self._serve()


def _reading_only(handler: Any) -> Any:
    async def handle(exchange: Exchange) -> Any:
        info = exchange.info
        if info.verb in WRITES and info.group not in QUESTIONS:
            raise ApiError(405, "MethodNotAllowed", "this is a recording: serve it --writable to change it")
        return await handler(exchange)

    return handle
