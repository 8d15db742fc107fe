import pytest

from peavine.wire import websocket, websocket_headers
from peavine.wire.websocket import Closed, Message, WebSocket


def test_messages_arrive_whole_whatever_the_pieces():
    client, server = WebSocket(client=True), WebSocket()
    wire = client.send(b"\0hello") + client.send(b"text", text=True)
    heard = []
    for byte in wire:
        heard += server.receive(bytes([byte]))
    assert heard == [Message(b"\0hello"), Message(b"text", text=True)]
    assert client.receive(server.send(b"back")) == [Message(b"back")]


def test_pings_are_answered_and_closes_returned():
    client, server = WebSocket(client=True), WebSocket()
    assert server.receive(client.ping(b"x")) == []
    assert client.receive(server.output()) == []
    assert server.receive(client.close(websocket.NORMAL, "bye")) == [Closed(1000, "bye")]
    assert client.receive(server.output()) == [Closed(1000, "bye")]
    assert server.send(b"late") == b""


def test_a_message_over_the_limit_closes():
    client, server = WebSocket(client=True), WebSocket(bytes_max=10)
    (closed,) = server.receive(client.send(b"x" * 11))
    assert closed.code == websocket.TOO_BIG
    assert client.receive(server.output())[0].code == websocket.TOO_BIG


def test_a_broken_frame_closes_without_an_exception():
    server = WebSocket()
    (closed,) = server.receive(b"\xff\xff\xff\xff\xff")
    assert closed.code == websocket.PROTOCOL_ERROR
    assert server.receive(b"more") == []


def test_the_handshake_follows_the_rfcs_example():
    asked = {
        "connection": "keep-alive, Upgrade",
        "upgrade": "WebSocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-protocol": "v5.channel.k8s.io, v4.channel.k8s.io",
    }
    assert websocket_headers.chosen(asked, ["v4.channel.k8s.io"]) == "v4.channel.k8s.io"
    answer = dict(websocket_headers.accept_headers(asked, "v4.channel.k8s.io"))
    assert answer["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert answer["Sec-WebSocket-Protocol"] == "v4.channel.k8s.io"
    with pytest.raises(ValueError):
        websocket_headers.accept_headers({**asked, "sec-websocket-version": "8"})
