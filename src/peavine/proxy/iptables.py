"""The iptables mode, with upstream's chains: for kernels without nftables, and for people who know these rules.

`KUBE-SERVICES` has a rule for each address and port, which goes to `KUBE-SVC-…` (endpoints anywhere), `KUBE-SVL-…`
(endpoints of this node) or `KUBE-EXT-…` (what comes from outside); these pick an endpoint and translate to it, with
session affinity through a `KUBE-SEP-…` that remembers clients. A change rewrites the chains of its Service and adds or
deletes its rules in the shared chains; nothing else is sent.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from peavine.linux import iptables
from peavine.proxy.backend import BackendUnavailable, Settings
from peavine.proxy.model import Change, Endpoint, ServicePort

log = logging.getLogger(__name__)

_PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")
NAT_CHAINS = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")
FILTER_CHAINS = ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-PROXY-FIREWALL")

_NEW = "-m conntrack --ctstate NEW"
_JUMPS = (
    ("nat", "PREROUTING", "", "KUBE-SERVICES"),
    ("nat", "OUTPUT", "", "KUBE-SERVICES"),
    ("nat", "POSTROUTING", "", "KUBE-POSTROUTING"),
    ("filter", "INPUT", _NEW, "KUBE-EXTERNAL-SERVICES"),
    ("filter", "FORWARD", _NEW, "KUBE-EXTERNAL-SERVICES"),
    ("filter", "OUTPUT", _NEW, "KUBE-EXTERNAL-SERVICES"),
    ("filter", "FORWARD", _NEW, "KUBE-SERVICES"),
    ("filter", "OUTPUT", _NEW, "KUBE-SERVICES"),
    ("filter", "INPUT", _NEW, "KUBE-PROXY-FIREWALL"),
    ("filter", "FORWARD", _NEW, "KUBE-PROXY-FIREWALL"),
    ("filter", "OUTPUT", _NEW, "KUBE-PROXY-FIREWALL"),
    ("filter", "FORWARD", "", "KUBE-FORWARD"),
)

Shared = tuple[str, str, str]
"""Table, chain, rule."""


@dataclass(slots=True)
class Rendered:
    chains: dict[str, list[str]] = field(default_factory=dict)
    """Chains of the nat table that belong to this service port, each before those that go to it."""
    shared: list[Shared] = field(default_factory=list)


class IptablesBackend:
    name = "iptables"

    def __init__(self, settings: Settings) -> None:
        if not iptables.available(False):
            raise BackendUnavailable("iptables-restore is not installed")
        self._families = {
            ipv6: _Family(settings, ipv6) for ipv6 in settings.families if not ipv6 or iptables.available(True)
        }

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
        return all(iptables.has_chain(ipv6, "nat", "KUBE-SERVICES") for ipv6 in self._families)

    def close(self) -> None:
        """The rules are the kernel's; the process holds nothing."""


def cleanup() -> None:
    """Remove every chain that this mode ever makes, and the jumps to them."""
    ours = (*NAT_CHAINS, *FILTER_CHAINS)
    for ipv6 in (False, True):
        iptables.remove_chains(ipv6, ("nat", "filter"), lambda chain: chain in ours or chain.startswith(_PREFIXES))


