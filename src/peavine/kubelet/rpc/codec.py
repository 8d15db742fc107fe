"""Protobuf (proto3) messages as plain dicts, driven by a table in text form.

A table is lines of `Message: field=number:type ...`. Types are the scalar names of protobuf (`enum` travels as an
integer), the name of a message of the same table, or `map<key,value>`; a trailing `*` means repeated. Decoding gives
only the fields that are on the wire, so a missing one is read with `.get`; unknown fields are skipped, as proto3
demands. Encoding drops None, and the zero value of singular scalars.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

Message = dict[str, Any]

_VARINTS = {"int32", "int64", "uint32", "uint64", "bool", "enum"}
_FIXED = {"double": (1, "<d"), "float": (5, "<f"), "fixed64": (1, "<Q"), "fixed32": (5, "<I")}


class _Field(NamedTuple):
    name: str
    number: int
    type: str
    repeated: bool
    # For a map, the types of key and value.
    pair: tuple[str, str] | None


def encode_varint(value: int) -> bytes:
    if value < 0:
        value += 1 << 64
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned number at `at`, and the offset behind it. Raises ValueError if it is cut short."""
    result = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("truncated or overlong varint")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7


class Codec:
    """Encoder and decoder of every message in one table. A message's fields are parsed when first used."""

    def __init__(self, table: str) -> None:
        self._lines = dict(line.split(":", 1) for line in table.strip().splitlines() if ":" in line)
        self._by_name: dict[str, dict[str, _Field]] = {}
        self._by_number: dict[str, dict[int, _Field]] = {}

    def _fields(self, message: str) -> dict[str, _Field]:
        if message not in self._by_name:
            fields = {}
            for word in self._lines[message].split():
                name, _, rest = word.partition("=")
                number, _, type_ = rest.partition(":")
                repeated = type_.endswith("*")
                type_ = type_.rstrip("*")
                pair = None
                if type_.startswith("map<"):
                    key, _, value = type_[4:-1].partition(",")
                    pair = (key, value)
                fields[name] = _Field(name, int(number), type_, repeated, pair)
            self._by_name[message] = fields
            self._by_number[message] = {field.number: field for field in fields.values()}
        return self._by_name[message]

    def encode(self, message: str, value: Message) -> bytes:
        """Raises KeyError for a field that the table does not have: a typing mistake must not be dropped silently."""
        fields = self._fields(message)
        out = bytearray()
        for name, item in value.items():
            if item is None:
                continue
            field = fields[name]
            if field.pair:
                for key, entry in item.items():
                    pair = self._one(1, field.pair[0], key) + self._one(2, field.pair[1], entry)
                    out += encode_varint(field.number << 3 | 2) + encode_varint(len(pair)) + pair
            elif field.repeated:
                if field.type in _VARINTS and item:
                    packed = b"".join(encode_varint(int(entry)) for entry in item)
                    out += encode_varint(field.number << 3 | 2) + encode_varint(len(packed)) + packed
                else:
                    for entry in item:
                        out += self._one(field.number, field.type, entry)
            elif item or field.type in self._lines:
                out += self._one(field.number, field.type, item)
        return bytes(out)

    def _one(self, number: int, type_: str, value: Any) -> bytes:
        if type_ in _VARINTS:
            return encode_varint(number << 3) + encode_varint(int(value))
        if type_ in _FIXED:
            wire, form = _FIXED[type_]
            return encode_varint(number << 3 | wire) + struct.pack(form, value)
        if type_ == "string":
            data = value.encode("utf-8", "surrogateescape")
        elif type_ == "bytes":
            data = value
        else:
            data = self.encode(type_, value)
        return encode_varint(number << 3 | 2) + encode_varint(len(data)) + data

    def decode(self, message: str, data: bytes) -> Message:
        """Raises ValueError for bytes that are not a protobuf message."""
        self._fields(message)
        fields = self._by_number[message]
        out: Message = {}
        at, end = 0, len(data)
        while at < end:
            tag, at = decode_varint(data, at)
            field = fields.get(tag >> 3)
            wire = tag & 7
            raw: Any
            if wire == 0:
                raw, at = decode_varint(data, at)
            elif wire == 2:
                length, at = decode_varint(data, at)
                if at + length > end:
                    raise ValueError(f"truncated field in {message}")
                raw, at = data[at : at + length], at + length
            elif wire == 1:
                raw, at = data[at : at + 8], at + 8
            elif wire == 5:
                raw, at = data[at : at + 4], at + 4
            else:
                raise ValueError(f"unknown wire type {wire} in {message}")
            if field is None:
                continue
            if field.pair:
                key, value = self._pair(field.pair, raw)
                out.setdefault(field.name, {})[key] = value
            elif field.repeated:
                entries = out.setdefault(field.name, [])
                if wire == 2 and field.type in _VARINTS:
                    inner = 0
                    while inner < len(raw):
                        number, inner = decode_varint(raw, inner)
                        entries.append(_signed(field.type, number))
                else:
                    entries.append(self._value(field.type, raw))
            else:
                out[field.name] = self._value(field.type, raw)
        return out

    def _pair(self, pair: tuple[str, str], raw: bytes) -> tuple[Any, Any]:
        line = f"map<{pair[0]},{pair[1]}>"
        if line not in self._lines:
            self._lines[line] = f"key=1:{pair[0]} value=2:{pair[1]}"
        entry = self.decode(line, raw)
        return entry.get("key", _zero(pair[0])), entry.get("value", _zero(pair[1]))

    def _value(self, type_: str, raw: Any) -> Any:
        if type_ in _VARINTS:
            return _signed(type_, raw)
        if type_ == "string":
            return raw.decode("utf-8", "surrogateescape")
        if type_ == "bytes":
            return raw
        if type_ in _FIXED:
            return struct.unpack(_FIXED[type_][1], raw)[0]
        return self.decode(type_, raw)

    def encoder(self, message: str) -> Callable[[Message], bytes]:
        return lambda value: self.encode(message, value)

    def decoder(self, message: str) -> Callable[[bytes], Message]:
        return lambda data: self.decode(message, data)


def _signed(type_: str, number: int) -> Any:
    if type_ == "bool":
        return bool(number)
    if type_ in ("int32", "int64", "enum") and number >= 1 << 63:
        return number - (1 << 64)
    return number


def _zero(type_: str) -> Any:
    return "" if type_ == "string" else b"" if type_ == "bytes" else 0 if type_ in _VARINTS else {}
