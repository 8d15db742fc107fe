"""An OpenAPI v2 document as protobuf: gnostic's `openapi.v2.Document`, which kubectl up to 1.27 reads.

One table a message says which field of the document has which number. What the messages cannot hold (free-form values)
they hold as `Any`: YAML text, and JSON is YAML.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import orjson

Object = dict[str, Any]
Writer = Callable[[int, Any], bytes]


def document(doc: Object) -> bytes:
    """The whole document."""
    return _fields(doc, _DOCUMENT)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


# --- values: each writes one field


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode()) if value else b""


def _texts(field: int, values: Iterable[str]) -> bytes:
    return b"".join(_message(field, value.encode()) for value in values)


def _boolean(field: int, value: bool) -> bytes:
    return _varint(field << 3) + b"\x01" if value else b""


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(int(value)) if value else b""


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value) if value else b""


def _any(field: int, value: Any) -> bytes:
    return _message(field, _message(2, orjson.dumps(value) + b"\n"))


def _anys(field: int, values: Iterable[Any]) -> bytes:
    return b"".join(_any(field, value) for value in values)


def _of(spec: dict[str, tuple[int, Writer]]) -> Writer:
    """A message of that table."""
    return lambda field, value: _message(field, _fields(value, spec))


def _each(writer: Writer) -> Writer:
    return lambda field, values: b"".join(writer(field, value) for value in values)


def _map(writer: Writer, inner: int = 1) -> Writer:
    """A message of named values (`additional_properties`), field `inner` of it repeated."""

    def write(field: int, values: Object) -> bytes:
        named = (_message(inner, _text(1, name) + writer(2, value)) for name, value in values.items())
        return _message(field, b"".join(named))

    return write


def _wrapped(writer: Writer, inner: int = 1) -> Writer:
    """A value alone in a message of its own."""
    return lambda field, value: _message(field, writer(inner, value))


def _fields(value: Object, spec: dict[str, tuple[int, Writer]]) -> bytes:
    parts = []
    for name, item in value.items():
        known = spec.get(name)
        if known is not None:
            parts.append(known[1](known[0], item))
        elif name.startswith("x-") and "x-" in spec:
            parts.append(_message(spec["x-"][0], _text(1, name) + _any(2, item)))
    return b"".join(parts)


# --- messages


def _schema(field: int, value: Object) -> bytes:
    return _message(field, _fields(value, _SCHEMA))


def _additional(field: int, value: Any) -> bytes:
    return _message(field, _schema(1, value) if isinstance(value, dict) else _boolean(2, value))


def _type(field: int, value: Any) -> bytes:
    return _message(field, _texts(1, [value] if isinstance(value, str) else value))


def _parameters(field: int, values: Iterable[Object]) -> bytes:
    """`ParametersItem`s: each of the body, the query or the path."""
    parts = []
    for value in values:
        if value["in"] == "body":
            parameter = _message(1, _fields(value, _BODY))
        else:
            spec, place = (_IN_PATH, 4) if value["in"] == "path" else (_IN_QUERY, 3)
            parameter = _message(2, _message(place, _fields(value, spec)))
        parts.append(_message(field, _message(1, parameter)))
    return b"".join(parts)


_SCHEMA: dict[str, tuple[int, Writer]] = {
    "$ref": (1, _text), "format": (2, _text), "title": (3, _text), "description": (4, _text), "default": (5, _any),
    "multipleOf": (6, _double), "maximum": (7, _double), "exclusiveMaximum": (8, _boolean), "minimum": (9, _double),
    "exclusiveMinimum": (10, _boolean), "maxLength": (11, _integer), "minLength": (12, _integer),
    "pattern": (13, _text), "maxItems": (14, _integer), "minItems": (15, _integer), "uniqueItems": (16, _boolean),
    "maxProperties": (17, _integer), "minProperties": (18, _integer), "required": (19, _texts), "enum": (20, _anys),
    "additionalProperties": (21, _additional), "type": (22, _type), "items": (23, _wrapped(_schema)),
    "allOf": (24, _each(_schema)), "properties": (25, _map(_schema)), "discriminator": (26, _text),
    "readOnly": (27, _boolean), "example": (30, _any), "x-": (31, _any),
}  # fmt: skip
_SCHEMA["externalDocs"] = (29, _of({"description": (1, _text), "url": (2, _text)}))
_BODY: dict[str, tuple[int, Writer]] = {
    "description": (1, _text), "name": (2, _text), "in": (3, _text), "required": (4, _boolean), "schema": (5, _schema),
}  # fmt: skip
_IN_QUERY: dict[str, tuple[int, Writer]] = {
    "required": (1, _boolean), "in": (2, _text), "description": (3, _text), "name": (4, _text), "type": (6, _text),
    "uniqueItems": (20, _boolean),
}  # fmt: skip
_IN_PATH: dict[str, tuple[int, Writer]] = {
    "required": (1, _boolean), "in": (2, _text), "description": (3, _text), "name": (4, _text), "type": (5, _text),
    "uniqueItems": (19, _boolean),
}  # fmt: skip
_RESPONSE = _wrapped(_of({"description": (1, _text), "schema": (2, _wrapped(_schema))}))
_OPERATION = _of(
    {
        "tags": (1, _texts), "description": (3, _text), "operationId": (5, _text), "produces": (6, _texts),
        "consumes": (7, _texts), "parameters": (8, _parameters), "responses": (9, _map(_RESPONSE)),
        "schemes": (10, _texts), "x-": (13, _any),
    }
)  # fmt: skip
_PATH = _of(
    {
        "get": (2, _OPERATION), "put": (3, _OPERATION), "post": (4, _OPERATION), "delete": (5, _OPERATION),
        "options": (6, _OPERATION), "head": (7, _OPERATION), "patch": (8, _OPERATION), "parameters": (9, _parameters),
    }
)  # fmt: skip
_KEY = _of({"type": (1, _text), "name": (2, _text), "in": (3, _text), "description": (4, _text)})
_DOCUMENT: dict[str, tuple[int, Writer]] = {
    "swagger": (1, _text),
    "info": (2, _of({"title": (1, _text), "version": (2, _text)})),
    "paths": (8, _map(_PATH, 2)),
    "definitions": (9, _map(_schema)),
    "security": (12, _each(_map(_wrapped(_texts)))),
    "securityDefinitions": (13, _map(_wrapped(_KEY, 2))),
}
