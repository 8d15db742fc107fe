"""What a handler sees of HTTP: the exchange it answers, the response it returns, the raw bytes after an upgrade."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from peavine.apiserver.requests import RequestInfo
from peavine.machinery import errors

if TYPE_CHECKING:
    from peavine.apiserver.http.connection import Connection

REASONS = {status.value: status.phrase for status in HTTPStatus}

# Unread body bytes after which the peer is told to wait (TCP's window closes).
UNREAD_BYTES_MAX = 1 << 20
WARNING_CHARS_MAX = 1024


class Response:
    """A whole answer. `body` is sent as it is; Content-Length and Date are added."""

    __slots__ = ("body", "close", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: list[tuple[str, str]] | None = None,
        close: bool = False,
    ) -> None:
        self.status, self.body, self.close = status, body, close
        self.headers: list[tuple[str, str]] = headers or []
        if content_type:
            self.headers.append(("Content-Type", content_type))


def head(status: int, headers: list[tuple[str, str]], date: bytes) -> bytes:
    """A response's first lines, with the empty line. Line breaks in values become spaces: no header can be smuggled."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\n"]
    for name, value in headers:
        if "\n" in value or "\r" in value:
            value = value.replace("\r", " ").replace("\n", " ")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("utf-8", "surrogateescape") + b"Date: " + date + b"\r\n\r\n"


def warning_headers(info: RequestInfo) -> list[tuple[str, str]]:
    """A `Warning` header for each warning of a request: `299 - "text"`, quoted, control characters gone."""
    headers = []
    for text in info.warnings:
        text = "".join(c if c.isprintable() else " " for c in text[:WARNING_CHARS_MAX])
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        headers.append(("Warning", f'299 - "{text}"'))
    return headers


class Exchange:
    """One request and the way to answer it.

    A handler either returns a `Response`, or calls `start_stream` and writes, or calls `take_over`, and returns None.
    """

    __slots__ = (
        "_body_size",
        "_chunks",
        "_error",
        "_waiter",
        "answered",
        "chunked",
        "complete",
        "connection",
        "discard",
        "expect_continue",
        "extra_headers",
        "info",
        "keep_alive",
        "on_start",
        "upgrade",
    )

    def __init__(self, connection: Connection, info: RequestInfo, keep_alive: bool, upgrade: bool) -> None:
        self.connection, self.info = connection, info
        self.keep_alive, self.upgrade = keep_alive, upgrade
        self.expect_continue = "100-continue" in info.headers.get("expect", "").lower()
        self.complete = False  # the whole body has arrived
        self.discard = False  # nobody will read the rest of the body
        self.answered = False  # the head of an answer has been written
        self.chunked = True
        self.extra_headers: list[tuple[str, str]] = []  # of every answer to this request, streamed or whole
        self.on_start: Callable[[int], None] | None = None  # told when a streamed answer begins
        self._chunks: deque[bytes] = deque()
        self._body_size = 0  # of all that arrived
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    # --- the connection's side -----------------------------------------------------------------
    def feed(self, data: bytes) -> None:
        if self.discard:
            self._body_size += len(data)
            return
        self._chunks.append(data)
        self._body_size += len(data)
        self._wake()

    def feed_end(self) -> None:
        self.complete = True
        self._wake()

    def fail(self, error: Exception) -> None:
        if not self.complete:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the handler's side --------------------------------------------------------------------
    @property
    def body_size(self) -> int:
        return self._body_size

    @property
    def unread(self) -> int:
        return sum(map(len, self._chunks))

    async def _more(self) -> None:
        """Wait until a chunk or the end has arrived. Raises ConnectionError if the peer went away before."""
        while not self._chunks and not self.complete:
            if self._error is not None:
                raise self._error
            if self.expect_continue:
                self.expect_continue = False
                self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.connection.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    async def body_chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; the peer is slowed to the reader's pace."""
        while True:
            await self._more()
            if not self._chunks:
                return
            yield self._chunks.popleft()

    async def read_body(self, bytes_max: int) -> bytes:
        """The whole body. Raises ApiError 413 past `bytes_max`."""
        try:
            declared = int(self.info.headers.get("content-length") or 0)
        except ValueError:
            declared = 0
        if declared > bytes_max:
            self.discard = True
            raise errors.too_large(f"limit is {bytes_max}")
        parts: list[bytes] = []
        size = 0
        async for chunk in self.body_chunks():
            parts.append(chunk)
            size += len(chunk)
            if size > bytes_max:
                self.discard = True
                raise errors.too_large(f"limit is {bytes_max}")
        self.info.body = parts[0] if len(parts) == 1 else b"".join(parts)
        return self.info.body

    def start_stream(self, status: int, headers: list[tuple[str, str]], length: int | None = None) -> None:
        """Answer with a head now and a body to be written: of `length` bytes, or chunked (until close for HTTP/1.0)."""
        self._begin(status)
        self.chunked = length is None and self.info.notes.get("http_version") != "1.0"
        headers = headers + self.extra_headers + warning_headers(self.info)
        if self.chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        elif length is not None:
            if status not in (204, 304):
                headers.append(("Content-Length", str(length)))
        else:
            self.keep_alive = False
        if not self.keep_alive:
            headers.append(("Connection", "close"))
        self.connection.write(head(status, headers, self.connection.server.date()))

    def write(self, data: bytes) -> None:
        """One piece of a streamed body."""
        if data:
            self.connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def write_framed(self, chunk: bytes) -> None:
        """A piece that already carries its chunk header (see `framed`); only where `self.chunked`."""
        self.connection.write(chunk)

    async def drain(self) -> None:
        """Wait until the peer has taken enough. Raises ConnectionError once it is gone."""
        await self.connection.drain()

    def end_stream(self) -> None:
        if self.chunked:
            self.connection.write(b"0\r\n\r\n")

    def take_over(self, head_bytes: bytes = b"") -> RawConnection:
        """The connection as plain bytes from here on; `head_bytes` (a 101 answer) is written first."""
        self._begin(101)
        self.keep_alive = False
        return self.connection.take_over(head_bytes)

    def _begin(self, status: int) -> None:
        self.answered = True
        self.info.notes["status"] = status
        if self.on_start is not None:
            self.on_start(status)


def framed(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class RawConnection:
    """Bytes both ways, with backpressure both ways. Ends when `read` returns b"" or `close` is called."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > UNREAD_BYTES_MAX:
            self._connection.pause_reading()
        self._wake()

    def feed_end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes:
        """The next bytes, of any length; b"" once the peer is gone."""
        while not self._chunks:
            if self._ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._chunks.popleft()
        self._size -= len(data)
        if self._size <= UNREAD_BYTES_MAX // 2:
            self._connection.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        self._connection.write(data)

    async def drain(self) -> None:
        """Wait until the peer has taken enough; ConnectionError once it is gone."""
        await self._connection.drain()

    def close(self) -> None:
        self._connection.close()
