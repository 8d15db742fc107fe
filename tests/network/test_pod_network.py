"""Two nodes, pods made by the real CNI plugins, packets between them; and nothing left after the clean-up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peavine.linux import links, namespaces, nftables, programs
from peavine.network import agent, attachments, cni, forwarding, peers
from peavine.network.agent import Agent, Settings
from peavine.network.peers import Peer
from tests.linux import world as worlds
from tests.linux.world import CLIENT_IP, NODE_A, NODE_A6, NODE_B, NODE_B6, Refused, World
from tests.network import plugins

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path(plugins.BIN, "bridge").exists(), reason="the CNI plugins are not installed"),
]

SUBNETS = {"a": ("172.9.11.0/24", "fd09:11::/64"), "b": ("172.9.21.0/24", "fd09:21::/64")}
ADDRESSES = {"a": (NODE_A, NODE_A6), "b": (NODE_B, NODE_B6)}


@pytest.fixture
def world() -> Iterator[World]:
    with worlds.make() as made:
        made.serve("client", 9000)
        made.serve("a", 9000)
        yield made


def start(world: World, node: str, folder: Path, backend: str) -> Settings:
    settings = Settings(
        node_name=node,
        conf_dir=folder / node / "net.d",
        bin_dirs=(Path(plugins.BIN),),
        state_dir=folder / node / "state",
        pod_cidrs=SUBNETS[node],
        cluster_cidrs=("172.9.0.0/16", "fd09::/16"),
        backend=backend,
        node_ip=ADDRESSES[node][0],
    )
    with world.inside(node):
        assert Agent(settings, None).prepare()
    return settings


def connect(world: World, backend: str) -> None:
    """What the agents do once they see each other's Node."""
    macs = {}
    for node in ("a", "b"):
        with world.inside(node):
            device = links.link(agent.VXLAN_DEVICE)
            macs[node] = device["address"] if device else ""
    for node, other in (("a", "b"), ("b", "a")):
        peer = Peer(other, SUBNETS[other], ADDRESSES[other], macs[other])
        with world.inside(node):
            if backend == "vxlan":
                agent.apply(peers.vxlan([peer], agent.VXLAN_DEVICE), agent.VXLAN_DEVICE)
            else:
                agent.apply(peers.host_gw([peer]), None)


def pod(world: World, node: str, settings: Settings, name: str, **capabilities: object) -> tuple[str, str]:
    """Make a pod's namespace and network; its addresses of both families."""
    world.names[name] = world.names[node] + name
    namespaces.create(world.names[name])
    with world.inside(node):
        path = f"{namespaces.NAMED}/{world.names[name]}"
        result = plugins.call("ADD", settings.conf_dir / cni.FILE, name, path, capabilities)
    with world.inside(name):
        programs.run(["ip", "link", "set", "lo", "up"])
    world.serve(name, 8080)
    four, six = (ip["address"].split("/")[0] for ip in result["ips"])
    return four, six


@pytest.mark.parametrize("backend", ["host-gw", "vxlan"])
def test_pods_of_two_nodes_reach_each_other_and_the_world_and_nothing_is_left_behind(
    tmp_path: Path, world: World, backend: str
) -> None:
    settings = {node: start(world, node, tmp_path, backend) for node in ("a", "b")}
    connect(world, backend)
    addresses = {name: pod(world, node, settings[node], name) for name, node in (("p1", "a"), ("p2", "a"), ("p3", "b"))}
    assert addresses["p1"][0].startswith("172.9.11.") and addresses["p3"][1].startswith("fd09:21:")
    for protocol in ("tcp", "udp"):
        for source, target in (("p1", "p2"), ("p1", "p3"), ("p3", "p2")):
            for family in (0, 1):
                # Pods see each other's own addresses: nothing translates inside the pod network.
                assert world.ask(source, addresses[target][family], 8080, protocol) == (
                    target,
                    addresses[source][family],
                )
        assert world.ask("a", addresses["p1"][0], 8080, protocol)[0] == "p1"
        # The world sees the node.
        assert world.ask("p1", CLIENT_IP, 9000, protocol) == ("client", NODE_A)
        assert world.ask("p3", worlds.CLIENT_IP6, 9000, protocol) == ("client", NODE_B6)
    with world.inside("a"):
        path = f"{namespaces.NAMED}/{world.names['p1']}"
        plugins.call("CHECK", settings["a"].conf_dir / cni.FILE, "p1", path)
        plugins.call("DEL", settings["a"].conf_dir / cni.FILE, "p1", path)
        agent.cleanup(settings["a"].conf_dir, settings["a"].state_dir, settings["a"].bridge)
        assert links.link("peavine0") is None and links.link(agent.VXLAN_DEVICE) is None
        assert links.routes() == set()
        assert "peavine" not in nftables.listing("tables")
        assert list(settings["a"].conf_dir.iterdir()) == []
    for name in addresses:
        namespaces.remove(world.names[name])


@pytest.mark.parametrize(("backend", "mtu"), [("host-gw", 1500), ("vxlan", 1450)])
def test_pods_know_the_largest_packet_that_reaches_another_node_whole(
    tmp_path: Path, world: World, backend: str, mtu: int
) -> None:
    settings = {node: start(world, node, tmp_path, backend) for node in ("a", "b")}
    connect(world, backend)
    pod(world, "a", settings["a"], "p1")
    addresses = pod(world, "b", settings["b"], "p3")
    for address, headers in zip(addresses, (28, 48), strict=True):
        assert world.ask("p1", address, 8080, "udp", size=mtu - headers)[0] == "p3"
        with pytest.raises(Refused, match="too long"):
            world.ask("p1", address, 8080, "udp", size=mtu - headers + 1)
    for name in ("p1", "p3"):
        namespaces.remove(world.names[name])


