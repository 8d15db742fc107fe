"""SPDY/3.1 frames: the multiplexing under exec, attach and port-forward.

One `Spdy` is one end of one connection: bytes in, events out, and methods that give the bytes to send. It tracks
nothing but header compression and stream numbers; who may say what on which stream is the caller's to know.
Flow control is left out, as Kubernetes' own SPDY library does: window updates are neither sent nor waited for.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

frame_bytes_max = 1 << 20  # of one incoming frame; Go sends at most 32 KiB of data a frame
header_bytes_max = 64 * 1024  # of one decompressed header block

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FLAG_FIN, FLAG_UNIDIRECTIONAL = 1, 2

# Statuses of a reset.
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, UNSUPPORTED_VERSION, CANCEL, INTERNAL_ERROR = range(1, 7)


class SpdyError(Exception):
    """The peer broke the protocol; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    stream: int
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    fin: bool = False
    unidirectional: bool = False


@dataclass(frozen=True, slots=True)
class StreamReplied:
    stream: int
    headers: dict[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    stream: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True, slots=True)
class StreamReset:
    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Of the peer, to be answered with `ping(id)`; or the answer to one of ours (ours have our own parity)."""

    id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    last_stream: int
    status: int


@dataclass(frozen=True, slots=True)
class MoreHeaders:
    stream: int
    headers: dict[str, str]
    fin: bool = False


Event = StreamOpened | StreamReplied | Data | StreamReset | Ping | GoAway | MoreHeaders


class Spdy:
    """One end of a connection. Streams that a client opens have odd numbers, a server's even ones."""

    def __init__(self, *, client: bool) -> None:
        self._next_stream = 1 if client else 2
        self._buffer = bytearray()
        self._compress = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
        self._decompress = zlib.decompressobj(zdict=DICTIONARY)

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes complete, in order. Raises SpdyError when the peer breaks the protocol."""
        buffer = self._buffer
        buffer += data
        events: list[Event] = []
        start = 0
        while len(buffer) - start >= 8:
            first, second = struct.unpack_from("!II", buffer, start)
            flags, size = second >> 24, second & 0xFFFFFF
            if size > frame_bytes_max:
                raise SpdyError(f"a frame of {size} bytes is over the limit of {frame_bytes_max}")
            if len(buffer) - start < 8 + size:
                break
            payload = bytes(buffer[start + 8 : start + 8 + size])
            start += 8 + size
            if first & 0x80000000:
                event = self._control(first, flags, payload)
                if event is not None:
                    events.append(event)
            else:
                events.append(Data(first & 0x7FFFFFFF, payload, bool(flags & FLAG_FIN)))
        if start:
            del buffer[:start]
        return events

    def open_stream(self, headers: Mapping[str, str], *, fin: bool = False) -> tuple[int, bytes]:
        """A new stream's number and the frame that opens it."""
        stream = self._next_stream
        self._next_stream += 2
        body = struct.pack("!IIBB", stream, 0, 0, 0) + self._block(headers)
        return stream, _frame(SYN_STREAM, FLAG_FIN if fin else 0, body)

    def reply(self, stream: int, headers: Mapping[str, str] | None = None, *, fin: bool = False) -> bytes:
        """Accept a stream that the peer opened."""
        return _frame(SYN_REPLY, FLAG_FIN if fin else 0, struct.pack("!I", stream) + self._block(headers or {}))

    @staticmethod
    def data(stream: int, data: bytes, *, fin: bool = False) -> bytes:
        """One frame of data, of less than 16 MiB; `fin` ends this direction of the stream."""
        return struct.pack("!II", stream, (FLAG_FIN << 24 if fin else 0) | len(data)) + data

    @staticmethod
    def reset(stream: int, status: int = CANCEL) -> bytes:
        """Break a stream off, both directions."""
        return _frame(RST_STREAM, 0, struct.pack("!II", stream, status))

    @staticmethod
    def ping(id: int) -> bytes:
        return _frame(PING, 0, struct.pack("!I", id))

    @staticmethod
    def go_away(last_stream: int, status: int = 0) -> bytes:
        return _frame(GOAWAY, 0, struct.pack("!II", last_stream, status))

    def _control(self, first: int, flags: int, payload: bytes) -> Event | None:
        version, kind = (first >> 16) & 0x7FFF, first & 0xFFFF
        if version != 3:
            raise SpdyError(f"SPDY version {version} is not 3")
        fin = bool(flags & FLAG_FIN)
        try:
            if kind == SYN_STREAM:
                (stream,) = struct.unpack_from("!I", payload)
                headers = self._headers(payload[10:])
                return StreamOpened(stream & 0x7FFFFFFF, headers, fin, bool(flags & FLAG_UNIDIRECTIONAL))
            if kind in (SYN_REPLY, HEADERS):
                (stream,) = struct.unpack_from("!I", payload)
                headers = self._headers(payload[4:])
                return (StreamReplied if kind == SYN_REPLY else MoreHeaders)(stream & 0x7FFFFFFF, headers, fin)
            if kind == RST_STREAM:
                stream, status = struct.unpack_from("!II", payload)
                return StreamReset(stream & 0x7FFFFFFF, status)
            if kind == PING:
                return Ping(struct.unpack_from("!I", payload)[0])
            if kind == GOAWAY:
                last, status = struct.unpack_from("!II", payload)
                return GoAway(last & 0x7FFFFFFF, status)
        except struct.error as error:
            raise SpdyError(f"a control frame of type {kind} is too short") from error
        return None  # SETTINGS, WINDOW_UPDATE, and what a later version may add

    def _block(self, headers: Mapping[str, str]) -> bytes:
        parts = [struct.pack("!I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower(), value):
                raw = text.encode("utf-8", "surrogateescape")
                parts += [struct.pack("!I", len(raw)), raw]
        return self._compress.compress(b"".join(parts)) + self._compress.flush(zlib.Z_SYNC_FLUSH)

    def _headers(self, compressed: bytes) -> dict[str, str]:
        try:
            block = self._decompress.decompress(compressed, header_bytes_max)
        except zlib.error as error:
            raise SpdyError(f"a header block does not decompress: {error}") from error
        if self._decompress.unconsumed_tail:
            raise SpdyError(f"a header block is over the limit of {header_bytes_max} bytes")
        headers: dict[str, str] = {}
        (count,) = struct.unpack_from("!I", block)
        place = 4
        for _ in range(count):
            texts = []
            for _ in range(2):
                (size,) = struct.unpack_from("!I", block, place)
                place += 4
                if place + size > len(block):
                    raise SpdyError("a header block ends within a name or value")
                texts.append(block[place : place + size].decode("utf-8", "surrogateescape"))
                place += size
            headers[texts[0].lower()] = texts[1].replace("\0", ",")
        return headers


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack("!II", 0x80030000 | kind, flags << 24 | len(payload)) + payload


def _dictionary() -> bytes:
    """The dictionary that SPDY/3 header compression starts from (appendix of the draft): its Adler-32 is e3c6a7c2."""
    words = (
        "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age"
        " allow authorization cache-control connection content-base content-encoding content-language content-length"
        " content-location content-md5 content-range content-type date etag expect expires from host if-match"
        " if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma"
        " proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
        " user-agent vary via warning www-authenticate method get status"
    )
    names = words.split()
    names += ["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]
    codes = (
        "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
        "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
        "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    )
    rest = (
        "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,"
        "text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
        "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
    )
    return b"".join(struct.pack("!I", len(name)) + name.encode() for name in names) + (codes + rest).encode()


DICTIONARY = _dictionary()
