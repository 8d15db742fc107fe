"""A process's small HTTP port: health, metrics, a few read-only pages. GET only, one answer a connection.

Not for an API that many clients use: see `apiserver.http` for that.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
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


Answer = Callable[[str, dict[str, list[str]]], Page]
"""(path, query) to a page."""


def text(code: int, words: str) -> Page:
    return Page(code, TEXT, words.encode())


def health_and_metrics(path: str, query: dict[str, list[str]]) -> Page:
    """`/healthz`, `/livez`, `/readyz` say ok; `/metrics` is what the process counts."""
    if path in ("/healthz", "/livez", "/readyz"):
        return text(200, "ok")
    if path == "/metrics":
        # Imported when asked for: a process that nobody scrapes does not pay for it.
        from peavine.base.metrics import CONTENT_TYPE, exposition

        return Page(200, CONTENT_TYPE, exposition())
    return text(404, "404 page not found\n")


async def serve(host: str, port: int, answer: Answer, *, context: ssl.SSLContext | None = None) -> asyncio.Server:
    """Listen and answer in the background. The caller closes the server. Raises OSError if the port is taken."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
            page = _page(head, answer)
            lines = (
                f"HTTP/1.1 {page.code} {HTTPStatus(page.code).phrase}\r\nContent-Type: {page.kind}\r\n"
                f"Content-Length: {len(page.body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(lines.encode() + page.body)
            await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # A client that speaks no HTTP, or went away: its connection ends, nothing else is hurt.
            return
        finally:
            writer.close()

    return await asyncio.start_server(one, host, port, ssl=context, limit=HEAD_BYTES_MAX)


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
