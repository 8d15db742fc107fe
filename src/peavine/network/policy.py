"""NetworkPolicies to what this node must enforce. Pure: objects in, chains and set elements out.

Semantics: https://kubernetes.io/docs/concepts/services-networking/network-policies/. A pod selected by a policy for a
direction is closed in that direction but for what the policies together allow. This node closes its own pods; other
pods only count as peers. Who matches a selector is kept as a set of pods, so a changed pod costs one look at
each selector, and the kernel gets only elements that differ.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from peavine.linux.nfttable import digest
from peavine.machinery.selectors import Selector, selector_of

Key = tuple[str, str]

_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


class Pod(NamedTuple):
    namespace: str
    labels: Mapping[str, str]
    ips: tuple[str, ...]
    node: str
    ports: tuple[tuple[str, str, int], ...]
    """(name, protocol, number) of the named container ports."""


class Alias(NamedTuple):
    """A server that is no pod but stands for one behind a Service: the cluster's DNS process of a node.

    Rules speak of the Service's port; by the time they are asked the packet goes to `target`.
    """

    namespace: str
    labels: Mapping[str, str]
    ip: str
    protocol: str
    port: int
    target: int


class Group(NamedTuple):
    """Pods of one namespace, or of those that match a selector, whose labels match another."""

    namespace: str
    namespaces: Selector | None
    pods: Selector


@dataclass(frozen=True, slots=True)
class Rule:
    groups: tuple[Group, ...] | None
    """Peers by selector; None together with no `cidrs`: anybody."""
    cidrs: tuple[str, ...]
    numbers: tuple[tuple[str, int, int], ...]
    """(protocol, first, last); last 0: every port of the protocol."""
    names: tuple[tuple[str, str], ...]
    """(protocol, name of a port)"""
    any_port: bool

    @property
    def anybody(self) -> bool:
        return self.groups is None and not self.cidrs

    def permits(self, protocol: str, port: int) -> bool:
        return self.any_port or any(
            protocol == p and (not last or first <= port <= last) for p, first, last in self.numbers
        )


@dataclass(frozen=True, slots=True)
class Policy:
    key: Key
    target: Group
    ingress: tuple[Rule, ...] | None
    """None: this policy says nothing of the direction."""
    egress: tuple[Rule, ...] | None


@dataclass(slots=True)
class Desired:
    """What the kernel must hold, besides the skeleton."""

    chains: dict[str, str] = field(default_factory=dict)
    """Name to nft commands, with the sets that the chain uses; those that are gone to first."""
    sets: dict[str, str] = field(default_factory=dict)
    """Sets of those chains, to the chain."""
    elements: dict[tuple[str, bytes], tuple[str, ...]] = field(default_factory=dict)
    """(set or map, key) to nothing, or the chain to go to."""


def view_pod(pod: dict[str, Any]) -> Pod | None:
    """None for pods without an address of their own."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    ips = tuple(p["ip"] for p in status.get("podIPs") or []) or ((status["podIP"],) if status.get("podIP") else ())
    if not ips:
        return None
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    ports = tuple(
        (port["name"], _PROTOCOLS.get(port.get("protocol", "TCP"), "tcp"), port["containerPort"])
        for container in containers
        for port in container.get("ports") or []
        if port.get("name")
    )
    meta = pod["metadata"]
    return Pod(meta["namespace"], meta.get("labels") or {}, ips, spec.get("nodeName", ""), ports)


def view_policy(policy: dict[str, Any]) -> Policy:
    """Raises SelectorError for a selector that the API server should not have taken."""
    meta, spec = policy["metadata"], policy.get("spec") or {}
    namespace = meta["namespace"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]

    def rules(field_name: str, peers: str) -> tuple[Rule, ...]:
        return tuple(_rule(namespace, rule, rule.get(peers)) for rule in spec.get(field_name) or [])

    return Policy(
        (namespace, meta["name"]),
        Group(namespace, None, selector_of(spec.get("podSelector") or {})),
        rules("ingress", "from") if "Ingress" in types else None,
        rules("egress", "to") if "Egress" in types else None,
    )


