"""Typed decoding: what Go makes of a JSON document when it reads it into a struct.

Unknown fields are dropped (and reported), wrong types refused, nulls and empty values left out where Go's `omitempty`
leaves them out, quantities and times brought into their canonical form, and the fields that Go always writes filled in
with zero values. One closure a type, compiled at first use. Follows `sigs.k8s.io/json` and apimachinery's serializers.

Two differences from Go, on purpose: a list, map or pointer that is absent stays absent where Go would write `null`; and
keys keep the order in which the client wrote them.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import orjson

from peavine.machinery.errors import ApiError, bad_request
from peavine.machinery.quantity import QuantityError, canonical
from peavine.machinery.schema import Field, Schema, Type

STRICT_ERRORS_MAX = 100
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."


class DecodeError(ValueError):
    """The document does not fit the type; the text is Go's, without the kind that the caller puts before it."""


class _Untracked(Exception):
    """Something to report was met while places were not tracked: decode again, tracking them."""


# A decoder takes a value that is not None, its place in the document (None: not tracked), and the list that gathers the
# paths of unknown fields.
_Decoder = Callable[[Any, "_Path | None", list[str]], Any]


class _Path:
    """A place in the document, as a linked list: cheap to extend, written out only for a message."""

    __slots__ = ("parent", "part", "struct")

    def __init__(self, parent: _Path | None, part: str | int, struct: str = "") -> None:
        self.parent, self.part, self.struct = parent, part, struct

    def __str__(self) -> str:
        text = str(self.parent) if self.parent else ""
        if isinstance(self.part, int):
            return f"{text}[{self.part}]"
        return f"{text}.{self.part}" if text else self.part

    def go_field(self) -> str:
        """`EnvVar.spec.template.spec.containers.env.value`: the innermost struct and the names of all fields."""
        names: list[str] = []
        struct, at = "", self
        while True:
            if at.struct:
                struct = struct or at.struct
                names.append(str(at.part))
            if at.parent is None:
                return ".".join([struct, *reversed(names)]) if names else ""
            at = at.parent


_ROOT = _Path(None, "")


