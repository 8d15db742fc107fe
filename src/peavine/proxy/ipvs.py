"""The ipvs mode: the kernel's load balancer picks endpoints, an nftables table does what it cannot.

Every address of a Service is on the device `kube-ipvs0`, which makes the node take its packets; node ports are
virtual services on the node's own addresses. The nftables table marks what must be masqueraded, keeps source ranges
and refuses what nobody serves; it is the one of the nftables mode with the translations left out.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from dataclasses import replace

from peavine.linux import ipvs, links, nftables, programs
from peavine.linux.ipvs import Service, Table, Virtual
from peavine.linux.nfttable import Element, ManagedTable
from peavine.proxy.backend import BackendUnavailable, Settings
from peavine.proxy.model import Change, Frontend, ServicePort
from peavine.proxy.nftables import Renderer as NftRenderer

log = logging.getLogger(__name__)

DEVICE = "kube-ipvs0"
TABLE = "peavine-ipvs"

_SYSCTLS = {
    # Masquerading and reply packets need connection tracking; a reused port must not meet a dead server.
    "net/ipv4/vs/conntrack": "1",
    "net/ipv4/vs/conn_reuse_mode": "0",
    "net/ipv4/vs/expire_nodest_conn": "1",
    "net/ipv4/vs/expire_quiescent_template": "1",
}
SETS = ("marked", "cluster", "kept", "rejected", "firewalled", "sources", "hairpin")
_DROP, _REJECT = nftables.verdict(0), nftables.goto("reject-it")


class IpvsBackend:
    name = "ipvs"

    def __init__(self, settings: Settings) -> None:
        if not ipvs.available():
            raise BackendUnavailable("this kernel has no IPVS (ip_vs), or ipvsadm is not installed")
        self._settings = settings
        self._renderer = Renderer(settings, node_addresses(settings))
        self._ports: dict[str, ServicePort] = {}
        self._table: Table = {}
        self._rules = {
            ipv6: ManagedTable(
                "ip6" if ipv6 else "ip", TABLE, self._renderer.skeleton(ipv6), SETS, {"sources": 40 if ipv6 else 16}
            )
            for ipv6 in settings.families
        }
        if links.link(DEVICE) is None:
            try:
                links.batch([f"link add {DEVICE} type dummy"])
            except OSError as error:
                raise BackendUnavailable(f"this kernel has no dummy links: {error}") from error
        for path, value in _SYSCTLS.items():
            links.set_sysctl(path, value)
        if any(settings.ipvs_timeouts):
            ipvs.set_timeouts(*settings.ipvs_timeouts)

    def start(self, desired: Iterable[ServicePort]) -> None:
        self._ports = {p.identity: p for p in desired}
        self._table = ipvs.load()
        for ipv6, table in self._rules.items():
            table.open()
            table.change(table.elements(), self._renderer.elements(self._ports.values(), ipv6))
        self._sync()

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            for port in change.old:
                self._ports.pop(port.identity, None)
            for port in change.new:
                self._ports[port.identity] = port
        for ipv6, table in self._rules.items():
            before = self._renderer.elements([p for c in changes for p in c.old], ipv6)
            after = self._renderer.elements([p for c in changes for p in c.new], ipv6)
            if before != after:
                # Addresses of node-local endpoints are shared by Services: what another still wants stays.
                still = self._renderer.elements(self._ports.values(), ipv6)
                table.change({e: d for e, d in before.items() if e not in still or still[e] != d}, after)
        self._sync()

    def _sync(self) -> None:
        wanted = self._renderer.services(self._ports.values())
        ipvs.keep_connections(self._table, wanted)
        ipvs.restore(ipvs.difference(self._table, wanted))
        self._table = wanted
        have = {address for _, address, _ in links.addresses(DEVICE)}
        want = self._renderer.addresses(self._ports.values())
        links.batch(
            [f"address add {a}/{128 if ':' in a else 32} dev {DEVICE}" for a in sorted(want - have)]
            + [f"address del {a}/{128 if ':' in a else 32} dev {DEVICE}" for a in sorted(have - want)]
        )

    def intact(self) -> bool:
        self._table = ipvs.drop_idle(self._table)
        return links.link(DEVICE) is not None and all(table.intact() for table in self._rules.values())

    def close(self) -> None:
        for table in self._rules.values():
            table.close()


def node_addresses(settings: Settings) -> tuple[str, ...]:
    """The local addresses that serve node ports."""
    wanted = [ipaddress.ip_network(c) for c in settings.node_port_addresses]
    found = []
    for device, address, _ in links.addresses():
        ip = ipaddress.ip_address(address)
        if device != DEVICE and not ip.is_loopback and (not wanted or any(ip in network for network in wanted)):
            found.append(address)
    return tuple(found)


def cleanup() -> None:
    if links.link(DEVICE) is not None:
        ours = {address for _, address, _ in links.addresses(DEVICE)}
        if ipvs.available():
            have = ipvs.load()
            kept = {
                v: s for v, s in have.items() if v.address not in ours and v.address not in node_addresses(Settings())
            }
            ipvs.restore(ipvs.difference(have, kept))
        links.remove_link(DEVICE)
    if programs.available("nft"):
        nftables.remove_tables([("ip", TABLE), ("ip6", TABLE)])


class Renderer:
    """Service ports to virtual services, addresses, and elements of the nftables table. Pure."""

    def __init__(self, settings: Settings, node_addresses: tuple[str, ...]) -> None:
        self._settings = settings
        self._nodes = node_addresses
        self._nft = {ipv6: NftRenderer(settings, ipv6, TABLE) for ipv6 in (False, True)}

    def services(self, ports: Iterable[ServicePort]) -> Table:
        table: Table = {}
        for port in ports:
            for frontend in port.frontends():
                endpoints = port.external if frontend.external else port.internal
                if not endpoints:
                    continue
                service = Service(
                    self._settings.ipvs_scheduler,
                    port.affinity_seconds,
                    {(e.address, e.port): 1 for e in endpoints},
                )
                for address in self._doors(port, frontend):
                    table[Virtual(port.protocol, address, frontend.port)] = service
        return table

    def _doors(self, port: ServicePort, frontend: Frontend) -> list[str]:
        return [frontend.address] if frontend.address else [a for a in self._nodes if (":" in a) == port.ipv6]

    def addresses(self, ports: Iterable[ServicePort]) -> set[str]:
        return {f.address for port in ports for f in port.frontends() if f.address}

    def elements(self, ports: Iterable[ServicePort], ipv6: bool) -> dict[Element, bytes]:
        """Which destinations are marked, refused or fenced: what the nftables mode says, without translation."""
        found: dict[Element, bytes] = {}
        for port in ports:
            if port.ipv6 != ipv6:
                continue
            nft = self._nft[ipv6]
            for frontend in port.frontends():
                for address in self._doors(port, frontend):
                    key = nft.key(port, frontend._replace(address=address))
                    if not (port.external if frontend.external else port.internal):
                        # IPVS has one choice of endpoints for an address: none here is none, also for insiders.
                        found["rejected", key] = _DROP if port.elsewhere else _REJECT
                    elif not frontend.external:
                        found["cluster", key] = b""
                    else:
                        found["kept" if port.external_local else "marked", key] = b""
            rendered = nft.render(replace(port, affinity_seconds=0, node_port=0))
            for (name, key), data in rendered.elements.items():
                if name in ("firewalled", "sources"):
                    found[name, key] = data
            found.update(dict.fromkeys((e for e in rendered.shared if e[0] == "hairpin"), b""))
        return found

    def skeleton(self, ipv6: bool) -> str:
        family = "ip6" if ipv6 else "ip"
        where = f"{family} {TABLE}"
        key = f"{family} daddr . meta l4proto . th dport"
        transports = "meta l4proto { tcp, udp, sctp }"
        pods = self._settings.of_family(self._settings.cluster_cidrs, ipv6)
        mark = self._settings.masquerade_mark
        set_mark = f"meta mark set meta mark | {mark:#x}"
        outsiders = f"{family} saddr != {{ {', '.join(pods)} }} " if pods else ""
        cluster = f"add rule {where} mark-it {key} @cluster {outsiders}{set_mark}"
        lines = [
            f"add chain {where} reject-it",
            f"add rule {where} reject-it meta l4proto tcp reject with tcp reset",
            f"add rule {where} reject-it reject",
            f"add set {where} marked {{ typeof {key}; }}",
            f"add set {where} cluster {{ typeof {key}; }}",
            f"add set {where} kept {{ typeof {key}; }}",
            f"add map {where} rejected {{ typeof {key} : verdict; }}",
            f"add set {where} firewalled {{ typeof {key}; }}",
            f"add set {where} sources {{ typeof {key} . {family} saddr; flags interval; }}",
            f"add set {where} hairpin {{ typeof {family} saddr . {family} daddr; }}",
            f"add chain {where} mark-it",
            f"add rule {where} mark-it {key} @firewalled {key} . {family} saddr != @sources drop",
            f"add rule {where} mark-it {key} vmap @rejected",
            f"add rule {where} mark-it {key} @marked {set_mark}",
            # What this node itself sends has the Service's own address as its source.
            f"add rule {where} mark-it {key} @kept fib saddr type local {set_mark}",
            *([cluster] if pods or self._settings.masquerade_all else []),
            f"add chain {where} input {{ type filter hook input priority -110; }}",
            # IPVS takes packets in `input`, after these rules.
            f"add rule {where} input ct state new {transports} goto mark-it",
            f"add chain {where} output {{ type filter hook output priority -110; }}",
            f"add rule {where} output ct state new {transports} goto mark-it",
            f"add chain {where} postrouting {{ type nat hook postrouting priority 100; }}",
            f"add rule {where} postrouting meta mark & {mark:#x} != 0 "
            f"meta mark set meta mark & {0xFFFFFFFF ^ mark:#x} masquerade fully-random",
            f"add rule {where} postrouting {family} saddr . {family} daddr @hairpin masquerade fully-random",
        ]
        return "\n".join(lines) + "\n"
