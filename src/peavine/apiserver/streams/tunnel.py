"""Port-forward for a WebSocket client: the SPDY connection travels inside binary messages, byte for byte."""

from __future__ import annotations

import asyncio

from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.streams.backend import Backend, ask
from peavine.apiserver.streams.passthrough import quietly, refusal
from peavine.base.lifetimes import scope
from peavine.machinery.errors import bad_request
from peavine.wire import websocket_headers as handshake

TUNNELLED = "SPDY/3.1+portforward.k8s.io"
_chunk_bytes = 32 * 1024


async def tunnel(exchange: Exchange, backend: Backend) -> Response | None:
    """Open SPDY to the kubelet, then accept the WebSocket and carry the bytes. A refusal goes to the client as HTTP."""
    from peavine.wire.websocket import WebSocket

    try:
        head = handshake.accept_head(exchange.info.headers, TUNNELLED)
    except ValueError as error:
        raise bad_request(str(error)) from error
    answer = await ask(
        backend,
        [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "portforward.k8s.io")],
    )
    if answer.status != 101:
        return refusal(answer)
    raw = exchange.take_over(head)
    socket = WebSocket()

    async def to_backend() -> None:
        while data := await raw.read():
            for message in socket.receive(data):
                if not hasattr(message, "data"):
                    return
                answer.writer.write(message.data)
            pending = socket.output()
            if pending:
                raw.write(pending)
            await answer.writer.drain()

    async def to_client() -> None:
        while data := await answer.reader.read(_chunk_bytes):
            raw.write(socket.send(data))
            await raw.drain()

    try:
        async with scope() as tasks:
            both = {tasks.start(quietly(to_backend())), tasks.start(quietly(to_client()))}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        raw.write(socket.output() or socket.close())
    finally:
        answer.writer.close()
        raw.close()
    return None
