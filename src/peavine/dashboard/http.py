"""A small HTTP/1.1 server for browsers: bounded heads and bodies, streamed answers, raw bytes after an upgrade.

Requests of one connection are answered one after another. An answer that is under way is cancelled when its client
goes away, so a watch or a followed log ends with the tab that asked for it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote

import httptools

from peavine.base.lifetimes import Scope, scope

log = logging.getLogger(__name__)

WAITING_MAX = 8
READ_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take."""

    head_bytes: int = 32 << 10
    body_bytes: int = 4 << 20
    request_seconds: float = 30.0  # from a request's first byte to its last
    idle_seconds: float = 75.0
    connections: int = 512


@dataclass(slots=True)
class Request:
    method: str
    target: str  # as sent: path and query, ASCII
    headers: dict[str, str]  # names in lower case; of a repeated name the first
    body: bytes = b""
    upgrade: bool = False
    secure: bool = False

    @property
    def raw_path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def path(self) -> str:
        return unquote(self.raw_path, errors="surrogateescape")

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


Takeover = Callable[["Raw"], Awaitable[None]]


@dataclass(slots=True)
class Answer:
    """Status, headers, and a body: whole, in pieces as they come, or (status 101) the connection itself."""

    status: int
    body: bytes | AsyncIterator[bytes] = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    takeover: Takeover | None = None


Handler = Callable[[Request], Awaitable[Answer]]


class Refused(Exception):
    """The request cannot be read further; answered with `status`, then the connection closes."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).phrase)
        self.status = status


class Raw:
    """The connection as plain bytes, after a 101."""

    def __init__(self, writer: asyncio.StreamWriter, arrived: asyncio.Queue[bytes]) -> None:
        self._writer, self._arrived = writer, arrived

    async def read(self) -> bytes:
        """The next bytes; empty once the client is gone."""
        return await self._arrived.get()

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


class Server:
    """`async with scope() as tasks: port = await server.listen(host, port, tasks)`."""

    def __init__(self, handler: Handler, *, limits: Limits = Limits(), tls: ssl.SSLContext | None = None) -> None:
        self.handler, self.limits, self.tls = handler, limits, tls
        self.open = 0
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int, tasks: Scope) -> int:
        """Bind and accept in `tasks`; the port in use. Raises OSError if it cannot be bound."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self.open >= self.limits.connections:
                writer.close()
                return
            self.open += 1
            tasks.start(self._one(reader, writer))

        self._server = await asyncio.start_server(accept, host, port, ssl=self.tls, limit=READ_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _Connection(self, reader, writer).run()
        except ExceptionGroup as group:
            # A client that went away is no news. A bug must cost one connection, not the server.
            if (bugs := group.split((ConnectionError, TimeoutError, ssl.SSLError))[1]) is not None:
                log.error("answering a client", exc_info=bugs)
        finally:
            self.open -= 1
            writer.close()


class _Connection:
    """One client: a loop that reads and parses, a task that answers. Doubles as httptools' callback object."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self._limits = server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: asyncio.Queue[Request | int] = asyncio.Queue(WAITING_MAX)
        self._parsed: list[Request] = []
        self._raw: asyncio.Queue[bytes] | None = None
        self._partial = self._busy = False
        self._head_bytes = self._body_bytes = 0
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    async def run(self) -> None:
        async with scope() as tasks:
            answering = tasks.start(self._answer_all())
            try:
                await self._read_all(tasks, answering)
            except Refused as refused:
                await self._waiting.put(refused.status)
                await answering

    async def _read_all(self, tasks: Scope, answering: asyncio.Task[None]) -> None:
        while not answering.done():
            data = await self._some()
            if not data:
                return
            if self._raw is not None:
                await self._raw.put(data)
                continue
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._upgraded(data[upgrade.args[0] :])
            except httptools.HttpParserCallbackError as error:
                cause = error.__context__
                raise cause if isinstance(cause, Refused) else Refused(400) from error
            except httptools.HttpParserError as error:
                raise Refused(400) from error
            for request in self._parsed:
                await self._waiting.put(request)
            self._parsed.clear()

    async def _some(self) -> bytes:
        """The next bytes; empty at the end, or when the client has been quiet for too long."""
        while True:
            seconds = self._limits.request_seconds if self._partial else self._limits.idle_seconds
            try:
                async with asyncio.timeout(seconds):
                    return await self._reader.read(READ_BYTES)
            except TimeoutError:
                if self._partial:
                    raise Refused(408) from None
                if not self._busy and self._waiting.empty():
                    return b""

    def _upgraded(self, rest: bytes) -> None:
        self._raw = asyncio.Queue(WAITING_MAX)
        if rest:
            self._raw.put_nowait(rest)

    # httptools
    def on_message_begin(self) -> None:
        self._partial, self._head_bytes = True, 0
        self._target, self._headers, self._body, self._body_bytes = b"", {}, [], 0

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            raise Refused(431)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1").strip())

    def on_headers_complete(self) -> None:
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._limits.body_bytes:
            raise Refused(413)
        if not self._target.startswith(b"/") or not self._target.isascii() or "host" not in self._headers:
            raise Refused(400)
        if "100-continue" in self._headers.get("expect", "").lower():
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            raise Refused(413)
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._partial = False
        self._parsed.append(
            Request(
                self._parser.get_method().decode(),
                self._target.decode(),
                self._headers,
                b"".join(self._body),
                self._parser.should_upgrade(),
                self._server.tls is not None,
            )
        )

    # answers
    async def _answer_all(self) -> None:
        while True:
            request = await self._waiting.get()
            self._busy = True
            if isinstance(request, int):
                text = f"{request} {HTTPStatus(request).phrase}\n".encode()
                await self._send(Answer(request, text, [("Content-Type", "text/plain")]), "GET", keep=False)
                break
            try:
                answer = await self._server.handler(request)
            except Exception:
                log.exception("%s %s", request.method, request.raw_path)
                answer = Answer(500, b"internal error\n", [("Content-Type", "text/plain")])
            keep = request.headers.get("connection", "").lower() != "close" and not request.upgrade
            if answer.takeover is not None:
                assert self._raw is not None
                self._writer.write(_head(answer.status, answer.headers))
                await answer.takeover(Raw(self._writer, self._raw))
                break
            await self._send(answer, request.method, keep=keep)
            if not keep:
                break
            self._busy = False
        # Its reader then sees the end, and the connection is over.
        self._writer.close()

    async def _send(self, answer: Answer, method: str, *, keep: bool) -> None:
        headers = [*answer.headers, *([] if keep else [("Connection", "close")])]
        if isinstance(answer.body, bytes):
            headers.append(("Content-Length", str(len(answer.body))))
            self._writer.write(_head(answer.status, headers) + (b"" if method == "HEAD" else answer.body))
            await self._writer.drain()
            return
        self._writer.write(_head(answer.status, [*headers, ("Transfer-Encoding", "chunked")]))
        async for piece in answer.body:
            if piece and method != "HEAD":
                self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await self._writer.drain()
        self._writer.write(b"" if method == "HEAD" else b"0\r\n\r\n")
        await self._writer.drain()


def _head(status: int, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}".replace("\r", " ").replace("\n", " ") for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
