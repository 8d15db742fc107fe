"""WebSocket (RFC 6455) over wsproto, after the HTTP handshake: bytes in, messages out.

The handshake's HTTP is in `websocket_headers`, which costs no import of wsproto.
"""

from __future__ import annotations

from dataclasses import dataclass

from wsproto import connection, events
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

message_bytes_max = 4 << 20

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