def test_a_pod_with_a_bandwidth_sends_and_receives_no_faster(tmp_path: Path, world: World) -> None:
    settings = start(world, "a", tmp_path, "host-gw")
    # A million bits in a second, and a burst of a tenth of that: 60 kB with their headers take at least 0.35 s.
    limits = {"ingressRate": 1_000_000, "ingressBurst": 100_000, "egressRate": 1_000_000, "egressBurst": 100_000}
    try:
        address, _ = pod(world, "a", settings, "p1", bandwidth=limits)
    except RuntimeError as error:
        pytest.skip(f"the bandwidth plugin does not work here: {error}")
    for source, target in (("a", address), ("p1", NODE_A)):
        began = time.monotonic()
        with world.stream(source, target, 8080 if source == "a" else 9000) as talk:
            talk("x" * 90)
            for _ in range(600):
                talk("y" * 90)
        # Never faster; how much slower is the machine's business.
        assert time.monotonic() - began > 0.35, source
    namespaces.remove(world.names["p1"])


def test_a_second_start_changes_nothing_and_a_gone_node_loses_its_route(tmp_path: Path, world: World) -> None:
    settings = start(world, "a", tmp_path, "host-gw")
    before = (settings.conf_dir / cni.FILE).stat().st_mtime_ns
    connect_a = peers.host_gw([Peer("b", SUBNETS["b"], ADDRESSES["b"])])
    with world.inside("a"):
        agent.apply(connect_a, None)
        routes = links.routes()
        assert {r.destination for r in routes} == set(SUBNETS["b"])
        start(world, "a", tmp_path, "host-gw")
        agent.apply(connect_a, None)
        assert links.routes() == routes
        agent.apply(peers.host_gw([]), None)
        assert links.routes() == set()
    assert (settings.conf_dir / cni.FILE).stat().st_mtime_ns == before


def test_a_host_port_leads_into_the_pod(tmp_path: Path, world: World) -> None:
    settings = start(world, "a", tmp_path, "host-gw")
    mappings = [{"hostPort": 18080, "containerPort": 8080, "protocol": p} for p in ("tcp", "udp")]
    pod(world, "a", settings, "p1", portMappings=mappings)
    for protocol in ("tcp", "udp"):
        assert world.ask("client", NODE_A, 18080, protocol) == ("p1", CLIENT_IP)
    with world.inside("a"):
        plugins.call(
            "DEL",
            settings.conf_dir / cni.FILE,
            "p1",
            f"{namespaces.NAMED}/{world.names['p1']}",
            {"portMappings": mappings},
        )
        agent.cleanup(settings.conf_dir, settings.state_dir, settings.bridge)
        assert nftables.listing("ruleset") == ""
    namespaces.remove(world.names["p1"])


def test_what_a_vanished_pod_left_is_collected_and_living_pods_keep_theirs(tmp_path: Path, world: World) -> None:
    settings = start(world, "a", tmp_path, "host-gw")
    config, results = settings.conf_dir / cni.FILE, tmp_path / "a" / "results"
    gone = pod(world, "a", settings, "p1", portMappings=[{"hostPort": 18080, "containerPort": 8080, "protocol": "tcp"}])
    kept = pod(world, "a", settings, "p2", portMappings=[{"hostPort": 18081, "containerPort": 8080, "protocol": "tcp"}])
    namespaces.remove(world.names["p1"])

    def collect(later: float) -> int:
        return attachments.collect(config, settings.state_dir, settings.bin_dirs, time.time() + later, results)

    with world.inside("a"):
        # What has just been made may be on its way still.
        assert collect(0.0) == 0
        assert collect(1000.0) == 1 and collect(1000.0) == 0
        reserved = {entry.name for entry in (settings.state_dir / cni.NAME).iterdir()}
        assert gone[0] not in reserved and set(kept) <= reserved
        rules = programs.run(["iptables-save"])
        assert "18081" in rules and "18080" not in rules
    assert world.ask("client", NODE_A, 18081)[0] == "p2"
    namespaces.remove(world.names["p2"])
    with world.inside("a"):
        agent.cleanup(settings.conf_dir, settings.state_dir, settings.bridge)


def test_a_host_that_drops_what_it_forwards_lets_pods_through(tmp_path: Path, world: World) -> None:
    with world.inside("a"):
        programs.run(["iptables", "-w", "5", "-P", "FORWARD", "DROP"])
    settings = start(world, "a", tmp_path, "host-gw")
    address, _ = pod(world, "a", settings, "p1")
    assert world.ask("p1", CLIENT_IP, 9000)[0] == "client"
    with world.inside("client"):
        programs.run(["ip", "route", "add", "172.9.11.0/24", "via", NODE_A])
    assert world.ask("client", address, 8080)[0] == "p1"
    with world.inside("a"):
        assert not forwarding.ensure(settings.cluster_cidrs)
        agent.cleanup(settings.conf_dir, settings.state_dir, settings.bridge)
        # Somebody else's policy stays, and with it the table.
        assert programs.run(["iptables-save"]).count("PEAVINE") == 0
        assert "policy drop" in nftables.listing("ruleset")
    namespaces.remove(world.names["p1"])
