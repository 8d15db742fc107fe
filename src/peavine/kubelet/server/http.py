"""A small HTTP/1.1 server: requests in, streamed answers out, raw upgrades. One task a connection.

Only what the kubelet's clients use: bodies by Content-Length, chunked answers, keep-alive, `Connection: Upgrade`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from peavine.base.lifetimes import Scope, scope

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 1 << 20
IDLE_SECONDS_MAX = 120.0
REASONS = {
    200: "OK",
    101: "Switching Protocols",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


@dataclass
class Request:
    method: str
    # The raw target, for passing on.
    target: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    head: bytes
    body: bytes
    peer_certificate: bytes | None
    remote: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def first(self, name: str, default: str = "") -> str:
        return (self.query.get(name) or [default])[0]

    def flag(self, name: str) -> bool:
        return self.first(name).lower() in ("1", "t", "true")


@dataclass
class Answer:
    """`stream` instead of `body` for an answer of unknown length."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    stream: AsyncIterator[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    # Set for a connection that the handler has taken over and finished with.
    hijacked: bool = False


class HttpError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


Handler = Callable[[Request], Awaitable[Answer]]


class HttpServer:
    def __init__(self, handler: Handler, *, context: ssl.SSLContext | None = None) -> None:
        self._handler, self._context = handler, context
        self._server: asyncio.Server | None = None
        self._scope: Scope | None = None

    async def listen(self, address: str, port: int) -> int:
        """Bind, and return the port. Connections are served once `run` runs."""
        self._server = await asyncio.start_server(
            self._accept, address, port, ssl=self._context, limit=HEAD_BYTES_MAX, start_serving=False
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def run(self) -> None:
        """Ends by cancellation; open connections are closed."""
        assert self._server is not None
        async with scope() as tasks:
            self._scope = tasks
            try:
                await self._server.start_serving()
                await asyncio.get_running_loop().create_future()
            finally:
                self._server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._scope is not None
        self._scope.start(self._serve(reader, writer), name="connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                continue
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, ssl.SSLError):
            # The client is gone: nobody is left to be told.
            return
        except Exception as error:
            if not isinstance(error, asyncio.LimitOverrunError):
                # What broke while an answer was on its way: the connection ends, the server goes on.
                log.warning("connection of %s: %s", writer.get_extra_info("peername"), error)
                return
            writer.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n")
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; True if the connection may carry another."""
        try:
            async with asyncio.timeout(IDLE_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        try:
            request = await _parse(head, reader, writer)
            answer = await self._handler(request)
        except HttpError as error:
            answer = Answer(error.status, error.message.encode() + b"\n")
            request = None  # type: ignore[assignment]
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("request failed")
            answer = Answer(500, b"internal error\n")
            request = None  # type: ignore[assignment]
        if answer.hijacked:
            return False
        keep = request is not None and request.headers.get("connection", "").lower() != "close"
        await _send(answer, writer, keep)
        return keep


async def _parse(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise HttpError(400, "malformed request")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            key = name.strip().lower()
            headers[key] = f"{headers[key]},{value.strip()}" if key in headers else value.strip()
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > BODY_BYTES_MAX:
        raise HttpError(400, "unusable Content-Length")
    body = await reader.readexactly(int(length)) if int(length) else b""
    parts = urlsplit(words[1])
    tls = writer.get_extra_info("ssl_object")
    peer = writer.get_extra_info("peername") or ("", 0)
    return Request(
        method=words[0],
        target=words[1],
        path=unquote(parts.path),
        query=parse_qs(parts.query, keep_blank_values=True),
        headers=headers,
        head=head,
        body=body,
        peer_certificate=tls.getpeercert(binary_form=True) if tls is not None else None,
        remote=str(peer[0]),
        reader=reader,
        writer=writer,
    )


async def _send(answer: Answer, writer: asyncio.StreamWriter, keep: bool) -> None:
    headers = {"Content-Type": answer.content_type, **answer.headers}
    if answer.stream is None:
        headers["Content-Length"] = str(len(answer.body))
    else:
        headers["Transfer-Encoding"] = "chunked"
    if not keep:
        headers["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, '')}\r\n{lines}\r\n".encode("latin-1"))
    if answer.stream is None:
        writer.write(answer.body)
    else:
        async for piece in answer.stream:
            if piece:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
        writer.write(b"0\r\n\r\n")
    await writer.drain()
