"""CBOR (RFC 8949) as upstream's `serializer/cbor` reads and writes it: the JSON of an object in binary.

Strings are byte strings, and bytes (base64 text in JSON) are byte strings under tag 22, so which is which takes the
object's type. Documents begin with the tag of self-described CBOR. Map keys are written in the order of the object.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from peavine.machinery.schema import Schema, Type

SELF_DESCRIBED = b"\xd9\xd9\xf7"
DEPTH_MAX = 64
_BASE64 = 22
_INTEGERS = range(-(1 << 63), 1 << 63)


class CborError(ValueError):
    """The bytes are no CBOR document, or one that has no JSON form."""


# --- writing


def encode(value: Any, schema: Schema | None = None) -> bytes:
    """A whole document. `schema` knows which strings of a typed object stand for bytes."""
    type = None
    if schema is not None and isinstance(value, dict):
        from peavine.machinery.codecs.protobuf import type_of

        type = type_of(value.get("apiVersion") or "", value.get("kind") or "", schema)
    out = bytearray(SELF_DESCRIBED)
    _write(out, value, type)
    return bytes(out)


def watch_event(event_type: str, obj: Any, schema: Schema | None = None) -> bytes:
    """One event of a sequence (`application/cbor-seq`)."""
    out = bytearray(SELF_DESCRIBED)
    _head(out, 5, 2)
    for name, value in (("type", event_type), ("object", None)):
        _write(out, name, None)
        if value is not None:
            _write(out, value, None)
    return bytes(out) + encode(obj, schema)


def _head(out: bytearray, major: int, number: int) -> None:
    if number < 24:
        out.append(major << 5 | number)
        return
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            out.append(major << 5 | code)
            out += number.to_bytes(size, "big")
            return
    raise CborError(f"{number} does not fit into 64 bits")


def _write(out: bytearray, value: Any, type: Type | None) -> None:
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        if type is not None and type.kind == "bytes":
            data = b64decode(value)
            _head(out, 6, _BASE64)
        _head(out, 2, len(data))
        out += data
    elif isinstance(value, dict):
        _head(out, 5, len(value))
        for name, item in value.items():
            _write(out, name, None)
            _write(out, item, _member(type, name))
    elif isinstance(value, list):
        _head(out, 4, len(value))
        inner = type.items if type is not None else None
        for item in value:
            _write(out, item, inner)
    elif value is None:
        out.append(0xF6)
    elif isinstance(value, bool):
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, int):
        _head(out, 0, value) if value >= 0 else _head(out, 1, -1 - value)
    else:
        out += _float(value)


def _member(type: Type | None, name: str) -> Type | None:
    if type is None:
        return None
    field = type.fields.get(name)
    return field.type if field is not None else type.items


def _float(value: float) -> bytes:
    """The shortest of the three widths that holds it."""
    for first, form in ((b"\xf9", ">e"), (b"\xfa", ">f")):
        try:
            packed = struct.pack(form, value)
        except OverflowError:
            continue
        if struct.unpack(form, packed)[0] == value:
            return first + packed
    return b"\xfb" + struct.pack(">d", value)


# --- reading


def decode(data: bytes) -> Any:
    """The JSON value of a document. Raises CborError."""
    reader = _Reader(data)
    try:
        value = reader.item(0)
    except (IndexError, struct.error):
        raise CborError("unexpected EOF") from None
    if reader.at != len(data):
        raise CborError(f"{len(data) - reader.at} bytes of extraneous data starting at index {reader.at}")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def _take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise CborError("unexpected EOF")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def _number(self, code: int) -> int | None:
        """What follows a head's first byte; None for an indefinite length."""
        if code < 24:
            return code
        if code <= 27:
            return int.from_bytes(self._take(1 << code - 24), "big")
        if code == 31:
            return None
        raise CborError(f"invalid additional information {code}")

    def item(self, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise CborError(f"exceeded max nested level {DEPTH_MAX}")
        first = self._take(1)[0]
        major, code = first >> 5, first & 31
        if major == 7:
            return self._simple(code)
        number = self._number(code)
        if number is None and major in (0, 1, 6):
            raise CborError(f"invalid additional information {code} for type {major}")
        return _BY_TYPE[major](self, number, depth)

    def _unsigned(self, number: int, depth: int) -> int:
        return _in_range(number)

    def _negative(self, number: int, depth: int) -> int:
        return _in_range(-1 - number)

    def _string(self, number: int | None, depth: int, major: int) -> bytes:
        if number is not None:
            return self._take(number)
        parts = []
        while self.data[self.at] != 0xFF:
            first = self._take(1)[0]
            size = self._number(first & 31)
            if first >> 5 != major or size is None:
                raise CborError("wrong element of an indefinite-length string")
            parts.append(self._take(size))
        self.at += 1
        return b"".join(parts)

    def _text(self, number: int | None, depth: int) -> str:
        return _utf8(self._string(number, depth, 3))

    def _bytes(self, number: int | None, depth: int) -> str:
        return self._string(number, depth, 2).decode("utf-8", "replace")

    def _list(self, number: int | None, depth: int) -> list[Any]:
        found: list[Any] = []
        while self._more(number, len(found)):
            found.append(self.item(depth + 1))
        return found

    def _map(self, number: int | None, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._more(number, len(found)):
            key = self.item(depth + 1)
            if not isinstance(key, str):
                raise CborError(f"cannot use {key!r} as the key of a map")
            if key in found:
                raise CborError(f'found duplicate map key "{key}" at map element index {len(found)}')
            found[key] = self.item(depth + 1)
        return found

    def _more(self, number: int | None, so_far: int) -> bool:
        if number is not None:
            return so_far < number
        if self.data[self.at] == 0xFF:
            self.at += 1
            return False
        return True

    def _tagged(self, number: int, depth: int) -> Any:
        if number in _ENCODINGS and self.data[self.at] >> 5 == 2:
            code = self._take(1)[0] & 31
            return _ENCODINGS[number](self._string(self._number(code), depth, 2))
        value = self.item(depth + 1)
        if number == 1:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise CborError("tag number 1 must be followed by integer or floating-point number")
            try:
                return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")
            except (ValueError, OverflowError, OSError):
                raise CborError(f"{value} is no time") from None
        if number in (2, 3):
            raise CborError("a big number has no form in JSON")
        return value

    def _simple(self, code: int) -> Any:
        if code in _SIMPLE:
            return _SIMPLE[code]
        if code in _FLOATS:
            form, size = _FLOATS[code]
            value: float = struct.unpack(form, self._take(size))[0]
            if value != value or value in (float("inf"), float("-inf")):
                raise CborError("floating-point NaN and infinity have no form in JSON")
            return value
        raise CborError(f"invalid simple value {code}")


def _in_range(number: int) -> int:
    if number not in _INTEGERS:
        raise CborError(f"{number} overflows Go's int64")
    return number


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CborError("invalid UTF-8 string") from None


_BY_TYPE: tuple[Callable[[_Reader, Any, int], Any], ...] = (
    _Reader._unsigned,
    _Reader._negative,
    _Reader._bytes,
    _Reader._text,
    _Reader._list,
    _Reader._map,
    _Reader._tagged,
)
_ENCODINGS: dict[int, Callable[[bytes], str]] = {
    21: lambda data: urlsafe_b64encode(data).rstrip(b"=").decode(),
    _BASE64: lambda data: b64encode(data).decode(),
    23: lambda data: data.hex().upper(),
}
_SIMPLE = {20: False, 21: True, 22: None, 23: None}  # undefined counts as null
_FLOATS = {25: (">e", 2), 26: (">f", 4), 27: (">d", 8)}
