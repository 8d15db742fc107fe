"""Port-forward for an older WebSocket client (v4.channel.k8s.io), carried on as SPDY.

Of each port that the request names, in order, the client has two channels: an even one for data and the odd one behind
it for errors. The first message on each, of either sort, is the port's number, low byte first.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.streams.backend import Answer, Backend, ask_spdy
from peavine.apiserver.streams.client import accept_head, read_messages
from peavine.apiserver.streams.passthrough import quietly, refusal
from peavine.base.lifetimes import scope
from peavine.machinery.errors import bad_request
from peavine.wire import spdy

PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
_chunk_bytes = 32 * 1024


async def forward(exchange: Exchange, backend: Backend, protocol: str) -> Response | None:
    """Open SPDY to the kubelet, then accept the WebSocket. Raises ApiError 400; a refusal goes to the client."""
    from peavine.wire.websocket import WebSocket

    ports = _ports(exchange)
    head = accept_head(exchange, protocol)
    answer = await ask_spdy(backend, "portforward.k8s.io")
    if answer.status != 101:
        return refusal(answer)
    raw = exchange.take_over(head)
    try:
        await _Forwarding(raw, WebSocket(), answer, ports, as_text="base64" in protocol).run()
    except ConnectionError:
        pass  # one side went away: the other's connection is closed now
    finally:
        answer.writer.close()
        raw.close()
    return None


def _ports(exchange: Exchange) -> list[int]:
    texts = [part for value in exchange.info.query.get("ports", ()) for part in value.split(",")]
    if not texts:
        raise bad_request('query parameter "ports" is required')
    if not all(text.isdecimal() and 0 < int(text) < 1 << 16 for text in texts):
        raise bad_request(f"unable to parse {texts!r} as ports")
    return [int(text) for text in texts]


class _Forwarding:
    def __init__(self, raw: Any, socket: Any, answer: Answer, ports: list[int], *, as_text: bool) -> None:
        self.raw, self.socket, self.as_text = raw, socket, as_text
        self.reader, self.writer = answer.reader, answer.writer
        self.spdy = spdy.Spdy(client=True)
        self.channel_of: dict[int, int] = {}
        self.stream_of: dict[int, int] = {}
        for place, port in enumerate(ports):
            for channel, sort in ((2 * place + 1, "error"), (2 * place, "data")):
                fields = {"streamType": sort, "port": str(port), "requestID": str(place)}
                stream, frame = self.spdy.open_stream(fields)
                self.channel_of[stream] = channel
                self.writer.write(frame)
                if sort == "error":
                    self.writer.write(self.spdy.data(stream, b"", fin=True))
                else:
                    self.stream_of[channel] = stream
        self.unreplied = set(self.channel_of)
        self.open = set(self.channel_of)
        self.ready = asyncio.Event()
        for place, port in enumerate(ports):
            for channel in (2 * place, 2 * place + 1):
                self._tell(channel, port.to_bytes(2, "little"))

    def _tell(self, channel: int, data: bytes) -> None:
        """One message: binary, or a digit and base64."""
        if self.as_text:
            self.raw.write(self.socket.send((str(channel) + base64.b64encode(data).decode()).encode()))
        else:
            self.raw.write(self.socket.send(bytes([channel]) + data))

    async def run(self) -> None:
        async with scope() as tasks:
            both = {tasks.start(quietly(self._from_backend())), tasks.start(quietly(self._from_client()))}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        self.raw.write(self.socket.output() or self.socket.close())

    async def _from_backend(self) -> None:
        while self.open:
            data = await self.reader.read(_chunk_bytes)
            if not data:
                return
            for event in self.spdy.receive(data):
                self._take(event)
            await self.raw.drain()

    def _take(self, event: spdy.Event) -> None:
        if isinstance(event, spdy.Data):
            channel = self.channel_of.get(event.stream)
            if channel is not None and event.data:
                self._tell(channel, event.data)
            if event.fin:
                self.open.discard(event.stream)
        elif isinstance(event, spdy.StreamReplied):
            self.unreplied.discard(event.stream)
            if not self.unreplied:
                self.ready.set()
        elif isinstance(event, spdy.StreamReset):
            self.open.discard(event.stream)
        elif isinstance(event, spdy.Ping) and event.id % 2 == 0:
            self.writer.write(self.spdy.ping(event.id))

    async def _from_client(self) -> None:
        await self.ready.wait()
        await read_messages(self.raw, self.socket, self._send, self.writer)

    def _send(self, message: bytes) -> None:
        if not message:
            return
        channel, data = message[0], message[1:]
        if self.as_text:
            channel, data = channel - ord("0"), base64.b64decode(data)
        stream = self.stream_of.get(channel)
        if stream is not None:
            for place in range(0, len(data), _chunk_bytes):
                self.writer.write(self.spdy.data(stream, data[place : place + _chunk_bytes]))
