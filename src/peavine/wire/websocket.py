"""WebSocket (RFC 6455) over wsproto, after the HTTP handshake: bytes in, messages out.

The handshake's HTTP belongs to whoever speaks HTTP; `accept_headers` and `accept_key` give it what to say.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsproto import connection, events
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

message_bytes_max = 4 << 20
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

NORMAL, GOING_AWAY, PROTOCOL_ERROR, TOO_BIG, INTERNAL_ERROR = 1000, 1001, 1002, 1009, 1011


@dataclass(frozen=True, slots=True)
class Message:
    data: bytes
    text: bool = False


@dataclass(frozen=True, slots=True)
class Closed:
    """The peer closes, or broke the protocol. Nothing follows."""

    code: int
    reason: str = ""


class WebSocket:
    """One end of an open connection. After each `receive`, write what `output` gives (pongs, close replies)."""

    def __init__(self, *, client: bool = False, bytes_max: int = message_bytes_max) -> None:
        kind = connection.ConnectionType.CLIENT if client else connection.ConnectionType.SERVER
        self._connection = connection.Connection(kind)
        self._bytes_max = bytes_max
        self._parts: list[bytes] = []
        self._size = 0
        self._output = bytearray()
        self.closed = False

    def receive(self, data: bytes | None) -> list[Message | Closed]:
        """The whole messages that these bytes complete; None says that the peer has gone."""
        found: list[Message | Closed] = []
        if self.closed:
            return found
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                self._take(event, found)
                if self.closed:
                    break
        except RemoteProtocolError as error:
            self._output += self.close(PROTOCOL_ERROR, str(error))
            self.closed = True
            found.append(Closed(PROTOCOL_ERROR, str(error)))
        return found

    def _take(self, event: events.Event, found: list[Message | Closed]) -> None:
        if isinstance(event, (events.BytesMessage, events.TextMessage)):
            part = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
            self._size += len(part)
            if self._size > self._bytes_max:
                self._output += self.close(TOO_BIG, "message too big")
                self.closed = True
                found.append(Closed(TOO_BIG, "message too big"))
                return
            self._parts.append(part)
            if event.message_finished:
                found.append(Message(b"".join(self._parts), isinstance(event, events.TextMessage)))
                self._parts, self._size = [], 0
        elif isinstance(event, events.Ping):
            self._output += self._connection.send(event.response())
        elif isinstance(event, events.CloseConnection):
            if self._connection.state is connection.ConnectionState.REMOTE_CLOSING:
                self._output += self._connection.send(event.response())
            self.closed = True
            found.append(Closed(event.code, event.reason or ""))

    def output(self) -> bytes:
        """What must be written to the peer in answer to what was received."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def send(self, data: bytes, *, text: bool = False) -> bytes:
        """The frame of one message. After the close it is empty: nobody would read it."""
        event = events.TextMessage(data.decode()) if text else events.BytesMessage(data)
        return self._send(event)

    def ping(self, payload: bytes = b"") -> bytes:
        return self._send(events.Ping(payload))

    def close(self, code: int = NORMAL, reason: str = "") -> bytes:
        """The closing frame; `reason` is cut to what one frame holds."""
        return self._send(events.CloseConnection(code, reason.encode()[:120].decode("utf-8", "ignore") or None))

    def _send(self, event: events.Event) -> bytes:
        if self.closed:
            return b""
        try:
            return self._connection.send(event)
        except LocalProtocolError:
            return b""  # closing already


def accept_key(key: str) -> str:
    """`Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def is_websocket(headers: Mapping[str, str]) -> bool:
    """Whether a request (header names in lower case) asks for a WebSocket."""
    connection_words = {word.strip() for word in headers.get("connection", "").lower().split(",")}
    return "upgrade" in connection_words and headers.get("upgrade", "").lower() == "websocket"


def offered(headers: Mapping[str, str]) -> list[str]:
    """The subprotocols a client offers, in its order."""
    return [word.strip() for word in headers.get("sec-websocket-protocol", "").split(",") if word.strip()]


def chosen(headers: Mapping[str, str], supported: Sequence[str]) -> str | None:
    """The first offered subprotocol that is supported."""
    return next((protocol for protocol in offered(headers) if protocol in supported), None)


def accept_headers(headers: Mapping[str, str], protocol: str | None = None) -> list[tuple[str, str]]:
    """The headers of the 101 answer. Raises ValueError for a request that is no proper handshake."""
    key = headers.get("sec-websocket-key", "")
    if not is_websocket(headers) or headers.get("sec-websocket-version") != "13" or not key:
        raise ValueError("not a WebSocket handshake of version 13")
    answer = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_key(key))]
    if protocol:
        answer.append(("Sec-WebSocket-Protocol", protocol))
    return answer


def request_headers(key: str, protocols: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The headers with which a client asks; `key` is 16 random bytes in base64."""
    asked = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if protocols:
        asked.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
    return asked
