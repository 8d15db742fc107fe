"""The Gateway API's objects as informers have them, read into the data plane's model, and their statuses written."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peavine.base.clock import REAL, Clock
from peavine.client.informer import Informer, InformerFactory
from peavine.ingress.gateways import crds
from peavine.ingress.gateways.conditions import Condition, good, merged
from peavine.ingress.gateways.listeners import Gateway
from peavine.ingress.gateways.objects import CONTROLLER, Objects, generation_of, key_of
from peavine.ingress.gateways.reader import Parent, Verdict, read_gateways
from peavine.ingress.model import Key, Routing
from peavine.ingress.settings import Settings
from peavine.ingress.statuses import StatusWriter, Target

Object = dict[str, Any]

VERSION = f"{crds.GROUP}/v1"
_PLURALS = {"HTTPRoute": "httproutes", "GRPCRoute": "grpcroutes", "TLSRoute": "tlsroutes"}
# What conformance tests would find to work; sorted, as the API wants it.
FEATURES = (
    "GRPCRoute",
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
    "TLSRoute",
)


class Gateways:
    """Every change of what it reads is told to `changed`; `read` and `report` are called by who loads HAProxy."""

    def __init__(
        self,
        informers: InformerFactory,
        settings: Settings,
        publish: Sequence[str],
        changed: Callable[[], None],
        statuses: StatusWriter,
        clock: Clock = REAL,
    ) -> None:
        self._settings, self._changed, self._statuses, self._clock = settings, changed, statuses, clock
        self._publish = [{"type": "IPAddress", "value": ip} for ip in publish]
        self._written: dict[str, Object] = {}
        self._classes = informers.informer(VERSION, "gatewayclasses")
        self._gateways = informers.informer(VERSION, "gateways")
        self._routes = {kind: informers.informer(VERSION, plural) for kind, plural in _PLURALS.items()}
        self._grants = informers.informer(VERSION, "referencegrants")
        self._namespaces = informers.informer("v1", "namespaces", transform=_labels)
        self._authorities = informers.informer("v1", "configmaps", transform=_authority)
        self._definitions = informers.informer(
            "apiextensions.k8s.io/v1", "customresourcedefinitions", transform=_annotations
        )
        others = (self._grants, self._namespaces, self._authorities, self._definitions)
        self.all: tuple[Informer, ...] = (self._classes, self._gateways, *self._routes.values(), *others)
        for informer in self.all:
            informer.add_handler(self._came, self._updated, self._came)

    def _came(self, obj: Object) -> None:
        # Of ConfigMaps only those with authorities are looked at.
        if obj.get("authority") != "":
            self._changed()

    def _updated(self, old: Object, new: Object) -> None:
        same = _without_status(old) == _without_status(new)
        ours = new.get("status") == self._written.get(new["metadata"].get("uid") or "")
        if not same or not (ours or old.get("status") == new.get("status")):
            self._came(new)

    def read(self, routing: Routing, services: Mapping[Key, Object], secrets: Mapping[Key, Object]) -> Verdict:
        """Adds to `routing`."""
        definitions = [d for d in self._definitions.list() if d["metadata"]["name"].endswith(f".{crds.GROUP}")]
        objects = Objects(
            self._classes.list(),
            self._gateways.list(),
            {kind: informer.list() for kind, informer in self._routes.items()},
            self._grants.list(),
            services,
            secrets,
            {key_of(c): c["authority"] for c in self._authorities.list() if c["authority"]},
            {n["metadata"]["name"]: n["labels"] for n in self._namespaces.list()},
            frozenset(d["bundle"] for d in definitions),
            usable,
        )
        return read_gateways(objects, routing, self._settings)

    def report(self, verdict: Verdict, routing: Routing) -> None:
        """Have written what changed in statuses."""
        now = datetime.datetime.fromtimestamp(self._clock.time(), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for item, conditions in verdict.classes:
            status = dict(item.get("status") or {})
            status["conditions"] = merged(status.get("conditions") or [], conditions, generation_of(item), now)
            status["supportedFeatures"] = [{"name": name} for name in FEATURES]
            self._write("gatewayclasses", item, status)
        for gateway in verdict.gateways:
            self._write("gateways", gateway.obj, self._gateway_status(gateway, routing, now))
        for kind, route, parents in verdict.routes:
            status = dict(route.get("status") or {})
            have = status.get("parents") or []
            status["parents"] = _parents(have, parents, generation_of(route), now)
            if have or parents:
                self._write(_PLURALS[kind], route, status)

    def _gateway_status(self, gateway: Gateway, routing: Routing, now: str) -> Object:
        generation = generation_of(gateway.obj)
        old = gateway.obj.get("status") or {}
        served = {x.name for x in gateway.served if all((a, x.port) in routing.frontends for a in gateway.addresses)}
        listeners = []
        known = {entry["name"]: entry for entry in old.get("listeners") or ()}
        for listener in gateway.listeners:
            conditions = (known.get(listener.name) or {}).get("conditions") or []
            wanted = listener.conditions(listener.name in served)
            listeners.append(
                {
                    "name": listener.name,
                    "supportedKinds": [{"group": crds.GROUP, "kind": kind} for kind in listener.kinds],
                    "attachedRoutes": listener.attached,
                    "conditions": merged(conditions, wanted, generation, now, ("OverlappingTLSConfig",)),
                }
            )
        own = [{"type": "IPAddress", "value": a} for a in gateway.addresses if a]
        addresses = own if gateway.chosen else self._publish or own
        conditions = merged(
            old.get("conditions") or [],
            _of_gateway(gateway, bool(served)),
            generation,
            now,
            ("InsecureFrontendValidationMode",),
        )
        if gateway.refused or gateway.unusable:
            addresses = []
        status = {**old, "listeners": listeners, "conditions": conditions, "addresses": addresses}
        return {key: value for key, value in status.items() if value != [] or key in old}

    def _write(self, plural: str, obj: Object, status: Object) -> None:
        if status == (obj.get("status") or {}):
            return
        meta = obj["metadata"]
        self._written[meta.get("uid") or ""] = status
        # Fails if somebody else wrote meanwhile: nobody's conditions may get lost.
        body = {"metadata": {"resourceVersion": meta.get("resourceVersion")}, "status": status}
        self._statuses.put(Target(VERSION, plural, meta.get("namespace") or "", meta["name"]), body)


def _of_gateway(gateway: Gateway, programmed: bool) -> list[Condition]:
    bad = [x.name for x in gateway.listeners if not x.accepted.true or x.conflicted.true]
    accepted = gateway.refused or good("Accepted")
    if bad and not gateway.refused:
        message = f"listeners that are not valid: {', '.join(bad)}"
        accepted = Condition("Accepted", len(bad) < len(gateway.listeners), "ListenersNotValid", message)
    if gateway.unusable is not None:
        done = gateway.unusable
    elif programmed:
        done = good("Programmed")
    else:
        done = Condition("Programmed", False, "Invalid", "no listener is served")
    conditions = [accepted, done]
    if any(x.lenient for x in gateway.listeners):
        conditions.append(Condition("InsecureFrontendValidationMode", True, "ConfigurationChanged"))
    return conditions


def _parents(have: list[Object], wanted: list[Parent], generation: int, now: str) -> list[Object]:
    """Entries of other controllers stay; ours are exactly the wanted ones."""
    result = [entry for entry in have if entry.get("controllerName") != CONTROLLER]
    ours = [entry for entry in have if entry.get("controllerName") == CONTROLLER]
    for parent in wanted:
        old = next((entry for entry in ours if entry.get("parentRef") == parent.reference), {})
        conditions = merged(old.get("conditions") or [], parent.conditions, generation, now, ("PartiallyInvalid",))
        result.append({"parentRef": parent.reference, "controllerName": CONTROLLER, "conditions": conditions})
    return result


def usable(address: str, port: int) -> str:
    """Why nothing can listen there; empty if it can, or if our HAProxy does (its sockets may be shared)."""
    family = socket.AF_INET6 if ":" in address or not address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind((address or "::", port))
    except (OSError, ValueError) as error:
        where = f"port {port}" if port else "address"
        return f"{where} {address}: {getattr(error, 'strerror', None) or error}".replace("  ", " ")
    return ""


def _without_status(obj: Object) -> Object:
    return {**obj, "status": None, "metadata": {**obj["metadata"], "resourceVersion": None, "managedFields": None}}


def _slim(obj: Object) -> Object:
    return {"metadata": {k: obj["metadata"].get(k) for k in ("name", "namespace", "uid", "resourceVersion")}}


def _labels(namespace: Object) -> Object:
    return {**_slim(namespace), "labels": namespace["metadata"].get("labels") or {}}


def _authority(config: Object) -> Object:
    return {**_slim(config), "authority": (config.get("data") or {}).get("ca.crt") or ""}


def _annotations(definition: Object) -> Object:
    bundle = (definition["metadata"].get("annotations") or {}).get(crds.BUNDLE) or ""
    return {**_slim(definition), "bundle": bundle}
