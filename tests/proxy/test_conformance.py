"""One suite for every mode, with real packets between network namespaces: what clients meet, not which rules exist."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from peavine.linux import conntrack, netlink, nftables, programs
from peavine.proxy import modes, staleflows
from peavine.proxy.backend import Backend, BackendUnavailable, Settings
from peavine.proxy.model import Model, Node, view_service, view_slice
from tests.linux import world as worlds
from tests.linux.world import CLIENT_IP, NODE_A, NODE_A6, NODE_B, PODS, Refused, Silent, World

pytestmark = pytest.mark.root

FAMILIES = (4, 6)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with worlds.make() as made:
        for pod in PODS:
            made.serve(pod, 8080)
        made.serve("a", 8080, answer="node")
        yield made


class Proxy:
    """A backend on node a, fed with objects as the informers would."""

    def __init__(self, world: World, mode: str) -> None:
        self.world, self.mode = world, mode
        self.model = Model(Node("a", "zone-1"))
        self.settings = Settings(cluster_cidrs=worlds.POD_CIDRS, ipvs_timeouts=(0, 0, 1))
        with world.inside("a"):
            self.backend: Backend = modes.make(mode, self.settings)
            self.backend.start([])

    def set_service(self, name: str, spec: dict[str, Any], status: dict[str, Any] | None = None) -> None:
        metadata = {"name": name, "namespace": "default"}
        self.model.set_service(
            ("default", name), view_service({"metadata": metadata, "spec": spec, "status": status or {}})
        )

    def set_endpoints(self, name: str, *pods: Any, family: int = 4, protocol: str = "TCP", port: int = 8080) -> None:
        """Endpoints are pod names, or (pod name, fields of the endpoint)."""
        endpoints = []
        for entry in pods:
            pod, more = entry if isinstance(entry, tuple) else (entry, {})
            home, ip, ip6 = PODS[pod]
            endpoints.append(
                {"addresses": [ip if family == 4 else ip6], "nodeName": home, "conditions": {"ready": True}, **more}
            )
        for kind in (protocol, *(("UDP",) if protocol == "TCP" else ())):
            piece = f"{name}-{family}-{kind.lower()}"
            slice_ = {
                "metadata": {"name": piece, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
                "addressType": f"IPv{family}",
                "endpoints": endpoints,
                "ports": [{"name": kind.lower(), "port": port, "protocol": kind}],
            }
            self.model.set_slice(("default", piece), view_slice(slice_))

    def remove(self, name: str) -> None:
        self.model.set_service(("default", name), None)

    def sync(self) -> None:
        changes = self.model.take()
        with self.world.inside("a"):
            self.backend.apply(changes)
            with netlink.Netlink(netlink.NETFILTER) as link:
                for ipv6 in (False, True):
                    now = [p for change in changes for p in change.new]
                    staleflows.forget(link, now, ipv6, [p for change in changes for p in change.old])

    def restart(self) -> None:
        """A new process finds what the old one left."""
        self.backend.close()
        self.model.take()
        with self.world.inside("a"):
            self.backend = modes.make(self.mode, self.settings)
            self.backend.start([p for ports in self.model.ports.values() for p in ports])

    def answers(self, where: str, address: str, port: int, protocol: str = "tcp") -> bool:
        try:
            self.world.ask(where, address, port, protocol, seconds=0.3)
        except (Refused, Silent):
            return False
        return True

    def needs(self, ability: str) -> None:
        if self.mode == "userspace" and ability in ("client addresses", "established connections"):
            pytest.skip(f"mode userspace has no {ability}: it is a relay")

    def sees(self, pod: str, node: str) -> str:
        """The address with which an endpoint sees a pod: its own, except through a relay."""
        return node if self.mode == "userspace" else PODS[pod][1]

    def traces(self) -> str:
        """Everything in the kernel that a mode could leave."""
        saved = "".join(programs.run([f"{p}-save"]) for p in ("iptables", "ip6tables"))
        rules = "\n".join(line for line in saved.splitlines() if not line.startswith(("#", ":", "*", "COMMIT")))
        links = programs.run(["ip", "-br", "link"])
        tables = [t for t in nftables.listing("tables").splitlines() if not t.endswith((" nat", " filter", " mangle"))]
        return "\n".join([rules, links, *tables, *re.findall(r"^:((?:KUBE|PEAVINE)\S*)", saved, re.M)])


@pytest.fixture(params=modes.BACKENDS)
def proxy(request: pytest.FixtureRequest, world: World) -> Iterator[Proxy]:
    with world.inside("a"):
        modes.cleanup()
        _forget_datagrams()
    try:
        made = Proxy(world, request.param)
    except BackendUnavailable as error:
        pytest.skip(f"mode {request.param}: {error}")
    yield made
    made.backend.close()
    with world.inside("a"):
        modes.cleanup()


def _forget_datagrams() -> None:
    """A client's next free port may be that of a flow of the test before, which would go on with its endpoint."""
    with netlink.Netlink(netlink.NETFILTER) as link:
        for ipv6 in (False, True):
            for flow in conntrack.flows(link, ipv6, conntrack.UDP):
                conntrack.delete(link, flow)


