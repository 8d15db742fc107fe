"""The protobuf wire format: varints, tags, length-delimited fields, length-prefixed frames. No message types.

Follows the encoding chapter of the Protocol Buffers documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MASK = (1 << 64) - 1


class WireError(ValueError):
    """The bytes are no protobuf message."""


def varint(number: int) -> bytes:
    """The varint of a 64-bit number; a negative one takes ten bytes, as int32 and int64 fields do."""
    number &= _MASK
    if number < 128:
        return bytes((number,))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def delimited(key: bytes, body: bytes | bytearray) -> bytes:
    """A length-delimited field: its tag, its length, its body."""
    return key + varint(len(body)) + body


def double(number: float) -> bytes:
    return struct.pack("<d", number)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned number at `at`, and the position after it."""
    result = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 127) << shift
            if byte < 128:
                return result & _MASK, at
            shift += 7
            if shift > 63:
                raise WireError("proto: integer overflow")
    except IndexError:
        raise WireError("unexpected EOF") from None


def signed(number: int) -> int:
    """The two's complement reading of an unsigned 64-bit number."""
    return number - (1 << 64) if number >> 63 else number


def fields(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: number, wire type, and two numbers whose meaning the wire type decides.

    For BYTES they are the body's start and end in `data`; for VARINT the unsigned value, and zero; for FIXED64 and
    FIXED32 start and end of the little-endian bytes.
    """
    end = len(data) if end is None else end
    while at < end:
        key, at = read_varint(data, at)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise WireError("proto: illegal tag 0")
        if wire_type == VARINT:
            value, at = read_varint(data, at)
            yield number, wire_type, value, 0
        elif wire_type == BYTES:
            length, at = read_varint(data, at)
            if length > end - at:
                raise WireError("unexpected EOF")
            yield number, wire_type, at, at + length
            at += length
        elif wire_type in (FIXED64, FIXED32):
            size = 8 if wire_type == FIXED64 else 4
            if size > end - at:
                raise WireError("unexpected EOF")
            yield number, wire_type, at, at + size
            at += size
        else:
            raise WireError(f"proto: illegal wireType {wire_type}")
    if at != end:
        raise WireError("unexpected EOF")


def frame(body: bytes) -> bytes:
    """A frame of a stream: four bytes of length, big endian, then the body."""
    return struct.pack(">I", len(body)) + body