class _Family:
    def __init__(self, settings: Settings, ipv6: bool) -> None:
        self._ipv6 = ipv6
        self._renderer = Renderer(settings, ipv6)

    def start(self, ports: list[ServicePort]) -> None:
        saved = {table: iptables.save(self._ipv6, table) for table in ("nat", "filter")}
        rendered = [self._renderer.render(port) for port in ports]
        chains = {name: rules for one in rendered for name, rules in one.chains.items()}
        stale = sorted(c for c in iptables.chains(saved["nat"]) if c.startswith(_PREFIXES) and c not in chains)
        fixed = self._renderer.fixed()
        lines = []
        for table, own in (("nat", NAT_CHAINS), ("filter", FILTER_CHAINS)):
            lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in own)]
            if table == "nat":
                lines += [f":{chain} - [0:0]" for chain in (*chains, *stale)]
                lines += [f"-A {name} {rule}" for name, rules in chains.items() for rule in rules]
            for one in rendered:
                lines += [f"-A {chain} {rule}" for where, chain, rule in one.shared if where == table]
            lines += [f"-A {chain} {rule}" for where, chain, rule in fixed if where == table]
            if table == "nat":
                lines += [f"-X {chain}" for chain in stale]
            # Last, so that they come before everything that was there: a jump that exists already is left where it is.
            for where, base, match, target in reversed(_JUMPS):
                if where == table and not _jumps(saved[table], base, target):
                    lines.append(f"-I {base} {match} -j {target}")
            lines.append("COMMIT")
        iptables.restore(self._ipv6, "\n".join(lines) + "\n")

    def apply(self, old: list[ServicePort], new: list[ServicePort]) -> None:
        before = [self._renderer.render(port) for port in old]
        after = [self._renderer.render(port) for port in new]
        chains_before = {name: rules for one in before for name, rules in one.chains.items()}
        chains_after = {name: rules for one in after for name, rules in one.chains.items()}
        # Counted, because two Services may want the same rule: each has it, each takes its own away.
        shared_before = Counter(rule for one in before for rule in one.shared)
        shared_after = Counter(rule for one in after for rule in one.shared)
        gone, come = shared_before - shared_after, shared_after - shared_before
        changed = {name: rules for name, rules in chains_after.items() if chains_before.get(name) != rules}
        stale = [name for name in chains_before if name not in chains_after]
        lines: list[str] = []
        for table in ("nat", "filter"):
            body: list[str] = []
            if table == "nat":
                body += [f":{chain} - [0:0]" for chain in (*changed, *stale)]
                body += [f"-A {name} {rule}" for name, rules in changed.items() for rule in rules]
            body += [f"-D {c} {rule}" for t, c, rule in gone.elements() if t == table]
            # At the head: the last rule of KUBE-SERVICES must stay the last.
            body += [f"-I {c} {rule}" for t, c, rule in come.elements() if t == table]
            if table == "nat":
                body += [f"-X {chain}" for chain in stale]
            if body:
                lines += [f"*{table}", *body, "COMMIT"]
        if lines:
            iptables.restore(self._ipv6, "\n".join(lines) + "\n")


def _jumps(saved: str, base: str, target: str) -> bool:
    return any(rule.startswith(f"-A {base} ") and rule.endswith(f"-j {target}") for rule in saved.splitlines())


