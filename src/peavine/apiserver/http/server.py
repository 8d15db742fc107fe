"""Listening, limits, time-outs and shutdown of the HTTP server."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from peavine.apiserver.http.connection import Connection
from peavine.apiserver.http.messages import Exchange, Response
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import Scope

Handler = Callable[[Exchange], Awaitable[Response | None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take. Go's and kube-apiserver's numbers where they have one."""

    header_bytes: int = 1 << 20
    header_seconds: float = 32.0  # from a request's first byte to the end of its headers
    body_seconds: float = 60.0  # from there to the end of its body
    idle_seconds: float = 90.0  # between requests
    discard_seconds: float = 5.0  # for the rest of a body nobody wants
    close_seconds: float = 30.0  # for what is unsent when a TLS connection is closed
    linger_seconds: float = 2.0  # at the server's end, for a peer that takes nothing
    write_buffer_bytes: int = 256 << 10  # unsent, before writers are told to wait
    sweep_seconds: float = 1.0


class HttpServer:
    """Serves `handler` on one address. Tasks live in the scope that `serve` is given."""

    def __init__(
        self, handler: Handler, *, tls: ssl.SSLContext | None = None, limits: Limits = Limits(), clock: Clock = REAL
    ) -> None:
        self.handler, self.tls, self.limits, self.clock = handler, tls, limits, clock
        self.secure = tls is not None
        self.closing = False
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._scope: Scope | None = None
        self._date = (0, b"")

    def now(self) -> float:
        return self.clock.monotonic()

    def date(self) -> bytes:
        """The Date header's value."""
        second = int(time.time())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]

    async def listen(self, host: str, port: int, scope: Scope) -> int:
        """Bind and accept; the port in use (for port 0)."""
        self._scope = scope
        loop = asyncio.get_running_loop()
        sock = self._bind(host, port)
        self._server = await loop.create_server(
            lambda: Connection(self), sock=sock, ssl=self.tls, backlog=1024, **self._tls_options()
        )
        scope.start(self.sweep(), name="http-sweep")
        return int(sock.getsockname()[1])

    def _tls_options(self) -> dict[str, Any]:
        return {"ssl_handshake_timeout": 10.0, "ssl_shutdown_timeout": self.limits.close_seconds} if self.tls else {}

    @staticmethod
    def _bind(host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        sock.setblocking(False)
        sock.bind((host, port))
        return sock

    def start(self, connection: Connection) -> asyncio.Task[None]:
        self.connections.add(connection)
        assert self._scope is not None
        return self._scope.start(connection.run())

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)

    async def sweep(self) -> None:
        """Cut the connections that are past their deadline."""
        while True:
            await self.clock.sleep(self.limits.sweep_seconds)
            now = self.now()
            for connection in [c for c in self.connections if c.deadline and c.deadline < now]:
                if connection.current is None or connection._incoming is not None:
                    connection.abort() if connection._incoming is not None else connection.close()
                    connection.deadline = 0.0

    def stop_listening(self) -> None:
        self.closing = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            if connection.current is None and not connection._waiting:
                # Nothing is under way: no need to wait for a client that may not be looking.
                connection.close() if connection.unsent else connection.abort()

    async def drain(self, seconds: float) -> None:
        """After `stop_listening`: wait for answers that are under way, then cut what is left.

        A peer that takes nothing, because it is gone without a word, is cut earlier.
        """
        deadline = self.now() + seconds
        last: dict[Connection, tuple[tuple[int, int], float]] = {}  # progress, and when it was first seen
        while self.connections and (now := self.now()) < deadline:
            for connection in list(self.connections):
                progress, since = last.get(connection, (None, now))
                if progress != connection.progress:
                    last[connection] = connection.progress, now
                elif not connection.answering and now - since > self.limits.linger_seconds:
                    connection.abort()
            await self.clock.sleep(0.02)
        for connection in list(self.connections):
            connection.abort()
