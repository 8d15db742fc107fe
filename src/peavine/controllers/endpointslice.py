"""EndpointSlices of Services with a selector: at most 100 endpoints a slice, as few writes as possible.

Upstream: pkg/controller/endpointslice and the endpointslice staging module; KEP-752, KEP-1672 (terminating), KEP-4444
(traffic distribution).
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from peavine.controllers import service_endpoints as rules
from peavine.controllers.controller import Context, Key, Object
from peavine.controllers.expectations import Expectations
from peavine.controllers.ownership import owner_reference
from peavine.controllers.service_pods import ServicePodsController
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now as stamp

MANAGED_BY = "endpointslice-controller.k8s.io"
LABEL_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
LABEL_SERVICE = "kubernetes.io/service-name"
LABEL_HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
ENDPOINTS_PER_SLICE_MAX = 100
ZONE = "topology.kubernetes.io/zone"
RESERVED_LABELS = {LABEL_MANAGED_BY, LABEL_SERVICE, LABEL_HEADLESS}
SAME_ZONE = ("PreferClose", "PreferSameZone")


class EndpointSliceController(ServicePodsController):
    name = "endpointslice-controller"
    account = "endpointslice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.nodes = self.read("v1", "nodes")
        self.slices = self.watch("discovery.k8s.io/v1", "endpointslices", keys=_service_of)
        self.slices.add_index("service", _service_of)
        self.expectations = Expectations(self.slices, self.clock)
        self.resource = self.client.resource("discovery.k8s.io/v1", "endpointslices")

    async def reconcile(self, key: Key) -> float | None:
        service = self.services.get(*key)
        existing = [s for s in self.slices.by_index("service", key) if "deletionTimestamp" not in s["metadata"]]
        if service is None:
            # The garbage collector takes the slices with their owner; deleting here ends traffic sooner.
            for slice_ in existing:
                await self._delete(key, slice_)
            self.expectations.forget(key)
            return None
        if not rules.selects_pods(service) or not self.expectations.satisfied(key):
            return None
        pods = self.pods_of(service)
        for family in rules.families(service):
            mine = [s for s in existing if s["addressType"] == family]
            await self._sync_family(key, service, family, pods, mine)
        for slice_ in existing:
            if slice_["addressType"] not in rules.families(service):
                await self._delete(key, slice_)
        return None

    async def _sync_family(
        self, key: Key, service: Object, family: str, pods: list[Object], existing: list[Object]
    ) -> None:
        wanted: dict[str, dict[str, Object]] = defaultdict(dict)
        ports_of: dict[str, list[Object]] = {}
        for pod in pods:
            if not rules.belongs(pod, terminating=True) or not rules.addresses(pod, family):
                continue
            ports = slice_ports(service, pod)
            group = json.dumps(ports, sort_keys=True)
            ports_of[group] = ports
            wanted[group][pod["metadata"]["uid"]] = self._endpoint(service, pod, family)
        if not wanted:
            group = json.dumps([])
            wanted[group], ports_of[group] = {}, []
        for group, endpoints in wanted.items():
            _add_hints(service, list(endpoints.values()))
            same = [s for s in existing if json.dumps(_ports(s), sort_keys=True) == group]
            await self._sync_group(key, service, family, ports_of[group], endpoints, same)
        for slice_ in existing:
            if json.dumps(_ports(slice_), sort_keys=True) not in wanted:
                await self._delete(key, slice_)

    async def _sync_group(
        self,
        key: Key,
        service: Object,
        family: str,
        ports: list[Object],
        wanted: dict[str, Object],
        existing: list[Object],
    ) -> None:
        """Keep endpoints where they are, drop and change in place, fill the fullest slice, then make new ones."""
        left = dict(wanted)
        plans: list[tuple[Object, list[Object]]] = []
        for slice_ in sorted(existing, key=lambda s: -len(s.get("endpoints") or ())):
            keep = []
            for endpoint in slice_.get("endpoints") or ():
                uid = (endpoint.get("targetRef") or {}).get("uid")
                if uid in left:
                    keep.append(left.pop(uid))
            plans.append((slice_, keep))
        remaining = list(left.values())
        for _, keep in plans:
            room = ENDPOINTS_PER_SLICE_MAX - len(keep)
            if room > 0 and remaining:
                keep.extend(remaining[:room])
                remaining = remaining[room:]
        fresh = [remaining[i : i + ENDPOINTS_PER_SLICE_MAX] for i in range(0, len(remaining), ENDPOINTS_PER_SLICE_MAX)]
        if not plans and not fresh:
            # A Service without endpoints has one empty slice: "known to have none" differs from "not known yet".
            fresh = [[]]
        kept = 0
        for slice_, endpoints in plans:
            if not endpoints and (kept or fresh or any(e for s, e in plans if s is not slice_)):
                await self._delete(key, slice_)
                continue
            kept += 1
            await self._update(key, service, slice_, ports, endpoints)
        for endpoints in fresh:
            await self._create(key, service, family, ports, endpoints)

    def _endpoint(self, service: Object, pod: Object, family: str) -> Object:
        serving = rules.serving(pod)
        terminating = "deletionTimestamp" in pod["metadata"]
        endpoint: Object = {
            "addresses": rules.addresses(pod, family)[:1],
            "conditions": {
                "ready": bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating),
                "serving": serving,
                "terminating": terminating,
            },
            "targetRef": rules.target_reference(pod),
        }
        if name := rules.hostname(pod, service):
            endpoint["hostname"] = name
        if node_name := pod["spec"].get("nodeName"):
            endpoint["nodeName"] = node_name
            node = self.nodes.get("", node_name)
            zone = ((node or {}).get("metadata", {}).get("labels") or {}).get(ZONE)
            if zone:
                endpoint["zone"] = zone
        return endpoint

    def _labels(self, service: Object) -> dict[str, str]:
        inherited = {k: v for k, v in (service["metadata"].get("labels") or {}).items() if k not in RESERVED_LABELS}
        headless = {LABEL_HEADLESS: ""} if rules.is_headless(service) else {}
        return {**inherited, **headless, LABEL_SERVICE: service["metadata"]["name"], LABEL_MANAGED_BY: MANAGED_BY}

    async def _create(
        self, key: Key, service: Object, family: str, ports: list[Object], endpoints: list[Object]
    ) -> None:
        name = service["metadata"]["name"]
        slice_ = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "generateName": f"{name}-",
                "namespace": key[0],
                "labels": self._labels(service),
                "annotations": {TRIGGER_TIME: stamp(self.clock.time())},
                "ownerReferences": [owner_reference(service)],
            },
            "addressType": family,
            "ports": ports,
            "endpoints": endpoints,
        }
        try:
            created = await self.resource.create(slice_)
        except ApiError as error:
            if error.code == 404 or (error.code == 403 and "being terminated" in error.message):
                return
            message = f"Failed to create EndpointSlice for Service {key[0]}/{name}: {error.message}"
            self.recorder.event(service, "Warning", "FailedToUpdateEndpointSlices", message)
            raise
        self.expectations.created(key, created)

    async def _update(
        self, key: Key, service: Object, slice_: Object, ports: list[Object], endpoints: list[Object]
    ) -> None:
        labels = self._labels(service)
        meta = slice_["metadata"]
        same = (
            (slice_.get("endpoints") or []) == endpoints
            and (meta.get("labels") or {}) == labels
            and _ports(slice_) == ports
        )
        if same:
            return
        annotations = {**(meta.get("annotations") or {}), TRIGGER_TIME: stamp(self.clock.time())}
        changed = {
            **slice_,
            "metadata": {**meta, "labels": labels, "annotations": annotations},
            "ports": ports,
            "endpoints": endpoints,
        }
        self.expectations.created(key, await self.resource.update(changed))

    async def _delete(self, key: Key, slice_: Object) -> None:
        meta = slice_["metadata"]
        try:
            await self.resource.delete(meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            return
        self.expectations.deleted(key, slice_)


def _service_of(slice_: Object) -> list[Key]:
    labels = slice_["metadata"].get("labels") or {}
    if labels.get(LABEL_MANAGED_BY) != MANAGED_BY or not labels.get(LABEL_SERVICE):
        return []
    return [(slice_["metadata"]["namespace"], labels[LABEL_SERVICE])]


def _ports(slice_: Object) -> list[Any]:
    return slice_.get("ports") or []


def slice_ports(service: Object, pod: Object) -> list[Object]:
    """The ports of the slice that `pod` belongs in; those whose name the pod does not know are left out."""
    ports = []
    for port in service["spec"].get("ports") or ():
        number = rules.port_number(pod, port)
        if number is None:
            continue
        entry = {"name": port.get("name", ""), "protocol": port.get("protocol", "TCP"), "port": number}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        ports.append(entry)
    return ports


def _add_hints(service: Object, endpoints: list[Object]) -> None:
    """Where traffic prefers to stay: each endpoint serves its own zone (or node), if every one has one."""
    preference = service["spec"].get("trafficDistribution")
    if preference in SAME_ZONE:
        for endpoint in endpoints:
            if "zone" in endpoint:
                endpoint["hints"] = {"forZones": [{"name": endpoint["zone"]}]}
    elif preference == "PreferSameNode":
        for endpoint in endpoints:
            hints: Object = {}
            if "nodeName" in endpoint:
                hints["forNodes"] = [{"name": endpoint["nodeName"]}]
            if "zone" in endpoint:
                hints["forZones"] = [{"name": endpoint["zone"]}]
            if hints:
                endpoint["hints"] = hints
