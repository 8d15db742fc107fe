"""Addresses of load balancers: who gets which, who keeps it, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from peavine.ingress.balancers import Balancers
from peavine.ingress.pools import PoolError, Pools
from tests.ingress.cluster import Informers


def test_pools_are_ranges_and_networks() -> None:
    pools = Pools.parse("10.0.0.5-10.0.0.6, fd00::/127")
    assert pools.take(("n", "a"), False) == "10.0.0.5" and pools.take(("n", "b"), True) == "fd00::"
    assert pools.take(("n", "c"), False, "10.0.0.6") == "10.0.0.6"
    with pytest.raises(PoolError, match="no free IPv4 address"):
        pools.take(("n", "d"), False)
    with pytest.raises(PoolError, match="belongs to Service n/a"):
        pools.take(("n", "d"), False, "10.0.0.5")
    with pytest.raises(PoolError, match="in no pool"):
        pools.take(("n", "d"), False, "10.0.0.7")
    pools.release(("n", "a"))
    assert pools.take(("n", "d"), False) == "10.0.0.5"
    for bad in ("10.0.0.9-10.0.0.1", "10.0.0.1-fd00::", "nonsense", "10.0.0.1/24"):
        with pytest.raises(PoolError):
            Pools.parse(bad)


class World:
    def __init__(self, pools: str) -> None:
        self.informers = Informers()
        self.balancers = Balancers(
            self.informers,  # type: ignore[arg-type]
            self.informers,  # type: ignore[arg-type]
            Pools.parse(pools),
            "me",
            recorder=self,  # type: ignore[arg-type]
        )
        self.events: list[tuple[str, str]] = []
        self.status: dict[str, Any] = {}

    def event(self, obj: dict[str, Any], _: str, reason: str, __: str) -> None:
        self.events.append((obj["metadata"]["name"], reason))

    def put(self, name: str, spec: dict[str, Any]) -> None:
        self.informers.put("services", {"metadata": {"name": name}, "spec": spec, "status": self.status.get(name, {})})

    def sync(self) -> dict[str, list[str]]:
        """What was written, as the API server would have it afterwards."""
        self.informers.patched.clear()
        asyncio.run(self.balancers.sync())
        for name, body in self.informers.patched:
            self.status[name] = body["status"]
            old = self.informers.by_plural["services"].get("default", name)
            assert old is not None
            self.put(name, old["spec"])
        return {
            name: [e["ip"] for e in body["status"]["loadBalancer"]["ingress"] or []]
            for name, body in self.informers.patched
        }


BALANCED = {"type": "LoadBalancer", "ipFamilies": ["IPv4"]}


def test_services_get_addresses_keep_them_and_give_them_back() -> None:
    world = World("10.0.0.5-10.0.0.6")
    world.put("a", BALANCED)
    world.put("b", {**BALANCED, "loadBalancerIP": "10.0.0.6"})
    world.put("other", {**BALANCED, "loadBalancerClass": "example.com/cloud"})
    world.put("plain", {"type": "ClusterIP"})
    assert world.sync() == {"a": ["10.0.0.5"], "b": ["10.0.0.6"]}
    assert world.sync() == {}
    world.put("c", BALANCED)
    assert world.sync() == {} and ("c", "AllocationFailed") in world.events
    # A restarted process knows from the statuses.
    world.balancers._pools.held.clear()
    assert world.sync() == {}
    world.put("a", {"type": "ClusterIP"})
    assert world.sync() == {"a": [], "c": ["10.0.0.5"]}
    world.informers.delete("services", "b")
    world.put("d", BALANCED)
    assert world.sync() == {"d": ["10.0.0.6"]}


def test_without_pools_services_get_the_ready_nodes_addresses() -> None:
    world = World("")
    for name, ready in (("n1", "True"), ("n2", "False")):
        addresses = [{"type": "InternalIP", "address": f"10.4.7.{name[1]}"}, {"type": "Hostname", "address": name}]
        status = {"conditions": [{"type": "Ready", "status": ready}], "addresses": addresses}
        world.informers.put("nodes", {"metadata": {"name": name, "namespace": ""}, "status": status})
    world.put("a", BALANCED)
    assert world.sync() == {"a": ["10.4.7.1"]}
