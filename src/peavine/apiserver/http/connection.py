"""One client's connection: httptools in, handler tasks in order, bytes out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import httptools

from peavine.apiserver.http.messages import UNREAD_BYTES_MAX, Exchange, RawConnection, Response, head
from peavine.apiserver.http.tls import sent_chain
from peavine.apiserver.requests import RequestInfo, parse_query

if TYPE_CHECKING:
    from peavine.apiserver.http.server import HttpServer

log = logging.getLogger(__name__)

# Requests of one connection that may wait behind the one being answered before its reading stops.
PIPELINED_MAX = 32
# Body bytes that are still read and thrown away after an answer that came before the body's end.
DISCARDED_BYTES_MAX = 16 << 20
# Written bytes that wait for the end of the loop's turn.
TOGETHER_BYTES_MAX = 64 << 10


class Connection(asyncio.Protocol):
    """Requests are answered one after another, in order, by one task; each answer is one write."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.peer_certificate: bytes | None = None
        self.peer_chain: tuple[bytes, ...] = ()
        self.remote = ("", 0)
        self.deadline = 0.0  # monotonic; 0: none. Past it the connection is cut (see HttpServer.sweep)
        self.closed = False
        self.paused = False  # the transport's write buffer is full
        self.on_writable: Callable[[], None] | None = None  # called once when it has room again
        self.on_lost: Callable[[], None] | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._raw: RawConnection | None = None
        self._reading = True
        self._waiting: deque[Exchange] = deque()
        self.current: Exchange | None = None  # being answered
        self._incoming: Exchange | None = None  # whose body is arriving
        self._wake: asyncio.Future[None] | None = None
        self._drain: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._headers_size = 0
        self._unwritten: list[bytes] = []  # goes out together at the end of the loop's turn
        self._unwritten_bytes = 0

    # --- transport -----------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self.server.limits.write_buffer_bytes)
        ssl = transport.get_extra_info("ssl_object")
        if ssl is not None:
            self.peer_certificate = ssl.getpeercert(binary_form=True)
            if self.peer_certificate is not None:
                self.peer_chain = sent_chain(ssl)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and len(peer) >= 2:
            self.remote = (peer[0], peer[1])
        self.deadline = self.server.now() + self.server.limits.header_seconds
        self._task = self.server.start(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        gone = ConnectionResetError("the client went away")
        for exchange in [*self._waiting, *([self.current] if self.current else []), self._incoming]:
            if exchange is not None:
                exchange.fail(gone)
        if self._raw is not None:
            self._raw.feed_end()
        for waiter in self._drain:
            if not waiter.done():
                waiter.set_result(None)
        if self.on_lost is not None:
            self.on_lost()
        self._notify()
        self.server.forget(self)
        # The parser and the transport point back here: without this, each closed connection (with TLS some 40 KB)
        # would wait for the garbage collector.
        self._parser = self._task = self.on_lost = self.on_writable = None  # type: ignore[assignment]
        self.transport = None  # type: ignore[assignment]

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        for waiter in self._drain:
            if not waiter.done():
                waiter.set_result(None)
        self._drain.clear()
        if self.on_writable is not None:
            self.on_writable()

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.feed(data)
            return
        if self.closed:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            pass  # a limit: the callback has answered already
        except httptools.HttpParserError:
            self._refuse(400)
        except Exception:  # a bug here must cost one connection, not the server
            log.exception("reading from %s", self.remote)
            self._refuse(400)

    def _upgraded(self, rest: bytes) -> None:
        exchange = self._incoming
        if exchange is None:  # the message is complete; what follows belongs to the new protocol, or to none
            exchange = self._waiting[-1] if self._waiting else self.current
        if exchange is not None and exchange.upgrade:
            # Nothing more is parsed until the handler has decided; what came early waits for it.
            self._raw = RawConnection(self)
            if rest:
                self._raw.feed(rest)
            return
        self._parser = httptools.HttpRequestParser(self)
        if rest:
            self.data_received(rest)

    def _refuse(self, status: int) -> None:
        """Answer bytes that are no request, as Go's server does, and close."""
        if not self.closed and self.current is None and not self._waiting:
            text = {400: "400 Bad Request", 431: "431 Request Header Fields Too Large", 414: "414 URI Too Long"}[status]
            fields = [
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Length", str(len(text))),
                ("Connection", "close"),
            ]
            self.write(head(status, fields, self.server.date()) + text.encode())
        elif self._incoming is not None:
            self._incoming.fail(ConnectionAbortedError("malformed request body"))
        self.close()

    # --- parser --------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        self._url, self._headers, self._headers_size = b"", [], 0
        self.deadline = self.server.now() + self.server.limits.header_seconds

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count(len(url), 414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4, 431)
        self._headers.append((name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape").strip()))

    def _count(self, size: int, status: int) -> None:
        self._headers_size += size
        if self._headers_size > self.server.limits.header_bytes:
            self._refuse(status)
            raise ValueError("headers too large")

    def on_headers_complete(self) -> None:
        parser = self._parser
        raw_path, _, query = self._url.partition(b"?")
        if raw_path[:1] != b"/":  # absolute form, or CONNECT's authority
            if b"://" in raw_path:
                raw_path = b"/" + raw_path.split(b"://", 1)[1].partition(b"/")[2]
            elif raw_path != b"*":
                self._refuse(400)
                raise ValueError("bad request target")
        raw = raw_path.decode("latin-1")
        query_string = query.partition(b"#")[0].decode("utf-8", "surrogateescape")
        headers: dict[str, str] = {}
        for name, value in self._headers:
            headers.setdefault(name, value)
        info = RequestInfo(
            method=parser.get_method().decode("latin-1"),
            path=unquote(raw, errors="surrogateescape") if "%" in raw else raw,
            raw_path=raw,
            query_string=query_string,
            query=parse_query(query_string),
            headers=headers,
            raw_headers=self._headers,
            peer_certificate=self.peer_certificate,
            peer_chain=self.peer_chain,
            remote=self.remote,
            secure=self.server.secure,
        )
        version = parser.get_http_version()
        info.notes["http_version"] = version
        if version not in ("1.0", "1.1") or (version == "1.1" and "host" not in headers):
            self._refuse(400)
            raise ValueError("no HTTP/1.x request with a Host header")
        self.deadline = self.server.now() + self.server.limits.body_seconds
        upgrade = parser.should_upgrade() and info.method in ("GET", "POST", "HEAD") and "upgrade" in headers
        exchange = Exchange(self, info, parser.should_keep_alive() or upgrade, upgrade)
        self._incoming = exchange
        self._waiting.append(exchange)
        if len(self._waiting) > PIPELINED_MAX:
            self.pause_reading()
        self._notify()

    def on_body(self, data: bytes) -> None:
        exchange = self._incoming
        if exchange is None:
            return
        exchange.feed(data)
        if exchange.discard:
            if exchange.body_size > DISCARDED_BYTES_MAX:
                self.close()
        elif exchange.unread > UNREAD_BYTES_MAX:
            self.pause_reading()

    def on_message_complete(self) -> None:
        if self._incoming is not None:
            self._incoming.feed_end()
            self._incoming = None
        self.deadline = 0.0

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # --- answering -----------------------------------------------------------------------------
    async def run(self) -> None:
        """Answer requests until the connection ends."""
        try:
            while not self.closed:
                if not self._waiting:
                    if self.server.closing:
                        break
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
                    continue
                exchange = self.current = self._waiting.popleft()
                if len(self._waiting) < PIPELINED_MAX // 2:
                    self.resume_reading()
                await self._answer(exchange)
                self.current = None
                if not exchange.keep_alive:
                    break
                if not self._waiting and self._incoming is None:
                    self.deadline = self.server.now() + self.server.limits.idle_seconds
        except Exception:  # a bug here must cost one connection, not the server
            log.exception("answering %s", self.remote)
        finally:
            self.current = None
            if not self.closed and not (self._raw is not None and self._raw._ended):
                self.close()

    async def _answer(self, exchange: Exchange) -> None:
        try:
            response = await self.server.handler(exchange)
        except ConnectionError:
            exchange.keep_alive = False
            return
        except asyncio.CancelledError:
            exchange.keep_alive = False
            raise
        except Exception:
            log.exception("answering %s %s", exchange.info.method, exchange.info.path)
            response = Response(500, b"Internal Server Error", "text/plain; charset=utf-8", close=True)
        if response is None or exchange.answered:
            if response is not None:
                exchange.keep_alive = False
            return
        if exchange.upgrade and self._raw is not None:
            # The client asked for another protocol and gets an HTTP answer: nothing it sent after counts.
            exchange.keep_alive = False
        if not exchange.complete:
            await self._answer_early(exchange, response)
        else:
            self.respond(exchange, response)
        if self.paused:
            with contextlib.suppress(ConnectionResetError):  # it left instead of taking the answer
                await self.drain()

    def respond(self, exchange: Exchange, response: Response) -> None:
        headers = response.headers + exchange.extra_headers
        body = response.body
        if response.status not in (204, 304):
            headers.append(("Content-Length", str(len(body))))
        if response.close or self.server.closing:
            exchange.keep_alive = False
        if not exchange.keep_alive:
            headers.append(("Connection", "close"))
        elif exchange.info.notes.get("http_version") == "1.0":
            headers.append(("Connection", "keep-alive"))
        exchange.answered = True
        data = head(response.status, headers, self.server.date())
        self.write(data if exchange.info.method == "HEAD" or not body else data + body)

    async def _answer_early(self, exchange: Exchange, response: Response) -> None:
        """The answer is known before the body has arrived: send it, then let the peer finish, within limits."""
        exchange.discard = True
        exchange._chunks.clear()
        if exchange.expect_continue:
            exchange.keep_alive = False  # it may send the body or not: what follows cannot be told apart
        else:
            exchange.keep_alive = exchange.keep_alive and not response.close
        self.respond(exchange, response)
        self.deadline = self.server.now() + self.server.limits.discard_seconds
        self.resume_reading()
        if not exchange.expect_continue:
            while not exchange.complete and not self.closed and exchange._error is None:
                exchange._waiter = asyncio.get_running_loop().create_future()
                await exchange._waiter

    # --- writing and flow ----------------------------------------------------------------------
    def write(self, data: bytes) -> None:
        """Send soon: what one turn of the loop writes (a watch has many events then) is one TLS record and one call."""
        if self.closed:
            return
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unwritten.append(data)
        self._unwritten_bytes += len(data)
        if self._unwritten_bytes >= TOGETHER_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        if self._unwritten and self.transport is not None:
            data, self._unwritten, self._unwritten_bytes = self._unwritten, [], 0
            self.transport.write(data[0] if len(data) == 1 else b"".join(data))

    async def drain(self) -> None:
        self.flush()
        if self.closed:
            raise ConnectionResetError("the client went away")
        if self.paused:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drain.append(waiter)
            await waiter
            if self.closed:
                raise ConnectionResetError("the client went away")

    def pause_reading(self) -> None:
        if self._reading and not self.closed:
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and not self.closed:
            self._reading = True
            self.transport.resume_reading()

    def take_over(self, head_bytes: bytes) -> RawConnection:
        if self._raw is None:
            self._raw = RawConnection(self)
        self.deadline = 0.0
        if head_bytes:
            self.write(head_bytes)
        if self.closed:
            self._raw.feed_end()
        return self._raw

    @property
    def unsent(self) -> int:
        """Bytes written that the system has not taken yet."""
        if self.closed or self.transport.is_closing():  # asyncio's own TLS transport then has no buffer to ask
            return 0
        return self.transport.get_write_buffer_size() + self._unwritten_bytes

    @property
    def progress(self) -> tuple[int, int]:
        """Something that changes while the peer takes what it is sent."""
        return id(self.current), self.unsent

    @property
    def answering(self) -> bool:
        """Whether a request is under way that waits for us, not for the peer."""
        return (self.current is not None or bool(self._waiting)) and not self.unsent

    def close(self) -> None:
        """Close once what was written has gone out."""
        if not self.closed and self.transport is not None:
            self.flush()
            self.transport.close()

    def abort(self) -> None:
        """Close now, whatever is still unsent."""
        if not self.closed:
            self.transport.abort()
