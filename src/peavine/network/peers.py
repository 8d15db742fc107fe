"""The other nodes, as the pod network needs them: from Node objects to routes. Pure.

Backend `host-gw` sends to the other node directly (nodes share a network segment); `vxlan` wraps packets in UDP as
flannel does (VNI 1, port 8472, annotations of the same names), with every entry written from Node objects, none
learned.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from peavine.linux.links import Neighbour, Route

BACKEND_DATA = "flannel.alpha.coreos.com/backend-data"
BACKEND_TYPE = "flannel.alpha.coreos.com/backend-type"
PUBLIC_IP = "flannel.alpha.coreos.com/public-ip"
SUBNET_MANAGER = "flannel.alpha.coreos.com/kube-subnet-manager"

VXLAN_PORT = 8472
VXLAN_ID = 1


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    subnets: tuple[str, ...]
    addresses: tuple[str, ...]
    mac: str = ""
    """Of its VXLAN device."""

    def address(self, ipv6: bool) -> str:
        return next((a for a in self.addresses if (":" in a) == ipv6), "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the kernel must hold for the other nodes."""

    routes: frozenset[Route]
    neighbours: frozenset[Neighbour] = frozenset()
    forwarding: tuple[tuple[str, str], ...] = ()
    """(MAC, address of the host)"""


def pod_cidrs(node: dict[str, Any]) -> tuple[str, ...]:
    spec = node.get("spec") or {}
    return tuple(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else ()))


def internal_ips(node: dict[str, Any]) -> tuple[str, ...]:
    listed = (node.get("status") or {}).get("addresses") or ()
    return tuple(a["address"] for a in listed if a.get("type") == "InternalIP")


def peer_of(node: dict[str, Any]) -> Peer | None:
    """None while the node has no subnet or no address."""
    annotations = node["metadata"].get("annotations") or {}
    subnets = pod_cidrs(node)
    public = annotations.get(PUBLIC_IP, "")
    addresses = tuple(dict.fromkeys((*([public] if public else []), *internal_ips(node))))
    if not subnets or not addresses:
        return None
    mac = ""
    if annotations.get(BACKEND_TYPE) == "vxlan":
        try:
            mac = str(orjson.loads(annotations.get(BACKEND_DATA, "{}")).get("VtepMAC", "")).lower()
        except orjson.JSONDecodeError:
            mac = ""
    return Peer(node["metadata"]["name"], subnets, addresses, mac)


def announcement(mac: str, public_ip: str) -> dict[str, str]:
    """What a node says of itself so that others (flannel's agents too) can send to it."""
    return {
        BACKEND_DATA: orjson.dumps({"VNI": VXLAN_ID, "VtepMAC": mac}).decode(),
        BACKEND_TYPE: "vxlan",
        PUBLIC_IP: public_ip,
        SUBNET_MANAGER: "true",
    }


def host_gw(peers: Iterable[Peer]) -> Wanted:
    found = set()
    for peer in peers:
        for subnet in peer.subnets:
            gateway = peer.address(":" in subnet)
            if gateway:
                found.add(Route(subnet, gateway))
    return Wanted(frozenset(found))


def vxlan(peers: Iterable[Peer], device: str) -> Wanted:
    routes, neighbours, forwarding = set(), set(), set()
    for peer in peers:
        outer = peer.address(False) or peer.address(True)
        if not peer.mac or not outer:
            continue
        forwarding.add((peer.mac, outer))
        for subnet in peer.subnets:
            # The remote VXLAN device has the subnet's own address, as with flannel.
            gateway = str(ipaddress.ip_network(subnet).network_address)
            routes.add(Route(subnet, gateway, device, onlink=True))
            neighbours.add(Neighbour(gateway, peer.mac))
    return Wanted(frozenset(routes), frozenset(neighbours), tuple(sorted(forwarding)))


def missing_families(subnets: Sequence[str], cluster_cidrs: Sequence[str]) -> list[str]:
    """The cluster CIDRs of a family in which this node has no subnet."""
    have = {":" in s for s in subnets}
    return [c for c in cluster_cidrs if (":" in c) not in have]
