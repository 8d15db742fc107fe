"""The `kube-dns` Service and this process's EndpointSlice: how pods reach the server at the cluster's DNS address.

There is no controller behind that Service: the DNS processes of all nodes see to it that the endpoint of a lost node
goes. Each writes the same of every slice, so it does not matter which one does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock, wait_until
from peavine.client.informer import InformerFactory
from peavine.client.rest import Resource
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
SERVICE = "kube-dns"
MANAGER = "peavine-dns"
# Somebody may delete what we published.
look_seconds = 30.0


class Publisher:
    """Keeps Service and slices as they should be. A `kube-dns` with a selector belongs to somebody else and is
    left alone. Make it before the informers run.
    """

    def __init__(
        self,
        informers: InformerFactory,
        node_name: str,
        address: str,
        port: int,
        service_ip: str = "",
        clock: Clock = REAL,
    ) -> None:
        self.node_name, self.address, self.port, self.service_ip = node_name, address, port, service_ip
        self.client, self.clock = informers.client, clock
        self._wake = asyncio.Event()
        self._nodes = informers.informer("v1", "nodes", transform=_slim)
        self._nodes.add_handler(
            lambda _: self._wake.set(), lambda old, new: self._node_changed(old, new), lambda _: self._wake.set()
        )

    def _node_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        if old["ready"] != new["ready"]:
            self._wake.set()

    @property
    def slice_name(self) -> str:
        return f"{SERVICE}-{self.node_name}"

    async def run(self) -> None:
        await self._nodes.synced.wait()
        backoff = Backoff(first=0.1, most=30.0)
        while True:
            self._wake.clear()
            try:
                await self.publish()
                backoff.forget()
                await wait_until(self._wake.wait(), look_seconds, self.clock)
            except (ApiError, Unreachable, OSError) as error:
                log.warning("publishing the DNS endpoint: %s", error)
                await self.clock.sleep(backoff.next())

    async def publish(self) -> None:
        services = self.client.resource("v1", "services")
        try:
            service = await services.get(SERVICE, NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            if not self.service_ip:
                log.info("no Service %s/%s and no --service-ip: not published", NAMESPACE, SERVICE)
                return
            service = await services.create(self.service(), NAMESPACE)
            log.info("made Service %s/%s at %s", NAMESPACE, SERVICE, self.service_ip)
        if (service.get("spec") or {}).get("selector"):
            log.info("Service %s/%s has a selector: somebody else answers", NAMESPACE, SERVICE)
            return
        slices = self.client.resource("discovery.k8s.io/v1", "endpointslices")
        listed = await slices.list(NAMESPACE, label_selector=f"endpointslice.kubernetes.io/managed-by={MANAGER}")
        found = {piece["metadata"]["name"]: piece for piece in listed["items"] or ()}
        wanted = self.slice(service)
        own = found.pop(self.slice_name, None)
        if own is not None and own["addressType"] != wanted["addressType"]:
            await slices.delete(self.slice_name, NAMESPACE)
            own = None
        if own is None:
            await slices.create(wanted, NAMESPACE)
            log.info("published %s port %d", self.address, self.port)
        elif any(own.get(part) != wanted[part] for part in ("endpoints", "ports")):
            changes = {part: wanted[part] for part in ("endpoints", "ports")}
            await slices.patch(self.slice_name, changes, NAMESPACE, type="merge")
        for name, piece in found.items():
            await self._keep_other(slices, name, piece)

    async def _keep_other(self, slices: Resource, name: str, piece: dict[str, Any]) -> None:
        """Somebody else's slice: gone when its node is, not ready while its node is not."""
        endpoints = piece.get("endpoints") or []
        node = next((e["nodeName"] for e in endpoints if e.get("nodeName")), "")
        if not node:
            return
        try:
            if self._nodes.get("", node) is None:
                await slices.delete(name, NAMESPACE)
                log.info("node %s is gone: so is its DNS endpoint", node)
                return
            wanted = [{**endpoint, "conditions": self._conditions(node)} for endpoint in endpoints]
            if wanted != endpoints:
                await slices.patch(name, {"endpoints": wanted}, NAMESPACE, type="merge")
                log.info("DNS endpoint of node %s: %s", node, wanted[0]["conditions"])
        except ApiError as error:
            # Another node's process was quicker.
            if error.code != 404:
                raise

    def _conditions(self, node: str) -> dict[str, bool]:
        """Of a lost node: serving, but on its way out. Proxies then use it only where nothing better is left, so that
        names go on to resolve when the control plane takes all nodes for lost.
        """
        known = self._nodes.get("", node)
        ready = known is None or known["ready"]
        return {"ready": ready, "serving": True, "terminating": not ready}

    def service(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": SERVICE,
                "namespace": NAMESPACE,
                "labels": {
                    "k8s-app": "kube-dns",
                    "kubernetes.io/cluster-service": "true",
                    "kubernetes.io/name": "CoreDNS",
                },
            },
            "spec": {
                "clusterIP": self.service_ip,
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": self.port},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": self.port},
                ],
            },
        }

    def slice(self, service: dict[str, Any]) -> dict[str, Any]:
        """The endpoint of this process; it goes with the Service."""
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": self.slice_name,
                "namespace": NAMESPACE,
                "labels": {
                    "kubernetes.io/service-name": SERVICE,
                    "endpointslice.kubernetes.io/managed-by": MANAGER,
                },
                "ownerReferences": [
                    {
                        "apiVersion": "v1",
                        "kind": "Service",
                        "name": SERVICE,
                        "uid": service["metadata"]["uid"],
                    }
                ],
            },
            "addressType": "IPv6" if ":" in self.address else "IPv4",
            "endpoints": [
                {
                    "addresses": [self.address],
                    "conditions": self._conditions(self.node_name),
                    # A machine that is no node: nobody else may conclude from that that it is gone.
                    **({"nodeName": self.node_name} if self._nodes.get("", self.node_name) else {}),
                }
            ],
            "ports": [
                {"name": "dns", "port": self.port, "protocol": "UDP"},
                {"name": "dns-tcp", "port": self.port, "protocol": "TCP"},
            ],
        }


def _slim(node: dict[str, Any]) -> dict[str, Any]:
    """A node without a Ready condition has just been made: its kubelet will say more."""
    meta = node["metadata"]
    conditions = (node.get("status") or {}).get("conditions") or ()
    return {
        "metadata": {"name": meta["name"], "uid": meta.get("uid"), "resourceVersion": meta.get("resourceVersion")},
        "ready": all(c.get("status") == "True" for c in conditions if c.get("type") == "Ready"),
    }