def service(address: str | list[str], *, port: int = 80, node_port: int = 0, **more: Any) -> dict[str, Any]:
    addresses = [address] if isinstance(address, str) else address
    ports = [
        {"name": p.lower(), "port": port, "protocol": p, **({"nodePort": node_port} if node_port else {})}
        for p in ("TCP", "UDP")
    ]
    return {"type": "NodePort" if node_port else "ClusterIP", "clusterIPs": addresses, "ports": ports, **more}


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_cluster_ip_reaches_every_endpoint_from_pods_the_node_and_outside(proxy: Proxy, protocol: str) -> None:
    proxy.set_service("web", service("192.168.0.10"))
    proxy.set_endpoints("web", "a1", "b1")
    proxy.sync()
    for where in ("a2", "a", "client"):
        assert proxy.world.everyone(where, "192.168.0.10", 80, protocol) == {"a1", "b1"}


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_pod_is_seen_with_its_own_address_and_an_outsider_as_the_node(proxy: Proxy, protocol: str) -> None:
    proxy.set_service("web", service("192.168.0.10"))
    proxy.set_endpoints("web", "b1")
    proxy.sync()
    ask = proxy.world.ask
    assert ask("a2", "192.168.0.10", 80, protocol) == ("b1", proxy.sees("a2", NODE_A))
    assert ask("client", "192.168.0.10", 80, protocol) == ("b1", NODE_A)
    assert ask("a", "192.168.0.10", 80, protocol) == ("b1", NODE_A)


def test_both_families_have_their_own_endpoints(proxy: Proxy) -> None:
    proxy.set_service("web", service(["192.168.0.10", "fd08::10"]))
    proxy.set_endpoints("web", "a1")
    proxy.set_endpoints("web", "b1", family=6)
    proxy.sync()
    for protocol in ("tcp", "udp"):
        assert proxy.world.everyone("a2", "192.168.0.10", 80, protocol, 6) == {"a1"}
        assert proxy.world.everyone("a2", "fd08::10", 80, protocol, 6) == {"b1"}
        assert proxy.world.everyone("client", "fd08::10", 80, protocol, 6) == {"b1"}


def test_sctp_reaches_the_endpoints_of_both_families_and_follows_changes(proxy: Proxy) -> None:
    if not worlds.has_sctp():
        pytest.skip("this kernel has no SCTP (script/test-ipvs runs this in a guest that has it)")
    if proxy.mode == "userspace":
        pytest.skip("mode userspace does not relay SCTP")
    world = proxy.world
    ports = [{"name": "sctp", "port": 80, "protocol": "SCTP", "nodePort": 30080}]
    proxy.set_service("web", {"type": "NodePort", "clusterIPs": ["192.168.0.10", "fd08::10"], "ports": ports})
    proxy.sync()
    assert not proxy.answers("a2", "192.168.0.10", 80, "sctp")
    for family in (4, 6):
        proxy.set_endpoints("web", "a1", "b1", family=family, protocol="SCTP")
    proxy.sync()
    for where in ("a2", "a", "client"):
        for address, port in (("192.168.0.10", 80), ("fd08::10", 80), (NODE_A, 30080), (NODE_A6, 30080)):
            assert world.everyone(where, address, port, "sctp") == {"a1", "b1"}, (where, address)
    for family in (4, 6):
        proxy.set_endpoints("web", "b1", family=family, protocol="SCTP")
    proxy.sync()
    for address, port in (("192.168.0.10", 80), (NODE_A6, 30080)):
        assert world.everyone("client", address, port, "sctp", times=6) == {"b1"}
    assert world.ask("a2", "192.168.0.10", 80, "sctp") == ("b1", proxy.sees("a2", NODE_A))


