"""A dashboard inside the test's event loop, and a client that keeps its cookie."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson

from peavine.base.lifetimes import scope
from peavine.client import ClientConfig
from peavine.client.transport import Response, Transport, Upgraded
from peavine.dashboard.http import Limits, Server
from peavine.dashboard.server import Dashboard


class Browser:
    """What a browser would send: same origin, the session's cookie, the CSRF token once it is known."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.transport = Transport(self.base, None)
        self.cookie = self.csrf = ""

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
        data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        head = {"host": self.transport.authority, "content-length": str(len(data)), "origin": self.base}
        if self.cookie:
            head["cookie"] = self.cookie
        if self.csrf:
            head["x-peavine-csrf"] = self.csrf
        if data:
            head["content-type"] = "application/json"
        head.update(headers or {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[Response, bytes]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.transport.exchange(self.request(method, path, body, given), idempotent=False)
        return answer, await answer.read()

    async def status(self, method: str, path: str, body: Any = None, **headers: str) -> int:
        return (await self.send(method, path, body, **headers))[0].status

    async def get(self, path: str) -> Any:
        answer, body = await self.send("GET", path)
        assert answer.status == 200, body
        return orjson.loads(body)

    async def log_in(self, **credentials: str) -> Response:
        answer, body = await self.send("POST", "/api/login", credentials, x_peavine_csrf="login")
        assert answer.status == 200, body
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        self.csrf = orjson.loads(body)["csrf"]
        return answer

    async def upgrade(self, path: str, headers: dict[str, str]) -> Upgraded | Response:
        return await self.transport.upgrade(self.request("GET", path, None, headers))


@contextlib.asynccontextmanager
async def serving(cluster: ClientConfig, limits: Limits = Limits(), **options: Any) -> AsyncIterator[Browser]:
    dashboard = Dashboard(cluster, **options)
    server = Server(dashboard.handle, limits=limits)
    async with scope() as tasks:
        browser = Browser(await server.listen("127.0.0.1", 0, tasks))
        tasks.start(dashboard.run())
        try:
            yield browser
        finally:
            browser.transport.close()
            server.close()
            dashboard.close()
