"""HTTP/1.1 to one server on a blocking socket: for a command line that asks one thing after another.

The same `exchange` as `client.transport`, without an event loop: its coroutines never wait, so `drive` runs one to its
end. What needs two things at once (streams, upgrades) takes the other transport.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Coroutine

from peavine.client.proxies import open_tunnel, request_through
from peavine.client.response import Response, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any, TypeVar

    T = TypeVar("T")

CONNECT_SECONDS_MAX = 30.0
HEAD_BYTES_MAX = 1 << 20
_RECEIVE_BYTES = 1 << 18


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits for anything but blocking calls."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("a blocking client was used where an event loop is needed")


class BlockingClock:
    """The clock of a program that does nothing else meanwhile."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))  # noqa: ASYNC251 (there is no loop)


class _Connection:
    """One connection; one exchange at a time."""

    def __init__(self, sock: socket.socket, authority: str) -> None:
        self.sock, self.authority = sock, authority
        self.status = 0
        self.headers: dict[str, str] = {}
        self._waiting = b""  # received and not yet used
        self._left: int | None = 0  # bytes of the body; None is "until the connection ends"
        self._chunked = self.done = False

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(_RECEIVE_BYTES)
        except TimeoutError:
            raise Unreachable("net/http: request canceled (Client.Timeout exceeded while awaiting headers)") from None
        except OSError as error:
            raise Unreachable(f"{self.authority}: {error.strerror or error}") from error

    def _line(self) -> bytes:
        while b"\r\n" not in self._waiting:
            data = self._receive()
            if not data or len(self._waiting) > HEAD_BYTES_MAX:
                raise Unreachable("connection closed by the server")
            self._waiting += data
        line, _, self._waiting = self._waiting.partition(b"\r\n")
        return line

    def head(self, request: bytes) -> None:
        self.headers, self.done, self._chunked = {}, False, False
        try:
            self.sock.sendall(request)
        except OSError as error:
            raise Unreachable(f"{self.authority}: {error.strerror or error}") from error
        self.status = 100
        while self.status // 100 == 1:
            words = self._line().split(b" ", 2)
            if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
                raise Unreachable("malformed HTTP answer")
            self.status = int(words[1])
            while line := self._line():
                name, _, value = line.decode("latin-1").partition(":")
                name, value = name.lower(), value.strip()
                # Several Warning lines are several warnings.
                self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        if self.status in (204, 304):
            self._left = 0
        elif self.headers.get("transfer-encoding", "").lower() == "chunked":
            self._chunked, self._left = True, 0
        else:
            length = self.headers.get("content-length", "")
            self._left = int(length) if length.isdigit() else None
        self.done = self._left == 0 and not self._chunked

    async def piece(self) -> bytes | None:
        if self.done:
            return None
        if self._chunked and self._left == 0:
            size = int((self._line() or self._line()).partition(b";")[0], 16)
            if size == 0:
                while self._line():
                    pass  # trailers
                self.done = True
                return None
            self._left = size
        data, self._waiting = self._waiting or self._receive(), b""
        if not data:
            self.done = True
            if self._left is None:
                return None
            raise Unreachable("unexpected EOF")
        if self._left is not None:
            data, self._waiting = data[: self._left], data[self._left :]
            self._left -= len(data)
            self.done = self._left == 0 and not self._chunked
        return data

    @property
    def reusable(self) -> bool:
        return self.done and self._left == 0 and self.headers.get("connection", "").lower() != "close"

    def close(self) -> None:
        self.sock.close()


class BlockingTransport:
    """Connections to the server of one base URL, one at a time. `timeout_seconds` 0 is no limit."""

    def __init__(
        self,
        base: str,
        context: Callable[[], ssl.SSLContext] | None,
        server_name: str = "",
        *,
        proxy: str = "",
        timeout_seconds: float = 0.0,
    ) -> None:
        scheme, _, rest = base.partition("://")
        self.authority, slash, path = rest.partition("/")
        self.authority = self.authority.rpartition("@")[2]
        self.prefix = (slash + path).rstrip("/")
        self._context = context if scheme == "https" else None
        self._host, self._port = split_authority(self.authority, 443 if scheme == "https" else 80)
        self._server_name = server_name or self._host
        self._proxy, self.timeout_seconds = proxy, timeout_seconds
        self._idle: _Connection | None = None
        self.headers, whole = request_through(proxy, scheme, self.authority)
        self.prefix = whole + self.prefix

    async def exchange(self, request: bytes, *, idempotent: bool) -> Response:
        """Send a whole request. Raises Unreachable."""
        connection, self._idle = self._idle, None
        if connection is not None:
            try:
                connection.sock.settimeout(self.timeout_seconds or None)
                connection.head(request)
                return Response(connection, self)
            except Unreachable:
                connection.close()
                if not idempotent:
                    raise
        connection = self._connect()
        try:
            connection.sock.settimeout(self.timeout_seconds or None)
            connection.head(request)
        except BaseException:
            connection.close()
            raise
        return Response(connection, self)

    def _connect(self) -> _Connection:
        seconds = min(self.timeout_seconds or CONNECT_SECONDS_MAX, CONNECT_SECONDS_MAX)
        try:
            sock = (
                open_tunnel(self._proxy, self._host, self._port, seconds, plain=self._context is None)
                if self._proxy
                else socket.create_connection((_plain(self._host), self._port), seconds)
            )
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) if sock.family != socket.AF_UNIX else None
            if self._context is not None:
                sock = self._context().wrap_socket(sock, server_hostname=_plain(self._server_name))
        except OSError as error:
            if hasattr(error, "verify_message"):
                raise Unreachable(f"certificate of {self.authority} is not trusted: {error.verify_message}") from error
            raise Unreachable(f"{self.authority}: {error or 'no answer'}") from error
        return _Connection(sock, self.authority)

    def release(self, connection: _Connection) -> None:
        if connection.reusable and self._idle is None:
            self._idle = connection
        else:
            connection.close()

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()
            self._idle = None


def _plain(host: str) -> str:
    """The name as bytes where it is ASCII: as text it would be put through the IDNA codec, whose import takes long."""
    return host.encode() if host.isascii() else host  # type: ignore[return-value]


def split_authority(authority: str, port: int) -> tuple[str, int]:
    """`host:port`, `[::1]:port`, or either without its port."""
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        return host, int(rest[1:]) if rest[1:] else port
    host, _, given = authority.partition(":")
    return host, int(given) if given else port