def test_changes_are_in_force_at_once_and_other_services_stay(proxy: Proxy) -> None:
    world = proxy.world
    proxy.set_service("web", service("192.168.0.10"))
    proxy.set_service("other", service("192.168.0.11"))
    proxy.set_endpoints("web", "a1")
    proxy.set_endpoints("other", "b1")
    proxy.sync()
    assert world.everyone("a2", "192.168.0.10", 80) == {"a1"}
    proxy.set_endpoints("web", "b1")
    proxy.sync()
    assert world.everyone("a2", "192.168.0.10", 80) == {"b1"}
    proxy.set_endpoints("web", "a1", "a2", "b1")
    proxy.sync()
    assert world.everyone("client", "192.168.0.10", 80, times=40) == {"a1", "a2", "b1"}
    proxy.set_service("web", service("192.168.0.10", port=81))
    proxy.sync()
    assert world.everyone("a2", "192.168.0.10", 81, times=40) == {"a1", "a2", "b1"}
    assert not proxy.answers("a2", "192.168.0.10", 80)
    proxy.remove("web")
    proxy.sync()
    assert not proxy.answers("a2", "192.168.0.10", 81)
    assert world.everyone("a2", "192.168.0.11", 80) == {"b1"}


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_service_without_endpoints_refuses_and_does_not_hang(proxy: Proxy, protocol: str) -> None:
    proxy.set_service("web", service("192.168.0.10", node_port=30080))
    proxy.set_service("ext", service("192.168.0.12", externalIPs=["10.99.0.1"]))
    proxy.sync()
    for where in ("a2", "a", "client"):
        assert proxy.world.refused(where, "192.168.0.10", 80, protocol), where
        assert proxy.world.refused(where, "10.99.0.1", 80, protocol), where
    assert proxy.world.refused("client", NODE_A, 30080, protocol)
    proxy.set_endpoints("web", "a1")
    proxy.sync()
    assert proxy.world.ask("client", NODE_A, 30080, protocol)[0] == "a1"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_node_port_answers_on_the_nodes_addresses_only(proxy: Proxy, protocol: str) -> None:
    proxy.set_service("web", service(["192.168.0.10", "fd08::10"], node_port=30080))
    proxy.set_endpoints("web", "a1", "b1")
    proxy.set_endpoints("web", "a1", "b1", family=6)
    proxy.sync()
    world = proxy.world
    for where in ("client", "a2", "a"):
        assert world.everyone(where, NODE_A, 30080, protocol) == {"a1", "b1"}
        assert world.everyone(where, NODE_A6, 30080, protocol) == {"a1", "b1"}
    assert world.refused("client", NODE_B, 30080, protocol)
    # The node's own servers are not disturbed.
    assert world.ask("client", NODE_A, 8080, protocol)[0] == "node"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_external_and_load_balancer_addresses_lead_to_endpoints(proxy: Proxy, protocol: str) -> None:
    spec = service("192.168.0.10", node_port=30080, externalIPs=["10.99.0.1"])
    spec["type"] = "LoadBalancer"
    proxy.set_service(
        "web", spec, {"loadBalancer": {"ingress": [{"ip": "10.99.0.2"}, {"ip": "10.99.0.3", "ipMode": "Proxy"}]}}
    )
    proxy.set_endpoints("web", "a1", "b1")
    proxy.sync()
    for where in ("client", "a2", "a"):
        assert proxy.world.everyone(where, "10.99.0.1", 80, protocol) == {"a1", "b1"}
        assert proxy.world.everyone(where, "10.99.0.2", 80, protocol) == {"a1", "b1"}
    assert not proxy.answers("client", "10.99.0.3", 80)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_source_ranges_keep_others_out_of_the_load_balancer_address(proxy: Proxy, protocol: str) -> None:
    def make(ranges: list[str]) -> None:
        spec = service("192.168.0.10", node_port=30080, loadBalancerSourceRanges=ranges)
        spec["type"] = "LoadBalancer"
        proxy.set_service("web", spec, {"loadBalancer": {"ingress": [{"ip": "10.99.0.2"}]}})
        proxy.sync()

    proxy.set_endpoints("web", "a1")
    make(["10.4.7.0/25", "10.5.0.0/16"])
    assert proxy.world.ask("client", "10.99.0.2", 80, protocol)[0] == "a1"
    make(["10.5.0.0/16"])
    assert proxy.world.silent("client", "10.99.0.2", 80, protocol)
    assert proxy.world.ask("client", "192.168.0.10", 80, protocol)[0] == "a1"
    make(["0.0.0.0/0"])
    assert proxy.world.ask("client", "10.99.0.2", 80, protocol)[0] == "a1"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_external_policy_local_keeps_the_clients_address_and_stays_on_the_node(proxy: Proxy, protocol: str) -> None:
    proxy.needs("client addresses")
    spec = service("192.168.0.10", node_port=30080, externalTrafficPolicy="Local")
    spec["type"] = "LoadBalancer"
    proxy.set_service("web", spec, {"loadBalancer": {"ingress": [{"ip": "10.99.0.2"}]}})
    proxy.set_endpoints("web", "a1", "b1")
    proxy.sync()
    world = proxy.world
    for address, port in ((NODE_A, 30080), ("10.99.0.2", 80)):
        for _ in range(8):
            assert world.ask("client", address, port, protocol) == ("a1", CLIENT_IP)
        # Pods and the node itself are inside: they reach every endpoint. IPVS has one choice for all.
        insiders = {"a1"} if proxy.mode == "ipvs" else {"a1", "b1"}
        assert world.everyone("a2", address, port, protocol) == insiders
        assert world.everyone("a", address, port, protocol) == insiders
    assert world.everyone("client", "192.168.0.10", 80, protocol) == {"a1", "b1"}
    proxy.set_endpoints("web", "b1")
    proxy.sync()
    # A balancer must notice by silence (and the health check) that this node has nothing.
    assert world.silent("client", NODE_A, 30080, protocol)
    assert world.silent("client", "10.99.0.2", 80, protocol)
    if proxy.mode != "ipvs":
        assert world.ask("a2", NODE_A, 30080, protocol)[0] == "b1"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_internal_policy_local_uses_this_nodes_endpoints_or_none(proxy: Proxy, protocol: str) -> None:
    proxy.set_service("web", service("192.168.0.10", internalTrafficPolicy="Local"))
    proxy.set_endpoints("web", "a1", "b1")
    proxy.sync()
    assert proxy.world.everyone("a2", "192.168.0.10", 80, protocol) == {"a1"}
    proxy.set_endpoints("web", "b1")
    proxy.sync()
    assert not proxy.answers("a2", "192.168.0.10", 80, protocol)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_pod_reaches_itself_through_its_service(proxy: Proxy, protocol: str) -> None:
    proxy.set_service("web", service("192.168.0.10"))
    proxy.set_endpoints("web", "a1")
    proxy.sync()
    who, seen = proxy.world.ask("a1", "192.168.0.10", 80, protocol)
    assert who == "a1" and seen != PODS["a1"][1]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_client_with_affinity_stays_with_its_endpoint_until_it_is_gone(proxy: Proxy, protocol: str) -> None:
    more = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    proxy.set_service("web", service("192.168.0.10", node_port=30080, **more))
    proxy.set_endpoints("web", "a1", "b1")
    proxy.sync()
    world = proxy.world
    (first,) = world.everyone("a2", "192.168.0.10", 80, protocol)
    assert world.everyone("client", NODE_A, 30080, protocol) in ({"a1"}, {"b1"})
    proxy.set_endpoints("web", "a1", "a2", "b1")
    proxy.sync()
    assert world.everyone("a2", "192.168.0.10", 80, protocol) == {first}
    rest = [pod for pod in ("a1", "a2", "b1") if pod != first]
    proxy.set_endpoints("web", *rest)
    proxy.sync()
    (second,) = world.everyone("a2", "192.168.0.10", 80, protocol)
    assert second in rest


