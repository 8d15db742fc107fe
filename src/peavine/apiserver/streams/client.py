"""The near end of a stream: a client that speaks WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from peavine.apiserver.http import Exchange, RawConnection
from peavine.machinery.errors import bad_request
from peavine.wire import websocket_headers as handshake


def accept_head(exchange: Exchange, protocol: str) -> bytes:
    """The head that accepts the client's WebSocket. Raises ApiError 400 for a request that is not one."""
    try:
        return handshake.accept_head(exchange.info.headers, protocol)
    except ValueError as error:
        raise bad_request(str(error)) from error


async def read_messages(
    raw: RawConnection, socket: Any, take: Callable[[bytes], None], writer: asyncio.StreamWriter
) -> None:
    """Give `take` each message of the client until it closes, at the pace of `writer`, where `take` writes to."""
    while data := await raw.read():
        for message in socket.receive(data):
            if not hasattr(message, "data"):
                return
            take(message.data)
        pending = socket.output()
        if pending:
            raw.write(pending)
        await writer.drain()
