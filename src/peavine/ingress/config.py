"""A routing as HAProxy's configuration and maps. Pure: text in, text out.

Routing itself is in maps (host, exact path, longest prefix), so the configuration has one rule for all Ingresses and a
section for each backend. A backend has spare servers, disabled, that get addresses at run time without a reload.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from peavine.ingress.model import ANY_HOST, Backend, Routing, Server

spare_share = 0.5
slots_min = 4


@dataclass(frozen=True, slots=True)
class Settings:
    run_dir: str
    listen: str = ""
    http_port: int = 80
    https_port: int = 443
    accept_proxy: bool = False
    trust_forwarded: bool = False
    metrics: str = ""
    """HOST:PORT of HAProxy's own metrics"""
    access_log: bool = False
    drain_seconds: int = 300
    """How long an old process may finish its connections after a reload."""


@dataclass(slots=True)
class Rendered:
    config: str
    files: dict[str, str] = field(default_factory=dict)
    """Maps and the certificate list: name to content, to be put in the generation's folder."""


Slots = dict[str, list[Server | None]]


def slots_for(servers: Sequence[Server], old: Sequence[Server | None] = ()) -> list[Server | None]:
    """Servers in slots, with room to grow; who had a slot keeps it where it still exists."""
    count = max(
        slots_min, len(old) if len(old) <= 4 * max(1, len(servers)) else 0, int(len(servers) * (1 + spare_share))
    )
    slots: list[Server | None] = [None] * count
    rest = []
    for server in servers:
        if server in old and old.index(server) < count:
            slots[old.index(server)] = server
        else:
            rest.append(server)
    for server in rest:
        slots[slots.index(None)] = server
    return slots


def render(routing: Routing, slots: Slots, settings: Settings, folder: str) -> Rendered:
    """`folder` is where the maps will be."""
    files = {
        "hosts.map": _map({host: host for host in routing.hosts if host != ANY_HOST}),
        "exact.map": _map({host + path: name for (host, path), name in routing.exact.items()}),
        "prefix.map": _map({f"{host}{path}/": name for (host, path), name in routing.prefix.items()}),
        "certificates.list": _certificates(routing, settings),
    }
    sections = [_head(settings), _frontend(routing, settings, folder)]
    if settings.metrics:
        sections.append(
            f"frontend metrics\n    bind {settings.metrics}\n    http-request use-service prometheus-exporter "
            "if { path /metrics }\n    http-request return status 404\n"
        )
    sections.append(
        'backend none\n    http-request return status 404 content-type text/plain string "default backend - 404"\n'
    )
    for users in sorted({b.users for b in routing.backends.values() if b.users}):
        sections.append(f"userlist {_userlist(users)}\n" + "".join(f"    user {u} password {h}\n" for u, h in users))
    for name in sorted(routing.backends):
        sections.append(_backend(routing.backends[name], slots[name], settings))
    return Rendered("\n".join(sections), files)


def _map(entries: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))


def _certificates(routing: Routing, settings: Settings) -> str:
    lines = [f"{settings.run_dir}/certs/default.pem"]
    for file, hosts in sorted(routing.sni.items()):
        lines.append(f"{settings.run_dir}/certs/{file} {' '.join(hosts)}".rstrip())
    return "\n".join(lines) + "\n"


def _head(settings: Settings) -> str:
    log = "    log stdout format raw local0\n" if settings.access_log else ""
    return (
        "global\n"
        f"    stats socket {settings.run_dir}/stats.sock mode 600 level admin expose-fd listeners\n"
        "    stats timeout 1h\n"
        f"    hard-stop-after {settings.drain_seconds}s\n"
        "    ssl-default-bind-options ssl-min-ver TLSv1.2\n"
        "    ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20\n"
        "    tune.ssl.default-dh-param 2048\n"
        f"{log}"
        "\ndefaults\n"
        "    mode http\n"
        # An old worker says goodbye in its next answer instead of cutting connections that a request may be on.
        "    option idle-close-on-response\n"
        "    option redispatch 1\n"
        "    retries 3\n"
        "    http-reuse safe\n"
        "    timeout connect 5s\n"
        "    timeout client 60s\n"
        "    timeout server 60s\n"
        "    timeout http-request 30s\n"
        "    timeout http-keep-alive 60s\n"
        "    timeout queue 30s\n"
        "    timeout tunnel 1h\n" + ("    log global\n    option httplog\n" if settings.access_log else "")
    )


