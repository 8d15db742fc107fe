"""Gateways and their listeners: what of them can be served, and the words for what cannot. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from peavine.ingress.gateways import hosts
from peavine.ingress.gateways.conditions import ACCEPTED, RESOLVED, Condition, good
from peavine.ingress.gateways.crds import GROUP
from peavine.ingress.gateways.objects import Object, Objects, key_of, permitted
from peavine.ingress.model import Key, Routing, pem_of

NO_CONFLICT = Condition("Conflicted", False, "NoConflicts")

KINDS = {"HTTP": ("HTTPRoute", "GRPCRoute"), "HTTPS": ("HTTPRoute", "GRPCRoute"), "TLS": ("TLSRoute",)}


@dataclass(slots=True)
class Listener:
    name: str
    host: str
    port: int
    protocol: str
    """Upper case"""
    passthrough: bool
    kinds: tuple[str, ...]
    """Those that may attach"""
    namespaces: Object
    files: list[str] = field(default_factory=list)
    """Certificates"""
    authorities: str = ""
    lenient: bool = False
    accepted: Condition = ACCEPTED
    resolved: Condition = RESOLVED
    conflicted: Condition = NO_CONFLICT
    overlapping: str = ""
    attached: int = 0

    @property
    def served(self) -> bool:
        """Whether it gets a place on the data plane. Wrong kinds of routes do not keep it from it."""
        blocked = not self.resolved.true and self.resolved.reason != "InvalidRouteKinds"
        return self.accepted.true and not self.conflicted.true and not (blocked and not self.files)

    def conditions(self, programmed: bool) -> list[Condition]:
        done = good("Programmed") if programmed else Condition("Programmed", False, "Invalid", self._why())
        found = [self.accepted, done, self.resolved, self.conflicted]
        if self.overlapping:
            found.append(Condition("OverlappingTLSConfig", True, "OverlappingHostnames", self.overlapping))
        return found

    def _why(self) -> str:
        return next((c.message for c in (self.accepted, self.resolved) if not c.true), self.conflicted.message)


@dataclass(slots=True)
class Gateway:
    key: Key
    obj: Object
    listeners: list[Listener]
    addresses: list[str]
    """Where it listens; empty strings: everywhere"""
    chosen: bool = False
    """Whether the Gateway names its addresses"""
    refused: Condition | None = None
    """Accepted, and why not, where the whole is refused"""
    unusable: Condition | None = None
    """Programmed, and why not"""

    @property
    def served(self) -> list[Listener]:
        return [] if self.refused or self.unusable else [item for item in self.listeners if item.served]


def read_gateway(gateway: Object, objects: Objects, routing: Routing, listen: str) -> Gateway:
    """Certificates go to `routing`. Conflicts with other Gateways are not seen here."""
    spec = gateway["spec"]
    key = key_of(gateway)
    result = Gateway(key, gateway, [], [listen])
    if (spec.get("infrastructure") or {}).get("parametersRef"):
        result.refused = Condition("Accepted", False, "InvalidParameters", "parameters are not supported")
    _addresses(result, spec.get("addresses") or [], objects)
    for entry in spec["listeners"]:
        result.listeners.append(_listener(key, entry, objects, routing))
        _validation(key, spec, result.listeners[-1], objects, routing)
    for address in result.addresses:
        for listener in result.listeners:
            if listener.accepted.true and not result.unusable and (why := objects.usable(address, listener.port)):
                listener.accepted = Condition("Accepted", False, "PortUnavailable", why)
    _conflicts(result.listeners)
    return result


def _addresses(gateway: Gateway, wanted: list[Object], objects: Objects) -> None:
    if not wanted:
        return
    gateway.addresses, gateway.chosen = [], True
    for entry in wanted:
        type_, value = entry.get("type") or "IPAddress", entry.get("value") or ""
        if type_ != "IPAddress":
            gateway.refused = Condition("Accepted", False, "UnsupportedAddress", f"addresses of type {type_}")
        elif not value:
            gateway.unusable = Condition("Programmed", False, "AddressNotAssigned", "an address must have a value")
        elif why := objects.usable(value, 0):
            gateway.unusable = Condition("Programmed", False, "AddressNotUsable", why)
        else:
            gateway.addresses.append(value)


def _listener(gateway: Key, entry: Object, objects: Objects, routing: Routing) -> Listener:
    protocol = entry["protocol"].upper()
    tls = entry.get("tls") or {}
    allowed = entry.get("allowedRoutes") or {}
    wanted = [(kind.get("group", GROUP), kind["kind"]) for kind in allowed.get("kinds") or ()]
    possible = KINDS.get(protocol, ())
    listener = Listener(
        entry["name"],
        (entry.get("hostname") or "").lower(),
        entry["port"],
        protocol,
        tls.get("mode") == "Passthrough",
        tuple(kind for kind in possible if not wanted or (GROUP, kind) in wanted),
        allowed.get("namespaces") or {},
    )
    if protocol not in KINDS:
        message = f"protocol {entry['protocol']} is not supported"
        listener.accepted = Condition("Accepted", False, "UnsupportedProtocol", message)
        return listener
    if protocol == "HTTPS" and not tls:
        listener.accepted = Condition("Accepted", False, "UnsupportedValue", "HTTPS needs tls")
    odd = [kind for group, kind in wanted if group != GROUP or kind not in possible]
    if odd:
        message = f"routes of kind {', '.join(odd)} cannot attach to protocol {protocol}"
        listener.resolved = Condition("ResolvedRefs", False, "InvalidRouteKinds", message)
    if protocol in ("HTTPS", "TLS") and not listener.passthrough:
        _certificates(gateway, tls.get("certificateRefs") or [], listener, objects, routing)
    return listener


def _certificates(
    gateway: Key, references: list[Object], listener: Listener, objects: Objects, routing: Routing
) -> None:
    for reference in references:
        target = (reference.get("namespace") or gateway[0], reference["name"])
        kind = (reference.get("group") or "", reference.get("kind") or "Secret")
        where = f"Secret {target[0]}/{target[1]}"
        reason, message = "InvalidCertificateRef", ""
        if kind != ("", "Secret"):
            message = f"certificates are Secrets, not {kind[1]}"
        elif not permitted(objects.grants, "Gateway", gateway[0], "", "Secret", target):
            reason, message = "RefNotPermitted", f"no ReferenceGrant allows {where}"
        elif (secret := objects.secrets.get(target)) is None:
            message = f"{where} does not exist"
        else:
            try:
                file = f"{target[0]}_{target[1]}.pem"
                routing.certificates[file] = pem_of(secret)
                listener.files.append(file)
            except ValueError as error:
                message = f"{where}: {error}"
        if message:
            listener.resolved = Condition("ResolvedRefs", False, reason, message)
    if not references:
        listener.resolved = Condition("ResolvedRefs", False, "InvalidCertificateRef", "no certificate is named")


def _validation(gateway: Key, spec: Object, listener: Listener, objects: Objects, routing: Routing) -> None:
    """Certificates that clients must show (spec.tls.frontend)."""
    front = (spec.get("tls") or {}).get("frontend") or {}
    if not front or listener.protocol != "HTTPS":
        return
    own = next((p["tls"] for p in front.get("perPort") or () if p["port"] == listener.port), front.get("default") or {})
    validation = own.get("validation")
    if not validation:
        return
    parts = []
    for reference in validation["caCertificateRefs"]:
        target = (reference.get("namespace") or gateway[0], reference["name"])
        where = f"ConfigMap {target[0]}/{target[1]}"
        if (reference.get("group") or "", reference["kind"]) != ("", "ConfigMap"):
            reason, message = "InvalidCACertificateKind", f"authorities are in ConfigMaps, not in a {reference['kind']}"
        elif not permitted(objects.grants, "Gateway", gateway[0], "", "ConfigMap", target):
            reason, message = "RefNotPermitted", f"no ReferenceGrant allows {where}"
        elif "BEGIN CERTIFICATE" not in (found := objects.authorities.get(target, "")):
            reason, message = "InvalidCACertificateRef", f"{where} does not exist, or has no certificate under ca.crt"
        else:
            parts.append(found.strip() + "\n")
            continue
        listener.resolved = Condition("ResolvedRefs", False, reason, message)
    if not parts:
        message = "no authority for clients' certificates is usable"
        listener.accepted = Condition("Accepted", False, "NoValidCACertificate", message)
        return
    text = "".join(parts)
    listener.authorities = f"authorities_{hashlib.sha256(text.encode()).hexdigest()[:12]}.pem"
    listener.lenient = validation.get("mode") == "AllowInsecureFallback"
    routing.certificates[listener.authorities] = text


def _conflicts(listeners: list[Listener]) -> None:
    """Within one Gateway nobody wins."""
    for one in listeners:
        for other in listeners:
            if one is other or one.port != other.port or not (one.accepted.true and other.accepted.true):
                continue
            if (why := clash(one, other)) is not None:
                one.conflicted = why
            elif one.protocol == other.protocol == "HTTPS" and hosts.intersection(one.host, other.host) is not None:
                one.overlapping = f"listener {other.name} has hostnames of this one"


def clash(one: Listener, other: Listener) -> Condition | None:
    """Why two listeners cannot share a port."""
    if ("HTTP" in (one.protocol, other.protocol)) and one.protocol != other.protocol:
        message = f"port {one.port} is {other.protocol} for listener {other.name}"
        return Condition("Conflicted", True, "ProtocolConflict", message)
    if one.host == other.host:
        message = f"port {one.port} has hostname {one.host or '(any)'} in listener {other.name} too"
        return Condition("Conflicted", True, "HostnameConflict", message)
    return None


def mark_conflicts(gateways: Iterable[Gateway]) -> None:
    """Among Gateways that listen at the same place, oldest first, the older keeps it."""
    taken: list[tuple[str, Listener, Gateway]] = []
    for gateway in gateways:
        served = gateway.served
        for listener in served:
            for address in gateway.addresses:
                for there, other, owner in taken:
                    if there != address or other.port != listener.port or owner is gateway:
                        continue
                    if (why := clash(listener, other)) is not None:
                        words = f"{why.message} of Gateway {'/'.join(owner.key)}"
                        listener.conflicted = why._replace(message=words)
        taken += [(address, item, gateway) for address in gateway.addresses for item in gateway.served]
