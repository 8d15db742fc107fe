"""Request bodies: from bytes to a decoded, defaulted object of the kind that the path means."""

from __future__ import annotations

from typing import Any

import orjson

from peavine.api.kind import Kind
from peavine.apiserver.endpoints.negotiation import JSON, PROTOBUF, SERVED, YAML
from peavine.apiserver.registry import Registry, WriteRequest
from peavine.machinery import errors
from peavine.machinery.decode import decode
from peavine.machinery.names import GVK, split_group_version

Object = dict[str, Any]
UNRECOGNIZED_BYTES_SHOWN = 1024


def media_type(content_type: str) -> str:
    """The body's media type: JSON where nothing is said."""
    media = content_type.split(";", 1)[0].strip().lower()
    if media in ("application/x-yaml", "text/yaml"):
        return YAML
    return media or JSON


def parse(data: bytes, media: str, expected: str) -> tuple[Any, list[str]]:
    """The document in a body, and what is wrong with it that only strict clients mind (duplicate keys)."""
    try:
        if media == YAML:
            import yaml

            return yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), []
        if media == PROTOBUF:
            raise errors.unsupported_media_type((JSON, YAML))
        return orjson.loads(data), []
    except errors.ApiError:
        raise
    except (ValueError, orjson.JSONDecodeError) as problem:
        raise unrecognized(data, expected, problem, media) from None


def unrecognized(data: bytes, expected: str, problem: object, media: str = JSON) -> errors.ApiError:
    where = "couldn't get version/kind; json parse error: " if media == JSON else ""
    words = f"the object provided is unrecognized (must be of type {expected}): {where}{problem} ({_summary(data)})"
    return errors.bad_request(words)


def _summary(data: bytes) -> str:
    if not data:
        return "<empty>"
    if data[:1] == b"{":
        text = data.decode("utf-8", "replace")
        if len(text) > UNRECOGNIZED_BYTES_SHOWN:
            return text[:UNRECOGNIZED_BYTES_SHOWN] + " ..."
        return text
    return data[:UNRECOGNIZED_BYTES_SHOWN].hex() + (" ..." if len(data) > UNRECOGNIZED_BYTES_SHOWN else "")


def read_object(
    registry: Registry,
    kind: Kind,
    data: bytes,
    content_type: str,
    request: WriteRequest,
    expected: GVK | None = None,
) -> Object:
    """The body as an object of `kind` (or of `expected`, for subresources with a kind of their own), with defaults.

    Raises ApiError 400, 415.
    """
    gvk = expected or kind.gvk
    media = media_type(content_type)
    if media not in SERVED:
        raise errors.unsupported_media_type(SERVED)
    doc, problems = parse(data, media, gvk.kind)
    if not isinstance(doc, dict):
        raise unrecognized(data, gvk.kind, go_type_error(doc), media)
    check_type(doc, gvk, known=lambda other: registry.schema.for_kind(other) is not None)
    obj = typed(registry, kind, doc, request, problems, expected)
    if expected is None:
        kind.default(obj)
    return obj


def typed(
    registry: Registry,
    kind: Kind,
    doc: Object,
    request: WriteRequest,
    problems: list[str] | None = None,
    expected: GVK | None = None,
) -> Object:
    """A document decoded against its schema: unknown fields dropped, warned of or refused."""
    gvk = expected or kind.gvk
    own = kind.hook("decode") if expected is None else None
    doc["kind"], doc["apiVersion"] = gvk.kind, gvk.api_version
    if own is not None:
        obj, warnings = own(doc, request.validation)
    else:
        type = registry.schema.for_kind(expected) if expected else registry.type_of(kind)
        if type is None:
            return doc
        obj, warnings = decode(doc, type, request.validation, duplicates=problems or (), kind=gvk.kind)
    for text in warnings:
        request.warn(text)
    return obj


def check_type(doc: Object, gvk: GVK, known: Any = None) -> None:
    """400 where a body says that it is something else; one that says nothing is what the path means."""
    kind, api_version = doc.get("kind") or gvk.kind, doc.get("apiVersion") or gvk.api_version
    if not isinstance(kind, str) or not isinstance(api_version, str):
        field = "Kind" if not isinstance(kind, str) else "APIVersion"
        raise errors.bad_request(f"couldn't get version/kind; json parse error: cannot unmarshal {field} into a string")
    if (kind, api_version) == (gvk.kind, gvk.api_version):
        return
    if api_version.count("/") > 1:
        raise errors.bad_request(f"unexpected GroupVersion string: {api_version}")
    group, version = split_group_version(api_version)
    # What kube-apiserver knows by the name but not by the version is told apart from what it knows as another kind.
    if known is not None and known(GVK(group, version, kind)):
        if kind == gvk.kind:
            words = (
                f"the API version in the data ({api_version}) does not match the expected API version "
                f"({gvk.api_version})"
            )
            raise errors.bad_request(words)
        package = (gvk.group.split(".")[0]) or "core"
        words = (
            f'{kind} in version "{version}" cannot be handled as a {gvk.kind}: '
            f"converting ({version}.{kind}) to ({package}.{gvk.kind}): unknown conversion"
        )
        raise errors.bad_request(words)
    words = (
        f'{kind} in version "{version}" cannot be handled as a {gvk.kind}: no kind "{kind}" is registered for version '
        f'"{api_version}" in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"'
    )
    raise errors.bad_request(words)


def go_type_error(doc: Any) -> str:
    name = "array" if isinstance(doc, list) else "string" if isinstance(doc, str) else "number"
    if isinstance(doc, bool):
        name = "bool"
    struct = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
    return f"json: cannot unmarshal {name} into Go value of type {struct}"
