"""The `kube-dns` Service and this process's EndpointSlice: how pods reach the server at the cluster's DNS address."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.client.rest import Client
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
SERVICE = "kube-dns"
MANAGER = "peavine-dns"
# Somebody may delete what we published.
look_seconds = 30.0


@dataclass
class Publisher:
    """Keeps Service and slice as they should be. A `kube-dns` with a selector belongs to somebody else and is
    left alone.
    """

    client: Client
    node_name: str
    address: str
    port: int
    service_ip: str = ""
    clock: Clock = REAL

    @property
    def slice_name(self) -> str:
        return f"{SERVICE}-{self.node_name}"

    async def run(self) -> None:
        backoff = Backoff(first=0.1, most=30.0)
        while True:
            try:
                await self.publish()
                backoff.forget()
                await self.clock.sleep(look_seconds)
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
        wanted = self.slice(service)
        try:
            found = await slices.get(self.slice_name, NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            await slices.create(wanted, NAMESPACE)
            log.info("published %s port %d", self.address, self.port)
            return
        if any(found.get(part) != wanted[part] for part in ("endpoints", "ports")):
            if found["addressType"] != wanted["addressType"]:
                await slices.delete(self.slice_name, NAMESPACE)
                await slices.create(wanted, NAMESPACE)
            else:
                changes = {part: wanted[part] for part in ("endpoints", "ports")}
                await slices.patch(self.slice_name, changes, NAMESPACE, type="merge")

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
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "nodeName": self.node_name,
                }
            ],
            "ports": [
                {"name": "dns", "port": self.port, "protocol": "UDP"},
                {"name": "dns-tcp", "port": self.port, "protocol": "TCP"},
            ],
        }