def test_affinity_ends_after_its_time(proxy: Proxy) -> None:
    # IPVS remembers a client while it remembers one of its connections: for TCP that is two minutes after the last.
    seconds, protocol = (3, "udp") if proxy.mode == "ipvs" else (1, "tcp")
    more = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}
    proxy.set_service("web", service("192.168.0.10", **more))
    proxy.set_endpoints("web", "a1", "b1")
    proxy.sync()
    (first,) = proxy.world.everyone("a2", "192.168.0.10", 80, protocol, times=4)
    seen = {first}
    for _ in range(30):
        time.sleep(seconds + 0.15)
        seen |= proxy.world.everyone("a2", "192.168.0.10", 80, protocol, times=1)
        if len(seen) == 2:
            break
    assert len(seen) == 2


def test_serving_terminating_endpoints_are_used_only_when_nothing_is_ready(proxy: Proxy) -> None:
    going = {"conditions": {"ready": False, "serving": True, "terminating": True}}
    proxy.set_service("web", service("192.168.0.10"))
    proxy.set_endpoints("web", ("a1", going), "b1")
    proxy.sync()
    assert proxy.world.everyone("a2", "192.168.0.10", 80) == {"b1"}
    proxy.set_endpoints("web", ("a1", going), ("b1", {"conditions": {"ready": False, "serving": False}}))
    proxy.sync()
    assert proxy.world.everyone("a2", "192.168.0.10", 80) == {"a1"}


