"""Addresses of load balancers on the node network: one node answers for each, another as soon as it dies.

Every node renews a Lease of its own each second, and watches the others'. Who is alive is known to all, so each works
out alone who answers for which address: the eligible node that comes first by a hash of both (so addresses spread,
and a lost node moves only its own). There is no election; for a moment two nodes may answer, which load balancing
survives. The node that answers has the address on a device of ours and tells the neighbours.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import time
from collections.abc import Iterable
from typing import Any

from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client.informer import Informer, InformerFactory
from peavine.client.transport import Unreachable
from peavine.linux import links
from peavine.linux.announce import announce
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

Object = dict[str, Any]
Key = tuple[str, str]

DEVICE = "peavine-lb"
NAMESPACE = "kube-system"
LABEL = "peavine.dev/announcer"
CLASS = "peavine.dev/pool"
renew_seconds = 1.0
# A node that has not renewed for this long is taken for dead: its addresses move within five seconds.
alive_seconds = 3.5
# Said again, because the first may be lost.
repeats = 3


def owner(address: str, nodes: Iterable[str]) -> str:
    """Who of the nodes answers for an address; empty if there is none. The same everywhere, whatever the order."""
    return max(nodes, key=lambda n: hashlib.sha256(f"{address} {n}".encode()).digest(), default="")


class Holder:
    """The addresses that this node answers for, in the kernel. Made and called in the node's network namespace."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    def set(self, addresses: set[str]) -> set[str]:
        """Answer for exactly these; returns those that are new here."""
        if addresses and links.link(DEVICE) is None:
            # A bridge without ports: not every kernel has dummy links.
            links.batch([f"link add {DEVICE} type bridge mcast_snooping 0"])
            links.set_sysctl(f"net/ipv6/conf/{DEVICE}/accept_dad", "0")
            links.batch([f"link set {DEVICE} up"])
        have = {address for _, address, _ in links.addresses(DEVICE)}
        new, gone = addresses - have, have - addresses
        commands = [f"address add {a}/{_length(a)} dev {DEVICE}" for a in sorted(new)]
        commands += [f"address del {a}/{_length(a)} dev {DEVICE}" for a in sorted(gone)]
        links.batch(commands)
        for address in new | gone:
            if ":" in address and (device := uplink(address)):
                # ARP is answered for every address of the host, neighbour discovery only where it is proxied.
                links.set_sysctl(f"net/ipv6/conf/{device}/proxy_ndp", "1")
                links.set_sysctl(f"net/ipv6/neigh/{device}/proxy_delay", "0")
                verb = "add" if address in new else "delete"
                links.batch([f"neigh {verb} proxy {address} dev {device}"])
        self.held = set(addresses)
        return new

    def tell(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            device = uplink(address)
            try:
                if device:
                    announce(address, device)
            except OSError as error:
                log.warning("announcing %s on %s: %s", address, device, error)


def uplink(address: str) -> str:
    """The device on whose network the address is, or the one to the world."""
    ip = ipaddress.ip_address(address)
    for device, own, length in links.addresses():
        if device not in (DEVICE, "lo") and ip in ipaddress.ip_network(f"{own}/{length}", strict=False):
            return device
    return links.default_source(ipv6=":" in address)[1]


def _length(address: str) -> int:
    return 128 if ":" in address else 32


def cleanup() -> None:
    for address in [a for _, a, _ in links.addresses(DEVICE) if ":" in a]:
        if device := uplink(address):
            links.batch([f"neigh delete proxy {address} dev {device}"])
    links.remove_link(DEVICE)


class Announcer:
    """Runs until cancelled. Does nothing, not even a Lease, until a Service has an address to announce."""

    def __init__(self, informers: InformerFactory, node: str, clock: Clock = REAL) -> None:
        self._informers, self._node, self._clock = informers, node, clock
        self._holder = Holder()
        self._wake = asyncio.Event()
        self._seen: dict[str, tuple[str, float]] = {}
        self._services = informers.informer("v1", "services", transform=_slim_service)
        self._services.add_handler(self._changed, lambda _, new: self._changed(new), self._changed)
        self._leases: Informer | None = None
        self._slices: Informer | None = None

    def _changed(self, _: Object) -> None:
        self._wake.set()

    async def run(self) -> None:
        await self._services.synced.wait()
        while not self._wanted():
            self._wake.clear()
            await self._wake.wait()
        self._leases = self._informers.informer("coordination.k8s.io/v1", "leases", NAMESPACE, label_selector=LABEL)
        self._leases.add_handler(self._lease, lambda _, new: self._lease(new), self._lease_gone)
        self._slices = self._informers.informer("discovery.k8s.io/v1", "endpointslices", transform=_slim_slice)
        self._slices.add_index("service", lambda obj: [obj["service"]])
        self._slices.add_handler(self._changed, lambda _, new: self._changed(new), self._changed)
        async with scope() as tasks:
            tasks.start(self._renew(), name="announcer lease")
            await self._leases.synced.wait()
            await self._slices.synced.wait()
            # The others' Leases, which may begin at the same moment, have come by then.
            await self._clock.sleep(2 * renew_seconds)
            await self._hold()

    def _lease(self, lease: Object) -> None:
        name = lease["metadata"]["labels"][LABEL]
        stamp = lease["spec"].get("renewTime", "")
        if self._seen.get(name, ("", 0.0))[0] != stamp:
            # Clocks of hosts are never compared: what counts is when we saw it change.
            self._seen[name] = (stamp, self._clock.monotonic())

    def _lease_gone(self, lease: Object) -> None:
        self._seen.pop(lease["metadata"]["labels"][LABEL], None)
        self._wake.set()

    def _alive(self) -> set[str]:
        now = self._clock.monotonic()
        return {self._node} | {name for name, (_, at) in self._seen.items() if now - at < alive_seconds}

    def _wanted(self) -> dict[str, Key]:
        """Addresses to announce, to their Services. Addresses of nodes are not among them: they answer already."""
        found: dict[str, Key] = {}
        for service in self._services.list():
            for address in service["addresses"]:
                found.setdefault(address, (service["metadata"]["namespace"], service["metadata"]["name"]))
        return found

    def _own(self) -> set[str]:
        alive = self._alive()
        mine = set()
        for address, key in self._wanted().items():
            eligible = alive
            service = self._services.get(*key)
            if service is not None and service["local"]:
                assert self._slices is not None
                here = {n for piece in self._slices.by_index("service", key) for n in piece["nodes"]}
                eligible = alive & here
            if owner(address, sorted(eligible)) == self._node:
                mine.add(address)
        return mine

    async def _hold(self) -> None:
        telling: dict[str, int] = {}
        while True:
            self._wake.clear()
            try:
                for address in self._holder.set(self._own()):
                    log.info("this node answers for %s", address)
                    telling[address] = repeats
            except OSError as error:
                log.error("load balancer addresses: %s", error)
            telling = {a: n - 1 for a, n in telling.items() if n and a in self._holder.held}
            self._holder.tell(telling)
            # Death is noticed by the passing of time.
            await self._clock.sleep(renew_seconds / 2)

    async def _renew(self) -> None:
        leases = self._informers.client.resource("coordination.k8s.io/v1", "leases")
        name = f"peavine-announcer-{self._node}"
        while True:
            now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self._clock.time()))
            stamp = f"{now}.{int(self._clock.time() * 1e6) % 1_000_000:06d}Z"
            spec = {"holderIdentity": self._node, "leaseDurationSeconds": 4, "renewTime": stamp}
            try:
                try:
                    await leases.patch(name, {"spec": spec}, NAMESPACE)
                except ApiError as error:
                    if error.code != 404:
                        raise
                    meta = {"name": name, "namespace": NAMESPACE, "labels": {LABEL: self._node}}
                    kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
                    await leases.create({**kind, "metadata": meta, "spec": spec}, NAMESPACE)
            except (ApiError, Unreachable) as error:
                log.warning("announcer lease: %s", error)
            await self._clock.sleep(renew_seconds)


def _slim_service(service: Object) -> Object:
    spec = service.get("spec") or {}
    ours = spec.get("type") == "LoadBalancer" and spec.get("loadBalancerClass") in (None, "", CLASS)
    entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    meta = service["metadata"]
    return {
        "metadata": {k: meta.get(k) for k in ("name", "namespace", "uid", "resourceVersion")},
        "addresses": tuple(e["ip"] for e in entries if e.get("ip")) if ours else (),
        "local": spec.get("externalTrafficPolicy") == "Local",
    }


def _slim_slice(piece: Object) -> Object:
    meta = piece["metadata"]
    ready = {
        e.get("nodeName", "")
        for e in piece.get("endpoints") or []
        if (e.get("conditions") or {}).get("ready") in (True, None)
    }
    return {
        "metadata": {k: meta.get(k) for k in ("name", "namespace", "uid", "resourceVersion")},
        "service": (meta["namespace"], (meta.get("labels") or {}).get("kubernetes.io/service-name", "")),
        "nodes": frozenset(ready),
    }
