"""The network process of a node: its subnet to the runtime, the other nodes' subnets to the kernel.

Level-triggered: every change of a Node leads to the same `sync`, which compares what should be with what is.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client.informer import InformerFactory
from peavine.linux import iptables, links, programs
from peavine.machinery.errors import ApiError
from peavine.network import announcer, attachments, cni, enforcer, forwarding, hostports, masquerade, peers
from peavine.network.announcer import Announcer
from peavine.network.guard import Guard
from peavine.network.peers import Wanted

log = logging.getLogger(__name__)

VXLAN_DEVICE = "peavine.1"
VXLAN_OVERHEAD_BYTES = 50
# Routes vanish when a link goes down; the kernel does not say so to us.
look_seconds = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    node_name: str
    conf_dir: Path
    bin_dirs: tuple[Path, ...]
    state_dir: Path
    pod_cidrs: tuple[str, ...] = ()
    """Empty: taken from the Node object."""
    cluster_cidrs: tuple[str, ...] = ()
    backend: str = "host-gw"
    """host-gw, vxlan or none (no routes to other nodes)"""
    bridge: str = "peavine0"
    mtu: int = 0
    """0: that of the device with the node's address, less the overhead of the backend."""
    node_ip: str = ""
    masquerade: bool = True
    network_policy: bool = True
    pods: bool = True
    """False: a machine without pods of its own, which only gets routes to those of the nodes."""
    announce: bool = False
    """Answer on the node network for load balancers' addresses."""


