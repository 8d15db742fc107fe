"""EndpointSlices for Endpoints that people wrote by hand, for Services without a selector.

Upstream: pkg/controller/endpointslicemirroring. One slice for each address family and set of ports.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from typing import Any

from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.ownership import owner_reference
from peavine.machinery.errors import ApiError

API = "discovery.k8s.io/v1"
MANAGED_BY, MANAGER = "endpointslice.kubernetes.io/managed-by", "endpointslicemirroring-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"
ENDPOINTS_MAX = 1000


class EndpointSliceMirroringController(Controller):
    name = "endpointslice-mirroring-controller"
    account = "endpointslicemirroring-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.endpoints = self.watch("v1", "endpoints")
        self.services = self.watch("v1", "services")
        self.slices = self.watch(API, "endpointslices", keys=_mirrored)
        self.resource = self.client.resource(API, "endpointslices")

    async def reconcile(self, key: Key) -> float | None:
        endpoints, service = self.endpoints.get(*key), self.services.get(*key)
        mine = [
            s
            for s in self.slices.list(key[0])
            if (labels := s["metadata"].get("labels") or {}).get(SERVICE_NAME) == key[1]
            and labels.get(MANAGED_BY) == MANAGER
        ]
        wanted: dict[str, Object] = {}
        if endpoints is not None and service is not None and _to_mirror(endpoints, service):
            wanted = {_signature(s): s for s in slices_for(endpoints)}
        present = {_signature(s): s for s in mine}
        for signature, made in wanted.items():
            old = present.pop(signature, None)
            if old is None:
                await self.resource.create(made)
            elif any(old.get(part) != made.get(part) for part in ("endpoints", "ports")):
                await self.resource.update({**made, "metadata": {**old["metadata"], **_labels(made)}})
        for old in present.values():
            try:
                meta = old["metadata"]
                await self.resource.delete(meta["name"], meta["namespace"], uid=meta["uid"])
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
        return None


def _mirrored(found: Object) -> list[Key]:
    labels = found["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER or SERVICE_NAME not in labels:
        return []
    return [(found["metadata"]["namespace"], labels[SERVICE_NAME])]


def _to_mirror(endpoints: Object, service: Object) -> bool:
    meta = endpoints["metadata"]
    if (meta.get("labels") or {}).get(SKIP) == "true" or LEADER in (meta.get("annotations") or {}):
        return False
    return not service["spec"].get("selector")


def slices_for(endpoints: Object) -> list[Object]:
    """What mirrors these Endpoints. Pure."""
    namespace, name = key_of(endpoints)
    grouped: dict[str, Object] = {}
    for subset in endpoints.get("subsets") or ():
        ports = [
            dict({"name": p.get("name", ""), **p, "protocol": p.get("protocol", "TCP")}.items())
            for p in subset.get("ports") or ()
        ]
        for part, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(part) or ():
                family = f"IPv{ipaddress.ip_address(address['ip']).version}"
                key = json.dumps([family, sorted(ports, key=lambda p: (p["name"], p.get("port", 0)))], sort_keys=True)
                made = grouped.setdefault(key, _slice(endpoints, namespace, name, family, ports))
                if len(made["endpoints"]) < ENDPOINTS_MAX:
                    made["endpoints"].append(_endpoint(address, ready))
    return list(grouped.values())


def _slice(endpoints: Object, namespace: str, name: str, family: str, ports: list[Object]) -> Object:
    meta = endpoints["metadata"]
    labels = {**(meta.get("labels") or {}), SERVICE_NAME: name, MANAGED_BY: MANAGER}
    annotations = {
        k: v
        for k, v in (meta.get("annotations") or {}).items()
        if k not in (LAST_CHANGE, "kubectl.kubernetes.io/last-applied-configuration")
    }
    owner = owner_reference({**endpoints, "apiVersion": "v1", "kind": "Endpoints"})
    made: Object = {
        "apiVersion": API,
        "kind": "EndpointSlice",
        "metadata": {"generateName": f"{name}-", "namespace": namespace, "labels": labels, "ownerReferences": [owner]},
        "addressType": family,
        "endpoints": [],
        "ports": ports,
    }
    if annotations:
        made["metadata"]["annotations"] = annotations
    return made


def _endpoint(address: Object, ready: bool) -> Object:
    made: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for part in ("hostname", "nodeName", "targetRef"):
        if address.get(part):
            made[part] = address[part]
    return made


def _signature(found: Object) -> str:
    ports = sorted(
        (p.get("name", ""), p.get("port", 0), p.get("protocol", "TCP"), p.get("appProtocol", ""))
        for p in found.get("ports") or ()
    )
    return hashlib.sha1(json.dumps([found["addressType"], ports]).encode()).hexdigest()


def _labels(made: Object) -> dict[str, Any]:
    return {part: made["metadata"][part] for part in ("labels", "annotations") if part in made["metadata"]}
