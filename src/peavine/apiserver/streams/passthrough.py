"""An upgrade passed on as it is: the backend's answer to the client, then bytes both ways."""

from __future__ import annotations

import asyncio

from peavine.apiserver.http import Exchange, RawConnection, Response
from peavine.apiserver.streams.backend import Answer, Backend, ask
from peavine.base.lifetimes import scope

_chunk_bytes = 64 * 1024
# Of the client's request, what is not the backend's to see: who the client is, and what concerns this hop only.
_DROPPED = {
    "host",
    "authorization",
    "content-length",
    "transfer-encoding",
    "expect",
    "x-remote-user",
    "x-remote-group",
    "x-remote-uid",
    "impersonate-user",
    "impersonate-group",
    "impersonate-uid",
}
_DROPPED_PREFIXES = ("x-remote-extra-", "impersonate-extra-")

_BEARER = "base64url.bearer.authorization.k8s.io."  # a token that a browser sends as a subprotocol


async def pass_through(exchange: Exchange, backend: Backend) -> Response | None:
    """Relay an upgrade request and, once the backend has switched protocols, all bytes until either side ends.

    An answer other than 101 is returned for the client. Raises ApiError 500 when the backend cannot be reached.
    """
    answer = await ask(backend, forwarded_headers(exchange))
    if answer.status != 101:
        return refusal(answer)
    raw = exchange.take_over(answer.raw_head)
    await relay(raw, answer.reader, answer.writer)
    return None


def forwarded_headers(exchange: Exchange) -> list[tuple[str, str]]:
    """The client's headers as a backend may see them, with X-Forwarded-For."""
    kept = [
        (name, value)
        for name, value in exchange.info.raw_headers
        if name not in _DROPPED and not name.startswith(_DROPPED_PREFIXES) and name != "x-forwarded-for"
    ]
    for place, (name, value) in enumerate(kept):
        if name == "sec-websocket-protocol" and _BEARER in value:
            left = [word.strip() for word in value.split(",") if not word.strip().startswith(_BEARER)]
            kept[place] = (name, ", ".join(left))
    before = exchange.info.headers.get("x-forwarded-for")
    client = exchange.info.remote[0]
    if client:
        kept.append(("X-Forwarded-For", f"{before}, {client}" if before else client))
    return kept


def refusal(answer: Answer) -> Response:
    """The backend's answer, for the client, where it did not switch protocols."""
    kept = [
        (name, value)
        for name, value in answer.headers
        if name.lower() not in ("content-length", "transfer-encoding", "connection", "content-type", "date", "upgrade")
    ]
    return Response(answer.status, answer.body, answer.header("content-type"), kept, close=True)


async def relay(raw: RawConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes both ways at the pace of the slower side, until one ends; then both are closed."""

    async def to_backend() -> None:
        while data := await raw.read():
            writer.write(data)
            await writer.drain()

    async def to_client() -> None:
        while data := await reader.read(_chunk_bytes):
            raw.write(data)
            await raw.drain()

    try:
        async with scope() as tasks:
            both = {tasks.start(quietly(to_backend())), tasks.start(quietly(to_client()))}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        writer.close()
        raw.close()


async def quietly(copy: asyncio.Future[None] | object) -> None:
    """Run one direction; a peer that went away is the end of it, not an error."""
    try:
        await copy  # type: ignore[misc]
    except (ConnectionError, TimeoutError, OSError):
        return
