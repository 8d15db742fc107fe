"""Exec and attach for a WebSocket client, carried on as SPDY (v4.channel.k8s.io).

A WebSocket message is a channel number and data: 0 stdin, 1 stdout, 2 stderr, 3 the final Status, 4 terminal sizes.
A client of v5 can end its stdin, with the two bytes 255, 0; that is all that v4 lacks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from peavine.apiserver.http import Exchange, RawConnection, Response
from peavine.apiserver.streams.backend import Answer, Backend, ask_spdy
from peavine.apiserver.streams.client import accept_head, read_messages
from peavine.apiserver.streams.passthrough import quietly
from peavine.base.lifetimes import scope
from peavine.machinery.errors import ApiError, internal
from peavine.wire import spdy

if TYPE_CHECKING:
    from peavine.apiserver.streams.serve import Streams

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")  # the best first
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_BACKEND_PROTOCOL = "v4.channel.k8s.io"
_chunk_bytes = 32 * 1024
streams_seconds = 30.0  # for the kubelet to accept all streams

_SUCCESS = b'{"metadata":{},"status":"Success"}'


async def translate(exchange: Exchange, backend: Backend, streams: Streams, protocol: str) -> Response | None:
    """Accept the WebSocket, then run the command; whatever goes wrong from there on is told on the error channel."""
    from peavine.wire.websocket import WebSocket

    head = accept_head(exchange, protocol)
    raw = exchange.take_over(head)
    socket = WebSocket()
    # An empty message says that the connection stands.
    first = STDOUT if streams.stdout else STDERR if streams.stderr else ERROR
    raw.write(socket.send(bytes([first])))
    try:
        try:
            await _run(raw, socket, backend, streams)
        except ApiError as error:
            raw.write(socket.send(bytes([ERROR]) + orjson.dumps(error.status())))
        raw.write(socket.close())
    except ConnectionError:
        return None  # the client went away: the kubelet's connection is closed by now
    finally:
        raw.close()
    return None


async def _run(raw: RawConnection, socket: Any, backend: Backend, streams: Streams) -> None:
    answer = await ask_spdy(backend, _BACKEND_PROTOCOL)
    if answer.status != 101:
        raise _refused(answer)
    try:
        await _Translation(raw, socket, answer, streams).run()
    finally:
        answer.writer.close()


def _refused(answer: Answer) -> ApiError:
    """A Status from the kubelet is passed on; text becomes an internal error, as upstream's client makes of it."""
    try:
        status = orjson.loads(answer.body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return ApiError.from_status(status, answer.status)
    text = answer.body.decode("utf-8", "replace").strip() or f"status {answer.status}"
    return internal(f"unable to upgrade connection: {text}")


class _Translation:
    """Both directions of one command, once both protocols are open."""

    def __init__(self, raw: RawConnection, socket: Any, answer: Answer, streams: Streams) -> None:
        self.raw, self.socket = raw, socket
        self.reader, self.writer = answer.reader, answer.writer
        self.spdy = spdy.Spdy(client=True)
        wanted = [("error", ERROR)]
        wanted += [("stdin", STDIN)] if streams.stdin else []
        wanted += [("stdout", STDOUT)] if streams.stdout else []
        wanted += [("stderr", STDERR)] if streams.stderr and not streams.tty else []
        wanted += [("resize", RESIZE)] if streams.tty else []
        self.channel_of: dict[int, int] = {}
        self.stream_of: dict[int, int] = {}
        for name, channel in wanted:
            stream, frame = self.spdy.open_stream({"streamType": name})
            self.channel_of[stream], self.stream_of[channel] = channel, stream
            self.writer.write(frame)
        self.unreplied = set(self.channel_of)
        self.unfinished = {stream for stream, channel in self.channel_of.items() if channel in (STDOUT, STDERR, ERROR)}
        self.told_status = False
        self.ready = asyncio.Event()

    async def run(self) -> None:
        async with scope() as tasks:
            output = tasks.start(self._from_backend())
            client = tasks.start(quietly(self._from_client()))
            await asyncio.wait({output, client}, return_when=asyncio.FIRST_COMPLETED)
            if output.done():
                await output
        if not self.told_status:
            self.raw.write(self.socket.send(bytes([ERROR]) + _SUCCESS))

    async def _from_backend(self) -> None:
        try:
            while self.unfinished:
                data = await self.reader.read(_chunk_bytes)
                if not data:
                    break
                for event in self.spdy.receive(data):
                    self._take(event)
                await self.raw.drain()
        except spdy.SpdyError as error:
            raise internal(f"error in the stream from the kubelet: {error}") from error
        except OSError:
            pass  # the kubelet closed: what it sent has been passed on
        if self.unreplied:
            raise internal("unable to upgrade streams: the connection to the kubelet was lost")

    def _take(self, event: spdy.Event) -> None:
        if isinstance(event, spdy.Data):
            channel = self.channel_of.get(event.stream)
            if channel is None:
                return
            if event.data:
                self.told_status |= channel == ERROR
                self.raw.write(self.socket.send(bytes([channel]) + event.data))
            if event.fin:
                self.unfinished.discard(event.stream)
        elif isinstance(event, spdy.StreamReplied):
            self.unreplied.discard(event.stream)
            if not self.unreplied:
                self.ready.set()
        elif isinstance(event, spdy.StreamReset):
            self.unfinished.discard(event.stream)
        elif isinstance(event, spdy.Ping) and event.id % 2 == 0:
            self.writer.write(self.spdy.ping(event.id))

    async def _from_client(self) -> None:
        # Data on a stream that the kubelet has not accepted yet would be lost.
        async with asyncio.timeout(streams_seconds):
            await self.ready.wait()
        await read_messages(self.raw, self.socket, self._send, self.writer)

    def _send(self, message: bytes) -> None:
        if not message:
            return
        channel, data = message[0], message[1:]
        if channel == CLOSE:
            stream = self.stream_of.get(data[0]) if data else None
            if stream is not None and data[0] == STDIN:
                self.writer.write(self.spdy.data(stream, b"", fin=True))
        elif channel in (STDIN, RESIZE) and channel in self.stream_of:
            for place in range(0, len(data), _chunk_bytes):
                self.writer.write(self.spdy.data(self.stream_of[channel], data[place : place + _chunk_bytes]))
