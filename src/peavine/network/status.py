"""A process's small HTTP port: health, metrics and the like. GET only, one answer per connection, no TLS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

Answer = tuple[int, str, bytes]
"""Status code, content type, body."""

head_bytes_max = 8192
head_seconds_max = 5.0
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def plain(code: int, text: str) -> Answer:
    return code, "text/plain; charset=utf-8", text.encode()


def metrics() -> Answer:
    from peavine.base.metrics import CONTENT_TYPE, exposition

    return 200, CONTENT_TYPE, exposition()


class StatusServer:
    """Serves `pages` (path to function) on an address; `close` ends it. Port 0 takes any free one (`port` tells)."""

    def __init__(
        self, pages: Mapping[str, Callable[[], Answer]], headers: Callable[[], Mapping[str, str]] | None = None
    ) -> None:
        self._pages = pages
        self._headers = headers
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Raises OSError when the address cannot be had."""
        self._server = await asyncio.start_server(self._serve, host or None, port, limit=head_bytes_max)

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1] if self._server else 0

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), head_seconds_max)
            code, kind, body = self._answer(head)
            more = "".join(f"{name}: {value}\r\n" for name, value in (self._headers() if self._headers else {}).items())
            start = (
                f"HTTP/1.1 {code} {_REASONS.get(code, '')}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            )
            writer.write(f"{start}{more}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError) as error:
            log.debug("status connection ended early: %r", error)
        finally:
            writer.close()

    def _answer(self, head: bytes) -> Answer:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3:
            return plain(404, "not found\n")
        if words[0] != b"GET":
            return plain(405, "method not allowed\n")
        page = self._pages.get(words[1].split(b"?", 1)[0].decode("latin-1"))
        return page() if page else plain(404, "404 page not found\n")


def host_and_port(text: str) -> tuple[str, int]:
    """`1.2.3.4:80`, `[::1]:80`, `:80` (all addresses). Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
