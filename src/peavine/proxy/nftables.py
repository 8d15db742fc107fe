"""The nftables mode: one table per family, a handful of chains, and maps that hold everything that changes.

A packet's way: `services` (hooked before routing) looks up destination, protocol and port in the map `services` and
goes to a chain that is named for what it does and how many endpoints there are, such as `cluster-5`. That chain
picks a number below 5 and looks up destination, protocol, port and number in the map `endpoints`, which gives the
address to send to. So there is one `cluster-5` for all Services with five endpoints, a Service costs elements and
no chains, a changed endpoint is one element in a transaction, and 10,000 Services are looked up as fast as ten.
Only Services with session affinity have chains of their own: a set per endpoint remembers its clients.

Elements go to the kernel as netlink messages, chains as nft text. See docs/proxy.md for the whole way of a packet.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from peavine.linux import nftables, programs
from peavine.linux.nftables import address, goto, number8, number16, number32, verdict
from peavine.linux.nfttable import Element, ManagedTable, digest
from peavine.proxy.backend import Settings
from peavine.proxy.model import Change, Endpoint, Frontend, ServicePort

log = logging.getLogger(__name__)

TABLE = "peavine-proxy"
_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
_DROP = verdict(0)
_REJECT = goto("reject-it")

MAPS = (
    "services",
    "nodeports",
    "endpoints",
    "nodeport-endpoints",
    "wide",
    "nodeport-wide",
    "rejected",
    "rejected-nodeports",
)
SETS = ("cluster-ips", "hairpin", "firewalled", "sources")


@dataclass(slots=True)
class Rendered:
    """What one service port needs in the kernel."""

    elements: dict[Element, bytes] = field(default_factory=dict)
    shared: list[Element] = field(default_factory=list)
    """Elements that several service ports may want at once; the backend counts."""
    chains: dict[str, str] = field(default_factory=dict)
    """Chains (and the sets they use) to make before the elements, in order."""


class NftablesBackend:
    name = "nftables"

    def __init__(self, settings: Settings, table: str = TABLE) -> None:
        self._families = {ipv6: _Family(settings, ipv6, table) for ipv6 in settings.families}

    def start(self, desired: Iterable[ServicePort]) -> None:
        ports = list(desired)
        for ipv6, family in self._families.items():
            family.start([p for p in ports if p.ipv6 == ipv6])

    def apply(self, changes: list[Change]) -> None:
        for ipv6, family in self._families.items():
            old = [p for change in changes for p in change.old if p.ipv6 == ipv6]
            new = [p for change in changes for p in change.new if p.ipv6 == ipv6]
            if old or new:
                family.apply(old, new)

    def intact(self) -> bool:
        return all(family.intact() for family in self._families.values())

    def close(self) -> None:
        for family in self._families.values():
            family.close()


def cleanup() -> None:
    """Remove everything that this mode ever makes."""
    if programs.available("nft"):
        nftables.remove_tables([("ip", TABLE), ("ip6", TABLE)])


class _Family:
    def __init__(self, settings: Settings, ipv6: bool, table: str) -> None:
        self._renderer = Renderer(settings, ipv6, table)
        self._table = ManagedTable(
            self._renderer.family,
            table,
            self._renderer.skeleton(),
            (*MAPS, *SETS),
            {"sources": self._renderer.source_key_bytes},
        )
        self._uses: Counter[Element] = Counter()

    def close(self) -> None:
        self._table.close()

    def intact(self) -> bool:
        return self._table.intact()

    def start(self, ports: list[ServicePort]) -> None:
        if self._table.open():
            log.info("made the table %s", self._table.where)
        self._uses.clear()
        wanted: dict[Element, bytes] = {}
        chains: dict[str, str] = {}
        for port in ports:
            rendered = self._renderer.render(port)
            wanted.update(rendered.elements)
            chains.update(rendered.chains)
            self._uses.update(rendered.shared)
        wanted.update(dict.fromkeys(self._uses, b""))
        self._table.make(chains)
        self._table.change(self._table.elements(), wanted)
        self._remove(chain for chain in self._table.chains if chain not in chains)

    def apply(self, old: list[ServicePort], new: list[ServicePort]) -> None:
        before: dict[Element, bytes] = {}
        after: dict[Element, bytes] = {}
        chains_before: dict[str, str] = {}
        chains_after: dict[str, str] = {}
        uses: Counter[Element] = Counter()
        for port in old:
            rendered = self._renderer.render(port)
            before.update(rendered.elements)
            chains_before.update(rendered.chains)
            uses.subtract(rendered.shared)
        for port in new:
            rendered = self._renderer.render(port)
            after.update(rendered.elements)
            chains_after.update(rendered.chains)
            uses.update(rendered.shared)
        for element, difference in uses.items():
            count = self._uses[element]
            if count + difference > 0 >= count:
                after[element] = b""
            elif count + difference <= 0 < count:
                before[element] = b""
        self._table.make(chains_after)
        self._table.change(before, after)
        for element, difference in uses.items():
            self._uses[element] += difference
            if self._uses[element] <= 0:
                del self._uses[element]
        self._remove(chain for chain in chains_before if chain not in chains_after)

    def _remove(self, chains: Iterable[str]) -> None:
        """Those of single Services; chains named for a number of endpoints stay for the next Service with as many."""
        gone = [chain for chain in chains if chain.startswith(("affinity-", "sticky-"))]
        self._table.remove(gone, [f"{chain}-clients" for chain in gone if chain.startswith("sticky-")])


class Renderer:
    """Service ports to elements and chains of one family. Pure."""

    def __init__(self, settings: Settings, ipv6: bool, table: str = TABLE) -> None:
        self.family = "ip6" if ipv6 else "ip"
        self._table = table
        self._ipv6 = ipv6
        self._settings = settings
        self._pods = settings.of_family(settings.cluster_cidrs, ipv6)
        self._mark = f"meta mark set meta mark | {settings.masquerade_mark:#x}"
        # Keys of `sources`: address, protocol, port, source, each padded to four bytes.
        self.source_key_bytes = 40 if ipv6 else 16

    def skeleton(self) -> str:
        """The table without any Service: hooks, maps, sets."""
        family, where = self.family, f"{self.family} {self._table}"
        key = f"{family} daddr . meta l4proto . th dport"
        port_key = "meta l4proto . th dport"
        # Not `th dport`, which nft 1.0.6 takes for a conflict with the rule's protocols once the map is in the kernel.
        to = f"{family} daddr . ct reply proto-src"
        lines = [
            f"add chain {where} reject-it",
            # A reset, where there is such a thing, because unreachable messages are limited to a few in a second.
            f"add rule {where} reject-it meta l4proto tcp reject with tcp reset",
            f"add rule {where} reject-it reject",
            f"add map {where} services {{ typeof {key} : verdict; }}",
            f"add map {where} nodeports {{ typeof {port_key} : verdict; }}",
            f"add map {where} endpoints {{ typeof {key} . numgen random mod 1 : {to}; }}",
            f"add map {where} wide {{ typeof {key} . numgen random mod 1 : {to}; }}",
            f"add map {where} nodeport-endpoints {{ typeof {port_key} . numgen random mod 1 : {to}; }}",
            f"add map {where} nodeport-wide {{ typeof {port_key} . numgen random mod 1 : {to}; }}",
            f"add map {where} rejected {{ typeof {key} : verdict; }}",
            f"add map {where} rejected-nodeports {{ typeof {port_key} : verdict; }}",
            f"add set {where} cluster-ips {{ typeof {family} daddr; }}",
            f"add set {where} hairpin {{ typeof {family} saddr . {family} daddr; }}",
            f"add set {where} firewalled {{ typeof {key}; }}",
            f"add set {where} sources {{ typeof {key} . {family} saddr; flags interval; }}",
            f"add set {where} pods {{ typeof {family} saddr; flags interval; }}",
        ]
        if self._pods:
            lines.append(f"add element {where} pods {{ {', '.join(self._pods)} }}")
        addresses = self._settings.of_family(self._settings.node_port_addresses, self._ipv6)
        loopback = "::1" if self._ipv6 else "127.0.0.0/8"
        here = f"{family} daddr {{ {', '.join(addresses)} }}" if addresses else f"{family} daddr != {loopback}"
        serves_ports = bool(addresses) or not self._settings.node_port_addresses
        node_ports = f"fib daddr type local {here} {port_key} vmap"
        transports = "meta l4proto { tcp, udp, sctp }"
        lines += [
            f"add chain {where} services",
            f"add rule {where} services {transports} {key} vmap @services",
            *([f"add rule {where} services {transports} {node_ports} @nodeports"] if serves_ports else []),
            f"add chain {where} nat-prerouting {{ type nat hook prerouting priority -100; }}",
            f"add rule {where} nat-prerouting goto services",
            f"add chain {where} nat-output {{ type nat hook output priority -100; }}",
            f"add rule {where} nat-output goto services",
            f"add chain {where} nat-postrouting {{ type nat hook postrouting priority 100; }}",
            f"add rule {where} nat-postrouting meta mark & {self._settings.masquerade_mark:#x} != 0 "
            f"meta mark set meta mark & {0xFFFFFFFF ^ self._settings.masquerade_mark:#x} masquerade fully-random",
            f"add rule {where} nat-postrouting ct status dnat {family} saddr . {family} daddr @hairpin "
            "masquerade fully-random",
            f"add chain {where} firewall",
            f"add rule {where} firewall {key} @firewalled {key} . {family} saddr != @sources drop",
            f"add chain {where} unserved",
            f"add rule {where} unserved {key} vmap @rejected",
            *([f"add rule {where} unserved {node_ports} @rejected-nodeports"] if serves_ports else []),
            f"add rule {where} unserved {family} daddr @cluster-ips goto reject-it",
        ]
        for hook in ("prerouting", "output"):
            lines += [
                f"add chain {where} filter-{hook}-early {{ type filter hook {hook} priority -110; }}",
                f"add rule {where} filter-{hook}-early ct state new {transports} goto firewall",
            ]
        for hook in ("input", "forward", "output"):
            lines += [
                f"add chain {where} filter-{hook} {{ type filter hook {hook} priority 0; }}",
                f"add rule {where} filter-{hook} ct state new {transports} goto unserved",
            ]
        return "\n".join(lines) + "\n"

    def render(self, port: ServicePort) -> Rendered:
        rendered = Rendered()
        rendered.shared.append(("cluster-ips", address(port.cluster_ip)))
        for frontend in port.frontends():
            self._frontend(rendered, port, frontend)
        for endpoint in {*port.cluster, *port.local}:
            if endpoint.local:
                ip = address(endpoint.address)
                rendered.shared.append(("hairpin", ip + ip))
        if port.source_ranges and not any(r.endswith("/0") for r in port.source_ranges):
            for balanced in port.load_balancer_ips:
                key = self.key(port, Frontend(balanced, port.port, True))
                rendered.elements["firewalled", key] = b""
                for network in ipaddress.collapse_addresses(map(_network, port.source_ranges)):
                    first, last = network.network_address.packed, network.broadcast_address.packed
                    rendered.elements["sources", key + first + key + last] = b""
        return rendered

    def key(self, port: ServicePort, frontend: Frontend) -> bytes:
        """What packets to a frontend are looked up by: address, protocol and port; without an address, the rest."""
        where = number8(_NUMBERS[port.protocol]) + number16(frontend.port)
        return address(frontend.address) + where if frontend.address else where

    def _frontend(self, rendered: Rendered, port: ServicePort, frontend: Frontend) -> None:
        on_node = not frontend.address
        key = self.key(port, frontend)
        chosen = port.external if frontend.external else port.internal
        short_cut = frontend.external and port.external_local
        if not chosen and not (short_cut and port.cluster):
            name = "rejected-nodeports" if on_node else "rejected"
            # Endpoints on other nodes only: silence, so that a load balancer goes there and clients try again.
            rendered.elements[name, key] = _DROP if port.elsewhere else _REJECT
            return
        if port.affinity_seconds:
            chain = self._affinity_entry(rendered, port, frontend, chosen)
        else:
            prefix = "nodeport-" if on_node else ""
            for name, endpoints in (("endpoints", chosen), ("wide", port.cluster if short_cut else ())):
                for number, endpoint in enumerate(endpoints):
                    data = address(endpoint.address) + number16(endpoint.port)
                    rendered.elements[prefix + name, key + number32(number)] = data
            if short_cut:
                chain = self._local_chain(rendered, on_node, len(port.cluster), len(chosen))
            else:
                chain = self._chain(rendered, on_node, "external" if frontend.external else "cluster", len(chosen))
        rendered.elements["nodeports" if on_node else "services", key] = goto(chain)

    def _dnat(self, on_node: bool, name: str, count: int) -> str:
        key = "meta l4proto . th dport" if on_node else f"{self.family} daddr . meta l4proto . th dport"
        name = f"nodeport-{name}" if on_node else name
        return f"meta l4proto {{ tcp, udp, sctp }} dnat {self.family} to {key} . numgen random mod {count} map @{name}"

    def _masquerade(self, kind: str) -> list[str]:
        if kind == "external" or (kind == "cluster" and self._settings.masquerade_all):
            return [self._mark]
        if kind == "cluster" and self._pods:
            return [f"{self.family} saddr != @pods {self._mark}"]
        return []

    def _write(self, rendered: Rendered, name: str, rules: list[str]) -> str:
        if name not in rendered.chains:
            where = f"{self.family} {self._table} {name}"
            rendered.chains[name] = f"add chain {where}\n" + "".join(f"add rule {where} {rule}\n" for rule in rules)
        return name

    def _chain(self, rendered: Rendered, on_node: bool, kind: str, count: int) -> str:
        name = f"{'nodeport-' if on_node else ''}{kind}-{count}"
        what = "wide" if kind == "wide" else "endpoints"
        return self._write(rendered, name, [*self._masquerade(kind), self._dnat(on_node, what, count)])

    def _local_chain(self, rendered: Rendered, on_node: bool, everywhere: int, here: int) -> str:
        """Pods and this node itself reach all endpoints; others only those of this node, with their own address."""
        wide = self._chain(rendered, on_node, "wide", everywhere)
        last = self._dnat(on_node, "endpoints", here) if here else "drop"
        name = f"{'nodeport-' if on_node else ''}local-{here}-of-{everywhere}"
        return self._write(rendered, name, [*self._short_cuts(wide), last])

    def _short_cuts(self, wide: str) -> list[str]:
        rules = [f"{self.family} saddr @pods goto {wide}"] if self._pods else []
        return [*rules, f"fib saddr type local {self._mark} goto {wide}"]

    def _affinity_entry(
        self, rendered: Rendered, port: ServicePort, frontend: Frontend, chosen: tuple[Endpoint, ...]
    ) -> str:
        if frontend.external and port.external_local:
            wide = self._affinity(rendered, port, port.cluster)
            here = self._affinity(rendered, port, chosen) if chosen else ""
            rules = [*self._short_cuts(wide), f"goto {here}" if here else "drop"]
            name = "affinity-local-" + digest(wide, here)
        else:
            target = self._affinity(rendered, port, chosen)
            kind = "external" if frontend.external else "cluster"
            rules = [*self._masquerade(kind), f"goto {target}"]
            name = f"affinity-{kind}-" + digest(target)
        return self._write(rendered, name, rules)

    def _affinity(self, rendered: Rendered, port: ServicePort, endpoints: tuple[Endpoint, ...]) -> str:
        """A chain that sends a known client to its endpoint and a new one to any. Its name says what it holds, so a
        change makes a new chain; an endpoint's set of clients lives as long as the endpoint."""
        where = f"{self.family} {self._table}"
        sticky = []
        for endpoint in endpoints:
            target = f"{_bracketed(endpoint.address)}:{endpoint.port}"
            name = "sticky-" + digest(port.identity, target, str(port.affinity_seconds))
            sticky.append(name)
            if name not in rendered.chains:
                rendered.chains[name] = (
                    f"add set {where} {name}-clients {{ typeof {self.family} saddr; flags dynamic,timeout; "
                    f"timeout {port.affinity_seconds}s; size 65535; }}\n"
                    f"add chain {where} {name}\n"
                    f"add rule {where} {name} update @{name}-clients {{ {self.family} saddr }}\n"
                    f"add rule {where} {name} meta l4proto {port.protocol} dnat {self.family} to {target}\n"
                )
        name = "affinity-" + digest(*sticky)
        choices = ", ".join(f"{i} : goto {chain}" for i, chain in enumerate(sticky))
        rules = [f"{self.family} saddr @{chain}-clients goto {chain}" for chain in sticky]
        return self._write(rendered, name, [*rules, f"numgen random mod {len(sticky)} vmap {{ {choices} }}"])


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _network(text: str) -> ipaddress.IPv4Network:
    # Both families pass here; the annotation is for collapse_addresses, which never sees them mixed.
    return ipaddress.ip_network(text)  # type: ignore[return-value]
