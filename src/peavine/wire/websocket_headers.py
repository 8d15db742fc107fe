"""The HTTP side of WebSocket (RFC 6455): asking for it, and accepting. Header names are in lower case."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


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


def accept_head(headers: Mapping[str, str], protocol: str | None = None) -> bytes:
    """The whole 101 answer. Raises ValueError for a request that is no proper handshake."""
    lines = ["HTTP/1.1 101 Switching Protocols"]
    lines += [f"{name}: {value}" for name, value in accept_headers(headers, protocol)]
    return "\r\n".join([*lines, "", ""]).encode()
