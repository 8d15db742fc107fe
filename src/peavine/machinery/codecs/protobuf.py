"""The protobuf form of objects: `k8s\\0`, a `runtime.Unknown` envelope, and the message of the kind in it.

Driven by the field numbers of the facts table: one closure a type and direction, compiled at first use. Fields whose
numbers we do not know (newer than the table) are skipped on the way in and left out on the way out, as they are for a
client that is older than they are.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson

from peavine.machinery.errors import ApiError
from peavine.machinery.facts import FieldFact
from peavine.machinery.meta import parse_time
from peavine.machinery.names import GVK, split_group_version
from peavine.machinery.schema import Field, Schema, Type
from peavine.wire.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    WireError,
    delimited,
    double,
    fields,
    frame,
    read_varint,
    signed,
    tag,
    varint,
)

MAGIC = b"k8s\x00"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."

_Encode = Callable[[Any], bytes]
_Decode = Callable[[bytes, int, int], Any]


class ProtobufError(ValueError):
    """The bytes are no protobuf object of a known kind."""


def encode(obj: dict[str, Any], schema: Schema) -> bytes:
    """An object in its envelope. Raises ApiError 406 for a kind without a protobuf form."""
    api_version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    type = type_of(api_version, kind, schema)
    if type is None:
        what = f"object does not implement the protobuf marshalling interface: {kind}"
        raise ApiError(406, "NotAcceptable", what)
    type_meta = delimited(b"\x0a", api_version.encode()) + delimited(b"\x12", kind.encode())
    raw = _encoder(type)(obj)
    return MAGIC + delimited(b"\x0a", type_meta) + delimited(b"\x12", raw) + b"\x1a\x00\x22\x00"


def decode(data: bytes, schema: Schema) -> dict[str, Any]:
    """The object in an envelope, with its `kind` and `apiVersion`; decode it by its type next. Raises ProtobufError."""
    if data[:4] != MAGIC:
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    api_version = kind = content_type = ""
    raw = b""
    try:
        for number, wire_type, at, end in fields(data, 4):
            if wire_type != BYTES:
                continue
            if number == 1:
                for inner, inner_type, start, stop in fields(data, at, end):
                    if inner_type == BYTES and inner == 1:
                        api_version = data[start:stop].decode("utf-8", "replace")
                    elif inner_type == BYTES and inner == 2:
                        kind = data[start:stop].decode("utf-8", "replace")
            elif number == 2:
                raw = data[at:end]
            elif number == 4:
                content_type = data[at:end].decode("utf-8", "replace")
        named = {"apiVersion": api_version, "kind": kind}
        if content_type == "application/json":
            return {**named, **orjson.loads(raw)}
        type = type_of(api_version, kind, schema)
        if type is None:
            raise ProtobufError(f'no kind "{kind}" is registered for version "{api_version}"')
        return {**named, **_decoder(type)(raw, 0, len(raw))}
    except (WireError, orjson.JSONDecodeError) as error:
        raise ProtobufError(str(error)) from None
    except RecursionError:
        raise ProtobufError("exceeded max depth") from None


def watch_frame(event_type: str, obj: dict[str, Any], schema: Schema) -> bytes:
    """One event of a watch stream, length-prefixed: a bare WatchEvent around an object in its envelope."""
    raw_extension = delimited(b"\x0a", encode(obj, schema))
    return frame(delimited(b"\x0a", event_type.encode()) + delimited(b"\x12", raw_extension))


def type_of(api_version: str, kind: str, schema: Schema) -> Type | None:
    """The type of a kind, the machinery's own included (`Status`, `DeleteOptions`, `PartialObjectMetadata`)."""
    if kind in ("PartialObjectMetadata", "PartialObjectMetadataList"):
        return _partial(kind, schema)
    group, version = split_group_version(api_version)
    found = schema.for_kind(GVK(group, version, kind))
    if found is None and _META + kind in schema and kind != "WatchEvent":
        found = schema.meta(kind)
    return found


