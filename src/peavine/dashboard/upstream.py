"""The way to the API server with one user's credentials. What the browser sends is filtered, what comes back too."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from urllib.parse import unquote

from peavine.base.lifetimes import scope
from peavine.client import ClientConfig
from peavine.client.transport import Response, Transport, Upgraded
from peavine.dashboard.http import Answer, Raw, Request

# Authorization, Impersonate-* and Cookie of a browser must not reach the API server: these may.
REQUEST_HEADERS = ("accept", "content-type")
UPGRADE_HEADERS = ("sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol")
ANSWER_HEADERS = ("content-type", "warning", "retry-after", "sec-websocket-accept", "sec-websocket-protocol")
ROOTS = ("/api", "/apis", "/version", "/openapi", "/readyz", "/livez", "/metrics")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SAFE_METHODS = ("GET", "HEAD")
# Questions about oneself that are asked by POST.
QUESTIONS = re.compile(r"/apis/(authorization|authentication)\.k8s\.io/[a-z0-9]+/selfsubject[a-z]+")
CONNECT = re.compile(
    r"/api/v1/(?:namespaces/[^/]+/)?(?:pods|services|nodes)/[^/]+/(proxy|exec|attach|portforward)(/|$)"
)


class Forbidden(Exception):
    """The dashboard does not pass this on; the message says why."""


def check(request: Request, path: str, *, read_only: bool) -> None:
    """Raises Forbidden for a path or method that is not passed on. `path` as sent, below /api/k8s."""
    decoded = unquote(path, errors="surrogateescape")
    if not any(decoded == root or decoded.startswith(root + "/") for root in ROOTS):
        raise Forbidden("not a path of the Kubernetes API")
    if "//" in decoded or any(part in (".", "..") for part in decoded.split("/")):
        raise Forbidden("the path is not in its shortest form")
    if not decoded.isprintable() or request.method not in METHODS:
        raise Forbidden("malformed path or method")
    connect = CONNECT.match(decoded)
    if connect is not None and (connect[1] == "proxy" or not request.upgrade):
        # A proxied page would come from our own origin.
        raise Forbidden(f"{connect[1]} is not passed on")
    if read_only and (connect is not None or request.upgrade):
        raise Forbidden("the dashboard is read-only")
    if read_only and request.method not in SAFE_METHODS and not QUESTIONS.fullmatch(decoded):
        raise Forbidden("the dashboard is read-only")


class Upstream:
    """One user's connections to the API server."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._context: ssl.SSLContext | None = None
        self._streams: set[Response | Upgraded] = set()
        secure = config.server.startswith("https")
        self._transport = Transport(config.server, self._tls if secure else None, config.tls_server_name)

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._config.ssl_context()
        return self._context

    async def send(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Response:
        """Raises Unreachable."""
        head = self._head(method, target, headers)
        if body or method not in SAFE_METHODS:
            head += f"Content-Length: {len(body)}\r\n"
        return await self._transport.exchange(f"{head}\r\n".encode() + body, idempotent=method in SAFE_METHODS)

    async def forward(self, request: Request, target: str) -> Answer:
        """The API server's answer, passed on as it comes. Raises Unreachable."""
        headers = {name: request.headers[name] for name in REQUEST_HEADERS if name in request.headers}
        answer = await self.send(request.method, target, headers, request.body)
        passed = _passed(answer.headers)
        if request.method == "HEAD" or answer.status in (204, 304):
            answer.close()
            return Answer(answer.status, b"", passed)
        return Answer(answer.status, self._pieces(answer), passed)

    async def tunnel(self, request: Request, target: str) -> Answer:
        """A WebSocket: its handshake is the API server's, its frames pass through unread. Raises Unreachable."""
        headers = {name: request.headers[name] for name in UPGRADE_HEADERS if name in request.headers}
        head = self._head("GET", target, {**headers, "connection": "Upgrade", "upgrade": "websocket"})
        answer = await self._transport.upgrade(f"{head}\r\n".encode())
        if not isinstance(answer, Upgraded):
            return Answer(answer.status, self._pieces(answer), _passed(answer.headers))
        upgraded = [("Upgrade", "websocket"), ("Connection", "Upgrade"), *_passed(answer.headers)]
        return Answer(101, b"", upgraded, takeover=lambda browser: self._carry(answer, browser))

    def _head(self, method: str, target: str, headers: dict[str, str]) -> str:
        lines = {"host": self._transport.authority, "user-agent": "peavine-dashboard", **headers}
        if self._config.token:
            lines["authorization"] = f"Bearer {self._config.token}"
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {self._transport.prefix}{target} HTTP/1.1\r\n{text}"

    async def _pieces(self, answer: Response) -> AsyncIterator[bytes]:
        self._streams.add(answer)
        try:
            async for piece in answer.chunks():
                yield piece
        finally:
            self._streams.discard(answer)
            answer.close()

    async def _carry(self, remote: Upgraded, browser: Raw) -> None:
        self._streams.add(remote)
        try:
            async with scope() as tasks:
                tasks.start(_down(browser, remote))
                while data := await remote.read():
                    await browser.write(data)
        finally:
            self._streams.discard(remote)
            remote.close()

    @property
    def busy(self) -> bool:
        """Whether an answer or a shell is under way."""
        return bool(self._streams)

    def close(self) -> None:
        """End everything, also what is under way."""
        for stream in list(self._streams):
            stream.close()
        self._transport.close()


async def _down(browser: Raw, remote: Upgraded) -> None:
    while data := await browser.read():
        remote.write(data)


def _passed(headers: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, headers[name]) for name in ANSWER_HEADERS if name in headers]
