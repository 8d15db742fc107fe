"""Which form a request's body has, and which form its answer shall have: `Content-Type` and `Accept`.

Follows apiserver's `endpoints/handlers/negotiation`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from peavine.machinery.codecs import json, yaml
from peavine.machinery.decode import cannot_be_handled, decode, json_kind
from peavine.machinery.errors import ApiError, bad_request, not_acceptable, unsupported_media_type
from peavine.machinery.names import GVK, split_group_version
from peavine.machinery.schema import Schema, Type

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
CBOR = "application/cbor"  # where the feature CBORServingAndStorage is on
OBJECTS = (JSON, YAML, PROTOBUF)  # what built-in kinds speak
CUSTOM_OBJECTS = (JSON, YAML)  # what custom resources speak

_PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")


@dataclass(frozen=True)
class Output:
    """The form of an answer. `kind` is empty for the object itself, else what it is to be turned into (`Table`)."""

    media_type: str = JSON
    kind: str = ""
    group: str = ""
    version: str = ""
    pretty: bool = False
    stream: str = ""
    profile: str = ""
    parameters: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True)
class _Clause:
    type: str
    subtype: str
    quality: float
    parameters: tuple[tuple[str, str], ...]


_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')


@lru_cache(maxsize=512)
def _clauses(accept: str) -> tuple[_Clause, ...]:
    """The clauses of an Accept header, best first: by quality, then the more specific."""
    found = []
    for part in accept.split(","):
        media, _, rest = part.strip().partition(";")
        type, slash, subtype = media.strip().lower().partition("/")
        if not type or (not slash and type != "*"):
            continue
        parameters, quality = [], 1.0
        for name, value in _PARAMETER.findall(";" + rest):
            value = value.strip().strip('"')
            if name == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 1.0
            else:
                parameters.append((name, value))
        found.append(_Clause(type, subtype or "*", quality, tuple(parameters)))
    found.sort(key=lambda c: (-c.quality, c.type == "*", c.subtype == "*"))
    return tuple(found)


TABLE_AND_METADATA = frozenset({"Table", "PartialObjectMetadata", "PartialObjectMetadataList"})


def negotiate(
    accept: str | None,
    *,
    supported: Sequence[str] = OBJECTS,
    transforms: Collection[str] = TABLE_AND_METADATA,
    groups: Collection[str] = ("meta.k8s.io",),
    versions: Collection[str] = ("v1", "v1beta1"),
    pretty: bool = False,
) -> Output:
    """The form to answer in. `transforms` are the kinds that `as=` may name here. Raises ApiError 406.

    Empty or `*/*` is the first of `supported`. Clauses that cannot be met are passed over for the next best.
    """
    if not accept:
        return Output(media_type=supported[0], pretty=pretty)
    for clause in _clauses(accept):
        if clause.quality <= 0:
            continue
        for media_type in supported:
            type, _, subtype = media_type.partition("/")
            if clause.type not in (type, "*") or clause.subtype not in (subtype, "*"):
                continue
            named = dict(clause.parameters)
            kind, group, version = named.get("as", ""), named.get("g", ""), named.get("v", "")
            if kind or group or version:
                if kind not in transforms or group not in groups or version not in versions:
                    continue
                if kind == "Table" and media_type == PROTOBUF:
                    continue  # a Table's cells have no protobuf form
            return Output(
                media_type,
                kind,
                group,
                version,
                named["pretty"] == "1" if "pretty" in named else pretty,
                named.get("stream", ""),
                named.get("profile", ""),
                clause.parameters,
            )
    raise not_acceptable(supported)


def wants_pretty(query_value: str | None, user_agent: str) -> bool:
    """Whether JSON shall be indented: `?pretty=`, else for agents that people look through."""
    if query_value is not None:
        return query_value.lower() in ("1", "t", "true", "")
    return user_agent.startswith(_PRETTY_AGENTS)


def body_media_type(content_type: str | None, supported: Sequence[str] = OBJECTS) -> str:
    """The media type of a body; none given means the first. Raises ApiError 415."""
    media = (content_type or supported[0]).partition(";")[0].strip().lower()
    if media not in supported:
        raise unsupported_media_type(supported)
    return media


# --- whole bodies


def encode_object(obj: Any, output: Output, schema: Schema | None = None) -> bytes:
    """The bytes of an answer. Raises ApiError 406 for an object without a protobuf form."""
    if output.media_type == YAML:
        return yaml.encode(obj)
    if output.media_type == PROTOBUF:
        from peavine.machinery.codecs import protobuf

        return protobuf.encode(obj, schema or Schema.load())
    if output.media_type == CBOR:
        from peavine.machinery.codecs import cbor

        return cbor.encode(obj, schema or Schema.load())
    return json.encode(obj, pretty=output.pretty)


def parse_body(data: bytes, media_type: str, kind: str) -> tuple[Any, list[str]]:
    """The value of a body and its complaints about duplicate keys. Raises ApiError 400, naming the `kind` expected."""
    if media_type == PROTOBUF:
        from peavine.machinery.codecs import protobuf

        try:
            return protobuf.decode(data, Schema.load()), []
        except protobuf.ProtobufError as error:
            raise _unrecognized(kind, str(error), data) from None
    if media_type == CBOR:
        from peavine.machinery.codecs import cbor

        try:
            return cbor.decode(data), []
        except cbor.CborError as error:
            raise _unrecognized(kind, str(error), data) from None
    if media_type == YAML:
        try:
            value, complaints = yaml.decode_with_duplicates(data)
        except yaml.YamlError as error:
            raise _unrecognized(kind, str(error), data) from None
        if complaints:
            listed = "\n".join(["yaml: unmarshal errors:", *(f"  {complaint}" for complaint in complaints)])
            return value, [f"error converting YAML to JSON: {listed}"]
        return value, []
    try:
        value = json.decode(data)
    except json.JsonError as error:
        raise _unrecognized(kind, f"couldn't get version/kind; json parse error: {error}", data) from None
    return value, [f'duplicate field "{path}"' for path in json.duplicate_keys(data, value)]


def parse_object(data: bytes, media_type: str, default: GVK) -> tuple[dict[str, Any], GVK, list[str]]:
    """The object of a body, its kind (that of the endpoint where the body names none), and its duplicate keys."""
    value, duplicates = parse_body(data, media_type, default.kind)
    if value is None:
        value = {}
    meta_type = r'struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }'
    if not isinstance(value, dict):
        why = f"json: cannot unmarshal {json_kind(value)} into Go value of type {meta_type}"
        raise _unrecognized(default.kind, f"couldn't get version/kind; json parse error: {why}", data)
    for name in ("apiVersion", "kind"):
        if value.get(name) is not None and not isinstance(value[name], str):
            why = f"json: cannot unmarshal {json_kind(value[name])} into Go struct field .{name} of type string"
            raise _unrecognized(default.kind, f"couldn't get version/kind; json parse error: {why}", data)
    api_version = value.get("apiVersion") or ""
    if api_version.count("/") > 1:
        why = f"couldn't get version/kind; json parse error: unexpected GroupVersion string: {api_version}"
        raise _unrecognized(default.kind, why, data)
    group, version = split_group_version(api_version) if api_version else (default.group, default.version)
    return value, GVK(group, version, value.get("kind") or default.kind), duplicates


def decode_object(
    data: bytes, media_type: str, default: GVK, type: Type, validation: str = "Strict"
) -> tuple[dict[str, Any], list[str]]:
    """A body as the typed object that the endpoint expects, and warnings. Raises ApiError 400.

    What another kind or version says about itself is refused; the caller needs no further check of either.
    """
    obj, gvk, duplicates = parse_object(data, media_type, default)
    if gvk != default:
        raise wrong_kind(gvk, default)
    obj["apiVersion"], obj["kind"] = default.api_version, default.kind
    return decode(obj, type, validation, problems=duplicates, kind=default.kind)


def wrong_kind(gvk: GVK, expected: GVK, schema: Schema | None = None) -> ApiError:
    """400 for a body of another kind or version than the endpoint's."""
    named = {"apiVersion": gvk.api_version, "kind": gvk.kind}
    if (schema or Schema.load()).for_kind(gvk) is None:
        shown = gvk.api_version
        scheme = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"
        why = f'no kind "{gvk.kind}" is registered for version "{shown}" in scheme "{scheme}"'
        return cannot_be_handled(named, expected.kind, why)
    if (gvk.group, gvk.kind) == (expected.group, expected.kind):
        return bad_request(
            f"the API version in the data ({gvk.api_version}) does not match the expected API version "
            f"({expected.api_version})"
        )
    internal = {"": "core"}.get(expected.group, expected.group.partition(".")[0])
    why = f"converting ({gvk.version}.{gvk.kind}) to ({internal}.{expected.kind}): unknown conversion"
    return cannot_be_handled(named, expected.kind, why)


def _unrecognized(kind: str, why: str, data: bytes) -> ApiError:
    return bad_request(f"the object provided is unrecognized (must be of type {kind}): {why} ({summary(data)})")


def summary(data: bytes, bytes_max: int = 30) -> str:
    """The beginning of a body for a message: text if it looks like JSON, else hexadecimal."""
    if not data:
        return "<empty>"
    end = " ..." if len(data) > bytes_max else ""
    cut = data[:bytes_max]
    return (cut.decode("utf-8", "replace") if cut[:1] == b"{" else cut.hex()) + end
