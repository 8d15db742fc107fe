"""NetworkPolicies with real packets: pods a1 and a2 on the guarded node, b1 on another, a client outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from peavine.linux import nftables
from peavine.network import enforcer, masquerade
from peavine.network.enforcer import Enforcer
from peavine.network.policy import Alias, Policies, view_pod, view_policy, without
from tests.linux import world as worlds
from tests.linux.world import CLIENT_IP, NODE_A, PODS, World

LABELS = {"a1": {"app": "db"}, "a2": {"app": "web"}, "b1": {"app": "web", "side": "far"}}


def test_a_block_less_its_exceptions_is_the_rest() -> None:
    assert without("10.0.0.0/30", ["10.0.0.1/32"]) == ["10.0.0.0/32", "10.0.0.2/31"]
    assert without("10.0.0.0/24", ["10.0.0.0/16"]) == []
    assert without("10.0.0.0/24", ["10.1.0.0/16"]) == ["10.0.0.0/24"]
    assert len(without("0.0.0.0/0", ["10.0.0.0/8", "192.168.0.0/16"])) == 22


class Guard:
    def __init__(self, world: World) -> None:
        self.world = world
        self.policies = Policies("a")
        self.policies.set_namespace("default", {"kubernetes.io/metadata.name": "default"})
        self.policies.set_namespace("other", {"team": "blue"})
        for name in PODS:
            self.set_pod(name)
        with world.inside("a"):
            # As on every node: something translates, so the kernel tracks connections from the start.
            masquerade.install(["172.7.11.0/24"], list(worlds.POD_CIDRS))
            self.enforcer = Enforcer()
        self.sent = 0

    def set_pod(self, name: str, labels: dict[str, str] | None = None, namespace: str = "default") -> None:
        home, ip, ip6 = PODS[name]
        ports = [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 8080, "protocol": "UDP"}]
        pod = {
            "metadata": {"name": name, "namespace": namespace, "labels": LABELS[name] if labels is None else labels},
            "spec": {"nodeName": home, "containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": "Running", "podIPs": [{"ip": ip}, {"ip": ip6}]},
        }
        self.policies.set_pod(("", name), view_pod(pod))

    def policy(self, name: str, spec: dict[str, Any] | None) -> None:
        obj = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
        self.policies.set_policy(("default", name), view_policy(obj) if spec is not None else None)

    def sync(self) -> None:
        with self.world.inside("a"):
            self.sent = self.enforcer.enforce(self.policies.desired())

    def reaches(self, source: str, target: str, port: int = 8080, protocol: str = "tcp", *, ipv6: bool = False) -> bool:
        address = PODS[target][2 if ipv6 else 1] if target in PODS else target
        return not self.world.silent(source, address, port, protocol)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with worlds.make() as made:
        for pod in PODS:
            for port in (8080, 8081, 8085):
                made.serve(pod, port)
        made.serve("client", 8080)
        made.serve("a", 10053, NODE_A)
        yield made


@pytest.fixture
def guard(world: World) -> Iterator[Guard]:
    made = Guard(world)
    yield made
    made.enforcer.close()
    with world.inside("a"):
        enforcer.cleanup()
        assert "peavine-policy" not in nftables.listing("tables")


DB = {"matchLabels": {"app": "db"}}


@pytest.mark.root
def test_default_deny_closes_a_pod_but_not_to_its_node_nor_to_answers(guard: Guard) -> None:
    guard.sync()
    assert guard.reaches("a2", "a1") and guard.reaches("client", "a1")
    with guard.world.stream("a2", PODS["a1"][1], 8080) as talk:
        assert talk("before") == "a1 before"
        guard.policy("deny", {"podSelector": DB, "policyTypes": ["Ingress"]})
        guard.sync()
        assert talk("after") == "a1 after"
    for source in ("a2", "b1", "client"):
        assert not guard.reaches(source, "a1")
        assert not guard.reaches(source, "a1", ipv6=True)
        assert not guard.reaches(source, "a1", protocol="udp")
        assert guard.reaches(source, "a2")
    # Probes come from the node; and what the pod asks for may come back.
    assert guard.reaches("a", "a1") and guard.reaches("a", "a1", ipv6=True)
    assert guard.reaches("a1", CLIENT_IP) and guard.reaches("a1", "b1", protocol="udp")
    assert guard.reaches("a1", "a1")
    guard.policy("deny", None)
    guard.sync()
    assert guard.reaches("client", "a1")


@pytest.mark.root
def test_peers_by_pod_and_namespace_labels_follow_the_labels(guard: Guard) -> None:
    web = {"podSelector": {"matchLabels": {"app": "web"}}}
    guard.policy("web", {"podSelector": DB, "ingress": [{"from": [web]}]})
    guard.sync()
    assert guard.reaches("a2", "a1") and guard.reaches("b1", "a1", ipv6=True)
    assert not guard.reaches("client", "a1")
    guard.set_pod("a2", {"app": "other"})
    guard.sync()
    assert guard.sent == 2  # One address of each family; nothing else moved.
    assert not guard.reaches("a2", "a1") and guard.reaches("b1", "a1")
    # The same labels in another namespace are somebody else.
    guard.set_pod("b1", {"app": "web"}, "other")
    guard.sync()
    assert not guard.reaches("b1", "a1")
    blue = {"namespaceSelector": {"matchLabels": {"team": "blue"}}, **web}
    guard.policy("web", {"podSelector": DB, "ingress": [{"from": [blue]}]})
    guard.sync()
    assert guard.reaches("b1", "a1") and not guard.reaches("a2", "a1")
    guard.policies.set_namespace("other", {"team": "red"})
    guard.sync()
    assert not guard.reaches("b1", "a1")


@pytest.mark.root
def test_blocks_with_exceptions_and_rules_add_up(guard: Guard) -> None:
    block = {"ipBlock": {"cidr": "10.4.0.0/16", "except": ["10.4.7.0/25"]}}
    guard.policy("blocks", {"podSelector": DB, "ingress": [{"from": [block]}]})
    guard.sync()
    assert not guard.reaches("client", "a1")
    block = {"ipBlock": {"cidr": "10.4.0.0/16", "except": ["10.4.7.128/25"]}}
    six = {"ipBlock": {"cidr": "fd04:7::/64"}}
    guard.policy("blocks", {"podSelector": DB, "ingress": [{"from": [block, six]}]})
    guard.sync()
    assert guard.reaches("client", "a1") and guard.reaches("client", "a1", ipv6=True)
    assert not guard.reaches("a2", "a1")
    guard.policy("more", {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]})
    guard.sync()
    assert guard.reaches("a2", "a1") and guard.reaches("client", "a1")
    assert not guard.reaches("client", "a2")


@pytest.mark.root
def test_ports_ranges_names_and_protocols(guard: Guard) -> None:
    def only(*ports: dict[str, Any]) -> None:
        guard.policy("ports", {"podSelector": DB, "ingress": [{"ports": list(ports)}]})
        guard.sync()

    only({"port": 8080})
    assert guard.reaches("a2", "a1") and not guard.reaches("a2", "a1", 8081)
    assert not guard.reaches("a2", "a1", protocol="udp")
    only({"port": 8081, "endPort": 8090, "protocol": "UDP"})
    assert guard.reaches("client", "a1", 8085, "udp") and not guard.reaches("client", "a1", 8080, "udp")
    assert not guard.reaches("client", "a1", 8085)
    only({"port": "http"})
    assert guard.reaches("b1", "a1") and not guard.reaches("b1", "a1", 8081)
    assert not guard.reaches("b1", "a1", protocol="udp")
    only({"port": "dns", "protocol": "UDP"})
    assert guard.reaches("b1", "a1", protocol="udp") and not guard.reaches("b1", "a1")
    only({"protocol": "UDP"})
    assert guard.reaches("b1", "a1", 8085, "udp") and not guard.reaches("b1", "a1")


@pytest.mark.root
def test_egress_is_closed_and_opened_by_peer_and_port(guard: Guard) -> None:
    guard.policy("out", {"podSelector": DB, "policyTypes": ["Egress"]})
    guard.sync()
    for target in ("a2", "b1", CLIENT_IP, NODE_A):
        assert not guard.reaches("a1", target, 10053 if target == NODE_A else 8080)
    assert guard.reaches("a2", "a1") and guard.reaches("client", "a1")
    web = {"podSelector": {"matchLabels": {"app": "web"}}}
    guard.policy(
        "out", {"podSelector": DB, "policyTypes": ["Egress"], "egress": [{"to": [web], "ports": [{"port": 8081}]}]}
    )
    guard.sync()
    assert guard.reaches("a1", "b1", 8081) and guard.reaches("a1", "a2", 8081, ipv6=True)
    assert not guard.reaches("a1", "b1") and not guard.reaches("a1", CLIENT_IP, 8081)
    guard.policy(
        "out", {"podSelector": DB, "policyTypes": ["Egress"], "egress": [{"to": [web], "ports": [{"port": "http"}]}]}
    )
    guard.sync()
    assert guard.reaches("a1", "b1") and not guard.reaches("a1", "b1", 8081)
    # Both ends have a say.
    guard.policy("in", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]})
    guard.sync()
    assert not guard.reaches("a1", "a2") and guard.reaches("a1", "b1")


@pytest.mark.root
def test_a_rule_for_the_dns_pods_lets_through_to_the_dns_process(guard: Guard) -> None:
    guard.policies.set_namespace("kube-system", {"kubernetes.io/metadata.name": "kube-system"})
    labels = {"k8s-app": "kube-dns"}
    guard.policies.set_aliases((Alias("kube-system", labels, NODE_A, "udp", 53, 10053),))
    system = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    rule = {"to": [{**system, "podSelector": {"matchLabels": labels}}], "ports": [{"port": 53, "protocol": "UDP"}]}
    guard.policy("out", {"podSelector": DB, "policyTypes": ["Egress"], "egress": [rule]})
    guard.sync()
    assert guard.reaches("a1", NODE_A, 10053, "udp") and not guard.reaches("a1", NODE_A, 10053, "tcp")
    guard.policy(
        "out", {"podSelector": DB, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]}
    )
    guard.sync()
    assert guard.reaches("a1", NODE_A, 10053, "udp") and not guard.reaches("a1", "b1", protocol="udp")


@pytest.mark.root
def test_a_restarted_process_finds_its_table_and_sends_only_the_difference(guard: Guard) -> None:
    web = {"podSelector": {"matchLabels": {"app": "web"}}}
    guard.policy("web", {"podSelector": DB, "ingress": [{"from": [web]}]})
    guard.policy("old", {"podSelector": DB, "egress": [{"to": [web]}], "policyTypes": ["Egress"]})
    guard.sync()
    guard.enforcer.close()
    with guard.world.inside("a"):
        guard.enforcer = Enforcer()
    guard.sync()
    assert guard.sent == 0
    guard.enforcer.close()
    with guard.world.inside("a"):
        guard.enforcer = Enforcer()
    guard.policy("old", None)
    guard.sync()
    assert guard.reaches("a1", CLIENT_IP) and not guard.reaches("client", "a1")
