"""Ingresses, Services and Secrets to routes. Pure.

Who is first (creation time, then name) keeps a host and path; who comes later and wants the same gets a problem, and
nobody else notices. A bad Ingress loses its own routes only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from peavine.ingress import rules
from peavine.ingress.annotations import AnnotationError, Options, options_of
from peavine.ingress.model import (
    ANY_HOST,
    NOT_FOUND,
    SERVER_WORDS,
    Backend,
    Frontend,
    Key,
    Object,
    Problem,
    Routes,
    Routing,
    pem_of,
    protocol_of,
)
from peavine.ingress.settings import Settings

CONTROLLER = "peavine.dev/ingress"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_CLASS_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"

_PATH = re.compile(r"/[!-~]*")


def classes_of(classes: Iterable[Object]) -> tuple[set[str], bool]:
    """(names of the classes that are ours, whether the default class is)"""
    ours, default = set(), False
    for entry in classes:
        if (entry.get("spec") or {}).get("controller") == CONTROLLER:
            name = entry["metadata"]["name"]
            ours.add(name)
            default = default or (entry["metadata"].get("annotations") or {}).get(DEFAULT_CLASS_ANNOTATION) == "true"
    return ours, default


def is_ours(ingress: Object, classes: set[str], default: bool) -> bool:
    name = (ingress.get("spec") or {}).get("ingressClassName")
    if name is None:
        name = (ingress["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION)
    return default if name is None else name in classes


class _Refused(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_ingresses(
    ingresses: Iterable[Object], services: Mapping[Key, Object], secrets: Mapping[Key, Object], settings: Settings
) -> Routing:
    """`ingresses` are those that are ours; any order. The ports of `settings` get one table of routes."""
    routing = Routing()
    routes = Routes()
    secure = Frontend(settings.listen, settings.https_port, True, routes)
    if settings.http_port:
        routing.frontends[settings.listen, settings.http_port] = Frontend(
            settings.listen, settings.http_port, False, routes
        )
    if settings.https_port:
        routing.frontends[settings.listen, settings.https_port] = secure
    reader = _Reader(routing, routes, secure.sni, services, secrets, settings)
    fallbacks: list[tuple[list[str], str]] = []
    for ingress in sorted(ingresses, key=_age):
        key = (ingress["metadata"]["namespace"], ingress["metadata"]["name"])
        try:
            reader.add(key, ingress, fallbacks)
        except (_Refused, AnnotationError) as error:
            reason = error.reason if isinstance(error, _Refused) else "InvalidAnnotation"
            routing.problems.append(Problem(key, reason, str(error)))
    for hosts, backend in fallbacks:
        for host in hosts or [ANY_HOST]:
            routes.hosts.add(host)
            routes.prefix.setdefault((host, ""), backend)
        if not hosts and routes.fallback == NOT_FOUND:
            routes.fallback = backend
    return routing


def _age(ingress: Object) -> tuple[str, str, str]:
    meta = ingress["metadata"]
    return meta.get("creationTimestamp") or "", meta["namespace"], meta["name"]


@dataclass(slots=True)
class _Reader:
    """Adds one Ingress after the other to a routing."""

    routing: Routing
    routes: Routes
    sni: dict[str, tuple[str, ...]]
    services: Mapping[Key, Object]
    secrets: Mapping[Key, Object]
    settings: Settings

    def add(self, key: Key, ingress: Object, fallbacks: list[tuple[list[str], str]]) -> None:
        """Raises _Refused or AnnotationError if nothing of it can be used."""
        spec = ingress.get("spec") or {}
        options = options_of(ingress["metadata"].get("annotations") or {})
        users = _users(key[0], options, self.secrets)
        secured = self._certificates(key, spec)
        found = 0
        hosts = []
        for rule in spec.get("rules") or []:
            host = (rule.get("host") or ANY_HOST).lower()
            hosts.append(host)
            for path in (rule.get("http") or {}).get("paths") or []:
                try:
                    self._add_path(key, host, path, options, users, _is_secured(host, secured))
                    found += 1
                except _Refused as error:
                    message = f"host {host} path {path.get('path') or '/'}: {error}"
                    self.routing.problems.append(Problem(key, error.reason, message))
        if spec.get("defaultBackend"):
            try:
                secured_all = bool(hosts) and all(_is_secured(host, secured) for host in hosts)
                backend = self._backend(key, spec["defaultBackend"], options, users, secured_all, "")
                self._take(key, backend)
                fallbacks.append((hosts, backend.name))
                found += 1
            except _Refused as error:
                self.routing.problems.append(Problem(key, error.reason, f"default backend: {error}"))
        if found:
            self.routing.claimed.append(key)

    def _add_path(
        self, key: Key, host: str, path: Object, options: Options, users: tuple[tuple[str, str], ...], secured: bool
    ) -> None:
        text = path.get("path") or "/"
        if not _PATH.fullmatch(text):
            raise _Refused("InvalidPath", "a path begins with a slash and has no spaces; what is not ASCII is escaped")
        exact = path.get("pathType") == "Exact"
        # Implementation-specific is a prefix here, as with most controllers.
        table = self.routes.exact if exact else self.routes.prefix
        place = (host, text if exact else text.rstrip("/"))
        backend = self._backend(key, path["backend"], options, users, secured, place[1])
        if place in table:
            raise _Refused("Conflict", "taken by an older Ingress")
        self.routes.hosts.add(host)
        self._take(key, backend)
        table[place] = backend.name

    def _take(self, key: Key, backend: Backend) -> None:
        self.routing.backends[backend.name] = backend
        self.routing.owners.setdefault(backend.name, set()).add(key)

    def _backend(
        self,
        key: Key,
        reference: Object,
        options: Options,
        users: tuple[tuple[str, str], ...],
        secured: bool,
        path: str,
    ) -> Backend:
        if reference.get("resource"):
            kind = reference["resource"].get("kind", "")
            raise _Refused("ResourceBackend", f"backends that are a resource ({kind}) are not supported, only Services")
        name = (reference.get("service") or {}).get("name", "")
        wanted = (reference.get("service") or {}).get("port") or {}
        service = self.services.get((key[0], name))
        if service is None:
            raise _Refused("ServiceNotFound", f"Service {key[0]}/{name} does not exist")
        ports = (service.get("spec") or {}).get("ports") or []
        port = next((p for p in ports if _is_meant(p, wanted)), None)
        if port is None:
            asked = wanted.get("name") or wanted.get("number")
            raise _Refused("PortNotFound", f"Service {key[0]}/{name} has no port {asked}")
        protocol = options.backend_protocol
        if protocol == "http":
            protocol = protocol_of(port)
        redirect = options.ssl_redirect == "true" or (options.ssl_redirect == "" and secured)
        prefix = path if options.rewrite_target is not None else ""
        lines = rules.lines_of(options, users, redirect, prefix, self.settings)
        words = SERVER_WORDS[protocol] + (" send-proxy-v2" if options.proxy_protocol else "")
        distinct = hashlib.sha256(repr((lines, words, options.affinity, users)).encode()).hexdigest()[:10]
        return Backend(
            f"{key[0]}_{name}_{port.get('name') or port['port']}_{distinct}",
            (key[0], name),
            port.get("name", ""),
            lines,
            words,
            options.affinity == "cookie",
            users,
        )

    def _certificates(self, key: Key, spec: Object) -> set[str]:
        """Take over the Ingress' certificates; the hosts that have one. A bad one is a problem, its routes stay."""
        secured: set[str] = set()
        for entry in spec.get("tls") or []:
            hosts = [h.lower() for h in entry.get("hosts") or []]
            if not hosts:
                hosts = [(r.get("host") or "").lower() for r in spec.get("rules") or [] if r.get("host")]
            name = entry.get("secretName")
            if not name:
                # The default certificate, and the wish for TLS.
                secured.update(hosts)
                continue
            secret = self.secrets.get((key[0], name))
            if secret is None:
                self.routing.problems.append(Problem(key, "SecretNotFound", f"Secret {key[0]}/{name} does not exist"))
                continue
            try:
                pem = pem_of(secret)
            except ValueError as error:
                self.routing.problems.append(Problem(key, "InvalidCertificate", f"Secret {key[0]}/{name}: {error}"))
                continue
            file = f"{key[0]}_{name}.pem"
            self.routing.certificates[file] = pem
            self.sni[file] = tuple(dict.fromkeys((*self.sni.get(file, ()), *hosts)))
            secured.update(hosts)
        return secured


