"""Through a real HTTP server of ours to a stand-in for the kubelet, with hand-made clients."""

import asyncio
import base64
import contextlib
import json

import pytest

from peavine.apiserver.http import HttpServer, Response
from peavine.apiserver.streams import Backend, Streams, serve
from peavine.base.lifetimes import scope
from peavine.machinery.errors import ApiError
from peavine.wire import spdy, websocket_headers
from peavine.wire.websocket import Closed, Message, WebSocket

SUCCESS = b'{"metadata":{},"status":"Success"}'
FAILURE = json.dumps(
    {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}
).encode()


class Kubelet:
    """Accepts SPDY upgrades. exec: echoes stdin to stdout until its end, then says how it went."""

    def __init__(self, result=SUCCESS, refuse=None):
        self.result, self.refuse = result, refuse
        self.heads, self.resizes = [], []

    async def __call__(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        self.heads.append(head)
        if self.refuse:
            writer.write(self.refuse)
            return
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n")
        writer.write(b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n")
        session, names = spdy.Spdy(client=False), {}
        while data := await reader.read(4096):
            for event in session.receive(data):
                if isinstance(event, spdy.StreamOpened):
                    names[event.stream] = event.headers.get("streamtype")
                    writer.write(session.reply(event.stream))
                    writer.write(session.ping(2))
                elif isinstance(event, spdy.Data) and names[event.stream] == "resize":
                    self.resizes.append(event.data)
                elif isinstance(event, spdy.Data):
                    streams = {name: stream for stream, name in names.items()}
                    out = streams.get("stdout", event.stream)
                    writer.write(session.data(out, event.data.upper(), fin=event.fin))
                    if event.fin and "error" in streams:
                        if "stderr" in streams:
                            writer.write(session.data(streams["stderr"], b"warned", fin=True))
                        writer.write(session.data(streams["error"], self.result, fin=True))
            await writer.drain()


@contextlib.asynccontextmanager
async def running(kubelet, streams, dead=False):
    backend_server = await asyncio.start_server(kubelet, "127.0.0.1", 0)
    port = backend_server.sockets[0].getsockname()[1]
    if dead:
        backend_server.close()
        await backend_server.wait_closed()

    async def handler(exchange):
        try:
            return await serve(exchange, Backend("127.0.0.1", port, "/exec/ns/pod/c?command=cat&input=1"), streams)
        except ApiError as error:
            return Response(error.code, json.dumps(error.status()).encode())

    async with scope() as tasks:
        server = HttpServer(handler)
        yield await server.listen("127.0.0.1", 0, tasks)
        backend_server.close()


async def ask(port, headers, path="/exec"):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", "Host: x", *[f"{k}: {v}" for k, v in headers], "", ""]
    writer.write("\r\n".join(lines).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    return head, reader, writer


async def messages(socket, reader, writer):
    found = []
    while data := await reader.read(4096):
        found += socket.receive(data)
        writer.write(socket.output())
        if found and isinstance(found[-1], Closed):
            break
    return found


def websocket_request(*protocols):
    return websocket_headers.request_headers("dGhlIHNhbXBsZSBub25jZQ==", protocols)


def by_channel(found):
    channels = {}
    for message in found:
        if isinstance(message, Message):
            channels[message.data[0]] = channels.get(message.data[0], b"") + message.data[1:]
    return channels


SPDY_REQUEST = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
                ("Authorization", "Bearer secret")]  # fmt: skip


async def test_spdy_passes_through_and_the_clients_credentials_do_not():
    kubelet = Kubelet()
    async with running(kubelet, Streams(stdin=True, stdout=True)) as port:
        head, reader, writer = await ask(port, SPDY_REQUEST)
        assert head.startswith("HTTP/1.1 101 ") and "X-Stream-Protocol-Version: v4.channel.k8s.io" in head
        session = spdy.Spdy(client=True)
        stream, frame = session.open_stream({"streamType": "stdin"})
        writer.write(frame + session.data(stream, b"hello"))
        events = []
        while not any(isinstance(e, spdy.Data) for e in events):
            events += session.receive(await reader.read(4096))
        assert events[-1] == spdy.Data(stream, b"HELLO")
        writer.close()
    assert "secret" not in kubelet.heads[0]
    assert "post /exec/ns/pod/c?command=cat&input=1" in kubelet.heads[0]
    assert "x-forwarded-for: 127.0.0.1" in kubelet.heads[0]


async def test_a_v5_websocket_becomes_spdy_with_a_half_closed_stdin():
    kubelet = Kubelet()
    async with running(kubelet, Streams(stdin=True, stdout=True, stderr=True)) as port:
        head, reader, writer = await ask(port, websocket_request("v5.channel.k8s.io", "v4.channel.k8s.io"))
        assert head.startswith("HTTP/1.1 101 ") and "Sec-WebSocket-Protocol: v5.channel.k8s.io" in head
        socket = WebSocket(client=True)
        writer.write(socket.send(b"\0" + b"x" * 100_000) + socket.send(b"\0end") + socket.send(bytes([255, 0])))
        found = await messages(socket, reader, writer)
        writer.close()
    assert found[0] == Message(b"\1")
    channels = by_channel(found)
    assert channels == {1: b"X" * 100_000 + b"END", 2: b"warned", 3: SUCCESS}
    assert isinstance(found[-1], Closed) and found[-1].code == 1000


async def test_a_terminal_has_a_resize_channel_and_no_stderr():
    kubelet = Kubelet()
    async with running(kubelet, Streams(stdin=True, stdout=True, stderr=True, tty=True)) as port:
        _, reader, writer = await ask(port, websocket_request("v5.channel.k8s.io"))
        socket = WebSocket(client=True)
        writer.write(socket.send(b'\4{"Width":80,"Height":24}') + socket.send(bytes([255, 0])))
        channels = by_channel(await messages(socket, reader, writer))
        writer.close()
    assert kubelet.resizes == [b'{"Width":80,"Height":24}']
    assert 2 not in channels


async def test_an_exit_code_reaches_the_websocket_client():
    async with running(Kubelet(result=FAILURE), Streams(stdin=True, stdout=True)) as port:
        _, reader, writer = await ask(port, websocket_request("v5.channel.k8s.io"))
        socket = WebSocket(client=True)
        writer.write(socket.send(bytes([255, 0])))
        assert by_channel(await messages(socket, reader, writer))[3] == FAILURE
        writer.close()


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno such c",
            "Internal error occurred: unable to upgrade connection: no such c",
        ),
        (
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 44\r\n\r\n" + b'{"kind":"Status","code":403,"message":"no"}\n',
            "no",
        ),
    ],
)
async def test_a_refusing_kubelet_is_told_on_the_error_channel(refuse, message):
    async with running(Kubelet(refuse=refuse), Streams(stdout=True)) as port:
        _, reader, writer = await ask(port, websocket_request("v5.channel.k8s.io"))
        channels = by_channel(await messages(WebSocket(client=True), reader, writer))
        writer.close()
    assert json.loads(channels[3])["message"] == message