def test_hints_keep_traffic_in_the_zone_or_on_the_node(proxy: Proxy) -> None:
    zone_1 = {"hints": {"forZones": [{"name": "zone-1"}]}}
    zone_2 = {"hints": {"forZones": [{"name": "zone-2"}]}}
    proxy.set_service("web", service("192.168.0.10", trafficDistribution="PreferClose"))
    proxy.set_endpoints("web", ("a1", zone_1), ("b1", zone_2))
    proxy.sync()
    assert proxy.world.everyone("a2", "192.168.0.10", 80) == {"a1"}
    proxy.set_endpoints("web", ("a1", zone_1), "b1")
    proxy.sync()
    assert proxy.world.everyone("a2", "192.168.0.10", 80) == {"a1", "b1"}
    here = {"hints": {"forNodes": [{"name": "a"}], **zone_1["hints"]}}
    there = {"hints": {"forNodes": [{"name": "b"}], **zone_1["hints"]}}
    proxy.set_endpoints("web", ("a1", here), ("b1", there))
    proxy.sync()
    assert proxy.world.everyone("a2", "192.168.0.10", 80) == {"a1"}


def test_a_udp_client_that_keeps_its_port_follows_the_endpoints(proxy: Proxy) -> None:
    """Its flow is remembered by the kernel; the proxy must make it forget."""
    world = proxy.world
    proxy.set_service("web", service("192.168.0.10", node_port=30080))
    proxy.sync()
    for port in (40000, 40001):
        with pytest.raises((Refused, Silent)):
            world.ask("a2", "192.168.0.10", 80, "udp", source_port=port, seconds=0.3)
    proxy.set_endpoints("web", "a1")
    proxy.sync()
    assert world.ask("a2", "192.168.0.10", 80, "udp", source_port=40000)[0] == "a1"
    assert world.ask("client", NODE_A, 30080, "udp", source_port=40002)[0] == "a1"
    proxy.set_endpoints("web", "b1")
    proxy.sync()
    assert world.ask("a2", "192.168.0.10", 80, "udp", source_port=40000)[0] == "b1"
    assert world.ask("client", NODE_A, 30080, "udp", source_port=40002)[0] == "b1"


def test_a_connection_lives_on_while_rules_change(proxy: Proxy) -> None:
    proxy.needs("established connections")
    proxy.set_service("web", service("192.168.0.10"))
    proxy.set_endpoints("web", "a1")
    proxy.sync()
    with proxy.world.stream("a2", "192.168.0.10", 80) as talk:
        assert talk("one") == "a1 one"
        proxy.set_endpoints("web", "b1")
        proxy.sync()
        assert talk("two") == "a1 two"
        proxy.restart()
        assert talk("three") == "a1 three"


