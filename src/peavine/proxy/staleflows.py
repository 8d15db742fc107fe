"""UDP flows that are bound to an endpoint which no longer serves, or to a time when there was none, are forgotten.

Without this a client that keeps its source port (a resolver, a phone) would talk to a dead pod until it pauses.
"""

from __future__ import annotations

from collections.abc import Iterable

from peavine.linux import conntrack
from peavine.linux.netlink import Netlink
from peavine.proxy.model import Change, ServicePort


def concerns(changes: Iterable[Change]) -> bool:
    """Whether a UDP port lost an endpoint or got its first: only then can a flow be stale."""
    for change in changes:
        now = {p.identity: p for p in change.new if p.protocol == "udp"}
        before = {p.identity: p for p in change.old if p.protocol == "udp"}
        for identity in now.keys() | before.keys():
            old, new = before.get(identity), now.get(identity)
            had = {*old.cluster, *old.local} if old else set()
            has = {*new.cluster, *new.local} if new else set()
            if had - has or (has and not had):
                return True
    return False


def forget(link: Netlink, ports: Iterable[ServicePort], ipv6: bool, removed: Iterable[ServicePort] = ()) -> int:
    """Delete every UDP flow to a frontend of `ports` or `removed` that is not answered by one of its endpoints now."""
    by_address: dict[tuple[str, int], set[tuple[str, int]]] = {}
    by_port: dict[int, set[tuple[str, int]]] = {}
    for alive, port in [*((False, p) for p in removed), *((True, p) for p in ports)]:
        if port.protocol != "udp" or port.ipv6 != ipv6:
            continue
        for frontend in port.frontends():
            short_cut = frontend.external and port.external_local
            chosen = (
                (*port.external, *port.cluster) if short_cut else port.external if frontend.external else port.internal
            )
            serving = {(e.address, e.port) for e in chosen} if alive else set()
            if frontend.address:
                by_address[frontend.address, frontend.port] = serving
            else:
                by_port[frontend.port] = serving
    if not by_address and not by_port:
        return 0
    stale = []
    for flow in conntrack.flows(link, ipv6, conntrack.UDP):
        serves = by_address.get((flow.destination, flow.destination_port))
        if serves is None and flow.destination_port in by_port:
            # A node port is any local address; only flows that were or could have been translated count.
            serves = by_port[flow.destination_port]
        if serves is not None and (flow.answered_by, flow.answered_by_port) not in serves:
            stale.append(flow)
    for flow in stale:
        conntrack.delete(link, flow)
    return len(stale)
