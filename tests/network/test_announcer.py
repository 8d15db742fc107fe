"""Load-balancer addresses on the node network: who answers, and how fast an address moves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from peavine.base.clock import SimulatedClock
from peavine.linux import links
from peavine.network import announcer
from peavine.network.announcer import Announcer, Holder, owner
from tests.ingress.cluster import Informers
from tests.linux import world as worlds
from tests.linux.world import World

NODES = ["n1", "n2", "n3"]
ADDRESSES = [f"10.4.7.{n}" for n in range(200, 230)]


def test_addresses_spread_over_nodes_and_a_lost_node_moves_only_its_own() -> None:
    before = {a: owner(a, NODES) for a in ADDRESSES}
    assert set(before.values()) == set(NODES)
    assert before == {a: owner(a, reversed(NODES)) for a in ADDRESSES}
    after = {a: owner(a, ["n1", "n3"]) for a in ADDRESSES}
    assert all(after[a] == before[a] for a in ADDRESSES if before[a] != "n2")
    assert owner("10.4.7.200", []) == ""


@pytest.fixture
def world() -> Iterator[World]:
    with worlds.make() as made:
        yield made


@pytest.mark.root
def test_an_address_moves_to_another_node_and_clients_follow_at_once(world: World) -> None:
    addresses = {"10.4.7.200", "fd04:7::200"}
    for node in ("a", "b"):
        world.serve(node, 8080)
    holders = {}
    with world.inside("a"):
        holders["a"] = Holder()
        assert holders["a"].set(addresses) == addresses
        holders["a"].tell(addresses)
        assert holders["a"].set(addresses) == set()
    for address in addresses:
        assert world.ask("client", address, 8080)[0] == "a"
    with world.inside("a"):
        links.batch(["link set eth0 down"])
    start = time.monotonic()
    with world.inside("b"):
        holders["b"] = Holder()
        holders["b"].set(addresses)
    # A neighbour that learned the old place less than a second ago does not believe the first announcement.
    missing = set(addresses)
    while missing:
        with world.inside("b"):
            holders["b"].tell(missing)
        missing = {a for a in missing if world.silent("client", a, 8080)}
        assert time.monotonic() - start < 4
    for address in addresses:
        assert world.ask("client", address, 8080)[0] == "b"
    with world.inside("b"):
        announcer.cleanup()
        assert links.link(announcer.DEVICE) is None


def test_a_node_takes_over_when_anothers_lease_stands_still() -> None:
    clock = SimulatedClock()
    informers = Informers()
    one = Announcer(informers, "n1", clock)  # type: ignore[arg-type]
    one._slices = informers.informer("", "endpointslices", transform=announcer._slim_slice)
    one._slices.add_index("service", lambda obj: [obj["service"]])
    spec = {"type": "LoadBalancer"}
    status = {"loadBalancer": {"ingress": [{"ip": a} for a in ADDRESSES]}}
    informers.put("services", {"metadata": {"name": "s"}, "spec": spec, "status": status})

    def renew(stamp: str) -> None:
        one._lease({"metadata": {"labels": {announcer.LABEL: "n2"}}, "spec": {"renewTime": stamp}})

    renew("1")
    mine = one._own()
    assert mine == {a for a in ADDRESSES if owner(a, ["n1", "n2"]) == "n1"} and 0 < len(mine) < len(ADDRESSES)
    asyncio.run(clock.advance(3))
    renew("2")
    asyncio.run(clock.advance(3))
    assert one._own() == mine
    renew("2")  # Seen again, but not renewed.
    asyncio.run(clock.advance(1))
    assert one._own() == set(ADDRESSES)
    # With policy Local only nodes with an endpoint count.
    informers.put(
        "services", {"metadata": {"name": "s"}, "spec": {**spec, "externalTrafficPolicy": "Local"}, "status": status}
    )
    assert one._own() == set()
    piece = {"metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}}
    informers.put("endpointslices", {**piece, "endpoints": [{"nodeName": "n1", "conditions": {"ready": True}}]})
    assert one._own() == set(ADDRESSES)
