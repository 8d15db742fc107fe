"""Request bodies: from bytes to a decoded, defaulted object of the kind that the path means."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver.endpoints.negotiation import spoken
from peavine.apiserver.registry import Registry, WriteRequest
from peavine.apiserver.requests import RequestInfo
from peavine.machinery.codecs import content
from peavine.machinery.decode import decode
from peavine.machinery.names import GVK

Object = dict[str, Any]


def read_object(
    registry: Registry,
    kind: Kind,
    data: bytes,
    info: RequestInfo,
    request: WriteRequest,
    expected: GVK | None = None,
) -> Object:
    """The body as an object of `kind` (or of `expected`, for subresources with a kind of their own), with defaults.

    Raises ApiError 400, 415.
    """
    media = content.body_media_type(
        info.headers.get("content-type") or None, spoken(info, kind if expected is None else None)
    )
    gvk = expected or kind.gvk
    doc, found, problems = content.parse_object(data, media, gvk)
    if found != gvk:
        raise content.wrong_kind(found, gvk, registry.schema)
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
    doc["apiVersion"], doc["kind"] = gvk.api_version, gvk.kind
    own = kind.hook("decode") if expected is None else None
    if own is not None:
        obj, warnings = own(doc, request.validation, problems or [])
    else:
        type = registry.schema.for_kind(expected) if expected else registry.type_of(kind)
        if type is None:
            return doc
        obj, warnings = decode(doc, type, request.validation, problems=problems or (), kind=gvk.kind)
    for text in warnings:
        request.warn(text)
    return obj
