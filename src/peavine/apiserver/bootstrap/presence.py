"""This server's presence in the cluster: its lease, and its address behind the `kubernetes` Service.

Every server renews a Lease in kube-system and makes the Service's endpoints the addresses of all servers whose lease
is alive: a server that dies is taken out by the others, one that stops takes itself out.
"""

from __future__ import annotations

import calendar
import hashlib
import logging
import time
from typing import Any

from peavine.apiserver.bootstrap.reconcile import SYSTEM_NAMESPACES, BootstrapOptions, kubernetes_service
from peavine.apiserver.lister import Lister, Writer
from peavine.base.clock import REAL, Clock
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

IDENTITY_LABEL = "apiserver.kubernetes.io/identity"
ADDRESS_ANNOTATION = "peavine.dev/advertise-address"
LEASE_SECONDS = 60
RENEW_SECONDS = 10.0


class Presence:
    def __init__(
        self,
        lister: Lister,
        writer: Writer,
        options: BootstrapOptions,
        *,
        advertise_address: str,
        advertise_port: int,
        identity: str,
        clock: Clock = REAL,
    ) -> None:
        """`identity` differs between servers and stays the same over a restart: host name and data directory, say."""
        self.lister, self.writer, self.options, self.clock = lister, writer, options, clock
        self.address, self.port = advertise_address, advertise_port
        self.identity = "apiserver-" + hashlib.sha256(identity.encode()).hexdigest()[:26]

    async def run(self) -> None:
        """Appear, and stay until cancelled. What fails is tried again at the next turn."""
        while True:
            try:
                await self.appear()
            except ApiError as error:
                log.warning("the kubernetes Service is not up to date (next try in %.0fs): %s", RENEW_SECONDS, error)
            await self.clock.sleep(RENEW_SECONDS)

    async def appear(self) -> None:
        """One turn: namespaces, lease, Service, endpoints."""
        for name in SYSTEM_NAMESPACES:
            if self.lister.get("", "namespaces", None, name) is None:
                await self._create("", "namespaces", None, {"metadata": {"name": name}})
        await self._renew()
        if self.lister.get("", "services", "default", "kubernetes") is None:
            await self._create("", "services", "default", kubernetes_service(self.options))
        await self._publish(self._alive())

    async def leave(self) -> None:
        """Take this server out: the last thing of an orderly stop."""
        try:
            await self.writer.delete("coordination.k8s.io", "v1", "leases", "kube-system", self.identity)
            alive = self._alive() - {self.address}
            if alive:  # the last server leaves its address: nobody could reach the cluster to notice
                await self._publish(alive)
        except ApiError as error:
            log.warning("could not leave the kubernetes Service: %s", error)

    async def _renew(self) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(self.clock.time()))
        spec = {"holderIdentity": self.identity, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": stamp}
        metadata = {
            "name": self.identity,
            "namespace": "kube-system",
            "labels": {IDENTITY_LABEL: "kube-apiserver"},
            "annotations": {ADDRESS_ANNOTATION: self.address},
        }
        if self.lister.get("coordination.k8s.io", "leases", "kube-system", self.identity) is None:
            lease = {"metadata": metadata, "spec": {**spec, "acquireTime": stamp}}
            await self._create("coordination.k8s.io", "leases", "kube-system", lease)
            return

        def renewed(lease: dict[str, Any]) -> dict[str, Any]:
            lease["spec"] = {**lease["spec"], **spec}
            lease["metadata"].setdefault("annotations", {})[ADDRESS_ANNOTATION] = self.address
            return lease

        await self.writer.patch("coordination.k8s.io", "v1", "leases", "kube-system", self.identity, renewed)

    def _alive(self) -> set[str]:
        """Addresses of the servers whose lease has not run out; always this one's."""
        addresses = {self.address}
        for lease in self.lister.list("coordination.k8s.io", "leases", "kube-system"):
            metadata = lease["metadata"]
            address = (metadata.get("annotations") or {}).get(ADDRESS_ANNOTATION)
            if not address or (metadata.get("labels") or {}).get(IDENTITY_LABEL) != "kube-apiserver":
                continue
            renewed = calendar.timegm(time.strptime(lease["spec"]["renewTime"][:19], "%Y-%m-%dT%H:%M:%S"))
            if self.clock.time() - renewed < LEASE_SECONDS:
                addresses.add(address)
        return addresses

    async def _publish(self, addresses: set[str]) -> None:
        ordered = sorted(addresses)
        port = {"name": "https", "port": self.port, "protocol": "TCP"}
        subsets = [{"addresses": [{"ip": address} for address in ordered], "ports": [port]}]
        # The slice mirrors the Endpoints, so the mirroring controller is told to keep off.
        skip = {"endpointslice.kubernetes.io/skip-mirror": "true"}
        endpoints = {"metadata": {"name": "kubernetes", "namespace": "default", "labels": skip}, "subsets": subsets}
        await self._set("", "endpoints", endpoints, "subsets", subsets)
        family = "IPv6" if ":" in ordered[0] else "IPv4"
        members = [{"addresses": [address], "conditions": {"ready": True}} for address in ordered]
        slice_ = {
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": family,
            "endpoints": members,
            "ports": [port],
        }
        await self._set("discovery.k8s.io", "endpointslices", slice_, "endpoints", members)

    async def _set(
        self, group: str, resource: str, obj: dict[str, Any], field: str, value: list[dict[str, Any]]
    ) -> None:
        """Create `obj`, or make `field` (and the ports) of the live one what they should be."""
        live = self.lister.get(group, resource, "default", "kubernetes")
        if live is None:
            await self._create(group, resource, "default", obj)
            return

        def changed(live: dict[str, Any]) -> dict[str, Any] | None:
            wanted = {key: obj[key] for key in (field, "ports") if key in obj}
            return None if all(live.get(key) == part for key, part in wanted.items()) else {**live, **wanted}

        if changed(live) is not None:
            await self.writer.patch(group, "v1", resource, "default", "kubernetes", changed)

    async def _create(self, group: str, resource: str, namespace: str | None, obj: dict[str, Any]) -> None:
        try:
            await self.writer.create(group, "v1", resource, namespace, obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