def _frontend(routing: Routing, settings: Settings, folder: str) -> str:
    listen = f"[{settings.listen}]" if ":" in settings.listen else settings.listen
    proxy = " accept-proxy" if settings.accept_proxy else ""
    lines = ["frontend ingress"]
    if settings.http_port:
        lines.append(f"    bind {listen}:{settings.http_port}{proxy}")
    if settings.https_port:
        crt = f"crt-list {folder}/certificates.list"
        lines.append(f"    bind {listen}:{settings.https_port} ssl {crt} alpn h2,http/1.1{proxy}")
    if not settings.trust_forwarded:
        lines += [f"    http-request del-header {h}" for h in ("X-Forwarded-For", "Forwarded")]
    unrouted = "if !{ var(txn.backend) -m found }"
    wildcards = any(host.startswith("*.") for host in routing.hosts)
    # Each rule here is paid by every request: what no Ingress needs is left out.
    lines += [
        "    option forwardfor",
        "    http-request set-header X-Real-IP %[src]",
        "    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]",
        "    http-request set-var(txn.path) path",
    ]
    if routing.exact:
        lines += [
            "    http-request set-var(txn.key) req.hdr(host),field(1,:),lower,concat(,txn.path)",
            f"    http-request set-var(txn.backend) var(txn.key),map_str({folder}/exact.map)",
        ]
    lines += [
        "    http-request set-var(txn.keys) req.hdr(host),field(1,:),lower,concat(,txn.path,/)",
        f"    http-request set-var(txn.backend) var(txn.keys),map_beg({folder}/prefix.map)"
        + (f" {unrouted}" if routing.exact else ""),
    ]
    if wildcards or ANY_HOST in routing.hosts:
        # A host that has rules of its own is not looked for among the wildcards, nor a wildcard's among the rest.
        lines += [
            f"    http-request set-var(txn.host) req.hdr(host),field(1,:),lower {unrouted}",
            f"    http-request set-var(txn.h) var(txn.host),map_str({folder}/hosts.map) {unrouted}",
            f"    http-request set-var(txn.h) 'var(txn.host),regsub(^[^.]+,*),map_str({folder}/hosts.map)' "
            f"{unrouted} !{{ var(txn.h) -m found }}",
            f"    http-request set-var(txn.h) str({ANY_HOST}) {unrouted} !{{ var(txn.h) -m found }}",
            f"    http-request set-var(txn.key) var(txn.h),concat(,txn.path) {unrouted}",
            f"    http-request set-var(txn.keys) var(txn.h),concat(,txn.path,/) {unrouted}",
            f"    http-request set-var(txn.backend) var(txn.key),map_str({folder}/exact.map) {unrouted}",
            f"    http-request set-var(txn.backend) var(txn.keys),map_beg({folder}/prefix.map) {unrouted}",
        ]
    lines += [
        "    use_backend %[var(txn.backend)] if { var(txn.backend) -m found }",
        f"    default_backend {routing.prefix.get((ANY_HOST, ''), 'none')}",
    ]
    return "\n".join(lines) + "\n"


def _userlist(users: tuple[tuple[str, str], ...]) -> str:
    return "users_" + hashlib.sha256(repr(users).encode()).hexdigest()[:12]


def _backend(backend: Backend, slots: Sequence[Server | None], settings: Settings) -> str:
    o = backend.options
    lines = [f"backend {backend.name}", f"    balance {o.load_balance}"]
    for name in ("connect", "server", "tunnel"):
        value = getattr(o, f"timeout_{name}")
        if value:
            lines.append(f"    timeout {name} {value}")
    if o.allow_source_ranges:
        lines.append(f"    http-request deny deny_status 403 if !{{ src {' '.join(o.allow_source_ranges)} }}")
    if backend.redirect:
        if settings.https_port in (0, 443):
            lines.append("    http-request redirect scheme https code 308 if !{ ssl_fc }")
        else:
            where = f"https://%[req.hdr(host),field(1,:)]:{settings.https_port}%[pathq]"
            lines.append(f'    http-request redirect location "{where}" code 308 if !{{ ssl_fc }}')
    if o.limit_rps:
        lines += [
            "    stick-table type ipv6 size 100k expire 10s store http_req_rate(1s)",
            "    http-request track-sc0 src",
            f"    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {o.limit_rps} }}",
        ]
    lines += _cors(backend)
    if backend.users:
        lines.append(f'    http-request auth realm "{o.auth_realm}" unless {{ http_auth({_userlist(backend.users)}) }}')
    if o.body_size:
        lines.append(f"    http-request deny deny_status 413 if {{ req.body_size gt {o.body_size} }}")
    if o.rewrite_target is not None:
        pattern = re.escape(backend.prefix).replace("\\-", "-")
        lines.append(f"    http-request replace-path '^{pattern}/?(.*)' '{o.rewrite_target.rstrip('/')}/\\1'")
    if o.affinity == "cookie":
        lines.append(f"    cookie {o.session_cookie_name} insert indirect nocache httponly")
    words = {
        "http": "",
        "https": " ssl verify none",
        "h2c": " proto h2",
        "grpc": " proto h2",
        "grpcs": " ssl verify none alpn h2",
    }[backend.protocol]
    if o.proxy_protocol:
        words += " send-proxy-v2"
    for number, server in enumerate(slots):
        cookie = f" cookie s{number}" if o.affinity == "cookie" else ""
        where = _joined(server) if server else "127.0.0.1:1"
        lines.append(f"    server s{number} {where}{words}{cookie}{'' if server else ' disabled'}")
    return "\n".join(lines) + "\n"


def _cors(backend: Backend) -> list[str]:
    o = backend.options
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
        f"    http-request return status 204 {words} if METH_OPTIONS {{ req.hdr(origin) -m found }}",
        *(f'    http-response set-header {name} "{value}"' for name, value in headers),
    ]


def _joined(server: Server) -> str:
    return f"[{server.address}]:{server.port}" if ":" in server.address else f"{server.address}:{server.port}"


def guilty(config: str, complaint: str) -> set[str]:
    """The backends in whose sections HAProxy found its errors (`[FILE:LINE]` in its words)."""
    lines = config.split("\n")
    found = set()
    for number in re.findall(r"\[[^\]]*:(\d+)\]", complaint):
        for at in range(min(int(number), len(lines)) - 1, -1, -1):
            if lines[at] and not lines[at].startswith(" "):
                words = lines[at].split()
                if words[0] == "backend" and words[1] != "none":
                    found.add(words[1])
                break
    return found