@cache
def _partial(kind: str, schema: Schema) -> Type:
    """Types that the published schema leaves out."""

    def fields_of(**types: Type) -> dict[str, Field]:
        found = {name: Field(name, Type("string")) for name in ("kind", "apiVersion")}
        for number, (name, type) in enumerate(types.items(), 1):
            found[name] = Field(name, type, fact=FieldFact((number,)))
        return found

    single = Type("object", _META + "PartialObjectMetadata", fields=fields_of(metadata=schema.meta("ObjectMeta")))
    if kind == "PartialObjectMetadata":
        return single
    both = fields_of(metadata=schema.meta("ListMeta"), items=Type("list", items=single))
    return Type("object", _META + kind, fields=both)


# --- special messages

_SCHEMA_OR = {"JSONSchemaPropsOrArray": (1, 2), "JSONSchemaPropsOrBool": (2, 1), "JSONSchemaPropsOrStringArray": (1, 2)}
_STRINGS = Type("list", items=Type("string"))


def _encode_time(value: str) -> bytes:
    seconds = parse_time(value)
    whole = int(seconds // 1)
    nanos = round((seconds - whole) * 1e6) * 1000 if "." in value else 0
    return b"\x08" + varint(whole) + b"\x10" + varint(nanos)


def _encode_int_or_string(value: int | str) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00" + delimited(b"\x1a", value.encode())
    return b"\x08\x00\x10" + varint(value) + b"\x1a\x00"


def _encode_raw(value: Any) -> bytes:
    return delimited(b"\x0a", orjson.dumps(value))


def _decode_time(micro: bool) -> _Decode:
    def decode_time(data: bytes, at: int, end: int) -> str | None:
        if at == end:
            return None
        seconds = nanos = 0
        for number, wire_type, value, _ in fields(data, at, end):
            if wire_type == VARINT and number == 1:
                seconds = signed(value)
            elif wire_type == VARINT and number == 2:
                nanos = signed(value)
        try:
            text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
        except (ValueError, OverflowError, OSError):
            raise WireError(f"time out of range: {seconds}") from None
        return f"{text}.{nanos // 1000:06d}Z" if micro else text + "Z"

    return decode_time


def _decode_int_or_string(data: bytes, at: int, end: int) -> int | str:
    is_string, number, text = False, 0, ""
    for field, wire_type, value, stop in fields(data, at, end):
        if field == 1 and wire_type == VARINT:
            is_string = value == 1
        elif field == 2 and wire_type == VARINT:
            number = signed(value)
        elif field == 3 and wire_type == BYTES:
            text = data[value:stop].decode("utf-8", "replace")
    return text if is_string else number


def _decode_quantity(data: bytes, at: int, end: int) -> str:
    text = ""
    for field, wire_type, start, stop in fields(data, at, end):
        if field == 1 and wire_type == BYTES:
            text = data[start:stop].decode("utf-8", "replace")
    return text or "0"


def _decode_raw(data: bytes, at: int, end: int) -> Any:
    for field, wire_type, start, stop in fields(data, at, end):
        if field == 1 and wire_type == BYTES and stop > start:
            raw = data[start:stop]
            return decode(raw, Schema.load()) if raw[:4] == MAGIC else orjson.loads(raw)
    return None


def _encode_schema_or(name: str) -> _Encode:
    schema_number, other_number = _SCHEMA_OR[name]

    def encode_schema_or(value: Any) -> bytes:
        props = _encoder(Schema.load().definition(_EXTENSIONS + "JSONSchemaProps"))
        if isinstance(value, bool):
            return tag(other_number, VARINT) + (b"\x01" if value else b"\x00")
        key = tag(other_number, BYTES)
        if isinstance(value, list):
            return b"".join(delimited(key, x.encode() if isinstance(x, str) else props(x)) for x in value)
        allows = b"\x08\x01" if name == "JSONSchemaPropsOrBool" else b""  # a schema allows what it describes
        return allows + delimited(tag(schema_number, BYTES), props(value))

    return encode_schema_or


def _decode_schema_or(name: str) -> _Decode:
    schema_number, other_number = _SCHEMA_OR[name]

    def decode_schema_or(data: bytes, at: int, end: int) -> Any:
        props = _decoder(Schema.load().definition(_EXTENSIONS + "JSONSchemaProps"))
        allows, found, listed = False, None, []
        for number, wire_type, start, stop in fields(data, at, end):
            if number == other_number and wire_type == VARINT:
                allows = bool(start)
            elif number == schema_number and wire_type == BYTES:
                found = props(data, start, stop)
            elif number == other_number and name == "JSONSchemaPropsOrArray":
                listed.append(props(data, start, stop))
            elif number == other_number and wire_type == BYTES:
                listed.append(data[start:stop].decode("utf-8", "replace"))
        if found is not None:
            return found
        return allows if name == "JSONSchemaPropsOrBool" else listed

    return decode_schema_or


def _wrapped(type: Type) -> bool:
    """A list where protobuf can hold none (in a map, or `Verbs`): a message with `items = 1` wraps it."""
    return type.kind == "list"


# --- encoding


@cache
def _encoder(type: Type) -> _Encode:
    """The body of a value that stands in a length-delimited field."""
    match type.kind:
        case "object":
            return _encode_message(type)
        case "string":
            return str.encode
        case "bytes":
            return b64decode
        case "time" | "micro-time":
            return _encode_time
        case "quantity":
            return lambda value: delimited(b"\x0a", value.encode())
        case "int-or-string":
            return _encode_int_or_string
        case "list":
            items = _field_encoder(type, (1,))
            return lambda value: b"".join(items(value))
    return _encode_schema_or(type.short_name) if type.short_name in _SCHEMA_OR else _encode_raw


def _field_encoder(type: Type, number: tuple[int, ...], *, wrapped: bool = False) -> Callable[[Any], list[bytes]]:
    """What a value of the type adds to its message, tags included."""
    last = number[-1]
    if type.kind in ("integer", "boolean"):
        key = tag(last, VARINT)
        return lambda value: [key, varint(value)]
    if type.kind == "number":
        key = tag(last, FIXED64)
        return lambda value: [key, double(value)]
    key = tag(last, BYTES)
    if type.kind == "list" and not wrapped:
        assert type.items is not None
        item = _field_encoder(type.items, number, wrapped=_wrapped(type.items))
        return lambda value: [piece for x in value for piece in item(x)]
    if type.kind == "map":
        assert type.items is not None
        value_field = _field_encoder(type.items, (2,), wrapped=_wrapped(type.items))

        def encode_map(value: dict[str, Any]) -> list[bytes]:
            return [delimited(key, delimited(b"\x0a", k.encode()) + b"".join(value_field(v))) for k, v in value.items()]

        return encode_map
    cell: list[_Encode] = []

    def encode_delimited(value: Any) -> list[bytes]:
        if not cell:
            cell.append(_encoder(type))  # not sooner: types may be cyclic
        body = cell[0](value)
        return [key, varint(len(body)), body]

    return encode_delimited


def _encode_message(type: Type) -> _Encode:
    table: dict[str, tuple[tuple[int, ...], Callable[[Any], list[bytes]]]] = {}
    for name, field in type.fields.items():
        if field.number:
            wrapped = field.go_type == "v1.Verbs"
            table[name] = (field.number[:-1], _field_encoder(field.type, field.number, wrapped=wrapped))

    def encode_message(value: dict[str, Any]) -> bytes:
        pieces: list[bytes] = []
        embedded: dict[tuple[int, ...], list[bytes]] = {}
        for name, x in value.items():
            if x is None:
                continue
            known = table.get(name)
            if known is None:
                continue
            prefix, encode_field = known
            if prefix:
                embedded.setdefault(prefix, []).extend(encode_field(x))
            else:
                pieces += encode_field(x)
        for depth in range(max(map(len, embedded)) if embedded else 0, 0, -1):
            for prefix in [p for p in embedded if len(p) == depth]:
                body = delimited(tag(prefix[-1], BYTES), b"".join(embedded.pop(prefix)))
                (embedded.setdefault(prefix[:-1], []) if depth > 1 else pieces).append(body)
        return b"".join(pieces)

    return encode_message


# --- decoding


@cache
def _decoder(type: Type) -> _Decode:
    """Reads the body of a length-delimited field."""
    match type.kind:
        case "object":
            return _decode_message(type)
        case "string":
            return lambda data, at, end: data[at:end].decode("utf-8", "replace")
        case "bytes":
            return lambda data, at, end: b64encode(data[at:end]).decode()
        case "time" | "micro-time":
            return _decode_time(type.kind == "micro-time")
        case "quantity":
            return _decode_quantity
        case "int-or-string":
            return _decode_int_or_string
        case "list":
            return _decode_wrapped(type)
    return _decode_schema_or(type.short_name) if type.short_name in _SCHEMA_OR else _decode_raw


def _decode_wrapped(type: Type) -> _Decode:
    message = _decode_message(Type("object", fields={"items": Field("items", type, fact=FieldFact((1,)))}))
    return lambda data, at, end: message(data, at, end).get("items", [])


class _Slot:
    """How the values of one field number are read and where they go."""

    __slots__ = ("decoder", "embedded", "item", "map", "name", "repeated", "scalar", "type")

    def __init__(self, name: str, type: Type, *, wrapped: bool = False) -> None:
        self.name, self.type = name, type
        self.embedded: dict[int, _Slot] | None = None
        self.repeated = type.kind == "list" and not wrapped
        self.map = type.kind == "map"
        item = type.items if self.repeated or self.map else type
        assert item is not None
        self.item = item
        self.scalar = item.kind if item.kind in ("integer", "boolean", "number") else ""
        self.decoder: _Decode | None = None

    def body(self) -> _Decode:
        if self.decoder is None:
            self.decoder = _decoder(self.item)
        return self.decoder


def _decode_message(type: Type) -> _Decode:
    table: dict[int, _Slot] = {}
    for name, field in type.fields.items():
        level = table
        for number in field.number[:-1]:
            slot = level.get(number)
            if slot is None:
                slot = level[number] = _Slot("", Type("any"))
                slot.embedded = {}
            assert slot.embedded is not None
            level = slot.embedded
        if field.number:
            level[field.number[-1]] = _Slot(name, field.type, wrapped=field.go_type == "v1.Verbs")

    def read(data: bytes, at: int, end: int, slots: dict[int, _Slot], out: dict[str, Any]) -> None:
        for number, wire_type, start, stop in fields(data, at, end):
            slot = slots.get(number)
            if slot is None:
                continue
            if slot.embedded is not None:
                if wire_type == BYTES:
                    read(data, start, stop, slot.embedded, out)
                continue
            if slot.map:
                _read_entry(data, start, stop, wire_type, slot, out.setdefault(slot.name, {}))
            elif slot.scalar:
                values = _scalars(data, start, stop, wire_type, slot)
                if slot.repeated:
                    out.setdefault(slot.name, []).extend(values)
                elif values:
                    out[slot.name] = values[-1]
            elif wire_type != BYTES:
                raise WireError(f"proto: wrong wireType = {wire_type} for field {slot.name}")
            else:
                value = slot.body()(data, start, stop)
                if slot.repeated:
                    out.setdefault(slot.name, []).append(value)
                elif value is not None:
                    out[slot.name] = value

    def decode_message(data: bytes, at: int, end: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        read(data, at, end, table, out)
        return out

    return decode_message


def _scalars(data: bytes, start: int, stop: int, wire_type: int, slot: _Slot) -> list[Any]:
    """One number, or several where they came packed."""
    if wire_type == VARINT:
        return [bool(start) if slot.scalar == "boolean" else signed(start)]
    if wire_type == FIXED64 and slot.scalar == "number":
        return [struct.unpack_from("<d", data, start)[0]]
    if wire_type == BYTES and slot.repeated and slot.scalar != "number":
        found = []
        while start < stop:
            value, start = read_varint(data, start)
            found.append(bool(value) if slot.scalar == "boolean" else signed(value))
        return found
    if wire_type == FIXED32 and slot.scalar == "number":
        return [struct.unpack_from("<f", data, start)[0]]
    raise WireError(f"proto: wrong wireType = {wire_type} for field {slot.name}")


def _read_entry(data: bytes, start: int, stop: int, wire_type: int, slot: _Slot, out: dict[str, Any]) -> None:
    if wire_type != BYTES:
        raise WireError(f"proto: wrong wireType = {wire_type} for field {slot.name}")
    key, value = "", None
    for number, inner_type, at, end in fields(data, start, stop):
        if number == 1 and inner_type == BYTES:
            key = data[at:end].decode("utf-8", "replace")
        elif number == 2:
            value = _scalars(data, at, end, inner_type, slot)[-1] if slot.scalar else slot.body()(data, at, end)
    if value is None and not slot.scalar:
        value = slot.body()(b"", 0, 0)
    out[key] = value