def _rule(namespace: str, rule: dict[str, Any], peers: list[dict[str, Any]] | None) -> Rule:
    groups: list[Group] = []
    cidrs: list[str] = []
    for peer in peers or []:
        if peer.get("ipBlock"):
            cidrs += without(peer["ipBlock"]["cidr"], peer["ipBlock"].get("except") or ())
            continue
        pods = selector_of(peer["podSelector"]) if "podSelector" in peer else Selector()
        if "namespaceSelector" in peer:
            groups.append(Group("", selector_of(peer["namespaceSelector"]), pods))
        else:
            groups.append(Group(namespace, None, pods))
    numbers: list[tuple[str, int, int]] = []
    names: list[tuple[str, str]] = []
    for port in rule.get("ports") or []:
        protocol = _PROTOCOLS.get(port.get("protocol", "TCP"), "tcp")
        value = port.get("port")
        if value is None:
            numbers.append((protocol, 0, 0))
        elif isinstance(value, int):
            numbers.append((protocol, value, port.get("endPort") or value))
        else:
            names.append((protocol, value))
    return Rule(tuple(groups) if peers else None, tuple(cidrs), tuple(numbers), tuple(names), not rule.get("ports"))


def without(cidr: str, excepted: Iterable[str]) -> list[str]:
    """The networks that make up `cidr` less the excepted ones."""
    left: list[Any] = [ipaddress.ip_network(cidr, strict=False)]
    for text in excepted:
        hole = ipaddress.ip_network(text, strict=False)
        rest: list[Any] = []
        for network in left:
            if network.version != hole.version or not network.overlaps(hole):
                rest.append(network)
            elif network.supernet_of(hole):
                rest += network.address_exclude(hole)
        left = rest
    return [str(network) for network in sorted(left)]


