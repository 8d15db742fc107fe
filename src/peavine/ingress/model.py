"""What HAProxy is to do, whoever asked for it: frontends with routes, backends with servers, certificates. Pure.

Two readers fill a Routing: `ingresses` from Ingresses, `gateways` from the Gateway API. `config` writes it down.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Key = tuple[str, str]
Object = dict[str, Any]

ANY_HOST = "-"
NOT_FOUND = "none"
"""The backend of what matches nothing: 404."""
WEIGHT_SCALE = 1 << 20

_APP_PROTOCOLS = {
    "kubernetes.io/h2c": "h2c",
    "kubernetes.io/ws": "http",
    "https": "https",
    "HTTPS": "https",
    "kubernetes.io/wss": "https",
    "grpc": "grpc",
}


class Server(NamedTuple):
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Backend:
    """One group of servers with its rules. Equal ones are one: the name is a function of the rest."""

    name: str
    service: Key | None = None
    """None: no servers, the lines answer."""
    port: str = ""
    """Name of the Service's port"""
    lines: tuple[str, ...] = ()
    """HAProxy's words, before the servers"""
    words: str = ""
    """Behind the address of each server"""
    sticky: bool = False
    users: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """One possibility of a group: all conditions hold, then one of the backends by weight."""

    conditions: tuple[str, ...]
    backends: tuple[tuple[str, int], ...]


@dataclass(slots=True)
class Routes:
    """From host and path to a backend, or to a group (its name begins with `?`) that decides further."""

    hosts: set[str] = field(default_factory=set)
    """Lower case: `a.example`, `*.example` (one label), `**.example` (any labels), or `-` for any."""
    exact: dict[tuple[str, str], str] = field(default_factory=dict)
    prefix: dict[tuple[str, str], str] = field(default_factory=dict)
    """(host, path without a final slash); longer paths win."""
    groups: dict[str, tuple[Choice, ...]] = field(default_factory=dict)
    fallback: str = NOT_FOUND
    """The backend of what matches nothing"""

    def copy(self) -> Routes:
        return Routes(set(self.hosts), dict(self.exact), dict(self.prefix), dict(self.groups), self.fallback)


@dataclass(slots=True)
class Frontend:
    """A port. With `streams` or `terminated` it looks at the TLS handshake first (SNI)."""

    address: str
    """Empty: all"""
    port: int
    secure: bool
    routes: Routes | None = field(default_factory=Routes)
    """None: no HTTP here"""
    sni: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Certificate file to the hosts that it serves; none: its own names"""
    authorities: str = ""
    """File of the authorities that clients' certificates come from; empty: clients need none"""
    lenient: bool = False
    """Clients with other certificates, or none, pass too"""
    streams: Routes | None = None
    """SNI to a backend that gets the TLS stream as it is"""
    terminated: Routes | None = None
    """SNI to a backend that gets what was in the TLS stream"""


Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Problem:
    ingress: Key
    reason: str
    message: str


@dataclass(slots=True)
class Routing:
    frontends: dict[Place, Frontend] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)
    certificates: dict[str, str] = field(default_factory=dict)
    """File name to PEM (certificates, then key; or authorities)."""
    owners: dict[str, set[Key]] = field(default_factory=dict)
    """Backend to the Ingresses that want it"""
    problems: list[Problem] = field(default_factory=list)
    claimed: list[Key] = field(default_factory=list)
    """The Ingresses that have at least one route."""

    def structure(self) -> tuple[Any, ...]:
        """What a running HAProxy cannot change."""
        return self.frontends, self.backends, sorted(self.certificates)


def protocol_of(port: Object, otherwise: str = "http") -> str:
    """http, https, h2c or grpc, as the Service's port says."""
    return _APP_PROTOCOLS.get(port.get("appProtocol") or "", otherwise)


SERVER_WORDS = {
    "http": "",
    "https": " ssl verify none",
    "h2c": " proto h2",
    "grpc": " proto h2",
    "grpcs": " ssl verify none alpn h2",
}


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
