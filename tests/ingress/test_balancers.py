"""Addresses of load balancers: who gets which, who keeps it, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from peavine.ingress.balancers import FINALIZER, Balancers
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
        self.metadata: dict[str, dict[str, Any]] = {}

    def event(self, obj: dict[str, Any], _: str, reason: str, __: str) -> None:
        self.events.append((obj["metadata"]["name"], reason))

    def put(self, name: str, spec: dict[str, Any], **metadata: Any) -> None:
        self.metadata.setdefault(name, {}).update(metadata)
        meta = {**self.metadata[name], "name": name}
        self.informers.put("services", {"metadata": meta, "spec": spec, "status": self.status.get(name, {})})

    def sync(self) -> dict[str, list[str]]:
        """What was written, as the API server would have it afterwards."""
        self.informers.patched.clear()
        asyncio.run(self.balancers.sync())
        for name, body in self.informers.patched:
            if "status" in body:
                self.status[name] = body["status"]
            else:
                self.metadata.setdefault(name, {}).update(body["metadata"])
            old = self.informers.by_plural["services"].get("default", name)
            assert old is not None
            self.put(name, old["spec"])
        return {
            name: [e["ip"] for e in body["status"]["loadBalancer"]["ingress"] or []]
            for name, body in self.informers.patched
            if "status" in body
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


def test_a_finalizer_holds_the_service_until_its_address_is_given_back_and_events_tell_of_it() -> None:
    world = World("10.0.0.5-10.0.0.6")
    foreign = {**BALANCED, "loadBalancerClass": "example.com/cloud"}
    world.put("a", BALANCED, finalizers=["example.com/mine"])
    world.put("foreign", foreign, finalizers=[FINALIZER], deletionTimestamp="2026-01-01T00:00:00Z")
    assert world.sync() == {"a": ["10.0.0.5"]} and world.metadata["a"]["finalizers"] == ["example.com/mine", FINALIZER]
    ensured = ["EnsuringLoadBalancer", "IPAllocated", "EnsuredLoadBalancer"]
    assert world.events == [("a", reason) for reason in ensured]
    world.events.clear()
    world.put("a", BALANCED, deletionTimestamp="2026-01-01T00:00:00Z")
    assert world.sync() == {"a": []} and world.metadata["a"]["finalizers"] == ["example.com/mine"]
    assert world.events == [("a", "DeletingLoadBalancer"), ("a", "DeletedLoadBalancer")]
    assert world.sync() == {} and world.metadata["foreign"]["finalizers"] == [FINALIZER]
    # The address is free while somebody else's finalizer still holds the Service.
    world.put("b", {**BALANCED, "loadBalancerIP": "10.0.0.5"})
    assert world.sync() == {"b": ["10.0.0.5"]}
    # Another type: the same.
    world.put("b", {"type": "NodePort"})
    assert world.sync() == {"b": []} and world.metadata["b"]["finalizers"] == []
    world.events.clear()
    world.put("c", {**BALANCED, "loadBalancerIP": "10.0.0.99"})
    assert world.sync() == {} and world.sync() == {}
    assert world.events == [("c", "AllocationFailed"), ("c", "SyncLoadBalancerFailed")]


def test_nodes_that_come_and_go_change_the_addresses_unless_they_are_excluded() -> None:
    world = World("")

    def node(name: str, ready: str = "True", **labels: str) -> None:
        addresses = [{"type": "InternalIP", "address": name}]
        status = {"conditions": [{"type": "Ready", "status": ready}], "addresses": addresses}
        world.informers.put("nodes", {"metadata": {"name": name, "namespace": "", "labels": labels}, "status": status})

    node("10.0.0.1")
    node("10.0.0.2", **{"node.kubernetes.io/exclude-from-external-load-balancers": ""})
    world.put("a", BALANCED)
    assert world.sync() == {"a": ["10.0.0.1"]}
    node("10.0.0.2")
    assert world.sync() == {"a": ["10.0.0.1", "10.0.0.2"]} and world.events[-1] == ("a", "UpdatedLoadBalancer")
    node("10.0.0.1", "Unknown")
    assert world.sync() == {"a": ["10.0.0.2"]}
