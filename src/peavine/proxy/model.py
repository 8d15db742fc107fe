"""Services and EndpointSlices in, service ports with their chosen endpoints out. Pure: no kernel, no network, no clock.

Every backend renders the same `ServicePort`s. Which endpoints a port gets follows upstream's rules: ready ones, or
serving terminating ones if none is ready; only those hinted for this node or zone where all are hinted; only those of
this node where a traffic policy is Local (https://kubernetes.io/docs/reference/networking/virtual-ips/).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

Key = tuple[str, str]
"""(namespace, name)"""

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
ZONE_LABEL = "topology.kubernetes.io/zone"

PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


class Endpoint(NamedTuple):
    address: str
    port: int
    local: bool


class Frontend(NamedTuple):
    """One thing that clients address. `address` is empty for a node port (any node-port address of this node)."""

    address: str
    port: int
    external: bool


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service in one address family, with the endpoints that this node sends it to."""

    service: Key
    name: str
    ipv6: bool
    protocol: str
    """tcp, udp or sctp"""
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    """Who may come in through the load balancer's addresses; empty: everybody."""
    affinity_seconds: int = 0
    internal_local: bool = False
    external_local: bool = False
    cluster: tuple[Endpoint, ...] = ()
    """For policy Cluster: endpoints anywhere."""
    local: tuple[Endpoint, ...] = ()
    """For policy Local: endpoints on this node."""
    elsewhere: bool = False
    """There are usable endpoints, be they on other nodes: without one here a Local port drops instead of rejecting."""

    @property
    def internal(self) -> tuple[Endpoint, ...]:
        return self.local if self.internal_local else self.cluster

    @property
    def external(self) -> tuple[Endpoint, ...]:
        return self.local if self.external_local else self.cluster

    @property
    def identity(self) -> str:
        """`namespace/name:port/protocol` and family: stable as long as the port exists."""
        namespace, name = self.service
        return f"{namespace}/{name}:{self.name}/{self.protocol}/{6 if self.ipv6 else 4}"

    def frontends(self) -> list[Frontend]:
        found = [Frontend(self.cluster_ip, self.port, False)]
        if self.node_port:
            found.append(Frontend("", self.node_port, True))
        found += [Frontend(ip, self.port, True) for ip in (*self.external_ips, *self.load_balancer_ips)]
        return found


