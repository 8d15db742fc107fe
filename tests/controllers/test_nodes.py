"""Lost nodes: taints by condition, how fast zones may be driven empty, who stays, who is moved."""

import asyncio

import pytest

from peavine.controllers.node_lifecycle.zones import FULL, NORMAL, PARTIAL, Limits, Zones, state_of
from peavine.testing import AsyncCluster
from tests.controllers.conftest import eventually, workload


def node(name, ready, zone="a"):
    labels = {"topology.kubernetes.io/zone": zone}
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": conditions}}


def zone(name, ready, unready):
    return [node(f"{name}{i}", i < ready, name) for i in range(ready + unready)]


def test_a_zone_is_disrupted_partly_when_most_of_at_least_three_nodes_fail_and_fully_when_all_do():
    assert state_of(10, 2, 0.55) == NORMAL
    assert state_of(1, 2, 0.55) == NORMAL, "two nodes are never a disruption"
    assert state_of(2, 3, 0.55) == PARTIAL
    assert state_of(0, 1, 0.55) == FULL


def test_large_zones_are_emptied_slowly_and_small_ones_not_at_all_while_partly_disrupted():
    assert Limits().of(PARTIAL, 51) == 0.01
    assert Limits().of(PARTIAL, 50) == 0.0
    assert Limits().of(NORMAL, 50) == Limits().of(FULL, 50) == 0.1


def test_nodes_are_driven_empty_one_in_ten_seconds_in_each_zone():
    zones = Zones()
    zones.update(zone("a", 9, 2) + zone("b", 9, 1), now=100)
    assert zones.zones[":a"].permit(100) == 0
    assert zones.zones[":a"].permit(104) == 6
    assert zones.zones[":b"].permit(104) == 0
    assert zones.zones[":a"].permit(110) == 0


def test_a_small_zone_in_partial_disruption_gives_no_permit_until_it_recovers():
    zones = Zones()
    assert zones.update(zone("a", 1, 4) + zone("b", 3, 0), now=0) == {":a": (NORMAL, PARTIAL)}
    assert zones.zones[":a"].permit(1000) is None
    assert zones.update(zone("a", 4, 1) + zone("b", 3, 0), now=2000) == {":a": (PARTIAL, NORMAL)}
    assert (zones.zones[":a"].permit(2000) or 0) <= 10


def test_when_no_node_answers_it_is_the_control_plane_that_is_cut_off():
    zones = Zones()
    zones.update(zone("a", 0, 3) + zone("b", 1, 2), now=0)
    assert not zones.cut_off
    zones.update(zone("a", 0, 3) + zone("b", 0, 3), now=1)
    assert zones.cut_off


@pytest.mark.slow
def test_pods_of_a_lost_node_are_moved_after_their_toleration_and_it_is_welcome_again():
    async def main():
        async with AsyncCluster(nodes=3) as cluster:
            await cluster.create_namespace("work")
            nodes, pods = cluster.client.resource("v1", "nodes"), cluster.client.resource("v1", "pods")
            body = workload(replicas=3)
            body["metadata"]["namespace"] = "work"
            brief = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 20}
            body["spec"]["template"]["spec"]["tolerations"] = [{**brief, "effect": "NoExecute"}]
            await cluster.client.resource("apps/v1", "deployments").create(body)

            async def running(ready=3):
                found = (await pods.list("work"))["items"]
                return found if sum(_ready(p) for p in found) == ready else None

            found = await eventually(running, 60)
            lost = found[0]["spec"]["nodeName"]
            there = {p["metadata"]["name"] for p in found if p["spec"]["nodeName"] == lost}
            cluster.lose_node(lost)
            await cluster.advance(65)

            async def tainted():
                obj = await nodes.get(lost)
                return {(t["key"].rpartition("/")[2], t["effect"]) for t in obj["spec"].get("taints") or ()}

            await eventually(lambda: _is(tainted(), {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}), 60)
            ready = next(c for c in (await nodes.get(lost))["status"]["conditions"] if c["type"] == "Ready")
            assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
            await cluster.advance(30)

            async def moved():
                found = [p for p in (await pods.list("work"))["items"] if not p["metadata"].get("deletionTimestamp")]
                return len(found) == 3 and all(_ready(p) and p["spec"]["nodeName"] != lost for p in found)

            await eventually(moved, 60)
            stuck = [p for p in (await pods.list("work"))["items"] if p["metadata"]["name"] in there]
            assert stuck and all(p["metadata"].get("deletionTimestamp") for p in stuck), "only its kubelet can end them"
            conditions = [c for c in stuck[0]["status"]["conditions"] if c["type"] == "DisruptionTarget"]
            assert conditions[0]["reason"] == "DeletionByTaintManager"
            cluster.return_node(lost)
            await cluster.advance(310)
            await eventually(lambda: _is(tainted(), set()), 60)

            async def gone():
                return not [p for p in (await pods.list("work"))["items"] if p["metadata"]["name"] in there]

            await eventually(gone, 60)

    asyncio.run(main())


@pytest.mark.slow
def test_nothing_is_evicted_while_all_nodes_are_silent_and_a_removed_nodes_pods_are_collected():
    async def main():
        async with AsyncCluster(nodes=2) as cluster:
            await cluster.create_namespace("work")
            nodes, pods = cluster.client.resource("v1", "nodes"), cluster.client.resource("v1", "pods")
            meta = {"name": "alone", "namespace": "work"}
            spec = {"containers": [{"name": "main", "image": "web:1"}]}
            await pods.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
            await eventually(lambda: _is(_ready_of(pods), True), 60)
            names = [n["metadata"]["name"] for n in (await nodes.list())["items"]]
            for name in names:
                cluster.lose_node(name)
            await cluster.advance(80)

            async def unknown():
                return all(_condition(n, "Ready")["status"] == "Unknown" for n in (await nodes.list())["items"])

            await eventually(unknown, 60)
            await cluster.advance(400)
            for obj in (await nodes.list())["items"]:
                assert not [t for t in obj["spec"]["taints"] if t["effect"] == "NoExecute"]
            pod = await pods.get("alone", "work")
            assert not pod["metadata"].get("deletionTimestamp")
            assert _condition(pod, "Ready")["status"] == "False", "nobody knows, so no traffic"
            await nodes.delete(pod["spec"]["nodeName"])
            await cluster.advance(70)

            async def collected():
                return not (await pods.list("work"))["items"]

            await eventually(collected, 60)

    asyncio.run(main())


async def _is(value, wanted):
    return await value == wanted


async def _ready_of(pods):
    return _ready(await pods.get("alone", "work"))


def _condition(obj, type_):
    return next(c for c in obj["status"]["conditions"] if c["type"] == type_)


def _ready(pod):
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
