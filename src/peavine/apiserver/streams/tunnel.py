"""Port-forward for a WebSocket client: the SPDY connection travels inside binary messages, byte for byte."""

from __future__ import annotations

import asyncio

from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.streams.backend import Backend, ask_spdy
from peavine.apiserver.streams.client import accept_head, read_messages
from peavine.apiserver.streams.passthrough import quietly, refusal
from peavine.base.lifetimes import scope

TUNNELLED = "SPDY/3.1+portforward.k8s.io"
_chunk_bytes = 32 * 1024


async def tunnel(exchange: Exchange, backend: Backend) -> Response | None:
    """Open SPDY to the kubelet, then accept the WebSocket and carry the bytes. A refusal goes to the client as HTTP."""
    from peavine.wire.websocket import WebSocket

    head = accept_head(exchange, TUNNELLED)
    answer = await ask_spdy(backend, "portforward.k8s.io")
    if answer.status != 101:
        return refusal(answer)
    raw = exchange.take_over(head)
    socket = WebSocket()

    async def to_client() -> None:
        while data := await answer.reader.read(_chunk_bytes):
            raw.write(socket.send(data))
            await raw.drain()

    try:
        async with scope() as tasks:
            to_backend = read_messages(raw, socket, answer.writer.write, answer.writer)
            both = {tasks.start(quietly(to_backend)), tasks.start(quietly(to_client()))}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        raw.write(socket.output() or socket.close())
    finally:
        answer.writer.close()
        raw.close()
    return None