class Agent:
    """`prepare` does all that needs no API server (when the subnet is known); `run` keeps the rest current."""

    def __init__(self, settings: Settings, informers: InformerFactory | None, clock: Clock = REAL) -> None:
        self.settings = settings
        self._clock = clock
        self._informers = informers
        self._wake = asyncio.Event()
        self._subnets = settings.pod_cidrs
        self._prepared: tuple[str, ...] = ()
        self._announced: dict[str, str] = {}
        self._mac = ""
        self.ready = False
        self._guard: Guard | None = None
        self._announcer: Announcer | None = None
        if informers is not None:
            if settings.announce:
                self._announcer = Announcer(informers, settings.node_name, clock)
            if settings.network_policy and settings.pods:
                self._guard = Guard(informers, settings.node_name, clock)
            self._nodes = informers.informer("v1", "nodes", transform=_slim)
            self._nodes.add_handler(
                lambda _: self._wake.set(), lambda old, new: self._node_changed(old, new), lambda _: self._wake.set()
            )

    def _node_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        # Heartbeats are most of what happens to nodes.
        if {**old, "metadata": {**old["metadata"], "resourceVersion": ""}} != {
            **new,
            "metadata": {**new["metadata"], "resourceVersion": ""},
        }:
            self._wake.set()

    @property
    def node_ip(self) -> str:
        if self.settings.node_ip:
            return self.settings.node_ip
        own = self._nodes.get("", self.settings.node_name) if self._informers is not None else None
        found = peers.internal_ips(own) if own else ()
        return found[0] if found else links.default_source()[0] or links.default_source(ipv6=True)[0]

    def prepare(self) -> bool:
        """Configuration, bridge, forwarding, masquerade. False while the subnet is unknown."""
        if not self.settings.pods:
            forwarding.ensure(self.settings.cluster_cidrs)
            return True
        subnets = self._subnets
        if not subnets:
            return False
        if subnets == self._prepared:
            return True
        s = self.settings
        mtu = s.mtu or self._underlay_mtu() - (VXLAN_OVERHEAD_BYTES if s.backend == "vxlan" else 0)
        _forward(any(":" in subnet for subnet in subnets))
        cni.ensure_bridge(s.bridge, subnets, mtu)
        if s.masquerade:
            masquerade.install(subnets, s.cluster_cidrs)
        if forwarding.ensure(s.cluster_cidrs or subnets):
            log.info("this host's FORWARD policy is to drop: pod traffic got leave in iptables")
        if s.backend == "vxlan":
            self._mac = ensure_vxlan(VXLAN_DEVICE, self.node_ip, subnets, mtu)
        # Last, because the runtime starts pods as soon as it sees the file.
        s.state_dir.mkdir(parents=True, exist_ok=True)
        config = cni.conflist(
            subnets, bridge=s.bridge, mtu=mtu, state_dir=s.state_dir, plugins=cni.available_plugins(s.bin_dirs)
        )
        if cni.write(s.conf_dir, config):
            log.info("wrote %s: pods of this node live in %s", s.conf_dir / cni.FILE, ", ".join(subnets))
        self._prepared = subnets
        return True

    async def run(self) -> None:
        if self._informers is None:
            await asyncio.get_running_loop().create_future()
            return
        async with scope() as tasks:
            tasks.start(self._informers.run(), name="informers")
            tasks.start(self._look_again(), name="look again")
            if self._guard is not None:
                tasks.start(self._guard.run(), name="network policies")
            if self._announcer is not None:
                tasks.start(self._announcer.run(), name="load balancer addresses")
            await self._nodes.synced.wait()
            backoff = Backoff(first=0.5, most=30.0)
            while True:
                self._wake.clear()
                try:
                    await self._sync()
                    backoff.forget()
                except (OSError, ApiError) as error:
                    delay = backoff.next()
                    log.error("network of this node, again in %.1f s: %s", delay, error)
                    await self._clock.sleep(delay)
                    continue
                await self._wake.wait()

    async def _look_again(self) -> None:
        while True:
            await self._clock.sleep(look_seconds)
            self._prepared = ()
            self._wake.set()
            s = self.settings
            if s.pods:
                attachments.collect(s.conf_dir / cni.FILE, s.state_dir, s.bin_dirs, self._clock.time())

    async def _sync(self) -> None:
        own = self._nodes.get("", self.settings.node_name)
        if not self.settings.pod_cidrs and own is not None:
            subnets = peers.pod_cidrs(own)
            if subnets and subnets != self._subnets:
                self._subnets = subnets
        if not self.prepare():
            return
        others = [
            peers.peer_of(node) for node in self._nodes.list() if node["metadata"]["name"] != self.settings.node_name
        ]
        found = [peer for peer in others if peer is not None]
        if self.settings.backend == "host-gw":
            apply(peers.host_gw(found), None)
        elif self.settings.backend == "vxlan":
            apply(peers.vxlan(found, VXLAN_DEVICE), VXLAN_DEVICE)
            if own is not None:
                await self._announce(own)
        self.ready = True

    async def _announce(self, own: dict[str, Any]) -> None:
        wanted = peers.announcement(self._mac, self.node_ip)
        have = own["metadata"].get("annotations") or {}
        if any(have.get(key) != value for key, value in wanted.items()) and wanted != self._announced:
            assert self._informers is not None
            nodes = self._informers.client.resource("v1", "nodes")
            await nodes.patch(self.settings.node_name, {"metadata": {"annotations": wanted}})
            self._announced = wanted

    def _underlay_mtu(self) -> int:
        address = self.node_ip
        device = next((d for d, a, _ in links.addresses() if a == address), "") or links.default_source()[1]
        found = links.link(device) if device else None
        return int(found["mtu"]) if found else 1500


def _slim(node: dict[str, Any]) -> dict[str, Any]:
    meta = node["metadata"]
    annotations = meta.get("annotations") or {}
    return {
        "metadata": {
            "name": meta["name"],
            "uid": meta.get("uid"),
            "resourceVersion": meta.get("resourceVersion"),
            "annotations": {k: v for k, v in annotations.items() if k.startswith("flannel.")},
        },
        "spec": {"podCIDRs": peers.pod_cidrs(node)},
        "status": {"addresses": (node.get("status") or {}).get("addresses") or []},
    }