class Policies:
    """All policies of the cluster, as one node sees them. `desired` is what to enforce; `changed` says it may
    differ.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self.changed = True
        self.policies: dict[Key, Policy] = {}
        self._pods: dict[Key, Pod] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._members: dict[Group, set[Key]] = {}
        self._aliases: tuple[Alias, ...] = ()

    def set_policy(self, key: Key, policy: Policy | None) -> None:
        if self.policies.get(key) == policy:
            return
        if policy is None:
            self.policies.pop(key, None)
        else:
            self.policies[key] = policy
        groups = {g for p in self.policies.values() for g in _groups(p)}
        for group in self._members.keys() - groups:
            del self._members[group]
        for group in groups - self._members.keys():
            self._members[group] = {pod_key for pod_key, pod in self._pods.items() if self._matches(group, pod)}
        self.changed = True

    def set_pod(self, key: Key, pod: Pod | None) -> None:
        old = self._pods.get(key)
        if old == pod:
            return
        if pod is None:
            self._pods.pop(key, None)
        else:
            self._pods[key] = pod
        for group, members in self._members.items():
            if pod is not None and self._matches(group, pod):
                members.add(key)
                self.changed = True
            elif key in members:
                members.discard(key)
                self.changed = True

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        if self._namespaces.get(name) == labels:
            return
        if labels is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = labels
        for group, members in self._members.items():
            if group.namespaces is not None:
                for key, pod in self._pods.items():
                    if pod.namespace == name:
                        (members.add if self._matches(group, pod) else members.discard)(key)
                self.changed = True

    def set_aliases(self, aliases: tuple[Alias, ...]) -> None:
        if aliases != self._aliases:
            self._aliases = aliases
            self.changed = True

    def _matches(self, group: Group, pod: Pod | Alias) -> bool:
        if group.namespaces is None:
            if pod.namespace != group.namespace:
                return False
        else:
            labels = self._namespaces.get(pod.namespace)
            if labels is None or not group.namespaces.matches(labels):
                return False
        return group.pods.matches(pod.labels)

    def desired(self) -> Desired:
        self.changed = False
        desired = Desired()
        closed: dict[str, dict[Key, list[str]]] = {"ingress": {}, "egress": {}}
        for key in sorted(self.policies):
            policy = self.policies[key]
            here = [k for k in self._members[policy.target] if self._pods[k].node == self.node]
            if not here:
                continue
            for direction, rules in (("ingress", policy.ingress), ("egress", policy.egress)):
                if rules is None:
                    continue
                chain = self._policy_chain(desired, policy, direction, rules, here)
                for pod_key in here:
                    closed[direction].setdefault(pod_key, []).append(chain)
        for direction, pods in closed.items():
            for pod_key, chains in pods.items():
                name = f"{direction}-pod-{digest(*chains)}"
                if name not in desired.chains:
                    text = "".join(f"add rule {WHERE} {name} jump {chain}\n" for chain in chains if chain)
                    desired.chains[name] = f"add chain {WHERE} {name}\n{text}add rule {WHERE} {name} drop\n"
                for ip in self._pods[pod_key].ips:
                    packed = ipaddress.ip_address(ip).packed
                    desired.elements[f"{direction}-{_suffix(ip)}", packed] = (name,)
                    desired.elements[f"self-{_suffix(ip)}", packed + packed] = ()
        return desired

    def _policy_chain(
        self, desired: Desired, policy: Policy, direction: str, rules: tuple[Rule, ...], here: list[Key]
    ) -> str:
        """The chain of one policy and direction; empty string where it allows nothing. Its name says what it holds."""
        if not rules:
            return ""
        name = f"{direction}-{digest(*policy.key, _spelled(rules))}"
        if name in desired.chains:
            return name
        sets: list[str] = []
        lines: list[str] = []
        for number, rule in enumerate(rules):
            self._rule(desired, name, direction, number, rule, here, sets, lines)
        made = "".join(f"add set {WHERE} {text}\n" for text in sets)
        added = "".join(f"add rule {WHERE} {name} {line}\n" for line in lines)
        desired.chains[name] = f"add chain {WHERE} {name}\n{made}{added}"
        return name

    def _rule(
        self,
        desired: Desired,
        chain: str,
        direction: str,
        number: int,
        rule: Rule,
        here: list[Key],
        sets: list[str],
        lines: list[str],
    ) -> None:
        side, verdict = ("saddr", "accept") if direction == "ingress" else ("daddr", "goto ingress")
        ports = ([""] if rule.any_port else []) + _port_matches(rule.numbers)
        if rule.anybody:
            lines += [f"{port} {verdict}".strip() for port in ports]
        for family, suffix, is6 in (("ip", "4", False), ("ip6", "6", True)):
            peers = []
            if rule.groups:
                peer_set = f"{chain}-peers-{number}-{suffix}"
                self._add_set(desired, sets, chain, peer_set, f"type {_ADDRESS[is6]}")
                peers.append(f"{family} {side} @{peer_set}")
                for ip in self._peer_ips(rule.groups):
                    if (":" in ip) == is6:
                        desired.elements[peer_set, ipaddress.ip_address(ip).packed] = ()
            cidrs = [c for c in rule.cidrs if (":" in c) == is6]
            if cidrs:
                peers.append(f"{family} {side} {{ {', '.join(cidrs)} }}")
            lines += [f"{peer} {port} {verdict}".replace("  ", " ") for peer in peers for port in ports]
            if not rule.names and direction == "ingress":
                continue
            # Exact destinations: named ports, which are numbers of the pod they lead to, and servers that are no pods.
            exact = f"{chain}-exact-{number}-{suffix}"
            self._add_set(desired, sets, chain, exact, f"type {_ADDRESS[is6]} . inet_proto . inet_service")
            match = f"{family} daddr . meta l4proto . th dport @{exact}"
            transports = "meta l4proto { tcp, udp, sctp }"
            if direction == "ingress":
                froms = [""] if rule.anybody else peers
                lines += [f"{peer} {transports} {match} {verdict}".strip() for peer in froms]
                found = self._named(here, rule.names)
            else:
                lines.append(f"{transports} {match} {verdict}")
                found = self._named(self._peers(rule.groups), rule.names) + self._alias_ports(rule)
            for ip, protocol, port in found:
                if (":" in ip) == is6:
                    key = ipaddress.ip_address(ip).packed + bytes((_NUMBERS[protocol], 0, 0, 0))
                    desired.elements[exact, key + port.to_bytes(2, "big") + b"\0\0"] = ()

    def _add_set(self, desired: Desired, sets: list[str], chain: str, name: str, text: str) -> None:
        desired.sets[name] = chain
        sets.append(f"{name} {{ {text}; }}")

    def _peers(self, groups: tuple[Group, ...] | None) -> list[Key]:
        if groups is None:
            return list(self._pods)
        return list({key for group in groups for key in self._members[group]})

    def _peer_ips(self, groups: tuple[Group, ...]) -> set[str]:
        found = {ip for key in self._peers(groups) for ip in self._pods[key].ips}
        return found

    def _named(self, keys: Iterable[Key], names: tuple[tuple[str, str], ...]) -> list[tuple[str, str, int]]:
        if not names:
            return []
        return [
            (ip, protocol, number)
            for key in keys
            for name, protocol, number in self._pods[key].ports
            if (protocol, name) in names
            for ip in self._pods[key].ips
        ]

    def _alias_ports(self, rule: Rule) -> list[tuple[str, str, int]]:
        found = []
        for alias in self._aliases:
            if rule.groups is not None:
                meant = any(self._matches(group, alias) for group in rule.groups)
            else:
                meant = rule.anybody
            address = ipaddress.ip_address(alias.ip)
            meant = meant or any(address in ipaddress.ip_network(cidr) for cidr in rule.cidrs)
            if meant and rule.permits(alias.protocol, alias.port):
                found.append((alias.ip, alias.protocol, alias.target))
        return found


TABLE = "peavine-policy"
WHERE = f"inet {TABLE}"
_ADDRESS = {False: "ipv4_addr", True: "ipv6_addr"}
_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}

FIXED_SETS = tuple(f"{name}-{family}" for name in ("ingress", "egress", "self") for family in "46")


def skeleton() -> str:
    """The table without any policy: hooks, and maps from a pod's address to its chain."""
    lines = []
    for suffix, kind in (("4", "ipv4_addr"), ("6", "ipv6_addr")):
        lines += [
            f"add map {WHERE} ingress-{suffix} {{ type {kind} : verdict; }}",
            f"add map {WHERE} egress-{suffix} {{ type {kind} : verdict; }}",
            f"add set {WHERE} self-{suffix} {{ type {kind} . {kind}; }}",
        ]
    lines += [
        f"add chain {WHERE} ingress",
        # A pod that reaches itself through a Service needs no leave.
        f"add rule {WHERE} ingress ip saddr . ip daddr @self-4 accept",
        f"add rule {WHERE} ingress ip6 saddr . ip6 daddr @self-6 accept",
        f"add rule {WHERE} ingress ip daddr vmap @ingress-4",
        f"add rule {WHERE} ingress ip6 daddr vmap @ingress-6",
        f"add rule {WHERE} ingress accept",
        f"add chain {WHERE} egress",
        f"add rule {WHERE} egress ip saddr . ip daddr @self-4 accept",
        f"add rule {WHERE} egress ip6 saddr . ip6 daddr @self-6 accept",
        f"add rule {WHERE} egress ip saddr vmap @egress-4",
        f"add rule {WHERE} egress ip6 saddr vmap @egress-6",
        f"add rule {WHERE} egress goto ingress",
    ]
    # Not in `output`: what the node itself sends to its pods (probes) is always let through.
    for hook in ("forward", "input"):
        lines += [
            f"add chain {WHERE} {hook} {{ type filter hook {hook} priority 0; }}",
            f"add rule {WHERE} {hook} ct state established,related accept",
            # Pods find each other and their gateway by these; a bridge shows them to us as forwarded.
            f"add rule {WHERE} {hook} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, "
            "nd-router-advert } accept",
            f"add rule {WHERE} {hook} goto egress",
        ]
    return "\n".join(lines) + "\n"


def _groups(policy: Policy) -> set[Group]:
    rules = [*(policy.ingress or ()), *(policy.egress or ())]
    return {policy.target, *(g for rule in rules for g in rule.groups or ())}


def _suffix(ip: str) -> str:
    return "6" if ":" in ip else "4"


def _port_matches(numbers: tuple[tuple[str, int, int], ...]) -> list[str]:
    found = [f"meta l4proto {protocol}" for protocol, _, last in numbers if not last]
    ranged = [
        f"{protocol} . {first}" + (f"-{last}" if last != first else "") for protocol, first, last in numbers if last
    ]
    if ranged:
        found.append(f"meta l4proto . th dport {{ {', '.join(dict.fromkeys(ranged))} }}")
    return found


def _spelled(rules: tuple[Rule, ...]) -> str:
    """What a chain's text depends on."""
    return json.dumps(
        [
            [None if r.groups is None else len(r.groups), r.cidrs, r.numbers, r.names, r.any_port, repr(r.groups)]
            for r in rules
        ]
    )