def decode(
    obj: Any, type: Type, validation: str = "Strict", *, problems: Sequence[str] = (), kind: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """The object as Go would hold it, and warnings (`unknown field "spec.foo"`) when `validation` is Warn.

    `problems` are what the codec had to say already (duplicate keys). Raises ApiError 400 for wrong types,
    and for unknown or duplicate fields when `validation` is Strict. `kind` is what the endpoint serves, for the
    message; the object's own is the default. The result shares parts with `obj`, which the caller gives up.
    """
    try:
        decoded, found = decode_plain(obj, type)
    except DecodeError as error:
        raise cannot_be_handled(obj, kind, str(error)) from None
    if validation == "Ignore":
        return decoded, []
    all_problems = strict_problems(found, problems)
    if all_problems and validation == "Strict":
        raise cannot_be_handled(obj, kind, "strict decoding error: " + ", ".join(all_problems))
    return decoded, all_problems


def strict_problems(unknown: Sequence[str], problems: Sequence[str] = ()) -> list[str]:
    """What strict decoding complains about, each once."""
    return list(dict.fromkeys([*problems, *(f'unknown field "{path}"' for path in unknown)]))[:STRICT_ERRORS_MAX]


def cannot_be_handled(obj: Any, kind: str, why: str) -> ApiError:
    """400: `Pod in version "v1" cannot be handled as a Pod: why`."""
    own = obj if isinstance(obj, dict) else {}
    own_kind, version = own.get("kind"), own.get("apiVersion")
    if not isinstance(own_kind, str) or not isinstance(version, str):
        return bad_request(why)
    version = version.rpartition("/")[2]
    return bad_request(f'{own_kind} in version "{version}" cannot be handled as a {kind or own_kind}: {why}')


def decode_plain(obj: Any, type: Type) -> tuple[dict[str, Any], list[str]]:
    """The decoded object and the paths of its unknown fields. Raises DecodeError."""
    if not isinstance(obj, dict):
        raise _wrong_type(obj, _go_struct(type), _ROOT)
    try:
        return _decoder(type)(obj, None, []), []
    except _Untracked:
        unknown: list[str] = []
        return _decoder(type)(obj, _ROOT, unknown), unknown


# --- errors


def json_kind(value: Any) -> str:
    """What Go calls a JSON value: string, bool, number, array or object."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


def _wrong_type(value: Any, go_type: str, path: _Path | None, shown: str = "") -> Exception:
    if path is None:
        return _Untracked()
    field = path.go_field()
    where = f"Go struct field {field} of type {go_type}" if field else f"Go value of type {go_type}"
    return DecodeError(f"json: cannot unmarshal {shown or json_kind(value)} into {where}")


@cache
def _go_struct(type: Type) -> str:
    """`v1.Pod`: package and name of the Go type behind a definition."""
    parts = type.name.split(".")
    return ".".join(parts[-2:])


def _go_type(type: Type) -> str:
    if type.name:
        return _go_struct(type)
    match type.kind:
        case "list":
            return "[]" + _go_type(type.items) if type.items else "[]interface {}"
        case "map":
            return "map[string]" + _go_type(type.items) if type.items else "map[string]interface {}"
        case "integer":
            return f"int{type.bits}"
        case "number":
            return "float64"
        case "boolean":
            return "bool"
        case "bytes":
            return "[]uint8"
    return "string"


# --- decoders of scalars


def _string(go_type: str) -> _Decoder:
    def decode_string(value: Any, path: _Path | None, unknown: list[str]) -> str:
        if isinstance(value, str):
            return value
        raise _wrong_type(value, go_type, path)

    return decode_string


def _boolean(go_type: str) -> _Decoder:
    def decode_boolean(value: Any, path: _Path | None, unknown: list[str]) -> bool:
        if value is True or value is False:
            return value
        raise _wrong_type(value, go_type, path)

    return decode_boolean


def _integer(go_type: str, bits: int) -> _Decoder:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def decode_integer(value: Any, path: _Path | None, unknown: list[str]) -> int:
        if value.__class__ is int and low <= value <= high:
            return value
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        raise _wrong_type(value, go_type, path, f"number {value}" if number else "")

    return decode_integer


def _number(value: Any, path: _Path | None, unknown: list[str]) -> int | float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise _wrong_type(value, "float64", path)


def _bytes(value: Any, path: _Path | None, unknown: list[str]) -> str:
    if isinstance(value, list) and all(x.__class__ is int and 0 <= x < 256 for x in value):
        return b64encode(bytes(value)).decode()  # as Go reads a []byte
    if not isinstance(value, str):
        raise _wrong_type(value, "[]uint8", path)
    try:
        if len(value) % 4 == 0:
            b64decode(value, validate=True)
            return value
    except (binascii.Error, ValueError):
        pass  # the position of the first fault is found below
    compact = value.replace("\r", "").replace("\n", "")  # Go's decoder skips line ends
    if compact != value:
        return _bytes(compact, path, unknown)
    raise DecodeError(f"illegal base64 data at input byte {_base64_fault(value)}")


def _base64_fault(text: str) -> int:
    match = re.match(r"[A-Za-z0-9+/]*", text)
    end = match.end() if match else 0
    if end == len(text):
        return end - end % 4 if end % 4 else end  # a group that is not complete
    if text[end] == "=" and end % 4 in (2, 3):
        padding = re.match("=+", text[end:])
        return end + (padding.end() if padding else 0)
    return end


def _quantity(value: Any, path: _Path | None, unknown: list[str]) -> str:
    if isinstance(value, (dict, list, bool)):
        text = orjson.dumps(value).decode()
        raise DecodeError(_quantity_fault(text))
    try:
        return canonical(value.strip() if isinstance(value, str) else value)
    except QuantityError as error:
        raise DecodeError(str(error)) from None


def _quantity_fault(text: str) -> str:
    try:
        canonical(text)
    except QuantityError as error:
        return str(error)
    return text


def _int_or_string(value: Any, path: _Path | None, unknown: list[str]) -> int | str:
    if isinstance(value, str):
        return value
    if value.__class__ is int and -(2**31) <= value < 2**31:
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    raise _wrong_type(value, "int32", _ROOT, f"number {value}" if number else "")


TIMES_REMEMBERED_MAX = 2048
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)")
_LAYOUTS = {"time": "2006-01-02T15:04:05Z07:00", "micro-time": "2006-01-02T15:04:05.000000Z07:00"}


def _time(kind: str) -> _Decoder:
    layout = _LAYOUTS[kind]

    def decode_time(value: Any, path: _Path | None, unknown: list[str]) -> str:
        if not isinstance(value, str):
            raise _wrong_type(value, "string", _ROOT)
        return normal(value)

    @lru_cache(maxsize=TIMES_REMEMBERED_MAX)  # an object decoded again has the times that it had
    def normal(value: str) -> str:
        match = _TIME.fullmatch(value)
        if not match:
            raise DecodeError(_time_fault(value, layout))
        try:
            moment = datetime.fromisoformat(match[1] + match[3]).astimezone(UTC)
        except (ValueError, OverflowError):
            raise DecodeError(f'parsing time "{value}": {_range_fault(match[1])} out of range') from None
        text = moment.strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
        if kind == "time":
            return text + "Z"
        return f"{text}.{(match[2] or '')[:6].ljust(6, '0')}Z"

    return decode_time


_TIME_PARTS = (
    (r"\d{4}", "2006"), ("-", "-"), (r"\d\d", "01"), ("-", "-"), (r"\d\d", "02"), ("T", "T"), (r"\d\d", "15"),
    (":", ":"), (r"\d\d", "04"), (":", ":"), (r"\d\d(?:[.,]\d+)?", "05"), (r"Z|[+-]\d\d:\d\d", "Z07:00"),
)  # fmt: skip


def _time_fault(value: str, layout: str) -> str:
    at = 0
    for pattern, name in _TIME_PARTS:
        match = re.compile(pattern).match(value, at)
        if not match:
            return f'parsing time "{value}" as "{layout}": cannot parse "{value[at:]}" as "{name}"'
        at = match.end()
    return f'parsing time "{value}": extra text: "{value[at:]}"'


def _range_fault(text: str) -> str:
    month, hour, minute = int(text[5:7]), int(text[11:13]), int(text[14:16])
    if not 1 <= month <= 12:
        return "month"
    if hour > 23:
        return "hour"
    if minute > 59:
        return "minute"
    return "second" if int(text[17:19]) > 59 else "day"


def _any(value: Any, path: _Path | None, unknown: list[str]) -> Any:
    return value


# --- decoders of containers


def _list(type: Type, go_type: str) -> _Decoder:
    assert type.items is not None
    element, item_type = _Lazy(type.items), type.items

    def decode_list(value: Any, path: _Path | None, unknown: list[str]) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong_type(value, go_type, path)
        item = element.decoder or element.get()
        return [
            _zero(item_type) if x is None else item(x, path and _Path(path, index), unknown)
            for index, x in enumerate(value)
        ]

    return decode_list


def _map(type: Type, go_type: str) -> _Decoder:
    assert type.items is not None
    element, item_type = _Lazy(type.items), type.items
    if item_type.kind == "string":

        def decode_strings(value: Any, path: _Path | None, unknown: list[str]) -> dict[str, str]:
            if not isinstance(value, dict):
                raise _wrong_type(value, go_type, path)
            for x in value.values():
                if x.__class__ is not str:
                    break
            else:
                return value
            item = element.decoder or element.get()
            return {key: "" if x is None else item(x, path, unknown) for key, x in value.items()}

        return decode_strings

    def decode_map(value: Any, path: _Path | None, unknown: list[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(value, go_type, path)
        item = element.decoder or element.get()
        return {
            key: _zero(item_type) if x is None else item(x, path and _Path(path, key), unknown)
            for key, x in value.items()
        }

    return decode_map


class _Lazy:
    """The decoder of a type that may refer to itself; compiled at first use."""

    __slots__ = ("decoder", "type")

    def __init__(self, type: Type) -> None:
        self.type = type
        self.decoder: _Decoder | None = None

    def get(self) -> _Decoder:
        self.decoder = decoder = _decoder(self.type)
        return decoder


def _drops(field: Field) -> bool:
    """Whether a zero value is left out, as `omitempty` does; never that of a pointer or a struct."""
    scalar = field.type.kind in ("string", "boolean", "integer", "number", "list", "map", "bytes")
    return scalar and field.omitempty and not field.pointer


def _zero(type: Type) -> Any:
    """The zero value that Go writes for the type; None where it is null."""
    match type.kind:
        case "string" | "bytes":
            return ""
        case "integer" | "number" | "int-or-string":
            return 0
        case "boolean":
            return False
        case "quantity":
            return "0"
        case "object":
            return _decoder(type)({}, None, [])
    return None


def _always(field: Field) -> bool:
    """Whether Go writes the field though it was not set, and not as null."""
    if field.pointer or field.name in ("kind", "apiVersion"):
        return False
    if field.type.kind in ("object", "quantity"):
        return True  # a struct is never empty to omitempty
    if field.type.kind == "int-or-string":
        return True
    return not field.omitempty and field.type.kind in ("string", "boolean", "integer", "number")


def _object(type: Type) -> _Decoder:
    struct, go_type = type.short_name, _go_struct(type)
    table: dict[str, tuple[Any, ...]] = {}
    filled: list[Field] = []
    for name, field in type.fields.items():
        if field.disabled:
            table[name] = (None, True, _Disabled(field.type))
            continue
        plain = {"string": str, "boolean": bool}.get(field.type.kind)  # these need no decoding, only a look
        lazy = _Named(field.type, field.go_type) if field.go_type else _Lazy(field.type)
        table[name] = (plain, _drops(field), lazy)
        if _always(field):
            filled.append(field)

    def decode_object(value: Any, path: _Path | None, unknown: list[str]) -> dict[str, Any]:
        if value.__class__ is not dict:
            raise _wrong_type(value, go_type, path)
        decoded: dict[str, Any] = {}
        for key, x in value.items():
            known = table.get(key)
            if known is None:
                if path is None:
                    raise _Untracked
                unknown.append(str(_Path(path, key, struct)))
                continue
            if x is None:
                continue
            plain, drops, lazy = known
            if x.__class__ is not plain:
                x = (lazy.decoder or lazy.get())(x, path and _Path(path, key, struct), unknown)
            if x or not drops:
                decoded[key] = x
        for field in filled:
            if field.name not in decoded:
                decoded[field.name] = _zero(field.type)
        return decoded

    return decode_object


class _Named(_Lazy):
    """As `_Lazy`, for a field whose Go type has a name of its own, such as `v1.Protocol`."""

    __slots__ = ("go_type",)

    def __init__(self, type: Type, go_type: str) -> None:
        super().__init__(type)
        self.go_type = go_type

    def get(self) -> _Decoder:
        self.decoder = decoder = _compile(self.type, self.go_type)
        return decoder


class _Disabled(_Lazy):
    """For a field whose feature gate is off: it is read, so that its mistakes are seen, and dropped."""

    __slots__ = ()

    def get(self) -> _Decoder:
        read = _decoder(self.type)

        def decode_and_drop(value: Any, path: _Path | None, unknown: list[str]) -> None:
            read(value, path, unknown)

        self.decoder = decode_and_drop
        return decode_and_drop


@cache
def _decoder(type: Type) -> _Decoder:
    return _compile(type, _go_type(type))


def _compile(type: Type, go_type: str) -> _Decoder:
    match type.kind:
        case "object":
            return _object(type)
        case "list":
            return _list(type, go_type)
        case "map":
            return _map(type, go_type)
        case "string":
            return _string(go_type)
        case "integer":
            return _integer(go_type, type.bits)
        case "boolean":
            return _boolean(go_type)
        case "number":
            return _number
        case "bytes":
            return _bytes
        case "quantity":
            return _quantity
        case "time" | "micro-time":
            return _time(type.kind)
        case "int-or-string":
            return _int_or_string
    return _schema_or(type) if type.name.startswith(_EXTENSIONS + "JSONSchemaPropsOr") else _any


def _schema_or(type: Type) -> _Decoder:
    """A JSON schema, or in its place a list of schemas, a boolean, or a list of strings."""
    alternative = type.short_name.removeprefix("JSONSchemaPropsOr")

    def decode_schema_or(value: Any, path: _Path | None, unknown: list[str]) -> Any:
        schema = Schema.load().definition(_EXTENSIONS + "JSONSchemaProps")
        if isinstance(value, dict):
            return _decoder(schema)(value, path, unknown)
        if alternative == "Bool" and isinstance(value, bool):
            return value
        if alternative == "Array" and isinstance(value, list):
            return [_decoder(schema)(x, path, unknown) for x in value]
        if alternative == "StringArray" and isinstance(value, list) and all(isinstance(x, str) for x in value):
            return value
        if alternative == "Bool":
            raise DecodeError("boolean or JSON schema expected")
        raise _wrong_type(value, "v1.JSONSchemaProps", path)

    return decode_schema_or
