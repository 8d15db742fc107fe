"""What a client accepts, read from a request. The rules are `machinery.codecs.content`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from peavine.api.kind import Kind
from peavine.apiserver.requests import RequestInfo
from peavine.machinery.codecs import content
from peavine.machinery.codecs.content import CBOR, CUSTOM_OBJECTS, JSON, OBJECTS, PROTOBUF, YAML, Output

__all__ = ["CBOR", "JSON", "OBJECTS", "PROTOBUF", "YAML", "Output", "negotiate", "spoken", "wants_pretty"]

PLAIN, PRETTY = Output(), Output(pretty=True)


def spoken(info: RequestInfo, kind: Kind | None) -> Sequence[str]:
    """The media types that objects of a kind can have: protobuf only for those with a Go type."""
    types = OBJECTS if kind is None or kind.definition else CUSTOM_OBJECTS
    return (*types, CBOR) if info.cbor else types


def negotiate(
    info: RequestInfo, kind: Kind | None = None, transforms: Collection[str] = content.TABLE_AND_METADATA
) -> Output:
    """The best form that the client accepts and the server has. Raises ApiError 406."""
    accept = ",".join(info.header_values("accept"))
    pretty = wants_pretty(info)
    if not accept or accept == JSON:
        return PRETTY if pretty else PLAIN
    return content.negotiate(accept, supported=spoken(info, kind), transforms=transforms, pretty=pretty)


def wants_pretty(info: RequestInfo) -> bool:
    asked = info.query.get("pretty")
    return content.wants_pretty(asked[0] if asked else None, info.headers.get("user-agent", ""))
