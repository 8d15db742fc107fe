"""CVE-2020-8558, with packets: a service that listens on a node's 127.0.0.1 is for that node alone.

A neighbour on the node's network, and a pod on it, send what no honest host sends: packets for 127.0.0.1 that leave
their own machine. With `route_localnet` (which proxies once set, for NodePorts on 127.0.0.1) the node would take them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from peavine.linux import links
from peavine.network import forwarding
from peavine.proxy import modes
from tests.linux import world as worlds
from tests.linux.world import NODE_A, POD_CIDRS, Silent, World
from tests.proxy.test_conformance import Proxy

pytestmark = pytest.mark.root
ATTACKERS = {"client": NODE_A, "a1": "172.7.11.1"}  # and who takes their packets
PORT = 7777


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with worlds.make() as made:
        made.serve("a", PORT, address="127.0.0.1", answer="private")
        for pod in ("a1", "b1"):
            made.serve(pod, 8080)
        for name, gateway in ATTACKERS.items():
            with made.inside(name):
                links.set_sysctl("net/ipv4/conf/all/route_localnet", "1")
                links.set_sysctl("net/ipv4/conf/eth0/route_localnet", "1")
            made.run(name, "ip", "address", "del", "127.0.0.1/8", "dev", "lo")
            made.run(name, "ip", "route", "add", "127.0.0.0/8", "via", gateway, "dev", "eth0")
        yield made


def reached(world: World, name: str, seconds: float = 0.3) -> bool:
    try:
        return world.ask(name, "127.0.0.1", PORT, seconds=seconds)[0] == "private"
    except Silent:
        return False


def test_the_attack_works_where_a_node_lets_it(world: World) -> None:
    """Or the other test would show nothing."""
    devices = {"client": "eth0", "a1": "a1"}
    for name, device in devices.items():
        assert not reached(world, name)
        with world.inside("a"):
            links.set_sysctl(f"net/ipv4/conf/{device}/route_localnet", "1")
        try:
            assert reached(world, name, seconds=10)
        finally:
            with world.inside("a"):
                links.set_sysctl(f"net/ipv4/conf/{device}/route_localnet", "0")
        assert not reached(world, name)


@pytest.mark.parametrize("mode", ["nftables", "iptables", "userspace"])
def test_cve_2020_8558_no_neighbour_and_no_pod_reaches_a_nodes_loopback(world: World, mode: str) -> None:
    with world.inside("a"):
        forwarding.ensure(list(POD_CIDRS))
    proxy = Proxy(world, mode)
    try:
        ports = [{"name": "tcp", "port": 80, "nodePort": 30080, "protocol": "TCP", "targetPort": 8080}]
        spec = {"type": "NodePort", "clusterIP": "192.168.0.80", "clusterIPs": ["192.168.0.80"], "ports": ports}
        proxy.set_service("web", spec)
        proxy.set_endpoints("web", "a1", "b1")
        proxy.sync()
        assert proxy.answers("b", NODE_A, 30080)  # the rules are there, and work
        for name in ATTACKERS:
            assert not reached(world, name), name
    finally:
        with world.inside("a"):
            proxy.backend.close()
            modes.cleanup()