class Change(NamedTuple):
    """What a Service was and what it is now; an absent side is empty."""

    service: Key
    old: tuple[ServicePort, ...]
    new: tuple[ServicePort, ...]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A port on which this node says how many local endpoints of a Service it has."""

    service: Key
    port: int
    local_endpoints: int


class _EndpointView(NamedTuple):
    address: str
    node: str
    ready: bool
    serving: bool
    terminating: bool
    zones: frozenset[str]
    nodes: frozenset[str]


class SliceView(NamedTuple):
    """What the proxy needs of an EndpointSlice, a tenth of its size."""

    service: Key
    ipv6: bool
    ports: tuple[tuple[str, str, int], ...]
    endpoints: tuple[_EndpointView, ...]


class _PortView(NamedTuple):
    name: str
    protocol: str
    port: int
    node_port: int


class ServiceView(NamedTuple):
    """What the proxy needs of a Service."""

    ports: tuple[_PortView, ...]
    cluster_ips: tuple[str, ...]
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[str, ...]
    affinity_seconds: int
    internal_local: bool
    external_local: bool
    health_check_port: int


_NOWHERE: frozenset[str] = frozenset()


def view_service(service: dict[str, Any]) -> ServiceView | None:
    """None for what has no virtual address (headless, ExternalName) or belongs to another proxy."""
    spec = service.get("spec") or {}
    kind = spec.get("type", "ClusterIP")
    cluster_ips = tuple(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
    labels = service["metadata"].get("labels") or {}
    if kind == "ExternalName" or not cluster_ips or "None" in cluster_ips or PROXY_NAME_LABEL in labels:
        return None
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    balanced = kind == "LoadBalancer"
    affinity = 0
    if spec.get("sessionAffinity") == "ClientIP":
        affinity = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds") or 10800
    outside = kind in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))
    return ServiceView(
        ports=tuple(
            _PortView(
                port.get("name", ""),
                PROTOCOLS.get(port.get("protocol", "TCP"), "tcp"),
                port["port"],
                port.get("nodePort", 0) if kind in ("NodePort", "LoadBalancer") else 0,
            )
            for port in spec.get("ports") or []
        ),
        cluster_ips=cluster_ips,
        external_ips=tuple(spec.get("externalIPs") or ()),
        load_balancer_ips=tuple(
            entry["ip"] for entry in ingress if entry.get("ip") and entry.get("ipMode", "VIP") != "Proxy"
        )
        if balanced
        else (),
        source_ranges=tuple(r.strip() for r in spec.get("loadBalancerSourceRanges") or ()) if balanced else (),
        affinity_seconds=affinity,
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        external_local=outside and spec.get("externalTrafficPolicy") == "Local",
        health_check_port=spec.get("healthCheckNodePort", 0) if balanced else 0,
    )


def view_slice(piece: dict[str, Any]) -> SliceView | None:
    """None for slices of FQDNs and of no Service."""
    metadata = piece["metadata"]
    service = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
    if not service or piece.get("addressType") not in ("IPv4", "IPv6"):
        return None
    endpoints = []
    for endpoint in piece.get("endpoints") or []:
        conditions = endpoint.get("conditions") or {}
        ready = conditions.get("ready")
        serving = conditions.get("serving")
        ready = ready is None or ready
        hints = endpoint.get("hints") or {}
        addresses = endpoint.get("addresses")
        if not addresses:
            continue
        endpoints.append(
            _EndpointView(
                addresses[0],
                endpoint.get("nodeName") or "",
                ready,
                ready if serving is None else serving,
                bool(conditions.get("terminating")),
                frozenset(zone["name"] for zone in hints["forZones"]) if hints.get("forZones") else _NOWHERE,
                frozenset(node["name"] for node in hints["forNodes"]) if hints.get("forNodes") else _NOWHERE,
            )
        )
    ports = tuple(
        (port.get("name") or "", PROTOCOLS.get(port.get("protocol") or "TCP", "tcp"), port["port"])
        for port in piece.get("ports") or []
        if port.get("port")
    )
    return SliceView((metadata["namespace"], service), piece["addressType"] == "IPv6", ports, tuple(endpoints))


@dataclass(slots=True)
class Node:
    """The node that the rules are for."""

    name: str
    zone: str = ""


@dataclass(slots=True)
class Model:
    """Feed it views; take what changed.

    Promises: changes of one `take` are consistent with each other; a Service whose rendered ports are the same as
    before does not appear. Disclaims: intermediate states between two takes are never seen.
    """

    node: Node
    services: dict[Key, ServiceView] = field(default_factory=dict)
    slices: dict[Key, dict[str, SliceView]] = field(default_factory=dict)
    ports: dict[Key, tuple[ServicePort, ...]] = field(default_factory=dict)
    _homes: dict[Key, Key] = field(default_factory=dict)
    _claims: dict[tuple[str, str, int], list[Key]] = field(default_factory=dict)
    _claimed_by: dict[Key, set[tuple[str, str, int]]] = field(default_factory=dict)
    _dirty: set[Key] = field(default_factory=set)

    def set_service(self, key: Key, view: ServiceView | None) -> None:
        if view is None:
            if self.services.pop(key, None) is None:
                return
        else:
            self.services[key] = view
        self._dirty.add(key)

    def set_slice(self, key: Key, view: SliceView | None) -> None:
        """`key` is the slice's own namespace and name; it may have moved to another Service."""
        home = self._homes.pop(key, None)
        if home is not None and (view is None or view.service != home):
            pieces = self.slices.get(home)
            if pieces is not None:
                pieces.pop(key[1], None)
                if not pieces:
                    del self.slices[home]
            self._dirty.add(home)
        if view is not None:
            self._homes[key] = view.service
            pieces = self.slices.setdefault(view.service, {})
            if pieces.get(key[1]) != view:
                pieces[key[1]] = view
                self._dirty.add(view.service)

    def set_node(self, node: Node) -> None:
        if node != self.node:
            self.node = node
            self._dirty.update(self.services)

    @property
    def dirty(self) -> bool:
        return bool(self._dirty)

    def take(self) -> list[Change]:
        """Compute what is dirty and return what differs. Services are dealt with in the order of their keys."""
        changes = []
        old_of: dict[Key, tuple[ServicePort, ...]] = {}
        while self._dirty:
            batch, self._dirty = sorted(self._dirty), set()
            for key in batch:
                old = self.ports.get(key, ())
                new = self._claimed(key, self._render(key))
                if new == old:
                    continue
                old_of.setdefault(key, old)
                if new:
                    self.ports[key] = new
                else:
                    self.ports.pop(key, None)
        for key, old in old_of.items():
            new = self.ports.get(key, ())
            if new != old:
                changes.append(Change(key, old, new))
        return changes

    def health_checks(self) -> list[HealthCheck]:
        found = []
        for key, view in self.services.items():
            if view.health_check_port and view.external_local:
                here = {e.address for port in self.ports.get(key, ()) for e in port.local}
                found.append(HealthCheck(key, view.health_check_port, len(here)))
        return found

    def _claimed(self, key: Key, new: tuple[ServicePort, ...]) -> tuple[ServicePort, ...]:
        """`new` without external addresses that another Service claimed first; frees those that it gave up."""
        wanted = {(p.protocol, ip, p.port) for p in new for ip in (*p.external_ips, *p.load_balancer_ips)}
        for claim in self._claimed_by.pop(key, ()):
            if claim not in wanted:
                owners = self._claims[claim]
                was_first = owners[0] == key
                owners.remove(key)
                if not owners:
                    del self._claims[claim]
                elif was_first:
                    self._dirty.add(owners[0])
        if not wanted:
            return new
        self._claimed_by[key] = wanted
        refused = set()
        for claim in wanted:
            owners = self._claims.setdefault(claim, [])
            if key not in owners:
                owners.append(key)
            if owners[0] != key:
                refused.add(claim)
        if not refused:
            return new

        def kept(port: ServicePort, ips: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(ip for ip in ips if (port.protocol, ip, port.port) not in refused)

        return tuple(
            replace(p, external_ips=kept(p, p.external_ips), load_balancer_ips=kept(p, p.load_balancer_ips))
            for p in new
        )

    def _render(self, key: Key) -> tuple[ServicePort, ...]:
        view = self.services.get(key)
        if view is None:
            return ()
        pieces = self.slices.get(key, {}).values()
        found = []
        for cluster_ip in view.cluster_ips:
            ipv6 = ":" in cluster_ip
            for port in view.ports:
                candidates = [
                    (endpoint, number)
                    for piece in pieces
                    if piece.ipv6 == ipv6
                    for name, protocol, number in piece.ports
                    if name == port.name and protocol == port.protocol
                    for endpoint in piece.endpoints
                ]
                cluster, local, elsewhere = choose(candidates, self.node, view.internal_local or view.external_local)
                found.append(
                    ServicePort(
                        service=key,
                        name=port.name,
                        ipv6=ipv6,
                        protocol=port.protocol,
                        cluster_ip=cluster_ip,
                        port=port.port,
                        node_port=port.node_port,
                        external_ips=_of_family(view.external_ips, ipv6),
                        load_balancer_ips=_of_family(view.load_balancer_ips, ipv6),
                        source_ranges=_source_ranges(view.source_ranges, ipv6),
                        affinity_seconds=view.affinity_seconds,
                        internal_local=view.internal_local,
                        external_local=view.external_local,
                        cluster=cluster,
                        local=local,
                        elsewhere=elsewhere,
                    )
                )
        return tuple(found)


def choose(
    candidates: list[tuple[_EndpointView, int]], node: Node, local_wanted: bool
) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...], bool]:
    """(for policy Cluster, for policy Local, whether there is any usable endpoint anywhere)."""
    ready = [c for c in candidates if c[0].ready]
    if ready:
        cluster = _near(ready, node)
    else:
        cluster = [c for c in candidates if c[0].serving and c[0].terminating]
    local: list[tuple[_EndpointView, int]] = []
    if local_wanted:
        local = [c for c in ready if c[0].node == node.name]
        if not local:
            local = [c for c in candidates if c[0].node == node.name and c[0].serving and c[0].terminating]
    return _endpoints(cluster, node), _endpoints(local, node), bool(cluster)


