"""An OpenAPI v2 document as protobuf: gnostic's `openapi.v2.Document`, which kubectl up to 1.27 reads.

Only what such clients look at is written: definitions, paths with parameters, and vendor extensions (as YAML text).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

Object = dict[str, Any]


def document(doc: Object) -> bytes:
    """The whole document."""
    return b"".join(
        (
            _text(1, doc["swagger"]),
            _message(2, _text(1, doc["info"]["title"]) + _text(2, doc["info"]["version"])),
            _message(8, b"".join(_message(2, _named(path, _path(item))) for path, item in doc["paths"].items())),
            _message(9, b"".join(_message(1, _named(n, _schema(s))) for n, s in doc["definitions"].items())),
        )
    )


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, value: str | None) -> bytes:
    return _message(field, value.encode()) if value else b""


def _texts(field: int, values: Iterable[str] | None) -> bytes:
    return b"".join(_message(field, value.encode()) for value in values or ())


def _boolean(field: int, value: Any) -> bytes:
    return _varint(field << 3) + b"\x01" if value else b""


def _number(field: int, value: int | None) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + _message(2, value)


def _any(field: int, value: Any) -> bytes:
    """`Any`, as YAML text; JSON is YAML."""
    return _message(field, _message(2, orjson.dumps(value) + b"\n"))


def _extensions(field: int, holder: Object) -> bytes:
    found = (
        _message(field, _text(1, name) + _any(2, value)) for name, value in holder.items() if name.startswith("x-")
    )
    return b"".join(found)


def _schema(schema: Object) -> bytes:
    parts = [
        _text(1, schema.get("$ref")),
        _text(2, schema.get("format")),
        _text(4, schema.get("description")),
        _any(5, schema["default"]) if "default" in schema else b"",
        _number(11, schema.get("maxLength")),
        _number(12, schema.get("minLength")),
        _text(13, schema.get("pattern")),
        _number(14, schema.get("maxItems")),
        _number(15, schema.get("minItems")),
        _texts(19, schema.get("required")),
    ]
    parts += [_any(20, value) for value in schema.get("enum") or ()]
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        parts.append(_message(21, _message(1, _schema(more))))
    elif more:
        parts.append(_message(21, _boolean(2, True)))
    if isinstance(schema.get("type"), str):
        parts.append(_message(22, _text(1, schema["type"])))
    if isinstance(schema.get("items"), dict):
        parts.append(_message(23, _message(1, _schema(schema["items"]))))
    parts += [_message(24, _schema(item)) for item in schema.get("allOf") or ()]
    if schema.get("properties"):
        inner = b"".join(_message(1, _named(n, _schema(s))) for n, s in schema["properties"].items())
        parts.append(_message(25, inner))
    parts.append(_extensions(31, schema))
    return b"".join(parts)


_METHODS = (("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8))


def _path(item: Object) -> bytes:
    parts = [_message(field, _operation(item[method])) for method, field in _METHODS if method in item]
    parts += [_message(9, _parameter(parameter)) for parameter in item.get("parameters") or ()]
    return b"".join(parts)


def _operation(operation: Object) -> bytes:
    responses = b"".join(_message(1, _named(code, _response(r))) for code, r in operation["responses"].items())
    parts = [
        _texts(1, operation.get("tags")),
        _text(5, operation.get("operationId")),
        _texts(6, operation.get("produces")),
        _texts(7, operation.get("consumes")),
        *(_message(8, _parameter(parameter)) for parameter in operation.get("parameters") or ()),
        _message(9, responses),
        _texts(10, operation.get("schemes")),
        _extensions(13, operation),
    ]
    return b"".join(parts)


def _response(response: Object) -> bytes:
    schema = response.get("schema")
    return _message(
        1, _text(1, response["description"]) + (_message(2, _message(1, _schema(schema))) if schema else b"")
    )


def _parameter(parameter: Object) -> bytes:
    """A `ParametersItem`: of the body, the query or the path."""
    if parameter["in"] == "body":
        body = _text(2, parameter["name"]) + _text(3, "body") + _boolean(4, parameter.get("required"))
        return _message(1, _message(1, body + _message(5, _schema(parameter["schema"]))))
    in_path = parameter["in"] == "path"
    inner = b"".join(
        (
            _boolean(1, parameter.get("required")),
            _text(2, parameter["in"]),
            _text(3, parameter.get("description")),
            _text(4, parameter["name"]),
            _text(5 if in_path else 6, parameter.get("type")),
        )
    )
    return _message(1, _message(2, _message(4 if in_path else 3, inner)))
