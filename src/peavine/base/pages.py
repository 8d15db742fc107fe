"""A process's small HTTP port: health, metrics, a few read-only pages. GET only, one answer a connection.

Not for an API that many clients use: see `apiserver.http` for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

HEAD_BYTES_MAX = 16_384
HEAD_SECONDS_MAX = 10.0
TEXT = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """An answer: status code, content type, body."""

    code: int
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    """Beyond Content-Type and Content-Length."""


Answer = Callable[[str, dict[str, list[str]]], Page]
"""(path, query) to a page."""


def text(code: int, words: str) -> Page:
    return Page(code, TEXT, words.encode())


def health_and_metrics(path: str, query: dict[str, list[str]]) -> Page:
    """`/healthz`, `/livez`, `/readyz` say ok; `/metrics` is what the process counts."""
    if path in ("/healthz", "/livez", "/readyz"):
        return text(200, "ok")
    if path == "/metrics":
        return metrics()
    return text(404, "404 page not found\n")


def metrics() -> Page:
    """What the process counts."""
    # Imported when asked for: a process that nobody scrapes does not pay for it.
    from peavine.base.metrics import CONTENT_TYPE, exposition

    return Page(200, CONTENT_TYPE, exposition())


def at(paths: Mapping[str, Callable[[], Page]]) -> Answer:
    """A page for each of these paths, and no other."""

    def answer(path: str, query: dict[str, list[str]]) -> Page:
        page = paths.get(path)
        return page() if page else text(404, "404 page not found\n")

    return answer


def host_and_port(words: str) -> tuple[str, int]:
    """`1.2.3.4:80`, `[::1]:80`, `:80` (all addresses). Raises ValueError."""
    host, colon, port = words.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"{words!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


async def serve(host: str, port: int, answer: Answer, *, context: ssl.SSLContext | None = None) -> asyncio.Server:
    """Listen and answer in the background; without a host, on all addresses. The caller closes the server. Raises
    OSError if the port is taken.
    """

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
            page = _page(head, answer)
            lines = (
                f"HTTP/1.1 {page.code} {HTTPStatus(page.code).phrase}\r\nContent-Type: {page.kind}\r\n"
                f"Content-Length: {len(page.body)}\r\n"
            )
            more = "".join(f"{name}: {value}\r\n" for name, value in page.headers)
            writer.write(f"{lines}{more}Connection: close\r\n\r\n".encode() + page.body)
            await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # A client that speaks no HTTP, or went away: its connection ends, nothing else is hurt.
            return
        finally:
            writer.close()

    return await asyncio.start_server(one, host or None, port, ssl=context, limit=HEAD_BYTES_MAX)


@contextlib.asynccontextmanager
async def serving(where: str, answer: Answer) -> AsyncIterator[None]:
    """Answer on HOST:PORT for the duration of the block; nowhere if `where` is empty. Raises OSError, ValueError."""
    if not where:
        yield
        return
    server = await serve(*host_and_port(where), answer)
    try:
        yield
    finally:
        server.close()


def _page(head: bytes, answer: Answer) -> Page:
    try:
        method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
    except (ValueError, UnicodeDecodeError):
        return text(400, "bad request\n")
    if method not in ("GET", "HEAD"):
        return text(405, "method not allowed\n")
    parts = urlsplit(target)
    page = answer(unquote(parts.path), parse_qs(parts.query))
    return page._replace(body=b"") if method == "HEAD" else page
