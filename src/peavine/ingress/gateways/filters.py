"""Filters, timeouts and retries of route rules in HAProxy's words. Pure.

What HAProxy cannot do raises Unsupported: the rule is not served without its filter.
"""

from __future__ import annotations

import re
from typing import Any

Object = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_RETRIED = {401, 403, 404, 408, 425, 500, 501, 502, 503, 504}
_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


class Unsupported(ValueError):
    """The text says what."""


def quoted(text: str) -> str:
    """One word of a configuration line. Raises Unsupported for what no line can hold."""
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise Unsupported(f"{text!r} has control characters")
    return "'" + text.replace("'", "'\\''") + "'"


def formatted(text: str) -> str:
    """One word where HAProxy looks for variables."""
    return quoted(text.replace("%", "%%"))


def header_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise Unsupported(f"the name {text!r} has characters other than letters, digits, - _ and .")
    return text


def lines_of(filters: list[Object], prefix: str | None) -> list[str]:
    """`prefix` is the one path prefix that the rule matches, if it has one. Mirrors are left to who knows backends."""
    lines: list[str] = []
    for entry in filters:
        type_ = entry["type"]
        if type_ == "RequestHeaderModifier":
            lines += _headers("http-request", entry["requestHeaderModifier"])
        elif type_ == "ResponseHeaderModifier":
            lines += _headers("http-response", entry["responseHeaderModifier"])
        elif type_ == "URLRewrite":
            rewrite = entry["urlRewrite"]
            if rewrite.get("hostname"):
                lines.append(f"http-request set-header Host {formatted(rewrite['hostname'])}")
            lines += _path(rewrite.get("path"), prefix)
        elif type_ == "RequestRedirect":
            lines += _redirect(entry["requestRedirect"], prefix)
        elif type_ == "CORS":
            lines += _cors(entry["cors"])
        elif type_ != "RequestMirror":
            raise Unsupported(f"filter {type_} is not supported")
    return lines


def share_of(mirror: Object) -> float:
    """How much of the requests a mirror gets, 0 to 1."""
    fraction = mirror.get("fraction")
    if fraction:
        return float(fraction["numerator"] / (fraction.get("denominator") or 100))
    return float(mirror.get("percent", 100) / 100)


def answers(filters: list[Object]) -> bool:
    """Whether a filter answers all requests itself."""
    return any(entry["type"] == "RequestRedirect" for entry in filters)


def _headers(direction: str, modifier: Object) -> list[str]:
    lines = []
    for verb in ("set", "add"):
        for header in modifier.get(verb) or ():
            lines.append(f"{direction} {verb}-header {header_name(header['name'])} {formatted(header['value'])}")
    return lines + [f"{direction} del-header {header_name(name)}" for name in modifier.get("remove") or ()]


def _path(modifier: Object | None, prefix: str | None) -> list[str]:
    if not modifier:
        return []
    if modifier["type"] == "ReplaceFullPath":
        full = modifier["replaceFullPath"]
        return [f"http-request set-path {formatted(full if full.startswith('/') else '/' + full)}"]
    if prefix is None:
        raise Unsupported("ReplacePrefixMatch needs one PathPrefix match")
    pattern = re.escape(prefix.rstrip("/"))
    with_ = modifier["replacePrefixMatch"].rstrip("/")
    if not with_:
        return [f"http-request replace-path {quoted(f'^{pattern}/?(.*)')} '/\\1'"]
    with_ = with_ if with_.startswith("/") else "/" + with_
    if "\\" in with_:
        raise Unsupported("backslashes in a path")
    return [f"http-request replace-path {quoted(f'^{pattern}(/.*)?$')} {formatted(with_ + chr(92) + '1')}"]


