"""One request to another HTTP server, streamed both ways. Upgrades go through `apiserver.streams`."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable
from typing import cast

import httptools

from peavine.apiserver.http import Exchange
from peavine.apiserver.proxying.rewriting import PAGE_BYTES_MAX, Rewriting, packed, unpacked
from peavine.base.lifetimes import scope
from peavine.machinery import errors

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
READ_BYTES = 64 << 10
UNREAD_BYTES_MAX = 1 << 20
HEAD_BYTES_MAX = 1 << 20
# Headers that belong to one connection, not to the message.
HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding")
    + ("upgrade", "proxy-connection")
)


class Upstream(asyncio.Protocol):
    """A connection to a server: its answer's head, then its body or raw bytes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.head_done = False
        self.message_done = False
        self.raw = False
        self.closed = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._wake: asyncio.Future[None] | None = None
        self._paused = False
        self._drain: asyncio.Future[None] | None = None
        self._reading = True
        self._request_method = ""
        self.failure: Exception | None = None

    # --- transport -----------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        self._notify()
        self.parser = None  # type: ignore[assignment]  # it points back here

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.raw:
            self._feed(data)
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.raw = True
            self.head_done = True
            rest = data[upgrade.args[0] :]
            if rest:
                self._feed(rest)
            self._notify()
        except httptools.HttpParserError as error:
            self.failure = ConnectionError(f"malformed HTTP response: {error}")
            self.transport.close()
            self._notify()

    def _feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > UNREAD_BYTES_MAX and self._reading:
            self._reading = False
            self.transport.pause_reading()
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # --- parser --------------------------------------------------------------------------------
    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1"), value.decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self.headers = []
            return
        self.status = status
        self.head_done = True
        self._notify()

    def on_body(self, data: bytes) -> None:
        self._feed(data)

    def on_message_complete(self) -> None:
        if self.status:
            self.message_done = True
            self._notify()

    # --- use -----------------------------------------------------------------------------------
    async def _wait(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    async def head(self) -> None:
        """Wait for the answer's status and headers. Raises ConnectionError."""
        while not self.head_done:
            if self.failure is not None:
                raise self.failure
            if self.closed:
                raise ConnectionError("EOF")
            await self._wait()

    async def read(self) -> bytes:
        """The next bytes of the body (or of the raw stream); b"" at its end."""
        while not self._chunks:
            if self.message_done or self.closed:
                return b""
            if not self._reading:
                self._reading = True
                self.transport.resume_reading()
            await self._wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if not self._reading and not self.closed:
            self._reading = True
            self.transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionResetError("the backend went away")
        self.transport.write(data)
        if self._paused:
            self._drain = asyncio.get_running_loop().create_future()
            await self._drain

    def close(self) -> None:
        if not self.closed and self.transport is not None:
            self.transport.close()


async def connect(host: str, port: int, tls: ssl.SSLContext | None, server_name: str = "") -> Upstream:
    """A new connection. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    name = (server_name or host) if tls is not None else None
    async with asyncio.timeout(CONNECT_SECONDS):
        _, protocol = await loop.create_connection(Upstream, host, port, ssl=tls, server_hostname=name)
    return protocol


def dial_failure(host: str, port: int, error: Exception) -> errors.ApiError:
    """What a client hears of a backend that cannot be reached: 503, as upstream's proxy answers."""
    why = "i/o timeout" if isinstance(error, TimeoutError) else _go_words(error)
    return errors.ApiError(503, "ServiceUnavailable", f"error trying to reach service: dial tcp {host}:{port}: {why}")


def _go_words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connect: connection refused"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}"
    return str(error)


def request_head(
    exchange: Exchange, path: str, host: str, extra: Iterable[tuple[str, str]] = (), drop: Iterable[str] = ()
) -> bytes:
    """The request as it is passed on: same method and headers, less what belonged to the client's connection."""
    info = exchange.info
    dropped = HOP_BY_HOP | {"host", "authorization", *drop}
    dropped |= {token.strip().lower() for token in info.headers.get("connection", "").split(",")}
    lines = [f"{info.method} {path} HTTP/1.1", f"Host: {host}"]
    for name, value in info.raw_headers:
        if name not in dropped:
            lines.append(f"{name}: {value}")
    if "transfer-encoding" in info.headers:
        lines.append("Transfer-Encoding: chunked")
    remote = info.remote[0]
    if remote:
        forwarded = info.headers.get("x-forwarded-for")
        lines = [line for line in lines if not line.startswith("x-forwarded-for:")]
        lines.append(f"X-Forwarded-For: {forwarded + ', ' if forwarded else ''}{remote}")
    lines += [f"{name}: {value}" for name, value in extra]
    text = "\r\n".join(line.replace("\r", " ").replace("\n", " ") for line in lines)
    return (text + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def pass_on(
    exchange: Exchange, upstream: Upstream, head: bytes, rewriting: Rewriting | None = None, *, redirects: bool = True
) -> None:
    """Send the request, stream its answer back. What fails before the answer began is raised as ApiError.

    `redirects` False: a backend that must not send the client elsewhere (it would take its credentials along).
    """
    info = exchange.info
    chunked = "transfer-encoding" in info.headers
    try:
        async with scope() as tasks:
            await upstream.write(head)
            tasks.start(_send_body(exchange, upstream, chunked))
            try:
                await upstream.head()
            except ConnectionError as error:
                raise errors.ApiError(502, "", f"error trying to reach service: {error}") from None
            if not redirects and 300 <= upstream.status < 400 and upstream.status != 304:
                words = "the backend attempted to redirect this request, which is not permitted"
                raise errors.ApiError(502, "", words)
            await _answer(exchange, upstream, rewriting)
    except* ConnectionError as group:
        raise group.exceptions[0] from None
    except* errors.ApiError as group:
        raise group.exceptions[0] from None
    finally:
        upstream.close()


async def _send_body(exchange: Exchange, upstream: Upstream, chunked: bool) -> None:
    async for data in exchange.body_chunks():
        if upstream.closed or upstream.message_done:
            return
        await upstream.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
    if chunked and not upstream.closed:
        await upstream.write(b"0\r\n\r\n")


async def _answer(exchange: Exchange, upstream: Upstream, rewriting: Rewriting | None) -> None:
    headers: list[tuple[str, str]] = []
    length: int | None = None
    for name, value in upstream.headers:
        low = name.lower()
        if low in HOP_BY_HOP or low == "date":
            continue
        if low == "content-length":
            length = int(value)
            continue
        if low == "location" and rewriting is not None:
            value = rewriting.url(value)
        headers.append((name, value))
    bodiless = exchange.info.method == "HEAD" or upstream.status in (204, 304)
    if rewriting is not None and not bodiless and _is_page(headers) and (length or 0) <= PAGE_BYTES_MAX:
        await _answer_page(exchange, upstream, rewriting, headers)
        return
    exchange.start_stream(upstream.status, headers, 0 if bodiless and length is None else length)
    if bodiless:
        return
    await _rest(exchange, upstream, length)


async def _rest(exchange: Exchange, upstream: Upstream, length: int | None) -> None:
    while data := await upstream.read():
        exchange.write(data)
        await exchange.drain()
    if length is None and not upstream.message_done and not _ends_by_close(upstream):
        # The backend broke off inside a chunked answer: so must this one, or the client takes it for whole.
        exchange.connection.abort()
        return
    exchange.end_stream()


def _is_page(headers: list[tuple[str, str]]) -> bool:
    named = {name.lower(): value for name, value in headers}
    return "location" not in named and named.get("content-type", "").partition(";")[0].strip() == "text/html"


async def _answer_page(
    exchange: Exchange, upstream: Upstream, rewriting: Rewriting, headers: list[tuple[str, str]]
) -> None:
    """A page, read whole so that its links can be rewritten; one that grows too large goes on as it is."""
    held = bytearray()
    while len(held) <= PAGE_BYTES_MAX and (data := await upstream.read()):
        held += data
    if len(held) > PAGE_BYTES_MAX or not (upstream.message_done or _ends_by_close(upstream)):
        exchange.start_stream(upstream.status, headers, None)
        exchange.write(bytes(held))
        await _rest(exchange, upstream, None)
        return
    encoding = next((value.lower() for name, value in headers if name.lower() == "content-encoding"), "")
    plain = unpacked(bytes(held), encoding)
    body = bytes(held) if plain is None else packed(rewriting.page(plain), encoding)
    exchange.start_stream(upstream.status, headers, len(body))
    exchange.write(body)
    exchange.end_stream()


def _ends_by_close(upstream: Upstream) -> bool:
    return not any(name.lower() == "transfer-encoding" for name, _ in upstream.headers)
