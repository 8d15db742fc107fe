"""What an Ingress can ask for beyond the API: annotations `ingress.peavine.dev/NAME`, read into options of its
backends.

The table in docs/ingress.md is the reference. An annotation that cannot be read refuses its Ingress, with an Event
that says why.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

PREFIX = "ingress.peavine.dev/"

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_DURATION = re.compile(r"^(\d+)(ms|s|m|h)$")
_TOKEN = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
# What may stand in a configuration line between quotes, in a regular expression and in a format.
_SAFE = re.compile(r"^[A-Za-z0-9/._~:@!&()*+,;=?^-]*$")


class AnnotationError(ValueError):
    """The annotation's value cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Options:
    """Of one Ingress. Hashable: backends of equal options and Service are one backend."""

    ssl_redirect: str = ""
    """true, false, or empty: redirect where the host has a certificate"""
    body_size: int = 0
    timeout_connect: str = ""
    timeout_server: str = ""
    timeout_tunnel: str = ""
    rewrite_target: str | None = None
    """Replaces the matched path prefix."""
    cors_allow_origin: str = ""
    cors_allow_methods: str = "GET, PUT, POST, DELETE, PATCH, OPTIONS"
    cors_allow_headers: str = (
        "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization"
    )
    cors_allow_credentials: bool = False
    cors_max_age: int = 86400
    auth_secret: str = ""
    """Name of a Secret of the same namespace with lines USER:HASH under `auth`"""
    auth_realm: str = "Authentication Required"
    limit_rps: int = 0
    """Requests a second from one address; more get 429"""
    allow_source_ranges: tuple[str, ...] = ()
    affinity: str = ""
    """cookie"""
    session_cookie_name: str = "PEAVINE"
    backend_protocol: str = "http"
    """http, https, h2c, grpc, grpcs"""
    proxy_protocol: bool = False
    """Speak PROXY protocol version 2 to the pods"""
    load_balance: str = "roundrobin"


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("is not true or false")
    return text == "true"


def _flag(text: str) -> str:
    _boolean(text)
    return text


def _number(text: str) -> int:
    if not text.isdigit() or int(text) > 1 << 31:
        raise ValueError("is not a number")
    return int(text)


def _size(text: str) -> int:
    found = re.match(r"^(\d+)([kmg]?)$", text.lower())
    if not found:
        raise ValueError("is not a size such as 8m")
    return int(found[1]) * _SIZES[found[2]]


def _duration(text: str) -> str:
    if not _DURATION.match(text):
        raise ValueError("is not a duration such as 30s")
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or not _SAFE.match(text):
        raise ValueError("is not a path")
    return text


def _header(text: str) -> str:
    if not re.match(r"^[\x21\x23-\x5b\x5d-\x7e ]*$", text) or "%" in text:
        raise ValueError("has characters that a header line here cannot have")
    return text


def _cookie(text: str) -> str:
    if not _TOKEN.match(text):
        raise ValueError("is not a cookie name")
    return text


def _ranges(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(part.strip(), strict=False)) for part in text.split(",") if part.strip())


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"is none of {', '.join(allowed)}")
        return text.lower()

    return read


def _secret(text: str) -> str:
    if not re.match(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", text):
        raise ValueError("is not the name of a Secret")
    return text


READERS: dict[str, Callable[[str], Any]] = {
    "ssl-redirect": _flag,
    "body-size": _size,
    "timeout-connect": _duration,
    "timeout-server": _duration,
    "timeout-tunnel": _duration,
    "rewrite-target": _path,
    "cors-allow-origin": _header,
    "cors-allow-methods": _header,
    "cors-allow-headers": _header,
    "cors-allow-credentials": _boolean,
    "cors-max-age": _number,
    "auth-secret": _secret,
    "auth-realm": _header,
    "limit-rps": _number,
    "allow-source-ranges": _ranges,
    "affinity": _one_of("cookie"),
    "session-cookie-name": _cookie,
    "backend-protocol": _one_of("http", "https", "h2c", "grpc", "grpcs"),
    "proxy-protocol": _boolean,
    "load-balance": _one_of("roundrobin", "leastconn", "random", "source"),
}
assert {name.replace("-", "_") for name in READERS} == {f.name for f in fields(Options)}


def options_of(annotations: Mapping[str, str]) -> Options:
    """Raises AnnotationError, also for a name below our prefix that nobody knows."""
    values = {}
    for key, text in annotations.items():
        if not key.startswith(PREFIX):
            continue
        name = key.removeprefix(PREFIX)
        reader = READERS.get(name)
        if reader is None:
            raise AnnotationError(f"unknown annotation {key}")
        try:
            values[name.replace("-", "_")] = reader(text)
        except ValueError as error:
            raise AnnotationError(f"annotation {key}: {text!r} {error}") from error
    return Options(**values)
