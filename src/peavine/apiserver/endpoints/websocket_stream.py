"""What the server tells over WebSocket, a watch or a log; what the client sends is read only for close and ping."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from peavine.apiserver.endpoints.rendering import websocket_frame
from peavine.apiserver.http import Exchange, RawConnection
from peavine.machinery import errors

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA
CLIENT_FRAME_BYTES_MAX = 64 << 10


def accept(exchange: Exchange) -> WebSocketStream:
    """Check the handshake. Raises ApiError 400."""
    headers = exchange.info.headers
    key = headers.get("sec-websocket-key", "")
    if exchange.info.method != "GET" or not key or headers.get("sec-websocket-version") != "13":
        raise errors.bad_request("not a WebSocket handshake of version 13")
    offered = [p.strip() for v in exchange.info.header_values("sec-websocket-protocol") for p in v.split(",")]
    protocol = next((p for p in offered if p in ("binary.k8s.io", "base64.binary.k8s.io")), "")
    return WebSocketStream(exchange, key, protocol)


class WebSocketStream:
    """The server's end: `open` answers the handshake, `finish` says goodbye; a watch writes its own frames."""

    def __init__(self, exchange: Exchange, key: str, protocol: str) -> None:
        self.exchange, self.protocol = exchange, protocol
        digest = hashlib.sha1(key.encode() + _GUID.encode()).digest()
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: " + base64.b64encode(digest).decode(),
        ]
        if protocol:
            lines.append("Sec-WebSocket-Protocol: " + protocol)
        lines += [f"{name}: {value}" for name, value in exchange.extra_headers]
        self.head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self.raw: RawConnection | None = None
        self._buffer = b""

    def open(self) -> None:
        self.raw = self.exchange.take_over(self.head)

    def send(self, data: bytes) -> None:
        """Bytes as one message: binary, or (where the client asked for it) as base64 text."""
        as_text = self.protocol == "base64.binary.k8s.io"
        frame = websocket_frame(base64.b64encode(data) if as_text else data, binary=not as_text)
        self.exchange.connection.write(frame)

    async def read(self, sink: Any) -> None:
        """Until the client closes: answer pings, end the watch at a close frame or at the end of the connection."""
        assert self.raw is not None
        while data := await self.raw.read():
            self._buffer += data
            while (frame := self._next()) is not None:
                opcode, payload = frame
                if opcode == _PING:
                    self.raw.write(bytes((0x80 | _PONG, len(payload))) + payload)
                elif opcode == _CLOSE:
                    sink.end("closed")
                    return
            if len(self._buffer) > CLIENT_FRAME_BYTES_MAX:
                sink.end("too large a frame")
                return
        sink.end("gone")

    def _next(self) -> tuple[int, bytes] | None:
        data = self._buffer
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 10
        masked = bool(data[1] & 0x80)
        if len(data) < at + 4 * masked + size:
            return None
        mask = data[at : at + 4] if masked else b""
        at += 4 * masked
        payload = data[at : at + size]
        if masked:
            payload = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
        self._buffer = data[at + size :]
        return data[0] & 0x0F, payload

    def finish(self) -> None:
        """Say goodbye and close."""
        if self.raw is not None:
            self.raw.write(b"\x88\x02\x03\xe8")
            self.raw.close()