def _is_meant(port: Object, wanted: Object) -> bool:
    if wanted.get("name"):
        return bool(port.get("name") == wanted["name"])
    return bool(wanted.get("number") and port["port"] == wanted["number"])


def _users(namespace: str, options: Options, secrets: Mapping[Key, Object]) -> tuple[tuple[str, str], ...]:
    if not options.auth_secret:
        return ()
    secret = secrets.get((namespace, options.auth_secret))
    if secret is None:
        raise _Refused("SecretNotFound", f"Secret {namespace}/{options.auth_secret} does not exist")
    try:
        lines = base64.b64decode((secret.get("data") or {}).get("auth", "")).decode().splitlines()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _Refused("InvalidSecret", f"Secret {namespace}/{options.auth_secret}: {error}") from error
    users = []
    for line in lines:
        user, colon, secret_hash = line.strip().partition(":")
        if not line.strip():
            continue
        if not colon or any(c.isspace() or c in "\"'\\" for c in line.strip()):
            raise _Refused("InvalidSecret", f"Secret {namespace}/{options.auth_secret}: a line is not USER:HASH")
        if secret_hash.startswith(("$apr1$", "{SHA}")):
            raise _Refused(
                "InvalidSecret", f"Secret {namespace}/{options.auth_secret}: use crypt hashes (openssl passwd -6)"
            )
        users.append((user, secret_hash))
    if not users:
        raise _Refused("InvalidSecret", f"Secret {namespace}/{options.auth_secret} has no users under auth")
    return tuple(users)


def _is_secured(host: str, secured: set[str]) -> bool:
    return host in secured or (host != ANY_HOST and "*." + host.partition(".")[2] in secured)
