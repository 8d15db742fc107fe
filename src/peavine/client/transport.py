"""HTTP/1.1 to one server: a pool of kept connections, streamed bodies, raw upgrades.

One exchange at a time on a connection; a body that is not read to its end closes it. Reading is paused while more
than `BUFFERED_BYTES_MAX` wait for the reader, so a slow consumer slows the server and not our memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httptools

from peavine.client.proxies import open_tunnel, request_through
from peavine.client.response import TIMED_OUT, Response, Unreachable

BUFFERED_BYTES_MAX = 1 << 20
# A handshake costs more than all else in a request: what a burst has opened is kept for the next.
IDLE_CONNECTIONS_MAX = 100
CONNECT_SECONDS_MAX = 10.0

__all__ = ["Response", "Transport", "Unreachable", "Upgraded"]


class _Connection(asyncio.Protocol):
    """One connection. Doubles as httptools' callback object."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.ended: BaseException | None = None
        self.used = self.identity = 0
        self._waiter: asyncio.Future[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.headers: dict[str, str] = {}
        self.head_done = self.body_done = self.upgraded = self.kept = False
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False

    @property
    def status(self) -> int:
        return self.parser.get_status_code()

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.upgraded:
            self.on_body(data)
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.upgraded = self.head_done = True
            rest = data[upgrade.args[0] :]
            if rest:
                self.on_body(rest)
            self._wake()
        except httptools.HttpParserError as error:
            self.ended = Unreachable(f"malformed HTTP answer: {error}")
            self.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if self.ended is None:
            self.ended = Unreachable(str(error) if error else "connection closed by the server")
        self._wake()

    # httptools
    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        # Several Warning lines are several warnings.
        self.headers[key] = f"{self.headers[key]}, {text}" if key == "warning" and key in self.headers else text

    def on_headers_complete(self) -> None:
        self.head_done = True
        # Asked now: once the message is complete, the parser has forgotten.
        self.kept = self.parser.should_keep_alive()
        self._wake()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._buffered += len(body)
        if self._buffered > BUFFERED_BYTES_MAX and not self._paused and self.transport:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        self.body_done = True
        self._wake()

    # the exchange
    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def head(self, request: bytes) -> None:
        """Send one request and return once the answer's head is there."""
        self._reset()
        self.used += 1
        if self.transport is None or self.ended or self.transport.is_closing():
            raise self.ended or Unreachable("connection closed")
        self.transport.write(request)
        while not self.head_done:
            if self.ended:
                raise self.ended
            await self._wait()

    async def piece(self) -> bytes | None:
        """The next piece of the body; None at its end."""
        while not self._pieces:
            # An upgraded answer is complete at its head, says the parser; what counts then is the connection.
            if self.ended if self.upgraded else self.body_done:
                return None
            if self.ended:
                # A body without length or chunks ends with the connection.
                if "content-length" not in self.headers and "transfer-encoding" not in self.headers:
                    return None
                raise self.ended
            await self._wait()
        pieces = b"".join(self._pieces) if len(self._pieces) > 1 else self._pieces[0]
        self._pieces.clear()
        self._buffered = 0
        if self._paused and self.transport:
            self._paused = False
            self.transport.resume_reading()
        return pieces

    @property
    def reusable(self) -> bool:
        return (
            self.body_done
            and not self.upgraded
            and self.ended is None
            and self.kept
            and self.transport is not None
            and not self.transport.is_closing()
        )

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Upgraded:
    """The raw connection after `101 Switching Protocols`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.headers = connection.headers

    def write(self, data: bytes) -> None:
        assert self._connection.transport is not None
        self._connection.transport.write(data)

    async def read(self) -> bytes:
        """The next bytes; empty once the other side has closed."""
        return await self._connection.piece() or b""

    def close(self) -> None:
        self._connection.close()


_awaiting: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()


def awaiting() -> int:
    """How many requests of the running loop have no answer yet: a skip of time must not pass under them."""
    return _awaiting.get(asyncio.get_running_loop(), 0)


@contextlib.contextmanager
def _awaited() -> Iterator[None]:
    loop = asyncio.get_running_loop()
    _awaiting[loop] = _awaiting.get(loop, 0) + 1
    try:
        yield
    finally:
        _awaiting[loop] -= 1


class Transport:
    """Connections to the server of one base URL (`https://host:port[/prefix]`, `http://…`)."""

    def __init__(
        self,
        base: str,
        context: Callable[[], ssl.SSLContext] | None,
        server_name: str = "",
        *,
        proxy: str = "",
        timeout_seconds: float = 0.0,
    ) -> None:
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"unusable server URL {base!r}")
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self.prefix = parts.path.rstrip("/")
        self.authority = parts.netloc.rpartition("@")[2]
        self._context = context if parts.scheme == "https" else None
        self._server_name = server_name or None
        self._idle: list[_Connection] = []
        self._identity = 0
        self._proxy, self.timeout_seconds = proxy, timeout_seconds
        self.headers, whole = request_through(proxy, parts.scheme, self.authority)
        self.prefix = whole + self.prefix

    async def exchange(self, request: bytes, *, idempotent: bool) -> Response:
        """Send a whole request. Raises Unreachable.

        A kept connection may have been closed by the server meanwhile: an idempotent request is then sent again on a
        new one.
        """
        with _awaited():
            return await self._exchange(request, idempotent)

    async def _exchange(self, request: bytes, idempotent: bool) -> Response:
        while self._idle:
            connection = self._idle.pop()
            if connection.ended or connection.transport is None or connection.transport.is_closing():
                continue
            try:
                await connection.head(request)
                return Response(connection, self)
            except BaseException as error:
                connection.close()
                if not isinstance(error, ConnectionError) or not idempotent:
                    raise
        connection = await self._connect()
        try:
            async with asyncio.timeout(self.timeout_seconds or None):
                await connection.head(request)
        except TimeoutError:
            connection.close()
            raise Unreachable(TIMED_OUT) from None
        except BaseException:
            connection.close()
            raise
        return Response(connection, self)

    async def upgrade(self, request: bytes) -> Upgraded | Response:
        """Send an upgrade request; the Response is the server's refusal."""
        connection = await self._connect()
        try:
            await connection.head(request)
        except BaseException:
            connection.close()
            raise
        return Upgraded(connection) if connection.upgraded else Response(connection, self)

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                tunnel = None
                if self._proxy:
                    tunnel = await loop.run_in_executor(
                        None, open_tunnel, self._proxy, self._host, self._port, CONNECT_SECONDS_MAX, not self._context
                    )
                    tunnel.setblocking(False)
                where: dict[str, Any] = {"sock": tunnel} if tunnel else {"host": self._host, "port": self._port}
                _, connection = await loop.create_connection(
                    _Connection,
                    **where,
                    # Asked for each connection: certificates are renewed while we run.
                    ssl=self._context() if self._context else None,
                    server_hostname=(self._server_name or self._host) if self._context else None,
                )
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(f"certificate of {self.authority} is not trusted: {error.verify_message}") from error
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{self.authority}: {error or 'no answer'}") from error
        connection.identity = self._identity
        return connection

    def renew(self) -> None:
        """Who we are has changed: no connection from before is used for another request."""
        self._identity += 1
        self.close()

    def release(self, connection: _Connection) -> None:
        if connection.reusable and connection.identity == self._identity and len(self._idle) < IDLE_CONNECTIONS_MAX:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()
