"""Ingresses, Services, slices and Secrets to one routing. Pure.

Who is first (creation time, then name) keeps a host and path; who comes later and wants the same gets a problem, and
nobody else notices. A bad Ingress loses its own routes only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from peavine.ingress.annotations import AnnotationError, Options, options_of

Key = tuple[str, str]
Object = dict[str, Any]

CONTROLLER = "peavine.dev/ingress"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_CLASS_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"
ANY_HOST = "-"

_APP_PROTOCOLS = {"kubernetes.io/h2c": "h2c", "https": "https", "HTTPS": "https", "grpc": "grpc"}


class Server(NamedTuple):
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Backend:
    """One group of servers with its rules. `tls_host` says that the host has a certificate (redirects follow from
    it).
    """

    name: str
    service: Key
    port: str
    options: Options
    redirect: bool
    prefix: str = ""
    """The path that a rewrite replaces."""
    users: tuple[tuple[str, str], ...] = ()
    protocol: str = "http"


@dataclass(frozen=True, slots=True)
class Problem:
    ingress: Key
    reason: str
    message: str


@dataclass(slots=True)
class Routing:
    hosts: set[str] = field(default_factory=set)
    """As in the rules, lower case: `a.example`, `*.example`, or `-` for any."""
    exact: dict[tuple[str, str], str] = field(default_factory=dict)
    prefix: dict[tuple[str, str], str] = field(default_factory=dict)
    """(host, path without a final slash) to the name of a backend; longer paths win."""
    backends: dict[str, Backend] = field(default_factory=dict)
    certificates: dict[str, str] = field(default_factory=dict)
    """File name to PEM (certificates, then key)."""
    sni: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """File name to the hosts that it serves."""
    problems: list[Problem] = field(default_factory=list)
    claimed: list[Key] = field(default_factory=list)
    """The Ingresses that have at least one route."""


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


def compile_routing(
    ingresses: Iterable[Object], services: Mapping[Key, Object], secrets: Mapping[Key, Object]
) -> Routing:
    """`ingresses` are those that are ours; any order."""
    routing = Routing()
    fallbacks: list[tuple[list[str], str]] = []
    for ingress in sorted(ingresses, key=_age):
        key = (ingress["metadata"]["namespace"], ingress["metadata"]["name"])
        try:
            _add(routing, key, ingress, services, secrets, fallbacks)
        except (_Refused, AnnotationError) as error:
            reason = error.reason if isinstance(error, _Refused) else "InvalidAnnotation"
            routing.problems.append(Problem(key, reason, str(error)))
    for hosts, backend in fallbacks:
        for host in hosts or [ANY_HOST]:
            routing.hosts.add(host)
            routing.prefix.setdefault((host, ""), backend)
    return routing


def _age(ingress: Object) -> tuple[str, str, str]:
    meta = ingress["metadata"]
    return meta.get("creationTimestamp") or "", meta["namespace"], meta["name"]


def _add(
    routing: Routing,
    key: Key,
    ingress: Object,
    services: Mapping[Key, Object],
    secrets: Mapping[Key, Object],
    fallbacks: list[tuple[list[str], str]],
) -> None:
    namespace = key[0]
    spec = ingress.get("spec") or {}
    options = options_of(ingress["metadata"].get("annotations") or {})
    users = _users(namespace, options, secrets)
    secured = _certificates(routing, key, spec, secrets)
    found = 0
    hosts = []
    for rule in spec.get("rules") or []:
        host = (rule.get("host") or ANY_HOST).lower()
        hosts.append(host)
        for path in (rule.get("http") or {}).get("paths") or []:
            text = path.get("path") or "/"
            kind = path.get("pathType", "ImplementationSpecific")
            # Implementation-specific is a prefix here, as with most controllers.
            table = routing.exact if kind == "Exact" else routing.prefix
            place = (host, text if kind == "Exact" else text.rstrip("/"))
            try:
                backend = _backend(key, path["backend"], options, users, services, _is_secured(host, secured), place[1])
            except _Refused as error:
                routing.problems.append(Problem(key, error.reason, f"host {host} path {text}: {error}"))
                continue
            if place in table:
                message = f"host {host} path {text} is taken by an older Ingress"
                routing.problems.append(Problem(key, "Conflict", message))
                continue
            routing.hosts.add(host)
            routing.backends[backend.name] = backend
            table[place] = backend.name
            found += 1
    if spec.get("defaultBackend"):
        try:
            secured_any = bool(hosts) and all(_is_secured(host, secured) for host in hosts)
            backend = _backend(key, spec["defaultBackend"], options, users, services, secured_any, "")
            routing.backends[backend.name] = backend
            fallbacks.append((hosts, backend.name))
            found += 1
        except _Refused as error:
            routing.problems.append(Problem(key, error.reason, f"default backend: {error}"))
    if found:
        routing.claimed.append(key)


def _backend(
    key: Key,
    reference: Object,
    options: Options,
    users: tuple[tuple[str, str], ...],
    services: Mapping[Key, Object],
    secured: bool,
    path: str,
) -> Backend:
    if reference.get("resource"):
        kind = reference["resource"].get("kind", "")
        raise _Refused("ResourceBackend", f"backends that are a resource ({kind}) are not supported, only Services")
    name = (reference.get("service") or {}).get("name", "")
    wanted = (reference.get("service") or {}).get("port") or {}
    service = services.get((key[0], name))
    if service is None:
        raise _Refused("ServiceNotFound", f"Service {key[0]}/{name} does not exist")
    ports = (service.get("spec") or {}).get("ports") or []
    port = next(
        (
            p
            for p in ports
            if (wanted.get("name") and p.get("name") == wanted["name"])
            or (wanted.get("number") and p["port"] == wanted["number"])
        ),
        None,
    )
    if port is None:
        asked = wanted.get("name") or wanted.get("number")
        raise _Refused("PortNotFound", f"Service {key[0]}/{name} has no port {asked}")
    protocol = options.backend_protocol
    if protocol == "http":
        protocol = _APP_PROTOCOLS.get(port.get("appProtocol", ""), "http")
    redirect = options.ssl_redirect == "true" or (options.ssl_redirect == "" and secured)
    prefix = path if options.rewrite_target is not None else ""
    distinct = hashlib.sha256(repr((options, redirect, prefix, users, protocol)).encode()).hexdigest()[:10]
    return Backend(
        f"{key[0]}_{name}_{port.get('name') or port['port']}_{distinct}",
        (key[0], name),
        port.get("name", ""),
        options,
        redirect,
        prefix,
        users,
        protocol,
    )


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


def _certificates(routing: Routing, key: Key, spec: Object, secrets: Mapping[Key, Object]) -> set[str]:
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
        secret = secrets.get((key[0], name))
        if secret is None:
            routing.problems.append(Problem(key, "SecretNotFound", f"Secret {key[0]}/{name} does not exist"))
            continue
        try:
            pem = pem_of(secret)
        except ValueError as error:
            routing.problems.append(Problem(key, "InvalidCertificate", f"Secret {key[0]}/{name}: {error}"))
            continue
        file = f"{key[0]}_{name}.pem"
        routing.certificates[file] = pem
        routing.sni[file] = tuple(dict.fromkeys((*routing.sni.get(file, ()), *hosts)))
        secured.update(hosts)
    return secured


def pem_of(secret: Object) -> str:
    """Certificate chain and key in one, as HAProxy loads them. Raises ValueError if they are none, or do not fit."""
    data = secret.get("data") or {}
    try:
        chain = base64.b64decode(data["tls.crt"]).decode()
        key = base64.b64decode(data["tls.key"]).decode()
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from error
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    certificate = x509.load_pem_x509_certificate(chain.encode())
    private = serialization.load_pem_private_key(key.encode(), None)
    if certificate.public_key().public_bytes(*spki) != private.public_key().public_bytes(*spki):
        raise ValueError("the key is not the certificate's")
    return chain.strip() + "\n" + key.strip() + "\n"


def _is_secured(host: str, secured: set[str]) -> bool:
    return host in secured or (host != ANY_HOST and "*." + host.partition(".")[2] in secured)


def servers_of(slices: Iterable[Object], port: str) -> tuple[Server, ...]:
    """The endpoints of a Service's port: ready ones, or serving terminating ones if none is ready."""
    ready, leaving = set(), set()
    for piece in slices:
        number = next((p["port"] for p in piece.get("ports") or [] if (p.get("name") or "") == port), None)
        if number is None or piece.get("addressType") == "FQDN":
            continue
        for endpoint in piece.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            server = Server(endpoint["addresses"][0], number)
            if conditions.get("ready", True) in (True, None):
                ready.add(server)
            elif conditions.get("serving") and conditions.get("terminating"):
                leaving.add(server)
    return tuple(sorted(ready or leaving))
