"""Each node's pod subnet: a part of the cluster's range, given once and never twice.

Upstream: pkg/controller/nodeipam (range allocator). With a /16 and /24 parts, the node whose address ends in n gets
part n where it is free, so that a person can tell a pod's node from its address.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError

PREFIX_V6 = 64
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NodeIPAMController(Controller):
    name = "node-ipam-controller"
    account = "node-controller"
    # Two nodes served at once might be given the same part.
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        ranges = str(context.options.get("cluster_cidr") or "")
        mask = int(context.options.get("node_cidr_mask_size") or 24)
        self.ranges: list[tuple[Network, int]] = [
            (network := ipaddress.ip_network(text), mask if network.version == 4 else PREFIX_V6)
            for text in ranges.split(",")
            if text
        ]
        self.enabled = str(context.options.get("allocate_node_cidrs", "true")).lower() == "true" and bool(self.ranges)
        self.nodes = self.watch("v1", "nodes")
        # Given, but not yet in the cache: node name -> subnets.
        self._given: dict[str, list[str]] = {}

    async def reconcile(self, key: Key) -> float | None:
        node = self.nodes.get(*key)
        if node is None or node["spec"].get("podCIDR"):
            self._given.pop(key[1], None)
            return None
        if not self.enabled or key[1] in self._given:
            return None
        taken = {cidr for other in self.nodes.list() for cidr in pod_cidrs(other)}
        taken |= {cidr for cidrs in self._given.values() for cidr in cidrs}
        subnets = [choose(network, prefix, _address(node, network.version), taken) for network, prefix in self.ranges]
        if None in subnets:
            self.recorder.event(node, "Normal", "CIDRNotAvailable", f"Node {key[1]} status is now: CIDRNotAvailable")
            return 60.0
        patch = {"spec": {"podCIDR": subnets[0], "podCIDRs": subnets}, "metadata": {"uid": node["metadata"]["uid"]}}
        self._given[key[1]] = [s for s in subnets if s]
        try:
            await self.client.resource("v1", "nodes").patch(key[1], patch)
        except ApiError:
            del self._given[key[1]]
            raise
        return None


def pod_cidrs(node: Object) -> list[str]:
    spec = node["spec"]
    return spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])


def _address(node: Object, version: int) -> Any:
    for entry in (node.get("status") or {}).get("addresses") or ():
        if entry["type"] == "InternalIP":
            address = ipaddress.ip_address(entry["address"])
            if address.version == version:
                return address
    return None


def choose(network: Network, prefix: int, address: Any, taken: set[str]) -> str | None:
    """A free part of `network` with this prefix length; the one numbered by the address' last octet if it can be."""
    count = 1 << (prefix - network.prefixlen)
    size = 1 << (network.max_prefixlen - prefix)

    def part(n: int) -> str:
        return f"{network.network_address + n * size}/{prefix}"

    if address is not None and network.version == 4:
        n = int(address) & 0xFF
        if n < count and part(n) not in taken:
            return part(n)
    return next((cidr for n in range(count) if (cidr := part(n)) not in taken), None)