def test_no_new_connection_fails_while_endpoints_and_other_services_come_and_go(proxy: Proxy) -> None:
    world = proxy.world
    proxy.set_service("web", service("192.168.0.10"))
    proxy.set_endpoints("web", "a1", "b1")
    proxy.sync()
    failed: list[str] = []
    answered = {"a2": 0, "client": 0}
    over = threading.Event()

    def knock(where: str) -> None:
        while not over.is_set():
            try:
                world.ask(where, "192.168.0.10", 80, seconds=10)
                answered[where] += 1
            except (Refused, Silent) as error:
                failed.append(f"{where}: {error!r}")

    knockers = [threading.Thread(target=knock, args=(where,)) for where in answered]
    for thread in knockers:
        thread.start()
    try:
        for turn in range(8):
            proxy.set_endpoints("web", *(("a1",), ("a1", "a2", "b1"), ("b1",), ("a1", "b1"))[turn % 4])
            proxy.set_service(f"other{turn % 2}", service(f"192.168.0.2{turn % 2}"))
            proxy.set_endpoints(f"other{turn % 2}", "a2")
            proxy.remove(f"other{(turn + 1) % 2}")
            enough = {where: count + 3 for where, count in answered.items()}
            proxy.sync()
            while any(answered[where] < enough[where] for where in answered) and not failed:
                over.wait(0.002)
    finally:
        over.set()
        for thread in knockers:
            thread.join(30)
    assert failed == []


def test_a_restarted_proxy_finds_its_rules_and_removes_what_is_stale(proxy: Proxy) -> None:
    for number in range(3):
        proxy.set_service(
            f"web{number}", service(f"192.168.0.1{number}", sessionAffinity="ClientIP" if number else "None")
        )
        proxy.set_endpoints(f"web{number}", "a1", "b1")
    proxy.sync()
    proxy.remove("web2")
    proxy.set_endpoints("web0", "a1")
    proxy.restart()
    assert proxy.world.everyone("a2", "192.168.0.10", 80) == {"a1"}
    assert proxy.world.everyone("a2", "192.168.0.11", 80) <= {"a1", "b1"}
    assert not proxy.answers("a2", "192.168.0.12", 80)


def test_an_address_that_two_services_want_serves_the_first_until_it_leaves(proxy: Proxy) -> None:
    for name, address, pod in (("one", "192.168.0.10", "a1"), ("two", "192.168.0.11", "b1")):
        proxy.set_service(name, service(address, externalIPs=["10.99.0.1"]))
        proxy.set_endpoints(name, pod)
        proxy.sync()
    assert proxy.world.everyone("client", "10.99.0.1", 80) == {"a1"}
    proxy.remove("one")
    proxy.sync()
    assert proxy.world.everyone("client", "10.99.0.1", 80) == {"b1"}


def test_clean_up_leaves_only_what_is_foreign(proxy: Proxy) -> None:
    world = proxy.world
    foreign = "table inet foreign {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n"
    foreign += '\t\ttcp dport 9 counter packets 0 bytes 0 drop comment "mine"\n\t}\n}\n'
    with world.inside("a"):
        nftables.run(foreign)
        proxy.backend.close()
        modes.cleanup()
        before = proxy.traces()
    proxy.restart()
    more = {"sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["10.0.0.0/8"], "externalTrafficPolicy": "Local"}
    spec = service(["192.168.0.10", "fd08::10"], node_port=30080, **more)
    spec["type"] = "LoadBalancer"
    proxy.set_service("web", spec, {"loadBalancer": {"ingress": [{"ip": "10.99.0.2"}]}})
    proxy.set_service("none", service("192.168.0.11", node_port=30081))
    proxy.set_endpoints("web", "a1", "b1")
    proxy.sync()
    with world.inside("a"):
        proxy.backend.close()
        modes.cleanup()
        assert proxy.traces() == before
        assert '"mine"' in nftables.listing("ruleset")
        nftables.remove_tables([("inet", "foreign")])
        proxy.backend = modes.make(proxy.mode, proxy.settings)


def test_other_modes_leave_nothing_when_this_one_takes_over(proxy: Proxy) -> None:
    world = proxy.world
    for other in modes.BACKENDS:
        if other == proxy.mode:
            continue
        with world.inside("a"):
            try:
                backend = modes.make(other, proxy.settings)
            except BackendUnavailable:
                continue
            model = Model(Node("a"))
            model.set_service(("x", "old"), view_service({"metadata": {}, "spec": service("192.168.0.99")}))
            backend.start([p for change in model.take() for p in change.new])
            backend.close()
            modes.cleanup(keep=proxy.mode)
    proxy.set_service("web", service("192.168.0.10"))
    proxy.set_endpoints("web", "a1", "b1")
    proxy.sync()
    assert world.everyone("a2", "192.168.0.10", 80) == {"a1", "b1"}
    proxy.remove("web")
    proxy.sync()
