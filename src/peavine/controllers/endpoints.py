"""Endpoints (the older form) of Services with a selector.

Upstream: pkg/controller/endpoint. Subsets: addresses that share ports are one subset; at most 1,000 addresses.
"""

from __future__ import annotations

import json
from typing import Any

from peavine.controllers import service_endpoints as rules
from peavine.controllers.controller import Context, Key, Object
from peavine.controllers.endpointslice import LABEL_HEADLESS, TRIGGER_TIME
from peavine.controllers.service_pods import ServicePodsController
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now as stamp

ADDRESSES_MAX = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
LABEL_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGED_BY = "endpoint-controller"


class EndpointsController(ServicePodsController):
    name = "endpoints-controller"
    account = "endpoint-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.endpoints = self.watch("v1", "endpoints")
        self.resource = self.client.resource("v1", "endpoints")

    async def reconcile(self, key: Key) -> float | None:
        service, current = self.services.get(*key), self.endpoints.get(*key)
        if service is None:
            if current is not None and (current["metadata"].get("labels") or {}).get(LABEL_MANAGED_BY) == MANAGED_BY:
                await self._delete(current)
            return None
        if not rules.selects_pods(service):
            return None
        pods = self.pods_of(service)
        subsets, left_out = subsets_of(service, pods)
        labels = {k: v for k, v in (service["metadata"].get("labels") or {}).items() if k != LABEL_HEADLESS}
        labels[LABEL_MANAGED_BY] = MANAGED_BY
        if rules.is_headless(service):
            labels[LABEL_HEADLESS] = ""
        await self._write(key, current, subsets, labels, "truncated" if left_out else "")
        return None

    async def _write(
        self, key: Key, current: Object | None, subsets: list[Object], labels: dict[str, str], over: str
    ) -> None:
        old_meta = current["metadata"] if current else {}
        annotations = dict(old_meta.get("annotations") or {})
        if (
            current is not None
            and (current.get("subsets") or []) == subsets
            and (old_meta.get("labels") or {}) == labels
            and annotations.get(OVER_CAPACITY, "") == over
        ):
            return
        annotations.pop(OVER_CAPACITY, None)
        annotations |= {TRIGGER_TIME: stamp(self.clock.time())}
        if over:
            annotations[OVER_CAPACITY] = over
        if current is None:
            meta = {"name": key[1], "namespace": key[0], "labels": labels, "annotations": annotations}
            body = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": subsets}
            try:
                await self.resource.create(body)
            except ApiError as error:
                if error.code != 404 and not (error.code == 403 and "being terminated" in error.message):
                    raise
            return
        meta = {**old_meta, "labels": labels, "annotations": annotations}
        await self.resource.update({**current, "metadata": meta, "subsets": subsets})

    async def _delete(self, current: Object) -> None:
        meta = current["metadata"]
        try:
            await self.resource.delete(meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise


def subsets_of(service: Object, pods: list[Object]) -> tuple[list[Object], int]:
    """The subsets in canonical order, and how many addresses the limit left out."""
    unready_too = bool(service["spec"].get("publishNotReadyAddresses"))
    family = rules.families(service)[0]
    groups: dict[str, Object] = {}
    count = left_out = 0
    for pod in sorted(pods, key=lambda p: p["metadata"]["name"]):
        ips = rules.addresses(pod, family)
        if not ips or not rules.belongs(pod, terminating=unready_too):
            continue
        if count >= ADDRESSES_MAX:
            left_out += 1
            continue
        count += 1
        ports = _ports(service, pod)
        subset = groups.setdefault(json.dumps(ports), {"addresses": [], "notReadyAddresses": [], "ports": ports})
        ready = unready_too or rules.serving(pod)
        subset["addresses" if ready else "notReadyAddresses"].append(_address(service, pod, ips[0]))
    subsets = []
    for group in sorted(groups):
        subset = {k: v for k, v in groups[group].items() if v}
        for part in ("addresses", "notReadyAddresses"):
            if part in subset:
                subset[part].sort(key=lambda a: (a["ip"], a["targetRef"]["uid"]))
        subsets.append(subset)
    return subsets, left_out


def _ports(service: Object, pod: Object) -> list[Any]:
    ports = []
    for port in service["spec"].get("ports") or ():
        number = rules.port_number(pod, port)
        if number is not None:
            entry = {"name": port.get("name"), "port": number, "protocol": port.get("protocol", "TCP")}
            entry["appProtocol"] = port.get("appProtocol")
            ports.append({k: v for k, v in entry.items() if v})
    return ports


def _address(service: Object, pod: Object, ip: str) -> Object:
    address: Object = {"ip": ip}
    if name := rules.hostname(pod, service):
        address["hostname"] = name
    if node := pod["spec"].get("nodeName"):
        address["nodeName"] = node
    return {**address, "targetRef": rules.target_reference(pod)}
