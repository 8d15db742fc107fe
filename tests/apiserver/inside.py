"""A server inside the test's event loop, on plain HTTP, and a client that shows what is on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from peavine.apiserver.config import Config
from peavine.apiserver.server import ApiServer
from peavine.base.lifetimes import scope
from peavine.store import Store

TOKEN = "admin-token"


@contextlib.asynccontextmanager
async def serving(directory: Path, store: Store | None = None, **settings: Any) -> AsyncIterator[Client]:
    """`async with serving(tmp_path) as client`: an administrator's client of a fresh server on a memory store."""
    tokens = directory / "tokens.csv"
    tokens.write_text(f'{TOKEN},admin,u1,"system:masters"\nuser-token,alice,u2,"dev"\n')
    config = Config(bind_address="127.0.0.1", secure_port=0, token_auth_file=str(tokens), **settings)
    server = ApiServer(config)
    async with scope() as tasks:
        await server.start(tasks, store)
        try:
            yield Client(server)
        finally:
            await server.stop()


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    def __init__(self, server: ApiServer) -> None:
        self.server, self.port = server, server.port

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        token: str = TOKEN,
    ) -> Answer:
        """One request on its own connection."""
        reader, writer = await self.open()
        try:
            writer.write(request_bytes(method, path, body, headers, token))
            return await read_answer(reader, method)
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def watch(self, path: str, headers: dict[str, str] | None = None) -> AsyncIterator[Events]:
        reader, writer = await self.open()
        try:
            writer.write(request_bytes("GET", path, None, headers))
            status, fields = await read_head(reader)
            yield Events(reader, status, fields)
        finally:
            writer.close()


class Events:
    """The events of a watch, one JSON document a chunk."""

    def __init__(self, reader: asyncio.StreamReader, status: int, headers: dict[str, str]) -> None:
        self.reader, self.status, self.headers = reader, status, headers
        self._held: list[Any] = []

    async def next(self, seconds: float = 20.0) -> Any:
        """The next event as (type, object); None at the orderly end of the stream."""
        while not self._held:
            async with asyncio.timeout(seconds):
                size = int((await self.reader.readline()).strip(), 16)
                data = await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            if not size:
                return None
            self._held = [json.loads(line) for line in data.splitlines()]
        event = self._held.pop(0)
        return event["type"], event["object"]

    async def names(self, count: int) -> list[str]:
        """`TYPE name` of the next events."""
        found = []
        for _ in range(count):
            type, obj = await self.next()
            found.append(f"{type} {obj['metadata'].get('name', '')}")
        return found


def request_bytes(
    method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, token: str = TOKEN
) -> bytes:
    fields = {"Host": "test", "Accept": "application/json", **(headers or {})}
    if token:
        fields["Authorization"] = f"Bearer {token}"
    data = b""
    if body is not None:
        data = (
            body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        )
        fields.setdefault("Content-Type", "application/json")
        fields["Content-Length"] = str(len(data))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


async def read_head(reader: asyncio.StreamReader, seconds: float = 30.0) -> tuple[int, dict[str, str]]:
    async with asyncio.timeout(seconds):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.rstrip().split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in rest)}


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    status, headers = await read_head(reader)
    body = b""
    if method != "HEAD" and status not in (204, 304):
        async with asyncio.timeout(30):
            if "content-length" in headers:
                body = await reader.readexactly(int(headers["content-length"]))
            elif headers.get("transfer-encoding") == "chunked":
                while size := int((await reader.readline()).strip(), 16):
                    body += await reader.readexactly(size)
                    await reader.readexactly(2)
            else:
                body = await reader.read()
    return Answer(status, headers, body)


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data or {"a": "b"}}


MAPS = "/api/v1/namespaces/default/configmaps"