async def test_port_forward_tunnels_spdy_in_a_websocket():
    kubelet = Kubelet()
    async with running(kubelet, None) as port:
        head, reader, writer = await ask(port, websocket_request("SPDY/3.1+portforward.k8s.io"))
        assert "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io" in head
        socket, session = WebSocket(client=True), spdy.Spdy(client=True)
        stream, frame = session.open_stream({"streamtype": "data", "port": "80", "requestid": "0"})
        writer.write(socket.send(frame) + socket.send(session.data(stream, b"get")))
        events = []
        while not any(isinstance(e, spdy.Data) for e in events):
            for message in socket.receive(await reader.read(4096)):
                events += session.receive(message.data)
        assert events[-1] == spdy.Data(stream, b"GET")
        writer.write(socket.close())
        assert isinstance((await messages(socket, reader, writer))[-1], Closed)
        writer.close()
    assert "x-stream-protocol-version: portforward.k8s.io" in kubelet.heads[0]


@pytest.mark.parametrize("as_text", [False, True], ids=["binary", "base64"])
async def test_port_forward_in_channels_has_two_for_each_port(as_text):
    def frame(channel, data):
        return str(channel).encode() + base64.b64encode(data) if as_text else bytes([channel]) + data

    protocol = "v4.base64.channel.k8s.io" if as_text else "v4.channel.k8s.io"
    async with running(Kubelet(), None) as port:
        head, reader, writer = await ask(port, websocket_request(protocol), "/portforward?ports=80&ports=8080")
        assert head.startswith("HTTP/1.1 101 ") and protocol in head
        socket = WebSocket(client=True)
        writer.write(socket.send(frame(0, b"first")) + socket.send(frame(2, b"second")))
        found, answers = [], {frame(0, b"FIRST"), frame(2, b"SECOND")}
        while not answers <= set(found):
            found += [message.data for message in socket.receive(await reader.read(4096))]
        first, second = (80).to_bytes(2, "little"), (8080).to_bytes(2, "little")
        greetings = [frame(0, first), frame(1, first), frame(2, second), frame(3, second)]
        assert found[:4] == greetings
        writer.write(socket.close())
        assert isinstance((await messages(socket, reader, writer))[-1], Closed)
        writer.close()
        for wrong in ("/portforward", "/portforward?ports=x"):
            head, _, writer = await ask(port, websocket_request(protocol), wrong)
            assert head.startswith("HTTP/1.1 400 ")
            writer.close()


async def test_a_dead_kubelet_and_a_plain_request_are_answered_in_http():
    async with running(Kubelet(), Streams(stdout=True), dead=True) as port:
        head, reader, writer = await ask(port, SPDY_REQUEST)
        body = json.loads(await reader.read(4096))
        assert head.startswith("HTTP/1.1 500 ")
        assert body["message"].startswith("error dialing backend: dial tcp 127.0.0.1:")
        assert body["message"].endswith("connect: connection refused")
        writer.close()
        head, _, writer = await ask(port, [])
        assert head.startswith("HTTP/1.1 400 ")
        writer.close()
