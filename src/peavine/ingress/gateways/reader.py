"""Gateways and routes to the data plane's model, and what their statuses shall say. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from peavine.ingress import mirror
from peavine.ingress.gateways import filters, hosts
from peavine.ingress.gateways.conditions import ACCEPTED, RESOLVED, Condition, good
from peavine.ingress.gateways.crds import GROUP, bundle, version_of
from peavine.ingress.gateways.filters import Unsupported
from peavine.ingress.gateways.listeners import Gateway, Listener, mark_conflicts, read_gateway
from peavine.ingress.gateways.matches import Candidate, Match, Offer, add_group, add_offers, grpc_match, http_match
from peavine.ingress.gateways.objects import (
    CONTROLLER,
    ROUTE_KINDS,
    Object,
    Objects,
    age_of,
    permitted,
)
from peavine.ingress.model import SERVER_WORDS, Backend, Choice, Frontend, Key, Place, Routes, Routing, protocol_of
from peavine.ingress.settings import Settings
from peavine.machinery.selectors import selector_of

FAILED = "failed"
UNAVAILABLE = "unavailable"
_BROKEN = {
    "HTTPRoute": Backend(FAILED, lines=('http-request return status 500 content-type text/plain string "no backend"',)),
    # gRPC's clients read 503 as UNAVAILABLE.
    "GRPCRoute": Backend(UNAVAILABLE, lines=("http-request return status 503",)),
    "TLSRoute": Backend("refused", lines=("mode tcp",)),
}


@dataclass(slots=True)
class Parent:
    """One entry of a route's status."""

    reference: Object
    conditions: list[Condition]


@dataclass(slots=True)
class Verdict:
    """What the statuses shall say."""

    classes: list[tuple[Object, list[Condition]]] = field(default_factory=list)
    gateways: list[Gateway] = field(default_factory=list)
    routes: list[tuple[str, Object, list[Parent]]] = field(default_factory=list)
    """Kind, route, entries; routes that name no Gateway of ours have none"""


@dataclass(slots=True)
class _Compiled:
    """A route's rules, and how its references went."""

    candidates: list[Candidate] = field(default_factory=list)
    resolved: Condition = RESOLVED
    dropped: list[str] = field(default_factory=list)
    rules: int = 0


def read_gateways(objects: Objects, routing: Routing, settings: Settings) -> Verdict:
    """Adds to `routing` what the Gateways ask for."""
    reader = _Reader(objects, routing, settings)
    return reader.read()


def classes_of(objects: Objects) -> list[tuple[Object, list[Condition]]]:
    found = []
    for item in objects.classes:
        if (item.get("spec") or {}).get("controllerName") != CONTROLLER:
            continue
        accepted = ACCEPTED
        if item["spec"].get("parametersRef"):
            accepted = Condition("Accepted", False, "InvalidParameters", "parameters are not supported")
        ours = version_of(bundle())
        if all(version_of(b)[:1] == ours[:1] and (1, 1) <= version_of(b)[:2] <= ours[:2] for b in objects.bundles):
            version = good("SupportedVersion")
        else:
            shown = ", ".join(sorted(b or "unknown" for b in objects.bundles))
            message = f"installed are {shown}; supported are v1.1 to {bundle()}"
            version = Condition("SupportedVersion", False, "UnsupportedVersion", message)
        found.append((item, [accepted, version]))
    return found