def apply(wanted: Wanted, device: str | None) -> None:
    """Bring routes and entries of the other nodes into the kernel. One that fails is logged; the others are made."""
    have = links.routes()
    failed = 0
    if device is not None:
        known = links.forwarding(device)
        for mac, host in wanted.forwarding:
            if known.pop(mac, "") != host:
                programs.run(["bridge", "fdb", "replace", mac, "dev", device, "dst", host, "self", "permanent"])
        for mac in known:
            programs.run(["bridge", "fdb", "delete", mac, "dev", device, "self"], check=False)
        old = links.neighbours(device)
        links.batch(
            [f"neigh delete {n.address} dev {device}" for n in old - wanted.neighbours]
            + [f"neigh replace {n.address} lladdr {n.mac} dev {device} nud permanent" for n in wanted.neighbours - old]
        )
    by_way = {(r.destination, r.gateway) for r in wanted.routes}
    for route in have:
        if (route.destination, route.gateway) not in by_way:
            links.remove_route(route)
            log.info("removed route %s via %s", route.destination, route.gateway)
    existing = {(r.destination, r.gateway) for r in have}
    for route in sorted(wanted.routes, key=lambda r: r.destination):
        if (route.destination, route.gateway) in existing:
            continue
        try:
            links.replace_route(route)
            log.info("route %s via %s", route.destination, route.gateway)
        except OSError as error:
            failed += 1
            log.error("route to %s: %s", route.destination, error)
    if failed:
        raise OSError(f"{failed} routes to other nodes could not be set")


def ensure_vxlan(device: str, node_ip: str, subnets: tuple[str, ...], mtu: int) -> str:
    """The VXLAN device with the subnets' own addresses; returns its MAC. Made anew if its settings differ."""
    found = links.link(device)
    if found is not None:
        data = (found.get("linkinfo") or {}).get("info_data") or {}
        local = data.get("local") or data.get("local6")
        if data.get("id") != peers.VXLAN_ID or local != node_ip or data.get("port") != peers.VXLAN_PORT:
            links.remove_link(device)
            found = None
    if found is None:
        links.batch(
            [
                f"link add {device} mtu {mtu} type vxlan id {peers.VXLAN_ID} local {node_ip} "
                f"dstport {peers.VXLAN_PORT} nolearning",
            ]
        )
        links.set_sysctl(f"net/ipv6/conf/{device}/accept_dad", "0")
        links.batch([f"link set {device} up"])
        found = links.link(device)
    assert found is not None
    wanted = {subnet.split("/")[0] + ("/128" if ":" in subnet else "/32") for subnet in subnets}
    have = {f"{a}/{length}" for _, a, length in links.addresses(device)}
    links.batch(
        [f"address del {a} dev {device}" for a in sorted(have - wanted)]
        + [f"address add {a} dev {device}{' nodad' if ':' in a else ''}" for a in sorted(wanted - have)]
    )
    return str(found["address"]).lower()


def _forward(ipv6: bool) -> None:
    links.set_sysctl("net/ipv4/ip_forward", "1")
    if ipv6:
        links.set_sysctl("net/ipv6/conf/all/forwarding", "1")
    # Pods of one node answer each other over the bridge; translation of Services must see those answers too.
    if not links.set_sysctl("net/bridge/bridge-nf-call-iptables", "1"):
        if programs.available("modprobe"):
            programs.run(["modprobe", "br_netfilter"], check=False)
        if not links.set_sysctl("net/bridge/bridge-nf-call-iptables", "1"):
            log.warning("no br_netfilter: a pod that calls a Service whose endpoint is on its own node gets no answer")
    links.set_sysctl("net/bridge/bridge-nf-call-ip6tables", "1")


def cleanup(conf_dir: Path, state_dir: Path, bridge: str) -> None:
    """Remove all that this process makes, in whatever state it is. What is not there is no error."""
    cni.remove(conf_dir)
    for route in links.routes():
        links.remove_route(route)
    links.remove_link(VXLAN_DEVICE)
    links.remove_link(bridge)
    masquerade.remove()
    enforcer.cleanup()
    announcer.cleanup()
    hostports.remove()
    forwarding.remove()
    iptables.remove_empty_tables()
    if state_dir.is_dir():
        import shutil

        shutil.rmtree(state_dir)
