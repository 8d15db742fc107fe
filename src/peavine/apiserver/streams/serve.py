"""Which way an exec, attach or port-forward request takes, by what the client asks for."""

from __future__ import annotations

from dataclasses import dataclass

from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.streams.backend import Backend
from peavine.apiserver.streams.passthrough import pass_through
from peavine.machinery.errors import bad_request
from peavine.wire import websocket_headers as websocket


@dataclass(frozen=True)
class Streams:
    """The streams that an exec or attach asks for. With a terminal, stderr comes through stdout."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


async def serve(exchange: Exchange, backend: Backend, streams: Streams | None = None) -> Response | None:
    """Connect the client with the kubelet at `backend`; `streams` for exec and attach, None for port-forward.

    Raises ApiError: 400 when the request is no upgrade, 500 when the kubelet cannot be reached.
    """
    headers = exchange.info.headers
    headers["sec-websocket-protocol"] = ", ".join(exchange.info.header_values("sec-websocket-protocol"))
    if not exchange.upgrade or "upgrade" not in headers.get("connection", "").lower():
        raise bad_request("Upgrade request required")
    if websocket.is_websocket(headers):
        offered = websocket.offered(headers)
        if streams is not None:
            from peavine.apiserver.streams.remotecommand import PROTOCOLS, translate

            protocol = next((known for known in PROTOCOLS if known in offered), None)
            if protocol is not None:
                return await translate(exchange, backend, streams, protocol)
        if streams is None:
            from peavine.apiserver.streams.tunnel import TUNNELLED, tunnel

            if TUNNELLED in offered:
                return await tunnel(exchange, backend)
            from peavine.apiserver.streams import portforward

            protocol = next((known for known in portforward.PROTOCOLS if known in offered), None)
            if protocol is not None:
                return await portforward.forward(exchange, backend, protocol)
    return await pass_through(exchange, backend)
