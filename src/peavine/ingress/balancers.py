"""Services of type LoadBalancer on bare machines: an address from a pool, or the nodes' own, into their status.

Runs on one node at a time (a Lease). An address is a Service's until the Service goes or changes its type: a finalizer
holds the Service until its address is given back. After a restart what is in the statuses counts. Who answers for a
pool's addresses on the network is the nodes' business: see network/announcer.py.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client.events import EventRecorder
from peavine.client.informer import InformerFactory
from peavine.client.leader import LeaderElector, LeadershipLost
from peavine.client.rest import Client
from peavine.client.transport import Unreachable
from peavine.ingress.pools import Key, PoolError, Pools
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

Object = dict[str, Any]

LEASE = "peavine-load-balancers"
CLASS = "peavine.dev/pool"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
retry_seconds = 30.0


class Balancers:
    """Without pools, Services get the InternalIPs of all ready nodes."""

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        pools: Pools,
        identity: str,
        *,
        recorder: EventRecorder | None = None,
        clock: Clock = REAL,
    ) -> None:
        self._client, self._pools, self._identity = client, pools, identity
        self._recorder, self._clock = recorder, clock
        self._wake = asyncio.Event()
        self._complained: dict[Key, str] = {}
        self._services = informers.informer("v1", "services")
        self._services.add_handler(self._changed, lambda _, new: self._changed(new), self._changed)
        self._informers = [self._services]
        if not pools:
            self._nodes = informers.informer("v1", "nodes")
            self._nodes.add_handler(self._changed, lambda _, new: self._changed(new), self._changed)
            self._informers.append(self._nodes)

    def _changed(self, _: Object) -> None:
        self._wake.set()

    async def run(self) -> None:
        while True:
            elector = LeaderElector(self._client, LEASE, self._identity, clock=self._clock)
            try:
                await elector.run(self._lead)
            except LeadershipLost as error:
                log.warning("%s", error)

    async def _lead(self) -> None:
        for informer in self._informers:
            await informer.synced.wait()
        backoff = Backoff(first=0.2, most=retry_seconds)
        async with scope() as tasks:
            while True:
                self._wake.clear()
                try:
                    await self.sync()
                    backoff.forget()
                except (ApiError, Unreachable) as error:
                    delay = backoff.next()
                    log.warning("load balancer addresses, again in %.1f s: %s", delay, error)
                    tasks.start(self._wake_after(delay))
                await self._wake.wait()

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wake.set()

    async def sync(self) -> None:
        """Compare every Service with what it should have. Raises ApiError of a write; the next call goes on."""
        services = {(s["metadata"]["namespace"], s["metadata"]["name"]): s for s in self._services.list()}
        ours = {key: s for key, s in services.items() if is_ours(s) and not s["metadata"].get("deletionTimestamp")}
        # Before anything is released: what an address says of its owner is asked there.
        leaving = [(key, s) for key, s in services.items() if key not in ours and self._was_ours(key, s)]
        for key in set(self._pools.held.values()) - ours.keys():
            self._pools.release(key)
        # Who has an address keeps it: first all that is written down, then those that have none.
        for key, service in ours.items():
            for entry in _ingress(service):
                if self._pools and entry.get("ip"):
                    self._pools.hold(key, entry["ip"])
        for key in sorted(ours, key=lambda k: ours[k]["metadata"].get("creationTimestamp") or ""):
            await self._give(key, ours[key])
        for key, service in leaving:
            await self._clean_up(key, service)

    def _was_ours(self, key: Key, service: Object) -> bool:
        """Whether a Service that is not to have an address (any more) has one of ours, or our finalizer."""
        foreign = service["spec"].get("type") == "LoadBalancer" and not is_ours(service)
        addresses = [entry.get("ip") or "" for entry in _ingress(service)]
        if foreign or not (addresses or FINALIZER in (service["metadata"].get("finalizers") or ())):
            return False
        return not self._pools or bool(self._pools.of(key)) or all(a and self._pools.contains(a) for a in addresses)

    async def _clean_up(self, key: Key, service: Object) -> None:
        self._event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
        self._complained.pop(key, None)
        if _ingress(service):
            await self._write(key, [])
        finalizers = service["metadata"].get("finalizers") or []
        if FINALIZER in finalizers:
            await self._patch(key, {"metadata": {"finalizers": [f for f in finalizers if f != FINALIZER]}})
        self._event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")

    def _event(self, service: Object, type_: str, reason: str, message: str) -> None:
        if self._recorder is not None:
            self._recorder.event(service, type_, reason, message)

    async def _give(self, key: Key, service: Object) -> None:
        try:
            wanted = self._wanted(key, service)
        except PoolError as error:
            if self._complained.get(key) != str(error):
                self._complained[key] = str(error)
                log.warning("service %s/%s: %s", *key, error)
                self._event(service, "Warning", "AllocationFailed", str(error))
                message = f"Error syncing load balancer: failed to ensure load balancer: {error}"
                self._event(service, "Warning", "SyncLoadBalancerFailed", message)
            return
        self._complained.pop(key, None)
        have = [entry.get("ip", "") for entry in _ingress(service)]
        finalizers = service["metadata"].get("finalizers") or []
        if have == wanted and FINALIZER in finalizers:
            return
        if not have:
            self._event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
        if FINALIZER not in finalizers:
            # Before the address: a Service must not go with one.
            await self._patch(key, {"metadata": {"finalizers": [*finalizers, FINALIZER]}})
        if have == wanted:
            return
        await self._write(key, wanted)
        if have:
            self._event(service, "Normal", "UpdatedLoadBalancer", "Updated load balancer with new hosts")
        elif wanted:
            self._event(service, "Normal", "IPAllocated", f"Assigned IP {', '.join(wanted)}")
            self._event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")

    def _wanted(self, key: Key, service: Object) -> list[str]:
        spec = service["spec"]
        families = [f == "IPv6" for f in spec.get("ipFamilies") or ["IPv4"]]
        if not self._pools:
            found = [ip for node in self._nodes.list() if _is_ready(node) for ip in _addresses(node)]
            return sorted(ip for ip in found if (":" in ip) in families)
        requested = spec.get("loadBalancerIP") or ""
        addresses = []
        for ipv6 in families:
            held = [a for a in self._pools.of(key) if (":" in a) == ipv6]
            asked = requested if requested and (":" in requested) == ipv6 else ""
            if asked and held != [asked]:
                self._pools.release(key)
                held = []
            addresses += held[:1] or [self._pools.take(key, ipv6, asked)]
        return addresses

    async def _write(self, key: Key, addresses: list[str]) -> None:
        entries = [{"ip": ip, "ipMode": "VIP"} for ip in addresses]
        await self._patch(key, {"status": {"loadBalancer": {"ingress": entries or None}}}, "status")

    async def _patch(self, key: Key, body: Object, subresource: str | None = None) -> None:
        resource = self._client.resource("v1", "services")
        try:
            await resource.patch(key[1], body, key[0], subresource=subresource)
        except ApiError as error:
            if error.code != 404:
                raise


def is_ours(service: Object) -> bool:
    spec = service.get("spec") or {}
    return spec.get("type") == "LoadBalancer" and spec.get("loadBalancerClass") in (None, "", CLASS)


def _ingress(service: Object) -> list[Object]:
    return ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


def _is_ready(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    excluded = "node.kubernetes.io/exclude-from-external-load-balancers" in (node["metadata"].get("labels") or {})
    return not excluded and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _addresses(node: Object) -> list[str]:
    listed = (node.get("status") or {}).get("addresses") or []
    return [a["address"] for a in listed if a["type"] == "InternalIP"]
