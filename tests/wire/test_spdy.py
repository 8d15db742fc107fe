import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peavine.wire import spdy
from peavine.wire.spdy import Data, GoAway, Ping, Spdy, SpdyError, StreamOpened, StreamReplied, StreamReset


def test_the_dictionary_is_the_one_every_peer_has():
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_a_conversation_arrives_as_it_was_said_whatever_the_pieces():
    client, server = Spdy(client=True), Spdy(client=False)
    first, open_first = client.open_stream({"streamType": "error"})
    second, open_second = client.open_stream({"streamType": "stdin", "port": "80"})
    said = [
        open_first,
        open_second,
        client.data(second, b"hello"),
        client.data(second, b"", fin=True),
        client.ping(1),
        client.reset(first, spdy.CANCEL),
        client.go_away(0),
    ]
    wire = b"".join(said)
    heard = []
    for byte in wire:
        heard += server.receive(bytes([byte]))
    assert (first, second) == (1, 3)
    assert heard == [
        StreamOpened(1, {"streamtype": "error"}),
        StreamOpened(3, {"streamtype": "stdin", "port": "80"}),
        Data(3, b"hello"),
        Data(3, b"", fin=True),
        Ping(1),
        StreamReset(1, spdy.CANCEL),
        GoAway(0, 0),
    ]
    assert client.receive(server.reply(1)) == [StreamReplied(1)]
    assert server.open_stream({})[0] == 2


@settings(deadline=None, derandomize=True, database=None)
@given(st.dictionaries(st.text("abc-", min_size=1), st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_headers_survive_the_compression(headers):
    client, server = Spdy(client=True), Spdy(client=False)
    for _ in range(3):
        _, frame = client.open_stream(headers)
        (event,) = server.receive(frame)
        assert event.headers == headers


@settings(deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_a_protocol_error(garbage):
    try:
        Spdy(client=False).receive(garbage)
    except SpdyError:
        pass


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("!II", 0x80020001, 0),  # SPDY/2
        struct.pack("!II", 0x80030001, 4) + b"\0\0\0\1",  # a SYN_STREAM cut short
        struct.pack("!II", 1, 0xFFFFFF),  # a frame of 16 MiB
        struct.pack("!II", 0x80030002, 8) + b"\0\0\0\1" + b"oops",  # a header block that is no zlib
    ],
)
def test_a_broken_frame_ends_the_connection(frame):
    with pytest.raises(SpdyError):
        Spdy(client=False).receive(frame)


def test_a_header_bomb_is_refused():
    client = Spdy(client=True)
    _, frame = client.open_stream({"a": "x" * 1_000_000})
    assert len(frame) < 10_000
    with pytest.raises(SpdyError, match="over the limit"):
        Spdy(client=False).receive(frame)


def test_unknown_control_frames_are_passed_over():
    settings = struct.pack("!II", 0x80030004, 4) + b"\0\0\0\0"
    window = struct.pack("!II", 0x80030009, 8) + b"\0" * 8
    assert Spdy(client=False).receive(settings + window) == []
