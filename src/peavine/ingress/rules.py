"""The options of an Ingress in HAProxy's words. Pure."""

from __future__ import annotations

import hashlib
import re

from peavine.ingress.annotations import Options
from peavine.ingress.settings import Settings

Users = tuple[tuple[str, str], ...]


def lines_of(options: Options, users: Users, redirect: bool, prefix: str, settings: Settings) -> tuple[str, ...]:
    """`prefix` is the path that a rewrite replaces."""
    o = options
    lines = [f"balance {o.load_balance}"]
    for name in ("connect", "server", "tunnel"):
        value = getattr(o, f"timeout_{name}")
        if value:
            lines.append(f"timeout {name} {value}")
    if o.allow_source_ranges:
        lines.append(f"http-request deny deny_status 403 if !{{ src {' '.join(o.allow_source_ranges)} }}")
    if redirect:
        if settings.https_port in (0, 443):
            lines.append("http-request redirect scheme https code 308 if !{ ssl_fc }")
        else:
            where = f"https://%[req.hdr(host),field(1,:)]:{settings.https_port}%[pathq]"
            lines.append(f'http-request redirect location "{where}" code 308 if !{{ ssl_fc }}')
    if o.limit_rps:
        lines += [
            "stick-table type ipv6 size 100k expire 10s store http_req_rate(1s)",
            "http-request track-sc0 src",
            f"http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {o.limit_rps} }}",
        ]
    lines += _cors(o)
    if users:
        lines.append(f'http-request auth realm "{o.auth_realm}" unless {{ http_auth({userlist(users)}) }}')
    if o.body_size:
        lines.append(f"http-request deny deny_status 413 if {{ req.body_size gt {o.body_size} }}")
    if o.rewrite_target is not None:
        pattern = re.escape(prefix).replace("\\-", "-").replace("'", "\\x27")
        lines.append(f"http-request replace-path '^{pattern}/?(.*)' '{o.rewrite_target.rstrip('/')}/\\1'")
    if o.affinity == "cookie":
        lines.append(f"cookie {o.session_cookie_name} insert indirect nocache httponly")
    return tuple(lines)


def userlist(users: Users) -> str:
    """The name of the list of these users."""
    return "users_" + hashlib.sha256(repr(users).encode()).hexdigest()[:12]


def _cors(o: Options) -> list[str]:
    if not o.cors_allow_origin:
        return []
    headers = [("Access-Control-Allow-Origin", o.cors_allow_origin)]
    if o.cors_allow_credentials:
        headers.append(("Access-Control-Allow-Credentials", "true"))
    preflight = [
        ("Access-Control-Allow-Methods", o.cors_allow_methods),
        ("Access-Control-Allow-Headers", o.cors_allow_headers),
        ("Access-Control-Max-Age", str(o.cors_max_age)),
    ]
    words = " ".join(f'hdr {name} "{value}"' for name, value in headers + preflight)
    return [
        f"http-request return status 204 {words} if METH_OPTIONS {{ req.hdr(origin) -m found }}",
        *(f'http-response set-header {name} "{value}"' for name, value in headers),
    ]