def _redirect(redirect: Object, prefix: str | None) -> list[str]:
    lines = _path(redirect.get("path"), prefix)
    scheme, port = redirect.get("scheme"), redirect.get("port")
    host = redirect.get("hostname") or "%[req.hdr(host),field(1,:)]"
    code = redirect.get("statusCode") or 302

    def line(where: str, condition: str = "") -> str:
        return f'http-request redirect location "{where}%[pathq]" code {code}{condition}'

    known = {"http": 80, "https": 443}
    if scheme:
        return [*lines, line(f"{scheme}://{host}" + (f":{port}" if port and port != known[scheme] else ""))]
    for name, usual in known.items():
        plain = "{ ssl_fc }" if name == "https" else "!{ ssl_fc }"
        if port:
            lines.append(line(f"{name}://{host}" + (f":{port}" if port != usual else ""), f" if {plain}"))
        else:
            lines.append(line(f"{name}://{host}", f" if {plain} {{ dst_port {usual} }}"))
            lines.append(line(f"{name}://{host}:%[dst_port]", f" if {plain}"))
    return lines


def _cors(cors: Object) -> list[str]:
    """Preflights are answered here; other answers get the headers."""
    origins, credentials = cors.get("allowOrigins") or [], bool(cors.get("allowCredentials"))
    lines = ["http-request set-var(txn.origin) req.hdr(origin)", "acl cors_asks var(txn.origin) -m found"]
    plain = [origin for origin in origins if "*" not in origin]
    if "*" in origins:
        lines.append("acl cors_allows var(txn.origin) -m found")
    if plain:
        lines.append(f"acl cors_allows var(txn.origin) -m str -- {' '.join(quoted(o) for o in plain)}")
    for origin in origins:
        if "*" in origin and origin != "*":
            pattern = re.escape(origin).replace("\\*", ".*")
            lines.append(f"acl cors_allows var(txn.origin) -m reg -- {quoted(f'^{pattern}$')}")
    if not origins:
        lines.append("acl cors_allows always_false")
    shown = [("Access-Control-Allow-Origin", "%[var(txn.origin)]")]
    if credentials:
        shown.append(("Access-Control-Allow-Credentials", "true"))
    preflight = [*shown, ("Access-Control-Max-Age", str(cors.get("maxAge") or 5))]
    for name, asked, allowed in (
        ("Access-Control-Allow-Methods", "method", cors.get("allowMethods")),
        ("Access-Control-Allow-Headers", "headers", cors.get("allowHeaders")),
    ):
        if allowed == ["*"]:
            preflight.append((name, f"%[req.hdr(access-control-request-{asked})]" if credentials else "*"))
        elif allowed:
            preflight.append((name, ", ".join(header_name(a) for a in allowed)))
    exposed = [header_name(name) if name != "*" else name for name in cors.get("exposeHeaders") or ()]
    if exposed and not (credentials and "*" in exposed):
        shown.append(("Access-Control-Expose-Headers", ", ".join(exposed)))
    words = " ".join(f'hdr {name} "{value}"' for name, value in preflight)
    asks = "METH_OPTIONS cors_asks { req.hdr(access-control-request-method) -m found }"
    lines += [
        f"http-request return status 204 {words} if {asks} cors_allows",
        f"http-request return status 204 if {asks}",
    ]
    lines.append("http-request set-var(txn.shared) bool(true) if cors_allows")
    lines += [f'http-response set-header {name} "{value}" if {{ var(txn.shared) -m bool }}' for name, value in shown]
    return [*lines, "http-response add-header Vary Origin if { var(txn.shared) -m bool }"]


def timing_of(rule: Object) -> list[str]:
    """Timeouts and retries."""
    lines = []
    timeouts = rule.get("timeouts") or {}
    limits = [milliseconds(timeouts[name]) for name in ("backendRequest", "request") if name in timeouts]
    if limits:
        lines.append(f"timeout server {next((n for n in limits if n), 0)}ms")
    retry = rule.get("retry")
    if retry:
        if retry.get("backoff"):
            raise Unsupported("retries are made at once: backoff is not supported")
        codes = retry.get("codes") or []
        if odd := [code for code in codes if code not in _RETRIED]:
            raise Unsupported(f"retries after status {odd[0]} are not supported")
        lines.append(f"retries {retry.get('attempts', 1)}")
        lines.append(" ".join(["retry-on conn-failure", *(str(code) for code in codes)]))
    return lines


def milliseconds(text: str) -> int:
    """Of a duration of the Gateway API: `1h30m`, `500ms`."""
    return sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)(h|ms|m|s)", text))