def _near(ready: list[tuple[_EndpointView, int]], node: Node) -> list[tuple[_EndpointView, int]]:
    """Those hinted for this node, else for this zone; all of them as soon as one lacks a hint or none is for us."""
    if all(endpoint.nodes for endpoint, _ in ready):
        here = [c for c in ready if node.name in c[0].nodes]
        if here:
            return here
    if node.zone and all(endpoint.zones for endpoint, _ in ready):
        here = [c for c in ready if node.zone in c[0].zones]
        if here:
            return here
    return ready


def _endpoints(chosen: list[tuple[_EndpointView, int]], node: Node) -> tuple[Endpoint, ...]:
    # Duplicates happen while a slice is being split; order is stable so that unchanged sets compare equal.
    return tuple(sorted({Endpoint(view.address, port, view.node == node.name) for view, port in chosen}))


def _of_family(addresses: Iterable[str], ipv6: bool) -> tuple[str, ...]:
    return tuple(dict.fromkeys(a for a in addresses if (":" in a) == ipv6))


def _source_ranges(ranges: tuple[str, ...], ipv6: bool) -> tuple[str, ...]:
    """Canonical ranges of the family. If ranges were given but none is of this family, nobody may enter."""
    if not ranges:
        return ()
    own = [str(ipaddress.ip_network(r, strict=False)) for r in ranges if (":" in r) == ipv6]
    return tuple(own) or (("::/128",) if ipv6 else ("255.255.255.255/32",))