class Renderer:
    """Service ports to rules of one family. Pure."""

    def __init__(self, settings: Settings, ipv6: bool) -> None:
        self._ipv6 = ipv6
        self._settings = settings
        self._pods = settings.of_family(settings.cluster_cidrs, ipv6)
        self._mark = f"{settings.masquerade_mark:#x}/{settings.masquerade_mark:#x}"
        self._length = 128 if ipv6 else 32

    def fixed(self) -> list[Shared]:
        """The rules that are there without any Service."""
        mark = f"{self._settings.masquerade_mark:#x}"
        rules = [
            ("nat", "KUBE-MARK-MASQ", f"-j MARK --or-mark {mark}"),
            ("nat", "KUBE-POSTROUTING", f"-m mark ! --mark {self._mark} -j RETURN"),
            ("nat", "KUBE-POSTROUTING", f"-j MARK --xor-mark {mark}"),
            ("nat", "KUBE-POSTROUTING", "-j MASQUERADE --random-fully"),
            ("filter", "KUBE-FORWARD", "-m conntrack --ctstate INVALID -j DROP"),
            ("filter", "KUBE-FORWARD", f"-m mark --mark {self._mark} -j ACCEPT"),
            ("filter", "KUBE-FORWARD", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        ]
        wanted = self._settings.of_family(self._settings.node_port_addresses, self._ipv6)
        loopback = "::1/128" if self._ipv6 else "127.0.0.0/8"
        local = "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
        if wanted:
            rules += [("nat", "KUBE-SERVICES", f"-d {cidr} {local}") for cidr in wanted]
        elif not self._settings.node_port_addresses:
            rules.append(("nat", "KUBE-SERVICES", f"! -d {loopback} {local}"))
        return rules

    def render(self, port: ServicePort) -> Rendered:
        rendered = Rendered()
        proto, name = port.protocol, f"{port.service[0]}/{port.service[1]}{':' + port.name if port.name else ''}"
        comment = f'-m comment --comment "{name}"'
        digest = _digest(port.identity)
        everywhere, here, outside = f"KUBE-SVC-{digest}", f"KUBE-SVL-{digest}", f"KUBE-EXT-{digest}"
        if port.cluster:
            rendered.chains[everywhere] = self._balance(rendered, port, port.cluster)
        if port.local and (port.internal_local or port.external_local):
            rendered.chains[here] = self._balance(rendered, port, port.local)
        internal = here if port.internal_local else everywhere
        to = f"{comment} -p {proto} -d {port.cluster_ip}/{self._length} --dport {port.port}"
        if port.internal:
            # `-p` must stand before `--dport`; comment, protocol and address in iptables-save's order.
            rendered.shared.append(("nat", "KUBE-SERVICES", f"{to} -j {internal}"))
        else:
            rendered.shared.append(("filter", "KUBE-SERVICES", f"{to} {self._verdict(port)}"))
        self._external(rendered, port, comment, outside, everywhere, here)
        for ip in sorted({e.address for e in (*port.cluster, *port.local) if e.local}):
            # A pod that reaches itself through its Service must see another source than itself.
            own = f"{ip}/{self._length}"
            rendered.shared.append(("nat", "KUBE-POSTROUTING", f"-s {own} -d {own} -j MASQUERADE --random-fully"))
        return rendered

    def _verdict(self, port: ServicePort) -> str:
        if port.elsewhere:
            return "-j DROP"
        return "-j REJECT --reject-with tcp-reset" if port.protocol == "tcp" else "-j REJECT"

    def _external(
        self, rendered: Rendered, port: ServicePort, comment: str, outside: str, everywhere: str, here: str
    ) -> None:
        doors = [f for f in port.frontends() if f.external]
        if not doors:
            return
        match = f"{comment} -p {port.protocol}"
        unserved = not port.external
        if unserved:
            verdict = self._verdict(port)
            for door in doors:
                where = f"-d {door.address}/{self._length}" if door.address else "-m addrtype --dst-type LOCAL"
                rendered.shared.append(
                    ("filter", "KUBE-EXTERNAL-SERVICES", f"{match} {where} --dport {door.port} {verdict}")
                )
        if not port.cluster:
            return
        rules = []
        if port.external_local:
            rules += [f"-s {cidr} -j {everywhere}" for cidr in self._pods]
            rules.append("-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ")
            rules.append(f"-m addrtype --src-type LOCAL -j {everywhere}")
            if port.local:
                rules.append(f"-j {here}")
        else:
            rules += ["-j KUBE-MARK-MASQ", f"-j {everywhere}"]
        rendered.chains[outside] = rules
        ranges = () if any(r.endswith("/0") for r in port.source_ranges) else port.source_ranges
        target = outside
        if ranges and port.load_balancer_ips:
            target = outside.replace("KUBE-EXT-", "KUBE-FW-")
            rendered.chains[target] = [f"-s {cidr} -j {outside}" for cidr in ranges]
        for door in doors:
            if not door.address:
                rendered.shared.append(("nat", "KUBE-NODEPORTS", f"{match} --dport {door.port} -j {outside}"))
                continue
            balanced = door.address in port.load_balancer_ips
            way = f"{match} -d {door.address}/{self._length} --dport {door.port}"
            rendered.shared.append(("nat", "KUBE-SERVICES", f"{way} -j {target if balanced else outside}"))
            if balanced and target != outside:
                # Who was not let through is still on its way to the balancer's address.
                rendered.shared.append(("filter", "KUBE-PROXY-FIREWALL", f"{way} -j DROP"))

    def _balance(self, rendered: Rendered, port: ServicePort, endpoints: tuple[Endpoint, ...]) -> list[str]:
        rules = []
        to = f"-d {port.cluster_ip}/{self._length} -p {port.protocol} --dport {port.port}"
        if self._settings.masquerade_all:
            rules.append(f"{to} -j KUBE-MARK-MASQ")
        elif self._pods:
            rules.append(f"! -s {self._pods[0]} {to} -j KUBE-MARK-MASQ")
        if port.affinity_seconds:
            targets = [self._endpoint(rendered, port, endpoint) for endpoint in endpoints]
            for chain in targets:
                rules.append(f"-m recent --name {chain} --rcheck --seconds {port.affinity_seconds} --reap -j {chain}")
            ways = [f"-j {chain}" for chain in targets]
        else:
            # No chain of its own for each endpoint: iptables-restore takes time quadratic in the number of chains.
            ways = [f"-p {port.protocol} -j DNAT --to-destination {self._target(e)}" for e in endpoints]
        for number, way in enumerate(ways):
            left = len(ways) - number
            chance = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
            rules.append(f"{chance}{way}")
        return rules

    def _target(self, endpoint: Endpoint) -> str:
        return f"[{endpoint.address}]:{endpoint.port}" if self._ipv6 else f"{endpoint.address}:{endpoint.port}"

    def _endpoint(self, rendered: Rendered, port: ServicePort, endpoint: Endpoint) -> str:
        """The chain that remembers an endpoint's clients."""
        target = self._target(endpoint)
        chain = f"KUBE-SEP-{_digest(port.identity, target)}"
        rendered.chains[chain] = [
            f"-p {port.protocol} -m recent --name {chain} --set -j DNAT --to-destination {target}"
        ]
        return chain


def _digest(*parts: str) -> str:
    """Sixteen characters of base 32, as upstream's names have."""
    return base64.b32encode(hashlib.sha256("\0".join(parts).encode()).digest()).decode()[:16]
