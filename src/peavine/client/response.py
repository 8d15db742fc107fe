"""An answer of the API server, read once; shared by the transports for event loops and for plain blocking calls."""

from __future__ import annotations

from collections.abc import AsyncIterator

TYPE_CHECKING = False  # as typing's, which is not imported: a command line counts its milliseconds
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Exchange(Protocol):
        """A connection on which an answer is arriving."""

        headers: dict[str, str]

        @property
        def status(self) -> int: ...

        async def piece(self) -> bytes | None: ...

    class Pool(Protocol):
        def release(self, connection: Any) -> None: ...


TIMED_OUT = "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"


class Unreachable(ConnectionError):
    """The server did not answer: refused, reset, or closed before the answer was whole."""


class Response:
    """Status and headers of an answer; the body is read once, whole or in pieces."""

    def __init__(self, connection: Exchange, pool: Pool) -> None:
        self._connection, self._pool, self._closed = connection, pool, False
        self.status = connection.status
        self.headers = connection.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises Unreachable if the connection ends before the body does."""
        try:
            while (piece := await self._connection.piece()) is not None:
                yield piece
        finally:
            self.close()

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.chunks()])

    def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end. Twice is as good as once."""
        if not self._closed:
            self._closed = True
            self._pool.release(self._connection)