class _Reader:
    def __init__(self, objects: Objects, routing: Routing, settings: Settings) -> None:
        self.objects, self.routing, self.settings = objects, routing, settings
        self.gateways: dict[Key, Gateway] = {}
        self.offers: dict[tuple[Key, str], list[Offer]] = {}
        self._own: set[int] = set()

    def read(self) -> Verdict:
        verdict = Verdict(classes_of(self.objects))
        names = {item["metadata"]["name"] for item, conditions in verdict.classes if conditions[0].true}
        for gateway in sorted(self.objects.gateways, key=age_of):
            if gateway["spec"].get("gatewayClassName") in names:
                read = read_gateway(gateway, self.objects, self.routing, self.settings.listen)
                self._against_ingresses(read)
                self.gateways[read.key] = read
        mark_conflicts(self.gateways.values())
        everything = [(kind, route) for kind in ROUTE_KINDS for route in self.objects.routes.get(kind, ())]
        # The older of two routes comes first: of an HTTPRoute and a GRPCRoute with one host it alone is accepted.
        for kind, route in sorted(everything, key=lambda entry: age_of(entry[1])):
            parents = self._route(kind, route)
            verdict.routes.append((kind, route, parents))
        for known in self.gateways.values():
            for listener in known.served:
                for address in known.addresses:
                    self._serve(known, listener, address)
        verdict.gateways = list(self.gateways.values())
        return verdict

    def _against_ingresses(self, gateway: Gateway) -> None:
        for listener in gateway.listeners:
            for address in gateway.addresses:
                face = self.routing.frontends.get((address, listener.port))
                if face is not None and face.secure == (listener.protocol == "HTTP"):
                    message = f"Ingresses have port {listener.port} with another protocol"
                    listener.conflicted = Condition("Conflicted", True, "ProtocolConflict", message)

    # routes
    def _route(self, kind: str, route: Object) -> list[Parent]:
        references = [r for r in (route.get("spec") or {}).get("parentRefs") or () if self._meant(route, r) is not None]
        if not references:
            return []
        compiled = self._compile(kind, route)
        parents = []
        for reference in references:
            gateway = self._meant(route, reference)
            assert gateway is not None
            conditions = [self._attach(kind, route, gateway, reference, compiled), compiled.resolved]
            if compiled.dropped and conditions[0].true:
                message = "Dropped Rule: " + "; ".join(compiled.dropped)
                conditions.append(Condition("PartiallyInvalid", True, "UnsupportedValue", message))
            parents.append(Parent(reference, conditions))
        return parents

    def _meant(self, route: Object, reference: Object) -> Gateway | None:
        if reference.get("group", GROUP) != GROUP or reference.get("kind", "Gateway") != "Gateway":
            return None
        return self.gateways.get((reference.get("namespace") or route["metadata"]["namespace"], reference["name"]))

    def _attach(self, kind: str, route: Object, gateway: Gateway, reference: Object, compiled: _Compiled) -> Condition:
        """Offers the route to the listeners that take it; the words for how that went."""

        def no(reason: str, message: str) -> Condition:
            return Condition("Accepted", False, reason, message)

        name, port = reference.get("sectionName"), reference.get("port")
        listeners = [x for x in gateway.listeners if name in (None, "", x.name) and port in (None, x.port)]
        if not listeners:
            return no("NoMatchingParent", f"Gateway {gateway.key[1]} has no such listener")
        listeners = [x for x in listeners if kind in x.kinds and self._allowed(x, gateway, route)]
        if not listeners:
            return no("NotAllowedByListeners", f"no listener of Gateway {gateway.key[1]} takes this route")
        asked = [h.lower() for h in route["spec"].get("hostnames") or []] or [""]
        shared = {
            x.name: [(h, a) for a in asked if (h := hosts.intersection(x.host, a)) is not None] for x in listeners
        }
        if not any(shared.values()):
            return no("NoMatchingListenerHostname", "no listener has a hostname of this route")
        if compiled.rules and len(compiled.dropped) == compiled.rules:
            return no("UnsupportedValue", "; ".join(compiled.dropped))
        taken = False
        for listener in listeners:
            offers = self.offers.setdefault((gateway.key, listener.name), [])
            pairs = shared[listener.name]
            if not pairs:
                continue
            if any(o.kind != kind and hosts.intersection(o.host, h) is not None for o in offers for h, _ in pairs):
                continue
            taken = True
            listener.attached += 1
            offers += [Offer(host, ask, c, kind) for host, ask in pairs for c in compiled.candidates]
        if not taken:
            return no("HostnameConflict", "an older route of another kind has a hostname of this one")
        return ACCEPTED

    def _allowed(self, listener: Listener, gateway: Gateway, route: Object) -> bool:
        namespace, rule = route["metadata"]["namespace"], listener.namespaces.get("from") or "Same"
        if rule == "Selector":
            labels = dict(self.objects.namespaces.get(namespace) or {})
            selector = listener.namespaces.get("selector")
            return selector is not None and selector_of(selector).matches(labels)
        return rule == "All" or (rule == "Same" and namespace == gateway.key[0])

    # rules
    def _compile(self, kind: str, route: Object) -> _Compiled:
        result = _Compiled()
        created, key = age_of(route)
        rules = route["spec"].get("rules") or ([{}] if kind == "GRPCRoute" else [])
        result.rules = len(rules)
        for place, rule in enumerate(rules):
            try:
                matches = self._matches(kind, rule)
            except Unsupported as error:
                result.dropped.append(f"rule {place}: {error}")
                continue
            try:
                backends = self._backends(kind, key, rule, result)
            except Unsupported as error:
                # A filter must not be skipped: who would have met it gets an error.
                result.dropped.append(f"rule {place}: {error}")
                backends = ((self._add(_BROKEN[kind]), 1),)
            for number, match in enumerate(matches):
                result.candidates.append(Candidate(match, (created, key, place, number), backends))
        return result

    def _matches(self, kind: str, rule: Object) -> list[Match]:
        if kind == "TLSRoute":
            return [http_match({})]
        read = http_match if kind == "HTTPRoute" else grpc_match
        return [read(match) for match in rule.get("matches") or [{}]]

    def _backends(self, kind: str, route: Key, rule: Object, result: _Compiled) -> tuple[tuple[str, int], ...]:
        """Names and weights. Raises Unsupported."""
        prefix = _prefix(rule) if kind == "HTTPRoute" else None
        entries = rule.get("filters") or []
        lines = [*filters.lines_of(entries, prefix), *filters.timing_of(rule)]
        lines += self._mirrors(kind, route, entries, result)
        if filters.answers(entries):
            return ((self._add(_named("answer", None, "", lines, "")), 1),)
        found: dict[str, int] = {}
        for reference in rule.get("backendRefs") or ():
            weight = 1 if reference.get("weight") is None else reference["weight"]
            more = reference.get("filters") or []
            own = [*lines, *filters.lines_of(more, prefix), *self._mirrors(kind, route, more, result)]
            name = self._backend(kind, route, reference, own, result)
            if weight:
                found[name] = found.get(name, 0) + weight
        if not found:
            return ((self._add(_BROKEN[kind]), 1),)
        return tuple(found.items())

    def _mirrors(self, kind: str, route: Key, entries: list[Object], result: _Compiled) -> list[str]:
        """Raises Unsupported. A mirror whose Service is not there is left out, and told of."""
        lines: list[str] = []
        for entry in entries:
            if entry["type"] != "RequestMirror":
                continue
            name = self._backend(kind, route, entry["requestMirror"]["backendRef"], [], result)
            backend = self.routing.backends[name]
            if kind != "HTTPRoute" or backend.words:
                raise Unsupported("mirrors speak plain HTTP/1.1 only")
            if backend.service is not None:
                lines += mirror.lines_to(name, filters.share_of(entry["requestMirror"]))
        return lines

    def _backend(self, kind: str, route: Key, reference: Object, lines: list[str], result: _Compiled) -> str:
        def broken(reason: str, message: str) -> str:
            result.resolved = Condition("ResolvedRefs", False, reason, message)
            return self._add(_BROKEN[kind])

        target = (reference.get("namespace") or route[0], reference["name"])
        where = f"Service {target[0]}/{target[1]}"
        if (reference.get("group") or "", reference.get("kind") or "Service") != ("", "Service"):
            return broken("InvalidKind", f"backends are Services, not {reference.get('kind')}")
        if not permitted(self.objects.grants, kind, route[0], "", "Service", target):
            return broken("RefNotPermitted", f"no ReferenceGrant allows {where}")
        service = self.objects.services.get(target)
        if service is None:
            return broken("BackendNotFound", f"{where} does not exist")
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return broken("BackendNotFound", f"{where} is an ExternalName, which has no endpoints here")
        port = next((p for p in spec.get("ports") or () if p["port"] == reference.get("port")), None)
        if port is None:
            return broken("BackendNotFound", f"{where} has no port {reference.get('port')}")
        if kind == "TLSRoute":
            return self._add(_named(f"{target[0]}_{target[1]}", target, port.get("name", ""), ["mode tcp", *lines], ""))
        protocol = protocol_of(port, "grpc" if kind == "GRPCRoute" else "http")
        if kind == "GRPCRoute" and protocol == "https":
            protocol = "grpcs"
        if kind == "GRPCRoute" and protocol == "http":
            return broken("UnsupportedProtocol", f"{where} port {port['port']} does not speak gRPC")
        words = SERVER_WORDS[protocol]
        return self._add(_named(f"{target[0]}_{target[1]}", target, port.get("name", ""), lines, words))

    def _add(self, backend: Backend) -> str:
        self.routing.backends[backend.name] = backend
        return backend.name

    # the data plane
    def _serve(self, gateway: Gateway, listener: Listener, address: str) -> None:
        place = (address, listener.port)
        face = self._face(place, listener)
        others = [x for x in self._at(place) if x is not listener]
        offers = self.offers.get((gateway.key, listener.name), [])
        # A host belongs to the listener that names it most precisely, whatever routes the others have.
        isolated = [o for o in offers if not any(_takes(other, listener, o.host) for other in others)]
        if listener.protocol == "TLS":
            self._serve_streams(face, listener, isolated)
            return
        assert face.routes is not None
        add_offers(face.routes, isolated, [listener.host])
        for file in listener.files:
            own = (listener.host,) if listener.host else ()
            have = face.sni.get(file)
            face.sni[file] = () if not own or have == () else tuple(dict.fromkeys((*(have or ()), *own)))
        if listener.authorities:
            face.authorities, face.lenient = listener.authorities, listener.lenient

    def _serve_streams(self, face: Frontend, listener: Listener, offers: list[Offer]) -> None:
        if listener.passthrough:
            table = face.streams = face.streams or Routes()
        else:
            table = face.terminated = face.terminated or Routes()
            for file in listener.files:
                names = tuple(o.host for o in offers if o.host) or ((listener.host,) if listener.host else ())
                face.sni[file] = tuple(dict.fromkeys((*face.sni.get(file, ()), *names)))
        for offer in sorted(offers, key=lambda o: o.candidate.age):
            host, backends = hosts.place_of(offer.host), offer.candidate.backends
            table.hosts.add(host)
            name = backends[0][0] if len(backends) == 1 else add_group(table, (Choice((), backends),))
            table.exact.setdefault((host, ""), name)

    def _at(self, place: Place) -> list[Listener]:
        return [
            listener
            for gateway in self.gateways.values()
            for listener in gateway.served
            for address in gateway.addresses
            if (address, listener.port) == place
        ]

    def _face(self, place: Place, listener: Listener) -> Frontend:
        face = self.routing.frontends.get(place)
        if face is None:
            face = self.routing.frontends[place] = Frontend(*place, listener.protocol != "HTTP")
            if not any(x.protocol in ("HTTP", "HTTPS") for x in self._at(place)):
                face.routes = None
        elif face.routes is not None and id(face) not in self._own:
            # Until now it was the Ingresses', perhaps of two ports.
            face.routes = face.routes.copy()
        self._own.add(id(face))
        return face


def _takes(other: Listener, listener: Listener, host: str) -> bool:
    """Whether the hosts are another listener's, because that names them more precisely."""
    if other.protocol != listener.protocol and "TLS" not in (other.protocol, listener.protocol):
        return False
    return hosts.covers(other.host, host) and hosts.specificity(other.host) > hosts.specificity(listener.host)


def _prefix(rule: Object) -> str | None:
    paths = [m.get("path") or {"type": "PathPrefix", "value": "/"} for m in rule.get("matches") or [{}]]
    if len(paths) != 1 or paths[0].get("type", "PathPrefix") != "PathPrefix":
        return None
    value: str = paths[0].get("value", "/")
    return value


def _named(prefix: str, service: Key | None, port: str, lines: list[str], words: str) -> Backend:
    distinct = hashlib.sha256(repr((service, port, lines, words)).encode()).hexdigest()[:10]
    return Backend(f"{prefix}_{port}_{distinct}", service, port, tuple(lines), words)
