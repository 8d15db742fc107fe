"""One request, as every filter and endpoint sees it: what was sent, what it asks for, who asks.

Paths are read as upstream's RequestInfoFactory reads them: `/api/v1/namespaces/ns/pods/name/log` is verb get on
resource pods, subresource log; `/healthz` is no resource request and its verb is the lower-case method.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from peavine.machinery.meta import new_uid

if TYPE_CHECKING:
    from peavine.apiserver.authentication.user import User

# Methods of requests on named or unnamed resources -> verb; get becomes list or watch, delete deletecollection, below.
_VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}

# What may stand behind /namespaces/NAME without being a resource of that namespace.
_NAMESPACE_SUBRESOURCES = frozenset(("status", "finalize"))


@dataclass(slots=True)
class RequestInfo:
    """A request. Header names are lower case; `headers` keeps the first value of each, `header_values` all."""

    method: str = "GET"
    path: str = "/"  # percent-decoded, without the query
    raw_path: str = "/"  # as sent, without the query
    query_string: str = ""
    query: dict[str, list[str]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw_headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    peer_certificate: bytes | None = None  # DER of the TLS client certificate; not yet verified
    peer_chain: tuple[bytes, ...] = ()  # DER of what the client sent beside it, in its order; not verified either
    remote: tuple[str, int] = ("", 0)
    secure: bool = True
    cbor: bool = False  # whether the server speaks CBOR (the feature CBORServingAndStorage)

    # What is asked for.
    verb: str = ""  # get list watch create update patch delete deletecollection, or the method in lower case
    is_resource: bool = False
    prefix: str = ""  # "api" or "apis" of a resource request
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""  # "" for cluster-scoped and all-namespaces requests
    name: str = ""
    parts: list[str] = field(default_factory=list)  # of the path, from the resource on

    # Who asks; set by the authentication filter, and again by impersonation.
    user: User | None = None
    # What the answer also carries, and what the audit log notes.
    warnings: list[str] = field(default_factory=list)
    audit_annotations: dict[str, str] = field(default_factory=dict)
    audit_id: str = field(default_factory=new_uid)
    received: float = field(default_factory=time.time)
    # Anything a filter hands to a later one (for audit, fairness); keys belong to the filter.
    notes: dict[str, Any] = field(default_factory=dict)

    def header_values(self, name: str) -> list[str]:
        """Every value of the header `name` (lower case), in order of arrival."""
        return [value for key, value in self.raw_headers if key == name]

    def parameter(self, name: str, default: str = "") -> str:
        """The first value of the query parameter `name`."""
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str) -> bool:
        """A boolean query parameter, as Go's conversion reads it: present and neither `false` nor `0`."""
        values = self.query.get(name)
        return bool(values) and values[0].lower() not in ("false", "0")  # type: ignore[index]

    def warn(self, text: str) -> None:
        """Add a `Warning` header (299) to the answer, once."""
        if text not in self.warnings:
            self.warnings.append(text)


def parse_query(query_string: str) -> dict[str, list[str]]:
    """`a=1&a=2&b` -> `{"a": ["1", "2"], "b": [""]}`. Undecodable bytes become U+FFFD."""
    query: dict[str, list[str]] = {}
    if query_string:
        for key, value in parse_qsl(query_string, keep_blank_values=True):
            query.setdefault(key, []).append(value)
    return query


def resolve(info: RequestInfo) -> RequestInfo:
    """Fill what is asked for from method, path and query. Idempotent; returns `info`."""
    info.verb, info.is_resource = info.method.lower(), False
    parts = info.path.strip("/").split("/")
    if "%" in info.raw_path:  # a name may hold an encoded slash; the parts come from the raw path
        parts = [unquote(part) for part in info.raw_path.strip("/").split("/")]
    if len(parts) < 3 or parts[0] not in ("api", "apis"):
        return info
    info.prefix = parts[0]
    if parts[0] == "apis":
        if len(parts) < 4:
            return info
        info.group, parts = parts[1], parts[1:]
    info.is_resource = True
    info.version, parts = parts[1], parts[2:]
    # Verbs of old: /api/v1/proxy/... and /api/v1/watch/...
    special = parts[0] if parts[0] in ("proxy", "watch") and len(parts) > 1 else ""
    if special:
        parts = parts[1:]
        info.verb = special
    else:
        info.verb = _VERBS.get(info.method, "")
    if parts[0] == "namespaces" and len(parts) > 1:
        info.namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    info.parts = parts
    info.resource = parts[0]
    info.name = parts[1] if len(parts) > 1 else ""
    info.subresource = parts[2] if len(parts) > 2 and not special else ""
    if not info.name:
        if info.verb == "get":
            info.verb = "watch" if info.flag("watch") else "list"
        elif info.verb == "delete":
            info.verb = "deletecollection"
    if info.verb in ("list", "watch", "deletecollection") and not info.name:
        # `metadata.name=x` makes a list answerable to rules with resourceNames, as upstream's does.
        for selector in info.query.get("fieldSelector", ()):
            for term in selector.split(","):
                key, _, value = term.partition("=")
                if key == "metadata.name" and value:
                    info.name = value.lstrip("=")
    return info
