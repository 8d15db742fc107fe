"""Frontends as HAProxy's configuration: ports, certificates, and the way from a request to its backend. Pure.

Routing itself is in maps (host, exact path, longest prefix): a request that hits them at once pays for two look-ups,
however many routes there are. Hosts with a port or capitals, wildcards and routes without host take a longer way.
Groups (matches of headers, parameters, methods; weights) are tried one after the other.

A port with TLS streams has three frontends: one that looks at the name in the handshake, and two behind it, on
abstract sockets, that end TLS for HTTP and for streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from peavine.ingress.model import ANY_HOST, WEIGHT_SCALE, Choice, Frontend, Routes, Routing
from peavine.ingress.settings import Settings

inspect_seconds = 5
_FOUND = "if { var(txn.backend) -m found }"
_MISSING = "if !{ var(txn.backend) -m found }"


def render(routing: Routing, settings: Settings, folder: str) -> tuple[list[str], dict[str, str]]:
    """(sections, files)"""
    writer = _Writer(settings, folder)
    for place in sorted(routing.frontends):
        writer.frontend(routing.frontends[place])
    return writer.sections, writer.files


class _Writer:
    def __init__(self, settings: Settings, folder: str) -> None:
        self.settings, self.folder = settings, folder
        self.sections: list[str] = []
        self.files: dict[str, str] = {}
        self._tables: list[Routes] = []

    def frontend(self, face: Frontend) -> None:
        name = f"{'https' if face.secure else 'http'}_{face.address.replace(':', '_') or 'all'}_{face.port}"
        address = f"[{face.address}]" if ":" in face.address else face.address
        bind = f"bind {address}:{face.port}" + (" accept-proxy" if self.settings.accept_proxy else "")
        if face.streams is None and face.terminated is None:
            tls = self._tls(face, name, "h2,http/1.1") if face.secure else ""
            self._http(name, bind + tls, face)
            return
        self._dispatcher(name, bind, face)
        if face.routes is not None:
            self._http(
                f"{name}_web",
                f"bind {self._inner(name, 'web')} accept-proxy{self._tls(face, name, 'h2,http/1.1')}",
                face,
            )
        if face.terminated is not None:
            lines = [f"frontend {name}_ended", "    mode tcp"]
            lines.append(f"    bind {self._inner(name, 'ended')} accept-proxy{self._tls(face, name, '')}")
            lines += self._streams(face.terminated, "ssl_fc_sni,lower")
            self._end(lines)

    def _http(self, name: str, bind: str, face: Frontend) -> None:
        assert face.routes is not None
        lines = [f"frontend {name}", f"    {bind}"]
        # Each rule here is paid by every request, but this: the address is written out once for a connection.
        lines.append("    tcp-request session set-var(sess.client) src,lower")
        # What is looked up is the host and the path in one: a slash in the host would be another path than pods see.
        lines.append("    http-request deny deny_status 400 if { req.fhdr(host,1) -m sub / }")
        scheme = "https" if face.secure else "http"
        if self.settings.trust_forwarded:
            lines.append(f"    http-request set-header X-Forwarded-Proto {scheme}")
        else:
            # All of that name: nothing needs to be looked for when ours are added.
            lines.append("    http-request del-header forwarded -m sub")
            lines.append(f"    http-request add-header X-Forwarded-Proto {scheme}")
        lines += [
            "    http-request add-header X-Forwarded-For %[var(sess.client)]",
            "    http-request set-header X-Real-IP %[var(sess.client)]",
        ]
        lines += self._routing(face.routes)
        lines.append(f"    default_backend {face.routes.fallback}")
        self._end(lines)

    def _routing(self, routes: Routes) -> list[str]:
        exact, prefix = self._file(routes, "exact"), self._file(routes, "prefix")
        lines = []
        unless = ""
        if routes.exact:
            lines.append(f"http-request set-var(txn.backend) base,map_str({exact})")
            unless = f" {_MISSING}"
        lines.append(f"http-request set-var(txn.backend) base,concat(/),map_beg({prefix}){unless}")
        lines.append(f"http-request set-var(txn.pick) rand({WEIGHT_SCALE})" if _has_weights(routes) else "")
        # Stops the rules of this section only.
        lines.append(f"http-request allow {_FOUND}")
        lines += self._long_way(routes, exact, prefix)
        lines += _choices(routes.groups)
        lines.append("use_backend %[var(txn.backend)]")
        return [f"    {line}" for line in lines if line]

    def _long_way(self, routes: Routes, exact: str, prefix: str) -> list[str]:
        """Hosts as they are meant: without port, in lower case; then wildcards, then routes without host. A host that
        has rules of its own is not looked for among the wildcards, nor a wildcard's among the rest.
        """
        hosts = self._file(routes, "hosts")
        no_host = "if !{ var(txn.h) -m found }"
        lines = [
            "http-request set-var(txn.host) req.hdr(host),field(1,:),lower",
            f"http-request set-var(txn.h) var(txn.host),map_str({hosts})",
        ]
        if any(_is_wildcard(h) for h in routes.hosts):
            lines.append(
                f"http-request set-var(txn.h) 'var(txn.host),regsub(^[^.]+,*),map_str({hosts})' {no_host}",
            )
        if any(h.startswith("**") for h in routes.hosts):
            suffixes = self._file(routes, "suffixes")
            lines.append(f"http-request set-var(txn.h) var(txn.host),map_end({suffixes}) {no_host}")
        if ANY_HOST in routes.hosts:
            lines.append(f"http-request set-var(txn.h) str({ANY_HOST}) {no_host}")
        lines.append("http-request set-var(txn.path) path")
        unless = ""
        if routes.exact:
            lines.append(f"http-request set-var(txn.backend) var(txn.h),concat(,txn.path),map_str({exact})")
            unless = f" {_MISSING}"
        lines.append(f"http-request set-var(txn.backend) var(txn.h),concat(,txn.path,/),map_beg({prefix}){unless}")
        return lines

    def _dispatcher(self, name: str, bind: str, face: Frontend) -> None:
        lines = [f"frontend {name}", f"    {bind}", "    mode tcp"]
        lines += [
            f"    tcp-request inspect-delay {inspect_seconds}s",
            # What follows waits for this: nothing is asked before the handshake has come.
            "    tcp-request content reject if !{ req.ssl_hello_type 1 }",
        ]
        lines += self._streams(face.streams, "req.ssl_sni,lower") if face.streams is not None else []
        if face.terminated is not None:
            hosts = self._sni_key(face.terminated, "req.ssl_sni,lower", "txn.e")
            lines += [f"    {line}" for line in hosts]
            lines.append(f"    use_backend {name}_to_ended if {{ var(txn.e) -m found }}")
        if face.routes is not None:
            lines.append(f"    default_backend {name}_to_web")
        self._end(lines)
        for part, there in (("web", face.routes), ("ended", face.terminated)):
            if there is not None:
                self._end(
                    [
                        f"backend {name}_to_{part}",
                        "    mode tcp",
                        f"    server s {self._inner(name, part)} send-proxy-v2",
                    ]
                )

    def _streams(self, routes: Routes, sni: str) -> list[str]:
        lines = self._sni_key(routes, sni, "txn.h")
        if _has_weights(routes):
            lines.append(f"tcp-request content set-var(txn.pick) rand({WEIGHT_SCALE})")
        lines.append(f"tcp-request content set-var(txn.backend) var(txn.h),map_str({self._file(routes, 'exact')})")
        lines += _choices(routes.groups)
        lines.append(f"use_backend %[var(txn.backend)] {_FOUND}")
        return [f"    {line}" for line in lines if line]

    def _sni_key(self, routes: Routes, sni: str, variable: str) -> list[str]:
        """Lines that find the entry of `routes.hosts` for a name of TLS."""
        missing = f"if !{{ var({variable}) -m found }}"
        lines = [f"tcp-request content set-var({variable}) {sni},map_str({self._file(routes, 'hosts')})"]
        if any(h.startswith("**") for h in routes.hosts):
            suffixes = self._file(routes, "suffixes")
            lines.append(f"tcp-request content set-var({variable}) {sni},map_end({suffixes}) {missing}")
        if ANY_HOST in routes.hosts:
            lines.append(f"tcp-request content set-var({variable}) str({ANY_HOST}) {missing}")
        return lines

    def _tls(self, face: Frontend, name: str, alpn: str) -> str:
        lines = [] if any(not hosts for hosts in face.sni.values()) else [f"{self.settings.run_dir}/certs/default.pem"]
        # The first is for names that nobody has.
        for file, hosts in sorted(face.sni.items(), key=lambda entry: (bool(entry[1]), entry)):
            lines.append(f"{self.settings.run_dir}/certs/{file} {' '.join(hosts)}".rstrip())
        self.files[f"{name}.list"] = "\n".join(lines) + "\n"
        words = f" ssl crt-list {self.folder}/{name}.list" + (f" alpn {alpn}" if alpn else "")
        if face.authorities:
            words += f" ca-file {self.settings.run_dir}/certs/{face.authorities} "
            words += "verify optional ca-ignore-err all crt-ignore-err all" if face.lenient else "verify required"
        return words

    def _file(self, routes: Routes, what: str) -> str:
        """The path of a map of these routes; frontends with the same routes share it."""
        place = next((n for n, known in enumerate(self._tables) if known is routes), len(self._tables))
        if place == len(self._tables):
            self._tables.append(routes)
            self.files |= {f"{kind}-{place}.map": text for kind, text in _maps(routes).items()}
        return f"{self.folder}/{what}-{place}.map"

    def _inner(self, name: str, part: str) -> str:
        """An abstract socket of this HAProxy."""
        own = hashlib.sha256(self.settings.run_dir.encode()).hexdigest()[:8]
        return f"abns@peavine_{own}_{name}_{part}"

    def _end(self, lines: list[str]) -> None:
        self.sections.append("\n".join(lines) + "\n")


def _maps(routes: Routes) -> dict[str, str]:
    # The first that matches counts there: the longest.
    suffixes = sorted((h for h in routes.hosts if h.startswith("**")), key=len, reverse=True)
    return {
        "hosts": _map({h: h for h in routes.hosts if h != ANY_HOST and not h.startswith("**")}),
        "suffixes": "".join(f"{h[2:]} {h}\n" for h in suffixes),
        "exact": _map({host + path: name for (host, path), name in routes.exact.items()}),
        "prefix": _map({f"{host}{path}/": name for (host, path), name in routes.prefix.items()}),
    }


def _map(entries: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))


def _is_wildcard(host: str) -> bool:
    return host.startswith("*.")


def _has_weights(routes: Routes) -> bool:
    return any(len(choice.backends) > 1 for group in routes.groups.values() for choice in group)


def _choices(groups: Mapping[str, Iterable[Choice]]) -> list[str]:
    lines = []
    for group, choices in sorted(groups.items()):
        for choice in choices:
            conditions = " ".join((f"{{ var(txn.backend) -m str {group} }}", *choice.conditions))
            total = sum(weight for _, weight in choice.backends)
            reached = 0
            for name, weight in choice.backends[:-1]:
                reached += weight
                share = f"{{ var(txn.pick) -m int lt {reached * WEIGHT_SCALE // total} }}"
                lines.append(f"use_backend {name} if {conditions} {share}")
            lines.append(f"use_backend {choice.backends[-1][0]} if {conditions}")
    return lines
