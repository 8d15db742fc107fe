"""ServiceCIDRs: ready while they exist; one that is deleted stays while addresses of it are in use.

Upstream: pkg/controller/servicecidrs.
"""

from __future__ import annotations

import ipaddress

from peavine.api.conditions import set_condition
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.meta import now

API = "networking.k8s.io/v1"
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
RECHECK_SECONDS = 10.0


class ServiceCIDRController(Controller):
    name = "service-cidr-controller"
    account = "service-cidrs-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.ranges = self.watch(API, "servicecidrs")
        self.addresses = self.read(API, "ipaddresses")
        self.resource = self.client.resource(API, "servicecidrs")

    async def reconcile(self, key: Key) -> float | None:
        found = self.ranges.get(*key)
        if found is None:
            return None
        meta = found["metadata"]
        finalizers = meta.get("finalizers") or []
        if not meta.get("deletionTimestamp"):
            if FINALIZER not in finalizers:
                await self._finalizers(found, [*finalizers, FINALIZER])
            await self._ready(found, True, "", "Kubernetes Service CIDR is ready")
            return None
        if FINALIZER not in finalizers:
            return None
        if self._used(found):
            message = (
                "There are still IPAddresses referencing the ServiceCIDR, please remove "
                "them or create a new ServiceCIDR"
            )
            await self._ready(found, False, "Terminating", message)
            return RECHECK_SECONDS
        await self._finalizers(found, [f for f in finalizers if f != FINALIZER])
        return None

    def _used(self, found: Object) -> bool:
        """Whether an address is in this range and in no other one that stays."""
        own = _networks(found)
        others = [
            network
            for other in self.ranges.list()
            if other["metadata"]["name"] != found["metadata"]["name"] and not other["metadata"].get("deletionTimestamp")
            for network in _networks(other)
        ]
        for entry in self.addresses.list():
            address = ipaddress.ip_address(entry["metadata"]["name"])
            if any(address in network for network in own) and not any(address in network for network in others):
                return True
        return False

    async def _finalizers(self, found: Object, finalizers: list[str]) -> None:
        body = {"metadata": {"finalizers": finalizers, "resourceVersion": found["metadata"]["resourceVersion"]}}
        await self.resource.patch(found["metadata"]["name"], body)

    async def _ready(self, found: Object, ready: bool, reason: str, message: str) -> None:
        status = {"conditions": [dict(c) for c in (found.get("status") or {}).get("conditions") or ()]}
        value, moment = "True" if ready else "False", now(self.clock.time())
        if set_condition(status, "Ready", value, reason or "Ready", message, moment):
            await self.resource.patch(found["metadata"]["name"], {"status": status}, subresource="status")


def _networks(found: Object) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text) for text in (found.get("spec") or {}).get("cidrs") or ()]
